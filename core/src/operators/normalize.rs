//! Batch, layer, group and instance normalization: one operator, over different axes.

use super::{Axes, PerDTypeFormula, apply};
use crate::{
    Backend, DType, Expr, OperandMut, ReduceOp, Result, Shape, Tensor, Value, autograd::Recorder, expr::PerDType,
    tensor::Memory,
};
use smallvec::{SmallVec, smallvec};

/// What normalization gives.
#[derive(Debug, Clone)]
pub struct Normalized<B: Backend> {
    /// The result, shaped like the input.
    pub output: Tensor<B>,
    /// The mean over the normalized axes, which have size 1; not recorded. In the dtype that is computed in.
    pub mean: Tensor<B>,
    /// The variance (divided by n) likewise.
    pub var: Tensor<B>,
}

static MEAN: PerDType = PerDType::new("mean", |d| {
    let c = d.compute();
    (vec![Expr::input(0, d).cast(c) * Expr::scalar(0, c)], vec![d], vec![c])
});
static VARIANCE: PerDType = PerDType::new("variance", |d| {
    let c = d.compute();
    ((vec![(Expr::input(0, d).cast(c) - Expr::input(1, c)).square() * Expr::scalar(0, c)]), vec![d, c], vec![c])
});
static RSTD: PerDType =
    PerDType::new("rstd", |d| (vec![(Expr::input(0, d) + Expr::scalar(0, d)).rsqrt()], vec![d], vec![d]));
static STANDARDIZE: PerDType = PerDType::new("standardize", |d| {
    let c = d.compute();
    (vec![standardized(d, 0).cast(d)], vec![d, c, c], vec![])
});
/// g - mean(g) - y mean(g y), times 1/σ: the gradient of (x - mean) / σ.
static GRADIENT: PerDType = PerDType::new("normalize", |d| {
    let c = d.compute();
    let [g, y] = [0, 1].map(|k| Expr::input(k, d).cast(c));
    let [rstd, mean_g, mean_gy] = [2, 3, 4].map(|k| Expr::input(k, c));
    ((vec![((g - mean_g - y * mean_gy) * rstd).cast(d)]), vec![d, d, c, c, c], vec![])
});
static MEAN_PRODUCT: PerDType = PerDType::new("mean", |d| {
    let c = d.compute();
    (vec![Expr::input(0, d).cast(c) * Expr::input(1, d).cast(c) * Expr::scalar(0, c)], vec![d, d], vec![c])
});
static SUM: PerDType = PerDType::new("sum", |d| (vec![Expr::input(0, d).cast(d.compute())], vec![d], vec![]));
/// (x - mean) / σ, in the dtype that is computed in, from input `first` on.
fn standardized(d: DType, first: u8) -> Expr {
    let c = d.compute();
    (Expr::input(first, d).cast(c) - Expr::input(first + 1, c)) * Expr::input(first + 2, c)
}
static BATCH_NORM: PerDType = PerDType::new("batch_norm", |d| {
    let c = d.compute();
    let [gamma, beta] = [3, 4].map(|k| Expr::input(k, d).cast(c));
    (vec![(standardized(d, 0) * gamma + beta).cast(d)], vec![d, c, c, d, d], vec![])
});
/// The head gradient times what γ was multiplied by.
static INTO_GAMMA: PerDType = PerDType::new("batch_norm", |d| {
    let c = d.compute();
    (vec![Expr::input(0, d).cast(c) * standardized(d, 1)], vec![d, d, c, c], vec![])
});
/// [`GRADIENT`] of γ times the head gradient, whose means are γ times those of the gradients in β and γ.
static INTO_INPUT: PerDType = PerDType::new("batch_norm", |d| {
    let c = d.compute();
    let (head, rstd, gamma) = (Expr::input(0, d).cast(c), Expr::input(3, c), Expr::input(4, d).cast(c));
    let [into_beta, into_gamma] = [5, 6].map(|k| Expr::input(k, c));
    let shared = (into_beta + standardized(d, 1) * into_gamma) * Expr::scalar(0, c);
    (vec![((head - shared) * (gamma * rstd)).cast(d)], vec![d, d, c, c, d, c, c], vec![c])
});
static AFFINE: PerDTypeFormula = PerDTypeFormula::new("normalize", |d| {
    let [x, gamma, beta] = [0, 1, 2].map(|k| Expr::input(k, d));
    (x * gamma + beta, smallvec![d, d, d], smallvec![])
});
/// Normalization by given statistics, which are in the dtype that is computed in: (x - mean) / √(var + ε) · γ + β.
static BY_STATISTICS: PerDTypeFormula = PerDTypeFormula::new("batch_norm", |d| {
    let c = d.compute();
    let [x, gamma, beta] = [0, 3, 4].map(|k| Expr::input(k, d).cast(c));
    let [mean, var] = [1, 2].map(|k| Expr::input(k, c));
    let scale = (var + Expr::scalar(0, c)).rsqrt() * gamma;
    (((x - mean) * scale + beta).cast(d), smallvec![d, c, c, d, d], smallvec![c])
});

