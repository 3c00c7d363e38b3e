//! [`HingeLoss`]: the margin of a support vector machine; [`SquaredHingeLoss`].

use super::{Loss, Reduction};
use crate::options;
use isograd_core::{Backend, Result, Tensor};

/// max(0, margin - label · prediction) for labels -1 and 1, its mean over all axes but the batch.
///
/// ```
/// use isograd::Tensor;
/// use isograd::nn::loss::{Loss, HingeLoss};
/// let ctx = isograd::device("cpu")?;
/// let prediction = Tensor::from_slice(&ctx, &[0.5f32, 2.0], [1, 2])?;
/// let label = Tensor::from_slice(&ctx, &[1.0f32, -1.0], [1, 2])?;
/// let loss = HingeLoss::default().loss(&prediction, &label)?.to_vec::<f32>()?;
/// assert!((loss[0] - (0.5 + 3.0) / 2.0).abs() < 1e-6);
/// # Ok::<(), isograd::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct HingeLoss {
    /// From where on a right prediction costs nothing.
    pub margin: f64,
    /// A factor on the loss.
    pub weight: Option<f64>,
    /// The axis of the samples.
    pub batch_axis: usize,
}

impl Default for HingeLoss {
    fn default() -> Self {
        HingeLoss { margin: 1.0, weight: None, batch_axis: 0 }
    }
}

impl<B: Backend> Loss<B> for HingeLoss {
    fn loss_weighted(
        &self,
        prediction: &Tensor<B>,
        label: &Tensor<B>,
        sample_weight: Option<&Tensor<B>>,
    ) -> Result<Tensor<B>> {
        options::finite("HingeLoss", "margin", self.margin)?;
        let reduction = Reduction { op: "HingeLoss", weight: self.weight, sample_weight, batch_axis: self.batch_axis };
        reduction.mean(prediction, label, |prediction, label| prediction.mul(label)?.rsub_scalar(self.margin)?.relu())
    }
}

/// max(0, margin - label · prediction)² for labels -1 and 1, its mean over all axes but the batch.
///
/// ```
/// use isograd::Tensor;
/// use isograd::nn::loss::{Loss, SquaredHingeLoss};
/// let ctx = isograd::device("cpu")?;
/// let prediction = Tensor::from_slice(&ctx, &[0.5f32, 2.0], [1, 2])?;
/// let label = Tensor::from_slice(&ctx, &[1.0f32, -1.0], [1, 2])?;
/// let loss = SquaredHingeLoss::default().loss(&prediction, &label)?.to_vec::<f32>()?;
/// assert!((loss[0] - (0.25 + 9.0) / 2.0).abs() < 1e-6);
/// # Ok::<(), isograd::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SquaredHingeLoss {
    /// From where on a right prediction costs nothing.
    pub margin: f64,
    /// A factor on the loss.
    pub weight: Option<f64>,
    /// The axis of the samples.
    pub batch_axis: usize,
}

impl Default for SquaredHingeLoss {
    fn default() -> Self {
        SquaredHingeLoss { margin: 1.0, weight: None, batch_axis: 0 }
    }
}

impl<B: Backend> Loss<B> for SquaredHingeLoss {
    fn loss_weighted(
        &self,
        prediction: &Tensor<B>,
        label: &Tensor<B>,
        sample_weight: Option<&Tensor<B>>,
    ) -> Result<Tensor<B>> {
        options::finite("SquaredHingeLoss", "margin", self.margin)?;
        let reduction =
            Reduction { op: "SquaredHingeLoss", weight: self.weight, sample_weight, batch_axis: self.batch_axis };
        reduction.mean(prediction, label, |prediction, label| {
            prediction.mul(label)?.rsub_scalar(self.margin)?.relu()?.square()
        })
    }
}
