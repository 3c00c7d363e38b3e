//! `map` on plain slices.

use super::{
    CHUNK, Input, Lanes, Output,
    machine::{Chunk, Machine, Source},
};
use crate::{Error, Result, expr::Kernel};
use smallvec::SmallVec;
use std::ops::Range;

/// [`crate::Backend::map`] on plain slices.
///
/// # Errors
/// [`Error::InvalidArgument`] when a buffer is not aligned to 8 bytes or too short for its layout.
pub fn map<L: Lanes>(lanes: L, kernel: &Kernel<'_>, inputs: &[Input<'_>], outputs: &mut [Output<'_>]) -> Result<()> {
    let Some(first) = outputs.first() else { return Ok(()) };
    let all = 0..first.layout.size();
    map_range(lanes, kernel, inputs, outputs, all)
}

/// The part of a map that computes the elements with row-major numbers `range`. Each output may be given in part, as long
/// as that part holds these elements.
///
/// # Errors
/// As [`map`].
pub fn map_range<L: Lanes>(
    lanes: L,
    kernel: &Kernel<'_>,
    inputs: &[Input<'_>],
    outputs: &mut [Output<'_>],
    range: Range<usize>,
) -> Result<()> {
    let Some(first) = outputs.first() else { return Ok(()) };
    check(inputs)?;
    let shape = first.layout.shape();
    let inner = shape.last().copied().unwrap_or(1);
    let sources: SmallVec<[Source<'_>; 4]> = inputs.iter().map(Source::whole).collect();
    let longest = range.len().min(CHUNK);
    let mut machine = Machine::new(*kernel, lanes, longest);
    let mut start = range.start;
    while start < range.end {
        // Chunks of long rows end with the row, so that rows are read where they lie; short rows go several at a time.
        let room = if inner >= CHUNK { inner - start % inner } else { (CHUNK / inner).max(1) * inner - start % inner };
        let len = room.min(CHUNK).min(range.end - start);
        machine.run(Chunk { start, len, index: start as i64, step: 1 }, &sources, outputs);
        start += len;
    }
    Ok(())
}

#[inline]
pub(super) fn check(inputs: &[Input<'_>]) -> Result<()> {
    for input in inputs {
        let end = input.layout.span().1 * input.dtype.size();
        if input.bytes.as_ptr().align_offset(input.dtype.size()) != 0 || input.bytes.len() < end {
            return Err(Error::invalid(
                "host kernel",
                format!(
                    "a buffer must be aligned to 8 bytes and hold its layout: {end} bytes are needed, {} given",
                    input.bytes.len()
                ),
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        DType, Layout, Value,
        expr::{Expr, Program},
        host::Plain,
    };

    fn iota(n: usize) -> Vec<f32> {
        (0..n).map(|i| i as f32).collect()
    }

    /// Runs a map on the machine, and element by element, over the given layouts.
    fn compare(roots: &[Expr], inputs: &[(DType, Layout)], outputs: &[Layout]) {
        let dtypes: Vec<DType> = inputs.iter().map(|(d, _)| *d).collect();
        let program = Program::new("test", roots, &dtypes, &[]).unwrap();
        let kernel = Kernel::new(&program, &[]);
        let fill = |d: DType, l: &Layout| -> Vec<u64> {
            let mut words = vec![0u64; l.span().1 * d.size() / 8 + 2];
            let bytes: &mut [u8] = bytemuck::cast_slice_mut(&mut words);
            for i in 0..l.span().1 {
                Value::F64((i * 7 % 23) as f64 - 5.0).cast(d).write(bytes, i);
            }
            words
        };
        let memory: Vec<Vec<u64>> = inputs.iter().map(|(d, l)| fill(*d, l)).collect();
        let ins: Vec<Input<'_>> = inputs
            .iter()
            .zip(&memory)
            .map(|((dtype, layout), m)| Input { bytes: bytemuck::cast_slice(m), dtype: *dtype, layout })
            .collect();
        let mut got: Vec<Vec<u64>> = outputs.iter().zip(roots).map(|(l, r)| fill(r.dtype(), l)).collect();
        let mut expected = got.clone();
        let mut outs: Vec<Output<'_>> = got
            .iter_mut()
            .zip(outputs)
            .zip(roots)
            .map(|((m, layout), r)| Output { bytes: bytemuck::cast_slice_mut(m), dtype: r.dtype(), layout, origin: 0 })
            .collect();
        map(Plain, &kernel, &ins, &mut outs).unwrap();
        let mut evaluator = kernel.evaluator();
        for i in 0..outputs[0].size() {
            let values: Vec<Value> =
                ins.iter().map(|x| Value::read(x.dtype, x.bytes, x.layout.position_of_linear(i))).collect();
            let old: Vec<Value> = (expected.iter().zip(outputs).zip(roots))
                .map(|((m, l), r)| Value::read(r.dtype(), bytemuck::cast_slice(m), l.position_of_linear(i)))
                .collect();
            evaluator.run(i, &values, &old);
            for (k, (m, l)) in expected.iter_mut().zip(outputs).enumerate() {
                evaluator.output(k).write(bytemuck::cast_slice_mut(m), l.position_of_linear(i));
            }
        }
        assert!(got == expected, "{roots:?} over {inputs:?} to {outputs:?}");
    }

    #[test]
    fn the_machine_agrees_with_plain_evaluation() {
        let d = DType::F32;
        let (x, y) = (Expr::input(0, d), Expr::input(1, d));
        let big = Layout::contiguous([3, 1500]);
        let t = Layout::contiguous([1500, 3]).permute(&[1, 0]);
        let row = Layout::contiguous([1500]).broadcast_to(big.shape()).unwrap();
        let column = Layout::contiguous([3, 1]).broadcast_to(big.shape()).unwrap();
        let reversed = big.slice(1, 1499, 1500, -1);
        let roots = [
            vec![&x * &y + 1.0],
            vec![x.clone()],
            vec![(&x + &y).abs(), &x + &y],
            vec![&x + &y, &x + &y],
            vec![Expr::old(0, d) + &x * &y],
            vec![&x + 1.0, Expr::old(0, d) * &y],
            vec![x.less(&y).select(&x, &y), Expr::index().cast(d)],
            vec![x.like(3.0), x.less(&y).cast(d)],
        ];
        for roots in roots {
            for a in [&big, &t, &row, &reversed] {
                for b in [&big, &column, &t] {
                    let outputs = vec![big.clone(); roots.len()];
                    compare(&roots, &[(d, a.clone()), (d, b.clone())], &outputs);
                    let outputs = vec![t.clone(); roots.len()];
                    compare(&roots, &[(d, a.clone()), (d, b.clone())], &outputs);
                }
            }
        }
        let h = Expr::input(0, DType::F16);
        compare(&[&h * &h], &[(DType::F16, t.clone())], std::slice::from_ref(&big));
        compare(&[h.cast(DType::I64).cast(DType::Bool)], &[(DType::F16, row)], &[t]);
        let seed = Expr::index() * 3i64.into_expr();
        compare(&[Expr::random_bits(&seed, &Expr::index(), 2)], &[], &[big]);
        compare(&[&x + &y], &[(d, Layout::contiguous([])), (d, Layout::contiguous([]))], &[Layout::contiguous([])]);
    }

    trait IntoExpr {
        fn into_expr(self) -> Expr;
    }
    impl IntoExpr for i64 {
        fn into_expr(self) -> Expr {
            Expr::constant(self)
        }
    }

    #[test]
    fn a_part_writes_only_its_elements() {
        let layout = Layout::contiguous([10]);
        let x = iota(10);
        let program = Program::new("test", &[Expr::input(0, DType::F32) * 2.0], &[DType::F32], &[]).unwrap();
        let mut out = vec![-1.0f32; 4];
        let input = Input { bytes: bytemuck::cast_slice(&x), dtype: DType::F32, layout: &layout };
        let output =
            Output { bytes: bytemuck::cast_slice_mut(&mut out), dtype: DType::F32, layout: &layout, origin: 3 };
        map_range(Plain, &Kernel::new(&program, &[]), &[input], &mut [output], 4..6).unwrap();
        assert_eq!(out, [-1.0, 8.0, 10.0, -1.0]);
    }
}
