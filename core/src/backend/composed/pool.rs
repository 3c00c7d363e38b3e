//! Pooling as a reduction over windows, and its gradient tap by tap.

use super::{conv::padded, is_half, narrow, widened};
use crate::{
    Backend, DType, Operand, OperandMut, Pool, ReduceOp, Result, Shape, Value, Window,
    backend::launch::{self, Temporary},
    expr::{Expr, PerDType},
};

static IDENTITY: PerDType = PerDType::new("identity", |d| (vec![Expr::input(0, d)], vec![d], vec![]));
static QUOTIENT: PerDType =
    PerDType::new("quotient", |d| (vec![Expr::input(0, d) / Expr::input(1, d)], vec![d, d], vec![]));
static ADD_SHARE: PerDType =
    PerDType::new("add_share", |d| (vec![Expr::old(0, d) + Expr::input(0, d) / Expr::input(1, d)], vec![d, d], vec![]));
/// Adds the head gradient where this tap is the first to hold the largest element, and notes that it was found.
static ADD_IF_FIRST: PerDType = PerDType::new("add_if_first", |d| {
    let [x, largest, head] = [0, 1, 2].map(|k| Expr::input(k, d));
    let inside = Expr::input(3, DType::Bool);
    let found = Expr::old(1, DType::Bool);
    let mut equal = x.equal(&largest);
    if d.is_float() {
        equal = equal.or(&x.is_nan().and(&largest.is_nan()));
    }
    let hit = equal.and(&inside).and(&!&found);
    let sum = Expr::old(0, d) + hit.select(&head, &head.like(0));
    (vec![sum, found.or(&hit)], vec![d, d, d, DType::Bool], vec![])
});

/// For every window, how many elements its mean divides by: `[1, 1, output..]` in `dtype`.
fn counts<B: Backend>(
    ctx: &B,
    kind: Pool,
    window: &Window,
    dtype: DType,
    input: &[usize],
    output: &[usize],
) -> Result<Temporary<B>> {
    let shape = |spatial: &[usize]| -> Shape { [1, 1].into_iter().chain(spatial.iter().copied()).collect() };
    let mut ones = Temporary::new(ctx, dtype, shape(&window.padded(input, output)))?;
    launch::fill(ctx, Value::zero(dtype), &mut ones.operand_mut())?;
    let counted = match kind {
        // The padding counts, but not what the last window of ceil mode sees beyond it.
        Pool::AvgWithPadding => (0..window.axes()).fold(ones.layout().clone(), |l, a| {
            let n = l.shape()[2 + a].min(input[a] + 2 * window.padding[a]);
            l.slice(2 + a, 0, n, 1)
        }),
        _ => window.interior(ones.layout(), input),
    };
    launch::fill(ctx, Value::one(dtype), &mut ones.through_mut(&counted))?;
    let view = window.view(ones.layout(), output);
    let mut t = Temporary::new(ctx, dtype, shape(output))?;
    launch::reduce(
        ctx,
        ReduceOp::Sum,
        &IDENTITY.kernel(dtype, &[]),
        view.shape(),
        &[ones.through(&view)],
        &mut t.operand_mut(),
    )?;
    Ok(t)
}

