//! The matrix product, and one that ends in an elementwise function, by the kernels of `gemm`; by cuBLAS where it is present and
//! the context is fast.

use crate::{
    Cuda,
    context::Words,
    cublas::{self, Matrices, Product},
    cublas_lt,
    gemm::{self, Ending, Problem, Sizes},
    operand::{address, fits_32_bits},
};
use isograd_core::{
    DType, Expr, Layout, Operand, OperandMut, Result,
    backend::{composed, replay},
    expr::Kernel,
    layout::merge_axes,
};
use smallvec::SmallVec;

/// See [`isograd_core::Backend::matmul`].
pub(crate) fn matmul(
    cuda: &Cuda,
    a: &Operand<'_, Cuda>,
    b: &Operand<'_, Cuda>,
    output: &mut OperandMut<'_, Cuda>,
) -> Result<()> {
    match product(cuda, a, b, None, output)? {
        true => Ok(()),
        false => composed::matmul(cuda, a, b, output),
    }
}

/// See [`isograd_core::Backend::matmul_fused`].
pub(crate) fn matmul_fused(
    cuda: &Cuda,
    kernel: &Kernel<'_>,
    a: &Operand<'_, Cuda>,
    b: &Operand<'_, Cuda>,
    inputs: &[Operand<'_, Cuda>],
    output: &mut OperandMut<'_, Cuda>,
) -> Result<()> {
    // The kernel of a product has its scalars at hand only.
    if replay::are_changing(kernel.scalars) {
        return composed::matmul_fused(cuda, kernel, a, b, inputs, output);
    }
    match product(cuda, a, b, Some((kernel, inputs)), output)? {
        true => Ok(()),
        false => composed::matmul_fused(cuda, kernel, a, b, inputs, output),
    }
}

/// Whether a program only adds its second input to its first.
fn adds(kernel: &Kernel<'_>, dtype: DType) -> bool {
    kernel.program.roots() == [Expr::input(0, dtype) + Expr::input(1, dtype)]
}

/// The product, with what it ends in; false where that is better, or can only be, composed of others.
fn product(
    cuda: &Cuda,
    a: &Operand<'_, Cuda>,
    b: &Operand<'_, Cuda>,
    ending: Option<(&Kernel<'_>, &[Operand<'_, Cuda>])>,
    output: &mut OperandMut<'_, Cuda>,
) -> Result<bool> {
    let rank = output.layout.rank();
    if a.dtype == DType::Bool || output.dtype != a.dtype || !output.layout.is_contiguous() {
        return Ok(false);
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
    let others = ending.map_or(&[][..], |(_, inputs)| inputs);
    let mut batches: SmallVec<[Layout; 4]> = [a, b].into_iter().chain(others).map(|o| batch(o.layout)).collect();
    merge_axes(&mut batches, rank - 2);
    let (sa, sb) = (&a.layout.strides()[rank - 2..], &b.layout.strides()[rank - 2..]);
    let merged = batches[0].rank();
    if cuda.is_fast() && merged <= 1 {
        let batch = |l: &Layout| l.strides().first().copied().unwrap_or(0);
        let matrices = |o: &Operand<'_, Cuda>, s: &[isize], l: &Layout| Matrices {
            address: address(o),
            strides: [s[0], s[1], batch(l)],
        };
        let (left, right) = (matrices(a, sa, &batches[0]), matrices(b, sb, &batches[1]));
        if let Some(product) = Product::of(cuda, output.dtype, sizes, left, right) {
            let out = address(&output.as_operand());
            match ending {
                None if cublas::matmul(cuda, &product, out)? => return Ok(true),
                Some((kernel, [bias]))
                    if bias.layout.strides()[rank - 2..] == [0, 1]
                        && adds(kernel, output.dtype)
                        && cublas_lt::matmul_bias(cuda, &product, address(bias), out)? =>
                {
                    return Ok(true);
                }
                // Its product and a map are faster than our kernel.
                Some(_) if cublas::is_there(cuda) => return Ok(false),
                _ => {}
            }
        }
    }
    let words = |l: &Layout| -> Words {
        match l.rank() {
            0 => Words::from_slice(&[0]),
            _ => l.strides().iter().map(|s| *s as u64).collect(),
        }
    };
    let mut own: Words = [sa[0], sa[1], sb[0], sb[1]].iter().map(|s| *s as u64).collect();
    match merged {
        0 => own.push(1),
        _ => own.extend(batches[0].shape().iter().map(|s| *s as u64)),
    }
    own.extend(batches[..2].iter().flat_map(words));
    // Neighbouring threads read along the shorter distance.
    let along = [sa[1].abs() < sa[0].abs() || sizes.rows == 1, sb[0].abs() < sb[1].abs() || sizes.columns == 1];
    let span = |fast: usize, slow: usize, s: &[isize]| {
        (slow - 1).saturating_mul(s[0].unsigned_abs()).saturating_add((fast - 1).saturating_mul(s[1].unsigned_abs()))
    };
    let Sizes { rows, columns, depth, .. } = sizes;
    let spans = [span(depth, rows, sa), span(columns, depth, sb), rows.saturating_mul(columns)];
    let wide = !spans.into_iter().chain([rows, columns, depth]).all(fits_32_bits);
    let ending = ending.map(|(kernel, inputs)| Ending {
        kernel,
        strides: batches[2..]
            .iter()
            .zip(inputs)
            .map(|(l, o)| {
                words(l).into_iter().chain(o.layout.strides()[rank - 2..].iter().map(|s| *s as u64)).collect()
            })
            .collect(),
        addresses: inputs.iter().map(address).collect(),
    });
    let product = gemm::Product {
        problem: Problem::MatMul { rank: merged.max(1) },
        sizes,
        wide,
        along,
        // Also where neighbouring threads, of neighbouring columns or rows, read neighbours of the larger matrix.
        narrow: rows.saturating_mul(columns) < 256 || (rows < 4 && !along[1]) || (columns < 4 && !along[0]),
        own: &own,
        operands: [address(a), address(b)],
    };
    gemm::run(cuda, &product, ending.as_ref(), output)
}

#[cfg(test)]
mod tests {
    use super::*;
    use isograd_core::expr::Program;

    #[test]
    fn a_sum_is_told_from_other_endings() {
        let (x, y) = (Expr::input(0, DType::F32), Expr::input(1, DType::F32));
        for (root, expected) in [(&y + &x, true), ((&x + &y).relu(), false), (&x - &y, false), (&x + &x, false)] {
            let program = Program::new("ending", &[root], &[DType::F32; 2], &[]).unwrap();
            assert_eq!(adds(&Kernel::new(&program, &[]), DType::F32), expected);
        }
    }
}
