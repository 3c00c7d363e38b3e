//! [`DataLoader`]: the samples of a dataset in batches, on a device.

use super::{
    BatchSampler, Batchify, Dataset, FixedBatches, LastBatch, RandomSampler, Sampler, SequentialSampler, Stack, Upload,
    workers::{Epoch, Workers},
};
use isograd_core::{Backend, Result};
use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

/// Goes through a dataset in batches, epoch after epoch.
///
/// What an epoch brings depends on the seeds and on its number alone, to the last bit: the order, and all random transforms,
/// whose generators are made of the seed, the epoch, and the sample's place and number. The number of workers changes when
/// batches are made, not what they are.
///
/// ```
/// use isograd_core::format::HostArray;
/// use isograd_nn::data::{ArrayDataset, DataLoader};
/// # let ctx = isograd_reference::Reference;
/// let dataset = ArrayDataset::new([HostArray::from_slice(&[1i64, 2, 3, 4, 5], [5])?])?;
/// let loader = DataLoader::new(dataset, 2)?.shuffle(42).workers(2);
/// let mut seen = vec![];
/// for batch in loader.epoch(&ctx) {
///     let [x] = batch?;
///     seen.extend(x.to_vec::<i64>()?);
/// }
/// seen.sort();
/// assert_eq!(seen, [1, 2, 3, 4, 5]);
/// # Ok::<(), isograd_core::Error>(())
/// ```
pub struct DataLoader<D, F = Stack> {
    dataset: Arc<D>,
    batchify: Arc<F>,
    fixed: FixedBatches<Box<dyn Sampler>>,
    custom: Option<Box<dyn BatchSampler>>,
    seed: u64,
    workers: usize,
    prefetch: Option<usize>,
    epoch: AtomicU64,
}

impl<D: Dataset> DataLoader<D> {
    /// Batches of `batch_size` samples in order, the last one perhaps smaller, put together by [`Stack`].
    ///
    /// # Errors
    /// [`isograd_core::Error::InvalidArgument`] for a batch size of 0.
    pub fn new(dataset: D, batch_size: usize) -> Result<DataLoader<D>> {
        let sampler: Box<dyn Sampler> = Box::new(SequentialSampler::new(dataset.len()));
        Ok(DataLoader {
            fixed: FixedBatches::new(sampler, batch_size, LastBatch::Keep)?,
            dataset: Arc::new(dataset),
            batchify: Arc::new(Stack),
            custom: None,
            seed: 0,
            workers: 0,
            prefetch: None,
            epoch: AtomicU64::new(0),
        })
    }
}

impl<D: Dataset, F> DataLoader<D, F> {
    /// Takes the samples in random order, another one in each epoch: a [`RandomSampler`]. Random transforms take this seed too.
    #[must_use]
    pub fn shuffle(mut self, seed: u64) -> Self {
        self.seed = seed;
        let len = self.dataset.len();
        self.sampler(RandomSampler::new(len, seed))
    }

    /// Takes the samples that `sampler` names.
    #[must_use]
    pub fn sampler(mut self, sampler: impl Sampler) -> Self {
        self.fixed.sampler = Box::new(sampler);
        self
    }

    /// Takes the batches that `batches` names, whatever sampler, batch size and last batch were asked for.
    #[must_use]
    pub fn batch_sampler(mut self, batches: impl BatchSampler) -> Self {
        self.custom = Some(Box::new(batches));
        self
    }

    /// What becomes of samples that do not fill a batch.
    #[must_use]
    pub fn last_batch(mut self, last_batch: LastBatch) -> Self {
        self.fixed.last_batch = last_batch;
        self
    }

    /// Seed of random transforms (0, or what [`DataLoader::shuffle`] was given).
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// Makes the batches on `workers` threads, which live as long as the iterator over an epoch. 0, the default, makes each
    /// batch when it is asked for.
    #[must_use]
    pub fn workers(mut self, workers: usize) -> Self {
        self.workers = workers;
        self
    }

    /// How many batches the workers together may be ahead: twice their number by default, and at least their number.
    #[must_use]
    pub fn prefetch(mut self, batches: usize) -> Self {
        self.prefetch = Some(batches);
        self
    }

