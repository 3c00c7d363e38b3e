//! Training in half precision: [`LossScaler`] keeps small gradients from vanishing.
//!
//! f16 has no numbers below 6e-8 in size, and gradients are often smaller. So the loss is multiplied by a large number before
//! `backward`, and the gradients are divided by it when they are used, in f32. [`crate::optimizer::MultiPrecision`] does the
//! same for the steps themselves. bf16 has the range of f32, and needs the second only.

use crate::{Parameter, ParameterDict, Trainer, options, parameter::with_gradients};
use isograd_core::{Backend, DType, Error, GradReq, Result, Tensor, autograd};

/// Scales losses, skips steps whose gradients are not finite, and adapts the scale: halved after such a step, doubled after
/// 2,000 good ones in a row (dynamic loss scaling; Micikevicius et al., arXiv:1710.03740; PyTorch's `GradScaler`).
///
/// ```
/// use isograd::{DType, Tensor, autograd};
/// use isograd::nn::{Block, Dense, LossScaler, Parameters, Trainer, initializers::One};
/// use isograd::nn::{loss::{L2Loss, Loss}, optimizer::{MultiPrecision, SGD}};
/// let ctx = isograd::device("cpu")?;
/// let net = Dense::new(1).dtype(DType::F16);
/// net.initialize(One, &ctx)?;
/// let x = Tensor::ones(&ctx, [4, 2], DType::F16)?;
/// let y = Tensor::zeros(&ctx, [4, 1], DType::F32)?;
/// let mut trainer = Trainer::new(net.collect_params(), MultiPrecision(SGD::new(0.1)))?;
/// let mut scaler = LossScaler::new();
/// let loss = autograd::record(|| {
///     // The loss in f32; its gradients reach the network in f16.
///     scaler.scale(&L2Loss::default().loss(&net.forward(&x)?.cast(DType::F32)?, &y)?)
/// })?;
/// loss.backward()?;
/// // 65,536 is more than f16 holds, so this step is skipped, and the next one tries with half of it.
/// assert!(!scaler.step(&mut trainer, 4)?);
/// assert_eq!(scaler.loss_scale(), 32768.0);
/// # Ok::<(), isograd::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct LossScaler {
    scale: f64,
    growth_factor: f64,
    backoff_factor: f64,
    growth_interval: u64,
    min_scale: f64,
    /// Good steps since the scale last changed.
    good: u64,
}

impl Default for LossScaler {
    /// Scale 65,536, times 2 after 2,000 good steps, times 1/2 after one that overflows, but not below 1.
    fn default() -> Self {
        LossScaler {
            scale: 65536.0,
            growth_factor: 2.0,
            backoff_factor: 0.5,
            growth_interval: 2000,
            min_scale: 1.0,
            good: 0,
        }
    }
}

impl LossScaler {
    /// As by default.
    pub fn new() -> LossScaler {
        LossScaler::default()
    }

    /// Sets the scale to begin with.
    #[must_use]
    pub fn init_scale(mut self, scale: f64) -> Self {
        self.scale = scale;
        self
    }

    /// Sets the factor on the scale after enough good steps; 1 keeps it.
    #[must_use]
    pub fn growth_factor(mut self, factor: f64) -> Self {
        self.growth_factor = factor;
        self
    }

    /// Sets the factor on the scale after a step that overflows; below 1.
    #[must_use]
    pub fn backoff_factor(mut self, factor: f64) -> Self {
        self.backoff_factor = factor;
        self
    }

    /// Sets after how many good steps in a row the scale grows.
    #[must_use]
    pub fn growth_interval(mut self, steps: u64) -> Self {
        self.growth_interval = steps;
        self
    }

    /// Sets below what the scale does not shrink, 1 unless set: with a scale near 0 nothing is learned. A scale that begins
    /// lower stays where it is.
    #[must_use]
    pub fn min_scale(mut self, scale: f64) -> Self {
        self.min_scale = scale;
        self
    }

    /// Refuses options out of their domains: what everything here that can fail begins with.
    fn check(&self) -> Result<()> {
        const OP: &str = "LossScaler";
        options::positive(OP, "init_scale", self.scale)?;
        options::positive(OP, "min_scale", self.min_scale)?;
        let (growth, backoff) = (self.growth_factor, self.backoff_factor);
        options::require(OP, "growth_factor", growth, growth >= 1.0 && growth.is_finite(), "finite and at least 1")?;
        options::require(OP, "backoff_factor", backoff, backoff > 0.0 && backoff < 1.0, "above 0 and below 1")?;
        options::at_least_one(OP, "growth_interval", self.growth_interval)
    }

    /// The scale.
    pub fn loss_scale(&self) -> f64 {
        self.scale
    }

    /// The scale, and the good steps since it last changed: what to keep of it with a network, for [`LossScaler::set_state`].
    pub fn state(&self) -> (f64, u64) {
        (self.scale, self.good)
    }

    /// Goes on from what [`LossScaler::state`] gave.
    pub fn set_state(&mut self, (scale, good): (f64, u64)) {
        (self.scale, self.good) = (scale, good);
    }

