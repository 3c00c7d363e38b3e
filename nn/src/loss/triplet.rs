//! [`TripletLoss`]: like things near, unlike things far.

use super::{sum_per_sample, weighted};
use isograd_core::{Backend, Result, Tensor};

/// max(0, margin + ‖anchor - positive‖² - ‖anchor - negative‖²) for each sample (Schroff et al., arXiv:1503.03832). All three
/// are `[batch, ..]`.
///
/// ```
/// use isograd_core::Tensor;
/// use isograd_nn::loss::TripletLoss;
/// # let ctx = isograd_reference::Reference;
/// let points = |x: f32| Tensor::from_slice(&ctx, &[x, 0.0], [1, 2]);
/// let loss = TripletLoss::default().loss(&points(0.0)?, &points(1.0)?, &points(0.5)?, None)?;
/// assert_eq!(loss.to_vec::<f32>()?, [1.75]);
/// # Ok::<(), isograd_core::Error>(())
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
    /// What the operators report of shapes, dtypes and devices.
    pub fn loss<B: Backend>(
        &self,
        anchor: &Tensor<B>,
        positive: &Tensor<B>,
        negative: &Tensor<B>,
        sample_weight: Option<&Tensor<B>>,
    ) -> Result<Tensor<B>> {
        let near = positive.reshape(anchor.shape())?.sub(anchor)?.square()?;
        let far = negative.reshape(anchor.shape())?.sub(anchor)?.square()?;
        let difference = sum_per_sample(near.sub(&far)?, None, None, self.batch_axis)?;
        weighted(difference.add_scalar(self.margin)?.relu()?, self.weight, sample_weight)
    }
}
