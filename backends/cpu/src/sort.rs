//! `argsort`: the positions of each row sorted by a comparison that knows where NaN goes; rows are spread over threads.

use crate::{
    Cpu,
    elementwise::pieces,
    rows::{contiguous, slice, slice_mut},
    threads,
};
use bytemuck::Pod;
use half::{bf16, f16};
use isograd_core::{DType, Operand, OperandMut, Result, backend::composed, backend::launch::Temporary};
use std::cmp::Ordering;

/// Elements of the rows that a thread is given at once.
const PIECE: usize = 1 << 12;

/// NaN after everything else, in either direction.
fn compare<T: PartialOrd>(a: T, b: T, descending: bool) -> Ordering {
    match a.partial_cmp(&b) {
        Some(order) if descending => order.reverse(),
        Some(order) => order,
        #[allow(clippy::eq_op)]
        None => (a != a).cmp(&(b != b)),
    }
}

fn rows<T: Pod + PartialOrd + Send + Sync>(cpu: &Cpu, descending: bool, n: usize, from: &[T], to: &mut [i64]) {
    let at_once = (PIECE / n).max(1);
    let ranges = pieces(from.len() / n, at_once);
    let mut parts: Vec<_> = ranges.into_iter().zip(to.chunks_mut(at_once * n)).collect();
    threads::each(cpu.threads(), &mut parts, &|(range, to)| {
        for (row, to) in from[range.start * n..].chunks(n).zip(to.chunks_mut(n)) {
            // The value beside its position: the comparison then reads what it sorts.
            let mut pairs: Vec<(T, usize)> = row.iter().copied().zip(0..).collect();
            pairs.sort_unstable_by(|a, b| compare(a.0, b.0, descending).then(a.1.cmp(&b.1)));
            to.iter_mut().zip(pairs).for_each(|(to, (_, i))| *to = i as i64);
        }
    });
}

/// See [`isograd_core::Backend::argsort`].
pub(crate) fn argsort(
    cpu: &Cpu,
    descending: bool,
    input: &Operand<'_, Cpu>,
    output: &mut OperandMut<'_, Cpu>,
) -> Result<()> {
    if output.layout.is_empty() {
        return Ok(());
    }
    if !output.layout.is_contiguous() {
        return composed::argsort(cpu, descending, input, output);
    }
    let n = input.shape()[input.shape().rank() - 1];
    let copy = contiguous(cpu, input)?;
    let input = copy.as_ref().map_or(*input, Temporary::operand);
    macro_rules! run {
        ($type:ty) => {
            rows::<$type>(cpu, descending, n, slice(&input), slice_mut(output))
        };
    }
    match input.dtype {
        DType::F32 => run!(f32),
        DType::F64 => run!(f64),
        DType::F16 => run!(f16),
        DType::BF16 => run!(bf16),
        DType::I32 => run!(i32),
        DType::I64 => run!(i64),
        DType::I8 => run!(i8),
        DType::U8 | DType::Bool => run!(u8),
    }
    Ok(())
}
