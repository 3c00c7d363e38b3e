//! Convolution as a copy of windows and a matrix product ("im2col"), and its two gradients.

use super::{is_half, narrow, widened};
use crate::{
    Backend, Layout, Operand, OperandMut, Result, Shape, Value, Window,
    backend::launch::{self, Temporary},
    expr::{Expr, PerDType},
};

/// Elements of the copy of windows that are held at once: the batch is cut so that it stays below this.
const COLUMNS_AT_ONCE: usize = 1 << 23;

static ACCUMULATE: PerDType =
    PerDType::new("accumulate", |d| (vec![Expr::old(0, d) + Expr::input(0, d)], vec![d], vec![]));

/// The sizes that the three kernels share, all per group.
struct Sizes {
    groups: usize,
    /// Output channels per group.
    outputs: usize,
    /// Input channels per group.
    inputs: usize,
    /// Elements of the kernel.
    taps: usize,
    /// Positions of the output.
    positions: usize,
    input: Shape,
    output: Shape,
    batch: usize,
}

impl Sizes {
    fn new(window: &Window, input: &Shape, output: &Shape) -> Sizes {
        Sizes {
            groups: window.groups,
            outputs: output[1] / window.groups,
            inputs: input[1] / window.groups,
            taps: window.kernel.iter().product(),
            positions: output[2..].iter().product(),
            input: input[2..].into(),
            output: output[2..].into(),
            batch: output[0],
        }
    }

    /// How many images of the batch are processed at once.
    fn at_once(&self) -> usize {
        (COLUMNS_AT_ONCE / (self.groups * self.inputs * self.taps * self.positions).max(1)).clamp(1, self.batch)
    }
}

/// A copy of `layout` of `input` with zeros around.
pub(super) fn padded<B: Backend>(
    ctx: &B,
    window: &Window,
    input: &Operand<'_, B>,
    output: &[usize],
    fill: Value,
) -> Result<Temporary<B>> {
    let spatial = &input.shape()[2..];
    let mut shape: Shape = input.shape()[..2].into();
    window.padded(spatial, output).iter().for_each(|&n| shape.push(n));
    let mut t = Temporary::new(ctx, input.dtype, shape)?;
    launch::fill(ctx, fill, &mut t.operand_mut())?;
    let interior = window.interior(t.layout(), spatial);
    launch::copy(ctx, input, &mut t.through_mut(&interior))?;
    Ok(t)
}

/// The windows of `input` as rows: `[batch, groups, positions, inputs * taps]`.
fn columns<B: Backend>(ctx: &B, window: &Window, s: &Sizes, input: &Operand<'_, B>) -> Result<Temporary<B>> {
    let padded = padded(ctx, window, input, &s.output, Value::zero(input.dtype))?;
    let view = window.view(padded.layout(), &s.output).split_axis(1, s.groups, s.inputs);
    // [batch, groups, inputs, output.., kernel..] to [batch, groups, output.., inputs, kernel..]
    let axes = window.axes();
    let order: Vec<usize> = [0, 1].into_iter().chain(3..3 + axes).chain([2]).chain(3 + axes..3 + 2 * axes).collect();
    let view = view.permute(&order);
    let batch = input.shape()[0];
    let mut t = Temporary::new(ctx, input.dtype, [batch, s.groups, s.positions, s.inputs * s.taps])?;
    let target = Layout::contiguous(view.shape().clone());
    launch::copy(ctx, &padded.through(&view), &mut t.through_mut(&target))?;
    Ok(t)
}

/// The weight as a contiguous `[groups, outputs, inputs * taps]`.
fn weight_matrix<B: Backend>(ctx: &B, s: &Sizes, weight: &Operand<'_, B>) -> Result<Temporary<B>> {
    let mut t = Temporary::new(ctx, weight.dtype, [s.groups, s.outputs, s.inputs * s.taps])?;
    let target = Layout::contiguous(weight.shape().clone());
    launch::copy(ctx, weight, &mut t.through_mut(&target))?;
    Ok(t)
}

/// See [`Backend::conv`].
///
/// # Errors
/// What the backend reports.
pub fn conv<B: Backend>(
    ctx: &B,
    window: &Window,
    input: &Operand<'_, B>,
    weight: &Operand<'_, B>,
    output: &mut OperandMut<'_, B>,
) -> Result<()> {
    let s = Sizes::new(window, input.shape(), output.shape());
    let weight = weight_matrix(ctx, &s, weight)?;
    let result = Layout::contiguous([s.batch, s.groups, s.outputs, s.positions]);
    for (start, count) in pieces(s.batch, s.at_once()) {
        let part = input.layout.slice(0, start, count, 1);
        let columns = columns(ctx, window, &s, &input.with_layout(&part))?;
        let columns_t = columns.layout().permute(&[0, 1, 3, 2]);
        let repeated = weight.layout().insert_axis(0, count);
        let target = offset_by(&result, output.layout).slice(0, start, count, 1);
        ctx.matmul(&weight.through(&repeated), &columns.through(&columns_t), &mut output.with_layout(&target))?;
    }
    Ok(())
}

