//! File formats, read and written as [`HostArray`]s.

use crate::{DType, Shape};

/// An array in host memory: dtype, shape, and the elements in row-major order as little-endian bytes.
#[derive(Clone, Debug, PartialEq)]
pub struct HostArray {
    /// Type of the elements.
    pub dtype: DType,
    /// Sizes of the axes.
    pub shape: Shape,
    /// The elements, row-major.
    pub bytes: Vec<u8>,
}
