//! Elementwise operators that users write: a closure over [`Expr`], differentiated for them, one kernel on every backend.

use super::{Formula, apply};
use crate::{Backend, DType, Error, Expr, Result, Scalar, Tensor, Value};
use std::sync::Arc;

/// An elementwise operator of one's own.
///
/// The closure is called once, with one [`Expr`] per input tensor and one per host number; build the operator once and
/// call it often. Forward is one kernel; so is the gradient in each input, and it saves only what it reads.
///
/// ```
/// use isograd::{DType, Tensor, autograd, operators::Fused};
/// let ctx = isograd::device("cpu")?;
/// // mish(x) = x tanh(softplus(x)), with a slope
/// let mish = Fused::new("mish", &[DType::F32], 1, |x, slope| &x[0] * &slope[0] * x[0].softplus().tanh())?;
/// let x = Tensor::from_slice(&ctx, &[0.0f32, 1.0], [2])?;
/// x.attach_grad()?;
/// let y = autograd::record(|| mish.call(&[&x], &[2.0.into()]))?;
/// y.backward()?;
/// assert!((x.grad()?.to_vec::<f32>()?[0] - 1.2).abs() < 1e-6);
/// # Ok::<(), isograd::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Fused {
    formula: Arc<Formula>,
    scalar_dtype: DType,
}

impl Fused {
    /// The operator `name` of inputs of the given dtypes and of `scalars` host numbers (in the dtype of the first input). An
    /// expression that depends on no input is an error.
    ///
    /// # Errors
    /// [`Error::InvalidExpr`] when the expression is ill-typed; [`Error::InvalidArgument`] without inputs or with more than 200.
    pub fn new(
        name: &'static str,
        inputs: &[DType],
        scalars: usize,
        f: impl FnOnce(&[Expr], &[Expr]) -> Expr,
    ) -> Result<Fused> {
        if inputs.is_empty() || inputs.len() > 200 || scalars > 200 {
            return Err(Error::invalid(name, "a fused operator takes 1 to 200 inputs and up to 200 numbers"));
        }
        let scalar_dtype = inputs[0];
        let xs: Vec<Expr> = (0u8..).zip(inputs).map(|(k, &d)| Expr::input(k, d)).collect();
        let ss: Vec<Expr> = (0..scalars as u8).map(|k| Expr::scalar(k, scalar_dtype)).collect();
        let root = f(&xs, &ss);
        let formula = Formula::new(name, &root, inputs, &vec![scalar_dtype; scalars])?;
        Ok(Fused { formula, scalar_dtype })
    }

    /// The operator on `inputs`, broadcast with each other.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for a wrong number of operands; [`Error::DTypeMismatch`], [`Error::ShapeMismatch`],
    /// [`Error::DeviceMismatch`], [`Error::ScalarOutOfRange`]; what the device reports.
    pub fn call<B: Backend>(&self, inputs: &[&Tensor<B>], scalars: &[Scalar]) -> Result<Tensor<B>> {
        let values = self.values(inputs.iter().copied(), scalars)?;
        apply(&self.formula, inputs, &values)
    }

    /// `scalars` as values, after a look at the number and the dtypes of all operands.
    pub(super) fn values<'a, B: Backend>(
        &self,
        inputs: impl ExactSizeIterator<Item = &'a Tensor<B>>,
        scalars: &[Scalar],
    ) -> Result<Vec<Value>> {
        let (name, program) = (self.formula.name, &self.formula.program);
        if inputs.len() != program.inputs().len() || scalars.len() != program.scalars().len() {
            return Err(Error::invalid(
                name,
                format!(
                    "it takes {} tensors and {} numbers, got {} and {}",
                    program.inputs().len(),
                    program.scalars().len(),
                    inputs.len(),
                    scalars.len()
                ),
            ));
        }
        for (x, &d) in inputs.zip(program.inputs()) {
            if x.dtype() != d {
                return Err(Error::DTypeMismatch { op: name, left: d, right: x.dtype(), device: x.ctx().name() });
            }
        }
        scalars.iter().map(|s| s.to_value(self.scalar_dtype)).collect()
    }

    pub(super) fn formula(&self) -> &Arc<Formula> {
        &self.formula
    }
}
