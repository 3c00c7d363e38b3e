//! The table of differentiable operators, and their check against central differences.
//!
//! To add an operator: a row in [`table`]. A row computes one tensor from its inputs; the check weighs it with random
//! numbers and compares `grad . direction` with the fourth-order central difference of the weighted sum, along random
//! directions and, for few inputs, along each axis. Then it does the same with `grad . direction` in place of the
//! operator, which checks the second derivative and, once more, the third.

use isograd_core::{
    Backend, DType, Error, Expr, Result, Scalar, Tensor, autograd,
    operators::{ConvOptions, Fused, Index, PadMode, PoolOptions, TakeMode, random},
};

/// Operators of the table's size that have a test of their own: f64 differences do not see through a cast to f32.
pub const ELSEWHERE: &[&str] = &["cast"];

/// Operators that gradients do not go through: they create tensors, or give integers and bool.
pub const WITHOUT_GRADIENT: &[&str] = &[
    "zeros",
    "ones",
    "full",
    "arange",
    "linspace",
    "eye",
    "tri",
    "uniform",
    "normal",
    "bernoulli",
    "randint",
    "permutation",
    "is_nan",
    "is_inf",
    "logical_not",
    "equal",
    "not_equal",
    "less",
    "less_equal",
    "greater",
    "greater_equal",
    "logical_and",
    "logical_or",
    "logical_xor",
    "argmax",
    "argmin",
    "any",
    "all",
    "one_hot",
    "argsort",
];

