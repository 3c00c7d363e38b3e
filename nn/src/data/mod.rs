//! Data: datasets in host memory, and loaders that put batches on a device.
//!
//! A [`Dataset`] gives samples by number; a [`DataLoader`] picks, shuffles, batches and uploads them; `idx` reads the files
//! that MNIST comes in.

mod dataset;
pub mod idx;
mod loader;

pub use dataset::{ArrayDataset, Dataset};
pub use loader::{Batches, DataLoader, LastBatch};
