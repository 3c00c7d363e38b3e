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
    Backend, DotProduct, Operand, OperandMut, ReduceOp,
    launch::{self, Temporary},
};
use crate::{
    DType, Layout, Result, Shape, Value,
    expr::{Expr, Kernel, PerDType},
};
use smallvec::SmallVec;

static MULTIPLY: PerDType =
    PerDType::new("multiply", |d| (vec![Expr::input(0, d) * Expr::input(1, d)], vec![d, d], vec![]));

/// Terms that one launch adds to a chain.
const LINKS: usize = 8;

/// `old + a b + a' b' + ..`, each product and sum rounded once together, of so many pairs of inputs.
fn chain(d: DType, pairs: usize) -> (Vec<Expr>, Vec<DType>, Vec<DType>) {
    let c = d.compute();
    let input = |k: usize| Expr::input(k as u8, d).cast(c);
    let links = (0..pairs).fold(Expr::old(0, c), |sum, pair| input(2 * pair).mul_add(&input(2 * pair + 1), &sum));
    (vec![links], vec![d; 2 * pairs], vec![])
}
static CHAIN: PerDType = PerDType::new("chain", |d| chain(d, LINKS));
static LINK: PerDType = PerDType::new("link", |d| chain(d, 1));
pub(super) static ACCUMULATE: PerDType =
    PerDType::new("accumulate", |d| (vec![Expr::old(0, d) + Expr::input(0, d)], vec![d], vec![]));

/// Elements of sums of chunks that are held at once.
const SUMS_AT_ONCE: usize = 1 << 22;

/// The matrix product, each element of it in the order of [`super::DotProduct`]: the chains of many chunks are lengthened
/// together, and their sums are added one after another. Of integers, as one reduction over two broadcast views.
///
/// # Errors
/// What the backend reports.
pub fn matmul<B: Backend>(
    ctx: &B,
    a: &Operand<'_, B>,
    b: &Operand<'_, B>,
    output: &mut OperandMut<'_, B>,
) -> Result<()> {
    let (d, rank) = (a.dtype, output.layout.rank());
    let (m, n, k) = (output.shape()[rank - 2], output.shape()[rank - 1], a.shape()[rank - 1]);
    // Both as [.., m, n, k].
    let swapped: Vec<usize> = (0..rank - 2).chain([rank - 1, rank - 2]).collect();
    let factors = [a.layout.insert_axis(rank - 1, n), b.layout.permute(&swapped).insert_axis(rank - 2, m)];
    if !d.is_float() {
        let mut shape = output.shape().clone();
        shape.push(k);
        let inputs = [a.with_layout(&factors[0]), b.with_layout(&factors[1])];
        return launch::reduce(ctx, ReduceOp::Sum, &MULTIPLY.kernel(d, &[]), &shape, &inputs, output);
    }
    rounded(ctx, output, |output| products(ctx, a, b, &factors, output))
}

