//! [`CTCLoss`]: sequences without a given alignment.

use super::{Loss, Reduction, widened};
use crate::labels::Whole;
use isograd_core::{Backend, Error, Result, Tensor};

/// Which class of a [`CTCLoss`] means "nothing here".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Blank {
    /// The last one, as in Gluon; labels are 0 to classes - 2, and negative ones are padding.
    #[default]
    Last,
    /// Class 0, as in PyTorch; labels are 1 to classes - 1, and 0 and negative ones are padding.
    First,
}

/// -ln of the probability that a sequence of scores spells the label, whatever the alignment (Graves et al., *Connectionist
/// Temporal Classification*, ICML 2006): Gluon's `CTCLoss`.
///
/// A path names a class per time; it spells the label when repetitions are merged and then blanks removed. Predictions are
/// scores before the softmax, `[batch, time, classes]`, or `[time, batch, classes]` with `time_major`; labels
/// `[batch, label length]`, or `[label length, batch]` with `label_time_major`, of any number dtype, padded at their end.
/// [`CTCLoss::loss_with_lengths`] takes lengths. A label that is too long to be spelled costs ∞ and has no gradient.
///
/// ```
/// use isograd::{DType, Tensor};
/// use isograd::nn::loss::{CTCLoss, Loss};
/// let ctx = isograd::device("cpu")?;
/// // Of the nine paths of two steps over {0, 1, blank}, three spell "0": 00, 0_ and _0.
/// let scores = Tensor::zeros(&ctx, [1, 2, 3], DType::F32)?;
/// let label = Tensor::from_slice(&ctx, &[0i64, -1], [1, 2])?;
/// let loss = CTCLoss::default().loss(&scores, &label)?.to_vec::<f32>()?;
/// assert!((loss[0] - 3f32.ln()).abs() < 1e-6);
/// # Ok::<(), isograd::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct CTCLoss {
    /// Whether predictions are `[time, batch, classes]`, Gluon's layout TNC.
    pub time_major: bool,
    /// Whether labels are `[label length, batch]`, Gluon's layout TN.
    pub label_time_major: bool,
    /// The class that means "nothing here".
    pub blank: Blank,
    /// A factor on the loss.
    pub weight: Option<f64>,
}

/// ln of a probability that is none; finite, so that differences of it are no NaN.
const NEVER: f64 = -1e30;

/// One label per sample, and what follows from them.
struct Labels {
    /// The classes at the states of each sample: blank, first, blank, second, ..., blank.
    states: Vec<i64>,
    /// ln of whether a state may be entered from two before.
    skip: Vec<f64>,
    lengths: Vec<usize>,
    /// States per sample.
    count: usize,
}

fn lengths<B: Backend>(of: &'static str, lengths: &Tensor<B>, batch: usize, most: usize) -> Result<Vec<usize>> {
    if lengths.shape()[..] != [batch] {
        let why = format!("there must be a {of} for each of {batch} samples, not {:?}", lengths.shape());
        return Err(Error::invalid("CTCLoss", why));
    }
    let values = Whole::below("CTCLoss", of, most + 1).check(lengths)?.numbers.to_vec::<i64>()?;
    Ok(values.into_iter().map(|n| n as usize).collect())
}

impl CTCLoss {
    fn labels<B: Backend>(
        &self,
        label: &Tensor<B>,
        given: Option<&Tensor<B>>,
        batch: usize,
        classes: usize,
    ) -> Result<Labels> {
        let fail = |why: String| Error::invalid("CTCLoss", why);
        let label = if self.label_time_major && label.rank() == 2 { label.swapaxes(0, 1)? } else { label.clone() };
        if label.rank() != 2 || label.shape()[0] != batch {
            let why = format!("labels must be [batch, length] for a batch of {batch}, not {:?}", label.shape());
            return Err(fail(why));
        }
        let most = label.shape()[1];
        let any = Whole { least: None, ..Whole::natural("CTCLoss", "label") };
        let values = any.check(&label)?.numbers.to_vec::<i64>()?;
        let (blank, first) = match self.blank {
            Blank::Last => (classes as i64 - 1, 0),
            Blank::First => (0, 1),
        };
        let rows = |i: usize| &values[i * most..(i + 1) * most];
        let lengths = match given {
            Some(given) => lengths("label length", given, batch, most)?,
            None => (0..batch).map(|i| rows(i).iter().take_while(|&&v| v >= first).count()).collect(),
        };
        let count = 2 * lengths.iter().copied().max().unwrap_or(0) + 1;
        let (mut states, mut skip) = (vec![blank; batch * count], vec![NEVER; batch * count]);
        for (i, &length) in lengths.iter().enumerate() {
            let row = &rows(i)[..length];
            for (k, &class) in row.iter().enumerate() {
                if class < first || class >= classes as i64 || class == blank {
                    let why =
                        format!("label {class} of sample {i} is not in {first}..{} beside blank {blank}", classes);
                    return Err(fail(why));
                }
                states[i * count + 2 * k + 1] = class;
                if k > 0 && row[k - 1] != class {
                    skip[i * count + 2 * k + 1] = 0.0;
                }
            }
        }
        Ok(Labels { states, skip, lengths, count })
    }