/// See [`Backend::conv_input_gradient`].
///
/// # Errors
/// What the backend reports.
pub fn conv_input_gradient<B: Backend>(
    ctx: &B,
    window: &Window,
    head: &Operand<'_, B>,
    weight: &Operand<'_, B>,
    output: &mut OperandMut<'_, B>,
) -> Result<()> {
    if is_half(head.dtype) {
        let (head, weight) = (widened(ctx, head)?, widened(ctx, weight)?);
        let mut wide = Temporary::new(ctx, output.dtype.compute(), output.shape().clone())?;
        ctx.conv_input_gradient(window, &head.operand(), &weight.operand(), &mut wide.operand_mut())?;
        return narrow(ctx, &wide.operand(), output);
    }
    let s = Sizes::new(window, output.shape(), head.shape());
    let weight = weight_matrix(ctx, &s, weight)?;
    let weight_t = weight.layout().permute(&[0, 2, 1]);
    let channels = s.groups * s.inputs;
    for (start, count) in pieces(s.batch, s.at_once()) {
        let part = head.layout.slice(0, start, count, 1);
        let mut heads = Temporary::new(ctx, head.dtype, [count, s.groups, s.outputs, s.positions])?;
        let target = Layout::contiguous(part.shape().clone());
        launch::copy(ctx, &head.with_layout(&part), &mut heads.through_mut(&target))?;
        let mut columns = Temporary::new(ctx, head.dtype, [count, s.groups, s.inputs * s.taps, s.positions])?;
        let repeated = weight_t.insert_axis(0, count);
        ctx.matmul(&weight.through(&repeated), &heads.operand(), &mut columns.operand_mut())?;
        // Each tap of the kernel adds its share to where the windows lie.
        let mut shape = Shape::from([count, channels]);
        window.padded(&s.input, &s.output).iter().for_each(|&n| shape.push(n));
        let mut sum = Temporary::new(ctx, head.dtype, shape)?;
        launch::fill(ctx, Value::zero(head.dtype), &mut sum.operand_mut())?;
        let mut shares = Shape::from([count, channels, s.taps]);
        s.output.iter().for_each(|&n| shares.push(n));
        let shares = Layout::contiguous(shares);
        for (tap, offset) in window.offsets().enumerate() {
            let place = window.at_offset(sum.layout(), &s.output, &offset);
            let share = shares.select(2, tap);
            let kernel = ACCUMULATE.kernel(head.dtype, &[]);
            launch::map(ctx, &kernel, &[columns.through(&share)], &mut [sum.through_mut(&place)])?;
        }
        let interior = window.interior(sum.layout(), &s.input);
        let target = output.layout.slice(0, start, count, 1);
        launch::copy(ctx, &sum.through(&interior), &mut output.with_layout(&target))?;
    }
    Ok(())
}

/// See [`Backend::conv_weight_gradient`].
///
/// # Errors
/// What the backend reports.
pub fn conv_weight_gradient<B: Backend>(
    ctx: &B,
    window: &Window,
    input: &Operand<'_, B>,
    head: &Operand<'_, B>,
    output: &mut OperandMut<'_, B>,
) -> Result<()> {
    if is_half(head.dtype) {
        let (input, head) = (widened(ctx, input)?, widened(ctx, head)?);
        let mut wide = Temporary::new(ctx, output.dtype.compute(), output.shape().clone())?;
        ctx.conv_weight_gradient(window, &input.operand(), &head.operand(), &mut wide.operand_mut())?;
        return narrow(ctx, &wide.operand(), output);
    }
    let s = Sizes::new(window, input.shape(), head.shape());
    let result = offset_by(&Layout::contiguous([s.groups, s.outputs, s.inputs * s.taps]), output.layout);
    let mut share = Temporary::new(ctx, head.dtype, result.shape().clone())?;
    launch::fill(ctx, Value::zero(head.dtype), &mut output.with_layout(&result))?;
    for (start, count) in pieces(s.batch, s.at_once()) {
        let part = input.layout.slice(0, start, count, 1);
        let columns = columns(ctx, window, &s, &input.with_layout(&part))?;
        // Batch and positions become one axis, the one that the matrix product sums over.
        let mut rows = Temporary::new(ctx, head.dtype, [s.groups, count * s.positions, s.inputs * s.taps])?;
        let target = Layout::contiguous([s.groups, count, s.positions, s.inputs * s.taps]).permute(&[1, 0, 2, 3]);
        launch::copy(ctx, &columns.operand(), &mut rows.through_mut(&target))?;
        let part = head.layout.slice(0, start, count, 1).split_axis(1, s.groups, s.outputs);
        let mut heads = Temporary::new(ctx, head.dtype, [s.groups, s.outputs, count * s.positions])?;
        let mut shape = Shape::from([s.groups, s.outputs, count]);
        s.output.iter().for_each(|&n| shape.push(n));
        let order: Vec<usize> = [2, 0, 1].into_iter().chain(3..3 + window.axes()).collect();
        let target = Layout::contiguous(shape).permute(&order);
        launch::copy(ctx, &head.with_layout(&part), &mut heads.through_mut(&target))?;
        ctx.matmul(&heads.operand(), &rows.operand(), &mut share.operand_mut())?;
        launch::map(ctx, &ACCUMULATE.kernel(head.dtype, &[]), &[share.operand()], &mut [output.with_layout(&result)])?;
    }
    Ok(())
}

/// The contiguous layout `shape` placed where `like` starts; outputs of these kernels are contiguous.
fn offset_by(shape: &Layout, like: &Layout) -> Layout {
    Layout::new(shape.shape().clone(), shape.strides(), like.offset())
}

fn pieces(total: usize, at_once: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..total).step_by(at_once).map(move |start| (start, at_once.min(total - start)))
}
