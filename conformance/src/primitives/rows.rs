//! What works on rows: softmax, normalization, running sums, sorting.

use super::{
    Launch, Region,
    cases::{any, distinct, output, shifted},
    check,
};
use crate::{
    case::{Checked, Environment},
    numbers::{Domain, Numbers, special},
    suite::total,
};
use isograd_core::{DType, ReduceOp, Value};

pub(super) fn softmax(e: &Environment<'_>, n: &mut Numbers) -> Checked {
    let s = [1 + n.below(4), 1 + n.below(3), 1 + n.below(e.size / 4 + 1)];
    softmax_of(e, n, s)
}

fn softmax_of(e: &Environment<'_>, n: &mut Numbers, s: [usize; 3]) -> Checked {
    const MASKED: Domain = Domain::Values(&[0.5, f64::NEG_INFINITY, -1.25, 2.0, 0.25, f64::NEG_INFINITY, 1.5]);
    const NONE: Domain = Domain::Values(&[f64::NEG_INFINITY]);
    // Large arguments overflow where the largest is not taken off.
    let large = Domain::Range(-60.0, 200.0, &[]);
    let (logarithm, domain) = (n.below(2) == 0, n.pick(&[Domain::Any, large, MASKED, NONE, Domain::Ties]));
    let layout = any(n, &s);
    let x = Region::input(n, e.dtype, layout, domain);
    check(e, &Launch::Softmax(logarithm), &[x], &[output(e, n, s)])
}

/// Rows longer than what one workgroup holds.
pub(super) fn long(e: &Environment<'_>, n: &mut Numbers) -> Checked {
    let mut checks = Vec::new();
    for base in [260, 1030, 2100] {
        let length = (base + n.below(200)) * e.size / 400 + 1;
        checks.push(softmax_of(e, n, [2, 1, length]));
        checks.push(normalize_of(e, n, [2, 1, length]));
        checks.push(scan_of(e, n, [2, length]));
        // Core's own sort compares each element with each.
        if base < 2000 && e.dtype == DType::F32 {
            checks.push(argsort_of(e, n, [1, length], base > 1000));
        }
    }
    total(checks)
}

pub(super) fn normalize(e: &Environment<'_>, n: &mut Numbers) -> Checked {
    let s = [1 + n.below(4), 2 + n.below(3), 3 + n.below(e.size / 4 + 1)];
    normalize_of(e, n, s)
}

fn normalize_of(e: &Environment<'_>, n: &mut Numbers, s: [usize; 3]) -> Checked {
    let layout = distinct(n, &s);
    // The mean of squares less the square of the mean cancels where the mean is large.
    let domain = n.pick(&[Domain::Range(-1.0, 3.0, &[]), Domain::Range(60.0, 61.0, &[]), Domain::Values(&[1.5])]);
    let x = Region::input(n, e.dtype, layout, domain);
    let row = |n: &mut Numbers| Region::output(e.dtype.compute(), shifted(n, &s[..2]));
    let outputs = [output(e, n, s), row(n), row(n)];
    check(e, &Launch::Normalize(1e-3), &[x], &outputs)
}

pub(super) fn scan(e: &Environment<'_>, n: &mut Numbers) -> Checked {
    let s = [1 + n.below(4), 1 + n.below(e.size / 4 + 1)];
    scan_of(e, n, s)
}

fn scan_of(e: &Environment<'_>, n: &mut Numbers, s: [usize; 2]) -> Checked {
    let layout = any(n, &s);
    let terms = if e.dtype.is_int() { Domain::Extreme } else { Domain::Any };
    let sum =
        check(e, &Launch::Scan(ReduceOp::Sum), &[Region::input(n, e.dtype, layout.clone(), terms)], &[output(e, n, s)]);
    let factors = if e.dtype.is_float() { Domain::Range(0.9, 1.1, &[]) } else { Domain::Extreme };
    let x = Region::input(n, e.dtype, layout, factors);
    total([sum, check(e, &Launch::Scan(ReduceOp::Prod), &[x], &[output(e, n, s)])])
}

pub(super) fn argsort(e: &Environment<'_>, n: &mut Numbers) -> Checked {
    let s = [1 + n.below(4), 1 + n.below(e.size / 6 + 1)];
    let descending = n.below(2) == 0;
    argsort_of(e, n, s, descending)
}

fn argsort_of(e: &Environment<'_>, n: &mut Numbers, s: [usize; 2], descending: bool) -> Checked {
    // Few different numbers, NaN and both zeros among them: ties must keep their order.
    let few = special(e.dtype);
    let values: Vec<Value> = (0..s.iter().product()).map(|_| n.pick(&few)).collect();
    let layout = distinct(n, &s);
    let x = Region::of(e.dtype, layout, &values);
    check(e, &Launch::Argsort(descending), &[x], &[Region::output(DType::I64, shifted(n, &s))])
}
