//! [`Dataset`]: samples by number; [`ArrayDataset`]: the rows of arrays.

use isograd_core::{Error, Result, Shape, format::HostArray};

/// Samples by number, each of `N` arrays (a picture and its class: 2).
pub trait Dataset<const N: usize>: Send + Sync {
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
    fn get(&self, index: usize) -> Result<[HostArray; N]>;

    /// The samples at `indices`, each of their arrays stacked to one with a new first axis.
    ///
    /// # Errors
    /// As [`Dataset::get`]; [`Error::ShapeMismatch`] or [`Error::DTypeMismatch`] when samples differ.
    fn batch(&self, indices: &[usize]) -> Result<[HostArray; N]> {
        let mut parts: [Vec<HostArray>; N] = std::array::from_fn(|_| Vec::with_capacity(indices.len()));
        for &index in indices {
            parts.iter_mut().zip(self.get(index)?).for_each(|(part, array)| part.push(array));
        }
        let mut stacked: Vec<HostArray> = Vec::with_capacity(N);
        for part in &parts {
            stacked.push(stack(part)?);
        }
        stacked.try_into().map_err(|_| Error::invalid("Dataset::batch", "a sample has another number of arrays"))
    }
}

fn stack(arrays: &[HostArray]) -> Result<HostArray> {
    let Some(first) = arrays.first() else {
        return Err(Error::invalid("Dataset::batch", "a batch needs at least one sample"));
    };
    let device = || "host".to_string();
    let mut bytes = Vec::with_capacity(first.bytes.len() * arrays.len());
    for array in arrays {
        if array.shape != first.shape {
            let (left, right) = (first.shape.clone(), array.shape.clone());
            let why = "samples of a batch have one shape".to_string();
            return Err(Error::ShapeMismatch { op: "Dataset::batch", left, right, why, device: device() });
        }
        if array.dtype != first.dtype {
            let (left, right) = (first.dtype, array.dtype);
            return Err(Error::DTypeMismatch { op: "Dataset::batch", left, right, device: device() });
        }
        bytes.extend_from_slice(&array.bytes);
    }
    HostArray::new(first.dtype, first.shape.inserted(0, arrays.len()), bytes)
}

/// The rows of arrays of one length, such as pictures `[n, height, width]` and classes `[n]`.
///
/// ```
/// use isograd_core::format::HostArray;
/// use isograd_nn::data::{ArrayDataset, Dataset};
/// let x = HostArray::from_slice(&[1.0f32, 2.0, 3.0, 4.0], [2, 2])?;
/// let y = HostArray::from_slice(&[7i64, 8], [2])?;
/// let dataset = ArrayDataset::new([x, y])?;
/// let [x, y] = dataset.get(1)?;
/// assert_eq!((x.to_vec::<f32>()?, y.to_vec::<i64>()?), (vec![3.0, 4.0], vec![8]));
/// # Ok::<(), isograd_core::Error>(())
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

    fn rows(&self, array: &HostArray, indices: &[usize]) -> Vec<u8> {
        let row = array.bytes.len() / self.length.max(1);
        let mut bytes = Vec::with_capacity(row * indices.len());
        indices.iter().for_each(|&i| bytes.extend_from_slice(&array.bytes[i * row..(i + 1) * row]));
        bytes
    }
}

impl<const N: usize> Dataset<N> for ArrayDataset<N> {
    fn len(&self) -> usize {
        self.length
    }

    fn get(&self, index: usize) -> Result<[HostArray; N]> {
        let batch = self.batch(&[index])?;
        Ok(batch.map(|a| HostArray { shape: a.shape.without(0), ..a }))
    }

    fn batch(&self, indices: &[usize]) -> Result<[HostArray; N]> {
        if let Some(index) = indices.iter().find(|&&i| i >= self.length) {
            let why = format!("there is no sample {index}; there are {}", self.length);
            return Err(Error::invalid("ArrayDataset", why));
        }
        let stacked = self.arrays.each_ref().map(|array| HostArray {
            dtype: array.dtype,
            shape: array.shape.with(0, indices.len()),
            bytes: self.rows(array, indices),
        });
        Ok(stacked)
    }
}
