//! Traffic with host memory, and between contexts of any type.

use super::{Memory, Tensor};
use crate::{
    Backend, DType, Element, Error, Layout, Result, Shape, Value, autograd::Recorder, format::HostArray, host,
};
use std::any::Any;

impl<B: Backend> Tensor<B> {
    /// A tensor of `shape` from host data in row-major order.
    ///
    /// ```
    /// use isograd::Tensor;
    /// let ctx = isograd::device("cpu")?;
    /// let x = Tensor::from_slice(&ctx, &[1i64, 2, 3, 4, 5, 6], [2, 3])?;
    /// assert_eq!(x.shape(), &[2, 3]);
    /// # Ok::<(), isograd::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::InvalidShape`] when the number of elements differs; [`Error::UnsupportedDType`] when the device does not
    /// store the dtype; what the device reports.
    pub fn from_slice<T: Element>(ctx: &B, data: &[T], shape: impl AsRef<[usize]>) -> Result<Tensor<B>> {
        Tensor::from_bytes(ctx, bytemuck::cast_slice(data), shape, T::DTYPE)
    }

    /// A tensor from the bytes of its elements in row-major order, little-endian.
    ///
    /// # Errors
    /// As [`Tensor::from_slice`]; [`Error::InvalidArgument`] for a bool that is neither 0 nor 1.
    pub fn from_bytes(ctx: &B, bytes: &[u8], shape: impl AsRef<[usize]>, dtype: DType) -> Result<Tensor<B>> {
        let shape = Shape::from(shape.as_ref());
        check_storable(ctx, "from_slice", &shape, dtype)?;
        if bytes.len() != bytes_of(ctx, &shape, dtype)? {
            return Err(Error::InvalidShape {
                op: "from_slice",
                why: format!("it has {} elements, but {} were given", shape.size(), bytes.len() / dtype.size()),
                shape,
                device: ctx.name(),
            });
        }
        if let (DType::Bool, Some(at)) = (dtype, bytes.iter().position(|&b| b > 1)) {
            return Err(Error::invalid(
                "from_bytes",
                format!("byte {at} of a bool tensor is {}, not 0 or 1", bytes[at]),
            ));
        }
        let mut buffer = Memory::alloc(ctx, &shape, dtype)?;
        if !bytes.is_empty() {
            ctx.upload(bytes, &mut buffer, 0)?;
        }
        Ok(Tensor::from_buffer(ctx, buffer, shape, dtype))
    }

    /// A tensor of rank 0.
    ///
    /// # Errors
    /// As [`Tensor::from_slice`].
    pub fn scalar<T: Element>(ctx: &B, value: T) -> Result<Tensor<B>> {
        Tensor::from_slice(ctx, &[value], [])
    }

    /// A tensor from an array in host memory, as file formats give it.
    ///
    /// # Errors
    /// As [`Tensor::from_slice`].
    pub fn from_host(ctx: &B, array: &HostArray) -> Result<Tensor<B>> {
        Tensor::from_bytes(ctx, &array.bytes, &array.shape, array.dtype)
    }

    /// The tensor as an array in host memory.
    ///
    /// # Errors
    /// What the device reports, also of kernels before.
    pub fn to_host(&self) -> Result<HostArray> {
        HostArray::new(self.dtype(), self.shape().clone(), self.to_bytes()?)
    }

