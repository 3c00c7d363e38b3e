//! Reductions over any axes, and running sums.

use super::{PerDTypeFormula, apply};
use crate::{
    Backend, DType, Error, Expr, Operand, OperandMut, ReduceOp, Result, Shape, Tensor, Value,
    autograd::Recorder,
    backend::launch,
    expr::{Kernel, PerDType, Program},
    tensor::{Memory, Reading},
};
use smallvec::{SmallVec, smallvec};

/// The axes of a reduction: `()` for all, one axis, an array or a slice of axes. Negative ones count from the end.
pub trait Axes {
    /// The axes as given; `None` for all.
    fn axes(&self) -> Option<SmallVec<[isize; 4]>>;
}
impl Axes for () {
    fn axes(&self) -> Option<SmallVec<[isize; 4]>> {
        None
    }
}
impl Axes for isize {
    fn axes(&self) -> Option<SmallVec<[isize; 4]>> {
        Some(smallvec![*self])
    }
}
impl<const N: usize> Axes for [isize; N] {
    fn axes(&self) -> Option<SmallVec<[isize; 4]>> {
        Some(SmallVec::from_slice(self))
    }
}
impl Axes for &[isize] {
    fn axes(&self) -> Option<SmallVec<[isize; 4]>> {
        Some(SmallVec::from_slice(self))
    }
}
impl Axes for Vec<isize> {
    fn axes(&self) -> Option<SmallVec<[isize; 4]>> {
        Some(SmallVec::from_slice(self))
    }
}

static IDENTITY: PerDType = PerDType::new("reduce", |d| (vec![Expr::input(0, d)], vec![d], vec![]));
static COUNT: PerDType =
    PerDType::new("count", |_| (vec![Expr::input(0, DType::Bool).cast(DType::I64)], vec![DType::Bool], vec![]));
/// Sums that stay in the dtype that is computed in: a sum of f16 could overflow where the mean does not.
static WIDE: PerDType = PerDType::new("mean", |d| (vec![Expr::input(0, d).cast(d.compute())], vec![d], vec![]));
static QUOTIENT: PerDType = PerDType::new("mean", |d| {
    let c = d.compute();
    (vec![(Expr::input(0, c) / Expr::scalar(0, c)).cast(d)], vec![c], vec![c])
});
static SQUARED_DEVIATION: PerDType = PerDType::new("squared_deviation", |d| {
    let c = d.compute();
    let deviation = Expr::input(0, d).cast(c) - Expr::input(1, c);
    (vec![deviation.square() * Expr::scalar(0, c)], vec![d, c], vec![c])
});
/// The position along the reduced axes where the extreme is, the largest i64 elsewhere.
static POSITION: PerDType = PerDType::new("argmax", |d| {
    let (x, extreme) = (Expr::input(0, d), Expr::input(1, d));
    let mut hit = x.equal(&extreme);
    if d.is_float() {
        hit = hit.or(&x.is_nan().and(&extreme.is_nan()));
    }
    let position = Expr::index() % Expr::scalar(0, DType::I64);
    (vec![hit.select(&position, &Expr::constant(i64::MAX))], vec![d, d], vec![DType::I64])
});
static TRUE: PerDType = PerDType::new("truth", |d| {
    let x = Expr::input(0, d);
    (vec![if d == DType::Bool { x } else { x.not_equal(&x.like(0)) }], vec![d], vec![])
});
static MAGNITUDE: PerDType =
    PerDType::new("norm", |d| (vec![Expr::input(0, d).cast(d.compute()).abs()], vec![d], vec![]));
/// By what numbers up to the largest are multiplied so that their squares neither overflow nor vanish: a power of two, 1 for
/// most.
static INTO_RANGE: PerDType = PerDType::new("norm", |d| {
    let (limit, factor) = if d == DType::F64 { (400, 700) } else { (40, 80) };
    let largest = Expr::input(0, d);
    let power = |exponent: i32| largest.like(2f64.powi(exponent));
    let small = largest.less(&power(-limit)).select(&power(factor), &power(0));
    (vec![largest.greater(&power(limit)).select(&power(-factor), &small)], vec![d], vec![])
});
static SCALED_SQUARE: PerDType = PerDType::new("norm", |d| {
    let c = d.compute();
    (vec![(Expr::input(0, d).cast(c) * Expr::input(1, c)).square()], vec![d, c], vec![])
});
static ROOT: PerDType =
    PerDType::new("norm", |d| (vec![Expr::input(0, d).sqrt() / Expr::input(1, d)], vec![d, d], vec![]));
