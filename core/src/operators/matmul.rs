//! Products of matrices and vectors.

use super::{Fused, apply, formula};
use crate::{
    Backend, DType, Layout, Operand, OperandMut, Result, Scalar, Shape, Tensor,
    autograd::{Context, Recorder, Saved},
    expr::Kernel,
    tensor::{Memory, Reading, check_storable},
};
use smallvec::{SmallVec, smallvec};

impl<B: Backend> Tensor<B> {
    /// The matrix product, by NumPy's rule: the last two axes are matrices, those before broadcast; a vector is a row on the
    /// left and a column on the right, and its axis disappears. Transposed views cost no copy.
    ///
    /// ```
    /// use isograd::{DType, Tensor};
    /// let ctx = isograd::device("cpu")?;
    /// let a = Tensor::ones(&ctx, [5, 2, 3], DType::F32)?;
    /// let b = Tensor::ones(&ctx, [3, 4], DType::F32)?;
    /// assert_eq!(a.matmul(&b)?.shape(), &[5, 2, 4]);
    /// # Ok::<(), isograd::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`crate::Error::ShapeMismatch`], [`crate::Error::DTypeMismatch`], [`crate::Error::DeviceMismatch`];
    /// [`crate::Error::InvalidShape`] for rank 0; [`crate::Error::UnsupportedDType`] on bool; what the device reports.
    pub fn matmul(&self, other: &Tensor<B>) -> Result<Tensor<B>> {
        const OP: &str = "matmul";
        self.check_matmul(OP, other)?;
        if self.rank() == 1 {
            return self.expand_dims(0)?.matmul(other)?.squeeze_axis(if other.rank() == 1 { 0 } else { -2 });
        }
        if other.rank() == 1 {
            return self.matmul(&other.expand_dims(1)?)?.squeeze_axis(-1);
        }
        // A batch of matrices times one matrix is one tall matrix times it.
        if other.rank() == 2 && self.rank() > 2 {
            let (tall, shape) = self.tall(other)?;
            return tall.matmul(other)?.reshape(&shape);
        }
        let product = Product::of(OP, self, other)?;
        let output = match product.is_empty() {
            true => Tensor::zeros(self.ctx(), &product.shape, self.dtype())?,
            false => product.run(OP, self, other, &[], self.dtype(), |ctx, a, b, _, out| ctx.matmul(a, b, out))?,
        };
        if let Some(recorder) = Recorder::new(&[self, other]) {
            let gradients = Gradients::new(&recorder, self, other);
            recorder.finish(OP, &output, move |head, context| {
                let [into_a, into_b] = gradients.flow(head, context)?;
                Ok(smallvec![into_a, into_b])
            });
        }
        Ok(output)
    }

