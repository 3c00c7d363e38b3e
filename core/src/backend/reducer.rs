//! The order in which the terms of a reduction are folded.

use super::ReduceOp;
use crate::{DType, Value};
use smallvec::SmallVec;

/// Folds terms, given one after another, in the order that every exact backend follows.
///
/// Up to 256 terms: sixteen partial results start from the identity; term number `i` is folded into partial result
/// `i % 16`; then partial result `i` takes in number `i + 8`, for `i` below 8, then `i + 4`, `i + 2` and `i + 1`. More terms
/// are cut into blocks of 256, whose results are the terms of another reduction by the same rule.
///
/// So a vector register or half a warp works on one block, any number of them on others at the same time, and errors of
/// sums grow with the logarithm of the number of terms.
///
/// ```
/// use isograd_core::{DType, ReduceOp, Value, backend::Reducer};
/// let mut sum = Reducer::new(ReduceOp::Sum, DType::F32);
/// (0..1_000_000).for_each(|_| sum.push(Value::F32(0.1)));
/// assert!((sum.finish().to_f64() - 100_000.0).abs() < 0.02);                // one after another they give 100,958.3
/// ```
#[derive(Clone, Debug)]
pub struct Reducer {
    op: ReduceOp,
    identity: Value,
    /// The block that is being filled at each level: of terms, of results of blocks, and so on.
    levels: SmallVec<[Block; 2]>,
}

#[derive(Clone, Debug)]
struct Block {
    partial: [Value; Reducer::PARTIALS],
    terms: usize,
}

impl Reducer {
    /// Partial results of a block.
    pub const PARTIALS: usize = 16;
    /// Terms of a block.
    pub const BLOCK: usize = 256;

    /// A reduction of nothing. `dtype` is one that is computed in.
    pub fn new(op: ReduceOp, dtype: DType) -> Reducer {
        Reducer { op, identity: op.identity(dtype), levels: SmallVec::new() }
    }

    /// The next term, of the dtype that the reduction was made for.
    pub fn push(&mut self, term: Value) {
        self.push_at(0, term);
    }

    /// The result of the next block of 256 terms (the last may have fewer), which somebody else has folded.
    pub fn push_block(&mut self, result: Value) {
        self.push_at(1, result);
    }

    fn push_at(&mut self, level: usize, term: Value) {
        while self.levels.len() <= level {
            self.levels.push(Block { partial: [self.identity; Reducer::PARTIALS], terms: 0 });
        }
        let block = &mut self.levels[level];
        let partial = &mut block.partial[block.terms % Reducer::PARTIALS];
        *partial = self.op.fold(*partial, term);
        block.terms += 1;
        if block.terms == Reducer::BLOCK {
            let result = self.close(level);
            self.push_at(level + 1, result);
        }
    }

    /// The result of the block at `level`, which begins anew.
    fn close(&mut self, level: usize) -> Value {
        let block = &mut self.levels[level];
        let mut width = Reducer::PARTIALS / 2;
        while width > 0 {
            for i in 0..width {
                block.partial[i] = self.op.fold(block.partial[i], block.partial[i + width]);
            }
            width /= 2;
        }
        let result = block.partial[0];
        *block = Block { partial: [self.identity; Reducer::PARTIALS], terms: 0 };
        result
    }

    /// The result of all terms; the identity where there were none.
    pub fn finish(mut self) -> Value {
        let mut result = None;
        let mut level = 0;
        while level < self.levels.len() {
            if let Some(below) = result.take() {
                self.push_at(level, below);
            }
            if self.levels[level].terms > 0 {
                result = Some(self.close(level));
            }
            level += 1;
        }
        result.unwrap_or(self.identity)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The rule as it is written down, on all terms at once.
    fn rule(terms: &[f32]) -> f32 {
        if terms.len() > Reducer::BLOCK {
            return rule(&terms.chunks(Reducer::BLOCK).map(rule).collect::<Vec<_>>());
        }
        let mut partial = [0f32; 16];
        terms.iter().enumerate().for_each(|(i, t)| partial[i % 16] += t);
        for width in [8, 4, 2, 1] {
            (0..width).for_each(|i| partial[i] += partial[i + width]);
        }
        partial[0]
    }

    #[test]
    fn terms_one_by_one_and_blocks_follow_the_rule() {
        let terms: Vec<f32> = (0..140_000u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 8) as f32 * 1e-5).collect();
        for n in [0, 1, 2, 15, 16, 17, 255, 256, 257, 300, 512, 4097, 65_535, 65_536, 65_537, 140_000] {
            let mut single = Reducer::new(ReduceOp::Sum, DType::F32);
            terms[..n].iter().for_each(|&t| single.push(Value::F32(t)));
            assert_eq!(single.finish(), Value::F32(rule(&terms[..n])), "{n} terms");
            let mut blocks = Reducer::new(ReduceOp::Sum, DType::F32);
            terms[..n].chunks(256).for_each(|b| blocks.push_block(Value::F32(rule(b))));
            assert_eq!(blocks.finish(), Value::F32(rule(&terms[..n])), "{n} terms in blocks");
        }
    }
}
