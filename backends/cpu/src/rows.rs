//! Kernels of whole rows, the last axis of a contiguous array: softmax, normalization, running sums. Each reads a row from
//! memory once, works on it in cache, in f32 for f16 and bf16, and rounds once when it is written.

use crate::{
    Cpu,
    elementwise::pieces,
    lanes::{Simd, Work},
    math::{Real, Ring, Vector},
    matmul::{elements, elements_mut},
    threads,
};
use bytemuck::Pod;
use half::{bf16, f16, slice::HalfFloatSliceExt};
use isograd_core::{
    DType, Operand, OperandMut, ReduceOp, Result,
    backend::{
        Reducer, composed,
        launch::{self, Temporary},
    },
};

/// Elements of the rows that a thread is given at once.
const PIECE: usize = 1 << 14;

/// An element in memory, and the type that it is computed in.
pub(crate) trait Stored: Pod + Send + Sync {
    type Computed: Pod + Send + Sync + Default;
    fn load(from: &[Self], to: &mut [Self::Computed]);
    fn store(from: &[Self::Computed], to: &mut [Self]);
}

macro_rules! stored {
    ($($same:ty)*; $($half:ty)*) => {
        $(impl Stored for $same {
            type Computed = $same;
            fn load(from: &[$same], to: &mut [$same]) {
                to.copy_from_slice(from);
            }
            fn store(from: &[$same], to: &mut [$same]) {
                to.copy_from_slice(from);
            }
        })*
        $(impl Stored for $half {
            type Computed = f32;
            fn load(from: &[$half], to: &mut [f32]) {
                from.convert_to_f32_slice(to);
            }
            fn store(from: &[f32], to: &mut [$half]) {
                to.convert_from_f32_slice(from);
            }
        })*
    };
}
stored!(f32 f64 i32 i64 u8 i8; f16 bf16);

/// A kernel of one row, compiled per instruction set.
trait Row<T: Stored>: Sync {
    /// What a row gives beside its elements.
    type Extra: Send + Copy + Default;
    /// Works on a row in place.
    fn row<M: Vector>(&self, row: &mut [T::Computed]) -> Self::Extra;
}

struct Part<'a, K, T: Stored, E> {
    kernel: &'a K,
    from: &'a [T],
    to: &'a mut [T],
    extra: &'a mut [E],
    n: usize,
}

impl<T: Stored, K: Row<T>> Work for Part<'_, K, T, K::Extra> {
    type Output = ();
    #[inline(always)]
    fn run<M: Vector>(self) {
        let mut row = vec![T::Computed::default(); self.n];
        for ((from, to), extra) in self.from.chunks(self.n).zip(self.to.chunks_mut(self.n)).zip(self.extra) {
            T::load(from, &mut row);
            *extra = self.kernel.row::<M>(&mut row);
            T::store(&row, to);
        }
    }
}

/// Runs `kernel` on each row of `n` elements of `from`.
fn each_row<T: Stored, K: Row<T>>(cpu: &Cpu, kernel: &K, n: usize, from: &[T], to: &mut [T]) -> Vec<K::Extra> {
    let rows = from.len() / n;
    let at_once = (PIECE / n).max(1);
    let mut extra = vec![K::Extra::default(); rows];
    let mut parts: Vec<_> = pieces(rows, at_once)
        .into_iter()
        .zip(to.chunks_mut(at_once * n))
        .zip(extra.chunks_mut(at_once))
        .map(|((range, to), extra)| (range, to, extra))
        .collect();
    threads::each(cpu.threads(), &mut parts, &|(range, to, extra)| {
        Simd::get().run(Part { kernel, from: &from[range.start * n..range.end * n], to, extra, n });
    });
    extra
}

/// `operand` itself where it is contiguous, or a copy that is.
pub(crate) fn contiguous(cpu: &Cpu, operand: &Operand<'_, Cpu>) -> Result<Option<Temporary<Cpu>>> {
    if operand.layout.is_contiguous() {
        return Ok(None);
    }
    let mut copy = Temporary::new(cpu, operand.dtype, operand.shape().clone())?;
    launch::copy(cpu, operand, &mut copy.operand_mut())?;
    Ok(Some(copy))
}

