//! Products of matrices and vectors.

use crate::{
    Backend, Layout, OperandMut, Result, Shape, Tensor,
    autograd::Recorder,
    tensor::{Memory, Reading},
};
use smallvec::smallvec;

impl<B: Backend> Tensor<B> {
    /// The matrix product, by NumPy's rule: the last two axes are matrices, those before broadcast; a vector is a row on the
    /// left and a column on the right, and its axis disappears. Transposed views cost no copy.
    ///
    /// ```
    /// # use isograd_core::{DType, Tensor};
    /// # let ctx = isograd_reference::Reference;
    /// let a = Tensor::ones(&ctx, [5, 2, 3], DType::F32)?;
    /// let b = Tensor::ones(&ctx, [3, 4], DType::F32)?;
    /// assert_eq!(a.matmul(&b)?.shape(), &[5, 2, 4]);
    /// # Ok::<(), isograd_core::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`crate::Error::ShapeMismatch`], [`crate::Error::DTypeMismatch`], [`crate::Error::DeviceMismatch`];
    /// [`crate::Error::InvalidShape`] for rank 0; [`crate::Error::UnsupportedDType`] on bool; what the device reports.
    pub fn matmul(&self, other: &Tensor<B>) -> Result<Tensor<B>> {
        const OP: &str = "matmul";
        self.same_device(OP, other)?;
        self.same_dtype(OP, other)?;
        if self.dtype() == crate::DType::Bool {
            return Err(crate::Error::UnsupportedDType {
                op: OP,
                dtype: self.dtype(),
                device: self.ctx().name(),
                why: "bool has no product; cast first".into(),
            });
        }
        self.need_computable(OP, self.dtype())?;
        for x in [self, other] {
            if x.rank() == 0 {
                return Err(x.invalid_shape(OP, "a scalar is no matrix; multiply with * instead"));
            }
        }
        if self.rank() == 1 {
            return self.expand_dims(0)?.matmul(other)?.squeeze_axis(if other.rank() == 1 { 0 } else { -2 });
        }
        if other.rank() == 1 {
            return self.matmul(&other.expand_dims(1)?)?.squeeze_axis(-1);
        }
        let (k, n) = (self.shape()[self.rank() - 1], other.shape()[other.rank() - 1]);
        if k != other.shape()[other.rank() - 2] {
            return Err(self.shape_mismatch(OP, other.shape(), "columns of the first must equal rows of the second"));
        }
        // A batch of matrices times one matrix is one tall matrix times it.
        if other.rank() == 2 && self.rank() > 2 {
            let mut shape = self.shape().clone();
            let rows: usize = shape[..shape.rank() - 1].iter().product();
            shape.as_mut_slice()[self.rank() - 1] = n;
            return self.reshape(&Shape::from([rows, k]))?.matmul(other)?.reshape(&shape);
        }
        let batch = |x: &Tensor<B>| Shape::from(&x.shape()[..x.rank() - 2]);
        let Some(mut shape) = batch(self).broadcast(&batch(other)) else {
            return Err(self.shape_mismatch(OP, other.shape(), "batch axes must be equal or 1"));
        };
        let (mut left, mut right) = (shape.clone(), shape.clone());
        let m = self.shape()[self.rank() - 2];
        [m, n].into_iter().for_each(|s| shape.push(s));
        [m, k].into_iter().for_each(|s| left.push(s));
        [k, n].into_iter().for_each(|s| right.push(s));
        if k == 0 || shape.contains(&0) {
            return Tensor::zeros(self.ctx(), &shape, self.dtype())?.record_matmul(self, other);
        }
        let dtype = self.dtype();
        crate::tensor::check_storable(self.ctx(), OP, &shape, dtype)?;
        let mut buffer = Memory::alloc(self.ctx(), shape.size() * dtype.size())?;
        let layout = Layout::contiguous(shape);
        {
            let reading = Reading::of([self.memory(), other.memory()]);
            let a = self.layout().broadcast_to(&left).expect("the batch axes were broadcast");
            let b = other.layout().broadcast_to(&right).expect("the batch axes were broadcast");
            let a = crate::Operand::new(reading.buffer(self.memory()), dtype, &a);
            let b = crate::Operand::new(reading.buffer(other.memory()), dtype, &b);
            self.ctx().matmul(&a, &b, &mut OperandMut::new(&mut buffer, dtype, &layout))?;
        }
        Tensor::from_parts(self.ctx().clone(), Memory::new(buffer), layout, dtype).record_matmul(self, other)
    }

    fn record_matmul(self, a: &Tensor<B>, b: &Tensor<B>) -> Result<Tensor<B>> {
        if let Some(recorder) = Recorder::new(&[a, b]) {
            let saved_a = recorder.wants(1).then(|| recorder.input(0, a));
            let saved_b = recorder.wants(0).then(|| recorder.input(1, b));
            let (shape_a, shape_b) = (a.shape().clone(), b.shape().clone());
            recorder.finish("matmul", &self, move |head, context| {
                let into_a = match &saved_b {
                    Some(b) => Some(head.matmul(&b.get(context)?.swapaxes(-1, -2)?)?.sum_to(&shape_a)?),
                    None => None,
                };
                let into_b = match &saved_a {
                    Some(a) => Some(a.get(context)?.swapaxes(-1, -2)?.matmul(head)?.sum_to(&shape_b)?),
                    None => None,
                };
                Ok(smallvec![into_a, into_b])
            });
        }
        Ok(self)
    }

    /// The sum over the last axis of this tensor and the first of `other`, as MXNet's `dot`: vectors give a scalar,
    /// matrices their product.
    ///
    /// # Errors
    /// As [`Tensor::matmul`].
    pub fn dot(&self, other: &Tensor<B>) -> Result<Tensor<B>> {
        for x in [self, other] {
            if x.rank() == 0 {
                return Err(x.invalid_shape("dot", "a scalar has no axis to sum over; multiply with * instead"));
            }
        }
        let k = self.shape()[self.rank() - 1];
        if k != other.shape()[0] {
            return Err(self.shape_mismatch(
                "dot",
                other.shape(),
                "the last axis of the first must equal the first of the second",
            ));
        }
        let rows: usize = self.shape()[..self.rank() - 1].iter().product();
        let columns: usize = other.shape()[1..].iter().product();
        let shape: Shape = self.shape()[..self.rank() - 1].iter().chain(&other.shape()[1..]).copied().collect();
        self.reshape(&Shape::from([rows, k]))?.matmul(&other.reshape(&Shape::from([k, columns]))?)?.reshape(&shape)
    }

    /// All products of an element of this tensor with one of `other`, both flattened: `[self.size(), other.size()]`.
    ///
    /// # Errors
    /// As [`Tensor::mul`].
    pub fn outer(&self, other: &Tensor<B>) -> Result<Tensor<B>> {
        self.flatten()?.expand_dims(1)?.mul(&other.flatten()?.expand_dims(0)?)
    }

    /// A matrix transposed; the same memory.
    ///
    /// # Errors
    /// [`crate::Error::InvalidShape`] unless the rank is 2.
    pub fn t(&self) -> Result<Tensor<B>> {
        if self.rank() != 2 {
            return Err(self.invalid_shape("t", "it is for matrices; use transpose(&[...]) or swapaxes"));
        }
        self.transpose(&[1, 0])
    }
}
