//! Losses, one a file: one value per sample, `[batch]`, as in Gluon.
//!
//! `backward` of that vector is `backward` of its sum; the trainer divides by the batch size. To add a loss: a type with its
//! options that implements [`Loss`] and ends with `per_sample`.

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

/// The loss times both weights.
fn weighted<B: Backend>(loss: Tensor<B>, weight: Option<f64>, sample_weight: Option<&Tensor<B>>) -> Result<Tensor<B>> {
    let loss = sample_weight.map_or(Ok(loss.clone()), |w| loss.mul(w))?;
    weight.map_or(Ok(loss.clone()), |w| loss.mul_scalar(w))
}

fn axes_but(batch_axis: usize, rank: usize) -> Vec<isize> {
    (0..rank).filter(|&a| a != batch_axis).map(|a| a as isize).collect()
}

/// The weighted mean over all axes but `batch_axis`.
fn per_sample<B: Backend>(
    loss: Tensor<B>,
    weight: Option<f64>,
    sample_weight: Option<&Tensor<B>>,
    batch_axis: usize,
) -> Result<Tensor<B>> {
    let loss = weighted(loss, weight, sample_weight)?;
    let axes = axes_but(batch_axis, loss.rank());
    if axes.is_empty() { Ok(loss) } else { loss.mean(axes, false) }
}

/// The weighted sum over all axes but `batch_axis`.
fn sum_per_sample<B: Backend>(
    loss: Tensor<B>,
    weight: Option<f64>,
    sample_weight: Option<&Tensor<B>>,
    batch_axis: usize,
) -> Result<Tensor<B>> {
    let loss = weighted(loss, weight, sample_weight)?;
    let axes = axes_but(batch_axis, loss.rank());
    if axes.is_empty() { Ok(loss) } else { loss.sum(axes, false) }
}
