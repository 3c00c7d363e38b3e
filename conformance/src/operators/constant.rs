//! Rows that gradients do not go through: what creates tensors, what gives integers or bool, and integer dtypes.

use super::{ALL, FLOATS, INTEGERS, NUMBERS, Rows, positions};
use isograd_core::{
    DType, Result, Tensor,
    operators::{Fused, PadMode, TakeMode, random},
};

const BOOL: &[DType] = &[DType::Bool];

pub(super) fn created(t: &mut Rows) {
    t.create("zeros", ALL, |ctx, d| Tensor::zeros(ctx, [3, 5], d));
    t.create("zeros", ALL, |ctx, d| Tensor::zeros(ctx, [3, 0], d));
    t.create("ones", ALL, |ctx, d| Tensor::ones(ctx, [7], d));
    t.create("full", ALL, |ctx, d| Tensor::full(ctx, [2, 3], 1, d));
    t.create("full", NUMBERS, |ctx, d| Tensor::full(ctx, [], 97, d));
    t.create("arange", NUMBERS, |ctx, d| Tensor::arange(ctx, 3, 60, 4, d));
    t.create("linspace", FLOATS, |ctx, d| Tensor::linspace(ctx, 0.0, 8.0, 33, d));
    t.create("eye", ALL, |ctx, d| Tensor::eye(ctx, 4, 5, 1, d));
    t.create("tri", ALL, |ctx, d| Tensor::tri(ctx, 4, 5, -1, d));
    for seed in [1, 0xfeed_beef_0123] {
        t.create("uniform", FLOATS, move |ctx, d| {
            random::seed(seed);
            Tensor::uniform(ctx, [17, 67], -1.0, 3.0, d)
        });
        t.create("normal", FLOATS, move |ctx, d| {
            random::seed(seed);
            Tensor::normal(ctx, [17, 67], 0.5, 2.0, d)
        });
        t.create("bernoulli", NUMBERS, move |ctx, d| {
            random::seed(seed);
            Tensor::bernoulli(ctx, [17, 67], 0.3, d)
        });
        t.create("randint", NUMBERS, move |ctx, d| {
            random::seed(seed);
            Tensor::randint(ctx, [17, 67], 3, 90, d)
        });
        t.create("permutation", &[DType::I64], move |ctx, _| {
            random::seed(seed);
            Tensor::permutation(ctx, 167)
        });
        t.create("dropout", FLOATS, move |ctx, d| {
            random::seed(seed);
            Tensor::ones(ctx, [17, 67], d)?.dropout(0.5)
        });
    }
}

type One = fn(&Tensor) -> Result<Tensor>;
type Two = fn(&Tensor, &Tensor) -> Result<Tensor>;

