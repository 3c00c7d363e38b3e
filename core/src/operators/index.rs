//! Operators that take positions from a tensor. Positions of any dtype are accepted and converted to i64 (MXNet gives them
//! as f32).

use super::PerDTypeFormula;
use crate::{
    Backend, DType, Error, Expr, Operand, OperandMut, Result, Scalar, Shape, Tensor, Value,
    autograd::Recorder,
    expr::PerDType,
    tensor::{Memory, Reading},
};
use smallvec::smallvec;

/// What [`Tensor::take`] does with positions outside the axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum TakeMode {
    /// An error; negative positions count from the end.
    #[default]
    Raise,
    /// The nearest position inside.
    Clip,
    /// Counted around, as often as it takes.
    Wrap,
}

/// Positions brought into `0..n`, n being arg0, or left outside for the device to refuse.
static RAISE: PerDType = PerDType::new("positions", |d| {
    let (i, n) = (Expr::input(0, d).cast(DType::I64), Expr::scalar(0, DType::I64));
    (vec![i.less(&i.like(0)).select(&(&i + &n), &i)], vec![d], vec![DType::I64])
});
static CLIP: PerDType = PerDType::new("positions", |d| {
    let (i, n) = (Expr::input(0, d).cast(DType::I64), Expr::scalar(0, DType::I64));
    (vec![i.maximum(&i.like(0)).minimum(&(n - 1.0))], vec![d], vec![DType::I64])
});
static WRAP: PerDType = PerDType::new("positions", |d| {
    let (i, n) = (Expr::input(0, d).cast(DType::I64), Expr::scalar(0, DType::I64));
    (vec![i % n], vec![d], vec![DType::I64])
});
static ONE_HOT: PerDTypeFormula = PerDTypeFormula::new("one_hot", |d| {
    let class = Expr::index() % Expr::scalar(0, DType::I64);
    let hot = Expr::input(0, DType::I64).equal(&class);
    (hot.select(&Expr::scalar(1, d), &Expr::scalar(2, d)), smallvec![DType::I64], smallvec![DType::I64, d, d])
});

impl<B: Backend> Tensor<B> {
    /// This tensor of positions along an axis of size `n`, as i64.
    fn positions(&self, mode: TakeMode, n: usize) -> Result<Tensor<B>> {
        let kernel = match mode {
            TakeMode::Raise => &RAISE,
            TakeMode::Clip => &CLIP,
            TakeMode::Wrap => &WRAP,
        };
        self.need_computable("take", DType::I64)?;
        super::formula::run_map(
            self.ctx(),
            kernel.program(self.dtype()),
            &[self],
            &[Value::I64(n as i64)],
            self.shape(),
        )
    }

    /// [`Backend::gather`] with positions that were brought into range, recorded. `index` has the rank of this tensor.
    fn gather_raw(&self, op: &'static str, axis: usize, index: &Tensor<B>) -> Result<Tensor<B>> {
        let shape = index.shape().clone();
        let n = self.shape()[axis];
        // Axes other than `axis` may be longer in the source; only the beginning is used.
        let source =
            (0..self.rank()).filter(|&a| a != axis).fold(self.layout().clone(), |l, a| l.slice(a, 0, shape[a], 1));
        let dtype = self.dtype();
        let mut buffer = Memory::alloc(self.ctx(), &shape, dtype)?;
        let out = crate::Layout::contiguous(shape);
        if !out.is_empty() {
            if n == 0 {
                return Err(self.index_error(op, 0, axis));
            }
            let reading = Reading::of([self.memory(), index.memory()]);
            let source = Operand::new(reading.buffer(self.memory()), dtype, &source);
            let index = Operand::new(reading.buffer(index.memory()), DType::I64, index.layout());
            let named = |e| name_error(e, op, self.ctx());
            self.ctx().gather(axis, &source, &index, &mut OperandMut::new(&mut buffer, dtype, &out)).map_err(named)?;
        }
        let output = Tensor::from_parts(self.ctx().clone(), Memory::new(buffer), out, dtype);
        if let Some(recorder) = Recorder::new(&[self]) {
            let index = recorder.constant(index);
            let shape = self.shape().clone();
            recorder.finish(op, &output, move |head, context| {
                let zeros = Tensor::zeros(head.ctx(), &shape, head.dtype())?;
                Ok(smallvec![Some(zeros.scatter_add_raw(op, axis, &index.get(context)?, head)?)])
            });
        }
        Ok(output)
    }

