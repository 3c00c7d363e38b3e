//! Products of f32 and f64, on which `matmul`, convolution and its gradients stand: both factors are copied into panels, as
//! wide as a tile of the result that fits the vector registers, and a tile is one chain of fma per element over each chunk of
//! terms, in the order of [`DotProduct`].
//!
//! An element's order depends on nothing else, so results are cut into blocks by the number of threads; and where results are
//! few and terms many, chunks are worked on side by side, and their sums are added up at the end.

use crate::{
    Cpu,
    elementwise::pieces,
    lanes::{Simd, Work},
    math::{Real, Vector},
    matmul::elements_mut,
    memory::{Buffer, POOL},
    threads::{self, Shared},
};
use isograd_core::{Result, backend::DotProduct};
use std::{marker::PhantomData, ops::Range, sync::Mutex};

const CHUNK: usize = DotProduct::CHUNK;

/// Columns of a block: with a chunk of terms, what the second cache holds.
const COLUMNS: usize = 192;

/// Multiplications of a block that are worth a task of their own, and the least number of tasks per thread that is aimed at.
const WORTH: usize = 1 << 18;
const PER_THREAD: usize = 3;

/// Elements of left factors from which several threads pack them.
const MANY: usize = 1 << 16;

/// Sums of chunks that are kept at the same time, at most.
const SUMS: usize = 1 << 23;

/// Pooled memory for elements of T.
pub(crate) struct Scratch<T> {
    buffer: Buffer,
    of: PhantomData<T>,
}

impl<T: Real> Scratch<T> {
    pub fn new(len: usize) -> Result<Scratch<T>> {
        Ok(Scratch { buffer: POOL.alloc(len.max(1) * size_of::<T>())?, of: PhantomData })
    }
    pub fn get(&mut self) -> &mut [T] {
        elements_mut(&mut self.buffer)
    }
}

/// Products of one size, each `m` by `k` by `n`, none of them 0, whose factors lie wherever they lie.
///
/// # Safety
/// `column` gives memory that is valid for writing the `m` elements of the column, `row_stride` apart, while the product runs,
/// that nobody else reads or writes, and no element twice.
pub(crate) unsafe trait Products<T>: Sync {
    /// How many.
    fn count(&self) -> usize;
    /// `m`, `k`, `n`.
    fn size(&self) -> [usize; 3];
    /// Copies terms of a panel of rows of the left factor of product `i` to `out`, term by term: `[terms][rows]`.
    fn left(&self, i: usize, terms: Range<usize>, rows: Range<usize>, out: &mut [T]);
    /// Copies terms of columns of the right factor of product `i` to `out`, in panels of `width` columns: `[panels][terms][width]`.
    /// What lies beyond the last column does not matter.
    fn right(&self, i: usize, terms: Range<usize>, columns: Range<usize>, width: usize, out: &mut [T]);
    /// Where column `column` of result `i` begins.
    fn column(&self, i: usize, column: usize) -> *mut T;
    /// Elements from a row of the result to the next.
    fn row_stride(&self) -> usize;
}

/// A matrix in memory, its lanes (rows of a left factor, columns of a right one) and terms some elements apart.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Strided<'a, T> {
    pub data: &'a [T],
    pub start: usize,
    pub lane: isize,
    pub term: isize,
}

impl<T: Copy> Strided<'_, T> {
    #[inline(always)]
    fn at(&self, lane: usize, term: usize) -> usize {
        (self.start as isize + lane as isize * self.lane + term as isize * self.term) as usize
    }

    /// Copies terms of lanes in panels of `width` lanes: `[panels][terms][width]`.
    pub fn pack(&self, terms: Range<usize>, lanes: Range<usize>, width: usize, out: &mut [T]) {
        let depth = terms.len();
        for (panel, out) in lanes.clone().step_by(width).zip(out.chunks_mut(depth * width)) {
            let count = width.min(lanes.end - panel);
            if self.lane == 1 {
                for (term, out) in terms.clone().zip(out.chunks_mut(width)) {
                    let from = self.at(panel, term);
                    out[..count].copy_from_slice(&self.data[from..from + count]);
                }
            } else if self.term == 1 {
                for lane in 0..count {
                    let from = self.at(panel + lane, terms.start);
                    let row = &self.data[from..from + depth];
                    out[lane..].iter_mut().step_by(width).zip(row).for_each(|(o, &v)| *o = v);
                }
            } else {
                for (term, out) in terms.clone().zip(out.chunks_mut(width)) {
                    (0..count).for_each(|lane| out[lane] = self.data[self.at(panel + lane, term)]);
                }
            }
        }
    }
}