/// Elementwise operators on integers and bool.
pub(super) fn numbers(t: &mut Rows) {
    let one: &[(&'static str, &'static [DType], One)] = &[
        ("neg", INTEGERS, |x| x.neg()),
        ("abs", INTEGERS, |x| x.abs()),
        ("sign", INTEGERS, |x| x.sign()),
        ("square", INTEGERS, |x| x.square()),
        ("relu", INTEGERS, |x| x.relu()),
        ("clamp", INTEGERS, |x| x.clamp(1, 5)),
        ("add", INTEGERS, |x| x.add_scalar(100)),
        ("mul", INTEGERS, |x| x.mul_scalar(3)),
        ("div", INTEGERS, |x| x.div_scalar(3)),
        ("rem", INTEGERS, |x| x.rem_scalar(3)),
        ("is_nan", ALL, |x| x.is_nan()),
        ("is_inf", ALL, |x| x.is_inf()),
        ("logical_not", BOOL, |x| x.logical_not()),
        ("less", ALL, |x| x.less_scalar(1)),
        ("greater_equal", ALL, |x| x.greater_equal_scalar(1)),
    ];
    for &(name, dtypes, f) in one {
        t.constant(name, dtypes, &[&[3, 5]], move |x| f(&x[0]));
        t.last().elementwise = true;
    }
    let two: &[(&'static str, &'static [DType], Two)] = &[
        ("add", INTEGERS, |a, b| a.add(b)),
        ("sub", INTEGERS, |a, b| a.sub(b)),
        ("mul", INTEGERS, |a, b| a.mul(b)),
        ("div", INTEGERS, |a, b| a.div(b)),
        ("rem", INTEGERS, |a, b| a.rem(b)),
        ("pow", INTEGERS, |a, b| a.pow(b)),
        ("maximum", INTEGERS, |a, b| a.maximum(b)),
        ("minimum", INTEGERS, |a, b| a.minimum(b)),
        ("equal", ALL, |a, b| a.equal(b)),
        ("not_equal", ALL, |a, b| a.not_equal(b)),
        ("less", ALL, |a, b| a.less(b)),
        ("less_equal", ALL, |a, b| a.less_equal(b)),
        ("greater", ALL, |a, b| a.greater(b)),
        ("greater_equal", ALL, |a, b| a.greater_equal(b)),
        ("logical_and", BOOL, |a, b| a.logical_and(b)),
        ("logical_or", BOOL, |a, b| a.logical_or(b)),
        ("logical_xor", BOOL, |a, b| a.logical_xor(b)),
    ];
    for &(name, dtypes, f) in two {
        t.constant(name, dtypes, &[&[3, 5], &[3, 5]], move |x| f(&x[0], &x[1]));
        t.last().elementwise = true;
    }
    for to in DType::ALL {
        t.constant("cast", ALL, &[&[3, 7]], move |x| x[0].cast(to));
        t.last().elementwise = true;
        t.last().differentiable = to.is_float();
    }
}

