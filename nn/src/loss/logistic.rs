//! [`LogisticLoss`]: the loss of two classes.

use super::{Loss, Reduction};
use isograd_core::{Backend, Result, Tensor};

/// ln(1 + e^(-label · prediction)) for labels -1 and 1, or 0 and 1 with `binary`; its mean over all axes but the batch.
///
/// ```
/// use isograd::Tensor;
/// use isograd::nn::loss::{Loss, LogisticLoss};
/// let ctx = isograd::device("cpu")?;
/// let prediction = Tensor::from_slice(&ctx, &[0.0f32], [1, 1])?;
/// let label = Tensor::from_slice(&ctx, &[1.0f32], [1, 1])?;
/// let loss = LogisticLoss::default().loss(&prediction, &label)?.to_vec::<f32>()?;
/// assert!((loss[0] - 2f32.ln()).abs() < 1e-6);
/// # Ok::<(), isograd::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct LogisticLoss {
    /// Whether labels are 0 and 1 rather than -1 and 1.
    pub binary: bool,
    /// A factor on the loss.
    pub weight: Option<f64>,
    /// The axis of the samples.
    pub batch_axis: usize,
}

impl<B: Backend> Loss<B> for LogisticLoss {
    fn loss_weighted(
        &self,
        prediction: &Tensor<B>,
        label: &Tensor<B>,
        sample_weight: Option<&Tensor<B>>,
    ) -> Result<Tensor<B>> {
        let reduction =
            Reduction { op: "LogisticLoss", weight: self.weight, sample_weight, batch_axis: self.batch_axis };
        reduction.mean(prediction, label, |prediction, label| {
            let label = if self.binary { label.clone() } else { label.add_scalar(1)?.mul_scalar(0.5)? };
            super::sigmoid_bce::from_scores(prediction, &label, None)
        })
    }
}
