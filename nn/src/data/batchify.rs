//! [`Batchify`]: how samples become a batch; [`Upload`]: how a batch gets to a device.
//!
//! To batch a type of one's own: implement `Batchify<YourType> for Stack`, or give the loader a closure.

use super::vision::Image;
use isograd_core::{Backend, DType, Error, Result, Scalar, Shape, Tensor, format::HostArray, host};

/// Puts samples of type `T` together. Closures do too.
pub trait Batchify<T>: Send + Sync + 'static {
    /// What a batch is, in host memory.
    type Batch: Send + 'static;

    /// The batch of `samples`, of which there is at least one.
    ///
    /// # Errors
    /// Samples that do not fit each other.
    fn batch(&self, samples: Vec<T>) -> Result<Self::Batch>;
}

impl<T, Y: Send + 'static, F: Fn(Vec<T>) -> Result<Y> + Send + Sync + 'static> Batchify<T> for F {
    type Batch = Y;

    fn batch(&self, samples: Vec<T>) -> Result<Y> {
        self(samples)
    }
}

/// Stacks arrays of one shape along a new first axis, numbers to an array `[batch]`, and the parts of tuples and arrays of
/// samples each for itself.
///
/// ```
/// use isograd::nn::data::{Batchify, Stack};
/// let (x, y) = Stack.batch(vec![(1.0f32, 7i64), (2.0, 8)])?;
/// assert_eq!((x.to_vec::<f32>()?, y.to_vec::<i64>()?), (vec![1.0, 2.0], vec![7, 8]));
/// # Ok::<(), isograd::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stack;

impl Batchify<HostArray> for Stack {
    type Batch = HostArray;

    fn batch(&self, samples: Vec<HostArray>) -> Result<HostArray> {
        let first = first("Stack", &samples)?;
        let mut bytes = host::reserve("Stack", first.bytes.len().saturating_mul(samples.len()))?;
        for array in &samples {
            if array.shape != first.shape {
                let (left, right) = (first.shape.clone(), array.shape.clone());
                let why = "samples of a batch have one shape; Pad makes them so".to_string();
                return Err(Error::ShapeMismatch { op: "Stack", left, right, why, device: "host".to_string() });
            }
            same_dtype("Stack", first, array)?;
            bytes.extend_from_slice(&array.bytes);
        }
        HostArray::new(first.dtype, first.shape.inserted(0, samples.len()), bytes)
    }
}

fn first<'a, T>(op: &'static str, samples: &'a [T]) -> Result<&'a T> {
    samples.first().ok_or_else(|| Error::invalid(op, "a batch needs at least one sample"))
}

fn same_dtype(op: &'static str, first: &HostArray, array: &HostArray) -> Result<()> {
    if array.dtype == first.dtype {
        return Ok(());
    }
    Err(Error::DTypeMismatch { op, left: first.dtype, right: array.dtype, device: "host".to_string() })
}

impl Batchify<Image> for Stack {
    type Batch = HostArray;

    fn batch(&self, samples: Vec<Image>) -> Result<HostArray> {
        self.batch(samples.into_iter().map(HostArray::from).collect::<Vec<_>>())
    }
}

macro_rules! numbers {
    ($($number:ty)*) => { $(
        impl Batchify<$number> for Stack {
            type Batch = HostArray;

            fn batch(&self, samples: Vec<$number>) -> Result<HostArray> {
                HostArray::from_slice(&samples, [samples.len()])
            }
        }
    )* };
}
numbers! { f32 f64 i64 i32 u8 i8 bool }

impl<T, const N: usize> Batchify<[T; N]> for Stack
where
    Stack: Batchify<T>,
{
    type Batch = [<Stack as Batchify<T>>::Batch; N];

    fn batch(&self, samples: Vec<[T; N]>) -> Result<Self::Batch> {
        let mut parts: [Vec<T>; N] = std::array::from_fn(|_| Vec::with_capacity(samples.len()));
        for sample in samples {
            parts.iter_mut().zip(sample).for_each(|(part, value)| part.push(value));
        }
        let batches = parts.into_iter().map(|part| self.batch(part)).collect::<Result<Vec<_>>>()?;
        batches.try_into().map_err(|_| Error::invalid("Stack", "a sample has another number of arrays"))
    }
}

