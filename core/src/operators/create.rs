//! New tensors from nothing: constants, ranges, diagonals.

use super::formula::run_map;
use crate::{
    Backend, DType, Error, Expr, Result, Scalar, Shape, Tensor, Value,
    expr::{Definition, PerDType},
    tensor::check_storable,
};

static FULL: PerDType = PerDType::new("full", |d| (vec![Expr::scalar(0, d)], vec![], vec![d]));
/// start + i * step, in the dtype itself; ranges of f16 and bf16 are computed in f32 and rounded once.
static ARANGE: PerDType = PerDType::new("arange", |d| {
    let c = d.compute();
    let i = Expr::index().cast(c);
    (vec![(Expr::scalar(0, c) + i * Expr::scalar(1, c)).cast(d)], vec![], vec![c, c])
});
static LINSPACE: PerDType = PerDType::new("linspace", |d| {
    let c = d.compute();
    let [start, step, stop] = [0, 1, 2].map(|k| Expr::scalar(k, c));
    let between = start + Expr::index().cast(c) * step;
    let last = Expr::index().equal(&Expr::scalar(3, DType::I64));
    (vec![last.select(&stop, &between).cast(d)], vec![], vec![c, c, c, DType::I64])
});

/// 1 where `at(column - row)` holds for a matrix with arg0 columns and diagonal arg1.
fn diagonal(d: DType, at: fn(&Expr, &Expr) -> Expr) -> Definition {
    let (columns, k) = (Expr::scalar(0, DType::I64), Expr::scalar(1, DType::I64));
    let (row, column) = (Expr::index() / &columns, Expr::index() % &columns);
    (vec![at(&(column - row), &k).cast(d)], vec![], vec![DType::I64, DType::I64])
}
static EYE: PerDType = PerDType::new("eye", |d| diagonal(d, Expr::equal));
static TRI: PerDType = PerDType::new("tri", |d| diagonal(d, Expr::less_equal));

/// Runs a kernel without inputs over `shape`.
pub(crate) fn generate<B: Backend>(
    ctx: &B,
    op: &'static str,
    kernel: &PerDType,
    dtype: DType,
    scalars: &[Value],
    shape: &Shape,
) -> Result<Tensor<B>> {
    check_storable(ctx, op, shape, dtype)?;
    run_map(ctx, kernel.program(dtype), &[], scalars, shape)
}

impl<B: Backend> Tensor<B> {
    /// Zeros (false for bool).
    ///
    /// # Errors
    /// [`Error::UnsupportedDType`] or [`Error::OutOfMemory`] when the device cannot hold it.
    pub fn zeros(ctx: &B, shape: impl AsRef<[usize]>, dtype: DType) -> Result<Tensor<B>> {
        generate(ctx, "zeros", &FULL, dtype, &[Value::zero(dtype)], &shape.as_ref().into())
    }

    /// Ones (true for bool).
    ///
    /// # Errors
    /// As [`Tensor::zeros`].
    pub fn ones(ctx: &B, shape: impl AsRef<[usize]>, dtype: DType) -> Result<Tensor<B>> {
        generate(ctx, "ones", &FULL, dtype, &[Value::one(dtype)], &shape.as_ref().into())
    }

    /// One value everywhere.
    ///
    /// # Errors
    /// As [`Tensor::zeros`]; [`Error::ScalarOutOfRange`] when the dtype cannot hold the value.
    pub fn full(ctx: &B, shape: impl AsRef<[usize]>, value: impl Into<Scalar>, dtype: DType) -> Result<Tensor<B>> {
        generate(ctx, "full", &FULL, dtype, &[value.into().to_value(dtype)?], &shape.as_ref().into())
    }

    /// Zeros of the shape, dtype and device of this tensor.
    ///
    /// # Errors
    /// As [`Tensor::zeros`].
    pub fn zeros_like(&self) -> Result<Tensor<B>> {
        Tensor::zeros(self.ctx(), self.shape(), self.dtype())
    }

    /// Ones of the shape, dtype and device of this tensor.
    ///
    /// # Errors
    /// As [`Tensor::zeros`].
    pub fn ones_like(&self) -> Result<Tensor<B>> {
        Tensor::ones(self.ctx(), self.shape(), self.dtype())
    }

