//! Every kernel, and the rendering of every operator and its derivatives, is compiled by NVRTC for Turing, Ampere and
//! Hopper; no device is needed. Without NVRTC a test says so in one line, unless `ISOGRAD_REQUIRE_NVRTC` makes that
//! an error.

use super::host::required;
use crate::{
    Nvrtc,
    driver::Architecture,
    elementwise::{self, Step},
    gather,
    gemm::{self, Cores, Problem},
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
    fmt::Write,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
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

/// Compiles sources together, each in a namespace of its own: most of a compilation's time does not depend on its
/// length. Groups are compiled side by side.
fn compile(nvrtc: &Nvrtc, sources: &[Source], architectures: &[Architecture]) {
    let texts: Vec<String> = sources.chunks(40).map(text).collect();
    let jobs: Vec<(&String, Architecture)> =
        texts.iter().flat_map(|t| architectures.iter().map(move |a| (t, *a))).collect();
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                while let Some((text, architecture)) = jobs.get(next.fetch_add(1, Ordering::Relaxed)) {
                    nvrtc.compile("kernels", text, *architecture, Dialect::Cuda.build_options()).unwrap();
                }
            });
        }
    });
}

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
        // Only the first kernel of a text with two is renamed: the other would be defined twice.
        let body = body.replace("IG_KERNEL(scatter_add, ", &format!("IG_KERNEL(scatter_add_plain_{n}, "));
        let _ = writeln!(text, "namespace source_{n} {{\n{body}\n}}\n{forgotten}");
    }
    text
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
        all.extend([false, true].map(|sorted| gather::scatter_source(d, 2, sorted)));
        all.extend([ReduceOp::Sum, ReduceOp::Prod].map(|op| rows::scan_source(op, d)));
        for kind in [Pool::Max, Pool::AvgWithPadding, Pool::AvgWithoutPadding] {
            all.extend(["pool", "pool_first", "pool_gradient"].map(|name| window::pool_source(name, kind, d)));
        }
        let convolutions = ["conv", "conv_input_gradient", "conv_weight_gradient"];
        all.extend(convolutions.map(|name| window::conv_source(name, d)));
    }
    for d in DType::ALL {
        for name in ["sort", "sort_start", "sort_step"] {
            all.extend([false, true].map(|descending| rows::sort_source(name, d, descending)));
        }
    }
    for d in floats() {
        for (team, together) in [(32, 1), (32, 16 / d.size()), (256, 1), (256, 16 / d.size())] {
            all.extend([false, true].map(|logarithm| rows::source("softmax", d, team, together, logarithm)));
            all.push(rows::source("normalize", d, team, together, false));
        }
    }
    let problems = [
        Problem::MatMul { rank: 1 },
        Problem::MatMul { rank: 2 },
        Problem::Conv,
        Problem::ConvInputGradient,
        Problem::ConvWeightGradient,
    ];
    for d in numbers() {
        for problem in problems {
            let cores = [Cores::Small, Cores::Large, Cores::Tensor];
            let has = |c: &Cores| match c {
                Cores::Small => true,
                Cores::Large => d.compute().size() == 4,
                Cores::Tensor => Cores::tensor(architecture, d),
            };
            for cores in cores.into_iter().filter(has) {
                let matmul = matches!(problem, Problem::MatMul { .. });
                for along in [[false, true], [true, false]].into_iter().take(if matmul { 2 } else { 1 }) {
                    all.push(gemm::Variant { problem, dtype: d, cores, along }.source());
                }
            }
        }
    }
    all
}

#[test]
fn every_kernel_written_by_hand_compiles() {
    let Some(nvrtc) = nvrtc() else { return };
    for architecture in ARCHITECTURES {
        compile(nvrtc, &by_hand(architecture), &[architecture]);
    }
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
            all.push(elementwise::source(&p, &elementwise::Variant { rank, together, wide, steps }));
        }
        let folded = program("folded", &[chosen], &[d, d], &[DType::I64]);
        for team in Team::ALL {
            let ops: &[ReduceOp] = if d == DType::Bool { &ReduceOp::ALL[2..] } else { &ReduceOp::ALL };
            for (n, &op) in ops.iter().enumerate() {
                let variant = reduce::Variant { op, kept: 2, folded: 2, team, wide: n % 2 == 0, parts: n % 2 == 1 };
                all.push(reduce::source(Folded::Program(&folded), d, &variant));
            }
            let variant = reduce::Variant { op: ops[0], kept: 1, folded: 1, team, wide: false, parts: false };
            all.push(reduce::source(Folded::Parts(d.compute()), d, &variant));
        }
    }
    compile(nvrtc, &all, &ARCHITECTURES);
}

/// All primitives, of which every operator and every derivative is made, with their own derivatives, on every dtype.
#[test]
fn every_operator_and_its_derivative_compiles() {
    let Some(nvrtc) = nvrtc() else { return };
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
        let text = renderer.preamble() + &kernels;
        for architecture in ARCHITECTURES {
            nvrtc.compile("operators", &text, architecture, Dialect::Cuda.build_options()).unwrap();
        }
    }
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
