//! The matrix product. f32 and f64 go to the library beneath, cut into blocks of the result; f16 and bf16 by way of f32,
//! rounded once; integers, and products of a few elements, by plain loops; a matrix by a vector in one pass over the
//! matrix.

use crate::{
    Cpu,
    gemm::{Gemm, OWN_THREADS, Strided},
    lanes::{Simd, Work},
    math::{Ring, Vector},
    memory::Buffer,
    threads::{self, Shared},
};
use bytemuck::Pod;
use isograd_core::{
    DType, Error, Layout, Operand, OperandMut, Result, Shape,
    backend::{
        composed,
        launch::{self, Temporary},
    },
    expr::{Expr, PerDType},
};
use smallvec::SmallVec;

/// Products up to this many multiplications are not worth packing.
const TINY: usize = 512;

/// Multiplications of a piece of work that is handed to a thread.
const PIECE: usize = 1 << 20;

/// Rows and columns of the blocks that a large result is cut into.
const BLOCK: [usize; 2] = [512, 512];

static WIDEN: PerDType = PerDType::new("widen", |d| (vec![Expr::input(0, d).cast(d.compute())], vec![d], vec![]));
static NARROW: PerDType =
    PerDType::new("narrow", |d| (vec![Expr::input(0, d.compute()).cast(d)], vec![d.compute()], vec![]));

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
    let mut copy = Temporary::new(cpu, from.dtype.compute(), once.shape().clone())?;
    launch::map(cpu, &WIDEN.kernel(from.dtype, &[]), &[from.with_layout(&once)], &mut [copy.operand_mut()])?;
    let layout = copy.layout().broadcast_to(from.shape()).expect("axes of size 1 broadcast");
    Ok((copy, layout))
}

/// Copies `from`, in the dtype that is computed in, rounding to the dtype of `to`.
pub(crate) fn narrow(cpu: &Cpu, from: &Operand<'_, Cpu>, to: &mut OperandMut<'_, Cpu>) -> Result<()> {
    launch::map(cpu, &NARROW.kernel(to.dtype, &[]), &[*from], &mut [to.with_layout(to.layout)])
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
        DType::F32 => real::<f32>(cpu, a, b, output),
        DType::F64 => real::<f64>(cpu, a, b, output),
        DType::I32 => integer::<i32>(cpu, a, b, output),
        DType::I64 => integer::<i64>(cpu, a, b, output),
        DType::U8 => integer::<u8>(cpu, a, b, output),
        DType::I8 => integer::<i8>(cpu, a, b, output),
        DType::Bool => return composed::matmul(cpu, a, b, output),
        DType::F16 | DType::BF16 => {
            let ((a, a_layout), (b, b_layout)) = (widened(cpu, a)?, widened(cpu, b)?);
            let mut wide = Temporary::new(cpu, DType::F32, output.shape().clone())?;
            real::<f32>(cpu, &a.through(&a_layout), &b.through(&b_layout), &mut wide.operand_mut());
            return narrow(cpu, &wide.operand(), output);
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

/// A block of the results: of which products, which rows, which columns.
struct Block {
    products: std::ops::Range<usize>,
    rows: std::ops::Range<usize>,
    columns: std::ops::Range<usize>,
}

fn real<T: Gemm + Ring>(cpu: &Cpu, a: &Operand<'_, Cpu>, b: &Operand<'_, Cpu>, output: &mut OperandMut<'_, Cpu>) {
    let p = Products::new(a.layout, b.layout, output.layout);
    let (x, y) = (elements::<T>(a.buffer), elements::<T>(b.buffer));
    let z = elements_mut::<T>(output.buffer);
    // With `fit`, what the unsafe code below relies on.
    assert!(a.layout.span().1 <= x.len() && b.layout.span().1 <= y.len() && output.layout.span().1 <= z.len());
    let z = &mut z[p.output..p.output + p.starts.len() * p.m * p.n];
    let work = p.m * p.k * p.n;
    if work <= TINY || p.m == 1 || p.n == 1 {
        return by_loops(cpu, &p, x, y, z);
    }
    let mut blocks = Vec::new();
    let cut = |n: usize, block: usize| crate::elementwise::pieces(n, if OWN_THREADS { n } else { block });
    let products = if OWN_THREADS { p.starts.len() } else { (PIECE / work).max(1) };
    let [rows, columns] = if work <= PIECE { [p.m, p.n] } else { BLOCK };
    for products in crate::elementwise::pieces(p.starts.len(), products) {
        for rows in cut(p.m, rows) {
            for columns in cut(p.n, columns) {
                blocks.push(Block { products: products.clone(), rows: rows.clone(), columns });
            }
        }
    }
    let results = Shared::new(z);
    threads::each(cpu.threads(), &mut blocks, &|block| {
        let (m, n) = (block.rows.len(), block.columns.len());
        for i in block.products.clone() {
            let (a, b) = p.starts[i];
            let a = x.as_ptr().wrapping_add(a).wrapping_offset(block.rows.start as isize * p.a[0]);
            let b = y.as_ptr().wrapping_add(b).wrapping_offset(block.columns.start as isize * p.b[1]);
            let c = results.at((i * p.m + block.rows.start) * p.n + block.columns.start);
            let (a, b) = (Strided::new(a, p.a[0], p.a[1]), Strided::new(b, p.b[0], p.b[1]));
            // SAFETY: the operands' shapes are those of a product, and their layouts lie within their buffers, checked above; the block is part of result i, the
            // results follow one another in z, and blocks are disjoint.
            unsafe { T::gemm([m, p.k, n], a, b, Strided::new(c, p.n as isize, 1), false) };
        }
    });
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
        (piece / p.k).max(256).min(of_one)
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
            return rows_by_vector::<T, M>(x, place(a, from, p.a[0]), p.a, y, b, p.b[0], p.k, z);
        }
        if p.m == 1 {
            let b = place(b, from, p.b[1]);
            return rows_by_vector::<T, M>(y, b, [p.b[1], p.b[0]], x, a, p.a[1], p.k, z);
        }
        for (i, z) in z.chunks_mut(p.n).enumerate() {
            z.fill(T::ZERO);
            let a = place(a, from / p.n + i, p.a[0]);
            for q in 0..p.k {
                let v = x[place(a, q, p.a[1])];
                let b = place(b, q, p.b[0]);
                if p.b[1] == 1 {
                    add_multiple::<T, M>(v, &y[b..b + p.n], z);
                } else {
                    for (j, z) in z.iter_mut().enumerate() {
                        *z = v.mul_add::<M>(y[place(b, j, p.b[1])], *z);
                    }
                }
            }
        }
    }
}