    /// A copy of this tensor with `source` added at positions that were brought into range, recorded.
    fn scatter_add_raw(
        &self,
        op: &'static str,
        axis: usize,
        index: &Tensor<B>,
        source: &Tensor<B>,
    ) -> Result<Tensor<B>> {
        let output = self.detach().copy()?;
        let target = (0..self.rank())
            .filter(|&a| a != axis)
            .fold(output.layout().clone(), |l, a| l.slice(a, 0, index.shape()[a], 1));
        if !index.layout().is_empty() {
            if self.shape()[axis] == 0 {
                return Err(self.index_error(op, 0, axis));
            }
            let dtype = self.dtype();
            let reading = Reading::of([source.memory(), index.memory()]);
            let from = Operand::new(reading.buffer(source.memory()), dtype, source.layout());
            let at = Operand::new(reading.buffer(index.memory()), DType::I64, index.layout());
            let mut guard = output.memory().write();
            let named = |e| name_error(e, op, self.ctx());
            self.ctx()
                .scatter_add(axis, &from, &at, &mut OperandMut::new(&mut *guard, dtype, &target))
                .map_err(named)?;
        }
        if let Some(recorder) = Recorder::new(&[self, source]) {
            let index = recorder.constant(index);
            recorder.finish(op, &output, move |head, context| {
                let into_source = match context.wants(1) {
                    true => Some(head.gather_raw(op, axis, &index.get(context)?)?),
                    false => None,
                };
                Ok(smallvec![context.wants(0).then(|| head.clone()), into_source])
            });
        }
        Ok(output)
    }

    /// The parts of `axis` at the given positions: the axis is replaced by the axes of `indices`. `embedding` is `take`
    /// along axis 0.
    ///
    /// ```
    /// use isograd::{Tensor, operators::TakeMode};
    /// let ctx = isograd::device("cpu")?;
    /// let x = Tensor::from_slice(&ctx, &[10.0f32, 20.0, 30.0], [3])?;
    /// let i = Tensor::from_slice(&ctx, &[2i64, 0, -1], [3])?;
    /// assert_eq!(x.take(&i, 0, TakeMode::Raise)?.to_vec::<f32>()?, [30.0, 10.0, 30.0]);
    /// # Ok::<(), isograd::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::AxisOutOfRange`]; [`Error::IndexOutOfRange`] with [`TakeMode::Raise`], here or at the next wait;
    /// [`Error::DeviceMismatch`].
    pub fn take(&self, indices: &Tensor<B>, axis: isize, mode: TakeMode) -> Result<Tensor<B>> {
        self.take_named("take", indices, axis, mode)
    }

    fn take_named(&self, op: &'static str, indices: &Tensor<B>, axis: isize, mode: TakeMode) -> Result<Tensor<B>> {
        self.same_device(op, indices)?;
        let axis = self.axis(op, axis)?;
        let n = self.shape()[axis];
        if n == 0 && mode != TakeMode::Raise && indices.size() > 0 {
            return Err(self.index_error(op, 0, axis));
        }
        let count = indices.size();
        let flat = indices.detach().positions(mode, n)?.reshape(&Shape::from([count]))?;
        let mut along: Shape = Shape::from(vec![1; self.rank()]);
        along.as_mut_slice()[axis] = count;
        let index = flat.reshape(&along)?.broadcast_to(self.shape().with(axis, count))?;
        let shape: Shape = self.shape()[..axis]
            .iter()
            .chain(indices.shape().iter())
            .chain(&self.shape()[axis + 1..])
            .copied()
            .collect();
        self.gather_raw(op, axis, &index)?.reshape(&shape)
    }

    /// Rows of this table `[entries, features..]` at the given positions: `[indices.., features..]`.
    ///
    /// # Errors
    /// As [`Tensor::take`].
    pub fn embedding(&self, indices: &Tensor<B>) -> Result<Tensor<B>> {
        self.take_named("embedding", indices, 0, TakeMode::Raise)
    }

    fn check_along(&self, op: &'static str, axis: isize, index: &Tensor<B>) -> Result<(usize, Tensor<B>)> {
        self.same_device(op, index)?;
        let axis = self.axis(op, axis)?;
        let fits =
            index.rank() == self.rank() && (0..self.rank()).all(|a| a == axis || index.shape()[a] <= self.shape()[a]);
        if !fits {
            return Err(self.shape_mismatch(
                op,
                index.shape(),
                "the index must have as many axes, none longer but the one gathered along",
            ));
        }
        Ok((axis, index.detach().positions(TakeMode::Raise, self.shape()[axis])?))
    }

