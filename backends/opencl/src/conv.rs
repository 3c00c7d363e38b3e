//! Convolution and its two gradients as matrix products over views: a window is a layout, so packing panels is all the
//! copying there is, but for padding. Where a group has hardly more than one channel (depthwise), panels would be mostly
//! empty: there the product is one reduction over the views themselves.

use crate::{
    OpenCl,
    gemm::{self, Factor, Panels, Side},
};
use isograd_core::{
    Layout, Operand, OperandMut, ReduceOp, Result, Shape, Value, Window,
    backend::{
        composed,
        launch::{self, Temporary},
    },
    expr::{Expr, PerDType},
};
use smallvec::SmallVec;

/// Bytes of panels that are held at once: the batch is cut so that it stays below this.
const AT_ONCE: usize = 64 << 20;

/// Channels of a group up to which a convolution is one reduction.
const FEW: usize = 2;

static MULTIPLY: PerDType =
    PerDType::new("conv", |d| (vec![Expr::input(0, d) * Expr::input(1, d)], vec![d, d], vec![]));

/// How the batch is cut: starts and lengths.
fn pieces(batch: usize, bytes_of_one: usize) -> impl Iterator<Item = (usize, usize)> {
    let at_once = (AT_ONCE / bytes_of_one.max(1)).clamp(1, batch);
    (0..batch).step_by(at_once).map(move |start| (start, at_once.min(batch - start)))
}

/// `input` with zeros around, where the window has any padding.
struct Padded<'a> {
    copy: Option<Temporary<OpenCl>>,
    input: Operand<'a, OpenCl>,
}

impl<'a> Padded<'a> {
    fn new(ctx: &OpenCl, window: &Window, input: &Operand<'a, OpenCl>, output: &[usize]) -> Result<Padded<'a>> {
        let spatial = &input.shape()[2..];
        if window.padding.iter().all(|&p| p == 0) {
            return Ok(Padded { copy: None, input: *input });
        }
        let mut shape: Shape = input.shape()[..2].into();
        window.padded(spatial, output).iter().for_each(|&n| shape.push(n));
        let mut copy = Temporary::new(ctx, input.dtype, shape)?;
        launch::fill(ctx, Value::zero(input.dtype), &mut copy.operand_mut())?;
        let interior = window.interior(copy.layout(), spatial);
        launch::copy(ctx, input, &mut copy.through_mut(&interior))?;
        Ok(Padded { copy: Some(copy), input: *input })
    }

    fn operand(&self) -> Operand<'_, OpenCl> {
        self.copy.as_ref().map_or(self.input, Temporary::operand)
    }
}

/// `[batch, groups, channels / groups, rest..]` of `[batch, channels, rest..]`.
fn grouped(layout: &Layout, axis: usize, groups: usize) -> Layout {
    layout.split_axis(axis, groups, layout.shape()[axis] / groups)
}

fn order(parts: &[std::ops::Range<usize>]) -> SmallVec<[usize; 10]> {
    parts.iter().cloned().flatten().collect()
}

/// See [`isograd_core::Backend::conv`].
pub(crate) fn conv(
    ctx: &OpenCl,
    window: &Window,
    input: &Operand<'_, OpenCl>,
    weight: &Operand<'_, OpenCl>,
    output: &mut OperandMut<'_, OpenCl>,
) -> Result<()> {
    let axes = window.axes();
    if axes > 3 || !input.dtype.is_float() || !gemm::can(ctx, input.dtype)? || !output.layout.is_contiguous() {
        return composed::conv(ctx, window, input, weight, output);
    }
    let (shape, groups) = (output.layout.shape().clone(), window.groups);
    let spatial = &shape[2..];
    let padded = Padded::new(ctx, window, input, spatial)?;
    let source = padded.operand();
    // [batch, groups, channels, output.., kernel..] to [batch, groups, channels, kernel.., output..]
    let windows = grouped(&window.view(source.layout, spatial), 1, groups);
    let windows = windows.permute(&order(&[0..3, 3 + axes..3 + 2 * axes, 3..3 + axes]));
    by_windows(ctx, &grouped(weight.layout, 0, groups), weight, &source, &windows, axes, output)
}

