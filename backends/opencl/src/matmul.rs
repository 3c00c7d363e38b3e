//! `matmul`: products of a few elements, and a matrix by a vector, are sums of products over views; integers are one reduction;
//! all else goes by panels.

use crate::{
    OpenCl,
    dot::dot,
    gemm::{self, Factor, Side},
};
use isograd_core::{Operand, OperandMut, Result, backend::composed};

/// Multiplications up to which packing is not worth it.
const SMALL: usize = 1 << 14;

pub(crate) fn matmul(
    ctx: &OpenCl,
    a: &Operand<'_, OpenCl>,
    b: &Operand<'_, OpenCl>,
    output: &mut OperandMut<'_, OpenCl>,
) -> Result<()> {
    #[cfg(feature = "clblast")]
    if crate::clblast::matmul(ctx, a, b, output)? {
        return Ok(());
    }
    if !a.dtype.is_float() || !output.layout.is_contiguous() {
        return composed::matmul(ctx, a, b, output);
    }
    let rank = output.layout.rank();
    let shape = output.layout.shape();
    let (m, n, k) = (shape[rank - 2], shape[rank - 1], a.layout.shape()[rank - 1]);
    let swapped: Vec<usize> = (0..rank - 2).chain([rank - 1, rank - 2]).collect();
    let by_term = a.layout.permute(&swapped);
    let batch = rank - 2;
    let left = Factor { operand: a.with_layout(&by_term), axes: [batch, 1, 1] };
    let right = Factor { operand: *b, axes: [batch, 1, 1] };
    let small = shape.size() * k <= SMALL || m == 1 || n == 1;
    if small || !gemm::can(ctx, a.dtype)? || !gemm::fits(&left) || !gemm::fits(&right) {
        // Both as [.., m, n, k].
        let (rows, columns) = (a.layout.insert_axis(rank - 1, n), b.layout.permute(&swapped).insert_axis(rank - 2, m));
        return dot(ctx, &a.with_layout(&rows), &b.with_layout(&columns), rank, output);
    }
    let (left, right) = (gemm::pack(ctx, Side::Left, &left, 0..k)?, gemm::pack(ctx, Side::Right, &right, 0..k)?);
    gemm::product(ctx, shape[..batch].iter().product(), [&left, &right], false, output)
}