/// The elements of a contiguous operand.
pub(crate) fn slice<'a, T: Pod>(operand: &Operand<'a, Cpu>) -> &'a [T] {
    let start = operand.layout.offset();
    &elements::<T>(operand.buffer)[start..start + operand.layout.size()]
}

/// The elements of a contiguous output.
pub(crate) fn slice_mut<'a, T: Pod>(operand: &'a mut OperandMut<'_, Cpu>) -> &'a mut [T] {
    let start = operand.layout.offset();
    &mut elements_mut::<T>(operand.buffer)[start..start + operand.layout.size()]
}

/// All of `row` folded by `f`, in partial results side by side.
#[inline(always)]
fn fold<T: Copy>(row: &[T], identity: T, take: impl Fn(T, T) -> T, join: impl Fn(T, T) -> T) -> T {
    let mut partial = [identity; Reducer::PARTIALS];
    let (chunks, rest) = row.as_chunks::<{ Reducer::PARTIALS }>();
    for chunk in chunks {
        for (p, &v) in partial.iter_mut().zip(chunk) {
            *p = take(*p, v);
        }
    }
    for (p, &v) in partial.iter_mut().zip(rest) {
        *p = take(*p, v);
    }
    let mut width = Reducer::PARTIALS / 2;
    while width > 0 {
        for i in 0..width {
            partial[i] = join(partial[i], partial[i + width]);
        }
        width /= 2;
    }
    partial[0]
}

/// The sum of `f` over a row, in the order of [`Reducer`].
#[inline(always)]
fn sum<T: Real>(row: &[T], f: impl Fn(T) -> T + Copy) -> T {
    let block = |block: &[T]| fold(block, T::ZERO, |s, v| s.add(f(v)), |a, b| a.add(b));
    if row.len() <= Reducer::BLOCK {
        return block(row);
    }
    let mut sums: Vec<T> = row.chunks(Reducer::BLOCK).map(block).collect();
    while sums.len() > 1 {
        let add = |a: T, b: T| a.add(b);
        sums = sums.chunks(Reducer::BLOCK).map(|block| fold(block, T::ZERO, add, add)).collect();
    }
    sums[0]
}

struct Softmax {
    logarithm: bool,
}

impl<T: Stored<Computed: Real>> Row<T> for Softmax {
    type Extra = ();
    #[inline(always)]
    fn row<M: Vector>(&self, row: &mut [T::Computed]) {
        let larger = |a: T::Computed, b: T::Computed| if a > b { a } else { b };
        // A NaN may be passed over here, but not by the sum.
        let largest = fold(row, Real::LEAST, larger, larger);
        if self.logarithm {
            let total = sum(row, |v| v.sub(largest).exp()).log();
            row.iter_mut().for_each(|v| *v = v.sub(largest).sub(total));
            return;
        }
        row.iter_mut().for_each(|v| *v = v.sub(largest).exp());
        let total = sum(row, |v| v);
        row.iter_mut().for_each(|v| *v = v.div(total));
    }
}

/// See [`isograd_core::Backend::softmax`].
pub(crate) fn softmax(
    cpu: &Cpu,
    logarithm: bool,
    input: &Operand<'_, Cpu>,
    output: &mut OperandMut<'_, Cpu>,
) -> Result<()> {
    if output.layout.is_empty() {
        return Ok(());
    }
    if !output.layout.is_contiguous() || !input.dtype.is_float() {
        return composed::softmax(cpu, logarithm, input, output);
    }
    let n = input.shape()[input.shape().rank() - 1];
    let copy = contiguous(cpu, input)?;
    let input = copy.as_ref().map_or(*input, Temporary::operand);
    let kernel = Softmax { logarithm };
    macro_rules! run {
        ($type:ty) => {
            drop(each_row::<$type, _>(cpu, &kernel, n, slice(&input), slice_mut(output)))
        };
    }
    match input.dtype {
        DType::F32 => run!(f32),
        DType::F64 => run!(f64),
        DType::F16 => run!(f16),
        _ => run!(bf16),
    }
    Ok(())
}

struct Normalize {
    epsilon: f64,
}

