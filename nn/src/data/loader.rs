//! [`DataLoader`]: the samples of a dataset in batches, on a device.

use super::Dataset;
use isograd_core::{Backend, Error, Result, Tensor};
use rand::{SeedableRng, seq::SliceRandom};
use rand_chacha::ChaCha8Rng;
use std::{
    fmt,
    sync::{Mutex, MutexGuard},
};

/// What becomes of samples that do not fill a batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LastBatch {
    /// They are a smaller batch.
    #[default]
    Keep,
    /// They are left out of this epoch.
    Discard,
    /// They come first in the next epoch.
    Rollover,
}

/// Goes through a dataset in batches, epoch after epoch.
///
/// The order of epoch `e` depends on the seed and on `e` alone: the generator is ChaCha8 with `e` as its stream.
///
/// ```
/// use isograd_core::format::HostArray;
/// use isograd_nn::data::{ArrayDataset, DataLoader};
/// # let ctx = isograd_reference::Reference;
/// let dataset = ArrayDataset::new([HostArray::from_slice(&[1i64, 2, 3, 4, 5], [5])?])?;
/// let loader = DataLoader::new(dataset, 2)?.shuffle(42);
/// let mut seen = vec![];
/// for batch in loader.epoch(&ctx) {
///     let [x] = batch?;
///     seen.extend(x.to_vec::<i64>()?);
/// }
/// seen.sort();
/// assert_eq!(seen, [1, 2, 3, 4, 5]);
/// # Ok::<(), isograd_core::Error>(())
/// ```
pub struct DataLoader<D, const N: usize> {
    dataset: D,
    batch_size: usize,
    seed: Option<u64>,
    last_batch: LastBatch,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    epoch: u64,
    /// Samples of the last epoch that come first in the next.
    left: Vec<usize>,
}

impl<D: Dataset<N>, const N: usize> DataLoader<D, N> {
    /// Batches of `batch_size` samples in order, the last one perhaps smaller.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for a batch size of 0.
    pub fn new(dataset: D, batch_size: usize) -> Result<DataLoader<D, N>> {
        if batch_size == 0 {
            return Err(Error::invalid("DataLoader", "the batch size must be at least 1"));
        }
        Ok(DataLoader { dataset, batch_size, seed: None, last_batch: LastBatch::Keep, state: Mutex::default() })
    }

    /// Takes the samples in random order, another one in each epoch.
    #[must_use]
    pub fn shuffle(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// What becomes of samples that do not fill a batch.
    #[must_use]
    pub fn last_batch(mut self, last_batch: LastBatch) -> Self {
        self.last_batch = last_batch;
        self
    }

    /// The dataset.
    pub fn dataset(&self) -> &D {
        &self.dataset
    }

    /// Samples per batch.
    pub fn batch_size(&self) -> usize {
        self.batch_size
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// The number of batches of the next epoch.
    pub fn len(&self) -> usize {
        let samples = self.dataset.len() + self.lock().left.len();
        match self.last_batch {
            LastBatch::Keep => samples.div_ceil(self.batch_size),
            LastBatch::Discard | LastBatch::Rollover => samples / self.batch_size,
        }
    }

    /// Whether the next epoch has no batches.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The batches of the next epoch, on `ctx`.
    pub fn epoch<'a, B: Backend>(&'a self, ctx: &B) -> Batches<'a, B, D, N> {
        let mut state = self.lock();
        let mut order: Vec<usize> = (0..self.dataset.len()).collect();
        if let Some(seed) = self.seed {
            let mut generator = ChaCha8Rng::seed_from_u64(seed);
            generator.set_stream(state.epoch);
            order.shuffle(&mut generator);
        }
        state.epoch += 1;
        let mut indices = std::mem::take(&mut state.left);
        indices.append(&mut order);
        let whole = indices.len() - indices.len() % self.batch_size;
        match self.last_batch {
            LastBatch::Keep => {}
            LastBatch::Discard => indices.truncate(whole),
            LastBatch::Rollover => state.left = indices.split_off(whole),
        }
        Batches { loader: self, ctx: ctx.clone(), indices, at: 0 }
    }
}

impl<D, const N: usize> fmt::Debug for DataLoader<D, N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DataLoader")
            .field("batch_size", &self.batch_size)
            .field("seed", &self.seed)
            .field("last_batch", &self.last_batch)
            .finish_non_exhaustive()
    }
}

/// The batches of one epoch: each array `[batch, ..]` on the device.
pub struct Batches<'a, B: Backend, D, const N: usize> {
    loader: &'a DataLoader<D, N>,
    ctx: B,
    indices: Vec<usize>,
    at: usize,
}

impl<B: Backend, D: Dataset<N>, const N: usize> Batches<'_, B, D, N> {
    fn upload(&self, indices: &[usize]) -> Result<[Tensor<B>; N]> {
        let mut tensors = Vec::with_capacity(N);
        for array in &self.loader.dataset.batch(indices)? {
            tensors.push(Tensor::from_host(&self.ctx, array)?);
        }
        tensors.try_into().map_err(|_| Error::invalid("DataLoader", "a batch has another number of arrays"))
    }
}

impl<B: Backend, D: Dataset<N>, const N: usize> Iterator for Batches<'_, B, D, N> {
    type Item = Result<[Tensor<B>; N]>;

    fn next(&mut self) -> Option<Self::Item> {
        let end = self.indices.len().min(self.at + self.loader.batch_size);
        if self.at == end {
            return None;
        }
        let batch = self.upload(&self.indices[self.at..end]);
        self.at = end;
        Some(batch)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = (self.indices.len() - self.at).div_ceil(self.loader.batch_size);
        (left, Some(left))
    }
}

impl<B: Backend, D: Dataset<N>, const N: usize> ExactSizeIterator for Batches<'_, B, D, N> {}

impl<B: Backend, D, const N: usize> fmt::Debug for Batches<'_, B, D, N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Batches({} of {} samples taken, on {})", self.at, self.indices.len(), self.ctx.name())
    }
}
