//! Products of f32 and f64, on which `matmul`, convolution and its gradients stand: the left factor is copied into panels as high
//! as a tile of the result that fits the vector registers, the right one into panels as wide, unless it can be read where it lies.
//! A tile is one chain of fma per element over each chunk of terms, in the order of [`DotProduct`].
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
    registers::Register,
    threads::{self, Shared},
};
use isograd_core::{Result, backend::DotProduct};
use smallvec::SmallVec;
use std::{marker::PhantomData, ops::Range, sync::Mutex};

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
/// `columns` gives memory that is valid for reading and writing the `m` elements of each column, `row_stride` apart, while the
/// product runs, that nobody else reads or writes, and no element twice.
pub(crate) unsafe trait Products<T>: Sync {
    /// How many.
    fn count(&self) -> usize;
    /// `m`, `k`, `n`.
    fn size(&self) -> [usize; 3];
    /// Copies terms of a panel of rows of the left factor of product `i` to `out`, term by term: `[terms][rows]`.
    fn left(&self, i: usize, terms: Range<usize>, rows: Range<usize>, out: &mut [T]);
    /// The right factor.
    fn right(&self) -> Right<'_, T>;
    /// Calls `run(column, count, place)` for runs of columns of result `i` that lie side by side: the first, how many, and where
    /// the first begins. Columns that are in no run are thrown away.
    fn columns(&self, i: usize, columns: Range<usize>, run: &mut dyn FnMut(usize, usize, *mut T));
    /// Elements from a row of the result to the next.
    fn row_stride(&self) -> usize;
}

/// Where a right factor is.
pub(crate) enum Right<'a, T> {
    /// A function copies terms of columns of product `i` to its last argument, in panels of `width` columns:
    /// `(i, terms, columns, width, out)`, out `[panels][terms][width]`. What lies beyond the last column does not matter.
    Packed(&'a Pack<'a, T>),
    /// In `data`: column `c + j` of a panel that begins with column `c` has term `t` at `place(i, c) + offsets[t] + j`.
    InPlace { data: &'a [T], offsets: &'a [usize], place: &'a (dyn Fn(usize, usize) -> usize + Sync) },
}

/// How a right factor is packed.
pub(crate) type Pack<'a, T> = dyn Fn(usize, Range<usize>, Range<usize>, usize, &mut [T]) + Sync + 'a;

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
struct Tile<T>(PhantomData<T>);

impl<T: Real> Work for Tile<T> {
    type Output = [usize; 2];

    #[inline(always)]
    fn run<M: Vector>(self) -> [usize; 2] {
        [M::ROWS, 2 * T::In::<M>::LANES]
    }
}

fn tile<T: Real>(simd: Simd) -> [usize; 2] {
    simd.run(Tile(PhantomData::<T>))
}

/// The terms of chunk `number` of `k`.
fn chunk(number: usize, k: usize) -> Range<usize> {
    number * DotProduct::CHUNK..k.min((number + 1) * DotProduct::CHUNK)
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

/// Columns of a panel that lie side by side: the first one's number in the panel, how many, where the first begins.
type Run<T> = (usize, usize, *mut T);

/// A panel of columns: where its first term begins, and its runs.
struct Panel<T> {
    first: *const T,
    runs: SmallVec<[Run<T>; 4]>,
}

/// One chunk of terms of a block of the result.
struct Block<'a, T> {
    /// Panels of rows.
    left: &'a [T],
    /// Panels of columns, and where their terms are from the first on: a whole register of memory each.
    panels: &'a [Panel<T>],
    offsets: &'a [usize],
    rows: usize,
    row_stride: usize,
    then: Then,
}

impl<T: Real> Work for Block<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<M: Vector>(self) {
        if M::ROWS == 12 { self.tiles::<T::In<M>, 12>() } else { self.tiles::<T::In<M>, 6>() }
    }
}