/// Rows and columns of a tile.
fn tile<T>(simd: Simd) -> [usize; 2] {
    let [rows, bytes] = simd.tile();
    [rows, bytes / size_of::<T>()]
}

/// The panels of rows: as many of the tile's as there are, then 4, 2 and 1 for what is left.
fn panels(rows: Range<usize>, tile: usize) -> impl Iterator<Item = Range<usize>> {
    let mut at = rows.start;
    std::iter::from_fn(move || {
        let left = rows.end - at;
        let height = [tile, 4, 2, 1].into_iter().find(|&h| h <= left)?;
        at += height;
        Some(at - height..at)
    })
}

/// What becomes of the results of a chunk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Then {
    /// They are the first of the results: added to zero.
    Begin,
    /// They are added to the results so far.
    Add,
    /// They are kept as they are.
    Keep,
}

/// One chunk of terms of a block of the result.
struct Block<'a, T> {
    /// Panels of rows.
    left: &'a [T],
    /// Panels of columns.
    right: &'a [T],
    terms: usize,
    /// Rows, from the first of `columns` on.
    rows: usize,
    /// Where the columns of the result begin.
    columns: &'a [*mut T],
    row_stride: usize,
    then: Then,
}

impl<T: Real> Work for Block<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<M: Vector>(self) {
        // The vectors of a tile's row: two of eight f32, or of sixteen.
        match (M::WIDE, size_of::<T>()) {
            (false, 4) => self.tiles::<M, 6, 8>(),
            (false, _) => self.tiles::<M, 6, 4>(),
            (true, 4) => self.tiles::<M, 12, 16>(),
            (true, _) => self.tiles::<M, 12, 8>(),
        }
    }
}

impl<T: Real> Block<'_, T> {
    #[inline(always)]
    fn tiles<M: Vector, const R: usize, const L: usize>(&self) {
        let mut left = self.left;
        for rows in panels(0..self.rows, R) {
            let panel;
            (panel, left) = left.split_at(rows.len() * self.terms);
            for (right, columns) in self.right.chunks(2 * L * self.terms).zip(self.columns.chunks(2 * L)) {
                match rows.len() {
                    4 => self.one::<M, 4, L>(panel, right, columns, rows.start),
                    2 => self.one::<M, 2, L>(panel, right, columns, rows.start),
                    1 => self.one::<M, 1, L>(panel, right, columns, rows.start),
                    _ => self.one::<M, R, L>(panel, right, columns, rows.start),
                }
            }
        }
    }

    /// One tile: `R` rows from `row` on, of two vectors of `L` columns.
    #[inline(always)]
    fn one<M: Vector, const R: usize, const L: usize>(&self, left: &[T], right: &[T], columns: &[*mut T], row: usize) {
        let mut sums = [[[T::ZERO; L]; 2]; R];
        let (left, _) = left.as_chunks::<R>();
        let (right, _) = right.as_chunks::<L>();
        let (right, _) = right.as_chunks::<2>();
        for (a, b) in left.iter().zip(right) {
            for r in 0..R {
                for v in 0..2 {
                    for l in 0..L {
                        sums[r][v][l] = a[r].mul_add(b[v][l], sums[r][v][l]);
                    }
                }
            }
        }
        let beside = columns.len() == 2 * L && columns[2 * L - 1] == columns[0].wrapping_add(2 * L - 1);
        for (r, sums) in sums.iter().enumerate() {
            let row = (row + r) * self.row_stride;
            if beside {
                // SAFETY: the columns lie side by side and, as `Products` promises, in memory that is this block's.
                let out = unsafe { &mut *columns[0].wrapping_add(row).cast::<[[T; L]; 2]>() };
                for v in 0..2 {
                    for l in 0..L {
                        out[v][l] = self.put(out[v][l], sums[v][l]);
                    }
                }
                continue;
            }
            for (column, &sum) in columns.iter().zip(sums.as_flattened()) {
                // SAFETY: an element of a column, as `Products` promises in memory that is this block's.
                let out = unsafe { &mut *column.wrapping_add(row) };
                *out = self.put(*out, sum);
            }
        }
    }

    #[inline(always)]
    fn put(&self, old: T, sum: T) -> T {
        match self.then {
            Then::Begin => T::ZERO.add(sum),
            Then::Add => old.add(sum),
            Then::Keep => sum,
        }
    }
}

