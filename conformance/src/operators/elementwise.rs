//! Rows of elementwise operators.

use super::{ABOVE_ONE, Domain, POSITIVE, REAL, Rows, STEPS};
use crate::numbers::Domain::{Range, Values};
use isograd_core::{
    Expr, Result, Tensor,
    operators::{Fused, random},
};

type Unary = fn(&Tensor) -> Result<Tensor>;

pub(super) fn unary(t: &mut Rows) {
    let rows: &[(&'static str, Unary, Domain)] = &[
        ("neg", |x| x.neg(), REAL),
        ("abs", |x| x.abs(), REAL),
        ("sign", |x| x.sign(), REAL),
        ("square", |x| x.square(), REAL),
        ("sqrt", |x| x.sqrt(), POSITIVE),
        ("rsqrt", |x| x.rsqrt(), POSITIVE),
        ("cbrt", |x| x.cbrt(), Range(-2.0, 2.0, &[0.0, 0.1, -0.1, 0.2, -0.2])),
        ("reciprocal", |x| x.reciprocal(), Range(-2.0, -0.4, &[])),
        ("exp", |x| x.exp(), REAL),
        ("exp2", |x| x.exp2(), REAL),
        ("expm1", |x| x.expm1(), REAL),
        ("log", |x| x.log(), POSITIVE),
        ("log2", |x| x.log2(), POSITIVE),
        ("log10", |x| x.log10(), POSITIVE),
        ("log1p", |x| x.log1p(), Range(-0.6, 2.0, &[])),
        ("sin", |x| x.sin(), REAL),
        ("cos", |x| x.cos(), REAL),
        ("tan", |x| x.tan(), Range(-1.1, 1.1, &[])),
        ("asin", |x| x.asin(), Range(-0.7, 0.7, &[])),
        ("acos", |x| x.acos(), Range(-0.7, 0.7, &[])),
        ("atan", |x| x.atan(), REAL),
        ("sinh", |x| x.sinh(), REAL),
        ("cosh", |x| x.cosh(), REAL),
        ("tanh", |x| x.tanh(), REAL),
        ("asinh", |x| x.asinh(), REAL),
        ("acosh", |x| x.acosh(), ABOVE_ONE),
        ("atanh", |x| x.atanh(), Range(-0.7, 0.7, &[])),
        ("erf", |x| x.erf(), REAL),
        ("erfinv", |x| x.erfinv(), Range(-0.7, 0.7, &[])),
        ("floor", |x| x.floor(), STEPS),
        ("ceil", |x| x.ceil(), STEPS),
        ("trunc", |x| x.trunc(), STEPS),
        ("round", |x| x.round(), STEPS),
        ("relu", |x| x.relu(), REAL),
        ("sigmoid", |x| x.sigmoid(), Range(-5.0, 5.0, &[])),
        ("softplus", |x| x.softplus(), Range(-5.0, 5.0, &[])),
        ("softsign", |x| x.softsign(), REAL),
        ("gelu", |x| x.gelu(), REAL),
        ("gelu_tanh", |x| x.gelu_tanh(), REAL),
        ("silu", |x| x.silu(), REAL),
        ("elu", |x| x.elu(0.7), REAL),
        ("elu", |x| x.elu(1), REAL),
        ("selu", |x| x.selu(), REAL),
        ("leaky_relu", |x| x.leaky_relu(0.2), REAL),
        ("hard_sigmoid", |x| x.hard_sigmoid(), Range(-4.0, 4.0, &[-2.5, 2.5])),
        ("hard_sigmoid", |x| x.hard_sigmoid_with(0.25, 0.4), Range(-4.0, 4.0, &[-1.6, 2.4])),
        ("hard_swish", |x| x.hard_swish(), Range(-4.0, 4.0, &[-3.0, 3.0])),
        ("clamp", |x| x.clamp(-0.7, 1.1), Range(-2.0, 2.0, &[-0.7, 1.1])),
        ("copy", |x| x.copy(), REAL),
        ("add", |x| x.add_scalar(0.7), REAL),
        ("sub", |x| x.sub_scalar(0.7), REAL),
        ("sub", |x| x.rsub_scalar(0.7), REAL),
        ("mul", |x| x.mul_scalar(0.7), REAL),
        ("div", |x| x.div_scalar(0.7), REAL),
        ("div", |x| x.rdiv_scalar(0.7), POSITIVE),
        ("rem", |x| x.rem_scalar(0.7), Range(-2.0, 2.0, &[-1.4, -0.7, 0.0, 0.7, 1.4])),
        ("rem", |x| x.rrem_scalar(2.9), Range(1.0, 2.8, &[1.45])),
        ("pow", |x| x.pow_scalar(0), REAL),
        ("pow", |x| x.pow_scalar(1), REAL),
        ("pow", |x| x.pow_scalar(2), REAL),
        ("pow", |x| x.pow_scalar(3), REAL),
        ("pow", |x| x.pow_scalar(4), REAL),
        ("pow", |x| x.pow_scalar(-1), POSITIVE),
        ("pow", |x| x.pow_scalar(-2), Range(-2.0, -0.4, &[])),
        ("pow", |x| x.pow_scalar(0.5), POSITIVE),
        ("pow", |x| x.pow_scalar(2.7), POSITIVE),
        ("pow", |x| x.rpow_scalar(1.7), REAL),
        ("maximum", |x| x.maximum_scalar(0.3), Range(-2.0, 2.0, &[0.3])),
        ("minimum", |x| x.minimum_scalar(0.3), Range(-2.0, 2.0, &[0.3])),
        ("hypot", |x| x.hypot_scalar(0.8), REAL),
    ];
    for (i, &(name, f, domain)) in rows.iter().enumerate() {
        t.elementwise(name, format!("row {i}"), &[(&[2, 3], domain)], move |x| f(&x[0]));
    }
    t.add("tanh", "of a transposed slice", &[(&[3, 4], REAL)], |x| x[0].t()?.slice(0, None, None, -2)?.tanh());
    t.add("exp", "rank 0", &[(&[], REAL)], |x| x[0].exp());
    t.add("exp", "no elements", &[(&[0, 3], REAL)], |x| x[0].exp());
    t.add("dropout", "the same seed", &[(&[4, 5], REAL)], |x| {
        random::seed(7);
        x[0].dropout(0.4)
    });
    t.add("dropout", "squared, p = 0", &[(&[5], REAL)], |x| x[0].dropout(0.0)?.square());
}

pub(super) fn binary(t: &mut Rows) {
    type Two = fn(&Tensor, &Tensor) -> Result<Tensor>;
    let rows: &[(&'static str, Two, Domain, Domain)] = &[
        ("add", |a, b| a.add(b), REAL, REAL),
        ("sub", |a, b| a.sub(b), REAL, REAL),
        ("mul", |a, b| a.mul(b), REAL, REAL),
        ("div", |a, b| a.div(b), REAL, POSITIVE),
        ("pow", |a, b| a.pow(b), POSITIVE, REAL),
        ("rem", |a, b| a.rem(b), Range(5.1, 5.9, &[]), Range(2.1, 2.4, &[])),
        ("maximum", |a, b| a.maximum(b), Range(-2.0, 2.0, &[-1.0, 0.0, 1.0]), Values(&[-1.0, 0.0, 1.0])),
        ("minimum", |a, b| a.minimum(b), Range(-2.0, 2.0, &[-1.0, 0.0, 1.0]), Values(&[-1.0, 0.0, 1.0])),
        ("hypot", |a, b| a.hypot(b), REAL, REAL),
        ("atan2", |a, b| a.atan2(b), REAL, Range(0.4, 2.0, &[])),
        ("mul", |a, b| a.square()?.mul(&b.exp()?), REAL, REAL),
    ];
    let shapes: &[(&[usize], &[usize])] =
        &[(&[2, 3], &[2, 3]), (&[2, 3], &[3]), (&[3], &[2, 3]), (&[2, 1], &[1, 3]), (&[], &[3]), (&[2, 1, 3], &[3, 1])];
    for (i, &(name, f, left, right)) in rows.iter().enumerate() {
        for (j, (a, b)) in shapes.iter().enumerate() {
            t.elementwise(name, format!("row {i}, shapes {j}"), &[(a, left), (b, right)], move |x| f(&x[0], &x[1]));
        }
        t.add(name, format!("row {i}, transposed and broadcast"), &[(&[3, 2], left), (&[1, 3], right)], move |x| {
            f(&x[0].t()?, &x[1].broadcast_to([2, 3])?)
        });
    }
    t.add("mul", "a tensor with itself", &[(&[4], REAL)], |x| x[0].mul(&x[0])?.mul(&x[0]));
    t.add("div", "a tensor with a function of itself", &[(&[4], POSITIVE)], |x| x[0].div(&x[0].exp()?));
    t.add("pow", "a tensor with itself", &[(&[4], POSITIVE)], |x| x[0].pow(&x[0]));
    t.add("where", "broadcast", &[(&[2, 3], REAL), (&[3], REAL)], |x| {
        let c = Tensor::from_slice(x[0].ctx(), &[true, false, false, false, true, true], [2, 3])?;
        c.where_(&x[0].square()?, &x[1].exp()?)
    });
    t.add("where", "condition broadcast", &[(&[2, 3], REAL), (&[2, 3], REAL)], |x| {
        let c = Tensor::from_slice(x[0].ctx(), &[true, false], [2, 1])?;
        c.where_(&x[0].sin()?, &x[1])
    });
    t.add("masked_fill", "", &[(&[2, 3], REAL)], |x| {
        let mask = Tensor::from_slice(x[0].ctx(), &[true, false, true], [3])?;
        x[0].masked_fill(&mask, 7.0)?.square()
    });
    t.add("mul", "fused by the user", &[(&[2, 3], REAL), (&[3], POSITIVE)], |x| {
        let f = Fused::new("swirl", &[x[0].dtype(); 2], 1, |x, s| &x[0] * &s[0] * x[1].log().tanh() + &x[0] * &x[1])?;
        f.call(&[&x[0], &x[1]], &[0.7.into()])
    });
    t.add("mul", "fused, by random bits of its number", &[(&[2, 3], REAL), (&[3], REAL)], |x| {
        let f = Fused::new("noise", &[x[0].dtype(); 2], 0, |x, _| {
            let bits = Expr::random_bits(&Expr::constant(7i64), &Expr::index(), 0) % Expr::constant(8i64);
            &x[0] * &x[1] * bits.cast(x[0].dtype())
        })?;
        f.call(&[&x[0], &x[1]], &[])
    });
    t.add("pow", "fused, to the 0", &[(&[3], REAL)], |x| {
        Fused::new("one", &[x[0].dtype()], 0, |x, _| x[0].pow(&x[0].like(0)))?.call(&[&x[0]], &[])
    });
    t.add("mul", "fused, three inputs", &[(&[4], REAL), (&[4], REAL), (&[1], REAL)], |x| {
        let f = Fused::new("mix", &[x[0].dtype(); 3], 0, |x, _| {
            let w = x[2].sigmoid();
            &w * &x[0].square() + (1.0 - &w) * x[1].exp()
        })?;
        f.call(&[&x[0], &x[1], &x[2]], &[])
    });
}
