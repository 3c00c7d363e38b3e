//! The order in which the terms of a reduction are folded, and the products of an inner product added up.

use super::ReduceOp;
use crate::{DType, Value, expr::scalar};
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
    numbers: Numbers,
    blocks: Blocks<Value>,
}

impl Reducer {
    /// Partial results of a block.
    pub const PARTIALS: usize = 16;
    /// Terms of a block.
    pub const BLOCK: usize = 256;

    /// A reduction of nothing. `dtype` is one that is computed in.
    pub fn new(op: ReduceOp, dtype: DType) -> Reducer {
        Reducer { numbers: Numbers { op, identity: op.identity(dtype) }, blocks: Blocks::default() }
    }

    /// The next term, of the dtype that the reduction was made for.
    pub fn push(&mut self, term: Value) {
        self.blocks.push(&self.numbers, 0, term);
    }

    /// The result of the next block of 256 terms (the last may have fewer), which somebody else has folded.
    pub fn push_block(&mut self, result: Value) {
        self.blocks.push(&self.numbers, 1, result);
    }

    /// The result of all terms; the identity where there were none.
    pub fn finish(self) -> Value {
        self.blocks.finish(&self.numbers).unwrap_or(self.numbers.identity)
    }
}

/// Sums the products of two rows of numbers, given pair after pair, in the order that every exact backend follows: elements of
/// products of matrices and of convolutions.
///
/// The terms are cut into chunks of 256. A chunk is a chain from zero: each pair is multiplied and added with one rounding. The
/// chunks' sums are added to zero one after another. Integers wrap; bool is the or of ands.
///
/// So the tiles of a fast kernel, of whatever shape, follow it; and so do those who work on several chunks at the same time.
///
/// ```
/// use isograd_core::{DType, Value, backend::DotProduct};
/// let mut dot = DotProduct::new(DType::F32);
/// (1..=1000).for_each(|i| dot.push(Value::F32(i as f32), Value::F32(0.5)));
/// assert_eq!(dot.finish(), Value::F32(250_250.0));
/// ```
#[derive(Clone, Copy, Debug)]
pub struct DotProduct {
    total: Value,
    chain: Value,
    terms: usize,
}

impl DotProduct {
    /// Terms of a chunk.
    pub const CHUNK: usize = 256;

    /// A sum of nothing. `dtype` is one that is computed in.
    pub fn new(dtype: DType) -> DotProduct {
        DotProduct { total: Value::zero(dtype), chain: Value::zero(dtype), terms: 0 }
    }

    /// The next pair, of the dtype that the sum was made for.
    pub fn push(&mut self, a: Value, b: Value) {
        if self.terms == DotProduct::CHUNK {
            *self =
                DotProduct { total: ReduceOp::Sum.fold(self.total, self.chain), ..DotProduct::new(self.total.dtype()) };
        }
        self.terms += 1;
        self.chain = match self.total.dtype().is_float() {
            true => scalar::mul_add(a, b, self.chain),
            false => ReduceOp::Sum.fold(self.chain, ReduceOp::Prod.fold(a, b)),
        };
    }

    /// The sum of all products.
    pub fn finish(self) -> Value {
        ReduceOp::Sum.fold(self.total, self.chain)
    }
}

/// How terms are folded.
pub(crate) trait Fold<T> {
    /// What a partial result starts from.
    fn identity(&self) -> T;
    /// Folds a term, or a later partial result, into one.
    fn fold(&self, into: &mut T, term: &T);
}

#[derive(Clone, Copy, Debug)]
struct Numbers {
    op: ReduceOp,
    identity: Value,
}

impl Fold<Value> for Numbers {
    fn identity(&self) -> Value {
        self.identity
    }
    fn fold(&self, into: &mut Value, term: &Value) {
        *into = self.op.fold(*into, *term);
    }
}

/// The partial results of a block, as far as there are terms, and the number of its terms.
type Block<T> = (SmallVec<[T; Reducer::PARTIALS]>, usize);

/// The block that is being filled at each level: of terms, of results of blocks, and so on. `T` is a number, or a row of them.
#[derive(Clone, Debug)]
pub(crate) struct Blocks<T> {
    levels: SmallVec<[Block<T>; 2]>,
}

impl<T> Default for Blocks<T> {
    fn default() -> Self {
        Blocks { levels: SmallVec::new() }
    }
}

impl<T> Blocks<T> {
    /// The next term of the block at `level`.
    pub fn push(&mut self, fold: &impl Fold<T>, level: usize, term: T) {
        self.push_with(fold, level, |partial| fold.fold(partial, &term));
    }

    /// The next term of the block at `level`, which `into` folds into a partial result.
    pub fn push_with(&mut self, fold: &impl Fold<T>, level: usize, into: impl FnOnce(&mut T)) {
        while self.levels.len() <= level {
            self.levels.push(Block::default());
        }
        let (partial, terms) = &mut self.levels[level];
        let at = *terms % Reducer::PARTIALS;
        if partial.len() == at {
            partial.push(fold.identity());
        }
        into(&mut partial[at]);
        *terms += 1;
        if *terms == Reducer::BLOCK
            && let Some(result) = self.close(fold, level)
        {
            self.push(fold, level + 1, result);
        }
    }

    /// The result of the block at `level`, which begins anew; none where it has no terms. Partial results without terms would be
    /// identities, which change nothing.
    fn close(&mut self, fold: &impl Fold<T>, level: usize) -> Option<T> {
        let (mut partial, _) = std::mem::take(&mut self.levels[level]);
        let mut half = Reducer::PARTIALS / 2;
        while half > 0 {
            if partial.len() > half {
                let (first, second) = partial.split_at_mut(half);
                first.iter_mut().zip(second).for_each(|(a, b)| fold.fold(a, b));
                partial.truncate(half);
            }
            half /= 2;
        }
        partial.pop()
    }

    /// The result of all terms, if there were any.
    pub fn finish(mut self, fold: &impl Fold<T>) -> Option<T> {
        let mut result = None;
        let mut level = 0;
        while level < self.levels.len() {
            if let Some(below) = result.take() {
                self.push(fold, level, below);
            }
            result = self.close(fold, level);
            level += 1;
        }
        result
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
