//! The matrix product: cuBLAS where it is present, else the kernels of `gemm`.

use crate::{
    Cuda,
    context::Words,
    cublas::{self, Matrices},
    gemm::{self, Problem, Sizes},
    operand::{address, fits_32_bits},
};
use isograd_core::{DType, Layout, Operand, OperandMut, Result, backend::composed, layout::merge_axes};

/// See [`isograd_core::Backend::matmul`].
pub(crate) fn matmul(
    cuda: &Cuda,
    a: &Operand<'_, Cuda>,
    b: &Operand<'_, Cuda>,
    output: &mut OperandMut<'_, Cuda>,
) -> Result<()> {
    let rank = output.layout.rank();
    if output.dtype == DType::Bool || !output.layout.is_contiguous() {
        return composed::matmul(cuda, a, b, output);
    }
    let sizes = Sizes {
        rows: output.shape()[rank - 2],
        columns: output.shape()[rank - 1],
        depth: a.shape()[rank - 1],
        batches: output.shape()[..rank - 2].iter().product(),
    };
    // Only strides matter; from here, negative ones stay within the numbers.
    let middle = usize::MAX / 4;
    let batch = |o: &Layout| Layout::new(&o.shape()[..rank - 2], &o.strides()[..rank - 2], middle);
    let mut batches = [batch(a.layout), batch(b.layout)];
    merge_axes(&mut batches, rank - 2);
    let (sa, sb) = (&a.layout.strides()[rank - 2..], &b.layout.strides()[rank - 2..]);
    let mut own: Words = [sa[0], sa[1], sb[0], sb[1]].iter().map(|s| *s as u64).collect();
    let merged = batches[0].rank();
    if merged <= 1 {
        let batch = |l: &Layout| l.strides().first().copied().unwrap_or(0);
        let matrices = |o: &Operand<'_, Cuda>, s: &[isize], l: &Layout| Matrices {
            address: address(o),
            strides: [s[0], s[1], batch(l)],
        };
        let (left, right) = (matrices(a, sa, &batches[0]), matrices(b, sb, &batches[1]));
        if cublas::matmul(cuda, output.dtype, sizes, left, right, address(&output.as_operand()))? {
            return Ok(());
        }
    }
    if merged == 0 {
        own.extend([1, 0, 0]);
    } else {
        own.extend(batches[0].shape().iter().map(|s| *s as u64));
        own.extend(batches.iter().flat_map(|l| l.strides().iter().map(|s| *s as u64)));
    }
    // Neighbouring threads read along the shorter distance.
    let along = [sa[1].abs() < sa[0].abs() || sizes.rows == 1, sb[0].abs() < sb[1].abs() || sizes.columns == 1];
    let span = |fast: usize, slow: usize, s: &[isize]| {
        (slow - 1).saturating_mul(s[0].unsigned_abs()).saturating_add((fast - 1).saturating_mul(s[1].unsigned_abs()))
    };
    let Sizes { rows, columns, depth, .. } = sizes;
    let spans = [span(depth, rows, sa), span(columns, depth, sb), rows.saturating_mul(columns)];
    let wide = !spans.into_iter().all(fits_32_bits);
    let problem = Problem::MatMul { rank: merged.max(1), wide };
    gemm::run(cuda, problem, sizes, along, &own, [address(a), address(b)], output)
}
