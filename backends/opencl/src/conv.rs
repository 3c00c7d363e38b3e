//! Convolution and its gradient in the weight as matrix products over views: a window is a layout, so packing panels is all the
//! copying there is, but for padding. Where a group has hardly more than one channel (depthwise), panels would be mostly
//! empty: there products are summed over the views themselves. The gradient in the input is core's, which calls `conv`.

use crate::{
    OpenCl,
    dot::{CHUNK, dot},
    gemm::{self, Factor, Panels, Side},
};
use isograd_core::{
    Layout, Operand, OperandMut, Result, Shape, Value, Window,
    backend::{
        composed,
        launch::{self, Temporary},
    },
};
use smallvec::SmallVec;

/// Bytes of panels that are held at once: batch or terms are cut so that it stays below this.
const AT_ONCE: usize = 64 << 20;

/// Channels of a group up to which there are no panels.
const FEW: usize = 2;

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
    let matrix = grouped(weight.layout, 0, groups);
    let (rows, terms) = (matrix.shape()[1], 1 + axes);
    if groups > 1 && rows <= FEW {
        // [batch, groups, rows, output.., terms..]
        let windows = windows.permute(&order(&[0..2, 2 + terms..2 + terms + axes, 2..2 + terms])).insert_axis(2, rows);
        let matrix = (0..axes)
            .fold(matrix.insert_axis(0, windows.shape()[0]), |l, a| l.insert_axis(3 + a, windows.shape()[3 + a]));
        return dot(ctx, &source.with_layout(&windows), &weight.with_layout(&matrix), 3 + axes, output);
    }
    // [groups, terms.., rows]
    let left = matrix.permute(&order(&[0..1, 2..2 + terms, 1..2]));
    let left = Factor { operand: weight.with_layout(&left), axes: [1, terms, 1] };
    let left = gemm::pack(ctx, Side::Left, &left, 0..gemm::terms(&left))?;
    by_pieces(ctx, &left, &source, &windows, [2, terms, axes], output)
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
        let right = Factor { operand: source.with_layout(&part), axes };
        let right = gemm::pack(ctx, Side::Right, &right, 0..gemm::terms(&right))?;
        let target = output.layout.slice(0, start, count, 1);
        gemm::product(ctx, count * groups, [left, &right], false, &mut output.with_layout(&target))?;
    }
    Ok(())
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
    let rows = heads.shape()[2 + axes];
    if groups > 1 && rows <= FEW {
        // [groups, rows, channels, kernel.., batch, output..]
        let windows = windows.permute(&order(&[0..1, 2 + axes..3 + 2 * axes, 1..2 + axes])).insert_axis(1, rows);
        let heads = heads.permute(&order(&[0..1, 2 + axes..3 + axes, 1..2 + axes]));
        let heads = (0..1 + axes).fold(heads, |l, a| l.insert_axis(2 + a, windows.shape()[2 + a]));
        return dot(ctx, &source.with_layout(&windows), &head.with_layout(&heads), 3 + axes, output);
    }
    let left = Factor { operand: head.with_layout(&heads), axes: [1, 1 + axes, 1] };
    let right = Factor { operand: source.with_layout(&windows), axes: [1, 1 + axes, 1 + axes] };
    let terms = gemm::terms(&right);
    // Pieces of the terms end where chunks do.
    let bytes_of_chunk = CHUNK * (windows.size() / terms) * output.dtype.compute().size();
    let at_once = (AT_ONCE / bytes_of_chunk).max(1) * CHUNK;
    let multiply = |output: &mut OperandMut<'_, OpenCl>| {
        for start in (0..terms).step_by(at_once) {
            let part = start..terms.min(start + at_once);
            let (left, right) =
                (gemm::pack(ctx, Side::Left, &left, part.clone())?, gemm::pack(ctx, Side::Right, &right, part)?);
            gemm::product(ctx, groups, [&left, &right], start > 0, output)?;
        }
        Ok(())
    };
    if terms <= at_once { multiply(output) } else { composed::rounded(ctx, output, multiply) }
}
