//! [`PoissonNLLLoss`]: the loss of counts.

use super::{Loss, Reduction};
use isograd_core::{Backend, Result, Tensor};

/// e^p - label · p of the logarithm p of a rate, or p - label · ln(p + 1e-8) of the rate itself; its mean over all axes but
/// the batch. (MXNet gives one mean over everything.)
///
/// ```
/// use isograd::Tensor;
/// use isograd::nn::loss::{Loss, PoissonNLLLoss};
/// let ctx = isograd::device("cpu")?;
/// let prediction = Tensor::from_slice(&ctx, &[0.0f32, 1.0], [1, 2])?;
/// let label = Tensor::from_slice(&ctx, &[1.0f32, 0.0], [1, 2])?;
/// let loss = PoissonNLLLoss::default().loss(&prediction, &label)?.to_vec::<f32>()?;
/// assert!((loss[0] - (1.0 + 1f32.exp()) / 2.0).abs() < 1e-6);
/// # Ok::<(), isograd::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PoissonNLLLoss {
    /// Whether the prediction is the logarithm of the rate.
    pub from_logits: bool,
    /// Whether Stirling's approximation of ln(label!) is added for labels above 1.
    pub compute_full: bool,
    /// A factor on the loss.
    pub weight: Option<f64>,
    /// The axis of the samples.
    pub batch_axis: usize,
}

impl Default for PoissonNLLLoss {
    fn default() -> Self {
        PoissonNLLLoss { from_logits: true, compute_full: false, weight: None, batch_axis: 0 }
    }
}

impl<B: Backend> Loss<B> for PoissonNLLLoss {
    fn loss_weighted(
        &self,
        prediction: &Tensor<B>,
        label: &Tensor<B>,
        sample_weight: Option<&Tensor<B>>,
    ) -> Result<Tensor<B>> {
        let reduction =
            Reduction { op: "PoissonNLLLoss", weight: self.weight, sample_weight, batch_axis: self.batch_axis };
        reduction.mean(prediction, label, |prediction, label| {
            let loss = if self.from_logits {
                prediction.exp()?.sub(&label.mul(prediction)?)?
            } else {
                prediction.sub(&label.mul(&prediction.add_scalar(1e-8)?.log()?)?)?
            };
            if !self.compute_full {
                return Ok(loss);
            }
            let safe = label.maximum_scalar(1)?;
            let half = safe.mul_scalar(std::f64::consts::TAU)?.log()?.mul_scalar(0.5)?;
            let stirling = safe.mul(&safe.log()?)?.sub(&safe)?.add(&half)?;
            loss.add(&stirling.masked_fill(&label.less_equal_scalar(1)?, 0)?)
        })
    }
}