/// A piece of work: a block of a product, and of its terms some chunks.
#[derive(Clone, Debug)]
struct Task {
    product: usize,
    rows: Range<usize>,
    columns: Range<usize>,
    terms: Range<usize>,
}

impl Task {
    fn work(&self) -> usize {
        self.rows.len() * self.columns.len() * self.terms.len()
    }
}

/// How the products are cut.
#[derive(Clone, Copy, Debug)]
struct Cut {
    /// Rows and columns of a block.
    block: [usize; 2],
    /// Terms of a task; all, unless the sums of chunks are kept.
    terms: usize,
}

/// For `threads` threads: blocks that are many enough for all and large enough to be worth it.
fn cut(count: usize, [m, k, n]: [usize; 3], tile: [usize; 2], threads: usize) -> Cut {
    let work = m * k * n;
    let wanted = if threads == 1 { 1 } else { (count * work / WORTH).clamp(1, threads * PER_THREAD) };
    let columns = COLUMNS.next_multiple_of(tile[1]).min(n);
    let blocks = |[rows, columns]: [usize; 2]| count * m.div_ceil(rows) * n.div_ceil(columns);
    let mut block = [m, columns];
    // Rows are cut first, since columns would make more packing of rows; both at multiples of a tile.
    while blocks(block) < wanted {
        let [rows, columns] = block;
        if rows > 4 * tile[0] && rows >= columns {
            block[0] = (rows / 2).next_multiple_of(tile[0]);
        } else if columns > 2 * tile[1] {
            block[1] = (columns / 2).next_multiple_of(tile[1]);
        } else if rows > 2 * tile[0] {
            block[0] = (rows / 2).next_multiple_of(tile[0]);
        } else {
            break;
        }
    }
    let (chunks, sums) = (k.div_ceil(CHUNK), count * k.div_ceil(CHUNK) * m * n);
    let terms = if blocks(block) < wanted.min(threads) && chunks > 1 && sums <= SUMS {
        chunks.div_ceil(wanted.div_ceil(blocks(block))) * CHUNK
    } else {
        k
    };
    Cut { block, terms }
}

/// Runs `f` on every task, so many at once that they are worth it, and gives the first error if there is one.
fn run(cpu: &Cpu, tasks: &mut [Task], f: impl Fn(&Task) -> Result<()> + Sync) -> Result<()> {
    let failed = Mutex::new(None);
    let mut several: Vec<&mut [Task]> = tasks.chunks_mut((WORTH / tasks[0].work()).max(1)).collect();
    threads::each(cpu.threads(), &mut several, &|tasks| {
        if let Err(e) = tasks.iter().try_for_each(&f) {
            *failed.lock().unwrap_or_else(|e| e.into_inner()) = Some(e);
        }
    });
    failed.into_inner().unwrap_or_else(|e| e.into_inner()).map_or(Ok(()), Err)
}

/// Computes `products`.
///
/// # Errors
/// Out of memory.
pub(crate) fn products<T: Real, P: Products<T>>(cpu: &Cpu, products: &P) -> Result<()> {
    products_with(cpu, Simd::get(), products)
}

