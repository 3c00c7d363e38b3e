//! [`Dataset`]: samples by number; [`ArrayDataset`]: the rows of arrays; [`SimpleDataset`]: a list of anything.

use super::{
    Batchify, Generator, Stack, Transform,
    derived::{Subset, Transformed, TransformedFirst},
    random,
};
use isograd_core::{Error, Result, Shape, format::HostArray};
use std::{ops::Range, sync::Arc};

/// Samples by number, of any type: arrays, pictures, words, tuples of them.
///
/// ```
/// use isograd::Result;
/// use isograd::nn::data::Dataset;
///
/// struct Squares;
/// impl Dataset for Squares {
///     type Item = (f32, f32);
///     fn len(&self) -> usize {
///         100
///     }
///     fn get(&self, index: usize) -> Result<(f32, f32)> {
///         Ok((index as f32, (index * index) as f32))
///     }
/// }
/// let even = Squares.filter(|(x, _)| x % 2.0 == 0.0)?.take(3).transform(|(x, y), _| Ok(x + y));
/// assert_eq!((even.len(), even.get(2)?), (3, 20.0));
/// # Ok::<(), isograd::Error>(())
/// ```
pub trait Dataset: Send + Sync + 'static {
    /// What a sample is.
    type Item: Send;

    /// How many samples there are.
    fn len(&self) -> usize;

    /// Whether there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Sample number `index`.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] when there is none; what reading it reports.
    fn get(&self, index: usize) -> Result<Self::Item>;

    /// Sample number `index`, where it is random as drawn from `generator`. This is what a [`DataLoader`](super::DataLoader)
    /// calls. A dataset that wraps another one hands the generator on; one without randomness leaves it alone.
    ///
    /// # Errors
    /// As [`Dataset::get`].
    fn get_with(&self, index: usize, generator: &mut Generator) -> Result<Self::Item> {
        let _ = generator;
        self.get(index)
    }

    /// Every sample through `f`, each time it is asked for. What `f` draws from the generator differs from epoch to epoch.
    fn transform<Y, F>(self, f: F) -> Transformed<Self, F>
    where
        Self: Sized,
        Y: Send,
        F: Fn(Self::Item, &mut Generator) -> Result<Y> + Send + Sync + 'static,
    {
        Transformed { dataset: self, f }
    }

    /// The first part of every sample (the picture, not its class) through `transform`, each time it is asked for.
    fn transform_first<T>(self, transform: T) -> TransformedFirst<Self, T>
    where
        Self: Sized,
        Self::Item: Parts + ReplaceFirst<T::Output>,
        T: Transform<<Self::Item as Parts>::First>,
    {
        TransformedFirst { dataset: self, transform }
    }

    /// The first `n` samples, or all if there are fewer.
    fn take(self, n: usize) -> Subset<Self>
    where
        Self: Sized,
    {
        let n = n.min(self.len());
        Subset::of_range(self, 0..n)
    }

    /// The samples numbered `indices`, in that order.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for a number that is not there.
    fn subset(self, indices: Vec<usize>) -> Result<Subset<Self>>
    where
        Self: Sized,
    {
        indices.iter().try_for_each(|&index| check("Dataset::subset", index, self.len()))?;
        Ok(Subset::new(self, indices))
    }

    /// The samples that `keep` accepts. Each is looked at once, now.
    ///
    /// # Errors
    /// [`Error::Sample`] with what reading a sample reports.
    fn filter<F>(self, keep: F) -> Result<Subset<Self>>
    where
        Self: Sized,
        F: Fn(&Self::Item) -> bool,
    {
        let mut indices = Vec::new();
        for index in 0..self.len() {
            let sample = self.get(index).map_err(|e| Error::Sample { index, source: Box::new(e) })?;
            if keep(&sample) {
                indices.push(index);
            }
        }
        Ok(Subset::new(self, indices))
    }

    /// Part `index` of `shards` parts, for as many processes: neighbouring samples, and the parts differ by one at most.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] when there is no such part.
    fn shard(self, shards: usize, index: usize) -> Result<Subset<Self>>
    where
        Self: Sized,
    {
        if index >= shards {
            let why = format!("there is no part {index} of {shards}; the parts are numbered from 0");
            return Err(Error::invalid("Dataset::shard", why));
        }
        let (each, longer) = (self.len() / shards, self.len() % shards);
        let start = each * index + longer.min(index);
        let end = start + each + usize::from(index < longer);
        Ok(Subset::of_range(self, Range { start, end }))
    }
}

/// Refuses the number of a sample that is not there.
pub(super) fn check(op: &'static str, index: usize, len: usize) -> Result<()> {
    if index < len { Ok(()) } else { Err(Error::invalid(op, format!("there is no sample {index}; there are {len}"))) }
}

macro_rules! delegate {
    ($($pointer:ident)*) => { $(
        impl<D: Dataset + ?Sized> Dataset for $pointer<D> {
            type Item = D::Item;

            fn len(&self) -> usize {
                (**self).len()
            }

            fn get(&self, index: usize) -> Result<D::Item> {
                (**self).get(index)
            }

            fn get_with(&self, index: usize, generator: &mut Generator) -> Result<D::Item> {
                (**self).get_with(index, generator)
            }
        }
    )* };
}
delegate!(Arc Box);

/// A sample whose first part is told from the others: tuples of two to four, and arrays.
pub trait Parts {
    /// The first part.
    type First;
}