    /// `start, start + step, ...`, as many as lie before `stop`.
    ///
    /// ```
    /// # use isograd_core::{DType, Tensor};
    /// # let ctx = isograd_reference::Reference;
    /// assert_eq!(Tensor::arange(&ctx, 0, 10, 3, DType::I32)?.to_vec::<i32>()?, [0, 3, 6, 9]);
    /// # Ok::<(), isograd_core::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] when `step` is 0 or a bound is not finite; [`Error::ScalarOutOfRange`]; as
    /// [`Tensor::zeros`].
    pub fn arange(
        ctx: &B,
        start: impl Into<Scalar>,
        stop: impl Into<Scalar>,
        step: impl Into<Scalar>,
        dtype: DType,
    ) -> Result<Tensor<B>> {
        let (start, stop, step) = (start.into(), stop.into(), step.into());
        let number = |s: Scalar| s.to_value(DType::F64).map(Value::to_f64);
        let count = match (start, stop, step) {
            (Scalar::Int(a), Scalar::Int(b), Scalar::Int(s)) if s != 0 => {
                let (span, s) = (b as i128 - a as i128, s as i128);
                if span * s <= 0 { 0.0 } else { ((span.abs() + s.abs() - 1) / s.abs()) as f64 }
            }
            _ => ((number(stop)? - number(start)?) / number(step)?).ceil().max(0.0),
        };
        if number(step)? == 0.0 || !count.is_finite() {
            return Err(Error::invalid(
                "arange",
                format!("from {start} to {stop} by {step}: bounds must be finite and the step not 0"),
            ));
        }
        if dtype == DType::Bool {
            return Err(Error::UnsupportedDType {
                op: "arange",
                dtype,
                device: ctx.name(),
                why: "ranges are of numbers".into(),
            });
        }
        let c = dtype.compute();
        let scalars = [start.to_value(c)?, step.to_value(c)?];
        generate(ctx, "arange", &ARANGE, dtype, &scalars, &[count as usize].into())
    }

    /// `count` numbers, evenly spaced from `start` to `stop`, both included.
    ///
    /// # Errors
    /// [`Error::UnsupportedDType`] unless the dtype is a floating one; as [`Tensor::zeros`].
    pub fn linspace(ctx: &B, start: f64, stop: f64, count: usize, dtype: DType) -> Result<Tensor<B>> {
        if !dtype.is_float() {
            return Err(Error::UnsupportedDType {
                op: "linspace",
                dtype,
                device: ctx.name(),
                why: "use a floating dtype, or arange".into(),
            });
        }
        let c = dtype.compute();
        let step = if count > 1 { (stop - start) / (count - 1) as f64 } else { 0.0 };
        // The last element is `stop` itself, but a single element is `start`.
        let last = if count > 1 { count as i64 - 1 } else { -1 };
        let scalars = [
            Scalar::Float(start).to_value(c)?,
            Scalar::Float(step).to_value(c)?,
            Scalar::Float(stop).to_value(c)?,
            Value::I64(last),
        ];
        generate(ctx, "linspace", &LINSPACE, dtype, &scalars, &[count].into())
    }

    /// `rows` x `columns`, ones on diagonal `k` (0 the main one, positive above it), zeros elsewhere.
    ///
    /// # Errors
    /// As [`Tensor::zeros`].
    pub fn eye(ctx: &B, rows: usize, columns: usize, k: isize, dtype: DType) -> Result<Tensor<B>> {
        let scalars = [Value::I64(columns as i64), Value::I64(k as i64)];
        generate(ctx, "eye", &EYE, dtype, &scalars, &[rows, columns].into())
    }

    /// `rows` x `columns`, ones at and below diagonal `k`, zeros above it.
    ///
    /// # Errors
    /// As [`Tensor::zeros`].
    pub fn tri(ctx: &B, rows: usize, columns: usize, k: isize, dtype: DType) -> Result<Tensor<B>> {
        let scalars = [Value::I64(columns as i64), Value::I64(k as i64)];
        generate(ctx, "tri", &TRI, dtype, &scalars, &[rows, columns].into())
    }
}
