//! Every kernel, and the rendering of every operator and its derivatives, is compiled by NVRTC for Turing, Ampere and
//! Hopper; no device is needed. Without NVRTC a test says so in one line, unless `ISOGRAD_REQUIRE_NVRTC` makes that
//! an error.

use super::host::required;
use crate::{
    Nvrtc,
    driver::Architecture,
    elementwise::{self, Step},
    gather::{self, Way},
    gemm::{self, Problem, Work},
    reduce::{self, Folded, Team},
    rows,
    source::Source,
    window,
};
use isograd_core::{
    DType, Expr, Pool, ReduceOp, Result,
    expr::{
        Binary, Program, Unary,
        render::{Dialect, Renderer, identifier},
    },
};
use std::{
    env,
    fmt::Write,
    process::{Command, Stdio},
    sync::Arc,
};

const ARCHITECTURES: [Architecture; 3] = [Architecture::new(7, 5), Architecture::new(8, 0), Architecture::new(9, 0)];

fn nvrtc() -> Option<&'static Nvrtc> {
    match Nvrtc::get() {
        Ok(nvrtc) => Some(nvrtc),
        Err(e) => {
            assert!(!required(), "{e}");
            eprintln!("skipped: {e}");
            None
        }
    }
}

/// Whether this process shall do its share of a test: `(number, processes)`.
const SHARE: &str = "ISOGRAD_SHARE_OF_TEST";

/// Compiles every job. NVRTC compiles one source at a time in a process, whatever the threads, so the test runs itself
/// in one process per processor, each of which does its share.
fn compile(test: &str, nvrtc: &Nvrtc, jobs: &[(String, Architecture)]) {
    let share: Option<(usize, usize)> = env::var(SHARE).ok().map(|text| {
        let (number, processes) = text.split_once('/').expect("the parent gives two numbers");
        (number.parse().unwrap(), processes.parse().unwrap())
    });
    let Some((number, processes)) = share else {
        let processes = std::thread::available_parallelism().map_or(1, usize::from);
        let start = |number: usize| {
            Command::new(env::current_exe().unwrap())
                .args([&format!("tests::sources::{test}"), "--exact", "--nocapture"])
                .env(SHARE, format!("{number}/{processes}"))
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap()
        };
        let children: Vec<_> = (0..processes).map(start).collect();
        for child in children {
            let output = child.wait_with_output().unwrap();
            let [out, err] = [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text));
            assert!(output.status.success() && out.contains("1 passed"), "{out}{err}");
        }
        return;
    };
    // What is compiled here is not run, so it need not be fast: ten times quicker, where the compiler has the option.
    let mut options = Dialect::Cuda.build_options().to_vec();
    options.extend(Some("--Ofast-compile=mid").filter(|_| nvrtc.version() >= (12, 9)));
    for (text, architecture) in jobs.iter().skip(number).step_by(processes) {
        let cubin = nvrtc.compile("kernels", text, *architecture, &options).unwrap();
        assert!(cubin.starts_with(b"\x7fELF"), "what is compiled for {architecture} is machine code");
    }
}

/// Several sources as one, each in a namespace of its own: a call of the compiler takes a while whatever its length.
const TOGETHER: usize = 8;

fn text(group: &[Source]) -> String {
    let mut text = String::new();
    for (n, source) in group.iter().enumerate() {
        let kernel = format!("IG_KERNEL({}, ", source.name);
        let body = source.finish();
        assert!(body.contains(&kernel), "{} has no kernel of that name", source.name);
        let body = body.replace("ig_dynamic_shared", &format!("ig_dynamic_shared_{n}"));
        let body = body.replace(&kernel, &format!("IG_KERNEL({}_{n}, ", source.name));
        let defined: Vec<&str> = body.lines().filter_map(|l| l.strip_prefix("#define ")).collect();
        let names = defined.iter().filter_map(|l| l.split([' ', '(']).next());
        let forgotten: String = names.fold(String::new(), |t, name| t + "#undef " + name + "\n");
        let _ = writeln!(text, "namespace source_{n} {{\n{body}\n}}\n{forgotten}");
    }
    text
}

fn on_every_architecture(texts: &[String]) -> Vec<(String, Architecture)> {
    texts.iter().flat_map(|t| ARCHITECTURES.map(|a| (t.clone(), a))).collect()
}

fn program(name: &str, roots: &[Expr], inputs: &[DType], scalars: &[DType]) -> Arc<Program> {
    Program::new(name, roots, inputs, scalars).unwrap()
}

