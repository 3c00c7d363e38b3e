//! Samplers: which samples an epoch has, and in which order; and [`BatchSampler`]s, which cut it into batches.
//!
//! All are functions of the number of the epoch. A run that is taken up again at epoch `e` gets what an unbroken one gets.

use super::{Dataset, random};
use isograd_core::{Error, Result, host};
use rand::{RngExt, seq::SliceRandom};

/// The samples of every epoch.
///
/// ```
/// use isograd::nn::data::{DataLoader, Sampler, SimpleDataset};
///
/// struct Backwards(usize);
/// impl Sampler for Backwards {
///     fn len(&self) -> usize {
///         self.0
///     }
///     fn indices(&self, _epoch: u64) -> Vec<usize> {
///         (0..self.0).rev().collect()
///     }
/// }
/// let ctx = isograd::device("cpu")?;
/// let loader = DataLoader::new(SimpleDataset::new(vec![1.0f32, 2.0, 3.0]), 2)?.sampler(Backwards(3));
/// let first = loader.epoch(&ctx).next().unwrap()?;
/// assert_eq!(first.to_vec::<f32>()?, [3.0, 2.0]);
/// # Ok::<(), isograd::Error>(())
/// ```
pub trait Sampler: Send + Sync + 'static {
    /// How many samples an epoch has; as many in each.
    fn len(&self) -> usize;

    /// Whether epochs have no samples.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The numbers of the samples of `epoch`, in order.
    fn indices(&self, epoch: u64) -> Vec<usize>;
}

impl<S: Sampler + ?Sized> Sampler for Box<S> {
    fn len(&self) -> usize {
        (**self).len()
    }

    fn indices(&self, epoch: u64) -> Vec<usize> {
        (**self).indices(epoch)
    }
}

/// 0, 1, 2, ..., or from another start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SequentialSampler {
    len: usize,
    start: usize,
}

impl SequentialSampler {
    /// The samples 0 to `len - 1`.
    pub fn new(len: usize) -> Self {
        SequentialSampler { len, start: 0 }
    }

    /// The number of the first sample (0).
    #[must_use]
    pub fn start(mut self, start: usize) -> Self {
        self.start = start;
        self
    }
}

impl Sampler for SequentialSampler {
    fn len(&self) -> usize {
        self.len
    }

    fn indices(&self, _epoch: u64) -> Vec<usize> {
        // A number beyond all is none of a sample, and is refused as such.
        (0..self.len).map(|i| self.start.saturating_add(i)).collect()
    }
}

/// All samples in random order, another one in each epoch: the generator is ChaCha8 of the seed, with the epoch as its stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RandomSampler {
    len: usize,
    seed: u64,
}

impl RandomSampler {
    /// The samples 0 to `len - 1`.
    pub fn new(len: usize, seed: u64) -> Self {
        RandomSampler { len, seed }
    }
}

impl Sampler for RandomSampler {
    fn len(&self) -> usize {
        self.len
    }

    fn indices(&self, epoch: u64) -> Vec<usize> {
        let mut indices: Vec<usize> = (0..self.len).collect();
        indices.shuffle(&mut random::order(self.seed, epoch));
        indices
    }
}

/// 0, k, 2k, ..., then 1, k + 1, ... and so on: Gluon's `IntervalSampler`.
///
/// ```
/// use isograd::nn::data::{IntervalSampler, Sampler};
/// assert_eq!(IntervalSampler::new(7, 3)?.indices(0), [0, 3, 6, 1, 4, 2, 5]);
/// assert_eq!(IntervalSampler::new(7, 3)?.rollover(false).indices(0), [0, 3, 6]);
/// # Ok::<(), isograd::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IntervalSampler {
    len: usize,
    interval: usize,
    rollover: bool,
}

