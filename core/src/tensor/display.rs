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

/// The shortest decimal that rounds back to `v` in its own dtype, at most 8 digits after the point, and its split at the
/// point.
fn decimal(v: Value) -> String {
    let shortest = match v {
        Value::F16(v) => format!("{v}"),
        Value::BF16(v) => format!("{v}"),
        Value::F32(v) => format!("{v}"),
        v => format!("{}", v.to_f64()),
    };
    match shortest.split_once('.') {
        Some((_, fraction)) if fraction.len() > 8 => {
            let cut = format!("{:.8}", v.to_f64());
            let cut = cut.trim_end_matches('0');
            cut.to_string()
        }
        Some(_) => shortest,
        None => shortest + ".",
    }
}

/// Digits of a number in scientific notation, `1.5e+10`.
fn scientific(v: Value) -> String {
    let shortest = match v {
        Value::F16(v) => format!("{:e}", v.to_f32()),
        Value::BF16(v) => format!("{:e}", v.to_f32()),
        Value::F32(v) => format!("{v:e}"),
        v => format!("{:e}", v.to_f64()),
    };
    let (mantissa, exponent) = shortest.split_once('e').unwrap_or((&shortest, "0"));
    let mut mantissa = mantissa.to_string();
    if !mantissa.contains('.') {
        mantissa.push('.');
    }
    if let Some((whole, fraction)) = mantissa.clone().split_once('.')
        && fraction.len() > 8
    {
        mantissa = format!("{whole}.{}", fraction[..8].trim_end_matches('0'));
    }
    let exponent: i32 = exponent.parse().unwrap_or(0);
    format!("{mantissa}e{}{:02}", if exponent < 0 { '-' } else { '+' }, exponent.abs())
}

/// All numbers in one format and width, by NumPy's rules.
fn columns(values: &[Value]) -> Vec<String> {
    let texts: Vec<String> = if values.first().is_some_and(|v| v.dtype().is_float()) {
        let finite: Vec<f64> = values.iter().map(|v| v.to_f64().abs()).filter(|v| v.is_finite() && *v > 0.0).collect();
        let (low, high) = finite.iter().fold((f64::INFINITY, 0.0f64), |(l, h), &v| (l.min(v), h.max(v)));
        let exponential = !finite.is_empty() && (high >= 1e8 || low < 1e-4 || high / low > 1e3);
        let format: fn(Value) -> String = if exponential { scientific } else { decimal };
        let plain: Vec<String> =
            values.iter().map(|&v| if v.to_f64().is_finite() { format(v) } else { special(v) }).collect();
        // Points are aligned by filling up after them.
        let tail = |s: &str| s.split_once('.').map_or(0, |(_, f)| f.len());
        let widest =
            plain.iter().zip(values).filter(|(_, v)| v.to_f64().is_finite()).map(|(s, _)| tail(s)).max().unwrap_or(0);
        let any = plain.iter().any(|s| s.contains('.'));
        plain
            .into_iter()
            .zip(values)
            .map(|(s, v)| match (v.to_f64().is_finite(), exponential) {
                (true, false) => format!("{s}{}", " ".repeat(widest - tail(&s))),
                (true, true) => s,
                (false, _) => {
                    format!("{s}{}", if any && !exponential { " ".repeat(widest + 1) } else { String::new() })
                }
            })
            .collect()
    } else {
        values
            .iter()
            .map(|v| {
                if v.dtype() == DType::Bool { if v.to_bool() { "True" } else { "False" }.into() } else { v.to_string() }
            })
            .collect()
    };
    let width = texts.iter().map(String::len).max().unwrap_or(0);
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
        let texts = columns(&part.to_values()?);
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
    let mut column = depth + 1;
    for (i, index) in axis.iter().enumerate() {
        if i > 0 && !last {
            out.push('\n');
            out.push_str(&"\n".repeat(axes.len() - depth - 2));
            out.push_str(&" ".repeat(depth + 1));
        }
        match index {
            None => {
                out.push_str(if last { " ..." } else { "..." });
                column += 4;
            }
            Some(_) if last => {
                let text = next.next().expect("as many numbers as are shown");
                if i > 0 && column + 1 + text.len() > WIDTH {
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
            Some(_) => write_axis(axes, depth + 1, next, out),
        }
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
