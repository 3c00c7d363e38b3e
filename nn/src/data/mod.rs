//! Data: datasets in host memory, and loaders that put batches on a device.
//!
//! - a [`Dataset`] gives samples by number: [`ArrayDataset`], [`SimpleDataset`], `vision::ImageFolder`, one's own; its methods
//!   `transform`, `transform_first`, `take`, `subset`, `filter` and `shard` make others of it;
//! - a [`DataLoader`] puts samples into batches, with worker threads if asked for: which samples is the [`Sampler`]'s business
//!   (or the [`BatchSampler`]'s), how they become a batch the [`Batchify`] function's;
//! - a [`Transform`] changes a sample, with random numbers from the [`Generator`] it is given; those of pictures are in [`vision`];
//! - [`text`] has vocabularies and sequences; [`idx`], [`cifar`] and `Table` (of feature `csv`) read files.
//!
//! Where things are: `loader` has what users see of loading, `workers` the threads, `random` where generators come from,
//! `derived` the datasets made of others.

mod batchify;
pub mod cifar;
#[cfg(feature = "csv")]
mod csv;
mod dataset;
mod derived;
pub mod idx;
mod loader;
mod random;
mod sampler;
pub mod text;
mod transform;
pub mod vision;
mod workers;

#[cfg(feature = "csv")]
pub use self::csv::{CsvOptions, FeatureEncoder, FeatureOptions, Features, Table};
pub use batchify::{Batchify, Group, Pad, PadWithLengths, Stack, Upload};
pub use dataset::{ArrayDataset, Dataset, Parts, ReplaceFirst, SimpleDataset};
pub use derived::{Subset, Transformed, TransformedFirst};
pub(crate) use loader::Place;
pub use loader::{Batches, DataLoader, Position};
pub use random::Generator;
pub use sampler::{
    BatchSampler, FixedBatches, IntervalSampler, LastBatch, RandomSampler, Sampler, SequentialSampler, SubsetSampler,
    WeightedSampler,
};
pub use transform::{Compose, Then, Transform};
