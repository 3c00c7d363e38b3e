//! Gradients where functions have kinks, at ties, at 0 and at the ends of domains, by two judges that do not differentiate.
//!
//! Differences: for every row, at the numbers that its domain avoids, the gradient along each axis must lie between the
//! differences to the left and to the right, which are the reference's, in f64; where both agree it is the derivative. At the
//! end of a domain there is one side. Statements: what the documentation promises, where differences leave a choice, where
//! they do not reach (very large, very small, very many numbers), and for results that are known.
//!
//! To add a statement: a row in [`stated`].

use super::{FLOATS, Row};
use crate::{
    bounds,
    case::{Checked, Environment, Failure, Level, Measured},
    numbers::{Array, Domain, Numbers},
};
use isograd_core::{DType, Dyn, Error, Expr, Result, Tensor, Value, autograd, operators::Fused};
use isograd_reference::Reference;

/// The step of the differences, and how far the gradient may lie beyond them.
const STEP: f64 = 1e-5;
const TOLERANCE: f64 = 1e-3;
/// Elements of an input along which differences are taken.
const ALONG: usize = 4;

/// Where an operator's domain ends, or the function does.
fn ends(operator: &str) -> &'static [f64] {
    match operator {
        "sqrt" | "rsqrt" | "log" | "log2" | "log10" | "reciprocal" | "pow" => &[0.0],
        "log1p" => &[-1.0],
        "asin" | "acos" | "atanh" | "erfinv" => &[-1.0, 1.0],
        "acosh" => &[1.0],
        _ => &[],
    }
}

/// Kinks first, then 0, an ordinary number, the ends.
fn points(row: &Row, domain: Domain) -> Vec<f64> {
    let mut points = match domain {
        Domain::Range(low, high, kinks) => {
            let inside = |v: &f64| low < *v && *v < high;
            let ordinary = Some(1.0).filter(inside).unwrap_or((low + high) / 2.0);
            kinks.iter().copied().chain(Some(0.0).filter(inside)).chain([ordinary]).collect()
        }
        Domain::Values(values) => values.to_vec(),
        _ => vec![0.0, 1.0],
    };
    if row.elementwise && row.inputs.len() == 1 {
        points.extend(ends(row.operator));
    }
    let mut seen = Vec::new();
    points.retain(|p| {
        !seen.contains(p) && {
            seen.push(*p);
            true
        }
    });
    points
}

pub(super) fn check(environment: &Environment<'_>, row: &Row) -> Checked {
    // What a device computes is judged by the oracle; here it is core's rules that are.
    if environment.level == Level::Quick || !matches!(environment.dtype, DType::F32 | DType::F64) {
        return Ok(Measured::default());
    }
    let mut numbers = environment.numbers(&format!("kinks {} {}", row.operator, row.variant));
    // All elements equal; the points in turn, the same in each input; the points in turn, paired with one another.
    crate::suite::total((0..3).map(|turn| {
        let at: Vec<Vec<f64>> = (row.inputs.iter().enumerate())
            .map(|(k, (shape, domain))| {
                let points = points(row, *domain);
                let point = |i: usize| points[[0, i, i + k + i / points.len()][turn] % points.len()];
                (0..shape.iter().product()).map(point).collect()
            })
            .collect();
        differences(environment, row, &at, &mut numbers)
            .map_err(|f| Failure { variant: format!("{} at {at:?}", f.variant), ..f })
    }))
}

fn tensors(ctx: &Dyn, dtype: DType, row: &Row, at: &[Vec<f64>]) -> Result<Vec<Tensor>> {
    let one = |((shape, _), values): (&(Vec<usize>, Domain), &Vec<f64>)| {
        let values: Vec<Value> = values.iter().map(|&v| Value::F64(v).cast(dtype)).collect();
        Array::dense(dtype, shape, &values).base(ctx)
    };
    row.inputs.iter().zip(at).map(one).collect()
}

