//! Metrics: numbers that say how well a network does, gathered over batches.

use crate::{
    labels::{Checked, Whole, like, shown},
    layers::size_of_axis,
    options::{self, by_name},
};
use isograd_core::{Backend, DType, Dyn, Error, Result, Tensor};
use std::str::FromStr;

/// A number gathered over batches.
///
/// The metrics here have `value` and `reset` as methods of their own as well, so that `accuracy.value()` needs no backend named.
///
/// Class numbers are whole and not negative, of any number dtype; labels have the shape of what they are compared with, and may
/// have axes of size 1 more or less.
pub trait Metric<B: Backend = Dyn> {
    /// Takes a batch into account. Waits for the device.
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`] and [`Error::InvalidArgument`], naming the metric, for labels and predictions that do not fit;
    /// what the operators report of devices.
    fn update(&mut self, labels: &Tensor<B>, predictions: &Tensor<B>) -> Result<()>;

    /// The number so far; NaN before the first batch.
    fn value(&self) -> f64;

    /// Begins anew.
    fn reset(&mut self);
}

impl<B: Backend, M: Metric<B> + ?Sized> Metric<B> for Box<M> {
    fn update(&mut self, labels: &Tensor<B>, predictions: &Tensor<B>) -> Result<()> {
        (**self).update(labels, predictions)
    }

    fn value(&self) -> f64 {
        (**self).value()
    }

    fn reset(&mut self) {
        (**self).reset();
    }
}

/// By Gluon's names: `"acc".parse()`.
///
/// ```
/// use isograd::nn::metric::Metric;
/// let metric: Box<dyn Metric> = "accuracy".parse()?;
/// assert!(metric.value().is_nan());
/// assert!("accuracies".parse::<Box<dyn Metric>>().err().unwrap().to_string().contains("accuracy"));
/// # Ok::<(), isograd::Error>(())
/// ```
impl<B: Backend> FromStr for Box<dyn Metric<B>> {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        by_name(
            "Metric",
            name,
            &[
                ("acc", || Box::new(Accuracy::default())),
                ("accuracy", || Box::new(Accuracy::default())),
                ("f1", || Box::new(F1::default())),
                ("mcc", || Box::new(MCC::default())),
                ("mae", || Box::new(MAE::default())),
                ("mse", || Box::new(MSE::default())),
                ("rmse", || Box::new(RMSE::default())),
                ("ce", || Box::new(CrossEntropy::default())),
                ("cross-entropy", || Box::new(CrossEntropy::default())),
                ("nll_loss", || Box::new(NegativeLogLikelihood::default())),
                ("perplexity", || Box::new(Perplexity::default())),
                ("pearsonr", || Box::new(PearsonCorrelation::default())),
                ("loss", || Box::new(LossMean::default())),
            ],
        )
    }
}

/// The methods of [`Metric`] that do not depend on the backend are those of the type, so that calling them names none.
macro_rules! own_methods {
    () => {
        fn value(&self) -> f64 {
            self.value()
        }

        fn reset(&mut self) {
            self.reset();
        }
    };
}

/// How many elements are true.
fn count<B: Backend>(mask: &Tensor<B>) -> Result<u64> {
    Ok(mask.cast(DType::I64)?.sum((), false)?.asscalar::<i64>()? as u64)
}

/// Predicted classes and labels, i64 of one shape. Predictions are `[batch, classes, ..]` scores, of which the highest counts;
/// or, shaped like the labels or `[batch, 1, ..]`, classes, or probabilities of class 1, which is predicted above 1/2.
fn decided<B: Backend>(
    op: &'static str,
    labels: &Tensor<B>,
    predictions: &Tensor<B>,
    classes: Option<usize>,
) -> Result<(Tensor<B>, Tensor<B>)> {
    let predictions = predictions.detach();
    let below = |what: &'static str, most: Option<usize>| match most {
        Some(most) => Whole::below(op, what, most),
        None => Whole::natural(op, what),
    };
    let scored = predictions.rank() > 1 && predictions.shape() != labels.shape() && predictions.shape()[1] != 1;
    let (predicted, classes) = if scored {
        let given = predictions.shape()[1];
        if let Some(classes) = classes.filter(|&classes| classes != given) {
            let why =
                format!("it is of {classes} classes, the scores are of {given}; score one against the rest by itself");
            return Err(Error::invalid(op, why));
        }
        (predictions.argmax(1, false)?, Some(given))
    } else if predictions.dtype().is_float() && !predictions.equal(&predictions.floor()?)?.all((), false)?.asscalar()? {
        let probable = predictions.greater_equal_scalar(0)?.logical_and(&predictions.less_equal_scalar(1)?)?;
        if !probable.all((), false)?.asscalar::<bool>()? {
            let outside = predictions.to_values()?.into_iter().find(|v| !(0.0..=1.0).contains(&v.to_f64()));
            let outside = outside.map(shown).unwrap_or_default();
            let why = format!(
                "prediction {outside} is neither a class nor the probability of one; give scores as [batch, classes, ..], \
                 and a single score through sigmoid"
            );
            return Err(Error::invalid(op, why));
        }
        (predictions.greater_scalar(0.5)?.cast(DType::I64)?, Some(2))
    } else {
        (below("prediction", classes).check(&predictions)?.numbers, classes)
    };
    let labels = below("label", classes).check_like(labels, predicted.shape())?.numbers;
    Ok((predicted, labels))
}