#[inline(always)]
fn add_multiple<T: Ring, M: Vector>(v: T, x: &[T], z: &mut [T]) {
    for (z, &w) in z.iter_mut().zip(x) {
        *z = v.mul_add::<M>(w, *z);
    }
}

/// `z[i] = Σ_q matrix[i, q] * vector[q]`.
#[inline(always)]
#[allow(clippy::too_many_arguments)]
fn rows_by_vector<T: Ring, M: Vector>(
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
        z.fill(T::ZERO);
        for q in 0..k {
            let column = place(start, q, strides[1]);
            add_multiple::<T, M>(at(q), &matrix[column..column + z.len()], z);
        }
        return;
    }
    let copy: SmallVec<[T; 64]>;
    let vector = if vector_stride == 1 {
        &vector[vector_start..vector_start + k]
    } else {
        copy = (0..k).map(at).collect();
        &copy
    };
    for (i, z) in z.iter_mut().enumerate() {
        let row = place(start, i, strides[0]);
        *z = if strides[1] == 1 {
            dot::<T, M>(&matrix[row..row + k], vector)
        } else {
            let terms = vector.iter().enumerate();
            terms.fold(T::ZERO, |sum, (q, &v)| v.mul_add::<M>(matrix[place(row, q, strides[1])], sum))
        };
    }
}

/// The inner product, in 32 sums side by side that are then added pairwise.
#[inline(always)]
fn dot<T: Ring, M: Vector>(x: &[T], y: &[T]) -> T {
    const WIDE: usize = 32;
    let mut sums = [T::ZERO; WIDE];
    let (x_rows, y_rows) = (x.chunks_exact(WIDE), y.chunks_exact(WIDE));
    let rest = x_rows.remainder().iter().zip(y_rows.remainder());
    let mut tail = T::ZERO;
    for (&v, &w) in rest {
        tail = v.mul_add::<M>(w, tail);
    }
    for (v, w) in x_rows.zip(y_rows) {
        for i in 0..WIDE {
            sums[i] = v[i].mul_add::<M>(w[i], sums[i]);
        }
    }
    let mut width = WIDE / 2;
    while width > 0 {
        for i in 0..width {
            sums[i] = sums[i].add(sums[i + width]);
        }
        width /= 2;
    }
    sums[0].add(tail)
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
