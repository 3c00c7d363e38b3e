//! The matrix product. f32 and f64 stand on [`crate::gemm`]; f16 and bf16 go by way of f32, rounded once; integers, and products
//! of a few elements, by plain loops; a matrix by a vector in one pass over the matrix. All in the order of [`DotProduct`].

use crate::{
    Cpu,
    gemm::{self, Pack, Right, Strided},
    lanes::{Simd, Work},
    math::{Real, Ring, Vector},
    memory::Buffer,
    threads::{self, Shared},
};
use bytemuck::Pod;
use isograd_core::{
    DType, Error, Layout, Operand, OperandMut, Result, Shape,
    backend::{DotProduct, composed, launch::Temporary},
};
use smallvec::SmallVec;
use std::ops::Range;

/// Products up to this many multiplications are not worth packing.
const TINY: usize = 512;

/// Multiplications of a piece of work that is handed to a thread.
const PIECE: usize = 1 << 20;

/// The elements of a buffer.
pub(crate) fn elements<T: Pod>(buffer: &Buffer) -> &[T] {
    let bytes = buffer.bytes();
    bytemuck::cast_slice(&bytes[..bytes.len() / size_of::<T>() * size_of::<T>()])
}

/// The elements of a buffer, to be written.
pub(crate) fn elements_mut<T: Pod>(buffer: &mut Buffer) -> &mut [T] {
    let bytes = buffer.bytes_mut();
    let whole = bytes.len() / size_of::<T>() * size_of::<T>();
    bytemuck::cast_slice_mut(&mut bytes[..whole])
}

/// Copies `from` to new memory in the dtype that is computed in, but elements that broadcasting repeats only once; with the
/// layout through which the copy looks like `from`.
pub(crate) fn widened(cpu: &Cpu, from: &Operand<'_, Cpu>) -> Result<(Temporary<Cpu>, Layout)> {
    let strides = from.layout.strides();
    let once =
        (0..from.layout.rank()).filter(|&a| strides[a] == 0).fold(from.layout.clone(), |l, a| l.slice(a, 0, 1, 1));
    let copy = composed::widened(cpu, &from.with_layout(&once))?;
    let layout = copy.layout().broadcast_to(from.shape()).expect("axes of size 1 broadcast");
    Ok((copy, layout))
}

/// Whether the operands are a product: what all that follows relies on, the unsafe code of it too.
fn fit(a: &Operand<'_, Cpu>, b: &Operand<'_, Cpu>, output: &OperandMut<'_, Cpu>) -> Result<()> {
    if let Some(dtype) = [b.dtype, output.dtype].into_iter().find(|d| *d != a.dtype) {
        return Err(Error::DTypeMismatch { op: "matmul", left: a.dtype, right: dtype, device: "cpu".into() });
    }
    let mismatch = |left: &Shape, right: &Shape, why: &str| {
        let why = format!("{why}: [.., m, k] by [.., k, n] is [.., m, n]");
        Err(Error::ShapeMismatch { op: "matmul", left: left.clone(), right: right.clone(), why, device: "cpu".into() })
    };
    let (x, y, z) = (a.shape(), b.shape(), output.shape());
    let rank = z.rank();
    if rank < 2 || x.rank() != rank || y.rank() != rank {
        return mismatch(x, y, "matrices and their result have the same number of axes, at least two");
    }
    let batch = ..rank - 2;
    if x[rank - 1] != y[rank - 2] || x[batch] != y[batch] {
        return mismatch(x, y, "operands do not fit");
    }
    if z[batch] != x[batch] || [z[rank - 2], z[rank - 1]] != [x[rank - 2], y[rank - 1]] {
        return mismatch(z, x, "the result does not fit");
    }
    let within = |layout: &Layout, buffer: &Buffer| layout.span().1 <= buffer.bytes().len() / a.dtype.size();
    if !within(a.layout, a.buffer) || !within(b.layout, b.buffer) || !within(output.layout, output.buffer) {
        return Err(Error::invalid("matmul", "a layout reaches beyond its buffer"));
    }
    Ok(())
}