/// The share of samples whose class was predicted: `[batch, classes, ..]` scores against `[batch, ..]` labels; or, in the shape
/// of the labels, classes themselves, or probabilities of class 1 of two (the output of a sigmoid), which is predicted above
/// 1/2.
///
/// ```
/// use isograd::Tensor;
/// use isograd::nn::metric::{Accuracy, Metric};
/// let ctx = isograd::device("cpu")?;
/// let scores = Tensor::from_slice(&ctx, &[0.1f32, 0.9, 0.8, 0.2], [2, 2])?;
/// let labels = Tensor::from_slice(&ctx, &[1i64, 1], [2])?;
/// let mut accuracy = Accuracy::default();
/// accuracy.update(&labels, &scores)?;
/// assert_eq!(accuracy.value(), 0.5);
/// # Ok::<(), isograd::Error>(())
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

impl Accuracy {
    /// The number so far; NaN before the first batch.
    pub fn value(&self) -> f64 {
        self.correct as f64 / self.total as f64
    }

    /// Begins anew.
    pub fn reset(&mut self) {
        *self = Accuracy::default();
    }
}

impl<B: Backend> Metric<B> for Accuracy {
    fn update(&mut self, labels: &Tensor<B>, predictions: &Tensor<B>) -> Result<()> {
        let (predicted, labels) = decided("Accuracy", labels, predictions, None)?;
        let right = predicted.equal(&labels)?;
        self.correct += count(&right)?;
        self.total += right.size() as u64;
        Ok(())
    }

    own_methods!();
}

/// The share of samples whose class is among the k of the highest scores: `[.., classes]` against `[..]`. Of no more than k
/// classes every one is.
///
/// ```
/// use isograd::Tensor;
/// use isograd::nn::metric::{Metric, TopKAccuracy};
/// let ctx = isograd::device("cpu")?;
/// let scores = Tensor::from_slice(&ctx, &[0.5f32, 0.3, 0.2, 0.1, 0.2, 0.7], [2, 3])?;
/// let labels = Tensor::from_slice(&ctx, &[1i64, 0], [2])?;
/// let mut metric = TopKAccuracy::new(2);
/// metric.update(&labels, &scores)?;
/// assert_eq!(metric.value(), 0.5);
/// # Ok::<(), isograd::Error>(())
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

impl TopKAccuracy {
    /// The number so far; NaN before the first batch.
    pub fn value(&self) -> f64 {
        self.correct as f64 / self.total as f64
    }

    /// Begins anew.
    pub fn reset(&mut self) {
        *self = TopKAccuracy::new(self.k);
    }
}

impl<B: Backend> Metric<B> for TopKAccuracy {
    fn update(&mut self, labels: &Tensor<B>, predictions: &Tensor<B>) -> Result<()> {
        const OP: &str = "TopKAccuracy";
        options::at_least_one(OP, "k", self.k as u64)?;
        let classes = size_of_axis(OP, predictions, -1)?;
        let labels = true_classes(OP, labels, predictions, None)?.numbers;
        let (_, best) = predictions.detach().topk(self.k.min(classes), -1, true)?;
        let right = best.cast(DType::I64)?.equal(&labels)?.any(-1, false)?;
        self.correct += count(&right)?;
        self.total += right.size() as u64;
        Ok(())
    }

    own_methods!();
}

