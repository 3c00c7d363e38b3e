//! [`HuberLoss`]: square near 0, straight far away.

use super::{Loss, Reduction};
use crate::options;
use isograd_core::{Backend, Result, Tensor};

/// d² / (2 ρ) for distances d = |label - prediction| up to ρ, d - ρ / 2 beyond (Huber, 1964); its mean over all axes but the
/// batch. The label is reshaped to the prediction.
///
/// ```
/// use isograd::Tensor;
/// use isograd::nn::loss::{Loss, HuberLoss};
/// let ctx = isograd::device("cpu")?;
/// let prediction = Tensor::from_slice(&ctx, &[1.0f32, 2.0], [1, 2])?;
/// let label = Tensor::from_slice(&ctx, &[1.5f32, 5.0], [1, 2])?;
/// let loss = HuberLoss::default().loss(&prediction, &label)?.to_vec::<f32>()?;
/// assert!((loss[0] - (0.125 + 2.5) / 2.0).abs() < 1e-6);
/// # Ok::<(), isograd::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct HuberLoss {
    /// ρ, where the straight part begins.
    pub rho: f64,
    /// A factor on the loss.
    pub weight: Option<f64>,
    /// The axis of the samples.
    pub batch_axis: usize,
}

impl Default for HuberLoss {
    fn default() -> Self {
        HuberLoss { rho: 1.0, weight: None, batch_axis: 0 }
    }
}

impl<B: Backend> Loss<B> for HuberLoss {
    fn loss_weighted(
        &self,
        prediction: &Tensor<B>,
        label: &Tensor<B>,
        sample_weight: Option<&Tensor<B>>,
    ) -> Result<Tensor<B>> {
        options::positive("HuberLoss", "rho", self.rho)?;
        let reduction = Reduction { op: "HuberLoss", weight: self.weight, sample_weight, batch_axis: self.batch_axis };
        reduction.mean(prediction, label, |prediction, label| {
            let distance = label.sub(prediction)?.abs()?;
            let far = distance.detach().greater_scalar(self.rho)?;
            let square = distance.square()?.mul_scalar(0.5 / self.rho)?;
            far.where_(&distance.sub_scalar(0.5 * self.rho)?, &square)
        })
    }
}
