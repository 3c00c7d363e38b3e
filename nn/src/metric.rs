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

/// The share of samples whose class is among the k of the highest scores: `[batch, classes]` against `[batch]`.
///
/// ```
/// use isograd_core::Tensor;
/// use isograd_nn::metric::{Metric, TopKAccuracy};
/// # let ctx = isograd_reference::Reference;
/// let scores = Tensor::from_slice(&ctx, &[0.5f32, 0.3, 0.2, 0.1, 0.2, 0.7], [2, 3])?;
/// let labels = Tensor::from_slice(&ctx, &[1i64, 0], [2])?;
/// let mut metric = TopKAccuracy::new(2);
/// metric.update(&labels, &scores)?;
/// assert_eq!(Metric::<isograd_reference::Reference>::value(&metric), 0.5);
/// # Ok::<(), isograd_core::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TopKAccuracy {
    k: usize,
    correct: u64,
    total: u64,
}

impl TopKAccuracy {
    /// Among the `k` highest scores.
    pub fn new(k: usize) -> Self {
        TopKAccuracy { k, correct: 0, total: 0 }
    }
}

impl<B: Backend> Metric<B> for TopKAccuracy {
    fn update(&mut self, labels: &Tensor<B>, predictions: &Tensor<B>) -> Result<()> {
        let (_, best) = predictions.detach().topk(self.k, -1, true)?;
        let labels = labels.detach().cast(DType::I64)?.reshape([-1, 1])?;
        let right = best.cast(DType::I64)?.equal(&labels)?.any(-1, false)?;
        self.correct += right.cast(DType::I64)?.sum((), false)?.asscalar::<i64>()? as u64;
        self.total += right.size() as u64;
        Ok(())
    }

    fn value(&self) -> f64 {
        self.correct as f64 / self.total as f64
    }

    fn reset(&mut self) {
        *self = TopKAccuracy::new(self.k);
    }
}

/// 2 · precision · recall / (precision + recall) of class 1 of two, over all samples so far; 0 where it is 0 / 0, as in
/// MXNet. `[batch, 2]` scores, or classes themselves, against `[batch]`.
///
/// ```
/// use isograd_core::Tensor;
/// use isograd_nn::metric::{F1, Metric};
/// # let ctx = isograd_reference::Reference;
/// let classes = Tensor::from_slice(&ctx, &[1i64, 1, 0, 1], [4])?;
/// let labels = Tensor::from_slice(&ctx, &[1i64, 0, 1, 1], [4])?;
/// let mut metric = F1::default();
/// metric.update(&labels, &classes)?;
/// let value = Metric::<isograd_reference::Reference>::value(&metric);
/// assert!((value - 2.0 / 3.0).abs() < 1e-12);
/// # Ok::<(), isograd_core::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct F1 {
    both: u64,
    predicted: u64,
    labelled: u64,
    seen: u64,
}

impl<B: Backend> Metric<B> for F1 {
    fn update(&mut self, labels: &Tensor<B>, predictions: &Tensor<B>) -> Result<()> {
        let scores = predictions.detach();
        let predicted =
            if scores.rank() > labels.rank() { scores.argmax(-1, false)? } else { scores.cast(DType::I64)? };
        let predicted = predicted.equal_scalar(1)?;
        let labelled = labels.detach().cast(DType::I64)?.reshape(predicted.shape())?.equal_scalar(1)?;
        let count =
            |mask: &Tensor<B>| -> Result<u64> { Ok(mask.cast(DType::I64)?.sum((), false)?.asscalar::<i64>()? as u64) };
        self.both += count(&predicted.logical_and(&labelled)?)?;
        self.predicted += count(&predicted)?;
        self.labelled += count(&labelled)?;
        self.seen += labelled.size() as u64;
        Ok(())
    }

    fn value(&self) -> f64 {
        match (self.seen, self.predicted + self.labelled) {
            (0, _) => f64::NAN,
            (_, 0) => 0.0,
            (_, all) => 2.0 * self.both as f64 / all as f64,
        }
    }

    fn reset(&mut self) {
        *self = F1::default();
    }
}