/// Over what [`F1`], [`MCC`] and [`PearsonCorrelation`] are computed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Average {
    /// All samples so far.
    #[default]
    Micro,
    /// Each batch for itself; the value is the mean over the batches. MXNet's default, though it depends on how the samples are
    /// cut into batches.
    Macro,
}

/// What became of the samples of two classes, of which class 1 is the positive one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Confusion {
    true_positive: u64,
    false_positive: u64,
    false_negative: u64,
    true_negative: u64,
}

impl Confusion {
    fn of<B: Backend>(op: &'static str, labels: &Tensor<B>, predictions: &Tensor<B>) -> Result<Confusion> {
        let (predicted, labels) = decided(op, labels, predictions, Some(2))?;
        let (predicted, labelled) = (predicted.equal_scalar(1)?, labels.equal_scalar(1)?);
        let (both, positive, labelled) =
            (count(&predicted.logical_and(&labelled)?)?, count(&predicted)?, count(&labelled)?);
        Ok(Confusion {
            true_positive: both,
            false_positive: positive - both,
            false_negative: labelled - both,
            true_negative: predicted.size() as u64 + both - positive - labelled,
        })
    }

    fn add(&mut self, other: Confusion) {
        self.true_positive += other.true_positive;
        self.false_positive += other.false_positive;
        self.false_negative += other.false_negative;
        self.true_negative += other.true_negative;
    }

    fn f1(self) -> f64 {
        let both = 2.0 * self.true_positive as f64;
        let all = both + (self.false_positive + self.false_negative) as f64;
        if all == 0.0 { 0.0 } else { both / all }
    }

    fn mcc(self) -> f64 {
        let [tp, fp, fn_, tn] =
            [self.true_positive, self.false_positive, self.false_negative, self.true_negative].map(|n| n as f64);
        // A factor of 0 counts as 1, as in MXNet.
        let factors = [tp + fp, tp + fn_, tn + fp, tn + fn_].into_iter().filter(|f| *f != 0.0);
        (tp * tn - fp * fn_) / factors.product::<f64>().sqrt()
    }
}

macro_rules! of_confusion {
    ($($(#[$doc:meta])* $name:ident $value:ident;)*) => { $(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq)]
        pub struct $name {
            average: Average,
            all: Confusion,
            batches: Mean,
        }

        impl $name {
            /// Over what it is computed; [`Average::Micro`] unless set.
            #[must_use]
            pub fn average(mut self, average: Average) -> Self {
                self.average = average;
                self
            }
        }

        impl $name {
            /// The number so far; NaN before the first batch.
            pub fn value(&self) -> f64 {
                match self.average {
                    Average::Macro => self.batches.value(),
                    Average::Micro if self.batches.count == 0 => f64::NAN,
                    Average::Micro => self.all.$value(),
                }
            }

            /// Begins anew.
            pub fn reset(&mut self) {
                *self = $name::default().average(self.average);
            }
        }

        impl<B: Backend> Metric<B> for $name {
            fn update(&mut self, labels: &Tensor<B>, predictions: &Tensor<B>) -> Result<()> {
                let batch = Confusion::of(stringify!($name), labels, predictions)?;
                self.all.add(batch);
                self.batches.add_number(batch.$value(), 1);
                Ok(())
            }

            own_methods!();
        }
    )* };
}

of_confusion! {
    /// 2 · precision · recall / (precision + recall) of class 1 of two; 0 where it is 0 / 0, as in MXNet. `[batch, 2]` scores, or
    /// classes themselves or probabilities of class 1, against `[batch]`. Of more than two classes it is an error.
    ///
    /// ```
    /// use isograd::Tensor;
    /// use isograd::nn::metric::{F1, Metric};
    /// let ctx = isograd::device("cpu")?;
    /// let classes = Tensor::from_slice(&ctx, &[1i64, 1, 0, 1], [4])?;
    /// let labels = Tensor::from_slice(&ctx, &[1i64, 0, 1, 1], [4])?;
    /// let mut metric = F1::default();
    /// metric.update(&labels, &classes)?;
    /// assert!((metric.value() - 2.0 / 3.0).abs() < 1e-12);
    /// # Ok::<(), isograd::Error>(())
    /// ```
    F1 f1;
    /// The correlation of Matthews, (TP · TN - FP · FN) / √((TP + FP) (TP + FN) (TN + FP) (TN + FN)), from -1 to 1, which is fair to
    /// classes of unlike sizes. Inputs as for [`F1`].
    MCC mcc;
}

/// A mean over elements, added up in f64.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Mean {
    sum: f64,
    count: u64,
}