    /// [`Loss::loss_weighted`] of predictions and labels of which only a part at the beginning counts: lengths `[batch]`, of
    /// any number dtype. Without label lengths, labels end at the first padding.
    ///
    /// # Errors
    /// [`Error::InvalidShape`] unless predictions have three axes; [`Error::InvalidArgument`] for labels or lengths that do not
    /// fit; what the operators report.
    pub fn loss_with_lengths<B: Backend>(
        &self,
        prediction: &Tensor<B>,
        label: &Tensor<B>,
        prediction_lengths: Option<&Tensor<B>>,
        label_lengths: Option<&Tensor<B>>,
        sample_weight: Option<&Tensor<B>>,
    ) -> Result<Tensor<B>> {
        if prediction.rank() != 3 || prediction.shape().contains(&0) {
            return Err(Error::InvalidShape {
                op: "CTCLoss",
                shape: prediction.shape().clone(),
                why: "predictions are [batch, time, classes], or [time, batch, classes] with time_major".into(),
                device: prediction.ctx().name(),
            });
        }
        let dtype = prediction.dtype();
        let scores = widened(prediction)?;
        let scores = if self.time_major { scores } else { scores.swapaxes(0, 1)? };
        let (times, batch, classes) = (scores.shape()[0], scores.shape()[1], scores.shape()[2]);
        let labels = self.labels(label, label_lengths, batch, classes)?;
        let times_of = prediction_lengths.map(|n| lengths("prediction length", n, batch, times)).transpose()?;

        let loss = spelled(&scores, &labels, times_of.as_deref())?.neg()?;
        let impossible = loss.detach().greater_scalar(-NEVER / 10.0)?;
        let loss = loss.masked_fill(&impossible, f64::INFINITY)?;
        let reduction = Reduction { op: "CTCLoss", weight: self.weight, sample_weight, batch_axis: 0 };
        reduction.weighted(loss)?.cast(dtype)
    }
}

/// ln of the probability of each sample's label, `[batch]`, by the forward recursion over times; all samples at once.
fn spelled<B: Backend>(scores: &Tensor<B>, labels: &Labels, times_of: Option<&[usize]>) -> Result<Tensor<B>> {
    let (ctx, dtype) = (scores.ctx(), scores.dtype());
    let (times, batch, count) = (scores.shape()[0], scores.shape()[1], labels.count);
    let states = Tensor::from_slice(ctx, &labels.states, [1, batch, count])?;
    // What each state emits at each time.
    let emitted = scores.log_softmax(-1)?.gather(2, &states.broadcast_to([times, batch, count])?)?;
    let skip = Tensor::from_slice(ctx, &labels.skip, [batch, count])?.cast(dtype)?;
    let never = |columns: usize| Tensor::full(ctx, [batch, columns], NEVER, dtype);

    // At first, a path is in the first blank or at the first label.
    let begin = count.min(2);
    let mut path = emitted.select(0, 0)?.narrow(1, 0, begin)?;
    if count > begin {
        path = Tensor::concat(&[&path, &never(count - begin)?], 1)?;
    }
    let empty = |time: usize| times_of.map(|n| n.iter().map(|&n| n > time).collect::<Vec<bool>>());
    let started = empty(0);
    for time in 1..times {
        let before = |steps: usize| match count.checked_sub(steps) {
            Some(rest) if rest > 0 => Tensor::concat(&[&never(steps)?, &path.narrow(1, 0, rest)?], 1),
            _ => never(count),
        };
        let ways = Tensor::stack(&[&path, &before(1)?, &before(2)?.add(&skip)?], 0)?;
        let next = ways.logsumexp(0, false)?.add(&emitted.select(0, time as isize)?)?;
        path = match empty(time) {
            Some(going) if going.contains(&false) => {
                Tensor::from_slice(ctx, &going, [batch, 1])?.where_(&next, &path)?
            }
            _ => next,
        };
    }

    // At the end, it is at the last label or in the blank after it.
    let ends = |n: &usize| [2 * *n as i64, (2 * *n as i64 - 1).max(0)];
    let ends: Vec<i64> = labels.lengths.iter().flat_map(ends).collect();
    let last = path.gather(1, &Tensor::from_slice(ctx, &ends, [batch, 2])?)?;
    // An empty label has no last label.
    let none: Vec<bool> = labels.lengths.iter().flat_map(|&n| [false, n == 0]).collect();
    let last = last.masked_fill(&Tensor::from_slice(ctx, &none, [batch, 2])?, NEVER)?;
    let total = last.logsumexp(1, false)?;
    let Some(started) = started.filter(|s| s.contains(&false)) else { return Ok(total) };
    // No times at all spell the empty label only.
    let nothing: Vec<f64> = labels.lengths.iter().map(|&n| if n == 0 { 0.0 } else { NEVER }).collect();
    let nothing = Tensor::from_slice(ctx, &nothing, [batch])?.cast(dtype)?;
    Tensor::from_slice(ctx, &started, [batch])?.where_(&total, &nothing)
}

impl<B: Backend> Loss<B> for CTCLoss {
    fn loss_weighted(
        &self,
        prediction: &Tensor<B>,
        label: &Tensor<B>,
        sample_weight: Option<&Tensor<B>>,
    ) -> Result<Tensor<B>> {
        self.loss_with_lengths(prediction, label, None, None, sample_weight)
    }
}