/// Each part of a tuple by a function of its own.
///
/// ```
/// use isograd::format::HostArray;
/// use isograd::nn::data::{Batchify, Group, Pad, Stack};
/// let sentence = |ids: &[i64]| HostArray::from_slice(ids, [ids.len()]);
/// let samples = vec![(sentence(&[5, 6, 7])?, 1i64), (sentence(&[8])?, 0)];
/// let (sentences, classes) = Group((Pad::new(0), Stack)).batch(samples)?;
/// assert_eq!(sentences.to_vec::<i64>()?, [5, 6, 7, 8, 0, 0]);
/// assert_eq!(classes.to_vec::<i64>()?, [1, 0]);
/// # Ok::<(), isograd::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Group<F>(pub F);

macro_rules! tuples {
    ($($($sample:ident $function:ident $n:tt)*;)*) => { $(
        impl<$($sample),*> Batchify<($($sample,)*)> for Stack
        where
            $(Stack: Batchify<$sample>,)*
        {
            type Batch = ($(<Stack as Batchify<$sample>>::Batch,)*);

            fn batch(&self, samples: Vec<($($sample,)*)>) -> Result<Self::Batch> {
                Group(($({ let _ = $n; Stack },)*)).batch(samples)
            }
        }

        impl<$($sample, $function: Batchify<$sample>),*> Batchify<($($sample,)*)> for Group<($($function,)*)> {
            type Batch = ($($function::Batch,)*);

            #[allow(non_snake_case)]
            fn batch(&self, samples: Vec<($($sample,)*)>) -> Result<Self::Batch> {
                $(let mut $sample = Vec::with_capacity(samples.len());)*
                for sample in samples {
                    $($sample.push(sample.$n);)*
                }
                Ok(($(self.0.$n.batch($sample)?,)*))
            }
        }

        impl<BE: Backend, $($sample: Upload<BE>),*> Upload<BE> for ($($sample,)*) {
            type On = ($($sample::On,)*);

            fn upload(&self, ctx: &BE) -> Result<Self::On> {
                Ok(($(self.$n.upload(ctx)?,)*))
            }
        }
    )* };
}
tuples! {
    A FA 0 B FB 1;
    A FA 0 B FB 1 C FC 2;
    A FA 0 B FB 1 C FC 2 D FD 3;
}

/// Stacks arrays of one rank whose sizes may differ: each axis is filled up at its end to the longest.
///
/// ```
/// use isograd::format::HostArray;
/// use isograd::nn::data::{Batchify, Pad};
/// let samples = vec![HostArray::from_slice(&[1.0f32], [1])?, HostArray::from_slice(&[2.0f32, 3.0], [2])?];
/// let (padded, lengths) = Pad::new(-1).round_to(3).with_lengths().batch(samples)?;
/// assert_eq!(padded.to_vec::<f32>()?, [1.0, -1.0, -1.0, 2.0, 3.0, -1.0]);
/// assert_eq!(lengths.to_vec::<i64>()?, [1, 2]);
/// # Ok::<(), isograd::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pad {
    value: Scalar,
    round_to: usize,
}

impl Pad {
    /// Fills up with `value`.
    pub fn new(value: impl Into<Scalar>) -> Self {
        Pad { value: value.into(), round_to: 1 }
    }

    /// Makes the sizes multiples of `multiple`, so that fewer different shapes occur.
    #[must_use]
    pub fn round_to(mut self, multiple: usize) -> Self {
        self.round_to = multiple.max(1);
        self
    }

    /// Also gives the sizes of the first axes before, `[batch]` as i64.
    pub fn with_lengths(self) -> PadWithLengths {
        PadWithLengths(self)
    }

    /// The bytes of one element to fill up with.
    fn element(&self, dtype: DType) -> Result<Vec<u8>> {
        let mut bytes = vec![0; dtype.size()];
        self.value.to_value(dtype)?.write(&mut bytes, 0);
        if cfg!(target_endian = "big") {
            bytes.reverse();
        }
        Ok(bytes)
    }
}

impl Batchify<HostArray> for Pad {
    type Batch = HostArray;