/// A mean over elements, added up in f64.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Mean {
    sum: f64,
    count: u64,
}

impl Mean {
    fn add<B: Backend>(&mut self, elements: &Tensor<B>) -> Result<()> {
        // Wide enough for a batch of f16; batches are added up in f64.
        let wide = if elements.dtype() == DType::F64 { DType::F64 } else { DType::F32 };
        self.sum += elements.cast(wide)?.sum((), false)?.asscalar::<f64>()?;
        self.count += elements.size() as u64;
        Ok(())
    }

    fn value(self) -> f64 {
        self.sum / self.count as f64
    }
}

macro_rules! means {
    ($($(#[$doc:meta])* $name:ident |$label:ident, $prediction:ident| $elements:expr, |$mean:ident| $value:expr;)*) => { $(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq)]
        pub struct $name(Mean);

        impl<B: Backend> Metric<B> for $name {
            fn update(&mut self, $label: &Tensor<B>, $prediction: &Tensor<B>) -> Result<()> {
                let ($label, $prediction) = ($label.detach(), $prediction.detach());
                self.0.add(&$elements)
            }

            fn value(&self) -> f64 {
                let $mean = self.0.value();
                $value
            }

            fn reset(&mut self) {
                *self = $name::default();
            }
        }
    )* };
}

fn distance<B: Backend>(label: &Tensor<B>, prediction: &Tensor<B>) -> Result<Tensor<B>> {
    label.reshape(prediction.shape())?.cast(prediction.dtype())?.sub(prediction)
}

/// -ln of the probability of the true class, which is at least 1e-12.
fn surprise<B: Backend>(label: &Tensor<B>, prediction: &Tensor<B>) -> Result<Tensor<B>> {
    prediction.pick(label, -1, false)?.cast(DType::F32)?.maximum_scalar(1e-12)?.log()?.neg()
}

means! {
    /// The mean squared distance over all elements.
    ///
    /// ```
    /// use isograd_core::Tensor;
    /// use isograd_nn::metric::{CrossEntropy, MAE, MSE, Metric, Perplexity, RMSE};
    /// # let ctx = isograd_reference::Reference;
    /// let label = Tensor::from_slice(&ctx, &[0.0f32, 0.0], [2])?;
    /// let prediction = Tensor::from_slice(&ctx, &[1.0f32, -3.0], [2])?;
    /// let mut metrics: Vec<Box<dyn Metric<_>>> =
    ///     vec![Box::new(MSE::default()), Box::new(MAE::default()), Box::new(RMSE::default())];
    /// for metric in &mut metrics {
    ///     metric.update(&label, &prediction)?;
    /// }
    /// let values: Vec<f64> = metrics.iter().map(|m| m.value()).collect();
    /// assert_eq!(values, [5.0, 2.0, 5f64.sqrt()]);
    /// let probabilities = Tensor::from_slice(&ctx, &[0.25f32, 0.75], [1, 2])?;
    /// let mut perplexity = Perplexity::default();
    /// perplexity.update(&Tensor::from_slice(&ctx, &[0i64], [1])?, &probabilities)?;
    /// assert!((Metric::<isograd_reference::Reference>::value(&perplexity) - 4.0).abs() < 1e-5);
    /// # Ok::<(), isograd_core::Error>(())
    /// ```
    MSE |label, prediction| distance(&label, &prediction)?.square()?, |mean| mean;
    /// The mean distance over all elements.
    MAE |label, prediction| distance(&label, &prediction)?.abs()?, |mean| mean;
    /// The root of the mean squared distance over all elements. (MXNet takes the mean of the batches' roots.)
    RMSE |label, prediction| distance(&label, &prediction)?.square()?, |mean| mean.sqrt();
    /// The mean of -ln p, with p the probability predicted for the true class: `[.., classes]` against `[..]`.
    CrossEntropy |label, prediction| surprise(&label, &prediction)?, |mean| mean;
    /// e to the [`CrossEntropy`]: among how many equally likely classes the model is as unsure.
    Perplexity |label, prediction| surprise(&label, &prediction)?, |mean| mean.exp();
}
