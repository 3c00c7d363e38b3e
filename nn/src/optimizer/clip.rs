//! [`clip_global_norm`]: gradients made shorter together.

use crate::{ParameterDict, options, parameter::with_gradients};
use isograd_core::{Backend, DType, Result, Tensor, autograd};

/// The length of `x` as one vector, also where squares of its elements would overflow or vanish.
fn length<B: Backend>(x: &Tensor<B>) -> Result<f64> {
    // Squares of halves overflow early.
    let x = x.detach().cast(if x.dtype() == DType::F64 { DType::F64 } else { DType::F32 })?;
    let plain = x.norm((), false)?.asscalar::<f64>()?;
    if x.size() == 0 || (1e-12..f64::INFINITY).contains(&plain) {
        return Ok(plain);
    }
    let largest = x.abs()?.max((), false)?.asscalar::<f64>()?;
    if largest == 0.0 || !largest.is_finite() {
        return Ok(largest);
    }
    Ok(largest * x.div_scalar(largest)?.norm((), false)?.asscalar::<f64>()?)
}

/// Scales all gradients by min(1, max_norm / (‖g‖ + 1e-8)), where ‖g‖, which is returned, is the norm of all of them taken
/// as one vector (Pascanu et al., arXiv:1211.5063). If it is not finite nothing is changed, so that the caller can skip the
/// step. Gradients on several contexts are added up first (see [`crate::Trainer::allreduce_grads`]). Waits for the device.
///
/// ```
/// use isograd::autograd;
/// use isograd::nn::{Parameter, Parameters, initializers::Constant, optimizer::clip_global_norm};
/// let ctx = isograd::device("cpu")?;
/// let w = Parameter::new("w", &[Some(2)]);
/// w.initialize(Constant(5.0), &ctx)?;
/// autograd::record(|| w.data()?.square())?.backward()?;
/// let norm = clip_global_norm(&w.collect_params(), 1.0)?;
/// assert!((norm - 200f64.sqrt()).abs() < 1e-4);
/// assert!((w.grad()?.norm((), false)?.asscalar::<f64>()? - 1.0).abs() < 1e-6);
/// # Ok::<(), isograd::Error>(())
/// ```
///
/// # Errors
/// [`isograd_core::Error::InvalidArgument`] for a negative limit, or NaN; [`isograd_core::Error::Uninitialized`]; as
/// [`crate::Parameter::allreduce_grad`]; what the device reports.
pub fn clip_global_norm<B: Backend>(parameters: &ParameterDict<B>, max_norm: f64) -> Result<f64> {
    let holds = max_norm >= 0.0;
    options::require("clip_global_norm", "max_norm", max_norm, holds, "at least 0")?;
    autograd::pause(|| {
        let parameters = with_gradients(parameters)?;
        let mut norm = 0f64;
        for parameter in &parameters {
            norm = norm.hypot(length(&parameter.grad()?)?);
        }
        let scale = max_norm / (norm + 1e-8);
        if norm.is_finite() && scale < 1.0 {
            parameters.iter().try_for_each(|parameter| parameter.scale_grad(scale))?;
        }
        Ok(norm)
    })
}