    fn batch(&self, samples: Vec<HostArray>) -> Result<HostArray> {
        let first = first("Pad", &samples)?;
        let mut sizes = first.shape.to_vec();
        for array in &samples {
            if array.shape.len() != sizes.len() {
                let (left, right) = (first.shape.clone(), array.shape.clone());
                let why = "samples of a batch have one rank".to_string();
                return Err(Error::ShapeMismatch { op: "Pad", left, right, why, device: "host".to_string() });
            }
            same_dtype("Pad", first, array)?;
            array.check()?;
            sizes.iter_mut().zip(array.shape.iter()).for_each(|(size, &n)| *size = n.max(*size));
        }
        for size in &mut sizes {
            let rounded = size.checked_next_multiple_of(self.round_to);
            let why = || format!("the size {size} cannot be rounded up to a multiple of {}", self.round_to);
            *size = rounded.ok_or_else(|| Error::invalid("Pad", why()))?;
        }
        let shape = Shape::from(&sizes[..]).inserted(0, samples.len());
        let (dtype, elements) = (first.dtype, Shape::from(&sizes[..]).size());
        let fill = self.element(dtype)?;
        let mut bytes = host::reserve("Pad", shape.size().saturating_mul(dtype.size()))?;
        (0..shape.size()).for_each(|_| bytes.extend_from_slice(&fill));
        for (array, padded) in samples.iter().zip(bytes.chunks_exact_mut((elements * dtype.size()).max(1))) {
            copy_block(&array.bytes, &array.shape, padded, &sizes, dtype.size());
        }
        HostArray::new(dtype, shape, bytes)
    }
}

/// Copies an array of shape `from_shape` into the corner of a larger one.
fn copy_block(from: &[u8], from_shape: &[usize], to: &mut [u8], to_shape: &[usize], element: usize) {
    match (from_shape, to_shape) {
        ([_, from_rest @ ..], [_, to_rest @ ..]) if !from_rest.is_empty() => {
            let (from_row, to_row) =
                (from_rest.iter().product::<usize>() * element, to_rest.iter().product::<usize>() * element);
            if from_row > 0 {
                let rows = from.chunks_exact(from_row).zip(to.chunks_exact_mut(to_row));
                rows.for_each(|(from, to)| copy_block(from, from_rest, to, to_rest, element));
            }
        }
        _ => to[..from.len()].copy_from_slice(from),
    }
}

/// What [`Pad::with_lengths`] gives.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PadWithLengths(Pad);

impl Batchify<HostArray> for PadWithLengths {
    type Batch = (HostArray, HostArray);

    fn batch(&self, samples: Vec<HostArray>) -> Result<Self::Batch> {
        let lengths: Vec<i64> = samples.iter().map(|a| a.shape.first().map_or(1, |&n| n as i64)).collect();
        Ok((self.0.batch(samples)?, HostArray::from_slice(&lengths, [lengths.len()])?))
    }
}

/// A batch in host memory that can go to a device: arrays, and tuples, arrays and lists of them.
pub trait Upload<B: Backend> {
    /// What it is there.
    type On;

    /// The batch on `ctx`.
    ///
    /// # Errors
    /// What the device reports.
    fn upload(&self, ctx: &B) -> Result<Self::On>;
}

impl<B: Backend> Upload<B> for HostArray {
    type On = Tensor<B>;

    fn upload(&self, ctx: &B) -> Result<Tensor<B>> {
        Tensor::from_host(ctx, self)
    }
}

impl<B: Backend, T: Upload<B>, const N: usize> Upload<B> for [T; N] {
    type On = [T::On; N];

    fn upload(&self, ctx: &B) -> Result<Self::On> {
        let parts = self.iter().map(|part| part.upload(ctx)).collect::<Result<Vec<_>>>()?;
        parts.try_into().map_err(|_| Error::invalid("DataLoader", "a batch has another number of arrays"))
    }
}

impl<B: Backend, T: Upload<B>> Upload<B> for Vec<T> {
    type On = Vec<T::On>;

    fn upload(&self, ctx: &B) -> Result<Self::On> {
        self.iter().map(|part| part.upload(ctx)).collect()
    }
}
