//! Runs a folder of MXNet samples and compares.
//!
//! The rule of comparison: `|got - expected| <= relative * |expected| + of_scale * max |expected|`, the maximum over the
//! tensor. The second term is for sums that cancel: their error is a few roundings of their terms, which are about as large
//! as the largest element. NaN and infinities must be where MXNet has them; integers and bool must be equal.

use super::mxnet::{Call, compute};
use isograd_core::{
    Backend, DType, Tensor, autograd,
    format::{HostArray, npz},
};
use std::{collections::BTreeMap, path::Path};

/// Factors of `|expected|` and of the largest `|expected|`.
#[derive(Clone, Copy, Debug)]
pub struct Bound {
    /// Of the element.
    pub relative: f64,
    /// Of the largest element.
    pub of_scale: f64,
}

/// f32: 1e-5 of the element; 1e-6, eight roundings, of the largest.
pub const F32: Bound = Bound { relative: 1e-5, of_scale: 1e-6 };
/// f16: both sides round to 11 bits, and MXNet rounds in between.
pub const F16: Bound = Bound { relative: 2e-3, of_scale: 1e-3 };
/// f64.
pub const F64: Bound = Bound { relative: 1e-13, of_scale: 1e-14 };

/// A place where this library is right to differ from MXNet.
struct Exception {
    case: &'static str,
    key: &'static str,
    why: &'static str,
    /// The bound that holds instead; without one, the numbers must differ.
    bound: Option<Bound>,
}

const EXCEPTIONS: &[Exception] = &[Exception {
    case: "act_selu",
    key: "g_x",
    why: "MXNet's gradient for x < 0 is lambda (alpha + y); the true one is lambda alpha + y",
    bound: None,
}];

/// Whether a number is within the bound.
pub fn agrees(got: f64, expected: f64, scale: f64, bound: Bound) -> bool {
    if expected.is_nan() || got.is_nan() {
        return expected.is_nan() && got.is_nan();
    }
    if expected.is_infinite() || got.is_infinite() {
        return got == expected;
    }
    (got - expected).abs() <= bound.relative * expected.abs() + bound.of_scale * scale
}

fn numbers<B: Backend>(t: &Tensor<B>) -> Vec<f64> {
    t.to_values().unwrap().into_iter().map(|v| v.to_f64()).collect()
}

fn compare<B: Backend>(got: &Tensor<B>, expected: &HostArray, bound: Option<Bound>) -> Result<(), String> {
    // What is of rank 0 here has shape [1] there.
    let scalar = got.rank() == 0 && expected.shape[..] == [1];
    if *got.shape() != expected.shape && !scalar {
        return Err(format!("shape {:?}, expected {:?}", got.shape(), expected.shape));
    }
    // Positions are i64 here and f32 there, comparisons bool and f32; all other dtypes are the same.
    let renamed = matches!(got.dtype(), DType::I64 | DType::Bool) && expected.dtype == DType::F32;
    if got.dtype() != expected.dtype && !renamed {
        return Err(format!("dtype {}, expected {}", got.dtype(), expected.dtype));
    }
    let of_dtype = match got.dtype() {
        DType::F16 | DType::BF16 => F16,
        DType::F32 => F32,
        DType::F64 => F64,
        _ => Bound { relative: 0.0, of_scale: 0.0 },
    };
    let bound = bound.unwrap_or(of_dtype);
    let reference = Tensor::from_host(&isograd_reference::Reference, expected).unwrap();
    let (got, expected) = (numbers(got), numbers(&reference));
    let scale = expected.iter().filter(|v| v.is_finite()).fold(0.0f64, |m, v| m.max(v.abs()));
    match got.iter().zip(&expected).position(|(&g, &e)| !agrees(g, e, scale, bound)) {
        Some(i) => Err(format!("element {i} is {}, expected {} (largest {scale})", got[i], expected[i])),
        None => Ok(()),
    }
}