/// Where the numbers of an input come from: distinct, evenly spread, and none within 0.03 of a number to avoid.
#[derive(Clone, Copy)]
pub enum Domain {
    /// From a range, away from kinks.
    Range(f64, f64, &'static [f64]),
    /// These.
    Values(&'static [f64]),
}
use Domain::{Range, Values};

const REAL: Domain = Range(-2.0, 2.0, &[0.0]);
const POSITIVE: Domain = Range(0.3, 2.5, &[]);
const INSIDE: Domain = Range(-0.8, 0.8, &[0.0]);
const ABOVE_ONE: Domain = Range(1.3, 3.0, &[]);
const STEPS: Domain = Range(-2.4, 2.4, &[-2.0, -1.5, -1.0, -0.5, 0.0, 0.5, 1.0, 1.5, 2.0]);

type Body<B> = Box<dyn Fn(&[Tensor<B>]) -> Result<Tensor<B>>>;

/// A row of the table.
pub struct Case<B: Backend> {
    /// The operator, as in `operators::NAMES`.
    pub operator: &'static str,
    /// Which variant of it.
    pub variant: String,
    /// Shapes and domains of the inputs.
    pub inputs: Vec<(Vec<usize>, Domain)>,
    /// The operator.
    pub body: Body<B>,
}

struct Rows<B: Backend>(Vec<Case<B>>);

impl<B: Backend> Rows<B> {
    fn add(
        &mut self,
        operator: &'static str,
        variant: impl Into<String>,
        inputs: &[(&[usize], Domain)],
        body: impl Fn(&[Tensor<B>]) -> Result<Tensor<B>> + 'static,
    ) {
        let inputs = inputs.iter().map(|(s, d)| (s.to_vec(), *d)).collect();
        self.0.push(Case { operator, variant: variant.into(), inputs, body: Box::new(body) });
    }
}

fn positions<B: Backend>(like: &Tensor<B>, values: &[i64], shape: &[usize]) -> Result<Tensor<B>> {
    Tensor::from_slice(like.ctx(), values, shape)
}

/// All rows.
pub fn table<B: Backend>() -> Vec<Case<B>> {
    let mut t = Rows(Vec::new());
    unary(&mut t);
    binary(&mut t);
    reductions(&mut t);
    products(&mut t);
    shapes(&mut t);
    indices(&mut t);
    windows(&mut t);
    normalization(&mut t);
    t.0
}

type Unary<B> = fn(&Tensor<B>) -> Result<Tensor<B>>;

fn unary<B: Backend>(t: &mut Rows<B>) {
    let rows: &[(&'static str, Unary<B>, Domain)] = &[
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
        t.add(name, format!("unary row {i}"), &[(&[2, 3], domain)], move |x| f(&x[0]));
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

fn binary<B: Backend>(t: &mut Rows<B>) {
    type Two<B> = fn(&Tensor<B>, &Tensor<B>) -> Result<Tensor<B>>;
    let rows: &[(&'static str, Two<B>, Domain, Domain)] = &[
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
            t.add(name, format!("row {i}, shapes {j}"), &[(a, left), (b, right)], move |x| f(&x[0], &x[1]));
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
        let f = Fused::new("swirl", &[DType::F64, DType::F64], 1, |x, s| {
            &x[0] * &s[0] * x[1].log().tanh() + &x[0] * &x[1]
        })?;
        f.call(&[&x[0], &x[1]], &[0.7.into()])
    });
    t.add("mul", "fused, three inputs", &[(&[4], REAL), (&[4], REAL), (&[1], REAL)], |x| {
        let f = Fused::new("mix", &[DType::F64; 3], 0, |x, _| {
            let w = x[2].sigmoid();
            &w * &x[0].square() + (1.0 - &w) * x[1].exp()
        })?;
        f.call(&[&x[0], &x[1], &x[2]], &[])
    });
}

fn reductions<B: Backend>(t: &mut Rows<B>) {
    type Fold<B> = fn(&Tensor<B>, &[isize], bool) -> Result<Tensor<B>>;
    let rows: &[(&'static str, Fold<B>, Domain)] = &[
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

fn products<B: Backend>(t: &mut Rows<B>) {
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
        move |x: &[Tensor<B>]| {
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

fn shapes<B: Backend>(t: &mut Rows<B>) {
    type One<B> = fn(&Tensor<B>) -> Result<Tensor<B>>;
    // Each is squared, so that the second derivative goes through it as well.
    let rows: &[(&'static str, One<B>)] = &[
        ("reshape", |x| x.reshape([3, -1])),
        ("reshape", |x| x.transpose(&[2, 0, 1])?.reshape([4, 3])),
        ("reshape", |x| x.reshape_codes(&[-3, -2])),
        ("flatten", |x| x.flatten()),
        ("transpose", |x| x.transpose(&[2, 0, 1])),
        ("transpose", |x| x.transpose(&[-1, 1, 0])?.slice(0, None, None, -1)),
        ("swapaxes", |x| x.swapaxes(0, -1)),
        ("expand_dims", |x| x.expand_dims(1)),
        ("squeeze", |x| x.expand_dims(0)?.squeeze(())),
        ("squeeze", |x| x.expand_dims(2)?.squeeze(2)),
        ("broadcast_to", |x| x.slice(1, Some(0), Some(1), 1)?.broadcast_to([3, 2, 4, 2])),
        ("slice", |x| x.slice(1, Some(-2), None, 1)),
        ("slice", |x| x.slice(1, None, None, -1)),
        ("slice", |x| x.slice(1, None, None, -2)?.slice(0, Some(1), None, 1)),
        ("slice", |x| x.slice(1, Some(2), Some(2), 1)),
        ("slice", |x| x.narrow(1, 1, 2)),
        ("slice", |x| x.select(1, -1)),
        ("slice", |x| x.index(&[Index::At(-1), Index::NewAxis, Index::Slice { start: None, stop: None, step: -1 }])),
        ("slice", |x| x.index(&[Index::Ellipsis, (0..1).into()])),
        ("concat", |x| Tensor::concat(&[x, &x.exp()?, x], 1)),
        ("concat", |x| Tensor::concat(&[&x.narrow(0, 0, 0)?, x], 0)),
        ("stack", |x| Tensor::stack(&[x, &x.sin()?], 0)),
        ("stack", |x| Tensor::stack(&[x, &x.sin()?], -1)),
        ("split", |x| {
            let parts = x.split(3, 1)?;
            parts[0].mul(&parts[2])
        }),
        ("split", |x| Ok(x.split_sizes(&[1, 2], 1)?.remove(1))),
        ("pad", |x| x.pad(&[(1, 0), (0, 2)], PadMode::Constant(0.5))),
        ("pad", |x| x.pad(&[(1, 2), (2, 1), (0, 1)], PadMode::Edge)),
        ("pad", |x| x.pad(&[(1, 0), (2, 2), (1, 1)], PadMode::Reflect)),
        ("flip", |x| x.flip(1)),
        ("flip", |x| x.flip(-1)?.flip(0)),
        ("tile", |x| x.tile(&[2, 1, 2])),
        ("tile", |x| x.tile(&[2, 1, 1, 3])),
        ("tile", |x| x.tile(&[2])),
        ("repeat", |x| x.repeat(3, 1)),
        ("repeat", |x| x.repeat(2, -1)),
        ("roll", |x| x.roll(1, 1)),
        ("roll", |x| x.roll(-5, -1)),
        ("slice", |x| x.tril(0)?.triu(-1)),
    ];
    for (i, &(name, f)) in rows.iter().enumerate() {
        t.add(name, format!("shape row {i}"), &[(&[2, 3, 2], REAL)], move |x| f(&x[0].exp()?)?.square());
        t.add(name, format!("shape row {i}, alone"), &[(&[2, 3, 2], REAL)], move |x| f(&x[0]));
    }
    t.add("concat", "two tensors", &[(&[2, 1], REAL), (&[2, 3], REAL)], |x| {
        Tensor::concat(&[&x[0], &x[1]], -1)?.square()
    });
}

fn indices<B: Backend>(t: &mut Rows<B>) {
    for mode in [TakeMode::Raise, TakeMode::Clip, TakeMode::Wrap] {
        t.add("take", format!("{mode:?}"), &[(&[3, 2], REAL)], move |x| {
            let far = if mode == TakeMode::Raise { 2 } else { 7 };
            x[0].take(&positions(&x[0], &[0, far, -1, 0], &[2, 2])?, 0, mode)?.square()
        });
    }
    t.add("take", "axis -1", &[(&[2, 3], REAL)], |x| {
        x[0].take(&positions(&x[0], &[2, 2, 0], &[3])?, -1, TakeMode::Raise)
    });
    t.add("take", "rank 0 position", &[(&[2, 3], REAL)], |x| {
        x[0].take(&positions(&x[0], &[1], &[])?, 1, TakeMode::Raise)
    });
    t.add("embedding", "", &[(&[4, 2], REAL)], |x| x[0].embedding(&positions(&x[0], &[3, 0, 3], &[3])?)?.tanh());
    t.add("gather", "", &[(&[3, 3], REAL)], |x| {
        x[0].gather(0, &positions(&x[0], &[0, 2, -1, 1, 1, 1], &[2, 3])?)?.square()
    });
    t.add("gather", "fewer rows", &[(&[3, 3], REAL)], |x| {
        x[0].gather(1, &positions(&x[0], &[0, 2, 2, 1], &[1, 4])?)?.exp()
    });
    t.add("scatter_add", "", &[(&[3, 2], REAL), (&[4, 2], REAL)], |x| {
        let at = positions(&x[0], &[0, 1, 2, 1, 0, 0, -1, 1], &[4, 2])?;
        x[0].scatter_add(0, &at, &x[1].exp()?)?.square()
    });
    t.add("scatter_add", "fewer columns", &[(&[3, 3], REAL), (&[2, 2], REAL)], |x| {
        x[0].scatter_add(1, &positions(&x[0], &[0, 2, 1, 1], &[2, 2])?, &x[1])?.square()
    });
    t.add("pick", "", &[(&[3, 4], REAL)], |x| x[0].pick(&positions(&x[0], &[0, 3, 1], &[3])?, 1, false)?.exp());
    t.add("pick", "keepdims, axis 0", &[(&[3, 2], REAL)], |x| {
        x[0].square()?.pick(&positions(&x[0], &[2, 0], &[1, 2])?, 0, true)
    });
    for descending in [false, true] {
        t.add("sort", format!("{descending}"), &[(&[2, 4], REAL)], move |x| x[0].sort(1, descending)?.square());
    }
    t.add("sort", "axis 0 of a transposed view", &[(&[2, 4], REAL)], |x| x[0].t()?.sort(0, true)?.exp());
    t.add("topk", "largest", &[(&[2, 4], REAL)], |x| x[0].topk(2, -1, true)?.0.square());
    t.add("topk", "smallest, axis 0", &[(&[4, 2], REAL)], |x| x[0].topk(3, 0, false)?.0.exp());
    for axis in [0, 1] {
        t.add("sequence_mask", format!("axis {axis}"), &[(&[3, 3, 2], REAL)], move |x| {
            x[0].sequence_mask(&positions(&x[0], &[1, 3, 0], &[3])?, -1.0, axis)?.square()
        });
    }
}

/// Shapes of input and weight, options, output padding.
type TransposedRow = (&'static [usize], &'static [usize], ConvOptions, &'static [usize]);

fn windows<B: Backend>(t: &mut Rows<B>) {
    let options = |stride: &[usize], padding: &[usize], dilation: &[usize], groups: usize| ConvOptions {
        stride: stride.to_vec(),
        padding: padding.to_vec(),
        dilation: dilation.to_vec(),
        groups,
        ..ConvOptions::default()
    };
    let convs: Vec<(&[usize], &[usize], ConvOptions)> = vec![
        (&[2, 2, 5], &[3, 2, 2], options(&[1], &[0], &[1], 1)),
        (&[1, 2, 6], &[2, 1, 3], options(&[2], &[1], &[1], 2)),
        (&[1, 1, 7], &[1, 1, 2], options(&[2], &[2], &[3], 1)),
        (&[2, 2, 4, 3], &[2, 2, 2, 2], options(&[1], &[1], &[1], 1)),
        (&[1, 2, 5, 4], &[2, 2, 3, 2], options(&[2, 1], &[1, 0], &[1, 2], 1)),
        (&[1, 4, 3, 3], &[4, 1, 2, 2], options(&[1], &[0], &[1], 4)),
        (&[1, 4, 4, 4], &[2, 2, 3, 3], options(&[2], &[1], &[1], 2)),
        (&[1, 2, 3, 3], &[2, 2, 1, 1], options(&[2], &[0], &[1], 1)),
        (&[1, 1, 3, 3, 2], &[2, 1, 2, 2, 2], options(&[1], &[0, 1, 0], &[1], 1)),
        (&[1, 2, 3, 4, 3], &[2, 1, 2, 2, 2], options(&[2, 1, 1], &[1], &[1, 2, 1], 2)),
        (&[0, 2, 5], &[3, 2, 2], options(&[1], &[0], &[1], 1)),
    ];
    for (x, w, o) in &convs {
        let bias = [w[0]];
        let (o, o2) = (o.clone(), o.clone());
        t.add("conv", format!("{x:?} {w:?} {o:?}"), &[(x, REAL), (w, REAL), (&bias, REAL)], move |t| {
            t[0].conv(&t[1], Some(&t[2]), &o)
        });
        t.add("conv", format!("{x:?} {w:?}, into a nonlinear function"), &[(x, INSIDE), (w, INSIDE)], move |t| {
            t[0].conv(&t[1], None, &o2)?.tanh()
        });
    }
    t.add("conv", "of views", &[(&[4, 3, 1, 2], REAL), (&[2, 2, 2, 3], REAL)], |t| {
        t[0].transpose(&[2, 3, 0, 1])?.conv(
            &t[1].transpose(&[3, 2, 0, 1])?.slice(2, None, None, -1)?,
            None,
            &ConvOptions::default(),
        )
    });
    let transposed: Vec<TransposedRow> = vec![
        (&[2, 2, 3], &[2, 3, 2], options(&[1], &[0], &[1], 1), &[0]),
        (&[1, 2, 3], &[2, 1, 3], options(&[3], &[1], &[1], 2), &[2]),
        (&[1, 2, 3, 2], &[2, 2, 2, 3], options(&[2, 3], &[0, 1], &[1], 1), &[1, 2]),
        (&[1, 2, 2, 3], &[2, 1, 2, 2], options(&[1, 2], &[1], &[2], 2), &[0, 1]),
        (&[1, 2, 2, 2, 2], &[2, 1, 2, 1, 2], options(&[2, 1, 1], &[0], &[1], 1), &[1, 0, 0]),
    ];
    for (x, w, o, extra) in transposed {
        let o = ConvOptions { output_padding: extra.to_vec(), ..o };
        let bias = [w[1] * o.groups];
        let (o, o2) = (o.clone(), o);
        t.add("conv_transpose", format!("{x:?} {w:?}"), &[(x, REAL), (w, REAL), (&bias, REAL)], move |t| {
            t[0].conv_transpose(&t[1], Some(&t[2]), &o)
        });
        t.add("conv_transpose", format!("{x:?} {w:?}, squared"), &[(x, INSIDE), (w, INSIDE)], move |t| {
            t[0].conv_transpose(&t[1], None, &o2)?.square()
        });
    }
    let pool = |kernel: &[usize], stride: &[usize], padding: &[usize], ceil_mode, count_include_pad| PoolOptions {
        kernel: kernel.to_vec(),
        stride: stride.to_vec(),
        padding: padding.to_vec(),
        ceil_mode,
        count_include_pad,
    };
    let pools: Vec<(&[usize], PoolOptions)> = vec![
        (&[2, 2, 5], pool(&[2], &[], &[0], false, true)),
        (&[1, 2, 6], pool(&[3], &[2], &[1], true, true)),
        (&[1, 1, 5, 4], pool(&[2, 3], &[2, 1], &[1], false, true)),
        (&[1, 1, 5, 4], pool(&[3], &[2], &[1], true, false)),
        (&[1, 1, 5, 5], pool(&[2, 3], &[2], &[0, 1], true, true)),
        (&[1, 1, 5, 5], pool(&[3], &[1], &[1], false, false)),
        (&[1, 1, 3, 4, 3], pool(&[2], &[1, 2, 1], &[1, 0, 1], true, false)),
        (&[0, 2, 5], pool(&[2], &[], &[0], false, true)),
    ];
    for (x, o) in pools {
        let (a, b, label) = (o.clone(), o.clone(), format!("{x:?} {o:?}"));
        t.add("max_pool", label.clone(), &[(x, REAL)], move |t| t[0].max_pool(&a)?.square());
        t.add("avg_pool", label, &[(x, REAL)], move |t| t[0].avg_pool(&b)?.square());
    }
    for x in [&[2, 2, 4][..], &[1, 2, 2, 3], &[1, 2, 2, 2, 2]] {
        t.add("global_max_pool", format!("{x:?}"), &[(x, REAL)], |t| t[0].global_max_pool()?.square());
        t.add("global_avg_pool", format!("{x:?}"), &[(x, REAL)], |t| t[0].global_avg_pool()?.square());
    }
    for sizes in [&[2][..], &[3, 2], &[1, 5]] {
        t.add("adaptive_avg_pool", format!("{sizes:?}"), &[(&[1, 1, 5, 4], REAL)], move |t| {
            t[0].adaptive_avg_pool(sizes)?.square()
        });
        t.add("adaptive_max_pool", format!("{sizes:?}"), &[(&[1, 1, 5, 4], REAL)], move |t| {
            t[0].adaptive_max_pool(sizes)?.square()
        });
    }
    let o = options(&[2, 1], &[1], &[1, 2], 1);
    let o2 = o.clone();
    t.add("unfold", "", &[(&[1, 2, 4, 3], REAL)], move |t| t[0].exp()?.unfold(&[2, 2], &o)?.square());
    t.add("unfold", "one axis", &[(&[2, 2, 4], REAL)], |t| t[0].unfold(&[3], &ConvOptions::default()));
    t.add("fold", "", &[(&[1, 8, 9], REAL)], move |t| t[0].exp()?.fold_windows(&[4, 3], &[2, 2], &o2)?.square());
    t.add("fold", "one axis", &[(&[2, 6, 2], REAL)], |t| t[0].fold_windows(&[4], &[3], &ConvOptions::default()));
}

fn normalization<B: Backend>(t: &mut Rows<B>) {
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

/// A small generator of its own, so that cases do not depend on each other.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }

    /// In -1..1, none near 0.
    fn direction(&mut self, n: usize) -> Vec<f64> {
        (0..n).map(|_| (0.3 + 0.7 * self.next()) * if self.next() < 0.5 { -1.0 } else { 1.0 }).collect()
    }

    fn input(&mut self, n: usize, domain: Domain) -> Vec<f64> {
        match domain {
            Values(v) => (0..n).map(|i| v[i % v.len()]).collect(),
            Range(low, high, avoid) => {
                // A shuffled grid with a little noise: no two within 0.4 of its step.
                let mut places: Vec<usize> = (0..n).collect();
                for i in (1..n).rev() {
                    places.swap(i, (self.next() * (i + 1) as f64) as usize);
                }
                let step = (high - low) / n as f64;
                let mut values: Vec<f64> =
                    places.iter().map(|&p| low + step * (p as f64 + 0.2 + 0.6 * self.next())).collect();
                for v in &mut values {
                    if let Some(a) = avoid.iter().find(|a| (*v - **a).abs() < 0.03) {
                        *v = a + if *v < *a { -0.03 } else { 0.03 } + 0.005 * (self.next() - 0.5);
                    }
                }
                values
            }
        }
    }
}

/// Gradients of a scalar in each input; zeros where it does not depend on it.
fn gradients<B: Backend>(s: &Tensor<B>, xs: &[Tensor<B>], create_graph: bool) -> Vec<Tensor<B>> {
    let zero = |x: &Tensor<B>| x.detach().zeros_like().unwrap();
    if !s.requires_grad() {
        return xs.iter().map(zero).collect();
    }
    // One by one, since an input may be out of reach for higher orders.
    (xs.iter())
        .map(|x| match autograd::grad(&[s], &[x], &[], true, create_graph) {
            Ok(mut g) => g.remove(0),
            Err(Error::Unreachable { .. }) => zero(x),
            Err(e) => panic!("{e}"),
        })
        .collect()
}

fn dot<B: Backend>(gs: &[Tensor<B>], u: &[Tensor<B>]) -> Tensor<B> {
    let products = gs.iter().zip(u).map(|(g, u)| g.mul(u).unwrap().sum((), false).unwrap());
    products.reduce(|a, b| a.add(&b).unwrap()).unwrap()
}

/// sum(w f(x)), or with `us` the derivative of that along each of them in turn. To be called while recording.
fn nested<B: Backend>(case: &Case<B>, xs: &[Tensor<B>], us: &[Vec<Tensor<B>>]) -> Tensor<B> {
    let y = (case.body)(xs).unwrap();
    let weights = Numbers(99).direction(y.size());
    let w = Tensor::from_slice(y.ctx(), &weights, y.shape()).unwrap();
    let first = y.mul(&w).unwrap().sum((), false).unwrap();
    us.iter().fold(first, |s, u| dot(&gradients(&s, xs, true), u))
}

/// The bound on |analytic - difference| relative to the sum of the magnitudes of its terms.
const BOUND: f64 = 1e-6;
/// Step of the differences. The fourth-order formula errs by about h^4/30 of the fifth derivative, 3e-14 of it, and by
/// 1e-16/h = 3e-13 of the value.
const H: f64 = 1e-3;

/// Checks one row up to the given order; gives what differs.
pub fn check<B: Backend>(ctx: &B, case: &Case<B>, orders: usize) -> Vec<String> {
    let mut numbers = Numbers(case.variant.len() as u64 + 31 * case.operator.len() as u64);
    let values: Vec<Vec<f64>> =
        case.inputs.iter().map(|(s, d)| numbers.input(s.iter().product::<usize>(), *d)).collect();
    let tensors = |values: &[Vec<f64>]| -> Vec<Tensor<B>> {
        (values.iter().zip(&case.inputs)).map(|(v, (s, _))| Tensor::from_slice(ctx, v, s).unwrap()).collect()
    };
    let variables = |values: &[Vec<f64>]| {
        let xs = tensors(values);
        xs.iter().for_each(|x| x.attach_grad().unwrap());
        xs
    };
    let count: usize = values.iter().map(Vec::len).sum();
    let mut faults = Vec::new();
    let mut us: Vec<Vec<Tensor<B>>> = Vec::new();
    for order in 1..=orders {
        let xs = variables(&values);
        let (plain, recorded) = autograd::record(|| {
            let s = nested(case, &xs, &us);
            (gradients(&s, &xs, false), gradients(&s, &xs, true))
        });
        let flat = |gs: &[Tensor<B>]| -> Vec<f64> { gs.iter().flat_map(|g| g.to_vec::<f64>().unwrap()).collect() };
        let (analytic, recorded) = (flat(&plain), flat(&recorded));
        for (p, x) in plain.iter().zip(&xs) {
            if p.shape() != x.shape() {
                faults.push(format!("order {order}: gradient of shape {:?} for {:?}", p.shape(), x.shape()));
            }
        }
        // A rule that runs other kernels while it is recorded must give the same.
        let largest = analytic.iter().fold(0.0f64, |m, v| m.max(v.abs()));
        if let Some(i) = (0..analytic.len()).find(|&i| (analytic[i] - recorded[i]).abs() > 1e-11 * largest.max(1.0)) {
            faults.push(format!("order {order}: gradient {i} is {}, recorded {}", analytic[i], recorded[i]));
        }
        let mut directions: Vec<Vec<f64>> = (0..3).map(|_| numbers.direction(count)).collect();
        if count <= if order == 1 { 24 } else { 8 } {
            directions.extend((0..count).map(|i| (0..count).map(|j| f64::from(i == j)).collect()));
        }
        for (d, direction) in directions.iter().enumerate() {
            let at = |step: f64| -> f64 {
                let mut k = 0;
                let moved: Vec<Vec<f64>> = (values.iter())
                    .map(|v| {
                        k += v.len();
                        v.iter().zip(&direction[k - v.len()..k]).map(|(x, d)| x + step * d).collect()
                    })
                    .collect();
                if us.is_empty() {
                    let xs = tensors(&moved);
                    return nested(case, &xs, &us).asscalar().unwrap();
                }
                let xs = variables(&moved);
                autograd::record(|| nested(case, &xs, &us)).asscalar().unwrap()
            };
            let expected = (8.0 * (at(H) - at(-H)) - (at(2.0 * H) - at(-2.0 * H))) / (12.0 * H);
            let got: f64 = analytic.iter().zip(direction).map(|(g, d)| g * d).sum();
            let scale: f64 = analytic.iter().zip(direction).map(|(g, d)| (g * d).abs()).sum();
            // Differences of a value v cannot see below 1e-16 v / h.
            let floor = 1e-9 * (1.0 + at(0.0).abs());
            if (got - expected).abs() > BOUND * scale.max(expected.abs()) + floor || !got.is_finite() {
                faults.push(format!("order {order}, direction {d}: {got}, by differences {expected} (terms {scale})"));
                break;
            }
        }
        let u = (case.inputs.iter())
            .map(|(s, _)| {
                let n = s.iter().product::<usize>();
                Tensor::from_slice(ctx, &numbers.direction(n), s).unwrap()
            })
            .collect();
        us.push(u);
    }
    faults
}

/// Checks every `stride`-th row.
pub fn check_some<B: Backend>(ctx: &B, stride: usize) {
    let table = table::<B>();
    let mut faults = Vec::new();
    for case in table.iter().step_by(stride) {
        let run = || check(ctx, case, 3);
        let found = std::panic::catch_unwind(std::panic::AssertUnwindSafe(run)).unwrap_or_else(|p| {
            vec![
                p.downcast_ref::<String>()
                    .cloned()
                    .or(p.downcast_ref::<&str>().map(|s| s.to_string()))
                    .unwrap_or_default(),
            ]
        });
        faults.extend(found.into_iter().map(|f| format!("{} ({}): {f}", case.operator, case.variant)));
    }
    assert!(faults.is_empty(), "{} faults in {} rows:\n{}", faults.len(), table.len(), faults.join("\n"));
}

/// Checks the whole table.
pub fn check_all<B: Backend>(ctx: &B) {
    check_some(ctx, 1);
}