/// A sample whose first part can become a `Y`.
pub trait ReplaceFirst<Y>: Parts {
    /// The sample with a `Y` for its first part.
    type Output: Send;

    /// The sample with its first part through `f`.
    ///
    /// # Errors
    /// What `f` reports.
    fn replace_first(self, f: impl FnOnce(Self::First) -> Result<Y>) -> Result<Self::Output>;
}

macro_rules! tuples {
    ($($($rest:ident)*;)*) => { $(
        impl<X, $($rest),*> Parts for (X, $($rest),*) {
            type First = X;
        }

        impl<X, Y: Send, $($rest: Send),*> ReplaceFirst<Y> for (X, $($rest),*) {
            type Output = (Y, $($rest),*);

            #[allow(non_snake_case)]
            fn replace_first(self, f: impl FnOnce(X) -> Result<Y>) -> Result<Self::Output> {
                let (first, $($rest),*) = self;
                Ok((f(first)?, $($rest),*))
            }
        }
    )* };
}
tuples! { B; B C; B C D; }

impl<T, const N: usize> Parts for [T; N] {
    type First = T;
}

impl<T: Send, const N: usize> ReplaceFirst<T> for [T; N] {
    type Output = [T; N];

    fn replace_first(self, f: impl FnOnce(T) -> Result<T>) -> Result<[T; N]> {
        let mut parts: Vec<T> = self.into_iter().collect();
        if !parts.is_empty() {
            let first = f(parts.remove(0))?;
            parts.insert(0, first);
        }
        parts
            .try_into()
            .map_err(|_| Error::invalid("Dataset::transform_first", "the sample has another number of parts"))
    }
}

/// The rows of arrays of one length, such as pictures `[n, height, width]` and classes `[n]`.
///
/// ```
/// use isograd::format::HostArray;
/// use isograd::nn::data::{ArrayDataset, Dataset};
/// let x = HostArray::from_slice(&[1.0f32, 2.0, 3.0, 4.0], [2, 2])?;
/// let y = HostArray::from_slice(&[7i64, 8], [2])?;
/// let dataset = ArrayDataset::new([x, y])?;
/// let [x, y] = dataset.get(1)?;
/// assert_eq!((x.to_vec::<f32>()?, y.to_vec::<i64>()?), (vec![3.0, 4.0], vec![8]));
/// # Ok::<(), isograd::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct ArrayDataset<const N: usize> {
    arrays: [HostArray; N],
    length: usize,
}

impl<const N: usize> ArrayDataset<N> {
    /// A dataset of the rows of `arrays`.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] without arrays, or when one has rank 0 or another length than the first.
    pub fn new(arrays: [HostArray; N]) -> Result<ArrayDataset<N>> {
        let lengths: Vec<Option<usize>> = arrays.iter().map(|a| a.shape.first().copied()).collect();
        let Some(Some(length)) = lengths.first().copied() else {
            return Err(Error::invalid("ArrayDataset", "it needs arrays with at least one axis"));
        };
        if lengths.iter().any(|l| *l != Some(length)) {
            let shapes: Vec<&Shape> = arrays.iter().map(|a| &a.shape).collect();
            return Err(Error::invalid("ArrayDataset", format!("the first axes of the shapes {shapes:?} differ")));
        }
        arrays.iter().try_for_each(HostArray::check)?;
        Ok(ArrayDataset { arrays, length })
    }

    /// The arrays.
    pub fn arrays(&self) -> &[HostArray; N] {
        &self.arrays
    }

    /// The rows numbered `indices` of each array.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for a row that there is not, or no indices.
    pub fn batch(&self, indices: &[usize]) -> Result<[HostArray; N]> {
        Stack.batch(indices.iter().map(|&index| self.get(index)).collect::<Result<Vec<_>>>()?)
    }
}

impl<const N: usize> Dataset for ArrayDataset<N> {
    type Item = [HostArray; N];

    fn len(&self) -> usize {
        self.length
    }

    fn get(&self, index: usize) -> Result<[HostArray; N]> {
        check("ArrayDataset", index, self.length)?;
        Ok(self.arrays.each_ref().map(|array| {
            let row = array.bytes.len() / self.length;
            let bytes = array.bytes[index * row..(index + 1) * row].to_vec();
            HostArray { dtype: array.dtype, shape: array.shape.without(0), bytes }
        }))
    }
}

/// The elements of a list.
///
/// ```
/// use isograd::nn::data::{Dataset, SimpleDataset};
/// let words = SimpleDataset::new(vec!["one", "two", "three"]);
/// assert_eq!(words.transform(|word, _| Ok(word.len())).get(2)?, 5);
/// # Ok::<(), isograd::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct SimpleDataset<T>(Vec<T>);

impl<T> SimpleDataset<T> {
    /// A dataset of `samples`.
    pub fn new(samples: Vec<T>) -> Self {
        SimpleDataset(samples)
    }
}

impl<T: Clone + Send + Sync + 'static> Dataset for SimpleDataset<T> {
    type Item = T;

    fn len(&self) -> usize {
        self.0.len()
    }

    fn get(&self, index: usize) -> Result<T> {
        check("SimpleDataset", index, self.0.len())?;
        Ok(self.0[index].clone())
    }
}

/// The generator of [`Dataset::get`] for a dataset that is random: sample `index` is always the same.
pub(super) fn fixed(index: usize) -> Generator {
    random::sample(0, 0, 0, index as u64)
}