impl IntervalSampler {
    /// Every `interval`-th of `len` samples.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for an interval of 0, or above `len`; [`Error::OutOfMemory`] for more samples than can be listed.
    pub fn new(len: usize, interval: usize) -> Result<Self> {
        if interval == 0 || interval > len {
            let why = format!("the interval {interval} must be in 1..={len}, the number of samples");
            return Err(Error::invalid("IntervalSampler", why));
        }
        drop(host::reserve::<usize>("IntervalSampler", len)?);
        Ok(IntervalSampler { len, interval, rollover: true })
    }

    /// Whether it goes on with the samples between, until all are done (true).
    #[must_use]
    pub fn rollover(mut self, rollover: bool) -> Self {
        self.rollover = rollover;
        self
    }
}

impl Sampler for IntervalSampler {
    fn len(&self) -> usize {
        if self.rollover { self.len } else { self.len.div_ceil(self.interval) }
    }

    fn indices(&self, _epoch: u64) -> Vec<usize> {
        let starts = if self.rollover { self.interval } else { 1 };
        (0..starts).flat_map(|start| (start..self.len).step_by(self.interval)).collect()
    }
}

/// The samples of a list, in its order or in random order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubsetSampler {
    indices: Vec<usize>,
    seed: Option<u64>,
}

impl SubsetSampler {
    /// The samples numbered `indices`.
    pub fn new(indices: Vec<usize>) -> Self {
        SubsetSampler { indices, seed: None }
    }

    /// The samples of `dataset` that `keep` accepts: Gluon's `FilterSampler`. Each is looked at once, now.
    ///
    /// # Errors
    /// [`Error::Sample`] with what reading a sample reports.
    pub fn filter<D: Dataset>(dataset: &D, keep: impl Fn(&D::Item) -> bool) -> Result<Self> {
        let mut indices = Vec::new();
        for index in 0..dataset.len() {
            let sample = dataset.get(index).map_err(|e| Error::Sample { index, source: Box::new(e) })?;
            if keep(&sample) {
                indices.push(index);
            }
        }
        Ok(SubsetSampler::new(indices))
    }

    /// In random order, another one in each epoch.
    #[must_use]
    pub fn shuffle(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }
}

impl Sampler for SubsetSampler {
    fn len(&self) -> usize {
        self.indices.len()
    }

    fn indices(&self, epoch: u64) -> Vec<usize> {
        let mut indices = self.indices.clone();
        if let Some(seed) = self.seed {
            indices.shuffle(&mut random::order(seed, epoch));
        }
        indices
    }
}

/// Samples drawn with given probabilities, one by one and put back: rare classes can come as often as frequent ones.
///
/// ```
/// use isograd::nn::data::{Sampler, WeightedSampler};
/// let drawn = WeightedSampler::new(vec![0.0, 1.0, 3.0], 400, 7)?.indices(0);
/// assert!(!drawn.contains(&0));
/// assert!((250..350).contains(&drawn.iter().filter(|&&i| i == 2).count()));
/// # Ok::<(), isograd::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct WeightedSampler {
    cumulative: Vec<f64>,
    samples: usize,
    seed: u64,
}

impl WeightedSampler {
    /// `samples` draws an epoch, of sample `i` with a probability proportional to `weights[i]`.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] when a weight is negative or not finite, or their sum not positive; [`Error::OutOfMemory`] for more
    /// draws than can be listed.
    pub fn new(weights: Vec<f64>, samples: usize, seed: u64) -> Result<Self> {
        if let Some(at) = weights.iter().position(|w| !(w.is_finite() && *w >= 0.0)) {
            let why = format!("weight {at} is {}; weights are finite and not negative", weights[at]);
            return Err(Error::invalid("WeightedSampler", why));
        }
        let mut sum = 0.0;
        let cumulative: Vec<f64> = weights.iter().map(|w| (sum += w, sum).1).collect();
        if !(sum > 0.0 && sum.is_finite()) {
            return Err(Error::invalid(
                "WeightedSampler",
                format!("the weights add up to {sum}, which must be positive"),
            ));
        }
        drop(host::reserve::<usize>("WeightedSampler", samples)?);
        Ok(WeightedSampler { cumulative, samples, seed })
    }
}

