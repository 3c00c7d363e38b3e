//! [`DataLoader`]: the samples of a dataset in batches, on a device.

use super::{
    BatchSampler, Batchify, Dataset, FixedBatches, LastBatch, RandomSampler, Sampler, SequentialSampler, Stack, Upload,
    workers::{Epoch, Workers},
};
use isograd_core::{Backend, Result};
use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard},
};

/// Where a loader is in its epochs: see [`DataLoader::position`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Position {
    /// The number of the epoch.
    pub epoch: u64,
    /// How many of its batches have been taken.
    pub batch: u64,
}

/// The position that a loader, its iterators and checkpoints share.
#[derive(Clone, Debug, Default)]
pub(crate) struct Place(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    /// Where the next epoch begins.
    next: Position,
    /// Where the epoch that began last is, while there are batches to come of it.
    current: Option<Position>,
    /// How many epochs have begun: the number of the iterator that `current` is of.
    begun: u64,
}

impl Place {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(|e| e.into_inner())
    }

    pub fn get(&self) -> Position {
        let state = self.lock();
        state.current.unwrap_or(state.next)
    }

    pub fn set(&self, next: Position) {
        let mut state = self.lock();
        (state.next, state.current) = (next, None);
    }

    /// Begins an epoch: where, and which iterator it is.
    fn begin(&self) -> (Position, u64) {
        let mut state = self.lock();
        let start = state.next;
        state.next = Position { epoch: start.epoch + 1, batch: 0 };
        state.current = Some(start);
        state.begun += 1;
        (start, state.begun)
    }

    /// An iterator has given so many batches; `None`: it gives no more.
    fn note(&self, iterator: u64, batch: Option<usize>) {
        let mut state = self.lock();
        if state.begun == iterator {
            let at = |current: Position| batch.map(|batch| Position { batch: batch as u64, ..current });
            state.current = state.current.and_then(at);
        }
    }
}

/// Goes through a dataset in batches, epoch after epoch.
///
/// What an epoch brings depends on the seeds and on its number alone, to the last bit: the order, and all random transforms,
/// whose generators are made of the seed, the epoch, and the sample's place and number. The number of workers changes when
/// batches are made, not what they are.
///
/// ```
/// use isograd::format::HostArray;
/// use isograd::nn::data::{ArrayDataset, DataLoader};
/// let ctx = isograd::device("cpu")?;
/// let dataset = ArrayDataset::new([HostArray::from_slice(&[1i64, 2, 3, 4, 5], [5])?])?;
/// let loader = DataLoader::new(dataset, 2)?.shuffle(42).workers(2);
/// let mut seen = vec![];
/// for batch in loader.epoch(&ctx) {
///     let [x] = batch?;
///     seen.extend(x.to_vec::<i64>()?);
/// }
/// seen.sort();
/// assert_eq!(seen, [1, 2, 3, 4, 5]);
/// # Ok::<(), isograd::Error>(())
/// ```
pub struct DataLoader<D, F = Stack> {
    dataset: Arc<D>,
    batchify: Arc<F>,
    fixed: FixedBatches<Box<dyn Sampler>>,
    custom: Option<Box<dyn BatchSampler>>,
    seed: u64,
    workers: usize,
    prefetch: Option<usize>,
    place: Place,
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
            place: Place::default(),
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
        self.resume(Position { epoch, batch: 0 });
        self
    }

    /// Where it is: within the epoch that began last, as long as its iterator lives and has batches to come; else at the beginning
    /// of the next one. A run that is taken up by [`DataLoader::resume`] gets what an unbroken one gets from there on. A
    /// [`crate::Checkpoint`] keeps it.
    ///
    /// ```
    /// use isograd::nn::data::{DataLoader, SimpleDataset};
    /// let ctx = isograd::device("cpu")?;
    /// let loader = || DataLoader::new(SimpleDataset::new(vec![1.0f32, 2.0, 3.0, 4.0]), 1).map(|l| l.shuffle(1));
    /// let (first, second) = (loader()?, loader()?);
    /// let mut batches = first.epoch(&ctx);
    /// batches.next().unwrap()?;
    /// second.resume(first.position());
    /// let rest = |batches: &mut dyn Iterator<Item = isograd::Result<isograd::Tensor<_>>>| -> Vec<f32> {
    ///     batches.map(|x| x.unwrap().asscalar().unwrap()).collect()
    /// };
    /// assert_eq!(rest(&mut second.epoch(&ctx)), rest(&mut batches));
    /// assert_eq!((first.position().epoch, first.position().batch), (1, 0));
    /// # Ok::<(), isograd::Error>(())
    /// ```
    pub fn position(&self) -> Position {
        self.place.get()
    }

    /// Lets the next epoch begin at `position`.
    pub fn resume(&self, position: Position) {
        self.place.set(position);
    }

    pub(crate) fn place(&self) -> Place {
        self.place.clone()
    }

    /// How samples become a batch: [`Stack`], [`Pad`](super::Pad), [`Group`](super::Group), or a closure.
    #[must_use]
    pub fn batchify<G: Batchify<D::Item>>(self, batchify: G) -> DataLoader<D, G> {
        let DataLoader { dataset, fixed, custom, seed, workers, prefetch, place, .. } = self;
        DataLoader { dataset, batchify: Arc::new(batchify), fixed, custom, seed, workers, prefetch, place }
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
        self.order().len(self.place.lock().next.epoch)
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
        let (start, number) = self.place.begin();
        let batches = self.order().batches(start.epoch);
        let (dataset, batchify) = (self.dataset.clone(), self.batchify.clone());
        let epoch = Arc::new(Epoch::new(dataset, batchify, self.seed, start.epoch, batches));
        let at = usize::try_from(start.batch).map_or(epoch.len(), |at| at.min(epoch.len()));
        // Where the system has no thread to give, the consumer's own makes the same batches.
        let workers = self.workers.min(epoch.len() - at);
        let prefetch = self.prefetch.unwrap_or(2 * workers).min(epoch.len() - at);
        let workers = if workers > 0 { Workers::start(&epoch, at, workers, prefetch).ok() } else { None };
        Batches { epoch, workers, ctx: ctx.clone(), at, number, place: self.place.clone() }
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
    /// Which iterator of the loader it is.
    number: u64,
    place: Place,
}

impl<B: Backend, D: Dataset, F: Batchify<D::Item>> Drop for Batches<B, D, F> {
    fn drop(&mut self) {
        self.place.note(self.number, None);
    }
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
        self.place.note(self.number, Some(self.at).filter(|at| *at < self.epoch.len()));
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