impl<B: Backend> Tensor<B> {
    /// (x - mean) / √(variance + ε) over `axes`, with the variance divided by n.
    ///
    /// # Errors
    /// [`crate::Error::AxisOutOfRange`]; [`crate::Error::UnsupportedDType`] unless the dtype is a floating one;
    /// [`crate::Error::InvalidShape`] over no elements.
    pub fn standardize(&self, axes: impl Axes, epsilon: f64) -> Result<Normalized<B>> {
        let axes = self.resolve_axes("standardize", &axes)?;
        let (output, mean) = self.standardize_axes("standardize", &axes, epsilon)?;
        let var = self.detach().variance_around(&mean, &axes)?;
        Ok(Normalized { output, mean, var })
    }

    /// (x - mean) / √(variance + ε) over `axes`, and the mean.
    fn standardize_axes(&self, op: &'static str, axes: &[usize], epsilon: f64) -> Result<(Tensor<B>, Tensor<B>)> {
        self.need_float(op)?;
        let n: usize = axes.iter().map(|&a| self.shape()[a]).product();
        if n == 0 {
            return Err(self.invalid_shape(op, "there is nothing to normalize over"));
        }
        let (d, ctx) = (self.dtype(), self.ctx());
        let c = d.compute();
        self.need_computable(op, c)?;
        let share = [Value::F64(1.0 / n as f64).cast(c)];
        let x = self.detach();
        let first = axes.first().copied().unwrap_or(0);
        let trailing = !axes.is_empty() && axes.iter().copied().eq(first..self.rank());
        let with_ones: Shape = (0..self.rank()).map(|a| if axes.contains(&a) { 1 } else { self.shape()[a] }).collect();
        let (output, mean, rstd);
        if trailing && self.size() > 0 {
            // The axes lie together: one kernel.
            let rows = Shape::from([self.size() / n, n]);
            let flat = x.reshape(&rows)?;
            let kept = Shape::from([rows[0]]);
            let mut buffers =
                [Memory::alloc(ctx, self.shape(), d)?, Memory::alloc(ctx, &kept, c)?, Memory::alloc(ctx, &kept, c)?];
            let (whole, row) = (crate::Layout::contiguous(rows), crate::Layout::contiguous(kept));
            let [o, m, r] = &mut buffers;
            flat.with_operand(|x| {
                ctx.normalize(
                    epsilon,
                    &x,
                    &mut OperandMut::new(o, d, &whole),
                    &mut OperandMut::new(m, c, &row),
                    &mut OperandMut::new(r, c, &row),
                )
            })?;
            let [o, m, r] = buffers;
            output = Tensor::from_buffer(ctx, o, self.shape(), d);
            mean = Tensor::from_buffer(ctx, m, &with_ones, c);
            rstd = Tensor::from_buffer(ctx, r, &with_ones, c);
        } else {
            (mean, _, rstd) = x.statistics(axes, epsilon)?;
            output = super::formula::run_map(ctx, STANDARDIZE.program(d), &[&x, &mean, &rstd], &[], x.shape())?;
        }
        if let Some(recorder) = Recorder::new(&[self]) {
            let (y, rstd) = (recorder.constant(&output), recorder.constant(&rstd));
            let x = recorder.input(0, self);
            let axes: SmallVec<[usize; 4]> = axes.into();
            recorder.finish(op, &output, move |head, context| {
                if crate::autograd::is_recording() {
                    // For gradients of gradients: the same formula, of operators on the input, in the dtype that is computed in.
                    let (y, rstd) = x.get(context)?.cast(c)?.standardized(&axes, epsilon)?;
                    return Ok(smallvec![Some(head.cast(c)?.through_standardized(&y, &rstd, &axes)?.cast(d)?)]);
                }
                let (y, rstd) = (y.get(context)?, rstd.get(context)?);
                let mean_g = head.fold(ReduceOp::Sum, MEAN.program(d), &[], &share, &axes, c)?;
                let mean_gy = head.fold(ReduceOp::Sum, MEAN_PRODUCT.program(d), &[&y], &share, &axes, c)?;
                let inputs = [head, &y, &rstd, &mean_g, &mean_gy];
                Ok(smallvec![Some(super::formula::run_map(
                    head.ctx(),
                    GRADIENT.program(d),
                    &inputs,
                    &[],
                    head.shape()
                )?)])
            });
        }
        Ok((output, mean))
    }

