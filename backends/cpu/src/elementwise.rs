//! `map`, cut into pieces of whole rows, and the cutting of outputs that the other kernels use too.

use crate::{
    lanes::Simd,
    threads::{Threads, each},
};
use isograd_core::{
    Layout, Result,
    expr::{Kernel, Operation, Unary},
    host::{self, Input, Output},
};
use smallvec::SmallVec;
use std::{ops::Range, sync::Mutex};

/// Elements of a piece: large against the cost of handing it to a thread, small against a second-level cache.
const PIECE: usize = 1 << 15;

/// Work, in elements times [`weight`], below which the calling thread does everything.
const ALONE: usize = 1 << 17;

/// How many simple operations one element of `kernel` costs, roughly.
fn weight(kernel: &Kernel<'_>) -> usize {
    kernel
        .program
        .instructions()
        .iter()
        .map(|i| match i.operation {
            Operation::Random { .. } => 16,
            Operation::Unary(Unary::Neg | Unary::Abs | Unary::Relu, _) => 1,
            Operation::Unary(..) => 8,
            _ => 1,
        })
        .sum()
}

pub(crate) fn map(
    threads: Option<&Threads>,
    kernel: &Kernel<'_>,
    inputs: &[Input<'_>],
    outputs: &mut [Output<'_>],
) -> Result<()> {
    let Some(first) = outputs.first() else { return Ok(()) };
    let size = first.layout.size();
    // Most calls are small: they go no further than this comparison.
    if size < 1 << 12 || size.saturating_mul(weight(kernel)) < ALONE {
        return host::map(Simd::get(), kernel, inputs, outputs);
    }
    let Some(rows) = splits(outputs.iter().map(|o| o.layout)) else {
        return host::map(Simd::get(), kernel, inputs, outputs);
    };
    let ranges = pieces(size, (PIECE / rows).max(1) * rows);
    let mut parts: Vec<(Range<usize>, SmallVec<[Output<'_>; 2]>)> =
        ranges.iter().map(|r| (r.clone(), SmallVec::new())).collect();
    for output in outputs {
        for (part, piece) in parts.iter_mut().zip(cut(output, &ranges)) {
            part.1.push(piece);
        }
    }
    let failed = Mutex::new(None);
    each(threads, &mut parts, &|(range, outputs)| {
        if let Err(e) = host::map_range(Simd::get(), kernel, inputs, outputs, range.clone()) {
            *failed.lock().unwrap_or_else(|e| e.into_inner()) = Some(e);
        }
    });
    failed.into_inner().unwrap_or_else(|e| e.into_inner()).map_or(Ok(()), Err)
}

/// `0..size` in ranges of `piece`.
pub(crate) fn pieces(size: usize, piece: usize) -> Vec<Range<usize>> {
    (0..size).step_by(piece).map(|start| start..size.min(start + piece)).collect()
}

/// How many elements, counted row-major, belong together when outputs of these layouts (of one shape) are cut into parts
/// that share no byte: 1 when all are contiguous, a row when outer rows do not interleave, `None` when they do.
pub(crate) fn splits<'a>(layouts: impl Iterator<Item = &'a Layout>) -> Option<usize> {
    let mut unit = 1;
    for layout in layouts {
        if layout.is_contiguous() {
            continue;
        }
        let row = layout.select(0, 0);
        let (low, high) = row.span();
        if layout.strides()[0] < (high - low) as isize {
            return None;
        }
        unit = row.size();
    }
    Some(unit)
}

/// The parts of `output` that hold the elements of each range; the ranges follow one another and begin at multiples of
/// what [`splits`] said.
pub(crate) fn cut<'a>(output: &'a mut Output<'_>, ranges: &[Range<usize>]) -> Vec<Output<'a>> {
    let (layout, dtype, size) = (output.layout, output.dtype, output.dtype.size());
    let start = |element: usize| {
        if layout.is_contiguous() {
            return layout.offset() + element;
        }
        let row = layout.select(0, 0);
        row.span().0 + element / row.size() * layout.strides()[0] as usize
    };
    let mut rest = &mut *output.bytes;
    let mut origin = output.origin;
    let mut parts = Vec::with_capacity(ranges.len());
    for (i, range) in ranges.iter().enumerate() {
        let from = start(range.start);
        rest = &mut rest[(from - origin) * size..];
        let part = match ranges.get(i + 1) {
            Some(next) => rest.split_off_mut(..(start(next.start) - from) * size).unwrap_or_default(),
            None => std::mem::take(&mut rest),
        };
        origin = from + part.len() / size;
        parts.push(Output { bytes: part, dtype, layout, origin: from });
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;
    use isograd_core::DType;

    #[test]
    fn parts_hold_their_elements_and_share_none() {
        let layouts = [
            Layout::contiguous([6, 10]),
            Layout::contiguous([9, 10]).slice(0, 2, 6, 1),
            Layout::contiguous([6, 20]).slice(1, 5, 10, 1),
            Layout::contiguous([6, 10]).slice(1, 9, 10, -1),
            Layout::contiguous([12, 20]).slice(1, 19, 10, -2).slice(0, 1, 6, 2),
        ];
        for layout in layouts {
            let unit = splits([&layout].into_iter()).unwrap();
            let mut words = vec![0u64; 300];
            let ranges = pieces(60, 2 * unit.max(10));
            let mut whole =
                Output { bytes: bytemuck::cast_slice_mut(&mut words), dtype: DType::I64, layout: &layout, origin: 0 };
            for (range, part) in ranges.iter().zip(cut(&mut whole, &ranges)) {
                for i in range.clone() {
                    let at = (layout.position_of_linear(i) - part.origin) * 8;
                    part.bytes[at] += 1;
                }
            }
            assert_eq!(words.iter().sum::<u64>(), 60, "{layout:?}");
        }
        assert_eq!(splits([&Layout::contiguous([6, 10]).permute(&[1, 0])].into_iter()), None);
        assert_eq!(splits([&Layout::contiguous([6, 10]).slice(0, 5, 6, -1)].into_iter()), None);
    }
}