/// Every variant of every kernel that is written by hand.
fn by_hand(architecture: Architecture) -> Vec<Source> {
    let mut all = Vec::new();
    let floats = || DType::ALL.into_iter().filter(|d| d.is_float());
    let numbers = || DType::ALL.into_iter().filter(|d| *d != DType::Bool);
    all.extend([1, 2, 4, 8].map(|bytes| gather::gather_source(bytes, 3)));
    for d in numbers() {
        all.extend([Way::Ordered, Way::Sorted].map(|way| gather::scatter_source(d, 2, way)));
        for (name, whole) in [("scan", true), ("scan", false), ("scan_last", false), ("scan_join", false)] {
            all.extend([ReduceOp::Sum, ReduceOp::Prod].map(|op| rows::scan_source(name, op, d, whole)));
        }
        for kind in [Pool::Max, Pool::AvgWithPadding, Pool::AvgWithoutPadding] {
            let kernels = ["pool", "pool_first", "pool_gradient"];
            all.extend(kernels.map(|name| window::pool_source(name, kind, d, d == DType::F64)));
        }
    }
    for d in DType::ALL {
        for name in ["sort", "sort_start", "sort_step"] {
            all.extend([false, true].map(|descending| rows::sort_source(name, d, descending)));
        }
    }
    all.extend([DType::F32, DType::F64].map(|d| gather::scatter_source(d, 2, Way::Atomic)));
    for d in floats() {
        for (team, together) in [(32, 1), (32, 16 / d.size()), (256, 1), (256, 16 / d.size())] {
            all.extend([false, true].map(|logarithm| rows::source("softmax", d, team, together, logarithm)));
            all.push(rows::source("normalize", d, team, together, false));
        }
    }
    let products = [(1, false), (2, true)].map(|(rank, wide)| (Problem::MatMul { rank }, wide));
    let convolutions = [Problem::Conv, Problem::ConvInputGradient, Problem::ConvWeightGradient];
    for d in numbers() {
        let has = |w: &Work| match w {
            Work::Large => d.compute().size() == 4,
            Work::Tensor => Work::tensor(architecture, d),
            _ => true,
        };
        for work in [Work::Single, Work::Small, Work::Large, Work::Tensor, Work::Total].into_iter().filter(has) {
            let variant = |problem, wide, along| gemm::Variant { problem, dtype: d, work, wide, along }.source(None);
            for (problem, wide) in products {
                let ways = if work.has_tiles() { &[[false, true], [true, false]][..] } else { &[[false; 2]] };
                all.extend(ways.iter().map(|along| variant(problem, wide, *along)));
            }
            // An end that reads everything there is.
            let (x, bias, other) = (Expr::input(0, d), Expr::input(1, d), Expr::input(2, DType::Bool));
            let chosen = other.select(&(x + bias).relu(), &(Expr::scalar(0, d) * Expr::index().cast(d)));
            let ending = program("ending", &[chosen], &[d, d, DType::Bool], &[d]);
            let (problem, wide) = products[(d == DType::F32) as usize];
            let ended = gemm::Variant { problem, dtype: d, work, wide, along: [true, false] };
            all.push(ended.source(Some(&ending)));
            // Convolutions of integers, and wide ones, are computed one number per thread.
            let alone = !work.has_tiles();
            let convolutions = || convolutions.into_iter().filter(|_| d.is_float() || alone);
            all.extend(convolutions().map(|p| variant(p, false, window::along(p))));
            all.extend(convolutions().filter(|_| alone).map(|p| variant(p, true, [false; 2])));
        }
    }
    all
}

#[test]
fn every_kernel_written_by_hand_compiles() {
    let Some(nvrtc) = nvrtc() else { return };
    let jobs: Vec<_> = ARCHITECTURES
        .iter()
        .flat_map(|a| by_hand(*a).chunks(TOGETHER).map(text).map(|t| (t, *a)).collect::<Vec<_>>())
        .collect();
    compile("every_kernel_written_by_hand_compiles", nvrtc, &jobs);
}