    /// [`Tensor::matmul`], ending in an elementwise operator: `epilogue` of the product and of `others`, which broadcast to
    /// it. Backends with kernels for it never store the product itself. Where a gradient needs the product, it is computed and
    /// kept as if the two were called one after the other.
    ///
    /// ```
    /// use isograd::{DType, Tensor, operators::Fused};
    /// let ctx = isograd::device("cpu")?;
    /// let relu = Fused::new("relu_of_sum", &[DType::F32; 2], 0, |x, _| (&x[0] + &x[1]).relu())?;
    /// let x = Tensor::from_slice(&ctx, &[1.0f32, 2.0], [1, 2])?;
    /// let w = Tensor::from_slice(&ctx, &[1.0f32, 0.0, 0.0, -1.0], [2, 2])?;
    /// let bias = Tensor::from_slice(&ctx, &[0.5f32, 1.0], [2])?;
    /// assert_eq!(x.matmul_fused(&w, &relu, &[&bias], &[])?.to_vec::<f32>()?, [1.5, 0.0]);
    /// # Ok::<(), isograd::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Tensor::matmul`], as [`Fused::call`], and [`crate::Error::ShapeMismatch`] for one of `others` that does not
    /// broadcast to the product.
    pub fn matmul_fused(
        &self,
        other: &Tensor<B>,
        epilogue: &Fused,
        others: &[&Tensor<B>],
        scalars: &[Scalar],
    ) -> Result<Tensor<B>> {
        const OP: &str = "matmul_fused";
        self.check_matmul(OP, other)?;
        // The product has this tensor's dtype and device.
        let inputs: SmallVec<[&Tensor<B>; 4]> = std::iter::once(self).chain(others.iter().copied()).collect();
        let values = epilogue.values(inputs.iter().copied(), scalars)?;
        for x in others {
            self.same_device(OP, x)?;
            self.need_computable(OP, x.dtype())?;
        }
        let matrices = self.rank() > 1 && other.rank() > 1;
        if matrices && other.rank() == 2 && self.rank() > 2 && others.iter().all(|x| x.rank() <= 1) {
            let (tall, shape) = self.tall(other)?;
            return tall.matmul_fused(other, epilogue, others, scalars)?.reshape(&shape);
        }
        let formula = epilogue.formula();
        let operands: SmallVec<[&Tensor<B>; 4]> = [self, other].iter().chain(others).copied().collect();
        let recorder = Recorder::new(&operands);
        // Of the formula's inputs, the first is the product, a function of the tape's first two.
        let wanted = |wants: &dyn Fn(usize) -> bool, k: usize| if k == 0 { wants(0) || wants(1) } else { wants(k + 1) };
        let reads_product =
            recorder.as_ref().is_some_and(|r| formula.gradients_read(0, |k| wanted(&|tape| r.wants(tape), k)));
        let product = if matrices { Some(Product::of(OP, self, other)?) } else { None };
        let Some(product) = product.filter(|p| !reads_product && !p.is_empty()) else {
            let product = self.matmul(other)?;
            for x in others {
                product.check_epilogue(x, product.shape())?;
            }
            let all: SmallVec<[&Tensor<B>; 4]> = std::iter::once(&product).chain(others.iter().copied()).collect();
            return apply(formula, &all, &values);
        };
        for x in others {
            self.check_epilogue(x, &product.shape)?;
        }
        let kernel = Kernel::new(&formula.program, &values);
        let dtype = formula.program.outputs()[0].1;
        let output = product.run(OP, self, other, others, dtype, |ctx, a, b, inputs, out| {
            ctx.matmul_fused(&kernel, a, b, inputs, out)
        })?;
        if let Some(recorder) = recorder.filter(|_| output.dtype().is_float()) {
            let of_product = Gradients::new(&recorder, self, other);
            let kept: SmallVec<[_; 4]> =
                std::iter::once(None).chain(others.iter().enumerate().map(|(k, x)| Some((k + 2, x)))).collect();
            let of_epilogue = formula::Gradients::new(
                &recorder,
                formula,
                &kept,
                |k| wanted(&|tape| recorder.wants(tape), k),
                &values,
                &output,
            );
            // What it ends in says more than that it is a product, which its parents show.
            recorder.finish(formula.name, &output, move |head, context| {
                let mut flows = of_epilogue.flow(head, context, |k| wanted(&|tape| context.wants(tape), k))?;
                let into_product = flows[0].take();
                let [into_a, into_b] = match into_product {
                    Some(head) => of_product.flow(&head, context)?,
                    None => [None, None],
                };
                Ok([into_a, into_b].into_iter().chain(flows.drain(1..)).collect())
            });
        }
        Ok(output)
    }

    /// What must hold of two tensors before anything of their product is computed.
    fn check_matmul(&self, op: &'static str, other: &Tensor<B>) -> Result<()> {
        self.same_device(op, other)?;
        self.same_dtype(op, other)?;
        if self.dtype() == DType::Bool {
            return Err(crate::Error::UnsupportedDType {
                op,
                dtype: self.dtype(),
                device: self.ctx().name(),
                why: "bool has no product; cast first".into(),
            });
        }
        self.need_computable(op, self.dtype())?;
        for x in [self, other] {
            if x.rank() == 0 {
                return Err(x.invalid_shape(op, "a scalar is no matrix; multiply with * instead"));
            }
        }
        let rows = other.shape()[other.rank().saturating_sub(2)];
        if self.shape()[self.rank() - 1] != rows {
            return Err(self.shape_mismatch(op, other.shape(), "columns of the first must equal rows of the second"));
        }
        Ok(())
    }

    fn check_epilogue(&self, input: &Tensor<B>, shape: &Shape) -> Result<()> {
        match input.layout().broadcast_to(shape) {
            Some(_) => Ok(()),
            None => {
                let why = format!("what ends a product must broadcast to it, {shape:?}");
                Err(self.shape_mismatch("matmul_fused", input.shape(), why))
            }
        }
    }

