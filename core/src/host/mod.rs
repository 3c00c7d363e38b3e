//! The four primitives on plain slices, for backends whose memory the host can read.
//!
//! A backend hands over the bytes of its buffers as [`Input`] and [`Output`]; everything else is here. Expressions are
//! run in chunks of [`CHUNK`] elements, one loop per instruction over values that stay in the first-level cache. The
//! loops come from [`Lanes`], which a backend implements to compile them for its vector instructions; [`Plain`] is the
//! portable choice.
//!
//! Where things are: `lanes` the loops, `machine` a program run on a chunk, `map`, `reduce` and `gather` the primitives.
//! Work can be cut: [`map_range`] and [`reduce_range`] do a part, so that a backend spreads parts over threads. Parts of
//! a reduction are blocks of [`crate::backend::Reducer`], so results do not depend on how it is cut.

mod gather;
mod lanes;
mod machine;
mod map;
mod reduce;

pub use gather::{gather, scatter_add};
pub use lanes::{Lane, LaneMut, Lanes, Plain, loops};
pub use machine::CHUNK;
pub(crate) use machine::Plan;
pub use map::{map, map_range};
pub use reduce::{Accumulator, reduce, reduce_range};

use crate::{Backend, DType, Error, Layout, Operand, OperandMut, Result};

/// An empty list with room for `n` elements, for results whose size a user decides: where memory cannot be had, the standard
/// collections end the process.
///
/// ```
/// use isograd::{Error, host};
/// assert!(host::reserve::<f32>("example", 3)?.is_empty());
/// let refused = host::reserve::<f32>("example", usize::MAX);
/// assert!(matches!(refused, Err(Error::OutOfMemory { device, .. }) if device == "host"));
/// # Ok::<(), Error>(())
/// ```
///
/// # Errors
/// [`Error::OutOfMemory`] of the host, naming `op`.
pub fn reserve<T>(op: &'static str, n: usize) -> Result<Vec<T>> {
    let mut list = Vec::new();
    match list.try_reserve_exact(n) {
        Ok(()) => Ok(list),
        Err(_) => Err(Error::OutOfMemory {
            device: "host".into(),
            bytes: n.saturating_mul(size_of::<T>()),
            hint: format!("{op}: there is no room for {n} elements; ask for fewer"),
        }),
    }
}

/// An input in host memory.
#[derive(Clone, Copy, Debug)]
pub struct Input<'a> {
    /// The whole buffer, aligned to 8 bytes.
    pub bytes: &'a [u8],
    /// Type of the elements.
    pub dtype: DType,
    /// Where the elements lie.
    pub layout: &'a Layout,
}

/// An output in host memory.
#[derive(Debug)]
pub struct Output<'a> {
    /// The buffer, or the part of it that begins with element `origin`; aligned for its dtype.
    pub bytes: &'a mut [u8],
    /// Type of the elements.
    pub dtype: DType,
    /// Where the elements lie, from the start of the whole buffer.
    pub layout: &'a Layout,
    /// The element that `bytes` begins with.
    pub origin: usize,
}

impl<'a> Input<'a> {
    /// An operand whose buffer is `bytes`.
    #[inline]
    pub fn new<B: Backend>(operand: &Operand<'a, B>, bytes: &'a [u8]) -> Input<'a> {
        Input { bytes, dtype: operand.dtype, layout: operand.layout }
    }
}

impl<'a> Output<'a> {
    /// The operand whose buffer `bytes` gives access to.
    #[inline]
    pub fn new<B: Backend>(
        operand: &'a mut OperandMut<'_, B>,
        bytes: impl FnOnce(&'a mut B::Buffer) -> &'a mut [u8],
    ) -> Output<'a> {
        Output { dtype: operand.dtype, layout: operand.layout, bytes: bytes(operand.buffer), origin: 0 }
    }
}
