//! [`SoftmaxCrossEntropyLoss`]: the loss of classification.

use super::{Loss, per_sample};
use isograd_core::{Backend, Result, Tensor};

/// -Σ label · ln softmax(prediction) along `axis`, its mean over all other axes but the batch.
///
/// The label names classes (`sparse_label`, any number dtype, shaped like the prediction without `axis`), or holds a
/// probability per class in the shape of the prediction.
///
/// ```
/// use isograd_core::Tensor;
/// use isograd_nn::loss::{Loss, SoftmaxCrossEntropyLoss};
/// # let ctx = isograd_reference::Reference;
/// let scores = Tensor::from_slice(&ctx, &[0.0f32, 0.0, 9.0, -9.0], [2, 2])?;
/// let classes = Tensor::from_slice(&ctx, &[1i64, 0], [2])?;
/// let loss = SoftmaxCrossEntropyLoss::default().loss(&scores, &classes)?.to_vec::<f32>()?;
/// assert!((loss[0] - 2f32.ln()).abs() < 1e-6 && loss[1] < 1e-6);
/// # Ok::<(), isograd_core::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SoftmaxCrossEntropyLoss {
    /// The axis of the classes.
    pub axis: isize,
    /// Whether labels are class numbers rather than probabilities.
    pub sparse_label: bool,
    /// Whether the prediction already is a logarithm of probabilities, as Gluon calls it.
    pub from_logits: bool,
    /// A factor on the loss.
    pub weight: Option<f64>,
    /// The axis of the samples.
    pub batch_axis: usize,
}

impl Default for SoftmaxCrossEntropyLoss {
    fn default() -> Self {
        SoftmaxCrossEntropyLoss { axis: -1, sparse_label: true, from_logits: false, weight: None, batch_axis: 0 }
    }
}

impl<B: Backend> Loss<B> for SoftmaxCrossEntropyLoss {
    fn loss_weighted(
        &self,
        prediction: &Tensor<B>,
        label: &Tensor<B>,
        sample_weight: Option<&Tensor<B>>,
    ) -> Result<Tensor<B>> {
        let logarithm = if self.from_logits { prediction.clone() } else { prediction.log_softmax(self.axis)? };
        let loss = if self.sparse_label {
            logarithm.pick(label, self.axis, true)?.neg()?
        } else {
            logarithm.mul(&label.reshape(prediction.shape())?)?.sum(self.axis, true)?.neg()?
        };
        per_sample(loss, self.weight, sample_weight, self.batch_axis)
    }
}
