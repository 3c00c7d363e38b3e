//! [`KLDivLoss`]: the distance between distributions.

use super::{Loss, Reduction};
use isograd_core::{Backend, Result, Tensor};

/// Σ label · (ln(label + 1e-12) - prediction): the Kullback-Leibler divergence from the prediction, given as logarithms, or
/// as scores that go through log_softmax along `axis` unless `from_logits`. Summed over all axes but the batch, as MXNet
/// does, though its documentation says mean.
///
/// ```
/// use isograd::Tensor;
/// use isograd::nn::loss::{Loss, KLDivLoss};
/// let ctx = isograd::device("cpu")?;
/// let prediction = Tensor::from_slice(&ctx, &[0.5f32.ln(), 0.5f32.ln()], [1, 2])?;
/// let label = Tensor::from_slice(&ctx, &[1.0f32, 0.0], [1, 2])?;
/// let loss = KLDivLoss::default().loss(&prediction, &label)?.to_vec::<f32>()?;
/// assert!((loss[0] - 2f32.ln()).abs() < 1e-6);
/// # Ok::<(), isograd::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct KLDivLoss {
    /// Whether the prediction already is a logarithm of probabilities, as Gluon calls it.
    pub from_logits: bool,
    /// The axis of the classes.
    pub axis: isize,
    /// A factor on the loss.
    pub weight: Option<f64>,
    /// The axis of the samples.
    pub batch_axis: usize,
}

impl Default for KLDivLoss {
    fn default() -> Self {
        KLDivLoss { from_logits: true, axis: -1, weight: None, batch_axis: 0 }
    }
}

impl<B: Backend> Loss<B> for KLDivLoss {
    fn loss_weighted(
        &self,
        prediction: &Tensor<B>,
        label: &Tensor<B>,
        sample_weight: Option<&Tensor<B>>,
    ) -> Result<Tensor<B>> {
        let reduction = Reduction { op: "KLDivLoss", weight: self.weight, sample_weight, batch_axis: self.batch_axis };
        let loss = reduction.each(prediction, label, |prediction, label| {
            let logarithm = if self.from_logits { prediction.clone() } else { prediction.log_softmax(self.axis)? };
            label.mul(&label.add_scalar(1e-12)?.log()?.sub(&logarithm)?)
        })?;
        reduction.over_samples(&loss, |loss, axes| loss.sum(axes, false))?.cast(prediction.dtype())
    }
}