pub(crate) fn matmul(
    cpu: &Cpu,
    a: &Operand<'_, Cpu>,
    b: &Operand<'_, Cpu>,
    output: &mut OperandMut<'_, Cpu>,
) -> Result<()> {
    fit(a, b, output)?;
    if output.layout.is_empty() {
        return Ok(());
    }
    if a.layout.is_empty() || !output.layout.is_contiguous() {
        return composed::matmul(cpu, a, b, output);
    }
    match output.dtype {
        DType::F32 => return real::<f32>(cpu, a, b, output),
        DType::F64 => return real::<f64>(cpu, a, b, output),
        DType::I32 => integer::<i32>(cpu, a, b, output),
        DType::I64 => integer::<i64>(cpu, a, b, output),
        DType::U8 => integer::<u8>(cpu, a, b, output),
        DType::I8 => integer::<i8>(cpu, a, b, output),
        DType::Bool => return composed::matmul(cpu, a, b, output),
        DType::F16 | DType::BF16 => {
            let ((a, a_layout), (b, b_layout)) = (widened(cpu, a)?, widened(cpu, b)?);
            return composed::rounded(cpu, output, |output| {
                real::<f32>(cpu, &a.through(&a_layout), &b.through(&b_layout), output)
            });
        }
    }
    Ok(())
}

/// Products of one size: where the matrices of each begin.
struct Products {
    m: usize,
    k: usize,
    n: usize,
    a: [isize; 2],
    b: [isize; 2],
    /// First elements of a and b, product by product; the results follow one another.
    starts: SmallVec<[(usize, usize); 1]>,
    /// The first element of the first result.
    output: usize,
}

impl Products {
    fn new(a: &Layout, b: &Layout, output: &Layout) -> Products {
        let rank = output.rank();
        let (mut m, n, k) = (output.shape()[rank - 2], output.shape()[rank - 1], a.shape()[rank - 1]);
        let (mut a_strides, b_strides) = ([a.strides()[rank - 2], a.strides()[rank - 1]], b.strides());
        let mut starts = SmallVec::new();
        // With one right matrix for the whole batch, all rows of the left ones are the rows of one product.
        let batch: usize = output.shape()[..rank - 2].iter().product();
        if let Some(stride) = (batch > 1).then(|| one_axis(a, rank - 1)).flatten()
            && (0..rank - 2).all(|axis| b_strides[axis] == 0 || b.shape()[axis] == 1)
        {
            (m, a_strides[0]) = (m * batch, stride);
            starts.push((a.offset(), b.offset()));
        } else {
            // The offset of the whole is one of the part: axes left out only add to how far back strides may reach.
            let head = |l: &Layout| Layout::new(&l.shape()[..rank - 2], &l.strides()[..rank - 2], l.offset());
            starts.extend(head(a).positions().zip(head(b).positions()));
        }
        let b = [b_strides[rank - 2], b_strides[rank - 1]];
        Products { m, k, n, a: a_strides, b, starts, output: output.offset() }
    }
}

/// The stride of the first `axes` axes taken as one, if they can be.
fn one_axis(layout: &Layout, axes: usize) -> Option<isize> {
    let mut expected: Option<(isize, isize)> = None;
    for axis in (0..axes).rev() {
        let (size, stride) = (layout.shape()[axis], layout.strides()[axis]);
        if size == 1 {
            continue;
        }
        expected = match expected {
            None => Some((stride, stride * size as isize)),
            Some((unit, next)) if next == stride => Some((unit, stride * size as isize)),
            Some(_) => return None,
        };
    }
    Some(expected.map_or(1, |(unit, _)| unit))
}

/// Products of numbers in memory, their results one after another from `z` on.
struct InMemory<'a, T> {
    p: &'a Products,
    x: &'a [T],
    z: Shared<T>,
    pack: &'a Pack<'a, T>,
}