impl<T: Real> Block<'_, T> {
    #[inline(always)]
    fn tiles<V: Register<T>, const R: usize>(&self) {
        let mut left = self.left;
        for rows in panels(0..self.rows, R) {
            let factor;
            (factor, left) = left.split_at(rows.len() * self.offsets.len());
            // Few rows have few chains: then those of several panels go side by side.
            match rows.len() {
                4 => self.row::<V, 4, 1>(factor, rows.start),
                2 => self.row::<V, 2, 2>(factor, rows.start),
                1 => self.row::<V, 1, 4>(factor, rows.start),
                _ => self.row::<V, R, 1>(factor, rows.start),
            }
        }
    }

    /// Tiles of `R` rows from `row` on, `P` at a time.
    #[inline(always)]
    fn row<V: Register<T>, const R: usize, const P: usize>(&self, left: &[T], row: usize) {
        let (several, rest) = self.panels.as_chunks::<P>();
        several.iter().for_each(|panels| self.some::<V, R, P>(left, panels, row));
        rest.iter().for_each(|panel| self.some::<V, R, 1>(left, std::array::from_ref(panel), row));
    }

    /// `P` tiles, each of `R` rows from `row` on and two registers of columns.
    // Constants as indices keep the sums in registers.
    #[allow(clippy::needless_range_loop)]
    #[inline(always)]
    fn some<V: Register<T>, const R: usize, const P: usize>(&self, left: &[T], panels: &[Panel<T>; P], row: usize) {
        let width = 2 * V::LANES;
        assert!(left.len() == R * self.offsets.len());
        let mut sums;
        // SAFETY: `T::In<M>` is the register of the instruction set that this is compiled for. The left panel has `R` numbers for
        // each term, and there are `width` numbers at each offset of the right ones.
        unsafe {
            sums = [[[V::splat(T::ZERO); 2]; R]; P];
            let mut a = left.as_ptr();
            for &offset in self.offsets {
                for p in 0..P {
                    let b = panels[p].first.add(offset);
                    let columns = [V::load(b), V::load(b.add(V::LANES))];
                    for r in 0..R {
                        let x = V::splat(*a.add(r));
                        for v in 0..2 {
                            sums[p][r][v] = x.mul_add(columns[v], sums[p][r][v]);
                        }
                    }
                }
                a = a.add(R);
            }
        }
        for p in 0..P {
            self.put(&sums[p], &panels[p].runs, row, width);
        }
    }

    /// Puts the sums of a tile where they belong.
    // As above.
    #[allow(clippy::needless_range_loop)]
    #[inline(always)]
    fn put<V: Register<T>, const R: usize>(&self, sums: &[[V; 2]; R], runs: &[Run<T>], row: usize, width: usize) {
        // Memory for a tile whose columns are not side by side: up to sixteen rows of two registers.
        let mut copy = [T::ZERO; 16 * 32];
        let (first, stride, then) = match *runs {
            [(0, count, place)] if count == width => {
                (place.wrapping_add(row * self.row_stride), self.row_stride, self.then)
            }
            _ => (copy.as_mut_ptr(), width, Then::Keep),
        };
        for r in 0..R {
            for v in 0..2 {
                // SAFETY: the register is of the instruction set that this is compiled for. The rows of the tile lie in `copy`, or
                // side by side and, as `Products` promises, in memory that is this block's.
                unsafe {
                    let to = first.wrapping_add(r * stride + v * V::LANES);
                    let sum = match then {
                        Then::Begin => V::splat(T::ZERO).add(sums[r][v]),
                        Then::Add => V::load(to).add(sums[r][v]),
                        Then::Keep => sums[r][v],
                    };
                    sum.store(to);
                }
            }
        }
        if first != copy.as_mut_ptr() {
            return;
        }
        for (r, sums) in copy.chunks(width).take(R).enumerate() {
            for &(start, count, place) in runs {
                // SAFETY: elements of a run of columns, as `Products` promises in memory that is this block's.
                let out =
                    unsafe { std::slice::from_raw_parts_mut(place.wrapping_add((row + r) * self.row_stride), count) };
                let sums = &sums[start..start + count];
                match self.then {
                    Then::Begin => out.iter_mut().zip(sums).for_each(|(o, &sum)| *o = T::ZERO.add(sum)),
                    Then::Add => out.iter_mut().zip(sums).for_each(|(o, &sum)| *o = o.add(sum)),
                    Then::Keep => out.copy_from_slice(sums),
                }
            }
        }
    }
}

