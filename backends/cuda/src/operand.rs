//! Operands as kernels take them: addresses, sizes and strides as numbers.

use crate::Cuda;
use isograd_core::{
    DType, Layout, Operand, Result, Value,
    backend::launch::{self, Temporary},
};
use smallvec::SmallVec;

/// An operand's first element, and its strides; at least one axis.
#[derive(Clone, Debug)]
pub(crate) struct Raw {
    pub address: u64,
    pub dtype: DType,
    pub strides: SmallVec<[isize; 6]>,
}

impl Raw {
    pub fn of(operand: &Operand<'_, Cuda>) -> Raw {
        let mut strides = SmallVec::from_slice(operand.layout.strides());
        if strides.is_empty() {
            strides.push(0);
        }
        Raw { address: address(operand), dtype: operand.dtype, strides }
    }

    /// Whether every position relative to the first element fits a signed number of 32 bits.
    pub fn fits_32_bits(&self, sizes: &[usize]) -> bool {
        let spans = sizes.iter().zip(&self.strides).map(|(n, s)| (n - 1).saturating_mul(s.unsigned_abs()));
        fits_32_bits(spans.fold(0, usize::saturating_add))
    }
}

/// Whether `count` positions, and a few more, can be counted with 31 bits.
pub(crate) fn fits_32_bits(count: usize) -> bool {
    count <= (i32::MAX - 4096) as usize
}

/// The sizes of a layout, at least one.
pub(crate) fn sizes(layout: &Layout) -> SmallVec<[usize; 6]> {
    let mut sizes = SmallVec::from_slice(layout.shape());
    if sizes.is_empty() {
        sizes.push(1);
    }
    sizes
}

/// The address of an operand's first element.
pub(crate) fn address(operand: &Operand<'_, Cuda>) -> u64 {
    operand.buffer.address() + (operand.layout.offset() * operand.dtype.size()) as u64
}

/// A number as a word of a kernel's argument: its bits come first.
pub(crate) fn word(value: Value) -> u64 {
    let mut bytes = [0; 8];
    value.write(&mut bytes, 0);
    u64::from_le_bytes(bytes)
}

/// `operand` itself where it is contiguous, or a copy that is.
pub(crate) fn contiguous(cuda: &Cuda, operand: &Operand<'_, Cuda>) -> Result<Option<Temporary<Cuda>>> {
    if operand.layout.is_contiguous() {
        return Ok(None);
    }
    let mut copy = Temporary::new(cuda, operand.dtype, operand.shape().clone())?;
    launch::copy(cuda, operand, &mut copy.operand_mut())?;
    Ok(Some(copy))
}
