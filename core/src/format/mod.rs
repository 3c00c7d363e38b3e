//! File formats: [`npy`], [`npz`], [`safetensors`] and [`mxnet`]. [`save_named`], [`load_named`], [`save_list`] and
//! [`load_list`] take and give tensors; the modules have the formats themselves, read and written as [`HostArray`]s.
//!
//! Every format has `from_bytes` and `to_bytes`, `read` over a reader, and `load` and `save` over a path. `save` writes a
//! temporary file beside the target and renames it, so that an old file is either replaced whole or left as it was.
//!
//! A reader believes nothing that a file says about itself: what a header claims is held against the bytes that are
//! there before memory is taken for it, and what is left over at the end is a fault. A fault is an
//! [`Error::File`] with the offset of its place.
//!
//! Of a file with names any part can be read: `load_where` of each format takes the arrays of the names that are wanted, and
//! passes over the others. It also names those of a dtype that isograd does not have (integers of 16 bits, strings, ...), which
//! all readers of such files leave out.
//!
//! To add a format: a file here with those five functions, reading through `Source` and saving through
//! `write_atomically` (both in `io.rs`), and its rows in `tests.rs`, which fuzzes every reader in the same way.

use crate::{DType, Element, Error, Result, Shape};

mod io;
pub mod mxnet;
pub mod npy;
pub mod npz;
mod recognize;
pub mod safetensors;
mod tensors;
#[cfg(test)]
mod tests;

pub use recognize::{not_of, recognize};
pub use tensors::{load_list, load_named, load_one, save_list, save_named};

/// An array in host memory: dtype, shape, and the elements in row-major order as little-endian bytes.
///
/// ```
/// use isograd::{DType, format::HostArray};
/// let a = HostArray::from_slice(&[1.0f32, 2.0, 3.0], [3, 1])?;
/// assert_eq!(a.dtype, DType::F32);
/// assert_eq!(a.bytes[4..8], 2.0f32.to_le_bytes());
/// assert_eq!(a.to_vec::<f32>()?, [1.0, 2.0, 3.0]);
/// # Ok::<(), isograd::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct HostArray {
    /// Type of the elements.
    pub dtype: DType,
    /// Sizes of the axes.
    pub shape: Shape,
    /// The elements, row-major.
    pub bytes: Vec<u8>,
}

impl HostArray {
    /// An array from its parts.
    ///
    /// # Errors
    /// Those of [`HostArray::check`].
    pub fn new(dtype: DType, shape: impl Into<Shape>, bytes: Vec<u8>) -> Result<HostArray> {
        let array = HostArray { dtype, shape: shape.into(), bytes };
        array.check()?;
        Ok(array)
    }

    /// An array of `shape` with the row-major `elements`.
    ///
    /// # Errors
    /// [`Error::InvalidShape`] when their number is not the size of `shape`.
    pub fn from_slice<T: Element>(elements: &[T], shape: impl Into<Shape>) -> Result<HostArray> {
        let mut bytes = bytemuck::cast_slice::<T, u8>(elements).to_vec();
        if cfg!(target_endian = "big") {
            swap_bytes(&mut bytes, T::DTYPE.size());
        }
        HostArray::new(T::DTYPE, shape, bytes)
    }

    /// The elements, row-major.
    ///
    /// # Errors
    /// [`Error::DTypeMismatch`] when `T` is not the array's dtype (nothing is converted), and those of
    /// [`HostArray::check`].
    pub fn to_vec<T: Element>(&self) -> Result<Vec<T>> {
        self.check()?;
        if T::DTYPE != self.dtype {
            let device = "host".to_string();
            return Err(Error::DTypeMismatch { op: "HostArray::to_vec", left: self.dtype, right: T::DTYPE, device });
        }
        let mut swapped;
        let mut bytes = &self.bytes[..];
        if cfg!(target_endian = "big") {
            swapped = bytes.to_vec();
            swap_bytes(&mut swapped, self.dtype.size());
            bytes = &swapped;
        }
        let invalid = |_| Error::invalid("HostArray::to_vec", "an element is no value of its dtype");
        bytes
            .chunks_exact(self.dtype.size())
            .map(|e| bytemuck::checked::try_pod_read_unaligned(e).map_err(invalid))
            .collect()
    }

    /// Whether the bytes are as many as the elements of the shape need, and each byte of a bool 0 or 1. The fields are
    /// public, so everything that reads an array asks this first.
    ///
    /// # Errors
    /// [`Error::InvalidShape`] for the one, [`Error::InvalidArgument`] for the other.
    pub fn check(&self) -> Result<()> {
        let needed = byte_size(self.dtype, &self.shape);
        if needed != Some(self.bytes.len()) {
            let needed = needed.map_or("more than memory can have".to_string(), |n| n.to_string());
            return Err(Error::InvalidShape {
                op: "HostArray",
                shape: self.shape.clone(),
                why: format!("as {} it takes {needed} bytes, but there are {}", self.dtype, self.bytes.len()),
                device: "host".to_string(),
            });
        }
        match bad_bool(self.dtype, &self.bytes) {
            Some(at) => Err(Error::invalid(
                "HostArray",
                format!("bool number {at} is the byte {}, neither 0 nor 1", self.bytes[at]),
            )),
            None => Ok(()),
        }
    }
}

/// A part of a file of named arrays.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Contents {
    /// The arrays, in the order of the file.
    pub arrays: Vec<(String, HostArray)>,
    /// Names, and the dtypes as the file has them, of arrays that cannot be: isograd has no such dtype.
    pub foreign: Vec<(String, String)>,
}

/// Writes a file whole: an old one is replaced by `bytes` or left as it was, whatever happens in between.
///
/// # Errors
/// [`Error::Io`].
pub fn save_bytes(path: impl AsRef<std::path::Path>, bytes: &[u8]) -> Result<()> {
    io::write_atomically(path.as_ref(), |w| std::io::Write::write_all(w, bytes))
}

/// The bytes that `shape` takes. `None` when the product overflows, and also when it would but for an axis of size 0:
/// strides and partial products of such a shape overflow later, in code that does not expect it.
fn byte_size(dtype: DType, shape: &[usize]) -> Option<usize> {
    let nonzero = shape.iter().try_fold(dtype.size(), |n, &axis| n.checked_mul(axis.max(1)))?;
    if nonzero > isize::MAX as usize {
        return None;
    }
    Some(if shape.contains(&0) { 0 } else { nonzero })
}

/// Index of the first byte of a bool array that is no bool.
fn bad_bool(dtype: DType, bytes: &[u8]) -> Option<usize> {
    if dtype == DType::Bool { bytes.iter().position(|b| *b > 1) } else { None }
}

/// Reverses the bytes of every element.
fn swap_bytes(bytes: &mut [u8], size: usize) {
    if size > 1 {
        bytes.chunks_exact_mut(size).for_each(<[u8]>::reverse);
    }
}

/// The first name that stands twice. Formats that are dictionaries refuse to write one.
fn duplicate<'a>(names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let mut seen = std::collections::HashSet::new();
    names.into_iter().find(|name| !seen.insert(*name))
}
