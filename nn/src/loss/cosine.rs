//! [`CosineEmbeddingLoss`]: the angle between two vectors.

use super::{Reduction, same_dtype, widened};
use crate::{
    labels::{any_seen, like, shown},
    options,
};
use isograd_core::{Backend, Error, Result, Tensor};

/// 1 - cos(a, b) for pairs labelled 1, max(0, cos(a, b) - margin) for those labelled -1. The vectors are `[batch, features]`,
/// labels `[batch]`. cos(a, b) = a · b / √((‖a‖² + 1e-12) (‖b‖² + 1e-12)), as in PyTorch, so that a vector of zeros has a
/// cosine, 0, and a gradient.
///
/// ```
/// use isograd::Tensor;
/// use isograd::nn::loss::CosineEmbeddingLoss;
/// let ctx = isograd::device("cpu")?;
/// let a = Tensor::from_slice(&ctx, &[1.0f32, 0.0, 3.0, 4.0], [2, 2])?;
/// let b = Tensor::from_slice(&ctx, &[0.0f32, 2.0, 6.0, 8.0], [2, 2])?;
/// let label = Tensor::from_slice(&ctx, &[1.0f32, -1.0], [2])?;
/// let loss = CosineEmbeddingLoss::default().loss(&a, &b, &label, None)?.to_vec::<f32>()?;
/// assert!((loss[0] - 1.0).abs() < 1e-6 && (loss[1] - 1.0).abs() < 1e-6);
/// # Ok::<(), isograd::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct CosineEmbeddingLoss {
    /// Up to which cosine an unlike pair costs nothing.
    pub margin: f64,
    /// A factor on the loss.
    pub weight: Option<f64>,
}

impl CosineEmbeddingLoss {
    /// The loss of each pair, `[batch]`, times `sample_weight` if there is one.
    ///
    /// # Errors
    /// As [`Loss::loss`](super::Loss::loss); [`Error::InvalidArgument`] for a label that is neither 1 nor -1.
    pub fn loss<B: Backend>(
        &self,
        a: &Tensor<B>,
        b: &Tensor<B>,
        label: &Tensor<B>,
        sample_weight: Option<&Tensor<B>>,
    ) -> Result<Tensor<B>> {
        const OP: &str = "CosineEmbeddingLoss";
        options::finite(OP, "margin", self.margin)?;
        let b = like(OP, "the second vectors", b, a.shape())?;
        same_dtype(OP, a, &b)?;
        // Each vector by its own length, so that no product of lengths overflows; √(‖x‖² + 1e-12) is smooth and never 0.
        let unit = |x: &Tensor<B>| {
            let x = widened(x)?;
            x.div(&x.norm(-1, true)?.hypot_scalar(1e-6)?)
        };
        let cosine = unit(a)?.mul(&unit(&b)?)?.sum(-1, false)?;
        let label = like(OP, "the label", &label.detach(), cosine.shape())?;
        let (like, other) = (label.equal_scalar(1)?, label.not_equal_scalar(1)?);
        if any_seen(&other.logical_and(&label.not_equal_scalar(-1)?)?)? {
            let label = label.to_values()?.into_iter().find(|v| v.to_f64().abs() != 1.0);
            let label = label.map(shown).unwrap_or_default();
            let why = format!("label {label} does not fit; pairs are labelled 1 (alike) or -1");
            return Err(Error::invalid(OP, why));
        }
        let unlike = cosine.sub_scalar(self.margin)?.relu()?;
        let loss = like.where_(&cosine.rsub_scalar(1)?, &unlike)?;
        let reduction = Reduction { op: OP, weight: self.weight, sample_weight, batch_axis: 0 };
        reduction.weighted(loss)?.cast(a.dtype())
    }
}
