//! `reduce`, cut into blocks of outputs and, where there are few outputs, of terms: such blocks as the order of reductions
//! has itself, so the result does not depend on the cut.

use crate::{
    elementwise::{cut, pieces, splits},
    lanes::Simd,
    threads::{Threads, each},
};
use isograd_core::{
    ReduceOp, Result,
    backend::Reducer,
    expr::Kernel,
    host::{self, Accumulator, Input, Output},
};
use std::ops::Range;

/// Terms in all that a piece folds.
const PIECE: usize = 1 << 16;

/// Outputs of a piece where many are folded side by side.
const OUTPUTS: usize = 1 << 12;

/// One piece: which outputs, which terms, and what came out.
struct Piece {
    outer: Range<usize>,
    terms: Range<usize>,
    result: Option<Result<Accumulator>>,
}

pub(crate) fn reduce(
    threads: Option<&Threads>,
    op: ReduceOp,
    kernel: &Kernel<'_>,
    inputs: &[Input<'_>],
    output: &mut Output<'_>,
) -> Result<()> {
    let shape = inputs[0].layout.shape();
    let kept = output.layout.rank();
    let (outer, terms) = (output.layout.size(), shape[kept..].iter().product::<usize>());
    if outer.saturating_mul(terms) <= PIECE {
        return host::reduce(Simd::get(), op, kernel, inputs, shape, output);
    }
    // Outputs that lie side by side in memory are folded side by side: many at once, and few terms of each.
    let side_by_side = kept > 0 && inputs.iter().any(|x| x.layout.strides()[kept - 1].unsigned_abs() == 1);
    let outputs_at_once =
        if side_by_side { outer.min(OUTPUTS) } else { (PIECE / terms).max(outer.min(OUTPUTS) / 16).clamp(1, OUTPUTS) };
    // Blocks of terms, or blocks of such blocks.
    let level = if outputs_at_once == 1 { 2 } else { 1 };
    let terms_at_once = Reducer::BLOCK.pow(level);
    // Few outputs of many terms each: the terms are cut too. Otherwise each piece has all the terms of its outputs.
    let cut_terms = outer.div_ceil(outputs_at_once) < 16 && terms >= 2 * terms_at_once;
    let blocks = pieces(outer, outputs_at_once);
    let ranges = if cut_terms { pieces(terms, terms_at_once) } else { std::iter::once(0..terms).collect() };
    let mut work: Vec<Piece> = blocks
        .iter()
        .flat_map(|o| ranges.iter().map(|t| Piece { outer: o.clone(), terms: t.clone(), result: None }))
        .collect();
    each(threads, &mut work, &|p| {
        let part = host::reduce_range(Simd::get(), op, kernel, inputs, shape, kept, p.outer.clone(), p.terms.clone());
        p.result = Some(part);
    });
    let mut results = Vec::with_capacity(work.len());
    for piece in work {
        results.extend(piece.result.transpose()?);
    }
    let mut done: Vec<(usize, Vec<Accumulator>)> = Vec::with_capacity(blocks.len());
    let mut results = results.into_iter();
    for block in &blocks {
        done.push((block.start, results.by_ref().take(ranges.len()).collect()));
    }
    let store = |start: usize, parts: &mut Vec<Accumulator>, output: &mut Output<'_>| {
        if let Some(all) = Accumulator::join(Simd::get(), op, level, std::mem::take(parts)) {
            all.store(output, start);
        }
    };
    if outer > OUTPUTS && splits([output.layout].into_iter()) == Some(1) {
        let mut parts: Vec<_> = done.into_iter().zip(cut(output, &blocks)).collect();
        each(threads, &mut parts, &|((start, parts), output)| store(*start, parts, output));
    } else {
        done.iter_mut().for_each(|(start, parts)| store(*start, parts, output));
    }
    Ok(())
}