/// `output[batch, groups, rows, output..] = Σ matrix[groups, rows, terms..] * windows[batch, groups, terms.., output..]`: the
/// matrix is a view of `weight`, the windows one of `source`; both have 1 + `axes` axes of terms.
fn by_windows(
    ctx: &OpenCl,
    matrix: &Layout,
    weight: &Operand<'_, OpenCl>,
    source: &Operand<'_, OpenCl>,
    windows: &Layout,
    axes: usize,
    output: &mut OperandMut<'_, OpenCl>,
) -> Result<()> {
    let (groups, rows, terms) = (matrix.shape()[0], matrix.shape()[1], 1 + axes);
    if groups > 1 && rows <= FEW {
        // [batch, groups, rows, output.., terms..]
        let windows = windows.permute(&order(&[0..2, 2 + terms..2 + terms + axes, 2..2 + terms])).insert_axis(2, rows);
        let matrix = (0..axes)
            .fold(matrix.insert_axis(0, windows.shape()[0]), |l, a| l.insert_axis(3 + a, windows.shape()[3 + a]));
        let inputs = [source.with_layout(&windows), weight.with_layout(&matrix)];
        let target = grouped(output.layout, 1, groups);
        let kernel = MULTIPLY.kernel(source.dtype, &[]);
        return launch::reduce(ctx, ReduceOp::Sum, &kernel, windows.shape(), &inputs, &mut output.with_layout(&target));
    }
    // [groups, terms.., rows]
    let left = matrix.permute(&order(&[0..1, 2..2 + terms, 1..2]));
    let left = gemm::pack(ctx, Side::Left, &Factor { operand: weight.with_layout(&left), axes: [1, terms, 1] })?;
    by_pieces(ctx, &left, source, windows, [2, terms, axes], output)
}

/// `output[batch, groups, rows, columns] = left * windows`, so many images at once as memory allows.
fn by_pieces(
    ctx: &OpenCl,
    left: &Panels,
    source: &Operand<'_, OpenCl>,
    windows: &Layout,
    axes: [usize; 3],
    output: &mut OperandMut<'_, OpenCl>,
) -> Result<()> {
    let batch = windows.shape()[0];
    let groups = windows.shape()[1];
    let bytes = windows.size() / batch * output.dtype.compute().size();
    for (start, count) in pieces(batch, bytes) {
        let part = windows.slice(0, start, count, 1);
        let right = gemm::pack(ctx, Side::Right, &Factor { operand: source.with_layout(&part), axes })?;
        let target = output.layout.slice(0, start, count, 1);
        gemm::product(ctx, count * groups, &[(left, &right)], &mut output.with_layout(&target))?;
    }
    Ok(())
}

/// See [`isograd_core::Backend::conv_input_gradient`]: a convolution of the head, with zeros between its elements where the
/// stride is more than 1, by the flipped kernel.
pub(crate) fn conv_input_gradient(
    ctx: &OpenCl,
    window: &Window,
    head: &Operand<'_, OpenCl>,
    weight: &Operand<'_, OpenCl>,
    output: &mut OperandMut<'_, OpenCl>,
) -> Result<()> {
    let axes = window.axes();
    if axes > 3 || !head.dtype.is_float() || !gemm::can(ctx, head.dtype)? || !output.layout.is_contiguous() {
        return composed::conv_input_gradient(ctx, window, head, weight, output);
    }
    let (shape, groups) = (output.layout.shape().clone(), window.groups);
    let inner = &shape[2..];
    // Element x of the input meets tap k of window (x + padding - k * dilation) / stride: in an array where window i stands at
    // before + i * stride, at before + padding + x - k * dilation.
    let mut sizes: Shape = head.shape()[..2].into();
    let mut before: SmallVec<[usize; 3]> = SmallVec::new();
    for (a, &size) in inner.iter().enumerate() {
        let reach = window.extent(a) - 1;
        let lead = reach.saturating_sub(window.padding[a]);
        let spread = (head.shape()[2 + a] - 1) * window.stride[a] + 1;
        sizes.push((lead + spread).max(lead + window.padding[a] + size));
        before.push(lead);
    }
    let mut spread = Temporary::new(ctx, head.dtype, sizes)?;
    launch::fill(ctx, Value::zero(head.dtype), &mut spread.operand_mut())?;
    let places = (0..axes).fold(spread.layout().clone(), |l, a| {
        l.slice(2 + a, before[a], head.shape()[2 + a], window.stride[a] as isize)
    });
    launch::copy(ctx, head, &mut spread.through_mut(&places))?;
    // [batch, out channels, input.., kernel..], the taps going backwards.
    let whole = spread.layout();
    let mut sizes: Shape = whole.shape()[..2].into();
    let mut strides: SmallVec<[isize; 8]> = SmallVec::from_slice(&whole.strides()[..2]);
    let mut offset = whole.offset();
    for (a, &size) in inner.iter().enumerate() {
        sizes.push(size);
        strides.push(whole.strides()[2 + a]);
        offset += (before[a] + window.padding[a]) * whole.strides()[2 + a] as usize;
    }
    for a in 0..axes {
        sizes.push(window.kernel[a]);
        strides.push(-(whole.strides()[2 + a] * window.dilation[a] as isize));
    }
    let windows = grouped(&Layout::new(sizes, &strides, offset), 1, groups);
    let windows = windows.permute(&order(&[0..3, 3 + axes..3 + 2 * axes, 3..3 + axes]));
    // [groups, channels, out channels, kernel..]
    let matrix = grouped(weight.layout, 0, groups).permute(&order(&[0..1, 2..3, 1..2, 3..3 + axes]));
    by_windows(ctx, &matrix, weight, &spread.operand(), &windows, axes, output)
}

