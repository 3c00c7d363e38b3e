//! Losses, one a file: one value per sample, `[batch]`, as in Gluon.
//!
//! `backward` of that vector is `backward` of its sum; the trainer divides by the batch size. To add a loss: a type with its
//! options that implements [`Loss`] by way of `Reduction`.

mod cosine;
mod ctc;
mod hinge;
mod huber;
mod kl_div;
mod l1;
mod l2;
mod logistic;
mod poisson_nll;
mod sigmoid_bce;
mod softmax_cross_entropy;
mod triplet;

pub use cosine::CosineEmbeddingLoss;
pub use ctc::{Blank, CTCLoss};
pub use hinge::{HingeLoss, SquaredHingeLoss};
pub use huber::HuberLoss;
pub use kl_div::KLDivLoss;
pub use l1::L1Loss;
pub use l2::L2Loss;
pub use logistic::LogisticLoss;
pub use poisson_nll::PoissonNLLLoss;
pub use sigmoid_bce::{SigmoidBCELoss, SigmoidBinaryCrossEntropyLoss};
pub use softmax_cross_entropy::SoftmaxCrossEntropyLoss;
pub use triplet::TripletLoss;

use crate::{labels::like, options};
use isograd_core::{Backend, Dyn, Error, Result, Shape, Tensor};

/// What a prediction costs.
///
/// Labels have the shape of the prediction, or of its classes' places; only axes of size 1 may be left out or added. Class
/// numbers are whole and not negative; a loss waits for the device to see that. f16 and bf16 are computed in f32, and the
/// result rounded.
pub trait Loss<B: Backend = Dyn> {
    /// The loss of each sample, `[batch]`.
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`] and [`Error::InvalidArgument`], naming the loss, for labels that do not fit and for options out
    /// of their domain; what the operators report of dtypes and devices.
    fn loss(&self, prediction: &Tensor<B>, label: &Tensor<B>) -> Result<Tensor<B>> {
        self.loss_weighted(prediction, label, None)
    }

    /// [`Loss::loss`] times `sample_weight`: one number per sample, `[batch]`, or what broadcasts to the prediction.
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

/// f16 and bf16 as f32, in which 1e-12 is not 0; others as they are.
fn widened<B: Backend>(x: &Tensor<B>) -> Result<Tensor<B>> {
    x.cast(x.dtype().compute())
}

/// What becomes of the loss of each element: what all losses have in common.
struct Reduction<'a, B: Backend> {
    /// The loss.
    op: &'static str,
    weight: Option<f64>,
    sample_weight: Option<&'a Tensor<B>>,
    batch_axis: usize,
}

impl<B: Backend> Reduction<'_, B> {
    /// The weighted mean, over all axes but the batch, of `each` of the prediction and the label in its shape.
    fn mean(
        &self,
        prediction: &Tensor<B>,
        label: &Tensor<B>,
        each: impl FnOnce(&Tensor<B>, &Tensor<B>) -> Result<Tensor<B>>,
    ) -> Result<Tensor<B>> {
        let loss = self.each(prediction, label, each)?;
        self.over_samples(&loss, |loss, axes| loss.mean(axes, false))?.cast(prediction.dtype())
    }

    /// `each` of the prediction and the label in its shape, weighted.
    fn each(
        &self,
        prediction: &Tensor<B>,
        label: &Tensor<B>,
        each: impl FnOnce(&Tensor<B>, &Tensor<B>) -> Result<Tensor<B>>,
    ) -> Result<Tensor<B>> {
        let label = like(self.op, "the label", label, prediction.shape())?;
        same_dtype(self.op, prediction, &label)?;
        self.weighted(each(&widened(prediction)?, &widened(&label)?)?)
    }

    /// `reduce` over all axes but the batch.
    fn over_samples(
        &self,
        loss: &Tensor<B>,
        reduce: impl FnOnce(&Tensor<B>, Vec<isize>) -> Result<Tensor<B>>,
    ) -> Result<Tensor<B>> {
        if loss.rank() > 0 && self.batch_axis >= loss.rank() {
            return Err(Error::AxisOutOfRange {
                op: self.op,
                axis: self.batch_axis as isize,
                rank: loss.rank(),
                shape: loss.shape().clone(),
                device: loss.ctx().name(),
            });
        }
        let axes: Vec<isize> = (0..loss.rank()).filter(|&a| a != self.batch_axis).map(|a| a as isize).collect();
        if axes.is_empty() { Ok(loss.clone()) } else { reduce(loss, axes) }
    }

    /// The loss times both weights.
    fn weighted(&self, loss: Tensor<B>) -> Result<Tensor<B>> {
        let loss = match self.sample_weight {
            Some(weight) => loss.mul(&self.per_element(weight, &loss)?)?,
            None => loss,
        };
        let Some(weight) = self.weight else { return Ok(loss) };
        options::finite(self.op, "weight", weight)?;
        loss.mul_scalar(weight)
    }

    /// `weight` in a shape that broadcasts to the loss, and never the loss to it.
    fn per_element(&self, weight: &Tensor<B>, loss: &Tensor<B>) -> Result<Tensor<B>> {
        let weight = widened(weight)?;
        let batch = loss.shape().get(self.batch_axis).copied();
        if weight.rank() == 1 && Some(weight.size()) == batch {
            let shape = (0..loss.rank()).map(|a| if a == self.batch_axis { weight.size() } else { 1 });
            return weight.reshape(&shape.collect::<Shape>());
        }
        if weight.rank() > loss.rank() {
            return like(self.op, "the sample weight", &weight, loss.shape());
        }
        if weight.shape().broadcast(loss.shape()).as_ref() == Some(loss.shape()) {
            return Ok(weight);
        }
        Err(Error::ShapeMismatch {
            op: self.op,
            left: loss.shape().clone(),
            right: weight.shape().clone(),
            why: "the sample weight must be [batch], or broadcast to the first shape".into(),
            device: loss.ctx().name(),
        })
    }
}

fn same_dtype<B: Backend>(op: &'static str, a: &Tensor<B>, b: &Tensor<B>) -> Result<()> {
    if a.dtype() == b.dtype() {
        return Ok(());
    }
    Err(Error::DTypeMismatch { op, left: a.dtype(), right: b.dtype(), device: a.ctx().name() })
}