/// The gradients of `y` in `xs`, given that in `y`; zeros where none flows.
fn gradients(y: &Tensor, xs: &[Tensor], head: &Tensor) -> Result<Vec<Vec<f64>>> {
    let one = |x: &Tensor| {
        let zeros = || Ok(vec![0.0; x.size()]);
        if !y.requires_grad() {
            return zeros();
        }
        match autograd::grad(&[y], &[x], &[head], true, false) {
            Ok(g) => Ok(g[0].to_values()?.into_iter().map(Value::to_f64).collect()),
            Err(Error::Unreachable { .. }) => zeros(),
            Err(e) => Err(e),
        }
    };
    xs.iter().map(one).collect()
}

fn differences(environment: &Environment<'_>, row: &Row, at: &[Vec<f64>], numbers: &mut Numbers) -> Checked {
    let (ctx, dtype, judge) = (environment.ctx, environment.dtype, Dyn::new(Reference));
    let result = |at: &[Vec<f64>]| (row.body)(&judge, DType::F64, &tensors(&judge, DType::F64, row, at)?);
    let here = result(at)?;
    // Casts to narrower dtypes are steps.
    if here.dtype() != DType::F64 || here.size() == 0 {
        return Ok(Measured::default());
    }
    let here: Vec<f64> = here.to_vec()?;
    // Equal numbers may be sorted in any order, so their places must weigh the same.
    let sorts = matches!(row.operator, "sort" | "topk");
    let mut weight = || if sorts { 1.0 } else { numbers.pick(&[0.375, 0.5, 0.625, 0.75, 0.875, 1.0]) };
    let weights: Vec<f64> = here.iter().map(|_| weight()).collect();

    let xs = tensors(ctx, dtype, row, at)?;
    xs.iter().try_for_each(Tensor::attach_grad)?;
    let y = autograd::record(|| (row.body)(ctx, dtype, &xs))?;
    if y.dtype() != dtype {
        return Ok(Measured::default());
    }
    let head: Vec<Value> = weights.iter().map(|&w| Value::F64(w).cast(dtype)).collect();
    let got = gradients(&y, &xs, &Array::dense(dtype, y.shape(), &head).base(ctx)?)?;

    let mut elements = 0;
    for (k, values) in at.iter().enumerate() {
        for _ in 0..values.len().min(ALONG) {
            let i = numbers.below(values.len());
            // What the weighted sum changes by; an element that stays as it is, be it infinite, does not change.
            let change = |step: f64| -> Result<f64> {
                let mut moved = at.to_vec();
                moved[k][i] += step;
                let there: Vec<f64> = result(&moved)?.to_vec()?;
                let changed = here.iter().zip(&there).zip(&weights).filter(|((h, t), _)| h != t);
                Ok(changed.map(|((h, t), w)| w * (t - h)).sum())
            };
            let mut sides = Vec::new();
            for step in [-STEP, STEP] {
                let [near, once, twice] = [change(step / 16.0)?, change(step)?, change(2.0 * step)?];
                let (steep, slope) = (near / (step / 16.0), once / step);
                if steep.is_nan() || slope.is_nan() || twice.is_nan() {
                    continue;
                }
                // A step has the slope of what follows it.
                let steps = near.is_finite() && near.abs() > TOLERANCE && (once - near).abs() < 0.1 * near.abs();
                let endless = steep.is_infinite() || (steep.abs() > 1.5 * slope.abs() && steep.abs() > 100.0);
                sides.push(match (steps, endless) {
                    (true, _) => (twice - once) / step,
                    (false, true) => f64::INFINITY.copysign(steep),
                    (false, false) => (4.0 * once - twice) / (2.0 * step),
                });
            }
            let (Some(low), Some(high)) =
                (sides.iter().copied().reduce(f64::min), sides.iter().copied().reduce(f64::max))
            else {
                continue;
            };
            let beyond = |v: f64| TOLERANCE * if v.is_finite() { v.abs().max(1.0) } else { 0.0 };
            let g = got[k][i];
            if !(low - beyond(low) <= g && g <= high + beyond(high)) {
                let told = format!("the gradient in element {i} of input {k} is {g}, by differences {low} to {high}");
                return Err(Failure::new("kinks", told));
            }
            elements += 1;
        }
    }
    Ok(Measured { elements, ..Measured::default() })
}