impl<T: Stored<Computed: Real>> Row<T> for Normalize {
    type Extra = (T::Computed, T::Computed);
    #[inline(always)]
    fn row<M: Vector>(&self, row: &mut [T::Computed]) -> Self::Extra {
        let each = T::Computed::of(1.0 / row.len() as f64);
        let mean = sum(row, |v| v).times(each);
        let squares = sum(row, |v| v.sub(mean).times(v.sub(mean)));
        let rstd = squares.times(each).add(T::Computed::of(self.epsilon)).rsqrt();
        row.iter_mut().for_each(|v| *v = v.sub(mean).times(rstd));
        (mean, rstd)
    }
}

/// See [`isograd_core::Backend::normalize`].
pub(crate) fn normalize(
    cpu: &Cpu,
    epsilon: f64,
    input: &Operand<'_, Cpu>,
    output: &mut OperandMut<'_, Cpu>,
    mean: &mut OperandMut<'_, Cpu>,
    rstd: &mut OperandMut<'_, Cpu>,
) -> Result<()> {
    if output.layout.is_empty() {
        return Ok(());
    }
    let all = output.layout.is_contiguous() && mean.layout.is_contiguous() && rstd.layout.is_contiguous();
    if !all || !input.dtype.is_float() {
        return composed::normalize(cpu, epsilon, input, output, mean, rstd);
    }
    let n = input.shape()[input.shape().rank() - 1];
    let copy = contiguous(cpu, input)?;
    let input = copy.as_ref().map_or(*input, Temporary::operand);
    let kernel = Normalize { epsilon };
    macro_rules! run {
        ($type:ty) => {{
            let extra = each_row::<$type, _>(cpu, &kernel, n, slice(&input), slice_mut(output));
            slice_mut(mean).iter_mut().zip(&extra).for_each(|(to, &(mean, _))| *to = mean);
            slice_mut(rstd).iter_mut().zip(&extra).for_each(|(to, &(_, rstd))| *to = rstd);
        }};
    }
    match input.dtype {
        DType::F32 => run!(f32),
        DType::F64 => run!(f64),
        DType::F16 => run!(f16),
        _ => run!(bf16),
    }
    Ok(())
}

struct Scan {
    op: ReduceOp,
}

impl<T: Stored<Computed: Ring>> Row<T> for Scan {
    type Extra = ();
    #[inline(always)]
    fn row<M: Vector>(&self, row: &mut [T::Computed]) {
        if self.op == ReduceOp::Prod {
            running(row, |a, b| a.times(b));
        } else {
            running(row, |a, b| a.add(b));
        }
    }
}

#[inline(always)]
fn running<T: Copy>(row: &mut [T], join: impl Fn(T, T) -> T) {
    let mut before: Option<T> = None;
    for run in row.chunks_mut(composed::SCANNED) {
        let mut so_far = run[0];
        for v in &mut run[1..] {
            so_far = join(so_far, *v);
            *v = so_far;
        }
        if let Some(before) = before {
            run.iter_mut().for_each(|v| *v = join(before, *v));
        }
        before = run.last().copied();
    }
}

/// See [`isograd_core::Backend::scan`].
pub(crate) fn scan(cpu: &Cpu, op: ReduceOp, input: &Operand<'_, Cpu>, output: &mut OperandMut<'_, Cpu>) -> Result<()> {
    if output.layout.is_empty() {
        return Ok(());
    }
    if !output.layout.is_contiguous() || !matches!(op, ReduceOp::Sum | ReduceOp::Prod) {
        return composed::scan(cpu, op, input, output);
    }
    let n = input.shape()[input.shape().rank() - 1];
    let copy = contiguous(cpu, input)?;
    let input = copy.as_ref().map_or(*input, Temporary::operand);
    let kernel = Scan { op };
    macro_rules! run {
        ($type:ty) => {
            drop(each_row::<$type, _>(cpu, &kernel, n, slice(&input), slice_mut(output)))
        };
    }
    match input.dtype {
        DType::F32 => run!(f32),
        DType::F64 => run!(f64),
        DType::F16 => run!(f16),
        DType::BF16 => run!(bf16),
        DType::I32 => run!(i32),
        DType::I64 => run!(i64),
        DType::U8 => run!(u8),
        DType::I8 => run!(i8),
        DType::Bool => return composed::scan(cpu, op, &input, output),
    }
    Ok(())
}