/// f64 where the device computes with it.
fn wide<B: Backend>(tensor: &Tensor<B>) -> Result<Tensor<B>> {
    let f64_there = tensor.ctx().capabilities().computes.contains(DType::F64);
    tensor.detach().cast(if f64_there { DType::F64 } else { DType::F32 })
}

impl Mean {
    fn add<B: Backend>(&mut self, elements: &Tensor<B>) -> Result<()> {
        self.add_number(wide(elements)?.sum((), false)?.asscalar::<f64>()?, elements.size() as u64);
        Ok(())
    }

    fn add_number(&mut self, sum: f64, count: u64) {
        self.sum += sum;
        self.count += count;
    }

    fn value(self) -> f64 {
        self.sum / self.count as f64
    }
}

macro_rules! means {
    ($($(#[$doc:meta])* $name:ident |$op:ident, $label:ident, $prediction:ident| $elements:expr, |$mean:ident| $value:expr;)*) => { $(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq)]
        pub struct $name(Mean);

        impl $name {
            /// The number so far; NaN before the first batch.
            pub fn value(&self) -> f64 {
                let $mean = self.0.value();
                $value
            }

            /// Begins anew.
            pub fn reset(&mut self) {
                *self = $name::default();
            }
        }

        impl<B: Backend> Metric<B> for $name {
            fn update(&mut self, $label: &Tensor<B>, $prediction: &Tensor<B>) -> Result<()> {
                let ($op, $label, $prediction) = (stringify!($name), $label.detach(), $prediction.detach());
                self.0.add(&$elements)
            }

            own_methods!();
        }
    )* };
}

fn distance<B: Backend>(op: &'static str, label: &Tensor<B>, prediction: &Tensor<B>) -> Result<Tensor<B>> {
    wide(&like(op, "the label", label, prediction.shape())?)?.sub(&wide(prediction)?)
}

/// The class numbers of `[.., classes]` predictions, `[.., 1]`.
fn true_classes<B: Backend>(
    op: &'static str,
    label: &Tensor<B>,
    prediction: &Tensor<B>,
    ignored: Option<i64>,
) -> Result<Checked<B>> {
    let classes = size_of_axis(op, prediction, -1)?;
    let shape = prediction.shape().with(prediction.rank() - 1, 1);
    Whole { ignored, ..Whole::below(op, "label", classes) }.check_like(label, &shape)
}

/// -ln of the probability of the true class, which is at least 1e-12, and whether it is left out.
fn surprise<B: Backend>(
    op: &'static str,
    label: &Tensor<B>,
    prediction: &Tensor<B>,
    ignored: Option<i64>,
) -> Result<(Tensor<B>, Option<Tensor<B>>)> {
    let label = true_classes(op, label, prediction, ignored)?;
    let each = wide(&prediction.pick(&label.numbers, -1, true)?)?.maximum_scalar(1e-12)?.log()?.neg()?;
    Ok((each, label.ignored))
}

means! {
    /// The mean squared distance over all elements. (MXNet takes the mean of the batches' means.)
    ///
    /// ```
    /// use isograd::Tensor;
    /// use isograd::nn::metric::{CrossEntropy, MAE, MSE, Metric, Perplexity, RMSE};
    /// let ctx = isograd::device("cpu")?;
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
    /// assert!((perplexity.value() - 4.0).abs() < 1e-5);
    /// # Ok::<(), isograd::Error>(())
    /// ```
    MSE |op, label, prediction| distance(op, &label, &prediction)?.square()?, |mean| mean;
    /// The mean distance over all elements.
    MAE |op, label, prediction| distance(op, &label, &prediction)?.abs()?, |mean| mean;
    /// The root of the mean squared distance over all elements. (MXNet takes the mean of the batches' roots.)
    RMSE |op, label, prediction| distance(op, &label, &prediction)?.square()?, |mean| mean.sqrt();
    /// The mean of -ln p, with p the probability predicted for the true class: `[.., classes]` against `[..]`.
    CrossEntropy |op, label, prediction| surprise(op, &label, &prediction, None)?.0, |mean| mean;
    /// The same as [`CrossEntropy`], under its other name.
    NegativeLogLikelihood |op, label, prediction| surprise(op, &label, &prediction, None)?.0, |mean| mean;
    /// The mean of the predictions, whatever the labels: for losses that are computed already.
    LossMean |_op, _label, prediction| prediction, |mean| mean;
}

/// e to the [`CrossEntropy`]: among how many equally likely classes the model is as unsure.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Perplexity {
    ignored: Option<i64>,
    mean: Mean,
}

