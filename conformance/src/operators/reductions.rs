//! Rows of reductions, products and normalization.

use super::{Domain, POSITIVE, REAL, Rows};
use crate::numbers::Domain::{Range, Values};
use isograd_core::{Expr, Result, Scalar, Tensor, operators::Fused};

pub(super) fn reductions(t: &mut Rows) {
    type Fold = fn(&Tensor, &[isize], bool) -> Result<Tensor>;
    let rows: &[(&'static str, Fold, Domain)] = &[
        ("sum", |x, a, k| x.sum(a, k), REAL),
        ("mean", |x, a, k| x.mean(a, k), REAL),
        ("prod", |x, a, k| x.prod(a, k), REAL),
        ("max", |x, a, k| x.max(a, k), REAL),
        ("min", |x, a, k| x.min(a, k), REAL),
        ("var", |x, a, k| x.var(a, k, 0), REAL),
        ("var", |x, a, k| x.var(a, k, 1), REAL),
        ("std", |x, a, k| x.std(a, k, 0), REAL),
        ("norm", |x, a, k| x.norm(a, k), REAL),
        ("logsumexp", |x, a, k| x.logsumexp(a, k), REAL),
        ("sum", |x, a, k| x.nansum(a, k), REAL),
        ("prod", |x, a, k| x.nanprod(a, k), REAL),
        ("sum", |x, a, k| x.square()?.sum(a, k), REAL),
    ];
    let axes: &[(&[isize], bool)] =
        &[(&[0, 1, 2], false), (&[1], true), (&[-1], false), (&[2, 0], false), (&[0, 1], true)];
    for (i, &(name, f, domain)) in rows.iter().enumerate() {
        for &(axes, keep) in axes {
            t.add(name, format!("row {i}, axes {axes:?}"), &[(&[2, 3, 2], domain)], move |x| f(&x[0], axes, keep));
        }
        t.add(name, format!("row {i}, a transposed view"), &[(&[3, 4], domain)], move |x| {
            f(&x[0].t()?.slice(0, Some(1), None, 2)?, &[1], false)
        });
        t.add(name, format!("row {i}, a broadcast view"), &[(&[3, 1], domain)], move |x| {
            f(&x[0].exp()?.broadcast_to([3, 2])?.square()?.mul(&x[0])?, &[0], false)
        });
    }
    const ZEROS: [&[f64]; 3] = [&[0.0, 1.5, -2.0, 0.7, 0.3], &[0.0, 1.5, 0.0, 0.7, 0.3], &[0.0, 0.0, 0.0, 0.7, 0.3]];
    for values in ZEROS {
        t.add("prod", format!("{values:?}"), &[(&[5], Values(values))], |x| x[0].prod((), false));
    }
    t.add("prod", "more factors than a block", &[(&[35], Range(0.7, 1.4, &[]))], |x| x[0].prod(0, false));
    t.add(
        "prod",
        "two rows of more than a block, with a zero",
        &[(&[2, 34], Values(&[0.0, 1.1, 0.9, -1.2, 0.95, 1.05, 1.3, 0.8, 1.15, 0.85, 1.25]))],
        |x| x[0].prod(1, true),
    );
    for axis in [0, 1, -1] {
        t.add("cumsum", format!("axis {axis}"), &[(&[2, 3, 2], REAL)], move |x| x[0].square()?.cumsum(axis));
    }
    t.add("cumsum", "five steps", &[(&[5], REAL)], |x| x[0].cumsum(0)?.exp());
    t.add("max", "of the sum of squares", &[(&[3, 3], REAL)], |x| x[0].square()?.max(1, false)?.sum((), false));
    for axis in [0, 1, -1] {
        t.add("softmax", format!("axis {axis}"), &[(&[2, 3, 2], REAL)], move |x| x[0].softmax(axis));
        t.add("log_softmax", format!("axis {axis}"), &[(&[2, 3, 2], REAL)], move |x| x[0].log_softmax(axis));
    }
    t.add("softmax", "temperature", &[(&[2, 3], REAL)], |x| x[0].softmax_with_temperature(-1, 0.6));
    t.add("log_softmax", "temperature", &[(&[2, 3], REAL)], |x| x[0].log_softmax_with_temperature(0, 1.7));
    t.add("softmax", "of a transposed view", &[(&[3, 4], REAL)], |x| x[0].t()?.softmax(0));
    t.add("logsumexp", "large numbers", &[(&[4], Range(700.0, 702.0, &[]))], |x| x[0].logsumexp((), false));
}

pub(super) fn products(t: &mut Rows) {
    let shapes: &[(&[usize], &[usize])] = &[
        (&[2, 3], &[3, 4]),
        (&[3], &[3]),
        (&[3], &[3, 2]),
        (&[2, 3], &[3]),
        (&[2, 2, 3], &[3, 2]),
        (&[2, 2, 3], &[2, 3, 2]),
        (&[2, 1, 2, 3], &[2, 3, 2]),
        (&[2, 3], &[2, 3, 2]),
        (&[2, 2, 3], &[3]),
        (&[3], &[2, 3, 2]),
        (&[2, 0], &[0, 3]),
        (&[0, 2], &[2, 3]),
    ];
    for (a, b) in shapes {
        t.add("matmul", format!("{a:?} {b:?}"), &[(a, REAL), (b, REAL)], |x| x[0].matmul(&x[1]));
    }
    t.add("matmul", "transposed views", &[(&[3, 2], REAL), (&[4, 3], REAL)], |x| x[0].t()?.matmul(&x[1].t()?));
    t.add("matmul", "a matrix with itself", &[(&[3, 3], REAL)], |x| x[0].matmul(&x[0])?.matmul(&x[0]));
    t.add("matmul", "sliced", &[(&[4, 6], REAL), (&[3, 2], REAL)], |x| x[0].slice(1, None, None, -2)?.matmul(&x[1]));
    type End = fn(&[Expr], &[Expr]) -> Expr;
    let fused = |f: End, numbers: &'static [Scalar]| {
        move |x: &[Tensor]| {
            let end = Fused::new("ending", &[x[0].dtype(); 2], numbers.len(), f)?;
            x[0].matmul_fused(&x[1], &end, &[&x[2]], numbers)
        }
    };
    let sum: End = |x, _| &x[0] + &x[1];
    let endings: &[(&str, End, &'static [Scalar])] = &[
        ("a bias", sum, &[]),
        ("a bias and tanh", |x, _| (&x[0] + &x[1]).tanh(), &[]),
        ("a bias and softplus", |x, _| (&x[0] + &x[1]).softplus(), &[]),
        ("a factor", |x, _| &x[0] * &x[1], &[]),
        ("a difference, scaled", |x, s| (&x[1] - &x[0] * &s[0]).sigmoid(), &[Scalar::Float(0.5)]),
        ("a bias alone", |x, _| x[1].exp(), &[]),
        ("its number", |x, _| &x[0] * &x[1] * Expr::index().cast(x[0].dtype()), &[]),
    ];
    for &(what, f, numbers) in endings {
        for bias in [&[4][..], &[2, 1], &[2, 4]] {
            let inputs = [(&[2, 3][..], REAL), (&[3, 4], REAL), (bias, REAL)];
            t.add("matmul_fused", format!("{what} {bias:?}"), &inputs, fused(f, numbers));
        }
    }
    for (a, b, bias) in [
        (&[2, 2, 3][..], &[3, 2][..], &[2][..]),
        (&[2, 2, 3], &[3, 2], &[2, 2, 2]),
        (&[2, 1, 2, 3], &[2, 3, 2], &[2, 1]),
        (&[3], &[3, 2], &[2]),
        (&[2, 3], &[3], &[2]),
        (&[2, 0], &[0, 3], &[3]),
    ] {
        let inputs = [(a, REAL), (b, REAL), (bias, REAL)];
        t.add("matmul_fused", format!("{a:?} {b:?} {bias:?}"), &inputs, fused(sum, &[]));
    }
    t.add("matmul_fused", "one tensor thrice", &[(&[3, 3], REAL)], |x| {
        let end = Fused::new("ending", &[x[0].dtype(); 2], 0, |x, _| (&x[0] + &x[1]).tanh())?;
        x[0].matmul_fused(&x[0].t()?, &end, &[&x[0]], &[])
    });
    for (a, b) in [(&[2, 3][..], &[3, 2][..]), (&[3], &[3]), (&[2, 2, 3], &[3, 2, 2]), (&[2, 3], &[3])] {
        t.add("dot", format!("{a:?} {b:?}"), &[(a, REAL), (b, REAL)], |x| x[0].dot(&x[1]));
    }
    t.add("outer", "", &[(&[3], REAL), (&[2, 2], REAL)], |x| x[0].outer(&x[1]));
}

pub(super) fn normalization(t: &mut Rows) {
    for (shape, axis) in [(&[3, 2, 2][..], 1), (&[4, 3], -1), (&[2, 2, 3, 2], 1), (&[3, 2, 2], 0)] {
        let p = [shape[if axis < 0 { shape.len() - 1 } else { axis as usize }]];
        let affine = [(shape, REAL), (&p[..], POSITIVE), (&p[..], REAL)];
        t.add("batch_norm", format!("{shape:?} axis {axis}"), &affine, move |x| {
            Ok(x[0].batch_norm(&x[1], &x[2], 1e-3, axis)?.output)
        });
        t.add("layer_norm", format!("{shape:?} axis {axis}"), &affine, move |x| {
            x[0].layer_norm(&x[1], &x[2], 1e-3, axis)
        });
        let given = [(shape, REAL), (&p[..], POSITIVE), (&p[..], REAL), (&p[..], REAL), (&p[..], POSITIVE)];
        t.add("batch_norm", format!("by statistics, {shape:?} axis {axis}"), &given, move |x| {
            x[0].batch_norm_by(&x[1], &x[2], &x[3], &x[4], 1e-3, axis)
        });
    }
    for (groups, p) in [(2, 4), (2, 2), (1, 4), (4, 4)] {
        t.add(
            "group_norm",
            format!("{groups} groups, {p} parameters"),
            &[(&[2, 4, 3], REAL), (&[p], POSITIVE), (&[p], REAL)],
            move |x| x[0].group_norm(&x[1], &x[2], groups, 1e-3),
        );
    }
    t.add("instance_norm", "", &[(&[2, 2, 3, 2], REAL), (&[2], POSITIVE), (&[2], REAL)], |x| {
        x[0].instance_norm(&x[1], &x[2], 1e-3)
    });
    t.add("layer_norm", "of a transposed view", &[(&[3, 4], REAL), (&[3], POSITIVE), (&[3], REAL)], |x| {
        x[0].t()?.layer_norm(&x[1], &x[2], 1e-3, -1)
    });
    for axes in [vec![1], vec![0, 2], vec![0, 1, 2]] {
        t.add("layer_norm", format!("standardize {axes:?}"), &[(&[2, 3, 2], REAL)], move |x| {
            Ok(x[0].standardize(axes.clone(), 1e-2)?.output)
        });
    }
}