/// A piece of work: a block of a product, and some of its chunks, by number.
#[derive(Clone, Debug)]
struct Task {
    product: usize,
    rows: Range<usize>,
    columns: Range<usize>,
    chunks: Range<usize>,
}

/// How the products are cut.
#[derive(Clone, Copy, Debug)]
struct Cut {
    /// Rows and columns of a block.
    block: [usize; 2],
    /// Chunks of a task; all, unless the sums of chunks are kept.
    chunks: usize,
}

/// For `threads` threads: blocks that are many enough for all and large enough to be worth it.
fn cut(count: usize, [m, k, n]: [usize; 3], tile: [usize; 2], threads: usize) -> Cut {
    let (work, chunks) = (m * k * n, k.div_ceil(DotProduct::CHUNK));
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
    let few = blocks(block) < wanted.min(threads) && chunks > 1 && count * chunks * m * n <= SUMS;
    Cut { block, chunks: if few { chunks.div_ceil(wanted.div_ceil(blocks(block))) } else { chunks } }
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
    let (tile, all) = (tile::<T>(simd), k.div_ceil(DotProduct::CHUNK));
    let Cut { block: [rows, columns], chunks } = cut(count, [m, k, n], tile, threads::available(cpu.threads()));
    let mut tasks: SmallVec<[Task; 1]> = SmallVec::new();
    for product in 0..count {
        for chunks in pieces(all, chunks) {
            for columns in pieces(n, columns) {
                let task = |rows| Task { product, rows, columns: columns.clone(), chunks: chunks.clone() };
                tasks.extend(pieces(m, rows).into_iter().map(task));
            }
        }
    }
    // The left factors, chunk by chunk, are packed before where several blocks share them.
    let shared = columns < n;
    let mut packed = Scratch::<T>::new(if shared { count * m * k } else { 0 })?;
    if shared {
        let mut parts: Vec<(usize, Range<usize>, &mut [T])> = Vec::new();
        let mut rest = &mut packed.get()[..count * m * k];
        for product in 0..count {
            for terms in (0..all).map(|number| chunk(number, k)) {
                let part;
                (part, rest) = rest.split_at_mut(m * terms.len());
                parts.push((product, terms, part));
            }
        }
        let pack = |(product, terms, out): &mut (usize, Range<usize>, &mut [T])| {
            for rows in pieces(m, rows) {
                let out = &mut out[rows.start * terms.len()..rows.end * terms.len()];
                pack_left(products, *product, terms.clone(), rows, tile[0], out);
            }
        };
        if count * m * k < MANY {
            parts.iter_mut().for_each(pack)
        } else {
            threads::each(cpu.threads(), &mut parts, &pack)
        }
    }
    let packed = shared.then(|| &packed.get()[..]);
    let mut sums = Scratch::<T>::new(if chunks < all { count * all * m * n } else { 0 })?;
    let kept = (chunks < all).then(|| Shared::new(sums.get()));
    let work = rows * columns * k / all.div_ceil(chunks);
    let mut several: SmallVec<[&mut [Task]; 1]> = tasks.chunks_mut((WORTH / work.max(1)).max(1)).collect();
    let failed = Mutex::new(None);
    threads::each(cpu.threads(), &mut several, &|tasks| {
        if let Err(e) = tasks.iter().try_for_each(|task| multiply(products, simd, task, packed, kept)) {
            *failed.lock().unwrap_or_else(|e| e.into_inner()) = Some(e);
        }
    });
    if let Some(error) = failed.into_inner().unwrap_or_else(|e| e.into_inner()) {
        return Err(error);
    }
    if kept.is_none() {
        return Ok(());
    }
    let sums = sums.get();
    for product in 0..count {
        products.columns(product, 0..n, &mut |column, count, place| {
            for row in 0..m {
                // SAFETY: elements of a run of columns, as `Products` promises; all tasks are done.
                let out =
                    unsafe { std::slice::from_raw_parts_mut(place.wrapping_add(row * products.row_stride()), count) };
                out.fill(T::ZERO);
                for number in 0..all {
                    let sums = &sums[((product * all + number) * m + row) * n + column..][..count];
                    out.iter_mut().zip(sums).for_each(|(o, &sum)| *o = o.add(sum));
                }
            }
        });
    }
    Ok(())
}

