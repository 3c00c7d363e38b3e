//! [`TripletLoss`]: like things near, unlike things far.

use super::{Reduction, same_dtype, widened};
use crate::{labels::like, options};
use isograd_core::{Backend, Result, Tensor};

/// max(0, margin + ‖anchor - positive‖² - ‖anchor - negative‖²) for each sample (Schroff et al., arXiv:1503.03832). All three
/// are `[batch, ..]`.
///
/// ```
/// use isograd::Tensor;
/// use isograd::nn::loss::TripletLoss;
/// let ctx = isograd::device("cpu")?;
/// let points = |x: f32| Tensor::from_slice(&ctx, &[x, 0.0], [1, 2]);
/// let loss = TripletLoss::default().loss(&points(0.0)?, &points(1.0)?, &points(0.5)?, None)?;
/// assert_eq!(loss.to_vec::<f32>()?, [1.75]);
/// # Ok::<(), isograd::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TripletLoss {
    /// By how much the negative must be further away.
    pub margin: f64,
    /// A factor on the loss.
    pub weight: Option<f64>,
    /// The axis of the samples.
    pub batch_axis: usize,
}

impl Default for TripletLoss {
    fn default() -> Self {
        TripletLoss { margin: 1.0, weight: None, batch_axis: 0 }
    }
}

impl TripletLoss {
    /// The loss of each sample, `[batch]`, times `sample_weight` if there is one.
    ///
    /// # Errors
    /// As [`Loss::loss`](super::Loss::loss).
    pub fn loss<B: Backend>(
        &self,
        anchor: &Tensor<B>,
        positive: &Tensor<B>,
        negative: &Tensor<B>,
        sample_weight: Option<&Tensor<B>>,
    ) -> Result<Tensor<B>> {
        const OP: &str = "TripletLoss";
        options::finite(OP, "margin", self.margin)?;
        let distance = |other: &Tensor<B>, what: &str| {
            same_dtype(OP, anchor, other)?;
            widened(&like(OP, what, other, anchor.shape())?)?.sub(&widened(anchor)?)?.square()
        };
        let difference = distance(positive, "the positive")?.sub(&distance(negative, "the negative")?)?;
        let plain = Reduction { op: OP, weight: None, sample_weight: None, batch_axis: self.batch_axis };
        let difference = plain.over_samples(&difference, |d, axes| d.sum(axes, false))?;
        let loss = difference.add_scalar(self.margin)?.relu()?;
        Reduction { weight: self.weight, sample_weight, batch_axis: 0, ..plain }.weighted(loss)?.cast(anchor.dtype())
    }
}