/// Reductions to positions, and integer reductions, products, orders and moves.
pub(super) fn any(t: &mut Rows) {
    for axis in [0isize, 1, -1] {
        t.constant("argmax", ALL, &[&[3, 5, 4]], move |x| x[0].argmax(axis, false));
        t.constant("argmin", ALL, &[&[3, 5, 4]], move |x| x[0].argmin(axis, true));
        t.constant("any", BOOL, &[&[3, 5, 2]], move |x| x[0].any(axis, false));
        t.constant("all", BOOL, &[&[3, 5, 2]], move |x| x[0].all(axis, false));
        t.constant("sum", INTEGERS, &[&[3, 17, 4]], move |x| x[0].sum(axis, false));
        t.constant("prod", INTEGERS, &[&[3, 17, 4]], move |x| x[0].prod(axis, false));
        t.constant("max", INTEGERS, &[&[3, 17, 4]], move |x| x[0].max(axis, false));
        t.constant("min", INTEGERS, &[&[3, 17, 4]], move |x| x[0].min(axis, false));
        t.constant("cumsum", INTEGERS, &[&[3, 17, 4]], move |x| x[0].cumsum(axis));
        for descending in [false, true] {
            t.constant("argsort", ALL, &[&[3, 9, 4]], move |x| x[0].argsort(axis, descending));
            t.constant("sort", ALL, &[&[3, 9, 4]], move |x| x[0].sort(axis, descending));
        }
        t.constant("flip", ALL, &[&[3, 5, 2]], move |x| x[0].flip(axis));
        t.constant("roll", ALL, &[&[3, 5, 2]], move |x| x[0].roll(2, axis));
    }
    // Folding nothing: 0, 1, false, true; for the others the same error everywhere.
    for shape in [&[2usize, 0, 3][..], &[0, 3], &[2, 3, 0]] {
        let axis = shape.iter().position(|&n| n == 0).unwrap_or(0) as isize;
        t.constant("sum", NUMBERS, &[shape], move |x| x[0].sum(axis, false));
        t.constant("prod", NUMBERS, &[shape], move |x| x[0].prod(axis, true));
        t.constant("any", BOOL, &[shape], move |x| x[0].any(axis, false));
        t.constant("all", BOOL, &[shape], move |x| x[0].all(axis, false));
        t.constant("max", NUMBERS, &[shape], move |x| x[0].max(axis, false));
        t.constant("argmin", NUMBERS, &[shape], move |x| x[0].argmin(axis, false));
        t.constant("softmax", FLOATS, &[shape], move |x| x[0].softmax(axis));
        t.constant("cumsum", NUMBERS, &[shape], move |x| x[0].cumsum(axis));
        t.constant("argsort", NUMBERS, &[shape], move |x| x[0].argsort(axis, false));
    }
    t.constant("sum", FLOATS, &[&[3, 1031]], |x| x[0].abs()?.sum(1, false));
    t.constant("sum", FLOATS, &[&[131, 3]], |x| x[0].sum(0, false));
    t.constant("max", FLOATS, &[&[5, 1031]], |x| x[0].max((), false));
    t.constant("argmax", FLOATS, &[&[2, 9]], |x| {
        let nan = Tensor::full(x[0].ctx(), [], f64::NAN, x[0].dtype())?;
        Tensor::concat(&[&x[0], &nan.broadcast_to([2, 1])?, &x[0]], 1)?.argmax(1, false)
    });
    t.constant("max", FLOATS, &[&[2, 9]], |x| {
        let nan = Tensor::full(x[0].ctx(), [], f64::NAN, x[0].dtype())?;
        Tensor::concat(&[&x[0], &nan.broadcast_to([2, 1])?, &x[0]], 1)?.max(1, false)
    });
    t.constant("sort", FLOATS, &[&[2, 9]], |x| {
        let nan = Tensor::full(x[0].ctx(), [], f64::NAN, x[0].dtype())?;
        Tensor::concat(&[&x[0], &nan.broadcast_to([2, 1])?, &x[0]], 1)?.argsort(1, true)
    });
    t.constant("matmul", INTEGERS, &[&[5, 7], &[7, 3]], |x| x[0].matmul(&x[1]));
    t.constant("matmul", FLOATS, &[&[2, 33, 67], &[67, 31]], |x| x[0].matmul(&x[1]));
    t.constant("matmul_fused", INTEGERS, &[&[5, 7], &[7, 3], &[3]], |x| {
        let end = Fused::new("ending", &[x[0].dtype(); 2], 0, |x, _| (&x[0] + &x[1]).relu())?;
        x[0].matmul_fused(&x[1], &end, &[&x[2]], &[])
    });
    t.constant("one_hot", INTEGERS, &[&[3, 5]], |x| x[0].cast(DType::I64)?.one_hot(6, 2, -1, DType::I32));
    t.constant("topk", INTEGERS, &[&[3, 9]], |x| Ok(x[0].topk(4, 1, true)?.1));
    t.constant("copy", ALL, &[&[3, 7, 2]], |x| x[0].copy());
    t.constant("transpose", ALL, &[&[3, 7, 2]], |x| x[0].transpose(&[2, 0, 1])?.copy());
    t.constant("concat", ALL, &[&[3, 2], &[3, 5]], |x| Tensor::concat(&[&x[0], &x[1]], 1));
    t.constant("pad", NUMBERS, &[&[3, 4]], |x| x[0].pad(&[(1, 2), (0, 3)], PadMode::Constant(1.0)));
    t.constant("where", ALL, &[&[4], &[4]], |x| {
        Tensor::from_slice(x[0].ctx(), &[true, false, false, true], [4])?.where_(&x[0], &x[1])
    });
    t.constant("take", ALL, &[&[5, 3]], |x| {
        x[0].take(&positions(&x[0], &[4, 0, -1, 4, 2, 2], &[6])?, 0, TakeMode::Raise)
    });
    t.constant("gather", ALL, &[&[5, 3]], |x| x[0].gather(1, &positions(&x[0], &[2, 0, 1, 1, 0], &[5, 1])?));
    t.constant("scatter_add", INTEGERS, &[&[3, 2], &[4, 2]], |x| {
        x[0].scatter_add(0, &positions(&x[0], &[0, 1, 2, 1, 0, 0, 2, 1], &[4, 2])?, &x[1])
    });
    t.constant("masked_fill", NUMBERS, &[&[2, 3]], |x| {
        x[0].masked_fill(&Tensor::from_slice(x[0].ctx(), &[true, false, true], [3])?, 7)
    });
}