/// See [`isograd_core::Backend::conv_weight_gradient`].
pub(crate) fn conv_weight_gradient(
    ctx: &OpenCl,
    window: &Window,
    input: &Operand<'_, OpenCl>,
    head: &Operand<'_, OpenCl>,
    output: &mut OperandMut<'_, OpenCl>,
) -> Result<()> {
    let axes = window.axes();
    if axes > 3 || !head.dtype.is_float() || !gemm::can(ctx, head.dtype)? || !output.layout.is_contiguous() {
        return composed::conv_weight_gradient(ctx, window, input, head, output);
    }
    let groups = window.groups;
    let spatial: Shape = head.shape()[2..].into();
    let padded = Padded::new(ctx, window, input, &spatial)?;
    let source = padded.operand();
    // [groups, batch, output.., out channels]
    let heads = grouped(head.layout, 1, groups).permute(&order(&[1..2, 0..1, 3..3 + axes, 2..3]));
    // [groups, batch, output.., channels, kernel..]
    let windows = grouped(&window.view(source.layout, &spatial), 1, groups);
    let windows = windows.permute(&order(&[1..2, 0..1, 3..3 + axes, 2..3, 3 + axes..3 + 2 * axes]));
    let batch = head.shape()[0];
    let rows = heads.shape()[2 + axes];
    if groups > 1 && rows <= FEW {
        // [groups, rows, channels, kernel.., batch, output..]
        let windows = windows.permute(&order(&[0..1, 2 + axes..3 + 2 * axes, 1..2 + axes])).insert_axis(1, rows);
        let heads = heads.permute(&order(&[0..1, 2 + axes..3 + axes, 1..2 + axes]));
        let heads = (0..1 + axes).fold(heads, |l, a| l.insert_axis(2 + a, windows.shape()[2 + a]));
        let target = grouped(output.layout, 0, groups);
        let inputs = [source.with_layout(&windows), head.with_layout(&heads)];
        let kernel = MULTIPLY.kernel(head.dtype, &[]);
        return launch::reduce(ctx, ReduceOp::Sum, &kernel, windows.shape(), &inputs, &mut output.with_layout(&target));
    }
    let bytes = windows.size() / batch * output.dtype.compute().size();
    let mut factors = Vec::new();
    for (start, count) in pieces(batch, bytes) {
        let (heads, windows) = (heads.slice(1, start, count, 1), windows.slice(1, start, count, 1));
        let left = Factor { operand: head.with_layout(&heads), axes: [1, 1 + axes, 1] };
        let right = Factor { operand: source.with_layout(&windows), axes: [1, 1 + axes, 1 + axes] };
        factors.push((gemm::pack(ctx, Side::Left, &left)?, gemm::pack(ctx, Side::Right, &right)?));
    }
    let factors: Vec<_> = factors.iter().map(|(l, r)| (l, r)).collect();
    gemm::product(ctx, groups, &factors, output)
}