// SAFETY: the results are contiguous and follow one another in memory that is borrowed for them alone.
unsafe impl<T: Real> gemm::Products<T> for InMemory<'_, T> {
    fn count(&self) -> usize {
        self.p.starts.len()
    }
    fn size(&self) -> [usize; 3] {
        [self.p.m, self.p.k, self.p.n]
    }
    fn left(&self, i: usize, terms: Range<usize>, rows: Range<usize>, out: &mut [T]) {
        let height = rows.len();
        Strided { data: self.x, start: self.p.starts[i].0, lane: self.p.a[0], term: self.p.a[1] }
            .pack(terms, rows, height, out);
    }
    fn right(&self) -> Right<'_, T> {
        Right::Packed(self.pack)
    }
    fn columns(&self, i: usize, columns: Range<usize>, run: &mut dyn FnMut(usize, usize, *mut T)) {
        run(columns.start, columns.len(), self.z.at(i * self.p.m * self.p.n + columns.start));
    }
    fn row_stride(&self) -> usize {
        self.p.n
    }
}

/// What a BLAS library needs, if there is one.
#[cfg(feature = "blas")]
trait Float: Real + crate::blas::Blas {}
#[cfg(feature = "blas")]
impl<T: Real + crate::blas::Blas> Float for T {}
#[cfg(not(feature = "blas"))]
trait Float: Real {}
#[cfg(not(feature = "blas"))]
impl<T: Real> Float for T {}

fn real<T: Float>(
    cpu: &Cpu,
    a: &Operand<'_, Cpu>,
    b: &Operand<'_, Cpu>,
    output: &mut OperandMut<'_, Cpu>,
) -> Result<()> {
    let p = Products::new(a.layout, b.layout, output.layout);
    let (x, y) = (elements::<T>(a.buffer), elements::<T>(b.buffer));
    let z = elements_mut::<T>(output.buffer);
    // With `fit`, what the unsafe code below relies on.
    assert!(a.layout.span().1 <= x.len() && b.layout.span().1 <= y.len() && output.layout.span().1 <= z.len());
    let z = &mut z[p.output..p.output + p.starts.len() * p.m * p.n];
    if p.m * p.k * p.n <= TINY || p.m == 1 || p.n == 1 {
        by_loops(cpu, &p, x, y, z);
        return Ok(());
    }
    #[cfg(feature = "blas")]
    {
        use crate::blas::Strided;
        // From one thread, whole products: the library has threads of its own.
        let all = p.starts.iter().zip(z.chunks_mut(p.m * p.n)).all(|(&(a, b), z)| {
            let a = Strided { at: x.as_ptr().wrapping_add(a), row: p.a[0], column: p.a[1] };
            let b = Strided { at: y.as_ptr().wrapping_add(b), row: p.b[0], column: p.b[1] };
            let c = Strided { at: z.as_mut_ptr(), row: p.n as isize, column: 1 };
            // SAFETY: the operands' shapes are those of a product, their layouts lie within their buffers, checked above, and `z` is
            // the result's part alone.
            unsafe { T::product([p.m, p.k, p.n], a, b, c) }
        });
        if all {
            return Ok(());
        }
    }
    let pack = |i: usize, terms, columns, width, out: &mut [T]| {
        Strided { data: y, start: p.starts[i].1, lane: p.b[1], term: p.b[0] }.pack(terms, columns, width, out);
    };
    gemm::products(cpu, &InMemory { p: &p, x, z: Shared::new(z), pack: &pack })
}

/// Plain loops: products of a few elements, of integers, and of a matrix by a vector.
fn by_loops<T: Ring>(cpu: &Cpu, p: &Products, x: &[T], y: &[T], z: &mut [T]) {
    let vector = p.m == 1 || p.n == 1;
    // Pieces are some whole products, or some rows of one; of a product with one row, some columns.
    let each = if p.m == 1 { p.k } else { p.k * p.n };
    let of_one = p.m * p.n;
    let piece = PIECE / 8;
    let at_once = if each * of_one.max(1) <= piece || p.m * p.k * p.n <= piece {
        (piece / (p.m * p.k * p.n)).max(1) * of_one
    } else if vector {
        (piece / p.k).max(1024).min(of_one)
    } else {
        (piece / each).clamp(1, p.m) * p.n
    };
    let run = |mut first: usize, mut rest: &mut [T]| {
        while !rest.is_empty() {
            let (product, from) = (first / of_one, first % of_one);
            let count = (of_one - from).min(rest.len());
            let (z, later) = rest.split_at_mut(count);
            Simd::get().run(Loops { p, x, y, start: p.starts[product], from, z });
            (first, rest) = (first + count, later);
        }
    };
    if at_once >= z.len() {
        return run(0, z);
    }
    let mut parts: Vec<(usize, &mut [T])> = Vec::with_capacity(z.len().div_ceil(at_once));
    if at_once >= of_one {
        parts.extend(z.chunks_mut(at_once).enumerate().map(|(i, part)| (i * at_once, part)));
    } else {
        for (i, result) in z.chunks_mut(of_one).enumerate() {
            parts.extend(result.chunks_mut(at_once).enumerate().map(|(j, part)| (i * of_one + j * at_once, part)));
        }
    }
    threads::each(cpu.threads(), &mut parts, &|(first, part)| run(*first, part));
}

