//! [`clip_global_norm`]: gradients made shorter together.

use crate::{ParameterDict, parameter::with_gradients};
use isograd_core::{Backend, DType, Result, autograd};

/// Scales all gradients by min(1, max_norm / (‖g‖ + 1e-8)), where ‖g‖, which is returned, is the norm of all of them taken
/// as one vector (Pascanu et al., arXiv:1211.5063). If it is not finite nothing is changed, so that the caller can skip the
/// step. Gradients on several contexts are added up first (see [`crate::Trainer::allreduce_grads`]). Waits for the device.
///
/// ```
/// use isograd_core::autograd;
/// use isograd_nn::{Parameter, Parameters, initializers::Constant, optimizer::clip_global_norm};
/// # let ctx = isograd_reference::Reference;
/// let w = Parameter::new("w", &[Some(2)]);
/// w.initialize(Constant(5.0), &ctx, false)?;
/// autograd::record(|| w.data()?.square())?.backward()?;
/// let norm = clip_global_norm(&w.collect_params(), 1.0)?;
/// assert!((norm - 200f64.sqrt()).abs() < 1e-4);
/// assert!((w.grad()?.norm((), false)?.asscalar::<f64>()? - 1.0).abs() < 1e-6);
/// # Ok::<(), isograd_core::Error>(())
/// ```
///
/// # Errors
/// [`isograd_core::Error::Uninitialized`]; as [`crate::Parameter::allreduce_grad`]; what the device reports.
pub fn clip_global_norm<B: Backend>(parameters: &ParameterDict<B>, max_norm: f64) -> Result<f64> {
    autograd::pause(|| {
        let parameters = with_gradients(parameters)?;
        let mut squares = 0.0;
        for parameter in &parameters {
            let gradient = parameter.grad()?;
            // Squares of halves overflow early.
            let wide = if gradient.dtype() == DType::F64 { DType::F64 } else { DType::F32 };
            squares += gradient.cast(wide)?.norm((), false)?.asscalar::<f64>()?.powi(2);
        }
        let norm = squares.sqrt();
        let scale = max_norm / (norm + 1e-8);
        if norm.is_finite() && scale < 1.0 {
            parameters.iter().try_for_each(|parameter| parameter.scale_grad(scale))?;
        }
        Ok(norm)
    })
}
