//! One number with a bound on the error of whatever computes it: running error analysis (Wilkinson, *Error analysis
//! revisited*, 1986; Higham, *Accuracy and stability of numerical algorithms*, section 3.3), in f64.

use super::functions;
use crate::bounds;
use isograd_core::{
    DType, Value,
    expr::{Binary, Unary, scalar},
};

/// The exact result, as near as f64 comes to it, and how far a conforming backend may be from it. Floating numbers are
/// held as f64, whatever their dtype; others as they are, with error 0, or infinite where rounding decides them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cell {
    /// The number.
    pub value: Value,
    /// The greatest distance from it that is right. Infinite: anything is.
    pub error: f64,
    /// Whether a zero may have either sign: it went through a sum, a maximum, or anything that rounded.
    pub unsigned: bool,
}

/// What rounding decides.
const OPEN: f64 = f64::INFINITY;

impl Cell {
    /// A number that is known exactly.
    pub fn exact(value: Value) -> Cell {
        let value = if value.dtype().is_float() { Value::F64(value.to_f64()) } else { value };
        Cell { value, error: 0.0, unsigned: false }
    }

    pub(super) fn float(v: f64, error: f64) -> Cell {
        let error = if error.is_nan() { OPEN } else { error };
        Cell { value: Value::F64(v), error, unsigned: false }
    }

    /// The same, with the sign of a zero free where `free`.
    pub(super) fn free(self, free: bool) -> Cell {
        Cell { unsigned: self.unsigned || free, ..self }
    }

    /// Whether the sign of a zero made of this number is free.
    fn loose(self) -> bool {
        self.unsigned || self.error > 0.0
    }

    fn or_open(value: Value, open: bool) -> Cell {
        Cell { value, error: if open { OPEN } else { 0.0 }, unsigned: false }
    }

    pub(super) fn number(self) -> f64 {
        self.value.to_f64()
    }

    fn ends(self) -> [f64; 2] {
        [self.number() - self.error, self.number() + self.error]
    }

    /// This number after an operation in `dtype` that may err by `units` in the last place.
    pub(super) fn rounded(self, dtype: DType, units: f64) -> Cell {
        let v = self.number();
        if v.is_nan() || v.is_infinite() || units == 0.0 || self.error == OPEN {
            return self;
        }
        let exact = self.error == 0.0 && units == 0.5 && Value::F64(v).cast(dtype).to_f64() == v && dtype != DType::F64;
        let error = if exact { 0.0 } else { self.error + units * bounds::ulp(dtype, v.abs() + self.error) };
        let limit = bounds::overflow(dtype);
        if v.abs() - error >= limit {
            Cell::float(f64::INFINITY.copysign(v), 0.0)
        } else {
            Cell::float(v, if v.abs() + error >= limit { OPEN } else { error }).free(self.unsigned)
        }
    }
}

/// The farthest that `f` gets from `at` over the `ends`; open where it leaves its domain.
fn spread(at: f64, ends: impl IntoIterator<Item = f64>) -> f64 {
    ends.into_iter().fold(0.0, |worst: f64, f| {
        let d = if f == at { 0.0 } else { (f - at).abs() };
        if d.is_nan() { OPEN } else { worst.max(d) }
    })
}

/// A primitive of one argument.
pub(super) fn unary(op: Unary, dtype: DType, x: Cell) -> Cell {
    if !dtype.is_float() {
        return Cell::or_open(scalar::unary(op, x.value), x.error > 0.0);
    }
    let at = functions::unary_f64(op, x.number());
    if x.error == OPEN {
        return Cell::float(at, OPEN);
    }
    let carried = match op {
        _ if x.error == 0.0 => 0.0,
        Unary::Neg | Unary::Abs | Unary::Relu => x.error,
        Unary::Sin | Unary::Cos => x.error.min(2.0),
        _ => spread(at, x.ends().map(|v| functions::unary_f64(op, v))),
    };
    // A result that all arguments share, such as exp 0, is still subject to the function's own error.
    let free = x.loose() || op == Unary::Relu;
    Cell::float(at, carried).rounded(dtype, bounds::unary(op, dtype)).free(free && op != Unary::Abs)
}

/// A primitive of two arguments of `dtype`.
pub(super) fn binary(op: Binary, dtype: DType, a: Cell, b: Cell) -> Cell {
    let known = a.error == 0.0 && b.error == 0.0;
    if !dtype.is_float() {
        let value = scalar::binary(op, a.value, b.value);
        let settled = |c: Cell, decides: bool| c.error == 0.0 && c.value == Value::Bool(decides);
        let open = match op {
            _ if known => false,
            Binary::And if dtype == DType::Bool && (settled(a, false) || settled(b, false)) => {
                return Cell::exact(Value::Bool(false));
            }
            Binary::Or if dtype == DType::Bool && (settled(a, true) || settled(b, true)) => {
                return Cell::exact(Value::Bool(true));
            }
            _ => true,
        };
        return Cell::or_open(value, open);
    }
    let (x, y) = (a.number(), b.number());
    if op.is_comparison() {
        let near = !known
            && !x.is_nan()
            && !y.is_nan()
            && ((x - y).abs() <= a.error + b.error || (x - y).is_nan() || (a.error + b.error).is_nan());
        return Cell::or_open(scalar::binary(op, a.value, b.value), near);
    }
    let at = functions::binary_f64(op, x, y);
    let corners = || a.ends().into_iter().flat_map(|p| b.ends().map(|q| functions::binary_f64(op, p, q)));
    let carried = if known {
        0.0
    } else if a.error == OPEN || b.error == OPEN {
        OPEN
    } else {
        match op {
            Binary::Add | Binary::Sub | Binary::Hypot => a.error + b.error,
            Binary::Mul => times(x, b.error) + times(y, a.error) + a.error * b.error,
            Binary::Max | Binary::Min => a.error.max(b.error),
            Binary::Div if y.abs() > b.error => (a.error + times(at, b.error)) / (y.abs() - b.error),
            Binary::Div => OPEN,
            Binary::Rem => {
                let quotients: Vec<f64> =
                    a.ends().into_iter().flat_map(|p| b.ends().map(|q| (p / q).floor())).collect();
                if quotients.iter().all(|&q| q == quotients[0]) { a.error + times(quotients[0], b.error) } else { OPEN }
            }
            _ => spread(at, corners()),
        }
    };
    let free = a.loose() || b.loose() || matches!(op, Binary::Max | Binary::Min);
    Cell::float(at, carried).rounded(dtype, bounds::binary(op, dtype)).free(free)
}