/// What an operator's result and gradients are said to be.
pub(super) struct Stated {
    pub operator: &'static str,
    what: &'static str,
    dtypes: &'static [DType],
    inputs: Vec<(Vec<usize>, Vec<f64>)>,
    body: fn(&[Tensor]) -> Result<Tensor>,
    /// Empty: nothing is said.
    value: Vec<f64>,
    gradients: Vec<Vec<f64>>,
}

/// Units in the last place that a number may be off: what a division after a power may err by.
const UNITS: f64 = 20.0;

impl Stated {
    pub(super) fn check(&self, environment: &Environment<'_>) -> Checked {
        let (ctx, dtype) = (environment.ctx, environment.dtype);
        if environment.level == Level::Quick || !self.dtypes.contains(&dtype) {
            return Ok(Measured::default());
        }
        let one = |(shape, values): &(Vec<usize>, Vec<f64>)| {
            let values: Vec<Value> = values.iter().map(|&v| Value::F64(v).cast(dtype)).collect();
            Array::dense(dtype, shape, &values).base(ctx)
        };
        let xs: Vec<Tensor> = self.inputs.iter().map(one).collect::<Result<_>>()?;
        let apart = |what: &str, got: &Tensor, stated: &[f64]| {
            let got = got.to_values()?;
            // NaN is infinitely far from all that is stated.
            let off = |(g, s): (&Value, &f64)| bounds::distance(g.dtype(), g.to_f64(), *s) > UNITS;
            match got.iter().zip(stated).position(off) {
                None if got.len() == stated.len() => Ok(got.len()),
                None => Err(Failure::new("", format!("{} has {} elements", what, got.len()))),
                Some(i) => {
                    let told = format!("{what}, element {i}, is {}, stated {}", got[i], stated[i]);
                    Err(Failure::new(format!("{} ({})", self.operator, self.what), told))
                }
            }
        };
        let mut elements = 0;
        if !self.value.is_empty() {
            // Whether or not it is recorded.
            elements += apart("the result", &(self.body)(&xs)?, &self.value)?;
        }
        xs.iter().try_for_each(Tensor::attach_grad)?;
        let y = autograd::record(|| (self.body)(&xs))?;
        if !self.value.is_empty() {
            elements += apart("the recorded result", &y, &self.value)?;
        }
        if !self.gradients.is_empty() {
            y.backward()?;
            for (k, (x, stated)) in xs.iter().zip(&self.gradients).enumerate() {
                elements += apart(&format!("gradient {k}"), &x.grad()?, stated)?;
            }
        }
        Ok(Measured { elements, ..Measured::default() })
    }
}

/// With the range of f32.
const WIDE: &[DType] = &[DType::BF16, DType::F32, DType::F64];

/// 2^n.
fn power(n: i32) -> f64 {
    2f64.powi(n)
}

