//! What `exp`, `tanh`, `erf` and the other functions *are*: sequences of operations that IEEE 754 rounds in one way, so that
//! they have the same bits wherever they are computed.
//!
//! `double` and `single` hold one definition of each, written over the traits of `number`. Called with `f32` or `f64` a
//! definition computes; [`unary_program`] and [`binary_program`] run it on handles that write the operations down, for
//! backends that print or interpret them. Neither has branches, so compilers make vector instructions of the first.
//!
//! Sine, cosine and tangent come in two [`Part`]s: angles of everyday size take a few operations to reduce, the rest some
//! hundred, which nobody should pay for each element.
//!
//! To add a function: its definition in `double` (or `single`), and its line in the tables below.

mod double;
pub mod number;
mod single;
#[cfg(test)]
mod tests;
mod traced;

pub use double::Part;

use super::{Binary, Expr, Program, Unary};
use crate::{DType, Result};
use number::{Double, Single};
use std::sync::Arc;

impl Unary {
    /// Whether it is defined by a sequence of other primitives: see [`unary_program`].
    pub const fn is_function(self) -> bool {
        use Unary::*;
        !matches!(self, Neg | Abs | Sign | Not | Relu | Recip | Sqrt | Rsqrt | Floor | Ceil | Trunc | Round)
    }

    /// The largest argument of [`Part::Near`], for functions that have parts.
    pub const fn near(self, dtype: DType) -> Option<f64> {
        match (self, dtype) {
            (Unary::Sin | Unary::Cos | Unary::Tan, DType::F64) => Some(double::LARGEST_ANGLE),
            (Unary::Sin | Unary::Cos | Unary::Tan, _) => Some(single::LARGEST_ANGLE as f64),
            _ => None,
        }
    }
}

impl Binary {
    /// Whether it is defined on `dtype` by a sequence of other primitives: see [`binary_program`].
    pub const fn is_function(self, dtype: DType) -> bool {
        dtype.is_float() && matches!(self, Binary::Pow | Binary::Hypot | Binary::Atan2)
    }
}

/// A function of one f64; other primitives give NaN. Inlined, with `op` and `part` constants at each call.
#[inline(always)]
pub fn unary_double<D: Double>(op: Unary, part: Part, x: D) -> D {
    match op {
        Unary::Cbrt => double::cbrt(x),
        Unary::Exp => double::exp(x),
        Unary::Exp2 => double::exp2(x),
        Unary::Expm1 => double::expm1(x),
        Unary::Log => double::log(x),
        Unary::Log2 => double::log2(x),
        Unary::Log10 => double::log10(x),
        Unary::Log1p => double::log1p(x),
        Unary::Sin => double::sin(part, x),
        Unary::Cos => double::cos(part, x),
        Unary::Tan => double::tan(part, x),
        Unary::Asin => double::asin(x),
        Unary::Acos => double::acos(x),
        Unary::Atan => double::atan(x),
        Unary::Sinh => double::sinh(x),
        Unary::Cosh => double::cosh(x),
        Unary::Tanh => double::tanh(x),
        Unary::Asinh => double::asinh(x),
        Unary::Acosh => double::acosh(x),
        Unary::Atanh => double::atanh(x),
        Unary::Erf => double::erf(x),
        Unary::Erfinv => double::erfinv(x),
        Unary::Sigmoid => double::sigmoid(x),
        Unary::Softplus => double::softplus(x),
        _ => D::of(f64::NAN),
    }
}

/// A function of one f32: in f32 where its definition is, else in f64 and rounded once.
#[inline(always)]
pub fn unary_single<S: Single>(op: Unary, part: Part, x: S) -> S {
    match op {
        Unary::Exp => single::exp(x),
        Unary::Exp2 => single::exp2(x),
        Unary::Log => single::log(x),
        Unary::Tanh => single::tanh(x),
        Unary::Sigmoid => single::sigmoid(x),
        Unary::Erf => single::erf(x),
        Unary::Sin => single::sin(part, x),
        Unary::Cos => single::cos(part, x),
        Unary::Tan => single::tan(part, x),
        op => S::narrowed(unary_double(op, part, x.widened())),
    }
}

/// A function of two f64; other primitives give NaN.
#[inline(always)]
pub fn binary_double<D: Double>(op: Binary, a: D, b: D) -> D {
    match op {
        Binary::Pow => double::pow(a, b),
        Binary::Hypot => double::hypot(a, b),
        Binary::Atan2 => double::atan2(a, b),
        _ => D::of(f64::NAN),
    }
}

/// A function of two f32.
#[inline(always)]
pub fn binary_single<S: Single>(op: Binary, a: S, b: S) -> S {
    match op {
        Binary::Pow => S::narrowed(double::pow_of_single(a.widened(), b.widened())),
        Binary::Hypot => single::hypot(a, b),
        op => S::narrowed(binary_double(op, a.widened(), b.widened())),
    }
}

/// The definition of a function of `x`, which must be f32 or f64, in basic operations.
fn unary_expr(op: Unary, part: Part, x: &Expr) -> Expr {
    match x.dtype() {
        DType::F64 => traced::trace::<f64, 1>([x], |[x]| unary_double(op, part, x)),
        _ => traced::trace::<f32, 1>([x], |[x]| unary_single(op, part, x)),
    }
}

/// The definition of a function of `a` and `b`, which must be f32 or f64, in basic operations.
fn binary_expr(op: Binary, a: &Expr, b: &Expr) -> Expr {
    match a.dtype() {
        DType::F64 => traced::trace::<f64, 2>([a, b], |[a, b]| binary_double(op, a, b)),
        _ => traced::trace::<f32, 2>([a, b], |[a, b]| binary_single(op, a, b)),
    }
}

/// The definition of `op` on `dtype` (f32 or f64) as a program of one input, for the arguments of `part`.
///
/// # Errors
/// [`crate::Error::InvalidExpr`] when `dtype` is neither.
///
/// ```
/// use isograd::{DType, Value, expr::{Kernel, Unary, mathematics::{Part, unary_program}, scalar}};
/// let program = unary_program(Unary::Tanh, Part::Near, DType::F32).unwrap();
/// let x = Value::F32(0.3);
/// assert_eq!(Kernel::new(&program, &[]).evaluate(0, &[x], &[])[0], scalar::unary(Unary::Tanh, x));
/// ```
pub fn unary_program(op: Unary, part: Part, dtype: DType) -> Result<Arc<Program>> {
    let x = Expr::input(0, dtype);
    Program::new(op.name(), &[unary_expr(op, part, &x)], &[dtype], &[])
}

/// The definition of `op` on `dtype` (f32 or f64) as a program of two inputs.
///
/// # Errors
/// [`crate::Error::InvalidExpr`] when `dtype` is neither.
pub fn binary_program(op: Binary, dtype: DType) -> Result<Arc<Program>> {
    let (a, b) = (Expr::input(0, dtype), Expr::input(1, dtype));
    Program::new(op.name(), &[binary_expr(op, &a, &b)], &[dtype; 2], &[])
}
