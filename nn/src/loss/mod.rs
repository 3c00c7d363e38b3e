//! Losses, one a file: one value per sample, `[batch]`, as in Gluon.
//!
//! `backward` of that vector is `backward` of its sum; the trainer divides by the batch size. To add a loss: a type with its
//! options that implements [`Loss`] and ends with `per_sample`.

mod l2;
mod softmax_cross_entropy;

pub use l2::L2Loss;
pub use softmax_cross_entropy::SoftmaxCrossEntropyLoss;

use isograd_core::{Backend, Dyn, Result, Tensor};

/// What a prediction costs.
pub trait Loss<B: Backend = Dyn> {
    /// The loss of each sample, `[batch]`.
    ///
    /// # Errors
    /// What the operators report of shapes, dtypes and devices.
    fn loss(&self, prediction: &Tensor<B>, label: &Tensor<B>) -> Result<Tensor<B>> {
        self.loss_weighted(prediction, label, None)
    }

    /// [`Loss::loss`] times `sample_weight`, which must broadcast to the prediction.
    ///
    /// # Errors
    /// As [`Loss::loss`].
    fn loss_weighted(
        &self,
        prediction: &Tensor<B>,
        label: &Tensor<B>,
        sample_weight: Option<&Tensor<B>>,
    ) -> Result<Tensor<B>>;
}

/// The weighted mean over all axes but `batch_axis`.
fn per_sample<B: Backend>(
    loss: Tensor<B>,
    weight: Option<f64>,
    sample_weight: Option<&Tensor<B>>,
    batch_axis: usize,
) -> Result<Tensor<B>> {
    let mut loss = match sample_weight {
        Some(w) => loss.mul(w)?,
        None => loss,
    };
    if let Some(weight) = weight {
        loss = loss.mul_scalar(weight)?;
    }
    let axes: Vec<isize> = (0..loss.rank()).filter(|&a| a != batch_axis).map(|a| a as isize).collect();
    if axes.is_empty() { Ok(loss) } else { loss.mean(axes, false) }
}
