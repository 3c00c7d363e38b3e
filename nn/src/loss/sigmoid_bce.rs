//! [`SigmoidBinaryCrossEntropyLoss`]: the loss of independent yes and no.

use super::{Loss, per_sample};
use isograd_core::{Backend, Result, Tensor};

/// -(label · ln σ(prediction) + (1 - label) · ln(1 - σ(prediction))), without overflow; its mean over all axes but the batch.
///
/// [`SigmoidBinaryCrossEntropyLoss::loss_with_pos_weight`] weighs the first term, for classes that are rare.
///
/// ```
/// use isograd_core::Tensor;
/// use isograd_nn::loss::{Loss, SigmoidBinaryCrossEntropyLoss};
/// # let ctx = isograd_reference::Reference;
/// let prediction = Tensor::from_slice(&ctx, &[0.0f32], [1, 1])?;
/// let label = Tensor::from_slice(&ctx, &[1.0f32], [1, 1])?;
/// let loss = SigmoidBinaryCrossEntropyLoss::default().loss(&prediction, &label)?.to_vec::<f32>()?;
/// assert!((loss[0] - 2f32.ln()).abs() < 1e-6);
/// # Ok::<(), isograd_core::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct SigmoidBinaryCrossEntropyLoss {
    /// Whether the prediction is a probability already.
    pub from_sigmoid: bool,
    /// A factor on the loss.
    pub weight: Option<f64>,
    /// The axis of the samples.
    pub batch_axis: usize,
}

impl<B: Backend> Loss<B> for SigmoidBinaryCrossEntropyLoss {
    fn loss_weighted(
        &self,
        prediction: &Tensor<B>,
        label: &Tensor<B>,
        sample_weight: Option<&Tensor<B>>,
    ) -> Result<Tensor<B>> {
        let label = &label.reshape(prediction.shape())?;
        let loss = self.elements(prediction, label, None)?;
        per_sample(loss, self.weight, sample_weight, self.batch_axis)
    }
}

/// Gluon's name for short.
pub type SigmoidBCELoss = SigmoidBinaryCrossEntropyLoss;

/// label · ln(1 + e^-x) + (1 - label) · ln(1 + e^x): no terms that cancel, and smooth at 0. `pos` weighs the first term.
pub(super) fn from_scores<B: Backend>(x: &Tensor<B>, label: &Tensor<B>, pos: Option<&Tensor<B>>) -> Result<Tensor<B>> {
    let yes = x.neg()?.softplus()?.mul(label)?;
    let yes = pos.map_or(Ok(yes.clone()), |p| yes.mul(p))?;
    yes.add(&x.softplus()?.mul(&label.rsub_scalar(1)?)?)
}

impl SigmoidBinaryCrossEntropyLoss {
    fn elements<B: Backend>(&self, x: &Tensor<B>, label: &Tensor<B>, pos: Option<&Tensor<B>>) -> Result<Tensor<B>> {
        if self.from_sigmoid {
            const TINY: f64 = 1e-12;
            let yes = x.add_scalar(TINY)?.log()?.mul(label)?;
            let yes = pos.map_or(Ok(yes.clone()), |p| yes.mul(p))?;
            let no = x.rsub_scalar(1)?.add_scalar(TINY)?.log()?.mul(&label.rsub_scalar(1)?)?;
            return yes.add(&no)?.neg();
        }
        from_scores(x, label, pos)
    }

    /// The loss with the term of positive labels times `pos_weight`, which broadcasts to the prediction.
    ///
    /// # Errors
    /// As [`Loss::loss`].
    pub fn loss_with_pos_weight<B: Backend>(
        &self,
        prediction: &Tensor<B>,
        label: &Tensor<B>,
        pos_weight: &Tensor<B>,
        sample_weight: Option<&Tensor<B>>,
    ) -> Result<Tensor<B>> {
        let loss = self.elements(prediction, &label.reshape(prediction.shape())?, Some(pos_weight))?;
        per_sample(loss, self.weight, sample_weight, self.batch_axis)
    }
}
