//! Every kernel that is not a primitive, composed from the primitives: the meaning of the provided methods of
//! [`Backend`], and what a backend that overrides one is compared with.
//!
//! f16 and bf16 are widened to f32 where a result passes through memory more than once, so that composing does not
//! round more often than a kernel in one piece would.

mod conv;
mod pool;
mod sort;

pub use conv::{conv, conv_input_gradient, conv_weight_gradient};
pub use pool::{pool, pool_gradient};
pub use sort::argsort;

use super::{
    Backend, Operand, OperandMut, ReduceOp,
    launch::{self, Temporary},
};
use crate::{
    DType, Result, Shape, Value,
    expr::{Expr, Kernel, PerDType},
};
use smallvec::SmallVec;

static MULTIPLY: PerDType =
    PerDType::new("multiply", |d| (vec![Expr::input(0, d) * Expr::input(1, d)], vec![d, d], vec![]));

/// The matrix product as one reduction over two broadcast views.
///
/// # Errors
/// What the backend reports.
pub fn matmul<B: Backend>(
    ctx: &B,
    a: &Operand<'_, B>,
    b: &Operand<'_, B>,
    output: &mut OperandMut<'_, B>,
) -> Result<()> {
    let rank = output.layout.rank();
    let (m, n, k) = (output.shape()[rank - 2], output.shape()[rank - 1], a.shape()[rank - 1]);
    let rows = a.layout.insert_axis(rank - 1, n);
    let swapped: Vec<usize> = (0..rank - 2).chain([rank - 1, rank - 2]).collect();
    let columns = b.layout.permute(&swapped).insert_axis(rank - 2, m);
    let mut shape = output.shape().clone();
    shape.push(k);
    let kernel = MULTIPLY.kernel(a.dtype, &[]);
    launch::reduce(ctx, ReduceOp::Sum, &kernel, &shape, &[a.with_layout(&rows), b.with_layout(&columns)], output)
}