fn products_with<T: Real, P: Products<T>>(cpu: &Cpu, simd: Simd, products: &P) -> Result<()> {
    let (count, [m, k, n]) = (products.count(), products.size());
    debug_assert!(count * m * k * n > 0);
    let tile = tile::<T>(simd);
    let Cut { block: [rows, columns], terms } = cut(count, [m, k, n], tile, threads::available(cpu.threads()));
    let mut tasks = Vec::new();
    for product in 0..count {
        for first in (0..k).step_by(terms) {
            for columns in pieces(n, columns) {
                let terms = first..k.min(first + terms);
                let task = |rows| Task { product, rows, columns: columns.clone(), terms: terms.clone() };
                tasks.extend(pieces(m, rows).into_iter().map(task));
            }
        }
    }
    // The left factors, chunk by chunk, are packed before where several blocks share them.
    let shared = columns < n;
    let mut packed = Scratch::<T>::new(if shared { count * m * k } else { 0 })?;
    if shared {
        let mut chunks: Vec<(usize, Range<usize>, &mut [T])> = Vec::new();
        let mut rest = &mut packed.get()[..count * m * k];
        for product in 0..count {
            for terms in pieces(k, CHUNK) {
                let chunk;
                (chunk, rest) = rest.split_at_mut(m * terms.len());
                chunks.push((product, terms, chunk));
            }
        }
        let pack = |(product, terms, out): &mut (usize, Range<usize>, &mut [T])| {
            pack_left(products, *product, terms.clone(), pieces(m, rows), tile[0], out);
        };
        if count * m * k < MANY {
            chunks.iter_mut().for_each(pack)
        } else {
            threads::each(cpu.threads(), &mut chunks, &pack)
        }
    }
    let packed = shared.then(|| &packed.get()[..]);
    if terms >= k {
        return run(cpu, &mut tasks, |task| {
            let row_stride = products.row_stride();
            let columns: Vec<*mut T> = task.columns.clone().map(|c| products.column(task.product, c)).collect();
            multiply(products, simd, task, packed, |terms| {
                (if terms.start == 0 { Then::Begin } else { Then::Add }, columns.clone(), row_stride)
            })
        });
    }
    let mut sums = Scratch::<T>::new(count * k.div_ceil(CHUNK) * m * n)?;
    let chunk = |product: usize, term: usize| (product * k.div_ceil(CHUNK) + term / CHUNK) * m * n;
    let at = Shared::new(sums.get());
    run(cpu, &mut tasks, |task| {
        multiply(products, simd, task, packed, |terms| {
            let first = chunk(task.product, terms.start);
            (Then::Keep, task.columns.clone().map(|c| at.at(first + c)).collect(), n)
        })
    })?;
    let sums = sums.get();
    for product in 0..count {
        for column in 0..n {
            for row in 0..m {
                let terms = (0..k).step_by(CHUNK).map(|term| sums[chunk(product, term) + row * n + column]);
                let total = terms.fold(T::ZERO, |total, sum| total.add(sum));
                // SAFETY: an element of the column, as `Products` promises; all tasks are done.
                unsafe { products.column(product, column).wrapping_add(row * products.row_stride()).write(total) };
            }
        }
    }
    Ok(())
}

/// Copies a chunk of the left factor of product `i`: for each block of rows its panels.
fn pack_left<T: Real>(
    products: &impl Products<T>,
    i: usize,
    terms: Range<usize>,
    blocks: Vec<Range<usize>>,
    tile: usize,
    out: &mut [T],
) {
    let mut rest = out;
    for rows in blocks.into_iter().flat_map(|block| panels(block, tile)) {
        let panel;
        (panel, rest) = rest.split_at_mut(rows.len() * terms.len());
        products.left(i, terms.clone(), rows, panel);
    }
}