    /// The mean squared distance from `mean` over `axes`, which stay with size 1, in the dtype that is computed in.
    fn variance_around(&self, mean: &Tensor<B>, axes: &[usize]) -> Result<Tensor<B>> {
        let (d, c) = (self.dtype(), self.dtype().compute());
        let n: usize = axes.iter().map(|&a| self.shape()[a]).product();
        let share = [Value::F64(1.0 / n as f64).cast(c)];
        self.fold(ReduceOp::Sum, VARIANCE.program(d), &[mean], &share, axes, c)
    }

    /// Mean, variance and 1/σ over `axes`, which stay with size 1, in the dtype that is computed in.
    fn statistics(&self, axes: &[usize], epsilon: f64) -> Result<(Tensor<B>, Tensor<B>, Tensor<B>)> {
        let (d, c) = (self.dtype(), self.dtype().compute());
        let n: usize = axes.iter().map(|&a| self.shape()[a]).product();
        let share = [Value::F64(1.0 / n as f64).cast(c)];
        let mean = self.fold(ReduceOp::Sum, MEAN.program(d), &[], &share, axes, c)?;
        let var = self.variance_around(&mean, axes)?;
        let epsilon = [Value::F64(epsilon).cast(c)];
        let rstd = super::formula::run_map(self.ctx(), RSTD.program(c), &[&var], &epsilon, var.shape())?;
        Ok((mean, var, rstd))
    }

    /// (x - mean) / σ and 1/σ, by operators, for gradients of gradients.
    fn standardized(&self, axes: &[usize], epsilon: f64) -> Result<(Tensor<B>, Tensor<B>)> {
        let deviation = self.deviation(axes)?;
        let rstd = deviation.square()?.mean_axes(axes)?.add_scalar(epsilon)?.rsqrt()?;
        Ok((deviation.mul(&rstd)?, rstd))
    }

    /// From the gradient in `y`, which is [`Tensor::standardized`], to that in what it was made of; by operators.
    fn through_standardized(&self, y: &Tensor<B>, rstd: &Tensor<B>, axes: &[usize]) -> Result<Tensor<B>> {
        let along = y.mul(&self.mul(y)?.mean_axes(axes)?)?;
        self.deviation(axes)?.sub(&along)?.mul(rstd)
    }

    /// `shape` of the parameters, given per element of `axis`, for broadcasting.
    fn along(&self, axis: usize, parameter: &Tensor<B>) -> Result<Tensor<B>> {
        if parameter.shape()[..] != [self.shape()[axis]] {
            return Err(self.shape_mismatch(
                "normalize",
                parameter.shape(),
                format!("parameters have one element for each of axis {axis}"),
            ));
        }
        let mut shape = Shape::from(vec![1; self.rank()]);
        shape.as_mut_slice()[axis] = self.shape()[axis];
        parameter.reshape(&shape)
    }

