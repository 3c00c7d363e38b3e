//! Datasets made of others, by the methods of [`Dataset`].

use super::{
    Dataset, Generator, Transform,
    dataset::{Parts, ReplaceFirst, check, fixed},
};
use isograd_core::Result;
use std::ops::Range;

/// What [`Dataset::transform`] gives.
#[derive(Clone, Debug)]
pub struct Transformed<D, F> {
    pub(super) dataset: D,
    pub(super) f: F,
}

impl<D, Y, F> Dataset for Transformed<D, F>
where
    D: Dataset,
    Y: Send,
    F: Fn(D::Item, &mut Generator) -> Result<Y> + Send + Sync + 'static,
{
    type Item = Y;

    fn len(&self) -> usize {
        self.dataset.len()
    }

    /// The sample as drawn from a generator that depends on `index` alone.
    fn get(&self, index: usize) -> Result<Y> {
        self.get_with(index, &mut fixed(index))
    }

    fn get_with(&self, index: usize, generator: &mut Generator) -> Result<Y> {
        let sample = self.dataset.get_with(index, generator)?;
        (self.f)(sample, generator)
    }
}

/// What [`Dataset::transform_first`] gives.
#[derive(Clone, Debug)]
pub struct TransformedFirst<D, T> {
    pub(super) dataset: D,
    pub(super) transform: T,
}

impl<D, T> Dataset for TransformedFirst<D, T>
where
    D: Dataset,
    D::Item: Parts + ReplaceFirst<T::Output>,
    T: Transform<<D::Item as Parts>::First>,
{
    type Item = <D::Item as ReplaceFirst<T::Output>>::Output;

    fn len(&self) -> usize {
        self.dataset.len()
    }

    /// The sample as drawn from a generator that depends on `index` alone.
    fn get(&self, index: usize) -> Result<Self::Item> {
        self.get_with(index, &mut fixed(index))
    }

    fn get_with(&self, index: usize, generator: &mut Generator) -> Result<Self::Item> {
        let sample = self.dataset.get_with(index, generator)?;
        sample.replace_first(|first| self.transform.apply(first, generator))
    }
}

/// Some samples of a dataset: what [`Dataset::take`], [`Dataset::subset`], [`Dataset::filter`] and [`Dataset::shard`] give.
#[derive(Clone, Debug)]
pub struct Subset<D> {
    dataset: D,
    indices: Vec<usize>,
}

impl<D> Subset<D> {
    pub(super) fn new(dataset: D, indices: Vec<usize>) -> Self {
        Subset { dataset, indices }
    }

    pub(super) fn of_range(dataset: D, range: Range<usize>) -> Self {
        Subset::new(dataset, range.collect())
    }

    /// The numbers that its samples have in the whole dataset.
    pub fn indices(&self) -> &[usize] {
        &self.indices
    }
}

impl<D: Dataset> Dataset for Subset<D> {
    type Item = D::Item;

    fn len(&self) -> usize {
        self.indices.len()
    }

    fn get(&self, index: usize) -> Result<D::Item> {
        check("Subset", index, self.indices.len())?;
        self.dataset.get(self.indices[index])
    }

    fn get_with(&self, index: usize, generator: &mut Generator) -> Result<D::Item> {
        check("Subset", index, self.indices.len())?;
        self.dataset.get_with(self.indices[index], generator)
    }
}
