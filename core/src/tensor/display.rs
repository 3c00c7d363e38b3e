//! Printing as NumPy does: columns of equal width, long axes abbreviated, then shape, dtype and device.

use super::Tensor;
use crate::{Backend, DType, Value};
use std::fmt;

/// Tensors of more elements are abbreviated.
const THRESHOLD: usize = 1000;
/// How many elements are shown at either end of an abbreviated axis.
const EDGE: usize = 3;
/// Columns per line.
const WIDTH: usize = 75;

/// Digits after the point, at most.
const PRECISION: usize = 8;

/// The shortest digits that round back to `v` in its own dtype, `1.5` or with an exponent, `1.5e10`.
fn shortest(v: Value, exponent: bool) -> String {
    let v = match v {
        Value::F32(v) => return if exponent { format!("{v:e}") } else { format!("{v}") },
        Value::F16(_) | Value::BF16(_) => fewest_digits(v),
        v => v.to_f64(),
    };
    if exponent { format!("{v:e}") } else { format!("{v}") }
}

/// The f64 with the fewest decimal digits that is `v` in the dtype of `v`; five are enough for f16, four for bf16.
fn fewest_digits(v: Value) -> f64 {
    let exact = v.to_f64();
    let rounded = (0..5).map(|digits| format!("{exact:.digits$e}").parse().unwrap_or(exact));
    rounded.into_iter().find(|&short| Value::F64(short).cast(v.dtype()) == v).unwrap_or(exact)
}

/// Whole part and fraction of a number without exponent, the fraction rounded to [`PRECISION`] digits and without zeros at
/// its end.
fn decimal(v: Value) -> (String, String) {
    let mut text = shortest(v, false);
    if text.split_once('.').is_some_and(|(_, fraction)| fraction.len() > PRECISION) {
        text = format!("{:.PRECISION$}", v.to_f64());
    }
    let (whole, fraction) = text.split_once('.').unwrap_or((&text, ""));
    (whole.into(), fraction.trim_end_matches('0').into())
}

/// Whole part, fraction and exponent of a number in scientific notation.
fn scientific(v: Value) -> (String, String, i32) {
    let mut text = shortest(v, true);
    let fraction = |text: &str| text.split_once('e').and_then(|(m, _)| m.split_once('.').map(|(_, f)| f.len()));
    if fraction(&text).is_some_and(|n| n > PRECISION) {
        text = format!("{:.PRECISION$e}", v.to_f64());
    }
    let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    (whole.into(), fraction.trim_end_matches('0').into(), exponent.parse().unwrap_or(0))
}

/// `e+10`, with at least two digits.
fn exponent(e: i32) -> String {
    format!("e{}{:02}", if e < 0 { '-' } else { '+' }, e.abs())
}

/// A single number, as NumPy prints a scalar.
fn scalar(v: Value) -> String {
    let x = v.to_f64();
    if !v.dtype().is_float() {
        return integer(v);
    }
    if !x.is_finite() {
        return special(v);
    }
    if x != 0.0 && (x.abs() < 1e-4 || x.abs() >= 1e16) {
        let text = shortest(v, true);
        let (mantissa, e) = text.split_once('e').unwrap_or((&text, "0"));
        return format!("{mantissa}{}", exponent(e.parse().unwrap_or(0)));
    }
    let text = shortest(v, false);
    if text.contains('.') { text } else { text + ".0" }
}

fn integer(v: Value) -> String {
    if v.dtype() == DType::Bool { if v.to_bool() { "True" } else { "False" }.into() } else { v.to_string() }
}

/// All numbers in one format and width, by NumPy's rules.
fn columns(values: &[Value]) -> Vec<String> {
    let texts: Vec<String> = if values.first().is_some_and(|v| v.dtype().is_float()) {
        let finite: Vec<Value> = values.iter().copied().filter(|v| v.to_f64().is_finite()).collect();
        let sizes = || finite.iter().map(|v| v.to_f64().abs()).filter(|v| *v > 0.0);
        let (low, high) = sizes().fold((f64::INFINITY, 0.0f64), |(l, h), v| (l.min(v), h.max(v)));
        let exponential = high > 0.0 && (high >= 1e8 || low < 1e-4 || high / low > 1e3);
        // Zeros fill fractions up before an exponent; without one, spaces do.
        let widest = if exponential {
            finite.iter().map(|&v| scientific(v).1.len()).max()
        } else {
            finite.iter().map(|&v| decimal(v).1.len()).max()
        };
        let widest = widest.unwrap_or(0);
        let exponents = finite.iter().map(|&v| exponent(scientific(v).2).len()).max().unwrap_or(0);
        let one = |v: Value| {
            if !v.to_f64().is_finite() {
                special(v)
            } else if exponential {
                let (whole, fraction, e) = scientific(v);
                let e = format!("e{}{:0>2$}", if e < 0 { '-' } else { '+' }, e.abs(), exponents - 2);
                format!("{whole}.{fraction:0<widest$}{e}")
            } else {
                let (whole, fraction) = decimal(v);
                format!("{whole}.{fraction:<widest$}")
            }
        };
        values.iter().map(|&v| one(v)).collect()
    } else {
        values.iter().map(|&v| integer(v)).collect()
    };
    let narrowest = if values.first().is_some_and(|v| v.dtype() == DType::Bool) { "False".len() } else { 0 };
    let width = texts.iter().map(String::len).max().unwrap_or(0).max(narrowest);
    texts.into_iter().map(|t| format!("{t:>width$}")).collect()
}

