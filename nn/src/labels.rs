//! Whole numbers that users give as tensors (labels, words, lengths), and labels that are shaped like predictions.

use isograd_core::{Backend, DType, Error, Result, Shape, Tensor, Value, backend::replay};

/// Whole numbers in `least..=most`, of any number dtype, and what counts as none of them.
pub(crate) struct Whole {
    /// The layer, loss or metric.
    pub op: &'static str,
    /// What the numbers are: `label`.
    pub what: &'static str,
    pub least: Option<i64>,
    pub most: Option<i64>,
    /// A number that is left out, whether or not it is in the range.
    pub ignored: Option<i64>,
}

/// Numbers that are fit to be positions.
pub(crate) struct Checked<B: Backend> {
    /// As i64; 0 in place of those that are left out.
    pub numbers: Tensor<B>,
    /// Bool, true for those that are left out; none where nothing can be.
    pub ignored: Option<Tensor<B>>,
}

/// Beyond which no number is taken: a power of two, which every dtype that is compared in holds.
const LARGEST: i64 = 1 << 62;

/// Whether an element is true. Not asked while a device records what it is told to do, since nothing is computed then.
pub(crate) fn any_seen<B: Backend>(bad: &Tensor<B>) -> Result<bool> {
    if replay::is_recording() {
        return Ok(false);
    }
    bad.any((), false)?.asscalar::<bool>()
}

impl Whole {
    /// Numbers of `0..count`.
    pub fn below(op: &'static str, what: &'static str, count: usize) -> Whole {
        Whole { op, what, least: Some(0), most: Some(count as i64 - 1), ignored: None }
    }

    /// Numbers from 0 on.
    pub fn natural(op: &'static str, what: &'static str) -> Whole {
        Whole { op, what, least: Some(0), most: None, ignored: None }
    }

    /// The numbers as i64. Waits for the device, since only a look at them tells; where that cannot be, while a device records
    /// what it is told to do, numbers that do not fit become positions out of range, which the device refuses when it runs.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] with the first number that is none of these, as it was given, and its place.
    pub fn check<B: Backend>(&self, given: &Tensor<B>) -> Result<Checked<B>> {
        let given = given.detach();
        let wide = given.cast(match given.dtype() {
            DType::F64 => DType::F64,
            d if d.is_float() => DType::F32,
            _ => DType::I64,
        })?;
        // What is whole and in the range is equal to itself rounded and brought into the range; NaN is equal to nothing.
        let (least, most) = (self.least.unwrap_or(-LARGEST), self.most.unwrap_or(LARGEST));
        let inside = wide.maximum_scalar(least)?.minimum_scalar(most)?;
        let inside = if wide.dtype().is_float() { inside.floor()? } else { inside };
        let mut bad = wide.not_equal(&inside)?;
        let ignored = self.ignored.map(|ignored| wide.equal_scalar(ignored)).transpose()?;
        if let Some(ignored) = &ignored {
            bad = bad.logical_and(&ignored.logical_not()?)?;
        }
        let numbers = wide.cast(DType::I64)?.masked_fill(&bad, self.most.map_or(-1, |most| most + 1))?;
        let numbers = ignored.as_ref().map_or(Ok(numbers.clone()), |ignored| numbers.masked_fill(ignored, 0))?;
        if any_seen(&bad)? {
            return Err(self.refuse(&given, &bad.to_vec::<bool>()?)?);
        }
        Ok(Checked { numbers, ignored })
    }

    /// [`Whole::check`] of labels that are to have `shape`, as [`like`] says.
    pub fn check_like<B: Backend>(&self, given: &Tensor<B>, shape: &Shape) -> Result<Checked<B>> {
        like(self.op, "the label", given, shape)?;
        let Checked { numbers, ignored } = self.check(given)?;
        let ignored = ignored.map(|ignored| ignored.reshape(shape)).transpose()?;
        Ok(Checked { numbers: numbers.reshape(shape)?, ignored })
    }

    fn refuse<B: Backend>(&self, given: &Tensor<B>, bad: &[bool]) -> Result<Error> {
        let first = bad.iter().position(|&b| b).unwrap_or(0);
        let number = shown(given.to_values()?[first]);
        let mut at = vec![0; given.rank()];
        let mut rest = first;
        for (place, size) in at.iter_mut().zip(given.shape().iter()).rev() {
            (*place, rest) = (rest % size, rest / size);
        }
        let range = match (self.least, self.most) {
            (Some(least), Some(most)) => format!(" from {least} to {most}"),
            (Some(least), None) => format!(" from {least} on"),
            _ => String::new(),
        };
        let but = self.ignored.map_or(String::new(), |ignored| format!(", or {ignored} for what is left out"));
        let why = format!("{} {number} at {at:?} does not fit; whole numbers{range} do{but}", self.what);
        Ok(Error::invalid(self.op, why))
    }
}

/// A number as it was written.
pub(crate) fn shown(value: Value) -> String {
    match value {
        Value::F64(v) => v.to_string(),
        Value::F16(_) | Value::BF16(_) | Value::F32(_) => (value.to_f64() as f32).to_string(),
        whole => whole.to_i64().to_string(),
    }
}

/// `given`, which is as large as a prediction of `shape`, in that shape: axes of size 1 may be left out or added.
///
/// # Errors
/// [`Error::ShapeMismatch`] for any other shape, of as many elements or not.
pub(crate) fn like<B: Backend>(op: &'static str, what: &str, given: &Tensor<B>, shape: &Shape) -> Result<Tensor<B>> {
    let long = |shape: &Shape| -> Vec<usize> { shape.iter().copied().filter(|&n| n != 1).collect() };
    if given.shape() != shape && (given.rank() == shape.rank() || long(given.shape()) != long(shape)) {
        return Err(Error::ShapeMismatch {
            op,
            left: shape.clone(),
            right: given.shape().clone(),
            why: format!("{what} must have the first shape; only axes of size 1 may be left out or added"),
            device: given.ctx().name(),
        });
    }
    given.reshape(shape)
}
