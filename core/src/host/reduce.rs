//! `reduce` on plain slices.
//!
//! Two orders of work: along the reduced axes, when these lie close together in memory (rows), or across a block of
//! outputs for one reduced index after another, when the kept axes do (columns). Either follows the order of [`Reducer`].

use super::{
    CHUNK, Input, Lane, LaneMut, Lanes, Output,
    machine::{Chunk, Machine, Source, scatter},
    map::check,
};
use crate::{
    DType, Layout, ReduceOp, Result, Shape, Value,
    backend::{Blocks, Fold, Reducer},
    expr::Kernel,
};
use smallvec::SmallVec;
use std::ops::Range;

/// Partial results: one value per output element of the range, in the dtype that is computed in.
#[derive(Debug, Clone)]
pub struct Accumulator {
    dtype: DType,
    words: Vec<u64>,
    len: usize,
}

impl Accumulator {
    /// The identity of `op`, `len` times. `dtype` is one that is computed in.
    pub fn new(op: ReduceOp, dtype: DType, len: usize) -> Accumulator {
        let mut a = Accumulator { dtype, words: vec![0; (len * dtype.size()).div_ceil(8)], len };
        let identity = op.identity(dtype);
        let bytes: &mut [u8] = bytemuck::cast_slice_mut(&mut a.words);
        if identity.bits() != 0 {
            (0..len).for_each(|i| identity.write(bytes, i));
        }
        a
    }

    fn lane(&self, range: Range<usize>) -> Lane<'_> {
        let s = self.dtype.size();
        Lane::of(self.dtype, &bytemuck::cast_slice(&self.words)[range.start * s..range.end * s])
    }

    fn lane_mut(&mut self, range: Range<usize>) -> LaneMut<'_> {
        let s = self.dtype.size();
        LaneMut::of(self.dtype, &mut bytemuck::cast_slice_mut(&mut self.words)[range.start * s..range.end * s])
    }

    fn get(&self, i: usize) -> Value {
        Value::read(self.dtype, bytemuck::cast_slice(&self.words), i)
    }

    fn set(&mut self, i: usize, value: Value) {
        value.write(bytemuck::cast_slice_mut(&mut self.words), i);
    }

    /// The results of all terms from those of blocks, each of 256 to the power of `level` terms (the last may have fewer), in
    /// order. `None` where there are no blocks.
    pub fn join<L: Lanes>(lanes: L, op: ReduceOp, level: u32, mut parts: Vec<Accumulator>) -> Option<Accumulator> {
        let [first, _, ..] = &parts[..] else { return parts.pop() };
        let rows = Rows { lanes, op, dtype: first.dtype, len: first.len };
        let mut blocks = Blocks::default();
        parts.into_iter().for_each(|part| blocks.push(&rows, level as usize, part));
        blocks.finish(&rows)
    }

    /// Writes the results as elements `start..` of `output`, rounded to its dtype.
    pub fn store(&self, output: &mut Output<'_>, start: usize) {
        scatter(self.lane(0..self.len), output, Chunk { start, len: self.len, index: 0, step: 0 });
    }
}

