//! Rendered source does what the evaluator does: every primitive, cast and derivative is rendered to one file, compiled by
//! the system's C compiler, run as a process, and compared element by element.
//!
//! The OpenCL and the CUDA text are compiled too, for this processor, after a prelude (`opencl.h`, `cuda.h`) that defines what
//! those languages have and C and C++ lack. Where there is no compiler a test says so and passes.
//!
//! To add a case: a `push` in [`cases::cases`]. To add a primitive: nothing, unless its error exceeds the default of
//! `cases::bound`.

mod cases;

use cases::cases;
use isograd_core::expr::render::{Dialect, Renderer, identifier, type_name};
use isograd_core::expr::{Kernel, Program};
use isograd_core::{DType, Value};
use std::sync::Arc;
use std::{fmt::Write, fs, path::Path, process::Command};

/// How a result may differ from the evaluator's.
#[derive(Clone, Copy, Debug)]
enum Bound {
    /// By so many units in the last place of the stored dtype; 0 is equality of bits (but any NaN is NaN).
    Ulp(u64),
    /// By this much relative to the larger of result and 1: for formulas in which errors of several functions add up.
    Relative(f64),
}

struct Case {
    program: Arc<Program>,
    /// One list per input, one element per index.
    inputs: Vec<Vec<Value>>,
    /// What each output holds before.
    old: Vec<Vec<Value>>,
    scalars: Vec<Value>,
    bound: Bound,
}

impl Case {
    fn len(&self) -> usize {
        self.inputs.iter().chain(&self.old).map(Vec::len).max().unwrap_or(0)
    }
}

/// The elements of all cases in one block of memory, and the C statements that run each case on its part.
struct Layout {
    memory: Vec<u8>,
    /// Where the outputs of each case are.
    outputs: Vec<Vec<usize>>,
    calls: String,
}

fn lay_out(cases: &[Case], dialect: Dialect) -> Layout {
    let mut memory = Vec::new();
    let mut outputs = Vec::new();
    let mut calls = String::new();
    let mut place = |dtype: DType, n: usize, values: &[Value]| {
        let at = memory.len().next_multiple_of(8);
        memory.resize(at + n * dtype.size(), 0);
        values.iter().enumerate().for_each(|(i, v)| v.write(&mut memory[at..], i));
        at
    };
    for (number, case) in cases.iter().enumerate() {
        let (n, p) = (case.len(), &case.program);
        let mut arguments = format!("{n}");
        for (values, d) in case.inputs.iter().zip(p.inputs()) {
            write!(arguments, ", (const {} *)(memory + {})", type_name(*d), place(*d, n, values)).unwrap();
        }
        let mut places = Vec::new();
        for (k, (_, d)) in p.outputs().iter().enumerate() {
            let at = place(*d, n, case.old.get(k).map_or(&[], Vec::as_slice));
            write!(arguments, ", ({} *)(memory + {at})", type_name(*d)).unwrap();
            places.push(at);
        }
        for (v, d) in case.scalars.iter().zip(p.scalars()) {
            write!(arguments, ", *({} *)(memory + {})", type_name(*d), place(*d, 1, &[*v])).unwrap();
        }
        outputs.push(places);
        let call = format!("{}({arguments});", identifier(&format!("case {number}")));
        match dialect {
            Dialect::C => writeln!(calls, "    {call}"),
            _ => writeln!(calls, "    for (element = 0; element < {n}; element++) {call}"),
        }
        .unwrap();
    }
    Layout { memory, outputs, calls }
}

