//! [`SequenceLoader`]: batches of sequences from one long text, for language models.

use crate::data::random;
use isograd_core::{Backend, Error, Result, Tensor, format::HostArray};
use rand::{RngExt, seq::SliceRandom};
use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

/// How sequences follow each other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sampling {
    /// In random order: a state starts anew with every batch.
    #[default]
    Random,
    /// Row `i` of a batch goes on where row `i` of the one before ended, so that a state can be carried along (detached).
    Consecutive,
}

/// Cuts a text, given as the numbers of its tokens, into batches of sequences and the tokens that follow each: the book's
/// `seq_data_iter_random` and `seq_data_iter_sequential`. Each epoch cuts at other places, which depend on the seed and the
/// number of the epoch alone.
///
/// ```
/// use isograd::nn::data::text::{Sampling, SequenceLoader};
/// let ctx = isograd::device("cpu")?;
/// let loader = SequenceLoader::new((0..35).collect(), 2, 5)?.sampling(Sampling::Consecutive);
/// let batches = loader.epoch(&ctx).collect::<Result<Vec<_>, _>>()?;
/// let (x, y) = &batches[0];
/// assert_eq!(x.shape(), &[2, 5]);
/// assert_eq!(y.to_vec::<i64>()?, x.add_scalar(1)?.to_vec::<i64>()?);
/// assert_eq!(batches[1].0.to_vec::<i64>()?, x.add_scalar(5)?.to_vec::<i64>()?);
/// # Ok::<(), isograd::Error>(())
/// ```
#[derive(Debug)]
pub struct SequenceLoader {
    corpus: Arc<[i64]>,
    batch_size: usize,
    steps: usize,
    sampling: Sampling,
    seed: u64,
    epoch: AtomicU64,
}

impl SequenceLoader {
    /// Batches of `batch_size` sequences of `steps` tokens.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] when one is 0, or the text too short for a batch.
    pub fn new(corpus: Vec<i64>, batch_size: usize, steps: usize) -> Result<Self> {
        // The cut may leave out up to `steps` tokens at the start; the last token is only ever a label.
        let needed = batch_size.checked_add(1).and_then(|n| n.checked_mul(steps)).and_then(|n| n.checked_add(1));
        if batch_size == 0 || steps == 0 || needed.is_none_or(|n| corpus.len() < n) {
            let why = format!(
                "{batch_size} sequences of {steps} tokens cannot be cut from a text of {} tokens; it must have (sequences + 1) \
                 * tokens + 1, neither of them 0",
                corpus.len()
            );
            return Err(Error::invalid("SequenceLoader", why));
        }
        let (corpus, epoch) = (corpus.into(), AtomicU64::new(0));
        Ok(SequenceLoader { corpus, batch_size, steps, sampling: Sampling::Random, seed: 0, epoch })
    }

    /// How sequences follow each other ([`Sampling::Random`]).
    #[must_use]
    pub fn sampling(mut self, sampling: Sampling) -> Self {
        self.sampling = sampling;
        self
    }

    /// Seed of where is cut, and of the order (0).
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// The number of the next epoch, to take up a run where another one stopped.
    #[must_use]
    pub fn start_at(self, epoch: u64) -> Self {
        self.epoch.store(epoch, Ordering::Relaxed);
        self
    }

    /// The batches of the next epoch, on `ctx`: sequences `[batch, steps]` of i64, and the same moved on by one token.
    pub fn epoch<B: Backend>(&self, ctx: &B) -> SequenceBatches<B> {
        let mut generator = random::order(self.seed, self.epoch.fetch_add(1, Ordering::Relaxed));
        let (batch, steps) = (self.batch_size, self.steps);
        let starts: Vec<usize> = match self.sampling {
            Sampling::Random => {
                let offset = generator.random_range(0..steps);
                let count = (self.corpus.len() - offset - 1) / steps;
                let mut starts: Vec<usize> = (0..count).map(|i| offset + i * steps).collect();
                starts.shuffle(&mut generator);
                starts.truncate(count - count % batch);
                starts
            }
            Sampling::Consecutive => {
                let offset = generator.random_range(0..=steps);
                let row = (self.corpus.len() - offset - 1) / batch;
                let start = |k: usize| (0..batch).map(move |i| offset + i * row + k * steps);
                (0..row / steps).flat_map(start).collect()
            }
        };
        SequenceBatches { corpus: self.corpus.clone(), starts, batch, steps, ctx: ctx.clone(), at: 0 }
    }
}

/// The batches of one epoch.
#[derive(Debug)]
pub struct SequenceBatches<B: Backend> {
    corpus: Arc<[i64]>,
    /// Where each sequence of each batch begins.
    starts: Vec<usize>,
    batch: usize,
    steps: usize,
    ctx: B,
    at: usize,
}

impl<B: Backend> SequenceBatches<B> {
    fn tensor(&self, starts: &[usize], moved: usize) -> Result<Tensor<B>> {
        let row = |&start: &usize| &self.corpus[start + moved..][..self.steps];
        let tokens: Vec<i64> = starts.iter().flat_map(row).copied().collect();
        Tensor::from_host(&self.ctx, &HostArray::from_slice(&tokens, [starts.len(), self.steps])?)
    }
}

impl<B: Backend> Iterator for SequenceBatches<B> {
    type Item = Result<(Tensor<B>, Tensor<B>)>;

    fn next(&mut self) -> Option<Self::Item> {
        let starts = self.starts.get(self.at..self.at + self.batch)?;
        let pair = self.tensor(starts, 0).and_then(|x| Ok((x, self.tensor(starts, 1)?)));
        self.at += self.batch;
        Some(pair)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = (self.starts.len() - self.at) / self.batch;
        (left, Some(left))
    }
}

impl<B: Backend> ExactSizeIterator for SequenceBatches<B> {}