    fn affine(&self, gamma: &Tensor<B>, beta: &Tensor<B>) -> Result<Tensor<B>> {
        for p in [gamma, beta] {
            self.same_dtype("normalize", p)?;
        }
        apply(AFFINE.on(self.dtype())?, &[self, gamma, beta], &[])
    }

    /// Batch normalization in train mode: over all axes but `axis`, then γ and β per element of it (Ioffe and Szegedy,
    /// arXiv:1502.03167). The statistics of the batch are returned, for running averages.
    ///
    /// # Errors
    /// As [`Tensor::standardize`]; [`crate::Error::ShapeMismatch`], [`crate::Error::DTypeMismatch`].
    pub fn batch_norm(&self, gamma: &Tensor<B>, beta: &Tensor<B>, epsilon: f64, axis: isize) -> Result<Normalized<B>> {
        const OP: &str = "batch_norm";
        self.need_float(OP)?;
        let axis = self.axis(OP, axis)?;
        let (gamma, beta) = (self.along(axis, gamma)?, self.along(axis, beta)?);
        for p in [&gamma, &beta] {
            self.same_device(OP, p)?;
            self.same_dtype(OP, p)?;
        }
        let axes: SmallVec<[usize; 4]> = (0..self.rank()).filter(|&a| a != axis).collect();
        let n: usize = axes.iter().map(|&a| self.shape()[a]).product();
        if n == 0 {
            return Err(self.invalid_shape(OP, "there is nothing to normalize over"));
        }
        let (d, c) = (self.dtype(), self.dtype().compute());
        self.need_computable(OP, c)?;
        let x = self.detach();
        let (mean, var, rstd) = x.statistics(&axes, epsilon)?;
        let run = move |kernel: &PerDType, inputs: &[&Tensor<B>], scalars: &[Value]| {
            super::formula::run_map(inputs[0].ctx(), kernel.program(d), inputs, scalars, inputs[0].shape())
        };
        let output = run(&BATCH_NORM, &[&x, &mean, &rstd, &gamma.detach(), &beta.detach()], &[])?;
        if let Some(recorder) = Recorder::new(&[self, &gamma, &beta]) {
            let saved = [recorder.input(0, self), recorder.input(1, &gamma)];
            let statistics = [recorder.constant(&mean), recorder.constant(&rstd)];
            let parameter = gamma.shape().clone();
            recorder.finish(OP, &output, move |head, context| {
                let [x, gamma] = [saved[0].get(context)?, saved[1].get(context)?];
                if crate::autograd::is_recording() {
                    let (head, gamma) = (head.cast(c)?, gamma.cast(c)?);
                    let (y, rstd) = x.cast(c)?.standardized(&axes, epsilon)?;
                    let into_x = head.mul(&gamma)?.through_standardized(&y, &rstd, &axes)?.cast(d)?;
                    let into_gamma = head.mul(&y)?.sum_to(&parameter)?.cast(d)?;
                    let into_beta = head.sum_to(&parameter)?.cast(d)?;
                    return Ok(smallvec![Some(into_x), Some(into_gamma), Some(into_beta)]);
                }
                let [mean, rstd] = [statistics[0].get(context)?, statistics[1].get(context)?];
                let into_beta = head.fold(ReduceOp::Sum, SUM.program(d), &[], &[], &axes, c)?;
                let into_gamma = head.fold(ReduceOp::Sum, INTO_GAMMA.program(d), &[&x, &mean, &rstd], &[], &axes, c)?;
                let into_x = match context.wants(0) {
                    true => {
                        let share = [Value::F64(1.0 / n as f64).cast(c)];
                        Some(run(&INTO_INPUT, &[head, &x, &mean, &rstd, &gamma, &into_beta, &into_gamma], &share)?)
                    }
                    false => None,
                };
                Ok(smallvec![into_x, Some(into_gamma.cast(d)?), Some(into_beta.cast(d)?)])
            });
        }
        Ok(Normalized { output, mean, var })
    }