    /// The number of the next epoch, to take up a run where another one stopped.
    #[must_use]
    pub fn start_at(self, epoch: u64) -> Self {
        self.epoch.store(epoch, Ordering::Relaxed);
        self
    }

    /// How samples become a batch: [`Stack`], [`Pad`](super::Pad), [`Group`](super::Group), or a closure.
    #[must_use]
    pub fn batchify<G: Batchify<D::Item>>(self, batchify: G) -> DataLoader<D, G> {
        let DataLoader { dataset, fixed, custom, seed, workers, prefetch, epoch, .. } = self;
        DataLoader { dataset, batchify: Arc::new(batchify), fixed, custom, seed, workers, prefetch, epoch }
    }

    /// The dataset.
    pub fn dataset(&self) -> &D {
        &self.dataset
    }

    /// Samples per batch, when no batch sampler says otherwise.
    pub fn batch_size(&self) -> usize {
        self.fixed.batch_size
    }

    fn order(&self) -> &dyn BatchSampler {
        match &self.custom {
            Some(batches) => &**batches,
            None => &self.fixed,
        }
    }

    /// The number of batches of the next epoch.
    pub fn len(&self) -> usize {
        self.order().len(self.epoch.load(Ordering::Relaxed))
    }

    /// Whether the next epoch has no batches.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The batches of the next epoch, on `ctx`.
    pub fn epoch<B: Backend>(&self, ctx: &B) -> Batches<B, D, F>
    where
        F: Batchify<D::Item>,
    {
        let number = self.epoch.fetch_add(1, Ordering::Relaxed);
        let batches = self.order().batches(number);
        let (dataset, batchify) = (self.dataset.clone(), self.batchify.clone());
        let epoch = Arc::new(Epoch::new(dataset, batchify, self.seed, number, batches));
        // Where the system has no thread to give, the consumer's own makes the same batches.
        let workers = self.workers.min(epoch.len());
        let prefetch = self.prefetch.unwrap_or(2 * workers).min(epoch.len());
        let workers = if workers > 0 { Workers::start(&epoch, workers, prefetch).ok() } else { None };
        Batches { epoch, workers, ctx: ctx.clone(), at: 0 }
    }
}

impl<D, F> fmt::Debug for DataLoader<D, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DataLoader")
            .field("batch_size", &self.fixed.batch_size)
            .field("last_batch", &self.fixed.last_batch)
            .field("seed", &self.seed)
            .field("workers", &self.workers)
            .finish_non_exhaustive()
    }
}

/// The batches of one epoch, on the device.
///
/// A sample that cannot be made is an [`isograd_core::Error::Sample`] in the place of its batch, and the next batches follow.
/// A panic on a worker is such an error too, of [`isograd_core::Error::Panicked`]; without workers it is the consumer's own.
/// Dropping the iterator stops the workers and waits for the samples that they are at.
pub struct Batches<B: Backend, D: Dataset, F: Batchify<D::Item>> {
    epoch: Arc<Epoch<D, F>>,
    workers: Option<Workers<F::Batch>>,
    ctx: B,
    at: usize,
}

impl<B, D, F> Iterator for Batches<B, D, F>
where
    B: Backend,
    D: Dataset,
    F: Batchify<D::Item>,
    F::Batch: Upload<B>,
{
    type Item = Result<<F::Batch as Upload<B>>::On>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.at == self.epoch.len() {
            return None;
        }
        let batch = match &self.workers {
            Some(workers) => workers.receive(self.at),
            None => self.epoch.batch(self.at),
        };
        self.at += 1;
        Some(batch.and_then(|batch| batch.upload(&self.ctx)))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = self.epoch.len() - self.at;
        (left, Some(left))
    }
}

impl<B, D, F> ExactSizeIterator for Batches<B, D, F>
where
    B: Backend,
    D: Dataset,
    F: Batchify<D::Item>,
    F::Batch: Upload<B>,
{
}

impl<B: Backend, D: Dataset, F: Batchify<D::Item>> fmt::Debug for Batches<B, D, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Batches({} of {} batches taken, on {})", self.at, self.epoch.len(), self.ctx.name())
    }
}