impl Perplexity {
    /// Leaves out samples of this label, such as padding.
    #[must_use]
    pub fn ignore_label(mut self, label: i64) -> Self {
        self.ignored = Some(label);
        self
    }
}

impl Perplexity {
    /// The number so far; NaN before the first batch.
    pub fn value(&self) -> f64 {
        self.mean.value().exp()
    }

    /// Begins anew.
    pub fn reset(&mut self) {
        self.mean = Mean::default();
    }
}

impl<B: Backend> Metric<B> for Perplexity {
    fn update(&mut self, labels: &Tensor<B>, predictions: &Tensor<B>) -> Result<()> {
        let (labels, predictions) = (labels.detach(), predictions.detach());
        let (each, ignored) = surprise("Perplexity", &labels, &predictions, self.ignored)?;
        let Some(ignored) = ignored else { return self.mean.add(&each) };
        let sum = each.masked_fill(&ignored, 0)?.sum((), false)?.asscalar::<f64>()?;
        self.mean.add_number(sum, count(&ignored.logical_not()?)?);
        Ok(())
    }

    own_methods!();
}

/// The correlation of labels and predictions, from -1 to 1.
///
/// ```
/// use isograd::Tensor;
/// use isograd::nn::metric::{Metric, PearsonCorrelation};
/// let ctx = isograd::device("cpu")?;
/// let mut metric = PearsonCorrelation::default();
/// for (label, prediction) in [([1.0f32, 2.0], [10.0f32, 20.0]), ([3.0, 4.0], [30.0, 40.0])] {
///     metric.update(&Tensor::from_slice(&ctx, &label, [2])?, &Tensor::from_slice(&ctx, &prediction, [2])?)?;
/// }
/// assert!((metric.value() - 1.0).abs() < 1e-12);
/// # Ok::<(), isograd::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct PearsonCorrelation {
    average: Average,
    all: Moments,
    batches: Mean,
}

/// Means and central moments of pairs of numbers, which are merged without cancellation (Chan et al., 1979).
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Moments {
    count: f64,
    mean: [f64; 2],
    square: [f64; 2],
    product: f64,
}

impl Moments {
    fn of(a: &[f64], b: &[f64]) -> Moments {
        let one = |(a, b): (&f64, &f64)| Moments { count: 1.0, mean: [*a, *b], ..Moments::default() };
        a.iter().zip(b).map(one).fold(Moments::default(), Moments::merged)
    }

    fn merged(self, other: Moments) -> Moments {
        let count = self.count + other.count;
        if count == 0.0 {
            return self;
        }
        let apart = [0, 1].map(|k| other.mean[k] - self.mean[k]);
        let weight = self.count * other.count / count;
        Moments {
            count,
            mean: [0, 1].map(|k| self.mean[k] + apart[k] * other.count / count),
            square: [0, 1].map(|k| self.square[k] + other.square[k] + apart[k] * apart[k] * weight),
            product: self.product + other.product + apart[0] * apart[1] * weight,
        }
    }

    fn correlation(self) -> f64 {
        self.product / (self.square[0] * self.square[1]).sqrt()
    }
}

impl PearsonCorrelation {
    /// Over what it is computed; [`Average::Micro`] unless set.
    #[must_use]
    pub fn average(mut self, average: Average) -> Self {
        self.average = average;
        self
    }
}

impl PearsonCorrelation {
    /// The number so far; NaN before the first batch.
    pub fn value(&self) -> f64 {
        match self.average {
            Average::Micro => self.all.correlation(),
            Average::Macro => self.batches.value(),
        }
    }

    /// Begins anew.
    pub fn reset(&mut self) {
        *self = PearsonCorrelation::default().average(self.average);
    }
}