pub(super) fn stated() -> Vec<Stated> {
    let mut all = Vec::new();
    let mut state =
        |operator, what, dtypes, inputs: &[(&[usize], &[f64])], body, value: &[f64], gradients: &[&[f64]]| {
            all.push(Stated {
                operator,
                what,
                dtypes,
                inputs: inputs.iter().map(|(s, v)| (s.to_vec(), v.to_vec())).collect(),
                body,
                value: value.to_vec(),
                gradients: gradients.iter().map(|g| g.to_vec()).collect(),
            });
        };
    type One = fn(&[Tensor]) -> Result<Tensor>;
    type Kink = (&'static str, &'static str, One, &'static [f64], &'static [f64]);
    let single: &[Kink] = &[
        ("abs", "0 at 0", |x| x[0].abs(), &[0.0, -0.0], &[0.0, 0.0]),
        ("relu", "0 at 0", |x| x[0].relu(), &[0.0, -0.0, 1.0], &[0.0, 0.0, 1.0]),
        ("elu", "smooth for alpha 1", |x| x[0].elu(1), &[0.0, -0.0], &[1.0, 1.0]),
        ("elu", "alpha at 0", |x| x[0].elu(2), &[0.0, 1.0], &[2.0, 1.0]),
        ("selu", "that of the left at 0", |x| x[0].selu(), &[0.0], &[1.758_099_340_847_376_6]),
        ("leaky_relu", "the slope at 0", |x| x[0].leaky_relu(0.25), &[0.0, 1.0], &[0.25, 1.0]),
        (
            "hard_sigmoid",
            "0 at both ends",
            |x| x[0].hard_sigmoid_with(0.125, 0.5),
            &[-4.0, 4.0, 1.0],
            &[0.0, 0.0, 0.125],
        ),
        ("hard_swish", "0 at -3, 1 at 3", |x| x[0].hard_swish(), &[-3.0, 3.0, 0.0], &[0.0, 1.0, 0.5]),
        ("clamp", "1 at both bounds", |x| x[0].clamp(-1, 2), &[-1.0, 2.0, 0.5, -3.0, 3.0], &[1.0, 1.0, 1.0, 0.0, 0.0]),
        ("maximum", "ties with a number share", |x| x[0].maximum_scalar(1), &[1.0, 2.0], &[0.5, 1.0]),
        ("minimum", "ties with a number share", |x| x[0].minimum_scalar(1), &[1.0, 2.0], &[0.5, 0.0]),
        ("pow", "0 to the 0", |x| x[0].pow_scalar(0), &[0.0, 2.0], &[0.0, 0.0]),
        ("pow", "to the 1", |x| x[0].pow_scalar(1), &[0.0, 2.0], &[1.0, 1.0]),
        (
            "pow",
            "0 to the 0, fused",
            |x| Fused::new("power", &[x[0].dtype()], 0, |x, _| x[0].pow(&x[0].like(0)))?.call(&[&x[0]], &[]),
            &[0.0, 2.0],
            &[0.0, 0.0],
        ),
        (
            "pow",
            "0 to the 0, fused, in an argument",
            |x| Fused::new("power", &[x[0].dtype()], 1, |x, s| x[0].pow(&s[0]))?.call(&[&x[0]], &[0.into()]),
            &[0.0, 2.0],
            &[0.0, 0.0],
        ),
        ("max", "ties share", |x| x[0].max((), false), &[2.0, 5.0, 5.0, 1.0], &[0.0, 0.5, 0.5, 0.0]),
        ("min", "ties share", |x| x[0].min((), false), &[2.0, 5.0, 2.0], &[0.5, 0.0, 0.5]),
        ("norm", "0 at 0", |x| x[0].norm((), false), &[0.0, 0.0], &[0.0, 0.0]),
        ("std", "0 for equal numbers", |x| x[0].std((), false, 0), &[2.0, 2.0, 2.0], &[0.0, 0.0, 0.0]),
        ("std", "0 for one number", |x| x[0].std((), false, 0), &[3.0], &[0.0]),
        ("var", "0 for equal numbers", |x| x[0].var((), false, 1), &[2.0, 2.0, 2.0], &[0.0, 0.0, 0.0]),
        (
            "max_pool",
            "the first of equal numbers",
            |x| {
                let options = isograd_core::operators::PoolOptions::new(&[2]);
                x[0].reshape([1, 1, -1])?.max_pool(&options)
            },
            &[5.0, 5.0, 1.0, 2.0],
            &[1.0, 0.0, 0.0, 1.0],
        ),
    ];
    for &(operator, what, body, at, gradient) in single {
        state(operator, what, FLOATS, &[(&[at.len()], at)], body, &[], &[gradient]);
    }
    let pair = |x: &'static [f64]| (&[1usize][..], x);
    state(
        "maximum",
        "ties share",
        FLOATS,
        &[pair(&[1.0]), pair(&[1.0])],
        |x| x[0].maximum(&x[1]),
        &[],
        &[&[0.5], &[0.5]],
    );
    state(
        "minimum",
        "ties share",
        FLOATS,
        &[pair(&[1.0]), pair(&[1.0])],
        |x| x[0].minimum(&x[1]),
        &[],
        &[&[0.5], &[0.5]],
    );
    state(
        "hypot",
        "0 at the origin",
        FLOATS,
        &[pair(&[0.0]), pair(&[0.0])],
        |x| x[0].hypot(&x[1]),
        &[0.0],
        &[&[0.0], &[0.0]],
    );
    state(
        "atan2",
        "0 at the origin",
        FLOATS,
        &[pair(&[0.0]), pair(&[0.0])],
        |x| x[0].atan2(&x[1]),
        &[0.0],
        &[&[0.0], &[0.0]],
    );
    for n in [-84, 84] {
        let (x, half) = ([power(n)], [power(-n - 1)]);
        let both: &[(&[usize], &[f64])] = &[(&[1], &x), (&[1], &x)];
        state("atan2", "far from 1", WIDE, both, |x| x[0].atan2(&x[1]), &[], &[&half, &[-half[0]]]);
        let legs = [3.0 * power(n), 4.0 * power(n)];
        let gradients: &[&[f64]] = &[&[0.6, 0.8]];
        state("norm", "far from 1", WIDE, &[(&[2], &legs)], |x| x[0].norm((), false), &[5.0 * power(n)], gradients);
        let apart = [power(n), -power(n)];
        state("std", "far from 1", WIDE, &[(&[2], &apart)], |x| x[0].std((), false, 0), &[power(n)], &[&[0.5, -0.5]]);
    }
    // What f16 holds, but not what it is made of.
    let mut one_large = vec![0.0; 100];
    let mut slopes = vec![-0.2; 100];
    (one_large[0], slopes[0]) = (1000.0, 19.8);
    let inputs: &[(&[usize], &[f64])] = &[(&[100], &one_large)];
    state("var", "of squares beyond f16", FLOATS, inputs, |x| x[0].var((), false, 0), &[9900.0], &[&slopes]);
    let apart: &[(&[usize], &[f64])] = &[(&[2], &[1000.0, -1000.0])];
    state("std", "of squares beyond f16", FLOATS, apart, |x| x[0].std((), false, 0), &[1000.0], &[&[0.5, -0.5]]);
    let factors: Vec<f64> = [vec![2.0; 32], vec![0.5; 32]].concat();
    let others: Vec<f64> = factors.iter().map(|f| 1.0 / f).collect();
    state(
        "prod",
        "of partial products beyond f16",
        FLOATS,
        &[(&[64], &factors)],
        |x| x[0].prod((), false),
        &[1.0],
        &[&others],
    );
    const MANY: usize = 70_000;
    let (zeros, shares) = (vec![0.0; MANY], vec![1.0 / MANY as f64; MANY]);
    let many: &[(&[usize], &[f64])] = &[(&[MANY], &zeros)];
    let logarithm = [(MANY as f64).ln()];
    state("logsumexp", "of more than f16 counts", FLOATS, many, |x| x[0].logsumexp((), false), &logarithm, &[&shares]);
    state("max", "more ties than f16 counts", FLOATS, many, |x| x[0].max((), false), &[0.0], &[&shares]);
    state("min", "more ties than f16 counts", FLOATS, many, |x| x[0].min((), false), &[0.0], &[&shares]);
    state("mean", "of more than f16 counts", FLOATS, many, |x| x[0].mean((), false), &[0.0], &[&shares]);
    let equal: &[(&[usize], &[f64])] = &[(&[2, 4], &[3.0, 3.0, 3.0, 3.0, -7.0, -7.0, -7.0, -7.0])];
    state(
        "layer_norm",
        "the variance of equal numbers",
        FLOATS,
        equal,
        |x| Ok(x[0].standardize(1, 1e-5)?.var),
        &[0.0, 0.0],
        &[],
    );
    // The number of an element is that in the result, whatever is summed afterwards.
    let inputs: &[(&[usize], &[f64])] = &[(&[2, 3], &[1.0; 6]), (&[3], &[1.0; 3])];
    let numbered: One = |x| {
        let product = |x: &[Expr], _: &[Expr]| &x[0] * &x[1] * Expr::index().cast(x[0].dtype());
        Fused::new("numbered", &[x[0].dtype(); 2], 0, product)?.call(&[&x[0], &x[1]], &[])
    };
    let counted: Vec<f64> = (0..6).map(f64::from).collect();
    state("mul", "by its number, broadcast", FLOATS, inputs, numbered, &counted, &[&counted, &[3.0, 5.0, 7.0]]);
    all
}