/// Copies a chunk of a block of rows of the left factor of product `i`, in panels.
fn pack_left<T: Real>(
    products: &impl Products<T>,
    i: usize,
    terms: Range<usize>,
    block: Range<usize>,
    tile: usize,
    out: &mut [T],
) {
    let mut rest = out;
    for rows in panels(block, tile) {
        let panel;
        (panel, rest) = rest.split_at_mut(rows.len() * terms.len());
        products.left(i, terms.clone(), rows, panel);
    }
}

/// Does a task, chunk by chunk; with `kept`, the sums of each chunk go there: `[products][chunks][m][n]`.
fn multiply<T: Real>(
    products: &impl Products<T>,
    simd: Simd,
    task: &Task,
    packed: Option<&[T]>,
    kept: Option<Shared<T>>,
) -> Result<()> {
    let ([m, k, n], [height, width]) = (products.size(), tile::<T>(simd));
    let (i, rows) = (task.product, task.rows.len());
    let depth = chunk(task.chunks.start, k).len();
    let wide = task.columns.len().next_multiple_of(width);
    let factor = products.right();
    let mut right = Scratch::<T>::new(if matches!(factor, Right::Packed(_)) { depth * wide } else { 0 })?;
    let mut left = Scratch::<T>::new(if packed.is_none() { depth * rows } else { 0 })?;
    let beside: SmallVec<[usize; 64]> = match factor {
        Right::Packed(_) => (0..depth).map(|term| term * width).collect(),
        Right::InPlace { .. } => SmallVec::new(),
    };
    let row_stride = if kept.is_some() { n } else { products.row_stride() };
    let mut panels: SmallVec<[Panel<T>; 2]> = SmallVec::new();
    panels.resize_with(wide / width, || Panel { first: std::ptr::null(), runs: SmallVec::new() });
    let runs = |panels: &mut [Panel<T>], column: usize, count: usize, place: *mut T| {
        let place = place.wrapping_add(task.rows.start * row_stride);
        let start = column - task.columns.start;
        let mut at = start;
        while at < start + count {
            let some = (width - at % width).min(start + count - at);
            panels[at / width].runs.push((at % width, some, place.wrapping_add(at - start)));
            at += some;
        }
    };
    if kept.is_none() {
        products.columns(i, task.columns.clone(), &mut |column, count, place| runs(&mut panels, column, count, place));
    }
    for number in task.chunks.clone() {
        let terms = chunk(number, k);
        if let Some(kept) = kept {
            panels.iter_mut().for_each(|panel| panel.runs.clear());
            let place = kept.at((i * k.div_ceil(DotProduct::CHUNK) + number) * m * n + task.columns.start);
            runs(&mut panels, task.columns.start, task.columns.len(), place);
        }
        let offsets = match &factor {
            Right::Packed(pack) => {
                let right = &mut right.get()[..terms.len() * wide];
                pack(i, terms.clone(), task.columns.clone(), width, right);
                let parts = right.chunks(terms.len() * width);
                panels.iter_mut().zip(parts).for_each(|(panel, part)| panel.first = part.as_ptr());
                &beside[..terms.len()]
            }
            Right::InPlace { data, offsets, place } => {
                let offsets = &offsets[terms.clone()];
                let reach = offsets.iter().max().copied().unwrap_or(0) + width;
                for (panel, column) in panels.iter_mut().zip(task.columns.clone().step_by(width)) {
                    panel.first = data[place(i, column)..][..reach].as_ptr();
                }
                offsets
            }
        };
        let left = match packed {
            Some(packed) => {
                &packed[i * m * k + terms.start * m + task.rows.start * terms.len()..][..rows * terms.len()]
            }
            None => {
                let left = &mut left.get()[..rows * terms.len()];
                pack_left(products, i, terms, task.rows.clone(), height, left);
                left
            }
        };
        let then = match (kept, number) {
            (Some(_), _) => Then::Keep,
            (None, 0) => Then::Begin,
            (None, _) => Then::Add,
        };
        simd.run(Block { left, panels: &panels, offsets, rows, row_stride, then });
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
        in_place: Option<&'a [usize]>,
        pack: &'a Pack<'a, f32>,
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
        fn right(&self) -> Right<'_, f32> {
            match self.in_place {
                Some(offsets) => Right::InPlace { data: self.b, offsets, place: &|_, column| column },
                None => Right::Packed(self.pack),
            }
        }
        fn columns(&self, _: usize, columns: Range<usize>, run: &mut dyn FnMut(usize, usize, *mut f32)) {
            // In pieces of seven, of which nobody knows that they lie side by side.
            columns.clone().step_by(7).for_each(|c| run(c, 7.min(columns.end - c), self.c.at(c)));
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
            // Panels read beyond the last column.
            let (a, b) = (numbers(m * k, 1), numbers(k * n + 64, 99));
            let offsets: Vec<usize> = (0..k).map(|q| q * n).collect();
            let pack = |_: usize, terms: Range<usize>, columns: Range<usize>, width: usize, out: &mut [f32]| {
                Strided { data: &b, start: 0, lane: 1, term: n as isize }.pack(terms, columns, width, out);
            };
            let mut right = vec![0f32; m * n];
            for (i, right) in right.iter_mut().enumerate() {
                let mut dot = DotProduct::new(DType::F32);
                (0..k).for_each(|q| dot.push(Value::F32(a[i / n * k + q]), Value::F32(b[q * n + i % n])));
                *right = dot.finish().to_f64() as f32;
            }
            for isa in Isa::available() {
                for (threads, in_place) in [(1, false), (1, true), (2, false), (2, true), (5, true)] {
                    let mut c = vec![f32::NAN; m * n];
                    let in_place = in_place.then_some(&offsets[..]);
                    let plain = Plain { size, a: &a, b: &b, c: Shared::new(&mut c), in_place, pack: &pack };
                    products_with(&Cpu::with_threads(threads).unwrap(), Simd::for_test(isa), &plain).unwrap();
                    let bits = |v: &[f32]| v.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
                    assert_eq!(bits(&c), bits(&right), "{size:?} {isa:?} {threads} threads {in_place:?}");
                }
            }
        }
    }

    #[test]
    fn every_element_is_in_one_block() {
        for size in [[1, 1, 1], [7, 100, 1000], [2048, 2048, 2048], [10, 100_000, 25], [100_000, 3, 10]] {
            for threads in [1, 2, 8] {
                let Cut { block: [rows, columns], chunks } = cut(3, size, [6, 16], threads);
                assert!(rows > 0 && columns > 0 && (rows == size[0] || rows % 6 == 0), "{size:?}");
                assert!(columns == size[2] || columns % 16 == 0);
                assert!(chunks > 0 && chunks <= size[1].div_ceil(256));
            }
        }
    }
}
