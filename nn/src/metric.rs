//! Metrics: numbers that say how well a network does, gathered over batches.

use isograd_core::{Backend, DType, Dyn, Result, Tensor};

/// A number gathered over batches.
pub trait Metric<B: Backend = Dyn> {
    /// Takes a batch into account. Waits for the device.
    ///
    /// # Errors
    /// What the operators report of shapes and devices.
    fn update(&mut self, labels: &Tensor<B>, predictions: &Tensor<B>) -> Result<()>;

    /// The number so far; NaN before the first batch.
    fn value(&self) -> f64;

    /// Begins anew.
    fn reset(&mut self);
}

/// The share of samples whose class was predicted: `[batch, classes, ..]` scores, or classes themselves, against
/// `[batch, ..]` labels of any number dtype.
///
/// ```
/// use isograd_core::Tensor;
/// use isograd_nn::metric::{Accuracy, Metric};
/// # let ctx = isograd_reference::Reference;
/// let scores = Tensor::from_slice(&ctx, &[0.1f32, 0.9, 0.8, 0.2], [2, 2])?;
/// let labels = Tensor::from_slice(&ctx, &[1i64, 1], [2])?;
/// let mut accuracy = Accuracy::default();
/// accuracy.update(&labels, &scores)?;
/// assert_eq!(Metric::<isograd_reference::Reference>::value(&accuracy), 0.5);
/// # Ok::<(), isograd_core::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Accuracy {
    correct: u64,
    total: u64,
}

impl Accuracy {
    /// Samples predicted rightly, and all samples.
    pub fn counts(&self) -> (u64, u64) {
        (self.correct, self.total)
    }
}

impl<B: Backend> Metric<B> for Accuracy {
    fn update(&mut self, labels: &Tensor<B>, predictions: &Tensor<B>) -> Result<()> {
        let predicted = if predictions.rank() > labels.rank() {
            predictions.detach().argmax(1, false)?
        } else {
            predictions.detach().cast(DType::I64)?
        };
        let right = predicted.equal(&labels.detach().cast(DType::I64)?.reshape(predicted.shape())?)?;
        self.correct += right.cast(DType::I64)?.sum((), false)?.asscalar::<i64>()? as u64;
        self.total += right.size() as u64;
        Ok(())
    }

    fn value(&self) -> f64 {
        self.correct as f64 / self.total as f64
    }

    fn reset(&mut self) {
        *self = Accuracy::default();
    }
}