fn special(v: Value) -> String {
    let v = v.to_f64();
    if v.is_nan() {
        "nan".into()
    } else if v > 0.0 {
        "inf".into()
    } else {
        "-inf".into()
    }
}

/// The indices of an axis that are shown; `None` stands for the dots.
fn shown(size: usize, abbreviate: bool) -> Vec<Option<usize>> {
    if !abbreviate || size <= 2 * EDGE {
        return (0..size).map(Some).collect();
    }
    (0..EDGE).map(Some).chain([None]).chain((size - EDGE..size).map(Some)).collect()
}

impl<B: Backend> Tensor<B> {
    fn numbers(&self) -> crate::Result<String> {
        if self.size() == 0 {
            return Ok("[]".into());
        }
        let abbreviate = self.size() > THRESHOLD;
        let axes: Vec<Vec<Option<usize>>> = self.shape().iter().map(|&n| shown(n, abbreviate)).collect();
        // Only what is shown is fetched.
        let mut part = self.detach();
        for (axis, &n) in self.shape().iter().enumerate() {
            if abbreviate && n > 2 * EDGE {
                let l = part.layout();
                let (head, tail) = (l.slice(axis, 0, EDGE, 1), l.slice(axis, n - EDGE, EDGE, 1));
                part = Tensor::concat(&[&part.view(head), &part.view(tail)], axis as isize)?;
            }
        }
        let values = part.to_values()?;
        if self.rank() == 0 {
            return Ok(scalar(values[0]));
        }
        let texts = columns(&values);
        let mut next = texts.iter();
        let mut out = String::new();
        write_axis(&axes, 0, &mut next, &mut out);
        Ok(out)
    }
}

fn write_axis<'a>(
    axes: &[Vec<Option<usize>>],
    depth: usize,
    next: &mut impl Iterator<Item = &'a String>,
    out: &mut String,
) {
    let Some(axis) = axes.get(depth) else {
        out.push_str(next.next().expect("as many numbers as are shown"));
        return;
    };
    out.push('[');
    let last = depth + 1 == axes.len();
    // A line leaves room for the brackets that may close after it.
    let width = WIDTH - 1 - depth.min(WIDTH - 1);
    let mut column = depth + 1;
    for (i, index) in axis.iter().enumerate() {
        if i > 0 && !last {
            out.push('\n');
            out.push_str(&"\n".repeat(axes.len() - depth - 2));
            out.push_str(&" ".repeat(depth + 1));
        }
        if !last {
            match index {
                None => out.push_str("..."),
                Some(_) => write_axis(axes, depth + 1, next, out),
            }
            continue;
        }
        let text = match index {
            None => "...",
            Some(_) => next.next().expect("as many numbers as are shown"),
        };
        if i > 0 && column + 1 + text.len() > width {
            out.truncate(out.trim_end_matches(' ').len());
            out.push('\n');
            out.push_str(&" ".repeat(depth + 1));
            column = depth + 1;
        } else if i > 0 {
            out.push(' ');
            column += 1;
        }
        out.push_str(text);
        column += text.len();
    }
    out.push(']');
}

impl<B: Backend> fmt::Display for Tensor<B> {
    /// The numbers as NumPy prints them, then a line with shape, dtype and device.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.numbers() {
            Ok(numbers) => {
                write!(f, "{numbers}\n<Tensor {} {} @{}>", join(self.shape()), self.dtype(), self.ctx().name())
            }
            Err(e) => write!(f, "<Tensor {} {} @{}: {e}>", join(self.shape()), self.dtype(), self.ctx().name()),
        }
    }
}

fn join(shape: &[usize]) -> String {
    if shape.is_empty() {
        return "scalar".into();
    }
    shape.iter().map(|n| n.to_string()).collect::<Vec<_>>().join("x")
}

impl<B: Backend> fmt::Debug for Tensor<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