/// Elements `from..` of one product; whole rows unless the product is by a vector.
struct Loops<'a, T> {
    p: &'a Products,
    x: &'a [T],
    y: &'a [T],
    start: (usize, usize),
    from: usize,
    z: &'a mut [T],
}

#[inline(always)]
fn place(start: usize, i: usize, stride: isize) -> usize {
    (start as isize + i as isize * stride) as usize
}

impl<T: Ring> Work for Loops<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<M: Vector>(self) {
        let Loops { p, x, y, start: (a, b), from, z } = self;
        if p.n == 1 {
            return rows_by_vector(x, place(a, from, p.a[0]), p.a, y, b, p.b[0], p.k, z);
        }
        if p.m == 1 {
            let b = place(b, from, p.b[1]);
            return rows_by_vector(y, b, [p.b[1], p.b[0]], x, a, p.a[1], p.k, z);
        }
        for (i, z) in z.chunks_mut(p.n).enumerate() {
            let a = place(a, from / p.n + i, p.a[0]);
            let row = |q: usize| (x[place(a, q, p.a[1])], place(b, q, p.b[0]));
            row_by_matrix(p.k, row, y, p.b[1], z);
        }
    }
}

/// `z[j] = Σ_q v * matrix[start + j * stride]`, where `row(q)` is `v` and `start`.
#[inline(always)]
fn row_by_matrix<T: Ring>(k: usize, row: impl Fn(usize) -> (T, usize), matrix: &[T], stride: isize, z: &mut [T]) {
    z.fill(T::ZERO);
    let mut chain: SmallVec<[T; 64]> = SmallVec::new();
    for first in (0..k).step_by(DotProduct::CHUNK) {
        chain.clear();
        chain.resize(z.len(), T::ZERO);
        for q in first..k.min(first + DotProduct::CHUNK) {
            let (v, start) = row(q);
            if stride == 1 {
                chain.iter_mut().zip(&matrix[start..start + z.len()]).for_each(|(c, &w)| *c = v.mul_add(w, *c));
            } else {
                let places = (0..z.len()).map(|j| place(start, j, stride));
                chain.iter_mut().zip(places).for_each(|(c, at)| *c = v.mul_add(matrix[at], *c));
            }
        }
        z.iter_mut().zip(&chain).for_each(|(z, &c)| *z = z.add(c));
    }
}

/// Rows that are multiplied side by side, so that their chains overlap in time.
const SIDE_BY_SIDE: usize = 8;

