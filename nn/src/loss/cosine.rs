//! [`CosineEmbeddingLoss`]: the angle between two vectors.

use super::weighted;
use isograd_core::{Backend, Error, Result, Tensor};

/// 1 - cos(a, b) for pairs labelled 1, max(0, cos(a, b) - margin) for those labelled -1. The vectors are `[batch, features]`,
/// labels `[batch]`. The cosine of a zero vector is 0: lengths are √(|x|² + 1e-12), as in PyTorch.
///
/// ```
/// use isograd_core::Tensor;
/// use isograd_nn::loss::CosineEmbeddingLoss;
/// # let ctx = isograd_reference::Reference;
/// let a = Tensor::from_slice(&ctx, &[1.0f32, 0.0, 3.0, 4.0], [2, 2])?;
/// let b = Tensor::from_slice(&ctx, &[0.0f32, 2.0, 6.0, 8.0], [2, 2])?;
/// let label = Tensor::from_slice(&ctx, &[1.0f32, -1.0], [2])?;
/// let loss = CosineEmbeddingLoss::default().loss(&a, &b, &label, None)?.to_vec::<f32>()?;
/// assert!((loss[0] - 1.0).abs() < 1e-6 && (loss[1] - 1.0).abs() < 1e-6);
/// # Ok::<(), isograd_core::Error>(())
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
    /// What the operators report of shapes, dtypes and devices.
    pub fn loss<B: Backend>(
        &self,
        a: &Tensor<B>,
        b: &Tensor<B>,
        label: &Tensor<B>,
        sample_weight: Option<&Tensor<B>>,
    ) -> Result<Tensor<B>> {
        let b = b.reshape(a.shape())?;
        let dtype = a.dtype();
        if b.dtype() != dtype {
            let (op, left, right, device) = ("cosine_embedding_loss", dtype, b.dtype(), a.ctx().name());
            return Err(Error::DTypeMismatch { op, left, right, device });
        }
        // Each vector by its own length, so that no product of lengths overflows; √(|x|² + 1e-12) is smooth and never 0. In the
        // dtype that is computed in, since f16 has no 1e-12.
        let unit = |x: &Tensor<B>| {
            let x = x.cast(dtype.compute())?;
            x.div(&x.norm(-1, true)?.hypot_scalar(1e-6)?)
        };
        let cosine = unit(a)?.mul(&unit(&b)?)?.sum(-1, false)?.cast(dtype)?;
        let like = label.detach().reshape(cosine.shape())?.equal_scalar(1)?;
        let unlike = cosine.sub_scalar(self.margin)?.relu()?;
        weighted(like.where_(&cosine.rsub_scalar(1)?, &unlike)?, self.weight, sample_weight)
    }
}
