//! [`SoftmaxCrossEntropyLoss`]: the loss of classification.

use super::{Loss, Reduction, same_dtype, widened};
use crate::{
    labels::{Whole, like},
    layers::size_of_axis,
    options,
};
use isograd_core::{Backend, Result, Tensor};

/// -Σ label · ln softmax(prediction) along `axis`, its mean over all other axes but the batch.
///
/// The label names classes (`sparse_label`, any number dtype, shaped like the prediction without `axis`), or holds a
/// probability per class in the shape of the prediction. Class numbers are whole, from 0 on; those that are
/// `ignore_label`, such as padding, cost nothing, have no gradient, and do not count in the mean of a sample.
///
/// ```
/// use isograd::Tensor;
/// use isograd::nn::loss::{Loss, SoftmaxCrossEntropyLoss};
/// let ctx = isograd::device("cpu")?;
/// let scores = Tensor::from_slice(&ctx, &[0.0f32, 0.0, 9.0, -9.0], [2, 2])?;
/// let classes = Tensor::from_slice(&ctx, &[1i64, 0], [2])?;
/// let loss = SoftmaxCrossEntropyLoss::default().loss(&scores, &classes)?.to_vec::<f32>()?;
/// assert!((loss[0] - 2f32.ln()).abs() < 1e-6 && loss[1] < 1e-6);
/// # Ok::<(), isograd::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SoftmaxCrossEntropyLoss {
    /// The axis of the classes.
    pub axis: isize,
    /// Whether labels are class numbers rather than probabilities.
    pub sparse_label: bool,
    /// Whether the prediction already is a logarithm of probabilities, as Gluon calls it.
    pub from_logits: bool,
    /// The class number, in or outside the range of classes, of what is left out; -100 in PyTorch.
    pub ignore_label: Option<i64>,
    /// A factor on the loss.
    pub weight: Option<f64>,
    /// The axis of the samples.
    pub batch_axis: usize,
}

impl Default for SoftmaxCrossEntropyLoss {
    fn default() -> Self {
        SoftmaxCrossEntropyLoss {
            axis: -1,
            sparse_label: true,
            from_logits: false,
            ignore_label: None,
            weight: None,
            batch_axis: 0,
        }
    }
}

impl<B: Backend> Loss<B> for SoftmaxCrossEntropyLoss {
    fn loss_weighted(
        &self,
        prediction: &Tensor<B>,
        label: &Tensor<B>,
        sample_weight: Option<&Tensor<B>>,
    ) -> Result<Tensor<B>> {
        const OP: &str = "SoftmaxCrossEntropyLoss";
        let wide = widened(prediction)?;
        let logarithm = if self.from_logits { wide } else { wide.log_softmax(self.axis)? };
        let classes = size_of_axis(OP, prediction, self.axis)?;
        let reduction = Reduction { op: OP, weight: self.weight, sample_weight, batch_axis: self.batch_axis };
        if !self.sparse_label {
            let rule = "unset where labels are probabilities; give those that are left out the weight 0";
            options::require(OP, "ignore_label", self.ignore_label, self.ignore_label.is_none(), rule)?;
            let label = like(OP, "the label", label, prediction.shape())?;
            same_dtype(OP, prediction, &label)?;
            let loss = reduction.weighted(logarithm.mul(&widened(&label)?)?.sum(self.axis, true)?.neg()?)?;
            return reduction.over_samples(&loss, |loss, axes| loss.mean(axes, false))?.cast(prediction.dtype());
        }
        let at = if self.axis < 0 { self.axis + prediction.rank() as isize } else { self.axis };
        let shape = prediction.shape().with(at as usize, 1);
        let label =
            Whole { ignored: self.ignore_label, ..Whole::below(OP, "label", classes) }.check_like(label, &shape)?;
        let loss = reduction.weighted(logarithm.pick(&label.numbers, self.axis, true)?.neg()?)?;
        let loss = match &label.ignored {
            None => reduction.over_samples(&loss, |loss, axes| loss.mean(axes, false))?,
            Some(ignored) => {
                let counted = ignored.logical_not()?.cast(loss.dtype())?;
                let sum = |x: &Tensor<B>| reduction.over_samples(x, |x, axes| x.sum(axes, false));
                sum(&loss.masked_fill(ignored, 0)?)?.div(&sum(&counted)?.maximum_scalar(1)?)?
            }
        };
        loss.cast(prediction.dtype())
    }
}
