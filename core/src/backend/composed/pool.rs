//! Pooling and its gradient, tap by tap.

use super::{ACCUMULATE, conv::padded, is_half, narrow, rounded, widened};
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
static LARGER: PerDType =
    PerDType::new("larger", |d| (vec![Expr::old(0, d).maximum(&Expr::input(0, d))], vec![d], vec![]));
/// Notes the tap where it is the first, of those in the input, to hold the largest element.
static FIRST: PerDType = PerDType::new("first", |d| {
    let [x, largest] = [0, 1].map(|k| Expr::input(k, d));
    let (inside, found) = (Expr::input(2, DType::Bool), Expr::old(0, DType::I64));
    let mut equal = x.equal(&largest);
    if d.is_float() {
        equal = equal.or(&x.is_nan().and(&largest.is_nan()));
    }
    let hit = equal.and(&inside).and(&found.less(&found.like(0)));
    (vec![hit.select(&Expr::scalar(0, DType::I64), &found)], vec![d, d, DType::Bool], vec![DType::I64])
});
/// Adds the head gradient where the tap is the one that was noted.
static ADD_WHERE: PerDType = PerDType::new("add_where", |d| {
    let (head, old) = (Expr::input(0, d), Expr::old(0, d));
    let hit = Expr::input(1, DType::I64).equal(&Expr::scalar(0, DType::I64));
    (vec![hit.select(&(&old + &head), &old)], vec![d, DType::I64], vec![DType::I64])
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

/// See [`Backend::pool`]: the taps of each column of the window, then the columns.
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
    let spatial: Shape = output.shape()[2..].into();
    let d = input.dtype.compute();
    let wide = widened(ctx, input)?;
    let (identity, fold) = match kind {
        Pool::Max => (ReduceOp::Max.identity(d), &LARGER),
        _ => (Value::zero(d), &ACCUMULATE),
    };
    let padded = padded(ctx, window, &wide.operand(), &spatial, identity)?;
    let mut result = Temporary::new(ctx, d, output.shape().clone())?;
    let mut column = Temporary::new(ctx, d, output.shape().clone())?;
    launch::fill(ctx, identity, &mut result.operand_mut())?;
    let along = window.kernel[window.axes() - 1];
    for last in 0..along {
        launch::fill(ctx, identity, &mut column.operand_mut())?;
        for offset in window.offsets().skip(last).step_by(along) {
            let place = window.at_offset(padded.layout(), &spatial, &offset);
            launch::map(ctx, &fold.kernel(d, &[]), &[padded.through(&place)], &mut [column.operand_mut()])?;
        }
        launch::map(ctx, &fold.kernel(d, &[]), &[column.operand()], &mut [result.operand_mut()])?;
    }
    if kind == Pool::Max {
        return narrow(ctx, &result.operand(), output);
    }
    let counts = counts(ctx, kind, window, d, &input.shape()[2..], &spatial)?;
    launch::map(ctx, &QUOTIENT.kernel(d, &[]), &[result.operand(), counts.operand()], &mut [column.operand_mut()])?;
    narrow(ctx, &column.operand(), output)
}

/// See [`Backend::pool_gradient`]. The taps go backwards, so that what overlapping windows give to an element is added in the
/// order of the windows.
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
        return rounded(ctx, output, |output| {
            ctx.pool_gradient(kind, window, &input.operand(), &head.operand(), output)
        });
    }
    let d = head.dtype;
    let spatial = &head.shape()[2..];
    let inner = &output.shape()[2..];
    let mut shape: Shape = output.shape()[..2].into();
    window.padded(inner, spatial).iter().for_each(|&n| shape.push(n));
    let mut sum = Temporary::new(ctx, d, shape)?;
    launch::fill(ctx, Value::zero(d), &mut sum.operand_mut())?;
    let taps: Vec<_> = window.offsets().enumerate().map(|(tap, offset)| (Value::I64(tap as i64), offset)).collect();
    if kind == Pool::Max {
        let padded = padded(ctx, window, input, spatial, ReduceOp::Max.identity(d))?;
        let mut largest = Temporary::new(ctx, d, head.shape().clone())?;
        pool(ctx, kind, window, input, &mut largest.operand_mut())?;
        let mut first = Temporary::new(ctx, DType::I64, head.shape().clone())?;
        launch::fill(ctx, Value::I64(-1), &mut first.operand_mut())?;
        let mut one: Shape = Shape::from([1, 1]);
        padded.layout().shape()[2..].iter().for_each(|&n| one.push(n));
        let mut inside = Temporary::new(ctx, DType::Bool, one)?;
        launch::fill(ctx, Value::Bool(false), &mut inside.operand_mut())?;
        let interior = window.interior(inside.layout(), inner);
        launch::fill(ctx, Value::Bool(true), &mut inside.through_mut(&interior))?;
        for (tap, offset) in &taps {
            let place = window.at_offset(padded.layout(), spatial, offset);
            let mask = window.at_offset(inside.layout(), spatial, offset);
            let inputs = [padded.through(&place), largest.operand(), inside.through(&mask)];
            launch::map(ctx, &FIRST.kernel(d, &[*tap]), &inputs, &mut [first.operand_mut()])?;
        }
        for (tap, offset) in taps.iter().rev() {
            let place = window.at_offset(sum.layout(), spatial, offset);
            let target = &mut [sum.through_mut(&place)];
            launch::map(ctx, &ADD_WHERE.kernel(d, &[*tap]), &[*head, first.operand()], target)?;
        }
    } else {
        let counts = counts(ctx, kind, window, d, inner, spatial)?;
        for (_, offset) in taps.iter().rev() {
            let place = window.at_offset(sum.layout(), spatial, offset);
            launch::map(ctx, &ADD_SHARE.kernel(d, &[]), &[*head, counts.operand()], &mut [sum.through_mut(&place)])?;
        }
    }
    let interior = window.interior(sum.layout(), inner);
    launch::copy(ctx, &sum.through(&interior), output)
}
