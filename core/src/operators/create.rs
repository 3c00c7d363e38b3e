//! New tensors from nothing: constants, ranges, diagonals.

use super::formula::run_map;
use crate::{
    Backend, DType, Error, Expr, Result, Scalar, Shape, Tensor, Value,
    expr::{Definition, PerDType},
    tensor::check_storable,
};

static FULL: PerDType = PerDType::new("full", |d| (vec![Expr::scalar(0, d)], vec![], vec![d]));
/// The dtype that ranges are computed in: f16 and bf16 in f32, rounded once; integers in i64, so that a step may be negative.
fn counted_in(d: DType) -> DType {
    if d.is_int() { DType::I64 } else { d.compute() }
}
/// start + i * step
static ARANGE: PerDType = PerDType::new("arange", |d| {
    let c = counted_in(d);
    let i = Expr::index().cast(c);
    (vec![(Expr::scalar(0, c) + i * Expr::scalar(1, c)).cast(d)], vec![], vec![c, c])
});
/// The first half counted from the start, the second from the end: both ends are exact, and no product leaves the range of the
/// dtype though their distance may.
static LINSPACE: PerDType = PerDType::new("linspace", |d| {
    let c = d.compute();
    let [start, step, stop] = [0, 1, 2].map(|k| Expr::scalar(k, c));
    let last = Expr::scalar(3, DType::I64);
    let i = Expr::index();
    let left = &last - &i;
    let second_half = left.less(&i);
    let (up, down) = (start + i.cast(c) * &step, stop - left.cast(c) * &step);
    (vec![second_half.select(&down, &up).cast(d)], vec![], vec![c, c, c, DType::I64])
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
    /// use isograd::{DType, Tensor};
    /// let ctx = isograd::device("cpu")?;
    /// assert_eq!(Tensor::arange(&ctx, 0, 10, 3, DType::I32)?.to_vec::<i32>()?, [0, 3, 6, 9]);
    /// # Ok::<(), isograd::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] when `step` is 0, or it or a bound is not finite; [`Error::ScalarOutOfRange`] when the dtype
    /// cannot hold the first or the last number; as [`Tensor::zeros`].
    pub fn arange(
        ctx: &B,
        start: impl Into<Scalar>,
        stop: impl Into<Scalar>,
        step: impl Into<Scalar>,
        dtype: DType,
    ) -> Result<Tensor<B>> {
        let (start, stop, step) = (start.into(), stop.into(), step.into());
        if dtype == DType::Bool {
            return Err(Error::UnsupportedDType {
                op: "arange",
                dtype,
                device: ctx.name(),
                why: "ranges are of numbers".into(),
            });
        }
        let [from, to, by] = [start, stop, step].map(Scalar::to_f64);
        if by == 0.0 || ![from, to, by].iter().all(|v| v.is_finite()) {
            return Err(Error::invalid(
                "arange",
                format!("from {start} to {stop} by {step}: bounds and step must be finite, and the step not 0"),
            ));
        }
        let c = counted_in(dtype);
        let (count, last) = match (start, stop, step) {
            (Scalar::Int(a), Scalar::Int(b), Scalar::Int(s)) => {
                let (span, s) = (i128::from(b) - i128::from(a), i128::from(s));
                let count = if span * s <= 0 { 0 } else { (span.abs() + s.abs() - 1) / s.abs() };
                // Before `stop`, so it is an i64.
                (usize::try_from(count).unwrap_or(usize::MAX), Scalar::Int((i128::from(a) + (count - 1) * s) as i64))
            }
            _ => {
                // NumPy's formula, but where the distance is beyond the largest number.
                let span = to - from;
                let steps = if span.is_finite() { span / by } else { to / by - from / by };
                let count = steps.ceil().max(0.0);
                (count as usize, Scalar::Float(from + (count - 1.0) * by))
            }
        };
        if count == 0 {
            return Tensor::zeros(ctx, [0], dtype);
        }
        start.to_value(dtype)?;
        last.to_value(dtype)?;
        // With one element the step is not used, and may be beyond the dtype.
        let step = if count > 1 { step.to_value(c)? } else { Value::zero(c) };
        generate(ctx, "arange", &ARANGE, dtype, &[start.to_value(c)?, step], &[count].into())
    }

    /// `count` numbers, evenly spaced from `start` to `stop`, both included.
    ///
    /// # Errors
    /// [`Error::UnsupportedDType`] unless the dtype is a floating one; [`Error::InvalidArgument`] when a bound is not finite;
    /// [`Error::ScalarOutOfRange`] when the dtype cannot hold it; as [`Tensor::zeros`].
    pub fn linspace(ctx: &B, start: f64, stop: f64, count: usize, dtype: DType) -> Result<Tensor<B>> {
        if !dtype.is_float() {
            return Err(Error::UnsupportedDType {
                op: "linspace",
                dtype,
                device: ctx.name(),
                why: "use a floating dtype, or arange".into(),
            });
        }
        if !(start.is_finite() && stop.is_finite()) {
            return Err(Error::invalid("linspace", format!("from {start} to {stop}: bounds must be finite")));
        }
        let c = dtype.compute();
        for bound in [start, stop] {
            Scalar::Float(bound).to_value(dtype)?;
        }
        // Two numbers are the bounds. Halves, since the distance may be beyond the largest number.
        let step = if count > 2 { (stop / 2.0 - start / 2.0) / (count - 1) as f64 * 2.0 } else { 0.0 };
        let scalars = [
            Scalar::Float(start).to_value(c)?,
            Scalar::Float(step).to_value(c)?,
            Scalar::Float(stop).to_value(c)?,
            Value::I64(count.saturating_sub(1) as i64),
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