    /// The loss times the scale, in f32 at least: what to call `backward` of, and inside `record`.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for an option out of its domain, such as a scale of 0; what the operators report.
    pub fn scale<B: Backend>(&self, loss: &Tensor<B>) -> Result<Tensor<B>> {
        self.check()?;
        let wide = if loss.dtype() == DType::F64 { DType::F64 } else { DType::F32 };
        loss.cast(wide)?.mul_scalar(self.scale)
    }

    /// Divides all new gradients by the scale in place, so that they can be clipped or looked at before [`LossScaler::step`], and
    /// says whether they are finite. Those on several contexts are added up first. What is small gets lost in f16 gradients that
    /// way; without it `step` divides in f32. The gradients remember it until the next `backward`.
    ///
    /// # Errors
    /// [`Error::Parameter`] for a gradient that is unscaled already, before any is changed; [`Error::Uninitialized`]; as
    /// [`crate::Parameter::allreduce_grad`]; what the devices report.
    pub fn unscale<B: Backend>(&mut self, parameters: &ParameterDict<B>) -> Result<bool> {
        self.check()?;
        let mut parameters = with_gradients(parameters)?;
        parameters.retain(|p| p.list_data().is_ok_and(|all| all.iter().any(Tensor::has_fresh_grad)));
        for parameter in &parameters {
            if is_unscaled(parameter)? {
                let why = "its gradient is unscaled already, and backward has not replaced it since; call step next";
                return Err(Error::Parameter { name: parameter.name(), why: why.into() });
            }
        }
        self.unscale_all(&parameters)?;
        all_finite(&gradients(&parameters)?)
    }

    fn unscale_all<B: Backend>(&self, parameters: &[Parameter<B>]) -> Result<()> {
        for parameter in parameters {
            parameter.scale_grad(1.0 / self.scale)?;
            parameter.list_data()?.iter().for_each(Tensor::mark_grad_unscaled);
        }
        Ok(())
    }

    /// A step of `trainer` by the gradients divided by the scale, and whether it was taken: with a gradient that is not finite
    /// nothing is updated, and the scale shrinks. What [`LossScaler::unscale`] has divided is not divided again. Waits for the
    /// device. After an error the scale is as before.
    ///
    /// # Errors
    /// As [`Trainer::step`]; [`Error::Parameter`] for a gradient that was unscaled before `backward` added to it.
    pub fn step<B: Backend>(&mut self, trainer: &mut Trainer<B>, batch_size: usize) -> Result<bool> {
        self.check()?;
        trainer.ready("LossScaler::step", batch_size, false)?;
        trainer.allreduce_grads()?;
        let trained = trainer.parameters().map(|(_, p)| p.clone()).filter(|p| p.grad_req() != GradReq::Null);
        let trained: Vec<Parameter<B>> = trained.collect();
        let mut scaled = Vec::new();
        for parameter in &trained {
            if !is_unscaled(parameter)? {
                scaled.push(parameter.clone());
            }
        }
        let finite = all_finite(&gradients(&trained)?)?;
        if finite {
            // In f32 within the update where all are scaled alike.
            let divisor = if scaled.len() == trained.len() { self.scale } else { 1.0 };
            if divisor == 1.0 {
                self.unscale_all(&scaled)?;
            }
            let before = trainer.rescale_grad();
            trainer.set_rescale_grad(before / divisor);
            let updated = trainer.update(batch_size);
            trainer.set_rescale_grad(before);
            updated?;
        } else {
            trainer.skip()?;
        }
        self.adapt(finite);
        Ok(finite)
    }

    fn adapt(&mut self, finite: bool) {
        self.good = if finite { self.good + 1 } else { 0 };
        if !finite {
            self.scale = (self.scale * self.backoff_factor).max(self.min_scale.min(self.scale));
        } else if self.good >= self.growth_interval {
            // Beyond f32 a scale would make every loss infinite.
            self.scale = (self.scale * self.growth_factor).min(f64::from(f32::MAX));
            self.good = 0;
        }
    }
}

/// The gradients on all contexts.
fn gradients<B: Backend>(parameters: &[Parameter<B>]) -> Result<Vec<Tensor<B>>> {
    let all: Vec<Vec<Tensor<B>>> = parameters.iter().map(Parameter::list_grad).collect::<Result<_>>()?;
    Ok(all.into_iter().flatten().collect())
}

/// Whether the scale is out of the gradient.
fn is_unscaled<B: Backend>(parameter: &Parameter<B>) -> Result<bool> {
    let states: Vec<Option<bool>> = parameter.list_data()?.iter().map(Tensor::has_unscaled_grad).collect();
    match states.iter().flatten().next() {
        Some(first) if states.iter().all(|state| *state == Some(*first)) => Ok(*first),
        _ => {
            let why = "its gradient was unscaled before backward added to it; unscale after the last backward pass of a step, \
                       and call zero_grad after the step";
            Err(Error::Parameter { name: parameter.name(), why: why.into() })
        }
    }
}

/// Whether no element is infinite or NaN.
pub(crate) fn all_finite<B: Backend>(tensors: &[Tensor<B>]) -> Result<bool> {
    autograd::pause(|| {
        for tensor in tensors {
            // x - x is 0 for what is finite, else NaN.
            let tensor = tensor.detach();
            if tensor.sub(&tensor)?.is_nan()?.any((), false)?.asscalar::<bool>()? {
                return Ok(false);
            }
        }
        Ok(true)
    })
}