impl<B: Backend> Metric<B> for PearsonCorrelation {
    fn update(&mut self, labels: &Tensor<B>, predictions: &Tensor<B>) -> Result<()> {
        let labels = like("PearsonCorrelation", "the label", labels, predictions.shape())?;
        let numbers = |t: &Tensor<B>| -> Result<Vec<f64>> {
            Ok(t.to_values()?.into_iter().map(<f64 as isograd_core::Element>::from_value).collect())
        };
        let batch = Moments::of(&numbers(&labels)?, &numbers(predictions)?);
        self.all = self.all.merged(batch);
        self.batches.add_number(batch.correlation(), 1);
        Ok(())
    }

    own_methods!();
}

/// Several metrics of the same labels and predictions, with names. Its own value is that of the first.
///
/// ```
/// use isograd::Tensor;
/// use isograd::nn::metric::{Accuracy, Composite, Custom, Metric};
/// let ctx = isograd::device("cpu")?;
/// let mut metrics = Composite::new().add("accuracy", Accuracy::default()).add(
///     "largest",
///     Custom::new(|_: &Tensor<_>, scores: &Tensor<_>| Ok((scores.max((), false)?.asscalar::<f64>()?, 1))),
/// );
/// let scores = Tensor::from_slice(&ctx, &[0.25f32, 0.75, 0.5, 0.5], [2, 2])?;
/// metrics.update(&Tensor::from_slice(&ctx, &[1i64, 1], [2])?, &scores)?;
/// assert_eq!(metrics.values(), [("accuracy".to_string(), 0.5), ("largest".to_string(), 0.75)]);
/// # Ok::<(), isograd::Error>(())
/// ```
pub struct Composite<B: Backend = Dyn> {
    metrics: Vec<(String, Box<dyn Metric<B>>)>,
}

impl<B: Backend> Default for Composite<B> {
    fn default() -> Self {
        Composite { metrics: Vec::new() }
    }
}

impl<B: Backend> std::fmt::Debug for Composite<B> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_map().entries(self.values()).finish()
    }
}

impl<B: Backend> Composite<B> {
    /// No metrics; add some with [`Composite::add`].
    pub fn new() -> Composite<B> {
        Composite::default()
    }

    /// Adds a metric.
    #[must_use]
    #[allow(clippy::should_implement_trait, reason = "the field's word, as in Sequential::add")]
    pub fn add(mut self, name: impl Into<String>, metric: impl Metric<B> + 'static) -> Self {
        self.metrics.push((name.into(), Box::new(metric)));
        self
    }

    /// Names and values, in the order in which they were added.
    pub fn values(&self) -> Vec<(String, f64)> {
        self.metrics.iter().map(|(name, metric)| (name.clone(), metric.value())).collect()
    }
}

impl<B: Backend> Metric<B> for Composite<B> {
    fn update(&mut self, labels: &Tensor<B>, predictions: &Tensor<B>) -> Result<()> {
        self.metrics.iter_mut().try_for_each(|(_, metric)| metric.update(labels, predictions))
    }

    fn value(&self) -> f64 {
        self.metrics.first().map_or(f64::NAN, |(_, metric)| metric.value())
    }

    fn reset(&mut self) {
        self.metrics.iter_mut().for_each(|(_, metric)| metric.reset());
    }
}

/// A metric by a function that gives the sum of a batch, and how many it is a sum of; the value is the mean.
#[derive(Clone, Copy)]
pub struct Custom<F> {
    function: F,
    mean: Mean,
}

impl<F> Custom<F> {
    /// By `function` of labels and predictions.
    pub fn new<B: Backend>(function: F) -> Custom<F>
    where
        F: Fn(&Tensor<B>, &Tensor<B>) -> Result<(f64, u64)>,
    {
        Custom { function, mean: Mean::default() }
    }
}

impl<F> std::fmt::Debug for Custom<F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Custom").field("mean", &self.mean.value()).finish_non_exhaustive()
    }
}

impl<F> Custom<F> {
    /// The number so far; NaN before the first batch.
    pub fn value(&self) -> f64 {
        self.mean.value()
    }

    /// Begins anew.
    pub fn reset(&mut self) {
        self.mean = Mean::default();
    }
}

impl<B: Backend, F: Fn(&Tensor<B>, &Tensor<B>) -> Result<(f64, u64)>> Metric<B> for Custom<F> {
    fn update(&mut self, labels: &Tensor<B>, predictions: &Tensor<B>) -> Result<()> {
        let (sum, count) = (self.function)(labels, predictions)?;
        self.mean.add_number(sum, count);
        Ok(())
    }

    own_methods!();
}