    /// This batch of matrices as one, for a product with the matrix `other`, and the shape of the result.
    fn tall(&self, other: &Tensor<B>) -> Result<(Tensor<B>, Shape)> {
        let mut shape = self.shape().clone();
        let rows: usize = shape[..shape.rank() - 1].iter().product();
        let k = shape[self.rank() - 1];
        shape.as_mut_slice()[self.rank() - 1] = other.shape()[1];
        Ok((self.reshape(&Shape::from([rows, k]))?, shape))
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

/// The shapes of a product and of its matrices, with their batch axes broadcast.
struct Product {
    shape: Shape,
    left: Shape,
    right: Shape,
}

impl Product {
    /// Of tensors that have two axes at least.
    fn of<B: Backend>(op: &'static str, a: &Tensor<B>, b: &Tensor<B>) -> Result<Product> {
        let batch = |x: &Tensor<B>| Shape::from(&x.shape()[..x.rank() - 2]);
        let Some(mut shape) = batch(a).broadcast(&batch(b)) else {
            return Err(a.shape_mismatch(op, b.shape(), "batch axes must be equal or 1"));
        };
        let (mut left, mut right) = (shape.clone(), shape.clone());
        let (m, k, n) = (a.shape()[a.rank() - 2], a.shape()[a.rank() - 1], b.shape()[b.rank() - 1]);
        [m, n].into_iter().for_each(|s| shape.push(s));
        [m, k].into_iter().for_each(|s| left.push(s));
        [k, n].into_iter().for_each(|s| right.push(s));
        Ok(Product { shape, left, right })
    }

    /// Whether nothing is multiplied.
    fn is_empty(&self) -> bool {
        self.shape.contains(&0) || self.left.contains(&0)
    }

    /// Runs a kernel on both matrices, and on `others`, which broadcast to the result.
    fn run<B: Backend>(
        &self,
        op: &'static str,
        a: &Tensor<B>,
        b: &Tensor<B>,
        others: &[&Tensor<B>],
        dtype: DType,
        kernel: impl FnOnce(&B, &Operand<'_, B>, &Operand<'_, B>, &[Operand<'_, B>], &mut OperandMut<'_, B>) -> Result<()>,
    ) -> Result<Tensor<B>> {
        check_storable(a.ctx(), op, &self.shape, dtype)?;
        let mut buffer = Memory::alloc(a.ctx(), &self.shape, dtype)?;
        let layout = Layout::contiguous(self.shape.clone());
        {
            let reading = Reading::of([a, b].iter().chain(others).map(|t| t.memory()));
            let seen = |t: &Tensor<B>, shape: &Shape| t.layout().broadcast_to(shape).expect("the shapes were compared");
            let (left, right) = (seen(a, &self.left), seen(b, &self.right));
            let layouts: SmallVec<[Layout; 2]> = others.iter().map(|t| seen(t, &self.shape)).collect();
            let inputs: SmallVec<[Operand<'_, B>; 2]> = (others.iter().zip(&layouts))
                .map(|(t, l)| Operand::new(reading.buffer(t.memory()), t.dtype(), l))
                .collect();
            let left = Operand::new(reading.buffer(a.memory()), a.dtype(), &left);
            let right = Operand::new(reading.buffer(b.memory()), b.dtype(), &right);
            kernel(a.ctx(), &left, &right, &inputs, &mut OperandMut::new(&mut buffer, dtype, &layout))?;
        }
        Ok(Tensor::from_parts(a.ctx().clone(), Memory::new(buffer), layout, dtype))
    }
}

/// What a product keeps for its gradients.
struct Gradients<B: Backend> {
    a: Option<Saved<B>>,
    b: Option<Saved<B>>,
    shape_a: Shape,
    shape_b: Shape,
}

impl<B: Backend> Gradients<B> {
    /// The matrices are the first two inputs on the tape.
    fn new(recorder: &Recorder, a: &Tensor<B>, b: &Tensor<B>) -> Gradients<B> {
        Gradients {
            a: recorder.wants(1).then(|| recorder.input(0, a)),
            b: recorder.wants(0).then(|| recorder.input(1, b)),
            shape_a: a.shape().clone(),
            shape_b: b.shape().clone(),
        }
    }

    fn flow(&self, head: &Tensor<B>, context: &Context<'_, B>) -> Result<[Option<Tensor<B>>; 2]> {
        let into_a = match &self.b {
            Some(b) => Some(head.matmul(&b.get(context)?.swapaxes(-1, -2)?)?.sum_to(&self.shape_a)?),
            None => None,
        };
        let into_b = match &self.a {
            Some(a) => Some(a.get(context)?.swapaxes(-1, -2)?.matmul(head)?.sum_to(&self.shape_b)?),
            None => None,
        };
        Ok([into_a, into_b])
    }
}