/// Runs one case; gives what differs.
fn run_case<B: Backend>(
    ctx: &B,
    name: &str,
    entry: &serde_json::Value,
    arrays: BTreeMap<String, HostArray>,
) -> Vec<String> {
    let op = entry["op"].as_str().unwrap();
    let train = entry["train_mode"].as_bool().unwrap_or(true);
    let given = |k: &str| !["out", "ograd", "g_", "after_"].iter().any(|p| k.starts_with(p));
    let inputs: BTreeMap<String, Tensor<B>> = (arrays.iter().filter(|(k, _)| given(k)))
        .map(|(k, a)| (k.clone(), Tensor::from_host(ctx, a).unwrap()))
        .collect();
    for (k, x) in &inputs {
        if arrays.contains_key(&format!("g_{k}")) {
            x.attach_grad().unwrap();
        }
    }
    let call = Call { ctx, op, case: name, attributes: &entry["attrs"], inputs: &inputs, arrays: &arrays, train };
    let run = || compute(&call);
    let computed = match if train { autograd::record(run) } else { autograd::record_predict(run) } {
        Ok(c) => c,
        Err(e) => return vec![e],
    };
    let mut faults = Vec::new();
    let check = |faults: &mut Vec<String>, key: String, got: &Tensor<B>| {
        let Some(expected) = arrays.get(&key) else { return };
        let different = compare(got, expected, None);
        match (EXCEPTIONS.iter().find(|e| e.case == name && e.key == key), different) {
            (None, Err(why)) => faults.push(format!("{key}: {why}")),
            (Some(e), Ok(())) => faults.push(format!("{key} agrees, though it is an exception: {}", e.why)),
            (Some(Exception { bound: Some(bound), .. }), Err(_)) => {
                if let Err(why) = compare(got, expected, Some(*bound)) {
                    faults.push(format!("{key}, an exception: {why}"));
                }
            }
            _ => (),
        }
    };
    computed.outputs.iter().enumerate().for_each(|(i, t)| check(&mut faults, format!("out{i}"), t));
    computed.after.iter().for_each(|(k, t)| check(&mut faults, format!("after_{k}"), t));
    let expected = arrays.keys().filter(|k| k.starts_with("out")).count();
    if computed.outputs.len() < expected {
        return vec![format!("{} outputs, expected {expected}", computed.outputs.len())];
    }
    if !faults.is_empty() {
        return faults;
    }
    // Where a cell gives one tensor as two outputs, MXNet keeps the last head gradient only; here they would add up.
    let outputs = &computed.outputs;
    let again = |i: usize| outputs[i + 1..].iter().any(|o| o.shares_memory_with(&outputs[i]) && o.rank() > 0);
    let (mut heads, mut of) = (Vec::new(), Vec::new());
    for (i, output) in outputs.iter().enumerate() {
        if let Some(head) = arrays.get(&format!("ograd{i}"))
            && !(call.op.ends_with("Cell") && again(i))
        {
            heads.push(Tensor::from_host(ctx, head).unwrap().reshape(output.shape()).unwrap());
            of.push(output);
        }
    }
    if !heads.is_empty() {
        if let Err(e) = autograd::backward(&of, &heads.iter().collect::<Vec<_>>(), false, false) {
            return vec![format!("backward: {e}")];
        }
        for (k, x) in inputs.iter().filter(|(_, x)| x.requires_grad()) {
            check(&mut faults, format!("g_{k}"), &x.grad().unwrap());
        }
    }
    faults
}

/// Runs every case of the folder's index, and panics with a list of those that differ.
pub fn run<B: Backend>(ctx: &B, folder: impl AsRef<Path>) {
    let folder = folder.as_ref();
    let index = std::fs::read_to_string(folder.join("index.json")).unwrap();
    let index: serde_json::Map<String, serde_json::Value> = serde_json::from_str(&index).unwrap();
    assert!(!index.is_empty());
    let mut faults = Vec::new();
    for (name, entry) in &index {
        let op = entry["op"].as_str().unwrap();
        if ["RNN", "LSTM", "GRU"].contains(&op) || op.ends_with("Cell") || op.ends_with("Loss") {
            // These are layers of isograd-nn, whose tests run them.
            continue;
        }
        let path = folder.join(format!("{name}.npz"));
        let arrays = if path.exists() { npz::load(&path).unwrap() } else { Vec::new() };
        for key in entry["keys"].as_object().unwrap().keys() {
            assert!(arrays.iter().any(|(k, _)| k == key), "{name}: the file has no {key}");
        }
        let found = run_case(ctx, name, entry, arrays.into_iter().collect());
        faults.extend(found.into_iter().map(|f| format!("{name} ({}): {f}", entry["op"])));
    }
    assert!(faults.is_empty(), "{} faults in {} cases:\n{}", faults.len(), index.len(), faults.join("\n"));
}