/// [`crate::Backend::reduce`] on plain slices.
///
/// # Errors
/// As [`super::map()`].
pub fn reduce<L: Lanes>(
    lanes: L,
    op: ReduceOp,
    kernel: &Kernel<'_>,
    inputs: &[Input<'_>],
    shape: &Shape,
    output: &mut Output<'_>,
) -> Result<()> {
    let kept = output.layout.rank();
    let outer: usize = shape[..kept].iter().product();
    let reduced: usize = shape[kept..].iter().product();
    for start in (0..outer).step_by(1 << 16) {
        let end = outer.min(start + (1 << 16));
        reduce_range(lanes, op, kernel, inputs, shape, kept, start..end, 0..reduced)?.store(output, start);
    }
    Ok(())
}

fn part(layout: &Layout, axes: Range<usize>, offset: usize) -> Layout {
    Layout::new(&layout.shape()[axes.clone()], &layout.strides()[axes], offset)
}

/// The part of a reduction that gives output elements `outer`, over the terms `reduced` (both row-major numbers; the first
/// `kept` axes of `shape` are kept). Where it is not all terms, it is what [`Reducer`] calls a block, of terms or of blocks:
/// it begins at a multiple of a power of 256 and has so many terms, or fewer if it is the last. [`Accumulator::join`] joins
/// them.
///
/// # Errors
/// As [`super::map()`].
#[allow(clippy::too_many_arguments)]
pub fn reduce_range<L: Lanes>(
    lanes: L,
    op: ReduceOp,
    kernel: &Kernel<'_>,
    inputs: &[Input<'_>],
    shape: &Shape,
    kept: usize,
    outer: Range<usize>,
    reduced: Range<usize>,
) -> Result<Accumulator> {
    check(inputs)?;
    let (root, _) = kernel.program.outputs()[0];
    let dtype = kernel.program.instructions()[root as usize].dtype;
    let terms: usize = shape[kept..].iter().product();
    let mut result = Accumulator::new(op, dtype, outer.len());
    // Layouts of the two halves of the axes; a position is the sum of both. Negative strides make neither half start below
    // 0 with the whole offset in each, so it is given to both and taken off once by the base.
    let halves: SmallVec<[(Layout, Layout, isize); 4]> = inputs
        .iter()
        .map(|x| {
            let offset = x.layout.offset();
            (part(x.layout, 0..kept, offset), part(x.layout, kept..shape.rank(), offset), offset as isize)
        })
        .collect();
    let unit = |axis: usize| inputs.iter().filter(|x| x.layout.strides()[axis].unsigned_abs() == 1).count();
    let by_columns = kept > 0
        && outer.len() > 1
        && (shape.rank() == kept || unit(kept - 1) > unit(shape.rank() - 1) || reduced.len() < 8);
    if by_columns {
        let mut machine = Machine::new(*kernel, lanes, CHUNK);
        for block in outer.clone().step_by(CHUNK) {
            let len = CHUNK.min(outer.end - block);
            columns(
                lanes,
                op,
                &mut machine,
                &halves,
                inputs,
                terms,
                block,
                len,
                reduced.clone(),
                &mut result,
                block - outer.start,
            );
        }
        return Ok(result);
    }
    let mut machine = Machine::new(*kernel, lanes, CHUNK.min(reduced.len()));
    let mut sums = Accumulator::new(op, dtype, CHUNK / Reducer::BLOCK);
    for o in outer.clone() {
        let sources: SmallVec<[Source<'_>; 4]> = (inputs.iter().zip(&halves))
            .map(|(x, (kept, reduced, offset))| Source {
                bytes: x.bytes,
                dtype: x.dtype,
                layout: reduced,
                base: kept.position_of_linear(o) as isize - offset,
            })
            .collect();
        let mut reducer = Reducer::new(op, dtype);
        let mut start = reduced.start;
        while start < reduced.end {
            let len = CHUNK.min(reduced.end - start);
            machine.run(Chunk { start, len, index: (o * terms + start) as i64, step: 1 }, &sources, &mut []);
            let count = len.div_ceil(Reducer::BLOCK);
            lanes.fold(op, machine.result(&sources, len), sums.lane_mut(0..count));
            (0..count).for_each(|k| reducer.push_block(sums.get(k)));
            start += len;
        }
        result.set(o - outer.start, reducer.finish());
    }
    Ok(result)
}

#[allow(clippy::too_many_arguments)]
fn columns<L: Lanes>(
    lanes: L,
    op: ReduceOp,
    machine: &mut Machine<'_, L>,
    halves: &[(Layout, Layout, isize)],
    inputs: &[Input<'_>],
    terms: usize,
    block: usize,
    len: usize,
    reduced: Range<usize>,
    result: &mut Accumulator,
    at: usize,
) {
    let rows = Rows { lanes, op, dtype: result.dtype, len };
    let mut blocks = Blocks::default();
    for r in reduced {
        let sources: SmallVec<[Source<'_>; 4]> = (inputs.iter().zip(halves))
            .map(|(x, (kept, reduced, offset))| Source {
                bytes: x.bytes,
                dtype: x.dtype,
                layout: kept,
                base: reduced.position_of_linear(r) as isize - offset,
            })
            .collect();
        machine.run(
            Chunk { start: block, len, index: (block * terms + r) as i64, step: terms as i64 },
            &sources,
            &mut [],
        );
        let term = machine.result(&sources, len);
        blocks.push_with(&rows, 0, |partial| lanes.combine(op, term, partial.lane_mut(0..len)));
    }
    if let Some(all) = blocks.finish(&rows) {
        lanes.combine(op, all.lane(0..len), result.lane_mut(at..at + len));
    }
}

/// Folds rows of `len` outputs: a term is one element of each.
struct Rows<L> {
    lanes: L,
    op: ReduceOp,
    dtype: DType,
    len: usize,
}

impl<L: Lanes> Fold<Accumulator> for Rows<L> {
    fn identity(&self) -> Accumulator {
        Accumulator::new(self.op, self.dtype, self.len)
    }
    fn fold(&self, into: &mut Accumulator, term: &Accumulator) {
        self.lanes.combine(self.op, term.lane(0..self.len), into.lane_mut(0..self.len));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        expr::{Expr, Program},
        host::Plain,
    };

    fn run(op: ReduceOp, root: &Expr, dtype: DType, data: &[u64], layout: &Layout, kept: usize) -> Vec<Value> {
        let program = Program::new("test", std::slice::from_ref(root), &[dtype], &[]).unwrap();
        let out_layout = Layout::contiguous(&layout.shape()[..kept]);
        let mut words = vec![0u64; out_layout.size()];
        let out =
            Output { bytes: bytemuck::cast_slice_mut(&mut words), dtype: root.dtype(), layout: &out_layout, origin: 0 };
        let input = Input { bytes: bytemuck::cast_slice(data), dtype, layout };
        reduce(Plain, op, &Kernel::new(&program, &[]), &[input], layout.shape(), &mut { out }).unwrap();
        (0..out_layout.size()).map(|i| Value::read(root.dtype(), bytemuck::cast_slice(&words), i)).collect()
    }

    #[test]
    fn every_order_of_axes_gives_the_plain_result() {
        let x = Expr::input(0, DType::I64);
        let data: Vec<u64> = (0..6000u64).map(|i| i * 37 % 101).collect();
        let layouts = [
            (Layout::contiguous([60, 100]), 1),
            (Layout::contiguous([100, 60]).permute(&[1, 0]), 1),
            (Layout::contiguous([2, 30, 100]).permute(&[1, 0, 2]), 1),
            (Layout::contiguous([2, 3, 1000]).permute(&[2, 1, 0]), 1),
            (Layout::contiguous([6000]), 0),
            (Layout::contiguous([60, 100]).slice(0, 59, 60, -1), 1),
            (Layout::contiguous([100, 60]).permute(&[1, 0]).slice(1, 99, 50, -2), 1),
            (Layout::contiguous([60, 100]).broadcast_to(&Shape::from([5, 60, 100])).unwrap(), 2),
        ];
        for (layout, kept) in layouts {
            for op in ReduceOp::ALL {
                for root in [x.clone(), &x + &Expr::index()] {
                    let got = run(op, &root, DType::I64, &data, &layout, kept);
                    let terms: usize = layout.shape()[kept..].iter().product();
                    let indexed = root != x;
                    for (o, got) in got.iter().enumerate() {
                        let expected = (0..terms)
                            .map(|r| o * terms + r)
                            .map(|i| {
                                Value::I64(
                                    data[layout.position_of_linear(i)] as i64 + if indexed { i as i64 } else { 0 },
                                )
                            })
                            .reduce(|a, b| op.fold(a, b));
                        assert_eq!(Some(*got), expected, "{op:?} {layout:?} output {o}");
                    }
                }
            }
        }
    }

    #[test]
    fn sums_are_accurate() {
        // 1e7 times 0.1 in f32: a running sum is off by 8 %, one in blocks by less than 1e-6.
        let data = vec![0.1f32; 10_000_000];
        let words: &[u64] = bytemuck::cast_slice(&data);
        let x = Expr::input(0, DType::F32);
        let exact = 0.1f32 as f64 * 1e7;
        for (layout, kept) in
            [(Layout::contiguous([10_000_000]), 0), (Layout::contiguous([5_000_000, 2]).permute(&[1, 0]), 1)]
        {
            let sum: f64 = run(ReduceOp::Sum, &x, DType::F32, words, &layout, kept).iter().map(|v| v.to_f64()).sum();
            assert!((sum / exact - 1.0).abs() < 1e-6, "{layout:?}: {sum}");
        }
    }

    #[test]
    fn nan_and_infinity_go_through() {
        let x = Expr::input(0, DType::F64);
        for (values, op, expected) in [
            ([1.0, f64::NAN, 3.0, 2.0], ReduceOp::Max, f64::NAN),
            ([f64::NAN, 1.0, 3.0, 2.0], ReduceOp::Min, f64::NAN),
            ([f64::NEG_INFINITY, f64::INFINITY, 0.0, 1.0], ReduceOp::Max, f64::INFINITY),
            ([f64::NEG_INFINITY; 4], ReduceOp::Max, f64::NEG_INFINITY),
        ] {
            let words: Vec<u64> = values.iter().map(|v: &f64| v.to_bits()).collect();
            let got = run(op, &x, DType::F64, &words, &Layout::contiguous([4]), 0)[0].to_f64();
            assert!(got == expected || got.is_nan() && expected.is_nan(), "{op:?} {values:?}: {got}");
        }
    }
}
