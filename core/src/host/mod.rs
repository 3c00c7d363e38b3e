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

use crate::{Backend, DType, Layout, Operand, OperandMut};

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