/// The head times x over the norm, and 0 where that is 0 and has no derivative.
static NORM_GRADIENT: PerDTypeFormula = PerDTypeFormula::new("norm", |d| {
    let c = d.compute();
    let (head, x, norm) = (Expr::input(0, c), Expr::input(1, d).cast(c), Expr::input(2, c));
    let divisor = norm.equal(&norm.like(0)).select(&norm.like(1), &norm);
    ((head * (x / divisor)).cast(d), smallvec![c, d, c], smallvec![])
});

/// Products of more factors than this are recorded in blocks: the derivative of a block costs its square.
const PROD_BLOCK: usize = 32;

impl<B: Backend> Tensor<B> {
    pub(crate) fn resolve_axes(&self, op: &'static str, axes: &impl Axes) -> Result<SmallVec<[usize; 4]>> {
        let Some(given) = axes.axes() else { return Ok((0..self.rank()).collect()) };
        let mut resolved: SmallVec<[usize; 4]> = SmallVec::new();
        for axis in given {
            let axis = self.axis(op, axis)?;
            if resolved.contains(&axis) {
                return Err(Error::DuplicateAxis { op, axis, shape: self.shape().clone(), device: self.ctx().name() });
            }
            resolved.push(axis);
        }
        resolved.sort_unstable();
        Ok(resolved)
    }