/// [`matmul`] of floats into the dtype that is computed in; `factors` are the layouts of `a` and `b` as `[.., m, n, k]`.
fn products<B: Backend>(
    ctx: &B,
    a: &Operand<'_, B>,
    b: &Operand<'_, B>,
    factors: &[Layout; 2],
    output: &mut OperandMut<'_, B>,
) -> Result<()> {
    let (d, c, axis) = (a.dtype, output.dtype, output.layout.rank());
    let k = factors[0].shape()[axis];
    launch::fill(ctx, Value::zero(c), &mut output.with_layout(output.layout))?;
    let (whole, rest) = (k / DotProduct::CHUNK, k % DotProduct::CHUNK);
    let at_once = (SUMS_AT_ONCE / output.layout.size().max(1)).max(1);
    let runs = (0..whole).step_by(at_once).map(|first| (first, at_once.min(whole - first), DotProduct::CHUNK));
    for (first, chunks, terms) in runs.chain((rest > 0).then_some((whole, 1, rest))) {
        // [chunks, .., m, n, terms]
        let order: Vec<usize> = std::iter::once(axis).chain(0..axis).chain([axis + 1]).collect();
        let parts = factors.each_ref().map(|l| {
            let part = l.slice(axis, first * DotProduct::CHUNK, chunks * terms, 1);
            part.split_axis(axis, chunks, terms).permute(&order)
        });
        let mut shape = Shape::from([chunks]);
        output.shape().iter().for_each(|&size| shape.push(size));
        let mut sums = Temporary::new(ctx, c, shape)?;
        launch::fill(ctx, Value::zero(c), &mut sums.operand_mut())?;
        let mut term = 0;
        while term < terms {
            let (kernel, links) = if terms - term >= LINKS { (&CHAIN, LINKS) } else { (&LINK, 1) };
            let layouts: Vec<[Layout; 2]> =
                (term..term + links).map(|t| parts.each_ref().map(|l| l.select(axis + 1, t))).collect();
            let inputs: Vec<Operand<'_, B>> =
                layouts.iter().flat_map(|[x, y]| [a.with_layout(x), b.with_layout(y)]).collect();
            launch::map(ctx, &kernel.kernel(d, &[]), &inputs, &mut [sums.operand_mut()])?;
            term += links;
        }
        for chunk in 0..chunks {
            let sum = sums.layout().select(0, chunk);
            let total = &mut [output.with_layout(output.layout)];
            launch::map(ctx, &ACCUMULATE.kernel(c, &[]), &[sums.through(&sum)], total)?;
        }
    }
    Ok(())
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
///
/// # Errors
/// What the backend reports.
pub fn widened<B: Backend>(ctx: &B, from: &Operand<'_, B>) -> Result<Temporary<B>> {
    let mut t = Temporary::new(ctx, from.dtype.compute(), from.shape().clone())?;
    launch::map(ctx, &WIDEN.kernel(from.dtype, &[]), &[*from], &mut [t.operand_mut()])?;
    Ok(t)
}

/// Copies `from`, of the dtype that is computed in, rounding to the dtype of `to`.
///
/// # Errors
/// What the backend reports.
pub fn narrow<B: Backend>(ctx: &B, from: &Operand<'_, B>, to: &mut OperandMut<'_, B>) -> Result<()> {
    launch::map(ctx, &NARROW.kernel(to.dtype, &[]), &[*from], &mut [to.with_layout(to.layout)])
}

/// What `write` writes, in the dtype that is computed in, rounded once to the dtype of `output`.
///
/// # Errors
/// What the backend or `write` reports.
pub fn rounded<B: Backend>(
    ctx: &B,
    output: &mut OperandMut<'_, B>,
    write: impl FnOnce(&mut OperandMut<'_, B>) -> Result<()>,
) -> Result<()> {
    if !is_half(output.dtype) {
        return write(output);
    }
    let mut wide = Temporary::new(ctx, output.dtype.compute(), output.shape().clone())?;
    write(&mut wide.operand_mut())?;
    narrow(ctx, &wide.operand(), output)
}

static WIDEN: PerDType = PerDType::new("widen", |d| (vec![Expr::input(0, d).cast(d.compute())], vec![d], vec![]));
static NARROW: PerDType =
    PerDType::new("narrow", |d| (vec![Expr::input(0, d.compute()).cast(d)], vec![d.compute()], vec![]));

/// `[outer.., 1]` with stride 0 along the last axis of `shape`: one value per row, seen by the whole row.
fn per_row(t: &Temporary<impl Backend>, shape: &Shape) -> Layout {
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

/// Elements of a block of [`scan`].
pub const SCANNED: usize = 256;

/// Blocks of 256 elements: within a block one element after another, those of all blocks at the same time; then the last
/// result of each block is joined to all of the next.
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
    // Elements that have so many before them in their block.
    let at = |l: &Layout, i: usize| l.slice(axis, i, (n - i).div_ceil(SCANNED), SCANNED as isize);
    let first = at(now.layout(), 0);
    launch::copy(ctx, &now.through(&first), &mut next.through_mut(&first))?;
    for i in 1..n.min(SCANNED) {
        let here = at(now.layout(), i);
        let before = at(now.layout(), i - 1).slice(axis, 0, here.shape()[axis], 1);
        let mut sums = Temporary::new(ctx, c, here.shape().clone())?;
        launch::map(ctx, &kernel, &[next.through(&before), now.through(&here)], &mut [sums.operand_mut()])?;
        launch::copy(ctx, &sums.operand(), &mut next.through_mut(&here))?;
    }
    std::mem::swap(&mut now, &mut next);
    for start in (SCANNED..n).step_by(SCANNED) {
        let block = now.layout().slice(axis, start, SCANNED.min(n - start), 1);
        let before = now.layout().slice(axis, start - 1, 1, 1).broadcast_to(block.shape()).expect("of size 1");
        launch::map(ctx, &kernel, &[now.through(&before), now.through(&block)], &mut [next.through_mut(&block)])?;
        launch::copy(ctx, &next.through(&block), &mut now.through_mut(&block))?;
    }
    narrow(ctx, &now.operand(), output)
}

/// Whether a kernel on `dtype` should run on widened copies.
pub(super) fn is_half(dtype: DType) -> bool {
    dtype.compute() != dtype
}
