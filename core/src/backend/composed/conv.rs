//! Convolution as a copy of windows and a matrix product ("im2col"), and its two gradients.

use crate::{
    Backend, Layout, Operand, OperandMut, Result, Shape, Value, Window,
    backend::launch::{self, Temporary},
};
use smallvec::SmallVec;

/// Elements of the copy of windows that are held at once: batch or channels are cut so that it stays below this.
const COLUMNS_AT_ONCE: usize = 1 << 23;

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

    /// The windows of `padded` as `[batch, groups, inputs, output.., kernel..]`.
    fn windows(&self, window: &Window, padded: &Layout) -> Layout {
        window.view(padded, &self.output).split_axis(1, self.groups, self.inputs)
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
    // [batch, groups, output.., inputs, kernel..]
    let axes = window.axes();
    let order: Vec<usize> = [0, 1].into_iter().chain(3..3 + axes).chain([2]).chain(3 + axes..3 + 2 * axes).collect();
    let view = s.windows(window, padded.layout()).permute(&order);
    let batch = input.shape()[0];
    gathered(ctx, &padded.through(&view), [batch, s.groups, s.positions, s.inputs * s.taps])
}

/// A copy of `from`, in its order, as a contiguous array of `shape`.
fn gathered<B: Backend>(ctx: &B, from: &Operand<'_, B>, shape: impl Into<Shape>) -> Result<Temporary<B>> {
    let mut t = Temporary::new(ctx, from.dtype, shape)?;
    let target = Layout::contiguous(from.shape().clone());
    launch::copy(ctx, from, &mut t.through_mut(&target))?;
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
    let weight = gathered(ctx, weight, [s.groups, s.outputs, s.inputs * s.taps])?;
    let result = Layout::contiguous([s.batch, s.groups, s.outputs, s.positions]);
    for (start, count) in pieces(s.batch, s.groups * s.inputs * s.taps * s.positions) {
        let part = input.layout.slice(0, start, count, 1);
        let columns = columns(ctx, window, &s, &input.with_layout(&part))?;
        let columns_t = columns.layout().permute(&[0, 1, 3, 2]);
        let repeated = weight.layout().insert_axis(0, count);
        let target = offset_by(&result, output.layout).slice(0, start, count, 1);
        ctx.matmul(&weight.through(&repeated), &columns.through(&columns_t), &mut output.with_layout(&target))?;
    }
    Ok(())
}

/// See [`Backend::conv_input_gradient`]: the convolution of the head, whose elements lie as far apart as windows did, with the
/// weight, whose taps are reversed and whose channels are exchanged.
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
    let s = Sizes::new(window, output.shape(), head.shape());
    let axes = window.axes();
    // Element x of the input meets tap t of the window that stands at x + padding - t * dilation. In `spread`, where the windows
    // stand from `lead` on, that is x + `skip` + (taps - 1 - t) * dilation.
    let reach: SmallVec<[usize; 3]> = (0..axes).map(|a| window.extent(a) - 1).collect();
    let lead = |a: usize| reach[a].saturating_sub(window.padding[a]);
    let skip = |a: usize| window.padding[a].saturating_sub(reach[a]);
    let mut shape: Shape = head.shape()[..2].into();
    for a in 0..axes {
        let last = (s.output[a] - 1) * window.stride[a];
        shape.push((lead(a) + last + 1).max(skip(a) + s.input[a] + reach[a]));
    }
    let mut spread = Temporary::new(ctx, head.dtype, shape)?;
    launch::fill(ctx, Value::zero(head.dtype), &mut spread.operand_mut())?;
    let places =
        (0..axes).fold(spread.layout().clone(), |l, a| l.slice(2 + a, lead(a), s.output[a], window.stride[a] as isize));
    launch::copy(ctx, head, &mut spread.through_mut(&places))?;
    let seen = (0..axes).fold(spread.layout().clone(), |l, a| l.slice(2 + a, skip(a), s.input[a] + reach[a], 1));
    // [groups, inputs, outputs, kernel..]
    let order: Vec<usize> = [0, 2, 1].into_iter().chain(3..3 + axes).collect();
    let reversed = weight.layout.split_axis(0, s.groups, s.outputs).permute(&order);
    let reversed = (0..axes).fold(reversed, |l, a| l.slice(3 + a, window.kernel[a] - 1, window.kernel[a], -1));
    let mut shape = Shape::from([s.groups * s.inputs, s.outputs]);
    window.kernel.iter().for_each(|&n| shape.push(n));
    let weight = gathered(ctx, &weight.with_layout(&reversed), shape)?;
    let window = Window { dilation: window.dilation.clone(), groups: window.groups, ..Window::new(&window.kernel) };
    ctx.conv(&window, &spread.through(&seen), &weight.operand(), output)
}

/// See [`Backend::conv_weight_gradient`]: the product of the head and the windows, over images and positions as one axis.
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
    let s = Sizes::new(window, input.shape(), head.shape());
    let (axes, terms) = (window.axes(), s.batch * s.positions);
    let order: Vec<usize> = [1, 2, 0].into_iter().chain(3..3 + axes).collect();
    let heads = head.layout.split_axis(1, s.groups, s.outputs).permute(&order);
    let heads = gathered(ctx, &head.with_layout(&heads), [s.groups, s.outputs, terms])?;
    let padded = padded(ctx, window, input, &s.output, Value::zero(input.dtype))?;
    // [groups, batch, output.., inputs, kernel..]
    let order: Vec<usize> = [1, 0].into_iter().chain(3..3 + axes).chain([2]).chain(3 + axes..3 + 2 * axes).collect();
    let windows = s.windows(window, padded.layout()).permute(&order);
    let result = offset_by(&Layout::contiguous([s.groups, s.outputs, s.inputs, s.taps]), output.layout);
    for (start, count) in pieces(s.inputs, s.groups * terms * s.taps) {
        let part = windows.slice(2 + axes, start, count, 1);
        let rows = gathered(ctx, &padded.through(&part), [s.groups, terms, count * s.taps])?;
        let mut product = Temporary::new(ctx, output.dtype, [s.groups, s.outputs, count * s.taps])?;
        ctx.matmul(&heads.operand(), &rows.operand(), &mut product.operand_mut())?;
        let product_layout = product.layout().split_axis(2, count, s.taps);
        let target = result.slice(2, start, count, 1);
        launch::copy(ctx, &product.through(&product_layout), &mut output.with_layout(&target))?;
    }
    Ok(())
}

/// The contiguous layout `shape` placed where `like` starts; outputs of these kernels are contiguous.
fn offset_by(shape: &Layout, like: &Layout) -> Layout {
    Layout::new(shape.shape().clone(), shape.strides(), like.offset())
}

/// `total` things in runs, starts and lengths, of which one takes `elements` elements of windows.
fn pieces(total: usize, elements: usize) -> impl Iterator<Item = (usize, usize)> {
    let at_once = (COLUMNS_AT_ONCE / elements.max(1)).clamp(1, total);
    (0..total).step_by(at_once).map(move |start| (start, at_once.min(total - start)))
}
