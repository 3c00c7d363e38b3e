//! [`clip_global_norm`]: gradients made shorter together.

use crate::{ParameterDict, options};
use isograd_core::{Backend, DType, Expr, GradReq, Result, Tensor, Value, autograd, expr::PerDType};

static SCALE: PerDType = PerDType::new("clip_global_norm", |d| {
    let c = d.compute();
    let scaled = Expr::old(0, d).cast(c) * Expr::scalar(0, c) * Expr::scalar(1, c);
    (vec![scaled.cast(d)], vec![], vec![c, c])
});

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
/// step. Waits for the device.
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
/// [`isograd_core::Error::InvalidArgument`] for a negative limit, or NaN; [`isograd_core::Error::Uninitialized`]; what the device
/// reports.
pub fn clip_global_norm<B: Backend>(parameters: &ParameterDict<B>, max_norm: f64) -> Result<f64> {
    let holds = max_norm >= 0.0;
    options::require("clip_global_norm", "max_norm", max_norm, holds, "at least 0")?;
    autograd::pause(|| {
        let mut gradients = Vec::new();
        for (_, parameter) in parameters.unique().iter() {
            if parameter.grad_req() != GradReq::Null {
                gradients.push(parameter.grad()?);
            }
        }
        let mut norm = 0f64;
        for gradient in &gradients {
            norm = norm.hypot(length(gradient)?);
        }
        let scale = max_norm / (norm + 1e-8);
        if norm.is_finite() && scale < 1.0 {
            // A factor that f32 holds with few digits or not at all is two.
            let factors = if scale > 1e-30 { [scale, 1.0] } else { [scale.sqrt(); 2] };
            for gradient in &gradients {
                let d = gradient.dtype();
                Tensor::update(SCALE.program(d), &factors.map(|f| Value::F64(f).cast(d.compute())), &[], &[gradient])?;
            }
        }
        Ok(norm)
    })
}
