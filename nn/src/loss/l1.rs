//! [`L1Loss`]: the distance.

use super::{Loss, Reduction};
use isograd_core::{Backend, Result, Tensor};

/// |label - prediction|, its mean over all axes but the batch. The label is reshaped to the prediction.
///
/// ```
/// use isograd::Tensor;
/// use isograd::nn::loss::{Loss, L1Loss};
/// let ctx = isograd::device("cpu")?;
/// let prediction = Tensor::from_slice(&ctx, &[1.0f32, 2.0], [1, 2])?;
/// let label = Tensor::from_slice(&ctx, &[1.0f32, 5.0], [1, 2])?;
/// let loss = L1Loss::default().loss(&prediction, &label)?.to_vec::<f32>()?;
/// assert!((loss[0] - 1.5).abs() < 1e-6);
/// # Ok::<(), isograd::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct L1Loss {
    /// A factor on the loss.
    pub weight: Option<f64>,
    /// The axis of the samples.
    pub batch_axis: usize,
}

impl<B: Backend> Loss<B> for L1Loss {
    fn loss_weighted(
        &self,
        prediction: &Tensor<B>,
        label: &Tensor<B>,
        sample_weight: Option<&Tensor<B>>,
    ) -> Result<Tensor<B>> {
        let reduction = Reduction { op: "L1Loss", weight: self.weight, sample_weight, batch_axis: self.batch_axis };
        reduction.mean(prediction, label, |prediction, label| label.sub(prediction)?.abs())
    }
}
