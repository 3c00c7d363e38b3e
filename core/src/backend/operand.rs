//! What a kernel is given: a buffer, a dtype and a layout.

use super::Backend;
use crate::{DType, Layout, Shape};
use std::fmt;

/// An input of a kernel.
pub struct Operand<'a, B: Backend> {
    /// The memory.
    pub buffer: &'a B::Buffer,
    /// Type of the elements.
    pub dtype: DType,
    /// Where they lie, in elements from the start of the buffer.
    pub layout: &'a Layout,
}

impl<B: Backend> Clone for Operand<'_, B> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<B: Backend> Copy for Operand<'_, B> {}

impl<'a, B: Backend> Operand<'a, B> {
    /// An operand from its parts. The layout must lie within the buffer.
    pub fn new(buffer: &'a B::Buffer, dtype: DType, layout: &'a Layout) -> Self {
        Operand { buffer, dtype, layout }
    }

    /// The sizes of the axes.
    pub fn shape(&self) -> &'a Shape {
        self.layout.shape()
    }

    /// The same memory seen through another layout.
    #[must_use]
    pub fn with_layout<'b>(&self, layout: &'b Layout) -> Operand<'b, B>
    where
        'a: 'b,
    {
        Operand { buffer: self.buffer, dtype: self.dtype, layout }
    }
}

/// An output of a kernel.
pub struct OperandMut<'a, B: Backend> {
    /// The memory.
    pub buffer: &'a mut B::Buffer,
    /// Type of the elements.
    pub dtype: DType,
    /// Where they lie; no two indices share a position.
    pub layout: &'a Layout,
}

impl<'a, B: Backend> OperandMut<'a, B> {
    /// An operand from its parts. The layout must lie within the buffer, and its elements must be distinct.
    pub fn new(buffer: &'a mut B::Buffer, dtype: DType, layout: &'a Layout) -> Self {
        OperandMut { buffer, dtype, layout }
    }

    /// The sizes of the axes.
    pub fn shape(&self) -> &'a Shape {
        self.layout.shape()
    }

    /// This output as an input.
    pub fn as_operand(&self) -> Operand<'_, B> {
        Operand { buffer: self.buffer, dtype: self.dtype, layout: self.layout }
    }

    /// The same memory seen through another layout.
    #[must_use]
    pub fn with_layout<'b>(&'b mut self, layout: &'b Layout) -> OperandMut<'b, B> {
        OperandMut { buffer: self.buffer, dtype: self.dtype, layout }
    }
}

impl<B: Backend> fmt::Debug for Operand<'_, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:?}", self.dtype, self.layout)
    }
}
impl<B: Backend> fmt::Debug for OperandMut<'_, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:?}", self.dtype, self.layout)
    }
}
