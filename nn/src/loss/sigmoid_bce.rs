//! [`SigmoidBinaryCrossEntropyLoss`]: the loss of independent yes and no.

use super::{Loss, Reduction, same_dtype, widened};
use isograd_core::{Backend, Result, Tensor};

/// -(label · ln σ(prediction) + (1 - label) · ln(1 - σ(prediction))), without overflow; its mean over all axes but the batch.
///
/// [`SigmoidBinaryCrossEntropyLoss::loss_with_pos_weight`] weighs the first term, for classes that are rare.
///
/// ```
/// use isograd::Tensor;
/// use isograd::nn::loss::{Loss, SigmoidBinaryCrossEntropyLoss};
/// let ctx = isograd::device("cpu")?;
/// let prediction = Tensor::from_slice(&ctx, &[0.0f32], [1, 1])?;
/// let label = Tensor::from_slice(&ctx, &[1.0f32], [1, 1])?;
/// let loss = SigmoidBinaryCrossEntropyLoss::default().loss(&prediction, &label)?.to_vec::<f32>()?;
/// assert!((loss[0] - 2f32.ln()).abs() < 1e-6);
/// # Ok::<(), isograd::Error>(())
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
        self.compute(prediction, label, None, sample_weight)
    }
}

/// Gluon's name for short.
pub type SigmoidBCELoss = SigmoidBinaryCrossEntropyLoss;

/// pos · label · ln(1 + e^-x) + (1 - label) · ln(1 + e^x), whose gradient at 0 is 1/2 - label as elsewhere σ(x) - label.
pub(super) fn from_scores<B: Backend>(x: &Tensor<B>, label: &Tensor<B>, pos: Option<&Tensor<B>>) -> Result<Tensor<B>> {
    let yes = label.mul(&x.neg()?.softplus()?)?;
    let yes = pos.map_or(Ok(yes.clone()), |pos| yes.mul(pos))?;
    yes.add(&label.rsub_scalar(1)?.mul(&x.softplus()?)?)
}

/// The same of probabilities.
fn from_probabilities<B: Backend>(p: &Tensor<B>, label: &Tensor<B>, pos: Option<&Tensor<B>>) -> Result<Tensor<B>> {
    const TINY: f64 = 1e-12;
    let yes = p.add_scalar(TINY)?.log()?.mul(label)?;
    let yes = pos.map_or(Ok(yes.clone()), |pos| yes.mul(pos))?;
    let no = p.rsub_scalar(1)?.add_scalar(TINY)?.log()?.mul(&label.rsub_scalar(1)?)?;
    yes.add(&no)?.neg()
}

impl SigmoidBinaryCrossEntropyLoss {
    fn compute<B: Backend>(
        &self,
        prediction: &Tensor<B>,
        label: &Tensor<B>,
        pos: Option<&Tensor<B>>,
        sample_weight: Option<&Tensor<B>>,
    ) -> Result<Tensor<B>> {
        const OP: &str = "SigmoidBinaryCrossEntropyLoss";
        let each = if self.from_sigmoid { from_probabilities::<B> } else { from_scores::<B> };
        let pos = match pos {
            Some(pos) => {
                same_dtype(OP, prediction, pos)?;
                Some(widened(&pos.broadcast_to(prediction.shape())?)?)
            }
            None => None,
        };
        let reduction = Reduction { op: OP, weight: self.weight, sample_weight, batch_axis: self.batch_axis };
        reduction.mean(prediction, label, |prediction, label| each(prediction, label, pos.as_ref()))
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
        self.compute(prediction, label, Some(pos_weight), sample_weight)
    }
}