/// |v| times an error; 0 when there is no error, even if v is infinite.
fn times(v: f64, error: f64) -> f64 {
    if error == 0.0 { 0.0 } else { v.abs() * error }
}

/// One or the other.
pub(super) fn select(condition: Cell, a: Cell, b: Cell) -> Cell {
    if condition.error == 0.0 {
        return if condition.value.to_bool() { a } else { b };
    }
    if a.value == b.value {
        return Cell { value: a.value, error: a.error.max(b.error), unsigned: true };
    }
    if !a.value.dtype().is_float() {
        return Cell::or_open(a.value, true);
    }
    Cell::float(a.number(), a.error.max((a.number() - b.number()).abs() + b.error)).free(true)
}

/// The same number in another dtype.
pub(super) fn convert(x: Cell, from: DType, to: DType) -> Cell {
    match (from.is_float(), to.is_float()) {
        (true, true) if bounds::format(to).0 >= bounds::format(from).0 => x,
        (true, true) => x.rounded(to, 0.5),
        (true, false) => {
            let at = x.value.cast(to);
            let open = x.error > 0.0 && (x.error == OPEN || x.ends().iter().any(|&v| Value::F64(v).cast(to) != at));
            Cell::or_open(at, open)
        }
        (false, true) => {
            let v = x.value.to_f64();
            let exact = x.value.cast(to).to_f64() == v && v.abs() < 9e15;
            Cell::float(v, if x.error > 0.0 { OPEN } else { 0.0 }).rounded(to, if exact { 0.0 } else { 0.5 })
        }
        (false, false) => Cell::or_open(x.value.cast(to), x.error > 0.0),
    }
}

/// Terms that are added up in any order, in `dtype`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sum {
    dtype: DType,
    total: f64,
    /// What the total's rounding lost (Neumaier), so that f64 sums are nearly exact.
    lost: f64,
    magnitude: f64,
    error: f64,
    terms: usize,
}

impl Sum {
    pub fn new(dtype: DType, first: Cell) -> Sum {
        let v = first.number();
        Sum { dtype, total: v, lost: 0.0, magnitude: v.abs() + first.error, error: first.error, terms: 1 }
    }

    pub fn add(&mut self, term: Cell) {
        let v = term.number();
        let sum = self.total + v;
        if sum.is_finite() {
            self.lost += if self.total.abs() >= v.abs() { (self.total - sum) + v } else { (v - sum) + self.total };
        }
        self.total = sum;
        self.magnitude += v.abs() + term.error;
        self.error += term.error;
        self.terms += 1;
    }

    /// (n - 1) u Σ|terms| bounds the error of adding in any order (Higham, section 4.2).
    pub fn cell(&self) -> Cell {
        let v = self.total + if self.total.is_finite() { self.lost } else { 0.0 };
        if !v.is_finite() {
            return Cell::float(v, if self.error > 0.0 { OPEN } else { 0.0 });
        }
        let unit = bounds::power_of_two(-bounds::format(self.dtype).0);
        let error = self.error + (self.terms - 1) as f64 * unit * self.magnitude * 1.001;
        let limit = bounds::overflow(self.dtype);
        Cell::float(v, if self.magnitude + error >= limit { OPEN } else { error })
    }
}

/// The product of terms in any order: relative errors add up.
pub(super) fn product(dtype: DType, terms: &[Cell]) -> Cell {
    let v: f64 = terms.iter().map(|t| t.number()).product();
    if terms.len() == 1 {
        return terms[0];
    }
    if terms.iter().any(|t| t.error == OPEN) {
        return Cell::float(v, OPEN);
    }
    let (bits, least) = bounds::format(dtype);
    let (mut above, mut below, mut relative) = (0.0, 0.0, 0.0);
    for t in terms {
        let (size, log) = (t.number().abs(), t.number().abs().log2());
        if size != 0.0 {
            above += log.max(0.0);
            below += log.min(0.0);
        }
        relative += if t.error == 0.0 { 0.0 } else { t.error / size };
    }
    let special = terms.iter().any(|t| !t.number().is_finite());
    // Whether it leaves the range on the way depends on the order.
    if above >= -least as f64
        || (below <= least as f64 && v != 0.0)
        || (special && !v.is_nan() && below <= least as f64)
    {
        return Cell::float(v, OPEN);
    }
    let zero = terms.iter().any(|t| t.number() == 0.0);
    if zero && terms.iter().all(|t| t.error == 0.0) || special {
        return Cell::float(v, 0.0);
    }
    relative += (terms.len() - 1) as f64 * bounds::power_of_two(-bits);
    // First order and a little; nothing is claimed where that is no longer small.
    Cell::float(v, if relative < 0.01 { v.abs() * relative * 1.01 } else { OPEN })
}