    /// `output[.., i, ..] = self[.., index[.., i, ..], ..]` along `axis`; the result has the shape of `index`. Negative
    /// positions count from the end.
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`], [`Error::AxisOutOfRange`], [`Error::IndexOutOfRange`], [`Error::DeviceMismatch`].
    pub fn gather(&self, axis: isize, index: &Tensor<B>) -> Result<Tensor<B>> {
        let (axis, index) = self.check_along("gather", axis, index)?;
        self.gather_raw("gather", axis, &index)
    }

    /// A copy of this tensor with `source` added at `index` along `axis`; positions that come twice add up. The adjoint of
    /// [`Tensor::gather`].
    ///
    /// # Errors
    /// As [`Tensor::gather`]; [`Error::ShapeMismatch`] unless `source` has the shape of `index`; [`Error::DTypeMismatch`].
    pub fn scatter_add(&self, axis: isize, index: &Tensor<B>, source: &Tensor<B>) -> Result<Tensor<B>> {
        self.same_dtype("scatter_add", source)?;
        self.same_device("scatter_add", source)?;
        let (axis, index) = self.check_along("scatter_add", axis, index)?;
        if index.shape() != source.shape() {
            return Err(source.shape_mismatch("scatter_add", index.shape(), "source and index must have one shape"));
        }
        self.scatter_add_raw("scatter_add", axis, &index, source)
    }

    /// The element along `axis` that `index`, shaped like this tensor without that axis, names for each place.
    ///
    /// # Errors
    /// As [`Tensor::gather`].
    pub fn pick(&self, index: &Tensor<B>, axis: isize, keepdims: bool) -> Result<Tensor<B>> {
        let at = self.axis("pick", axis)?;
        if *index.shape() != self.shape().without(at) && *index.shape() != self.shape().with(at, 1) {
            return Err(self.shape_mismatch(
                "pick",
                index.shape(),
                format!("the index must have this shape without axis {at}"),
            ));
        }
        let index = index.reshape(&self.shape().with(at, 1))?;
        let (at, index) = self.check_along("pick", at as isize, &index)?;
        let picked = self.gather_raw("pick", at, &index)?;
        if keepdims { Ok(picked) } else { picked.squeeze_axis(at as isize) }
    }

    /// A new last axis of size `depth` with `on` at the position that this tensor names, `off` elsewhere; all `off` for
    /// positions outside.
    ///
    /// # Errors
    /// [`Error::ScalarOutOfRange`]; what the device reports.
    pub fn one_hot(
        &self,
        depth: usize,
        on: impl Into<Scalar>,
        off: impl Into<Scalar>,
        dtype: DType,
    ) -> Result<Tensor<B>> {
        self.need_computable("one_hot", dtype)?;
        let formula = ONE_HOT.on(dtype)?;
        let scalars = [Value::I64(depth as i64), on.into().to_value(dtype)?, off.into().to_value(dtype)?];
        let classes = self.detach().cast(DType::I64)?.expand_dims(-1)?;
        let mut shape = self.shape().clone();
        shape.push(depth);
        super::formula::run_map(self.ctx(), &formula.program, &[&classes], &scalars, &shape)
    }

    /// This tensor `[time, batch, ..]` (time on `axis`, 0 or 1, the batch on the other) with `value` from each sequence's
    /// length on.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for another axis; [`Error::ShapeMismatch`] unless there is one length per sequence.
    pub fn sequence_mask(&self, lengths: &Tensor<B>, value: impl Into<Scalar>, axis: isize) -> Result<Tensor<B>> {
        const OP: &str = "sequence_mask";
        let time = self.axis(OP, axis)?;
        if time > 1 || self.rank() < 2 {
            return Err(Error::invalid(
                OP,
                format!("shape {:?}: time is on axis 0 or 1, and the batch on the other", self.shape()),
            ));
        }
        let batch = 1 - time;
        if lengths.shape()[..] != [self.shape()[batch]] {
            return Err(self.shape_mismatch(OP, lengths.shape(), "one length per sequence of the batch is needed"));
        }
        self.same_device(OP, lengths)?;
        let (times, sequences) = (self.shape()[time], self.shape()[batch]);
        let steps = Tensor::arange(self.ctx(), 0, times as i64, 1, DType::I64)?;
        let lengths = lengths.detach().cast(DType::I64)?;
        let mut shape = Shape::from(vec![1; self.rank()]);
        shape.as_mut_slice()[time] = times;
        let steps = steps.reshape(&shape)?;
        shape.as_mut_slice()[time] = 1;
        shape.as_mut_slice()[batch] = sequences;
        self.masked_fill(&steps.greater_equal(&lengths.reshape(&shape)?)?, value)
    }
}

/// Gives an error of a kernel the name of the operator and of the device.
fn name_error<B: Backend>(e: Error, op: &'static str, ctx: &B) -> Error {
    match e {
        Error::IndexOutOfRange { index, axis, size, .. } => {
            Error::IndexOutOfRange { op, index, axis, size, device: ctx.name() }
        }
        other => other,
    }
}
