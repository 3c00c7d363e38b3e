//! [`L2Loss`]: half the squared distance.

use super::{Loss, Reduction};
use isograd_core::{Backend, Result, Tensor};

/// weight / 2 · (label - prediction)², its mean over all axes but the batch. The label is reshaped to the prediction.
///
/// ```
/// use isograd::Tensor;
/// use isograd::nn::loss::{L2Loss, Loss};
/// let ctx = isograd::device("cpu")?;
/// let prediction = Tensor::from_slice(&ctx, &[1.0f32, 2.0], [2, 1])?;
/// let label = Tensor::from_slice(&ctx, &[1.0f32, 5.0], [2])?;
/// assert_eq!(L2Loss::default().loss(&prediction, &label)?.to_vec::<f32>()?, [0.0, 4.5]);
/// # Ok::<(), isograd::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct L2Loss {
    /// A factor on the loss.
    pub weight: f64,
    /// The axis of the samples.
    pub batch_axis: usize,
}

impl Default for L2Loss {
    fn default() -> Self {
        L2Loss { weight: 1.0, batch_axis: 0 }
    }
}

impl<B: Backend> Loss<B> for L2Loss {
    fn loss_weighted(
        &self,
        prediction: &Tensor<B>,
        label: &Tensor<B>,
        sample_weight: Option<&Tensor<B>>,
    ) -> Result<Tensor<B>> {
        let weight = Some(self.weight / 2.0);
        let reduction = Reduction { op: "L2Loss", weight, sample_weight, batch_axis: self.batch_axis };
        reduction.mean(prediction, label, |prediction, label| label.sub(prediction)?.square())
    }
}