/// The frames of `map` and `reduce`, around a program that reads everything a program can read.
#[test]
fn every_frame_of_map_and_reduce_compiles() {
    let Some(nvrtc) = nvrtc() else { return };
    let mut all = Vec::new();
    for d in DType::ALL {
        let (x, y) = (Expr::input(0, d), Expr::input(1, d));
        let chosen = Expr::index().equal(&Expr::scalar(0, DType::I64)).select(&x, &y);
        let p = program("everything", &[chosen.clone(), chosen.maximum(&Expr::old(1, d))], &[d, d], &[DType::I64, d]);
        let (next, same, any) = (Step::Next, Step::Same, Step::Any);
        for (rank, together, wide, steps) in [
            (1, (16 / d.size()).min(2), false, [next, same, next, next]),
            (2, (16 / d.size()).min(2), true, [next, next, next, next]),
            (3, 1, false, [any, next, next, any]),
            (1, 1, true, [any, any, any, any]),
        ] {
            let steps = steps.into_iter().collect();
            all.push(elementwise::source(&p, &elementwise::Variant { rank, together, wide, live: wide, steps }));
        }
        let folded = program("folded", &[chosen], &[d, d], &[DType::I64]);
        for team in Team::ALL {
            let ops: &[ReduceOp] = if d == DType::Bool { &ReduceOp::ALL[2..] } else { &ReduceOp::ALL };
            for (n, &op) in ops.iter().enumerate() {
                let (wide, parts) = (n % 2 == 0, n % 2 == 1);
                let together = if matches!(team, Team::Warp | Team::Block) && n > 1 { 16 / d.size() } else { 1 };
                let live = parts;
                let variant = reduce::Variant { op, kept: 2, folded: 2, team, together, dense: 1, wide, parts, live };
                all.push(reduce::source(Folded::Program(&folded), d, &variant));
            }
            let (op, together, dense) = (ops[0], 1, 1);
            let (wide, parts, live) = (false, false, false);
            let variant = reduce::Variant { op, kept: 1, folded: 1, team, together, dense, wide, parts, live };
            all.push(reduce::source(Folded::Parts(d.compute()), d, &variant));
        }
    }
    let texts: Vec<String> = all.chunks(TOGETHER).map(text).collect();
    compile("every_frame_of_map_and_reduce_compiles", nvrtc, &on_every_architecture(&texts));
}

/// All primitives, of which every operator and every derivative is made, with their own derivatives, on every dtype.
#[test]
fn every_operator_and_its_derivative_compiles() {
    let Some(nvrtc) = nvrtc() else { return };
    let mut texts = Vec::new();
    for dtype in DType::ALL {
        let (x, y, head) = (Expr::input(0, dtype), Expr::input(1, dtype), Expr::input(2, dtype));
        let unary = Unary::ALL.iter().filter(|op| op.accepts(dtype)).map(|&op| Expr::unary(op, &x));
        let binary = Binary::ALL.iter().filter(|op| op.accepts(dtype)).map(|&op| Expr::binary(op, &x, &y));
        let mut all: Vec<Expr> = unary.chain(binary).collect();
        if dtype.is_float() {
            let first: Vec<Expr> = all.iter().flat_map(|e| [0, 1].map(|k| e.derivative(k, &head))).flatten().collect();
            let second: Vec<Expr> = first.iter().filter_map(|e| e.derivative(0, &head)).collect();
            all.extend(first.into_iter().chain(second));
        }
        all.extend(DType::ALL.map(|to| x.cast(to)));
        all.push(Expr::input(3, DType::Bool).select(&x, &y));
        all.extend((0..4).map(|word| Expr::random_bits(&Expr::index(), &Expr::index(), word)));
        let mut renderer = Renderer::new(Dialect::Cuda);
        let kernels: String = all
            .iter()
            .enumerate()
            .map(|(n, e)| {
                let p = program("operator", std::slice::from_ref(e), &[dtype, dtype, dtype, DType::Bool], &[]);
                renderer.map(&p).replacen(&identifier("operator"), &identifier(&format!("operator {n}")), 1)
            })
            .collect();
        texts.push(renderer.preamble() + &kernels);
    }
    compile("every_operator_and_its_derivative_compiles", nvrtc, &on_every_architecture(&texts));
}

#[test]
fn a_kernel_that_does_not_compile_is_told_with_its_line() {
    let Some(nvrtc) = nvrtc() else { return };
    let broken = "extern \"C\" __global__ void broken() {\n    int x = nothing;\n}\n";
    let error = nvrtc.compile("broken", broken, ARCHITECTURES[0], &[]).unwrap_err().to_string();
    for word in ["broken.cu(2)", "nothing", "compute capability 7.5"] {
        assert!(error.contains(word), "{error}");
    }
    let unknown: Result<_> = nvrtc.compile("fine", "__global__ void fine() {}", Architecture::new(1, 1), &[]);
    assert!(unknown.unwrap_err().to_string().contains("compute capability 1.1"));
}