/// `z[i] = Σ_q matrix[i, q] * vector[q]`.
#[inline(always)]
#[allow(clippy::too_many_arguments)]
fn rows_by_vector<T: Ring>(
    matrix: &[T],
    start: usize,
    strides: [isize; 2],
    vector: &[T],
    vector_start: usize,
    vector_stride: isize,
    k: usize,
    z: &mut [T],
) {
    let at = |q: usize| vector[place(vector_start, q, vector_stride)];
    if strides[1] != 1 && strides[0] == 1 {
        return row_by_matrix(k, |q| (at(q), place(start, q, strides[1])), matrix, 1, z);
    }
    let copy: SmallVec<[T; 64]>;
    let vector = if vector_stride == 1 {
        &vector[vector_start..vector_start + k]
    } else {
        copy = (0..k).map(at).collect();
        &copy
    };
    if strides[1] != 1 {
        for (i, z) in z.iter_mut().enumerate() {
            let row = place(start, i, strides[0]);
            *z = T::ZERO;
            for (first, chunk) in (0..).step_by(DotProduct::CHUNK).zip(vector.chunks(DotProduct::CHUNK)) {
                let terms = (first..).zip(chunk);
                *z = z.add(terms.fold(T::ZERO, |sum, (q, &v)| matrix[place(row, q, strides[1])].mul_add(v, sum)));
            }
        }
        return;
    }
    let row = |i: usize| &matrix[place(start, i, strides[0])..][..k];
    let (many, _) = z.as_chunks_mut::<SIDE_BY_SIDE>();
    let done = many.len() * SIDE_BY_SIDE;
    for (i, z) in many.iter_mut().enumerate() {
        let rows: [&[T]; SIDE_BY_SIDE] = std::array::from_fn(|r| row(i * SIDE_BY_SIDE + r));
        *z = [T::ZERO; SIDE_BY_SIDE];
        for (first, chunk) in (0..).step_by(DotProduct::CHUNK).zip(vector.chunks(DotProduct::CHUNK)) {
            let parts = rows.map(|row| &row[first..first + chunk.len()]);
            let sums = chains(parts, [chunk; SIDE_BY_SIDE]);
            (0..SIDE_BY_SIDE).for_each(|r| z[r] = z[r].add(sums[r]));
        }
    }
    // Of the rows that are left, chunks side by side.
    for (i, z) in z[done..].iter_mut().enumerate() {
        let row = row(done + i);
        *z = T::ZERO;
        const WIDE: usize = SIDE_BY_SIDE * DotProduct::CHUNK;
        for (row, vector) in row.chunks(WIDE).zip(vector.chunks(WIDE)) {
            if row.len() == WIDE {
                let chunk = |c: usize| c * DotProduct::CHUNK..(c + 1) * DotProduct::CHUNK;
                let (rows, vectors) =
                    (std::array::from_fn(|c| &row[chunk(c)]), std::array::from_fn(|c| &vector[chunk(c)]));
                let sums: [T; SIDE_BY_SIDE] = chains(rows, vectors);
                sums.into_iter().for_each(|sum| *z = z.add(sum));
                continue;
            }
            for (row, vector) in row.chunks(DotProduct::CHUNK).zip(vector.chunks(DotProduct::CHUNK)) {
                let [sum] = chains([row], [vector]);
                *z = z.add(sum);
            }
        }
    }
}

/// A chain of products of each pair of slices, all of one length.
#[inline(always)]
fn chains<T: Ring, const N: usize>(x: [&[T]; N], y: [&[T]; N]) -> [T; N] {
    let n = x[0].len();
    let (x, y) = (x.map(|x| &x[..n]), y.map(|y| &y[..n]));
    let mut sums = [T::ZERO; N];
    for q in 0..n {
        for i in 0..N {
            sums[i] = x[i][q].mul_add(y[i][q], sums[i]);
        }
    }
    sums
}

/// Wrapping sums of products. A right matrix whose rows are strided is copied first when it is read more than a few times.
fn integer<T: Ring>(cpu: &Cpu, a: &Operand<'_, Cpu>, b: &Operand<'_, Cpu>, output: &mut OperandMut<'_, Cpu>) {
    let mut p = Products::new(a.layout, b.layout, output.layout);
    let (x, mut y) = (elements::<T>(a.buffer), elements::<T>(b.buffer));
    let z = &mut elements_mut::<T>(output.buffer)[p.output..p.output + p.starts.len() * p.m * p.n];
    let mut copies = Vec::new();
    if p.b[1] != 1 && p.m > 4 && p.n > 1 {
        for (i, start) in p.starts.iter_mut().enumerate() {
            let first = start.1;
            start.1 = i * p.k * p.n;
            let row = |q: usize| place(first, q, p.b[0]);
            copies
                .extend((0..p.k).flat_map(|q| (0..p.n).map(move |j| (q, j))).map(|(q, j)| y[place(row(q), j, p.b[1])]));
        }
        p.b = [p.n as isize, 1];
        y = &copies;
    }
    by_loops(cpu, &p, x, y, z);
}