    /// Batch normalization in predict mode, by given statistics, one element of each parameter per element of `axis`. For f16
    /// and bf16 the statistics may be f32, which holds variances that those do not.
    ///
    /// # Errors
    /// As [`Tensor::batch_norm`].
    pub fn batch_norm_by(
        &self,
        gamma: &Tensor<B>,
        beta: &Tensor<B>,
        mean: &Tensor<B>,
        var: &Tensor<B>,
        epsilon: f64,
        axis: isize,
    ) -> Result<Tensor<B>> {
        self.need_float("batch_norm")?;
        let axis = self.axis("batch_norm", axis)?;
        let mut inputs: SmallVec<[Tensor<B>; 5]> = smallvec![self.clone()];
        let c = self.dtype().compute();
        for p in [mean, var] {
            if p.dtype() != c {
                self.same_dtype("batch_norm", p)?;
            }
            inputs.push(self.along(axis, p)?.cast(c)?);
        }
        for p in [gamma, beta] {
            self.same_dtype("batch_norm", p)?;
            inputs.push(self.along(axis, p)?);
        }
        let operands: SmallVec<[&Tensor<B>; 5]> = inputs.iter().collect();
        apply(BY_STATISTICS.on(self.dtype())?, &operands, &[Value::F64(epsilon).cast(c)])
    }

    /// Layer normalization: over `axis`, then γ and β per element of it (Ba et al., arXiv:1607.06450).
    ///
    /// # Errors
    /// As [`Tensor::batch_norm`].
    pub fn layer_norm(&self, gamma: &Tensor<B>, beta: &Tensor<B>, epsilon: f64, axis: isize) -> Result<Tensor<B>> {
        let at = self.axis("layer_norm", axis)?;
        let (gamma, beta) = (self.along(at, gamma)?, self.along(at, beta)?);
        self.standardize_axes("layer_norm", &[at], epsilon)?.0.affine(&gamma, &beta)
    }

    /// Group normalization of `[batch, channels, ..]`: over each of `groups` groups of channels (Wu and He, arXiv:1803.08494).
    /// γ and β have one element per channel, as in the paper, or one per group, as in MXNet.
    ///
    /// # Errors
    /// As [`Tensor::batch_norm`]; [`crate::Error::InvalidShape`] unless `groups` divides the channels.
    pub fn group_norm(&self, gamma: &Tensor<B>, beta: &Tensor<B>, groups: usize, epsilon: f64) -> Result<Tensor<B>> {
        const OP: &str = "group_norm";
        if self.rank() < 2 || groups == 0 || !self.shape()[1].is_multiple_of(groups) {
            return Err(self.invalid_shape(
                OP,
                format!("it must be [batch, channels, ..] with channels divided by {groups} groups"),
            ));
        }
        let group: usize = self.shape()[1..].iter().product::<usize>() / groups;
        let per_group = Shape::from([self.shape()[0], groups, group]);
        let grouped = self.reshape(&per_group)?;
        let normalized = grouped.standardize_axes(OP, &[2], epsilon)?.0;
        if gamma.shape()[..] == [groups] && groups != self.shape()[1] {
            let (gamma, beta) = (grouped.along(1, gamma)?, grouped.along(1, beta)?);
            return normalized.affine(&gamma, &beta)?.reshape(self.shape());
        }
        let (gamma, beta) = (self.along(1, gamma)?, self.along(1, beta)?);
        normalized.reshape(self.shape())?.affine(&gamma, &beta)
    }

    /// Instance normalization of `[batch, channels, spatial..]`: over the spatial axes of each channel (Ulyanov et al.,
    /// arXiv:1607.08022).
    ///
    /// # Errors
    /// As [`Tensor::batch_norm`].
    pub fn instance_norm(&self, gamma: &Tensor<B>, beta: &Tensor<B>, epsilon: f64) -> Result<Tensor<B>> {
        if self.rank() < 3 {
            return Err(self.invalid_shape("instance_norm", "it must be [batch, channels, spatial..]"));
        }
        let (gamma, beta) = (self.along(1, gamma)?, self.along(1, beta)?);
        let axes: Vec<usize> = (2..self.rank()).collect();
        self.standardize_axes("instance_norm", &axes, epsilon)?.0.affine(&gamma, &beta)
    }
}