/// Renders, compiles and runs all cases, and gives the memory afterwards; `None` where there is no compiler.
fn run(cases: &[Case], dialect: Dialect, laid: &Layout) -> Option<Vec<u8>> {
    let (compiler, extension, prelude, options): (_, _, _, &[&str]) = match dialect {
        Dialect::C => ("cc", "c", "", &["-std=c99", "-O1", "-Wall", "-Wextra", "-Werror"]),
        Dialect::OpenCl => ("cc", "c", include_str!("opencl.h"), &["-std=c11", "-O0", "-w", "-fsigned-char"]),
        Dialect::Cuda => ("c++", "cpp", include_str!("cuda.h"), &["-std=c++17", "-O0", "-Wall", "-Werror"]),
    };
    if Command::new(compiler).arg("--version").output().is_err() {
        eprintln!("skipped: there is no {compiler}");
        return None;
    }
    let mut renderer = Renderer::new(dialect);
    let kernels: String = cases
        .iter()
        .enumerate()
        .map(|(n, case)| {
            // Programs of one name would collide; nothing else in a source depends on the name.
            renderer.map(&case.program).replacen(&identifier(case.program.name()), &identifier(&format!("case {n}")), 1)
        })
        .collect();
    let source = format!(
        "{prelude}{}{kernels}
#include <stdio.h>
#include <stdlib.h>
int main(int count, char **path) {{
    const size_t size = {};
    char *memory = (char *)malloc(size);
    FILE *file = count == 3 ? fopen(path[1], \"rb\") : NULL;
    if (!file || fread(memory, 1, size, file) != size) return 2;
    fclose(file);
{}    file = fopen(path[2], \"wb\");
    return !file || fwrite(memory, 1, size, file) != size || fclose(file) ? 3 : 0;
}}
",
        renderer.preamble(),
        laid.memory.len(),
        laid.calls
    );
    let at = |name: &str| Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("render_{dialect:?}_{name}"));
    let (code, binary, before, after) = (at(&format!("source.{extension}")), at("program"), at("before"), at("after"));
    fs::write(&code, source).unwrap();
    fs::write(&before, &laid.memory).unwrap();
    let compiled = Command::new(compiler)
        .args(options)
        .args(["-ffp-contract=off", "-o"])
        .args([&binary, &code])
        .arg("-lm")
        .output()
        .unwrap();
    assert!(compiled.status.success(), "{}: {}", code.display(), String::from_utf8_lossy(&compiled.stderr));
    let ran = Command::new(&binary).args([&before, &after]).status().unwrap();
    assert!(ran.success(), "{}: {ran}", code.display());
    let memory = fs::read(&after).unwrap();
    [before, after, binary].iter().for_each(|file| fs::remove_file(file).unwrap());
    Some(memory)
}

/// Distance in units in the last place; 0 for equal bits and for two NaNs, and no less than 1 for zeros of other sign.
fn distance(a: Value, b: Value) -> u64 {
    let nan = |v: Value| v.dtype().is_float() && v.to_f64().is_nan();
    if a == b || (nan(a) && nan(b)) {
        return 0;
    }
    if nan(a) || nan(b) || !a.dtype().is_float() {
        return u64::MAX;
    }
    let top = 1i128 << (a.dtype().size() * 8 - 1);
    let ordered = |v: Value| {
        if v.bits() as i128 >= top { top - v.bits() as i128 } else { v.bits() as i128 }
    };
    (ordered(a) - ordered(b)).unsigned_abs().max(1) as u64
}

fn within(bound: Bound, got: Value, expected: Value) -> bool {
    match bound {
        Bound::Ulp(ulp) => {
            let zero = expected.dtype().is_float() && expected.to_f64() == 0.0 && got.to_f64() == 0.0;
            distance(got, expected) <= if zero { 0 } else { ulp }
        }
        Bound::Relative(relative) => {
            let (g, e) = (got.to_f64(), expected.to_f64());
            distance(got, expected) <= 1 || (g - e).abs() <= relative * e.abs().max(1.0)
        }
    }
}

fn check(dialect: Dialect) {
    let cases = cases();
    let laid = lay_out(&cases, dialect);
    let Some(memory) = run(&cases, dialect, &laid) else {
        return;
    };
    let mut failures = Vec::new();
    let mut worst: std::collections::BTreeMap<String, u64> = Default::default();
    for (case, places) in cases.iter().zip(&laid.outputs) {
        let kernel = Kernel::new(&case.program, &case.scalars);
        let mut evaluator = kernel.evaluator();
        let mut failed = 0;
        for i in 0..case.len() {
            let at = |lists: &[Vec<Value>]| lists.iter().map(|l| l[i]).collect::<Vec<_>>();
            let (inputs, old) = (at(&case.inputs), at(&case.old));
            evaluator.run(i, &inputs, &old);
            for (k, &place) in places.iter().enumerate() {
                let dtype = case.program.outputs()[k].1;
                let got = Value::read(dtype, &memory[place..], i);
                let expected = evaluator.output(k);
                if matches!(case.bound, Bound::Ulp(1..)) {
                    let w = worst.entry(format!("{} {dtype}", case.program.name())).or_default();
                    *w = distance(got, expected).max(*w);
                }
                if !within(case.bound, got, expected) {
                    failed += 1;
                    if failed <= 3 {
                        let ulp = distance(got, expected);
                        failures.push(format!(
                            "{:?} of {inputs:?}, old {old:?}: {got:?}, not {expected:?} ({ulp} ulp, {:?})",
                            case.program, case.bound
                        ));
                    }
                }
            }
        }
    }
    println!("{dialect:?}: largest distances in ulp: {worst:?}");
    assert!(failures.is_empty(), "{dialect:?}: {} cases:\n{}", failures.len(), failures.join("\n"));
}

#[test]
fn c_does_what_the_evaluator_does() {
    check(Dialect::C);
}

#[test]
fn opencl_does_what_the_evaluator_does() {
    check(Dialect::OpenCl);
}

#[test]
fn cuda_does_what_the_evaluator_does() {
    check(Dialect::Cuda);
}