/// Does a task: chunk by chunk, `then` says what becomes of the results of the chunk, where its columns begin, and how far its
/// rows are apart.
fn multiply<T: Real>(
    products: &impl Products<T>,
    simd: Simd,
    task: &Task,
    packed: Option<&[T]>,
    then: impl Fn(&Range<usize>) -> (Then, Vec<*mut T>, usize),
) -> Result<()> {
    let ([m, k, _], [height, width]) = (products.size(), tile::<T>(simd));
    let (i, rows) = (task.product, task.rows.len());
    let wide = task.columns.len().next_multiple_of(width);
    let depth = task.terms.len().min(CHUNK);
    let mut right = Scratch::<T>::new(depth * wide)?;
    let mut left = Scratch::<T>::new(if packed.is_none() { depth * rows } else { 0 })?;
    for first in task.terms.clone().step_by(CHUNK) {
        let terms = first..task.terms.end.min(first + CHUNK);
        let right = &mut right.get()[..terms.len() * wide];
        products.right(i, terms.clone(), task.columns.clone(), width, right);
        let left = match packed {
            Some(packed) => {
                &packed[i * m * k + terms.start * m + task.rows.start * terms.len()..][..rows * terms.len()]
            }
            None => {
                let left = &mut left.get()[..rows * terms.len()];
                pack_left(products, i, terms.clone(), vec![task.rows.clone()], height, left);
                left
            }
        };
        let (then, columns, row_stride) = then(&terms);
        let columns: Vec<*mut T> = columns.iter().map(|c| c.wrapping_add(task.rows.start * row_stride)).collect();
        simd.run(Block { left, right, terms: terms.len(), rows, columns: &columns, row_stride, then });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lanes::Isa;
    use isograd_core::{DType, Value};

    struct Plain<'a> {
        size: [usize; 3],
        a: &'a [f32],
        b: &'a [f32],
        c: Shared<f32>,
    }

    // SAFETY: the columns of a contiguous result, which the test lends alone.
    unsafe impl Products<f32> for Plain<'_> {
        fn count(&self) -> usize {
            1
        }
        fn size(&self) -> [usize; 3] {
            self.size
        }
        fn left(&self, _: usize, terms: Range<usize>, rows: Range<usize>, out: &mut [f32]) {
            let height = rows.len();
            Strided { data: self.a, start: 0, lane: self.size[1] as isize, term: 1 }.pack(terms, rows, height, out);
        }
        fn right(&self, _: usize, terms: Range<usize>, columns: Range<usize>, width: usize, out: &mut [f32]) {
            Strided { data: self.b, start: 0, lane: 1, term: self.size[2] as isize }.pack(terms, columns, width, out);
        }
        fn column(&self, _: usize, column: usize) -> *mut f32 {
            self.c.at(column)
        }
        fn row_stride(&self) -> usize {
            self.size[2]
        }
    }

    #[test]
    fn tiles_of_every_instruction_set_give_the_bits_of_the_definition() {
        for size in [[1, 1, 1], [5, 3, 7], [13, 256, 33], [12, 257, 16], [64, 600, 50], [3, 5000, 2], [25, 1025, 200]] {
            let [m, k, n] = size;
            let numbers = |count: usize, seed: u32| -> Vec<f32> {
                (0..count as u32).map(|i| ((i ^ seed).wrapping_mul(2_654_435_761) >> 8) as f32 * 1e-7 - 0.8).collect()
            };
            let (a, b) = (numbers(m * k, 1), numbers(k * n, 99));
            let mut right = vec![0f32; m * n];
            for (i, right) in right.iter_mut().enumerate() {
                let mut dot = DotProduct::new(DType::F32);
                (0..k).for_each(|q| dot.push(Value::F32(a[i / n * k + q]), Value::F32(b[q * n + i % n])));
                *right = dot.finish().to_f64() as f32;
            }
            for isa in Isa::available() {
                for threads in [1, 2, 5] {
                    let mut c = vec![f32::NAN; m * n];
                    let plain = Plain { size, a: &a, b: &b, c: Shared::new(&mut c) };
                    products_with(&Cpu::with_threads(threads).unwrap(), Simd::for_test(isa), &plain).unwrap();
                    let bits = |v: &[f32]| v.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
                    assert_eq!(bits(&c), bits(&right), "{size:?} {isa:?} {threads} threads");
                }
            }
        }
    }

    #[test]
    fn every_element_is_in_one_block() {
        for size in [[1, 1, 1], [7, 100, 1000], [2048, 2048, 2048], [10, 100_000, 25], [100_000, 3, 10]] {
            for threads in [1, 2, 8] {
                let Cut { block: [rows, columns], terms } = cut(3, size, [6, 16], threads);
                assert!(rows > 0 && columns > 0 && (rows == size[0] || rows % 6 == 0), "{size:?}");
                assert!(columns == size[2] || columns % 16 == 0);
                assert!(terms >= size[1] || terms % CHUNK == 0);
            }
        }
    }
}