impl Sampler for WeightedSampler {
    fn len(&self) -> usize {
        self.samples
    }

    fn indices(&self, epoch: u64) -> Vec<usize> {
        let mut generator = random::order(self.seed, epoch);
        let sum = self.cumulative[self.cumulative.len() - 1];
        // The first sample whose share ends above the draw; one of weight 0 ends where the one before it ends. Rounding may
        // take a draw up to the sum itself, where the last sample with a share is meant.
        let last = self.cumulative.partition_point(|&c| c < sum);
        let draw = |_| {
            let at = generator.random::<f64>() * sum;
            self.cumulative.partition_point(|&c| c <= at).min(last)
        };
        (0..self.samples).map(draw).collect()
    }
}

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

/// The batches of every epoch, as the numbers of their samples. [`FixedBatches`] is what a loader uses; implement it for
/// batches that are put together in another way, such as of sequences of like length.
pub trait BatchSampler: Send + Sync + 'static {
    /// How many batches `epoch` has.
    fn len(&self, epoch: u64) -> usize;

    /// The numbers of the samples of each batch of `epoch`.
    fn batches(&self, epoch: u64) -> Vec<Vec<usize>>;
}

/// The samples of a [`Sampler`] in batches of one size.
///
/// ```
/// use isograd::nn::data::{BatchSampler, FixedBatches, LastBatch, SequentialSampler};
/// let batches = FixedBatches::new(SequentialSampler::new(5), 2, LastBatch::Rollover)?;
/// assert_eq!(batches.batches(0), [[0, 1], [2, 3]]);
/// assert_eq!(batches.batches(1), [[4, 0], [1, 2], [3, 4]]);
/// # Ok::<(), isograd::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FixedBatches<S> {
    pub(super) sampler: S,
    pub(super) batch_size: usize,
    pub(super) last_batch: LastBatch,
}

impl<S: Sampler> FixedBatches<S> {
    /// Batches of `batch_size` samples.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for a batch size of 0.
    pub fn new(sampler: S, batch_size: usize, last_batch: LastBatch) -> Result<Self> {
        if batch_size == 0 {
            return Err(Error::invalid("DataLoader", "the batch size must be at least 1"));
        }
        Ok(FixedBatches { sampler, batch_size, last_batch })
    }

    /// How many samples of earlier epochs come first in `epoch`: what the samples of all of them leave over.
    fn carried(&self, epoch: u64) -> usize {
        match self.last_batch {
            LastBatch::Rollover => (u128::from(epoch) * self.sampler.len() as u128 % self.batch_size as u128) as usize,
            LastBatch::Keep | LastBatch::Discard => 0,
        }
    }
}

impl<S: Sampler> BatchSampler for FixedBatches<S> {
    fn len(&self, epoch: u64) -> usize {
        let samples = self.sampler.len() + self.carried(epoch);
        match self.last_batch {
            LastBatch::Keep => samples.div_ceil(self.batch_size),
            LastBatch::Discard | LastBatch::Rollover => samples / self.batch_size,
        }
    }

    fn batches(&self, epoch: u64) -> Vec<Vec<usize>> {
        let mut samples = self.sampler.indices(epoch);
        let mut missing = self.carried(epoch);
        for earlier in (0..epoch).rev() {
            if missing == 0 {
                break;
            }
            let mut left = self.sampler.indices(earlier);
            left.drain(..left.len().saturating_sub(missing));
            missing -= left.len();
            left.append(&mut samples);
            samples = left;
        }
        if self.last_batch != LastBatch::Keep {
            samples.truncate(samples.len() - samples.len() % self.batch_size);
        }
        samples.chunks(self.batch_size).map(<[usize]>::to_vec).collect()
    }
}