    /// Folds `program` (of this tensor and, broadcast to it, of `others`) over `axes`; the result has size 1 there.
    pub(crate) fn fold(
        &self,
        op: ReduceOp,
        program: &Program,
        others: &[&Tensor<B>],
        scalars: &[Value],
        axes: &[usize],
        dtype: DType,
    ) -> Result<Tensor<B>> {
        let kept: SmallVec<[usize; 6]> = (0..self.rank()).filter(|a| !axes.contains(a)).collect();
        let order: SmallVec<[usize; 6]> = kept.iter().chain(axes).copied().collect();
        let shape: Shape = order.iter().map(|&a| self.shape()[a]).collect();
        let out_shape: Shape = kept.iter().map(|&a| self.shape()[a]).collect();
        let with_ones: Shape = (0..self.rank()).map(|a| if axes.contains(&a) { 1 } else { self.shape()[a] }).collect();
        for &d in program.inputs() {
            self.need_computable(op.name(), d)?;
        }
        let mut buffer = Memory::alloc(self.ctx(), &out_shape, dtype)?;
        let out = crate::Layout::contiguous(out_shape);
        {
            let inputs: SmallVec<[&Tensor<B>; 3]> = [self].into_iter().chain(others.iter().copied()).collect();
            let reading = Reading::of(inputs.iter().map(|t| t.memory()));
            let layouts: SmallVec<[crate::Layout; 3]> = (inputs.iter())
                .map(|t| t.layout().broadcast_to(self.shape()).expect("others broadcast to the tensor").permute(&order))
                .collect();
            let operands: SmallVec<[Operand<'_, B>; 3]> = (inputs.iter().zip(&layouts))
                .map(|(t, l)| Operand::new(reading.buffer(t.memory()), t.dtype(), l))
                .collect();
            let mut output = OperandMut::new(&mut buffer, dtype, &out);
            launch::reduce(self.ctx(), op, &Kernel::new(program, scalars), &shape, &operands, &mut output)?;
        }
        Ok(Tensor::from_buffer(self.ctx(), buffer, with_ones, dtype))
    }

    /// Drops the axes of size 1 that a reduction left, unless they are to be kept.
    fn drop_axes(self, axes: &[usize], keepdims: bool) -> Result<Tensor<B>> {
        if keepdims {
            return Ok(self);
        }
        let shape: Shape = (0..self.rank()).filter(|a| !axes.contains(a)).map(|a| self.shape()[a]).collect();
        self.reshape(&shape)
    }

    fn sum_axes(&self, axes: &[usize]) -> Result<Tensor<B>> {
        let (program, dtype) = match self.dtype() {
            DType::Bool => (COUNT.program(DType::Bool), DType::I64),
            d => (IDENTITY.program(d), d),
        };
        let output = self.fold(ReduceOp::Sum, program, &[], &[], axes, dtype)?;
        if let Some(recorder) = Recorder::new(&[self]) {
            let shape = self.shape().clone();
            recorder.finish("sum", &output, move |head, _| Ok(smallvec![Some(head.broadcast_to(&shape)?)]));
        }
        Ok(output)
    }

    /// The sum over `axes`. f16 and bf16 are added up in f32; integers wrap; of bool the number of true elements, as i64.
    ///
    /// ```
    /// use isograd::Tensor;
    /// let ctx = isograd::device("cpu")?;
    /// let x = Tensor::from_slice(&ctx, &[1.0f32, 2.0, 3.0, 4.0], [2, 2])?;
    /// assert_eq!(x.sum(0, false)?.to_vec::<f32>()?, [4.0, 6.0]);
    /// assert_eq!(x.sum([0, -1], true)?.shape(), &[1, 1]);
    /// assert_eq!(x.sum((), false)?.rank(), 0);
    /// # Ok::<(), isograd::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::AxisOutOfRange`], [`Error::DuplicateAxis`]; what the device reports.
    pub fn sum(&self, axes: impl Axes, keepdims: bool) -> Result<Tensor<B>> {
        let axes = self.resolve_axes("sum", &axes)?;
        self.sum_axes(&axes)?.drop_axes(&axes, keepdims)
    }

    /// Sums a gradient of a broadcast result down to the shape it was broadcast from.
    pub(crate) fn sum_to(&self, target: &Shape) -> Result<Tensor<B>> {
        if self.shape() == target {
            return Ok(self.clone());
        }
        let extra = self.rank() - target.rank();
        let axes: SmallVec<[usize; 4]> =
            (0..self.rank()).filter(|&a| a < extra || target[a - extra] != self.shape()[a]).collect();
        self.sum_axes(&axes)?.reshape(target)
    }

    /// The sum over `axes` of the elements that are not NaN; those that are get gradient 0.
    ///
    /// # Errors
    /// As [`Tensor::sum`].
    pub fn nansum(&self, axes: impl Axes, keepdims: bool) -> Result<Tensor<B>> {
        self.masked_fill(&self.is_nan()?, 0)?.sum(axes, keepdims)
    }

    /// The product over `axes` of the elements that are not NaN; those that are get gradient 0.
    ///
    /// # Errors
    /// As [`Tensor::prod`].
    pub fn nanprod(&self, axes: impl Axes, keepdims: bool) -> Result<Tensor<B>> {
        self.masked_fill(&self.is_nan()?, 1)?.prod(axes, keepdims)
    }

    fn count_of(&self, axes: &[usize]) -> usize {
        axes.iter().map(|&a| self.shape()[a]).product()
    }

    /// The mean over `axes`; NaN over no elements.
    ///
    /// # Errors
    /// As [`Tensor::sum`]; [`Error::UnsupportedDType`] unless the dtype is a floating one.
    pub fn mean(&self, axes: impl Axes, keepdims: bool) -> Result<Tensor<B>> {
        self.need_float("mean")?;
        let axes = self.resolve_axes("mean", &axes)?;
        self.mean_axes(&axes)?.drop_axes(&axes, keepdims)
    }

    /// The mean over `axes`, which keep size 1, rounded once to `dtype`.
    fn unrecorded_mean(&self, axes: &[usize], dtype: DType) -> Result<Tensor<B>> {
        let c = self.dtype().compute();
        let sum = self.fold(ReduceOp::Sum, WIDE.program(self.dtype()), &[], &[], axes, c)?;
        let count = [Value::F64(self.count_of(axes) as f64).cast(c)];
        super::formula::run_map(self.ctx(), QUOTIENT.program(dtype), &[&sum], &count, sum.shape())
    }

    pub(crate) fn mean_axes(&self, axes: &[usize]) -> Result<Tensor<B>> {
        let d = self.dtype();
        let count = self.count_of(axes);
        if count == 0 {
            return self.sum_axes(axes)?.mul_scalar(f64::NAN);
        }
        let output = self.unrecorded_mean(axes, d)?;
        if let Some(recorder) = Recorder::new(&[self]) {
            let shape = self.shape().clone();
            recorder.finish("mean", &output, move |head, _| {
                // In the dtype that is computed in: f16 has no 1/n for a large n.
                let share = head.cast(d.compute())?.mul_scalar(1.0 / count as f64)?.cast(d)?;
                Ok(smallvec![Some(share.broadcast_to(&shape)?)])
            });
        }
        Ok(output)
    }

    /// The product over `axes`; integers wrap. Its derivative is right where factors are 0.
    ///
    /// # Errors
    /// As [`Tensor::sum`]; [`Error::UnsupportedDType`] on bool.
    pub fn prod(&self, axes: impl Axes, keepdims: bool) -> Result<Tensor<B>> {
        if self.dtype() == DType::Bool {
            return Err(Error::UnsupportedDType {
                op: "prod",
                dtype: DType::Bool,
                device: self.ctx().name(),
                why: "bool has no product; use all(), or cast".into(),
            });
        }
        let axes = self.resolve_axes("prod", &axes)?;
        self.prod_axes(&axes)?.drop_axes(&axes, keepdims)
    }

    fn prod_axes(&self, axes: &[usize]) -> Result<Tensor<B>> {
        let d = self.dtype();
        let output = self.fold(ReduceOp::Prod, IDENTITY.program(d), &[], &[], axes, d)?;
        if let Some(recorder) = Recorder::new(&[self]) {
            let (x, n) = (recorder.input(0, self), self.count_of(axes));
            // The factors of a product side by side.
            let kept: Vec<usize> = (0..self.rank()).filter(|a| !axes.contains(a)).collect();
            let order: Vec<usize> = kept.iter().chain(axes).copied().collect();
            let rows: Shape = kept.iter().map(|&a| self.shape()[a]).chain([n]).collect();
            let mut back = vec![0; order.len()];
            order.iter().enumerate().for_each(|(place, &axis)| back[axis] = place as isize);
            let order: Vec<isize> = order.into_iter().map(|a| a as isize).collect();
            recorder.finish("prod", &output, move |head, context| {
                // In the dtype that is computed in: products of some of the factors may leave the range of f16.
                let x = x.get(context)?.cast(d.compute())?.transpose(&order)?;
                let others = x.reshape(&rows)?.products_of_others()?.reshape(x.shape())?.transpose(&back)?;
                Ok(smallvec![Some(head.cast(d.compute())?.mul(&others)?.cast(d)?)])
            });
        }
        Ok(output)
    }

    /// For each element the product of all others of its row, which is the last axis; right where some are 0.
    fn products_of_others(&self) -> Result<Tensor<B>> {
        let last = self.rank() - 1;
        let n = self.shape()[last];
        if n > PROD_BLOCK {
            // Those of its block, times all other blocks.
            let blocks = n.div_ceil(PROD_BLOCK);
            let mut widths = vec![(0, 0); last];
            widths.push((0, blocks * PROD_BLOCK - n));
            let mut shape = self.shape().with(last, blocks);
            shape.push(PROD_BLOCK);
            let factors = self.pad(&widths, super::PadMode::Constant(1.0))?.reshape(&shape)?;
            let others = factors.prod_axes(&[last + 1])?.drop_axes(&[last + 1], false)?.products_of_others()?;
            let all = factors.products_of_others()?.mul(&others.expand_dims(-1)?)?;
            return all.reshape(&self.shape().with(last, blocks * PROD_BLOCK))?.narrow(last as isize, 0, n);
        }
        // The row n times, with 1 on the diagonal.
        let diagonal = Tensor::eye(self.ctx(), n, n, 0, DType::Bool)?;
        let mut square = self.shape().clone();
        square.push(n);
        let rows = self.expand_dims(-2)?.broadcast_to(&square)?.masked_fill(&diagonal, 1)?;
        rows.prod_axes(&[last + 1])?.drop_axes(&[last + 1], false)
    }

    fn extreme(&self, name: &'static str, op: ReduceOp, axes: &[usize]) -> Result<Tensor<B>> {
        if self.size() == 0 && axes.iter().any(|&a| self.shape()[a] == 0) {
            return Err(self.invalid_shape(name, "no elements to choose from along the reduced axes"));
        }
        let d = self.dtype();
        let output = self.fold(op, IDENTITY.program(d), &[], &[], axes, d)?;
        if let Some(recorder) = Recorder::new(&[self]) {
            let (x, y) = (recorder.input(0, self), recorder.output(&output));
            let axes: SmallVec<[usize; 4]> = axes.into();
            recorder.finish(name, &output, move |head, context| {
                let (x, y) = (x.get(context)?.detach(), y.get(context)?.detach());
                // In the dtype that is computed in: f16 cannot count beyond 65504.
                let hit = x.equal(&y)?.logical_or(&x.is_nan()?.logical_and(&y.is_nan()?)?)?.cast(d.compute())?;
                let share = head.cast(d.compute())?.div(&hit.sum_axes(&axes)?)?;
                Ok(smallvec![Some(hit.mul(&share)?.cast(d)?)])
            });
        }
        Ok(output)
    }

    /// The largest element over `axes`; NaN if any is NaN. Ties share the gradient.
    ///
    /// # Errors
    /// As [`Tensor::sum`]; [`Error::InvalidShape`] over no elements.
    pub fn max(&self, axes: impl Axes, keepdims: bool) -> Result<Tensor<B>> {
        let axes = self.resolve_axes("max", &axes)?;
        self.extreme("max", ReduceOp::Max, &axes)?.drop_axes(&axes, keepdims)
    }

    /// The smallest element over `axes`; NaN if any is NaN. Ties share the gradient.
    ///
    /// # Errors
    /// As [`Tensor::max`].
    pub fn min(&self, axes: impl Axes, keepdims: bool) -> Result<Tensor<B>> {
        let axes = self.resolve_axes("min", &axes)?;
        self.extreme("min", ReduceOp::Min, &axes)?.drop_axes(&axes, keepdims)
    }

    fn arg_extreme(&self, name: &'static str, op: ReduceOp, axes: &[usize]) -> Result<Tensor<B>> {
        let n = self.count_of(axes);
        let x = self.detach();
        let extreme = x.extreme(name, op, axes)?;
        x.fold(ReduceOp::Min, POSITION.program(self.dtype()), &[&extreme], &[Value::I64(n as i64)], axes, DType::I64)
    }

    /// The position (i64) of the first largest element along `axes`: along one axis the index, along several the row-major
    /// number among them, with `()` that in the whole tensor. The first NaN, if there is one.
    ///
    /// # Errors
    /// As [`Tensor::max`].
    pub fn argmax(&self, axes: impl Axes, keepdims: bool) -> Result<Tensor<B>> {
        let axes = self.resolve_axes("argmax", &axes)?;
        self.arg_extreme("argmax", ReduceOp::Max, &axes)?.drop_axes(&axes, keepdims)
    }

    /// The position (i64) of the first smallest element; as [`Tensor::argmax`].
    ///
    /// # Errors
    /// As [`Tensor::max`].
    pub fn argmin(&self, axes: impl Axes, keepdims: bool) -> Result<Tensor<B>> {
        let axes = self.resolve_axes("argmin", &axes)?;
        self.arg_extreme("argmin", ReduceOp::Min, &axes)?.drop_axes(&axes, keepdims)
    }

    /// Whether any element over `axes` is true, or not 0; false over no elements.
    ///
    /// # Errors
    /// As [`Tensor::sum`].
    pub fn any(&self, axes: impl Axes, keepdims: bool) -> Result<Tensor<B>> {
        let axes = self.resolve_axes("any", &axes)?;
        let program = TRUE.program(self.dtype());
        self.detach().fold(ReduceOp::Max, program, &[], &[], &axes, DType::Bool)?.drop_axes(&axes, keepdims)
    }

    /// Whether all elements over `axes` are true, or not 0; true over no elements.
    ///
    /// # Errors
    /// As [`Tensor::sum`].
    pub fn all(&self, axes: impl Axes, keepdims: bool) -> Result<Tensor<B>> {
        let axes = self.resolve_axes("all", &axes)?;
        let program = TRUE.program(self.dtype());
        self.detach().fold(ReduceOp::Min, program, &[], &[], &axes, DType::Bool)?.drop_axes(&axes, keepdims)
    }

    /// The variance over `axes`: the mean squared deviation from the mean, divided by n - `ddof` (0 as in NumPy, 1 for the
    /// unbiased estimate). Two passes, since the one-pass formula cancels.
    ///
    /// # Errors
    /// As [`Tensor::mean`].
    pub fn var(&self, axes: impl Axes, keepdims: bool, ddof: usize) -> Result<Tensor<B>> {
        self.need_float("var")?;
        let axes = self.resolve_axes("var", &axes)?;
        let (d, n) = (self.dtype(), self.count_of(&axes));
        if n == 0 {
            return self.mean_axes(&axes)?.drop_axes(&axes, keepdims);
        }
        let c = d.compute();
        let share = 1.0 / n.saturating_sub(ddof) as f64;
        // The mean is kept in the dtype that is computed in.
        let mean = self.unrecorded_mean(&axes, c)?;
        let scalars = [Value::F64(share).cast(c)];
        let output = self.fold(ReduceOp::Sum, SQUARED_DEVIATION.program(d), &[&mean], &scalars, &axes, d)?;
        if let Some(recorder) = Recorder::new(&[self]) {
            let x = recorder.input(0, self);
            let axes = axes.clone();
            recorder.finish("var", &output, move |head, context| {
                let deviation = x.get(context)?.cast(c)?.deviation(&axes)?;
                Ok(smallvec![Some(head.cast(c)?.mul(&deviation)?.mul_scalar(2.0 * share)?.cast(d)?)])
            });
        }
        output.drop_axes(&axes, keepdims)
    }

    /// The distance of each element from the mean over `axes`.
    pub(super) fn deviation(&self, axes: &[usize]) -> Result<Tensor<B>> {
        self.sub(&self.mean_axes(axes)?)
    }

    /// The standard deviation: the root of [`Tensor::var`], also where that overflows. Its derivative at 0 is 0.
    ///
    /// # Errors
    /// As [`Tensor::mean`].
    pub fn std(&self, axes: impl Axes, keepdims: bool, ddof: usize) -> Result<Tensor<B>> {
        self.need_float("std")?;
        let axes = self.resolve_axes("std", &axes)?;
        let share = 1.0 / (self.count_of(&axes).saturating_sub(ddof) as f64).sqrt();
        let norm = self.cast(self.dtype().compute())?.deviation(&axes)?.norm_axes(&axes)?;
        norm.mul_scalar(share)?.cast(self.dtype())?.drop_axes(&axes, keepdims)
    }

    /// The Euclidean norm over `axes`, without overflow of the squares. Its derivative at 0 is 0.
    ///
    /// ```
    /// use isograd::Tensor;
    /// let ctx = isograd::device("cpu")?;
    /// let x = Tensor::from_slice(&ctx, &[3e20f32, 4e20], [2])?;
    /// assert_eq!(x.norm((), false)?.asscalar::<f32>()?, 5e20);
    /// # Ok::<(), isograd::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Tensor::mean`].
    pub fn norm(&self, axes: impl Axes, keepdims: bool) -> Result<Tensor<B>> {
        self.need_float("norm")?;
        let axes = self.resolve_axes("norm", &axes)?;
        self.norm_axes(&axes)?.cast(self.dtype())?.drop_axes(&axes, keepdims)
    }

    /// The norm over `axes`, which keep size 1, in the dtype that is computed in.
    fn norm_axes(&self, axes: &[usize]) -> Result<Tensor<B>> {
        let (d, c, ctx) = (self.dtype(), self.dtype().compute(), self.ctx());
        let run = |kernel: &PerDType, inputs: &[&Tensor<B>]| {
            super::formula::run_map(ctx, kernel.program(c), inputs, &[], inputs[0].shape())
        };
        let largest = self.fold(ReduceOp::Max, MAGNITUDE.program(d), &[], &[], axes, c)?;
        let factor = run(&INTO_RANGE, &[&largest])?;
        let squares = self.fold(ReduceOp::Sum, SCALED_SQUARE.program(d), &[&factor], &[], axes, c)?;
        let output = run(&ROOT, &[&squares, &factor])?;
        if let Some(recorder) = Recorder::new(&[self]) {
            let (x, norm) = (recorder.input(0, self), recorder.output(&output));
            recorder.finish("norm", &output, move |head, context| {
                let (x, norm) = (x.get(context)?, norm.get(context)?);
                Ok(smallvec![Some(apply(NORM_GRADIENT.on(d)?, &[head, &x, &norm], &[])?)])
            });
        }
        Ok(output)
    }

    /// ln Σ e^x over `axes`, without overflow; -∞ over no elements.
    ///
    /// # Errors
    /// As [`Tensor::mean`].
    pub fn logsumexp(&self, axes: impl Axes, keepdims: bool) -> Result<Tensor<B>> {
        self.need_float("logsumexp")?;
        let axes = self.resolve_axes("logsumexp", &axes)?;
        // In the dtype that is computed in: the sum of f16 overflows where its logarithm does not.
        let x = self.cast(self.dtype().compute())?;
        let logarithm = if self.count_of(&axes) == 0 {
            x.sum_axes(&axes)?.log()?
        } else {
            let largest = x.detach().extreme("logsumexp", ReduceOp::Max, &axes)?;
            // An infinite shift would give ∞ - ∞.
            let shift = largest.masked_fill(&largest.is_inf()?, 0)?;
            x.sub(&shift)?.exp()?.sum_axes(&axes)?.log()?.add(&shift)?
        };
        logarithm.cast(self.dtype())?.drop_axes(&axes, keepdims)
    }

    /// Running sums along `axis`, each element included.
    ///
    /// # Errors
    /// [`Error::AxisOutOfRange`]; [`Error::UnsupportedDType`] on bool; what the device reports.
    pub fn cumsum(&self, axis: isize) -> Result<Tensor<B>> {
        let at = self.axis("cumsum", axis)?;
        if self.dtype() == DType::Bool {
            return Err(Error::UnsupportedDType {
                op: "cumsum",
                dtype: DType::Bool,
                device: self.ctx().name(),
                why: "bool has no sum; cast it to a number first".into(),
            });
        }
        self.need_computable("cumsum", self.dtype())?;
        let output = self.along_last(at, self.dtype(), |x, mut y| self.ctx().scan(ReduceOp::Sum, &x, &mut y))?;
        if let Some(recorder) = Recorder::new(&[self]) {
            recorder.finish("cumsum", &output, move |head, _| {
                Ok(smallvec![Some(head.flip(at as isize)?.cumsum(at as isize)?.flip(at as isize)?)])
            });
        }
        Ok(output)
    }

    /// Runs `kernel` with this tensor as rows of `axis`: input with that axis last, output contiguous. The result has the
    /// shape of this tensor.
    pub(crate) fn along_last(
        &self,
        axis: usize,
        dtype: DType,
        kernel: impl FnOnce(Operand<'_, B>, OperandMut<'_, B>) -> Result<()>,
    ) -> Result<Tensor<B>> {
        let order: SmallVec<[usize; 6]> = (0..self.rank()).filter(|&a| a != axis).chain([axis]).collect();
        let rows = self.layout().permute(&order);
        let mut buffer = Memory::alloc(self.ctx(), self.shape(), dtype)?;
        let out = crate::Layout::contiguous(rows.shape().clone());
        if !rows.is_empty() {
            self.with_operand(|x| kernel(x.with_layout(&rows), OperandMut::new(&mut buffer, dtype, &out)))?;
        }
        let mut inverse: SmallVec<[usize; 6]> = smallvec![0; order.len()];
        order.iter().enumerate().for_each(|(i, &a)| inverse[a] = i);
        Ok(Tensor::from_parts(self.ctx().clone(), Memory::new(buffer), out.permute(&inverse), dtype))
    }
}