    /// The elements in row-major order, as little-endian bytes. Waits for the kernels before.
    ///
    /// # Errors
    /// What the device reports, also of kernels before.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        let size = self.dtype().size();
        let mut bytes = host::reserve("to_bytes", bytes_of(self.ctx(), self.shape(), self.dtype())?)?;
        if self.size() == 0 {
            return Ok(bytes);
        }
        bytes.resize(self.size() * size, 0);
        let source = if self.is_contiguous() { self.detach() } else { self.detach().copy()? };
        source.with_operand(|o| self.ctx().download(o.buffer, source.layout().offset() * size, &mut bytes))?;
        Ok(bytes)
    }

    /// The elements in row-major order. Waits for the kernels before.
    ///
    /// # Errors
    /// [`Error::DTypeMismatch`] when `T` is not the tensor's dtype; what the device reports.
    pub fn to_vec<T: Element>(&self) -> Result<Vec<T>> {
        if T::DTYPE != self.dtype() {
            return Err(Error::DTypeMismatch {
                op: "to_vec",
                left: self.dtype(),
                right: T::DTYPE,
                device: self.ctx().name(),
            });
        }
        let bytes = self.to_bytes()?;
        let mut elements = host::reserve("to_vec", self.size())?;
        elements.extend(bytes.chunks_exact(T::DTYPE.size()).map(bytemuck::checked::pod_read_unaligned::<T>));
        Ok(elements)
    }

    /// The elements in row-major order as typed values, whatever the dtype.
    ///
    /// # Errors
    /// What the device reports.
    pub fn to_values(&self) -> Result<Vec<Value>> {
        let bytes = self.to_bytes()?;
        let mut values = host::reserve("to_values", self.size())?;
        values.extend((0..self.size()).map(|i| Value::read(self.dtype(), &bytes, i)));
        Ok(values)
    }

    /// The single element of a tensor of size 1, converted to `T`. Waits for the kernels before.
    ///
    /// ```
    /// use isograd::Tensor;
    /// let ctx = isograd::device("cpu")?;
    /// let x = Tensor::from_slice(&ctx, &[1.5f32, 2.5], [2])?;
    /// assert_eq!(x.sum((), false)?.asscalar::<f64>()?, 4.0);
    /// # Ok::<(), isograd::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::InvalidShape`] unless the size is 1; what the device reports.
    pub fn asscalar<T: Element>(&self) -> Result<T> {
        if self.size() != 1 {
            return Err(self.invalid_shape("asscalar", "it must have exactly one element; select one, or reduce first"));
        }
        Ok(T::from_value(Value::read(self.dtype(), &self.to_bytes()?, 0)))
    }

    /// A contiguous copy on the same device.
    ///
    /// # Errors
    /// What the device reports.
    pub fn copy(&self) -> Result<Tensor<B>> {
        self.identity("copy")
    }

    /// A copy in new memory, on any context of any type; `ctx` decides the type of the result. Gradients flow back.
    ///
    /// ```
    /// use isograd::{Dyn, Tensor};
    /// use isograd_reference::Reference;
    /// let x = Tensor::from_slice(&Reference, &[1.0f32], [1])?;
    /// let y: Tensor<Dyn> = x.copyto(&Dyn::new(Reference))?;
    /// assert_eq!(y.to_vec::<f32>()?, [1.0]);
    /// # Ok::<(), isograd::Error>(())
    /// ```
    ///
    /// # Errors
    /// What either device reports.
    pub fn copyto<C: Backend>(&self, ctx: &C) -> Result<Tensor<C>> {
        if let Some(same) = (ctx as &dyn Any).downcast_ref::<B>()
            && same == self.ctx()
        {
            let copy: Box<dyn Any> = Box::new(self.copy()?);
            return Ok(*copy.downcast().expect("the types are the same"));
        }
        let (shape, dtype) = (self.shape().clone(), self.dtype());
        check_storable(ctx, "copyto", &shape, dtype)?;
        let mut buffer = Memory::alloc(ctx, &shape, dtype)?;
        let bytes = bytes_of(ctx, &shape, dtype)?;
        if bytes > 0 {
            let source = if self.is_contiguous() { self.detach() } else { self.detach().copy()? };
            // Contexts of one type copy from device to device where they can, but only from the start of a buffer.
            let target: &mut dyn Any = &mut buffer;
            match ((ctx as &dyn Any).downcast_ref::<B>(), target.downcast_mut::<B::Buffer>()) {
                (Some(same), Some(target)) if source.layout().offset() == 0 => {
                    source.with_operand(|o| same.copy_from(self.ctx(), o.buffer, target, bytes))?;
                }
                _ => ctx.upload(&source.to_bytes()?, &mut buffer, 0)?,
            }
        }
        let output = Tensor::from_parts(ctx.clone(), Memory::new(buffer), Layout::contiguous(shape), dtype);
        if let Some(recorder) = Recorder::new(&[self]) {
            let back = self.ctx().clone();
            recorder.finish_across("copyto", &output, move |head: &Tensor<C>| head.copyto(&back));
        }
        Ok(output)
    }

    /// This tensor on `ctx`: shared when it is there already, copied otherwise.
    ///
    /// # Errors
    /// What either device reports.
    pub fn as_in_context<C: Backend>(&self, ctx: &C) -> Result<Tensor<C>> {
        if let Some(same) = (ctx as &dyn Any).downcast_ref::<B>()
            && same == self.ctx()
        {
            let shared: Box<dyn Any> = Box::new(self.clone());
            return Ok(*shared.downcast().expect("the types are the same"));
        }
        self.copyto(ctx)
    }

    /// Waits until this tensor is computed.
    ///
    /// # Errors
    /// What the device reports of the kernels before.
    pub fn wait_to_read(&self) -> Result<()> {
        self.ctx().synchronize()
    }
}

/// Refuses what the device cannot hold.
pub(crate) fn check_storable<B: Backend>(ctx: &B, op: &'static str, shape: &Shape, dtype: DType) -> Result<()> {
    let capabilities = ctx.capabilities();
    if !capabilities.stores.contains(dtype) {
        return Err(Error::UnsupportedDType {
            op,
            dtype,
            device: ctx.name(),
            why: "this device does not store it; cast to another dtype first".into(),
        });
    }
    bytes_of(ctx, shape, dtype).map(drop)
}

/// The bytes that an array takes on a device, [`Error::OutOfMemory`] where that is more than its largest buffer.
pub(crate) fn bytes_of<B: Backend>(ctx: &B, shape: &Shape, dtype: DType) -> Result<usize> {
    let bytes = shape.checked_size().and_then(|n| n.checked_mul(dtype.size()));
    let limit = ctx.capabilities().max_buffer;
    bytes.filter(|&n| n <= limit).ok_or_else(|| Error::OutOfMemory {
        device: ctx.name(),
        bytes: bytes.unwrap_or(usize::MAX),
        hint: format!("shape {shape:?} of {dtype} is larger than the device's largest buffer, {limit} bytes"),
    })
}