/// See [`Backend::pool`].
///
/// # Errors
/// What the backend reports.
pub fn pool<B: Backend>(
    ctx: &B,
    kind: Pool,
    window: &Window,
    input: &Operand<'_, B>,
    output: &mut OperandMut<'_, B>,
) -> Result<()> {
    let spatial = &output.shape()[2..];
    if kind == Pool::Max {
        let padded = padded(ctx, window, input, spatial, ReduceOp::Max.identity(input.dtype))?;
        let view = window.view(padded.layout(), spatial);
        return launch::reduce(
            ctx,
            ReduceOp::Max,
            &IDENTITY.kernel(input.dtype, &[]),
            view.shape(),
            &[padded.through(&view)],
            output,
        );
    }
    let wide = widened(ctx, input)?;
    let d = input.dtype.compute();
    let padded = padded(ctx, window, &wide.operand(), spatial, Value::zero(d))?;
    let view = window.view(padded.layout(), spatial);
    let mut sum = Temporary::new(ctx, d, output.shape().clone())?;
    launch::reduce(
        ctx,
        ReduceOp::Sum,
        &IDENTITY.kernel(d, &[]),
        view.shape(),
        &[padded.through(&view)],
        &mut sum.operand_mut(),
    )?;
    let counts = counts(ctx, kind, window, d, &input.shape()[2..], spatial)?;
    let mut mean = Temporary::new(ctx, d, output.shape().clone())?;
    launch::map(ctx, &QUOTIENT.kernel(d, &[]), &[sum.operand(), counts.operand()], &mut [mean.operand_mut()])?;
    narrow(ctx, &mean.operand(), output)
}

/// See [`Backend::pool_gradient`].
///
/// # Errors
/// What the backend reports.
pub fn pool_gradient<B: Backend>(
    ctx: &B,
    kind: Pool,
    window: &Window,
    input: &Operand<'_, B>,
    head: &Operand<'_, B>,
    output: &mut OperandMut<'_, B>,
) -> Result<()> {
    if is_half(head.dtype) {
        let (input, head) = (widened(ctx, input)?, widened(ctx, head)?);
        let mut wide = Temporary::new(ctx, output.dtype.compute(), output.shape().clone())?;
        ctx.pool_gradient(kind, window, &input.operand(), &head.operand(), &mut wide.operand_mut())?;
        return narrow(ctx, &wide.operand(), output);
    }
    let d = head.dtype;
    let spatial = &head.shape()[2..];
    let inner = &output.shape()[2..];
    let mut shape: Shape = output.shape()[..2].into();
    window.padded(inner, spatial).iter().for_each(|&n| shape.push(n));
    let mut sum = Temporary::new(ctx, d, shape)?;
    launch::fill(ctx, Value::zero(d), &mut sum.operand_mut())?;
    if kind == Pool::Max {
        let padded = padded(ctx, window, input, spatial, ReduceOp::Max.identity(d))?;
        let mut largest = Temporary::new(ctx, d, head.shape().clone())?;
        pool(ctx, kind, window, input, &mut largest.operand_mut())?;
        let mut found = Temporary::new(ctx, DType::Bool, head.shape().clone())?;
        launch::fill(ctx, Value::Bool(false), &mut found.operand_mut())?;
        let mut one: Shape = Shape::from([1, 1]);
        padded.layout().shape()[2..].iter().for_each(|&n| one.push(n));
        let mut inside = Temporary::new(ctx, DType::Bool, one)?;
        launch::fill(ctx, Value::Bool(false), &mut inside.operand_mut())?;
        let interior = window.interior(inside.layout(), inner);
        launch::fill(ctx, Value::Bool(true), &mut inside.through_mut(&interior))?;
        for offset in window.offsets() {
            let place = window.at_offset(sum.layout(), spatial, &offset);
            let mask = window.at_offset(inside.layout(), spatial, &offset);
            let inputs = [padded.through(&place), largest.operand(), *head, inside.through(&mask)];
            let outputs = &mut [sum.through_mut(&place), found.operand_mut()];
            launch::map(ctx, &ADD_IF_FIRST.kernel(d, &[]), &inputs, outputs)?;
        }
    } else {
        let counts = counts(ctx, kind, window, d, inner, spatial)?;
        for offset in window.offsets() {
            let place = window.at_offset(sum.layout(), spatial, &offset);
            launch::map(ctx, &ADD_SHARE.kernel(d, &[]), &[*head, counts.operand()], &mut [sum.through_mut(&place)])?;
        }
    }
    let interior = window.interior(sum.layout(), inner);
    launch::copy(ctx, &sum.through(&interior), output)
}