/// The matrix product, then a map over it.
///
/// # Errors
/// What the backend reports.
pub fn matmul_fused<B: Backend>(
    ctx: &B,
    kernel: &Kernel<'_>,
    a: &Operand<'_, B>,
    b: &Operand<'_, B>,
    inputs: &[Operand<'_, B>],
    output: &mut OperandMut<'_, B>,
) -> Result<()> {
    let mut product = Temporary::new(ctx, a.dtype, output.shape().clone())?;
    ctx.matmul(a, b, &mut product.operand_mut())?;
    let all: SmallVec<[Operand<'_, B>; 4]> = std::iter::once(product.operand()).chain(inputs.iter().copied()).collect();
    launch::map(ctx, kernel, &all, &mut [output.with_layout(output.layout)])
}

/// Copies `from` into a new array, converted to the dtype that is computed in.
pub(super) fn widened<B: Backend>(ctx: &B, from: &Operand<'_, B>) -> Result<Temporary<B>> {
    let mut t = Temporary::new(ctx, from.dtype.compute(), from.shape().clone())?;
    launch::map(ctx, &WIDEN.kernel(from.dtype, &[]), &[*from], &mut [t.operand_mut()])?;
    Ok(t)
}

/// Copies `from`, of the dtype that is computed in, rounding to the dtype of `to`.
pub(super) fn narrow<B: Backend>(ctx: &B, from: &Operand<'_, B>, to: &mut OperandMut<'_, B>) -> Result<()> {
    launch::map(ctx, &NARROW.kernel(to.dtype, &[]), &[*from], &mut [to.with_layout(to.layout)])
}

static WIDEN: PerDType = PerDType::new("widen", |d| (vec![Expr::input(0, d).cast(d.compute())], vec![d], vec![]));
static NARROW: PerDType =
    PerDType::new("narrow", |d| (vec![Expr::input(0, d.compute()).cast(d)], vec![d.compute()], vec![]));

/// `[outer.., 1]` with stride 0 along the last axis of `shape`: one value per row, seen by the whole row.
fn per_row(t: &Temporary<impl Backend>, shape: &Shape) -> crate::Layout {
    t.layout().insert_axis(t.layout().rank(), shape[shape.rank() - 1])
}

fn rows_of(shape: &Shape) -> Shape {
    shape.without(shape.rank() - 1)
}

static EXP_SHIFTED: PerDType = PerDType::new("exp_shifted", |d| {
    let c = d.compute();
    (vec![(Expr::input(0, d).cast(c) - Expr::input(1, c)).exp()], vec![d, c], vec![])
});
static SOFTMAX: PerDType = PerDType::new("softmax", |d| {
    let c = d.compute();
    let e = (Expr::input(0, d).cast(c) - Expr::input(1, c)).exp();
    (vec![(e / Expr::input(2, c)).cast(d)], vec![d, c, c], vec![])
});
static LOG_SOFTMAX: PerDType = PerDType::new("log_softmax", |d| {
    let c = d.compute();
    let shifted = Expr::input(0, d).cast(c) - Expr::input(1, c);
    (vec![(shifted - Expr::input(2, c).log()).cast(d)], vec![d, c, c], vec![])
});

/// Largest element, sum of shifted exponentials, quotient.
///
/// # Errors
/// What the backend reports.
pub fn softmax<B: Backend>(
    ctx: &B,
    logarithm: bool,
    input: &Operand<'_, B>,
    output: &mut OperandMut<'_, B>,
) -> Result<()> {
    let (shape, d) = (input.shape(), input.dtype);
    let mut largest = Temporary::new(ctx, d.compute(), rows_of(shape))?;
    launch::reduce(ctx, ReduceOp::Max, &WIDEN.kernel(d, &[]), shape, &[*input], &mut largest.operand_mut())?;
    let shift = per_row(&largest, shape);
    let mut sum = Temporary::new(ctx, d.compute(), rows_of(shape))?;
    let inputs = [*input, largest.through(&shift)];
    launch::reduce(ctx, ReduceOp::Sum, &EXP_SHIFTED.kernel(d, &[]), shape, &inputs, &mut sum.operand_mut())?;
    let kernel = if logarithm { LOG_SOFTMAX.kernel(d, &[]) } else { SOFTMAX.kernel(d, &[]) };
    let inputs = [*input, largest.through(&shift), sum.through(&shift)];
    launch::map(ctx, &kernel, &inputs, &mut [output.with_layout(output.layout)])
}

static SCALE: PerDType = PerDType::new("scale", |d| (vec![Expr::input(0, d) * Expr::scalar(0, d)], vec![d], vec![d]));
static SQUARED_DEVIATION: PerDType = PerDType::new("squared_deviation", |d| {
    let c = d.compute();
    (vec![(Expr::input(0, d).cast(c) - Expr::input(1, c)).square()], vec![d, c], vec![])
});
static RSTD: PerDType = PerDType::new("rstd", |d| {
    (vec![(Expr::input(0, d) * Expr::scalar(0, d) + Expr::scalar(1, d)).rsqrt()], vec![d], vec![d, d])
});
static NORMALIZE: PerDType = PerDType::new("normalize", |d| {
    let c = d.compute();
    (vec![((Expr::input(0, d).cast(c) - Expr::input(1, c)) * Expr::input(2, c)).cast(d)], vec![d, c, c], vec![])
});

/// Mean, mean squared deviation from it, quotient: two passes, since the one-pass formula cancels.
///
/// # Errors
/// What the backend reports.
pub fn normalize<B: Backend>(
    ctx: &B,
    epsilon: f64,
    input: &Operand<'_, B>,
    output: &mut OperandMut<'_, B>,
    mean: &mut OperandMut<'_, B>,
    rstd: &mut OperandMut<'_, B>,
) -> Result<()> {
    let (shape, d) = (input.shape(), input.dtype);
    let c = d.compute();
    let per_element = Value::F64(1.0 / shape[shape.rank() - 1] as f64).cast(c);
    let mut sum = Temporary::new(ctx, c, rows_of(shape))?;
    let row = per_row(&sum, shape);
    launch::reduce(ctx, ReduceOp::Sum, &WIDEN.kernel(d, &[]), shape, &[*input], &mut sum.operand_mut())?;
    launch::map(ctx, &SCALE.kernel(c, &[per_element]), &[sum.operand()], &mut [mean.with_layout(mean.layout)])?;
    let mean_row = mean.layout.insert_axis(mean.layout.rank(), shape[shape.rank() - 1]);
    let inputs = [*input, mean.as_operand().with_layout(&mean_row)];
    launch::reduce(ctx, ReduceOp::Sum, &SQUARED_DEVIATION.kernel(d, &[]), shape, &inputs, &mut sum.operand_mut())?;
    let scalars = [per_element, Value::F64(epsilon).cast(c)];
    let mut r = Temporary::new(ctx, c, rows_of(shape))?;
    launch::map(ctx, &RSTD.kernel(c, &scalars), &[sum.operand()], &mut [r.operand_mut()])?;
    launch::copy(ctx, &r.operand(), rstd)?;
    let inputs = [*input, mean.as_operand().with_layout(&mean_row), r.through(&row)];
    launch::map(ctx, &NORMALIZE.kernel(d, &[]), &inputs, &mut [output.with_layout(output.layout)])
}

static ADD: PerDType = PerDType::new("add", |d| (vec![Expr::input(0, d) + Expr::input(1, d)], vec![d, d], vec![]));

/// Hillis and Steele's scan (*Data parallel algorithms*, CACM 1986): log2 n passes, each adding the element 2^p before.
///
/// # Errors
/// What the backend reports.
pub fn scan<B: Backend>(ctx: &B, op: ReduceOp, input: &Operand<'_, B>, output: &mut OperandMut<'_, B>) -> Result<()> {
    let axis = input.layout.rank() - 1;
    let n = input.shape()[axis];
    let c = input.dtype.compute();
    let kernel = if op == ReduceOp::Prod { MULTIPLY.kernel(c, &[]) } else { ADD.kernel(c, &[]) };
    let mut now = widened(ctx, input)?;
    let mut next = Temporary::new(ctx, c, input.shape().clone())?;
    let mut distance = 1;
    while distance < n {
        let head = now.layout().slice(axis, 0, distance, 1);
        let body = now.layout().slice(axis, distance, n - distance, 1);
        let before = now.layout().slice(axis, 0, n - distance, 1);
        launch::copy(ctx, &now.through(&head), &mut next.through_mut(&head))?;
        launch::map(ctx, &kernel, &[now.through(&body), now.through(&before)], &mut [next.through_mut(&body)])?;
        std::mem::swap(&mut now, &mut next);
        distance *= 2;
    }
    narrow(ctx, &now.operand(), output)
}

/// Whether a kernel on `dtype` should run on widened copies.
pub(super) fn is_half(dtype: DType) -> bool {
    dtype.compute() != dtype
}
