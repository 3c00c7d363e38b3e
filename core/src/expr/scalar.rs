//! The meaning of each primitive on one element: the definition that every backend is measured against.
//!
//! Transcendental functions of an f32 are computed in f64 and rounded once, so this is an oracle for f32 as well.

use super::{Binary, Unary};
use crate::{DType, Value};

/// Philox 4x32-10 (Salmon et al., *Parallel random numbers: as easy as 1, 2, 3*, SC 2011): four random words from a key
/// and a counter. The counter's upper 64 bits are 0.
///
/// ```
/// // The published vector for key and counter 0.
/// assert_eq!(isograd_core::expr::scalar::philox(0, 0), [0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8]);
/// ```
#[inline(always)]
pub fn philox(key: u64, counter: u64) -> [u32; 4] {
    let mut c = [counter as u32, (counter >> 32) as u32, 0, 0];
    let mut k = [key as u32, (key >> 32) as u32];
    for _ in 0..10 {
        let a = 0xD251_1F53u64 * c[0] as u64;
        let b = 0xCD9E_8D57u64 * c[2] as u64;
        c = [(b >> 32) as u32 ^ c[1] ^ k[0], b as u32, (a >> 32) as u32 ^ c[3] ^ k[1], a as u32];
        k = [k[0].wrapping_add(0x9E37_79B9), k[1].wrapping_add(0xBB67_AE85)];
    }
    c
}

/// 1/(1 + e^-x) without overflow, accurate to the last places for negative x too.
pub fn sigmoid(x: f64) -> f64 {
    let e = (-x.abs()).exp();
    if x >= 0.0 { 1.0 / (1.0 + e) } else { e / (1.0 + e) }
}

/// log(1 + e^x) without overflow. NaN stays NaN.
pub fn softplus(x: f64) -> f64 {
    if x > 0.0 { x + (-x).exp().ln_1p() } else { x.exp().ln_1p() }
}

/// The inverse of erf: a starting value by Giles (*Approximating the erfinv function*, GPU Computing Gems 2, 2011), then
/// Newton steps on erf or, in the tails, on erfc.
pub fn erfinv(y: f64) -> f64 {
    if !(-1.0..=1.0).contains(&y) {
        return f64::NAN;
    }
    if y.abs() == 1.0 {
        return f64::INFINITY.copysign(y);
    }
    if y == 0.0 {
        return y;
    }
    let a = y.abs();
    let w = -((1.0 - a) * (1.0 + a)).ln();
    let mut x = if w < 5.0 {
        let w = w - 2.5;
        [
            2.81022636e-08,
            3.43273939e-07,
            -3.5233877e-06,
            -4.39150654e-06,
            0.00021858087,
            -0.00125372503,
            -0.00417768164,
            0.246640727,
            1.50140941,
        ]
        .into_iter()
        .fold(0.0, |p, c| p * w + c)
    } else if w > 16.0 {
        // Beyond what the polynomials cover: from erfc(x) ~ e^-x² / (x √π).
        let tail = -(1.0 - a).ln();
        (tail - 0.5 * (std::f64::consts::PI * tail).ln()).sqrt() / a
    } else {
        let w = w.sqrt() - 3.0;
        [
            -0.000200214257,
            0.000100950558,
            0.00134934322,
            -0.00367342844,
            0.00573950773,
            -0.0076224613,
            0.00943887047,
            1.00167406,
            2.83297682,
        ]
        .into_iter()
        .fold(0.0, |p, c| p * w + c)
    } * a;
    for _ in 0..4 {
        // 1 - a is exact for a >= 0.5, so the tail loses nothing.
        let excess = if a < 0.5 { libm::erf(x) - a } else { (1.0 - a) - libm::erfc(x) };
        let slope = std::f64::consts::FRAC_2_SQRT_PI * (-x * x).exp();
        let step = excess / slope;
        x -= step / (1.0 + x * step);
    }
    x.copysign(y)
}

/// A floating primitive of one argument in f64.
pub fn unary_f64(op: Unary, x: f64) -> f64 {
    match op {
        Unary::Neg => -x,
        Unary::Abs => x.abs(),
        Unary::Sign => {
            if x > 0.0 {
                1.0
            } else if x < 0.0 {
                -1.0
            } else {
                x
            }
        }
        Unary::Relu => {
            if x <= 0.0 {
                0.0
            } else {
                x
            }
        }
        Unary::Recip => 1.0 / x,
        Unary::Sqrt => x.sqrt(),
        Unary::Rsqrt => 1.0 / x.sqrt(),
        Unary::Cbrt => x.cbrt(),
        Unary::Exp => x.exp(),
        Unary::Exp2 => x.exp2(),
        Unary::Expm1 => x.exp_m1(),
        Unary::Log => x.ln(),
        Unary::Log2 => x.log2(),
        Unary::Log10 => x.log10(),
        Unary::Log1p => x.ln_1p(),
        Unary::Sin => x.sin(),
        Unary::Cos => x.cos(),
        Unary::Tan => x.tan(),
        Unary::Asin => x.asin(),
        Unary::Acos => x.acos(),
        Unary::Atan => x.atan(),
        Unary::Sinh => x.sinh(),
        Unary::Cosh => x.cosh(),
        Unary::Tanh => x.tanh(),
        Unary::Asinh => libm::asinh(x),
        Unary::Acosh if x < 1.0 => f64::NAN,
        Unary::Acosh => libm::acosh(x),
        Unary::Atanh => libm::atanh(x),
        Unary::Erf => libm::erf(x),
        Unary::Erfinv => erfinv(x),
        Unary::Sigmoid => sigmoid(x),
        Unary::Softplus => softplus(x),
        Unary::Floor => x.floor(),
        Unary::Ceil => x.ceil(),
        Unary::Trunc => x.trunc(),
        Unary::Round => x.round_ties_even(),
        Unary::Not => f64::NAN,
    }
}

/// A primitive of one argument. The result has the argument's dtype.
pub fn unary(op: Unary, x: Value) -> Value {
    macro_rules! int {
        ($v:expr, $variant:ident, $abs:expr, $signum:expr) => {
            Value::$variant(match op {
                Unary::Abs => $abs,
                Unary::Sign => $signum,
                Unary::Relu => $v.max(0),
                Unary::Not => !$v,
                _ => $v,
            })
        };
    }
    match x {
        Value::F64(v) => Value::F64(unary_f64(op, v)),
        Value::F32(v) => Value::F32(unary_f64(op, v as f64) as f32),
        Value::F16(_) | Value::BF16(_) => unary(op, x.cast(DType::F32)).cast(x.dtype()),
        Value::Bool(v) => Value::Bool(if op == Unary::Not { !v } else { v }),
        Value::I32(v) if op == Unary::Neg => Value::I32(v.wrapping_neg()),
        Value::I64(v) if op == Unary::Neg => Value::I64(v.wrapping_neg()),
        Value::U8(v) if op == Unary::Neg => Value::U8(v.wrapping_neg()),
        Value::I8(v) if op == Unary::Neg => Value::I8(v.wrapping_neg()),
        Value::I32(v) => int!(v, I32, v.wrapping_abs(), v.signum()),
        Value::I64(v) => int!(v, I64, v.wrapping_abs(), v.signum()),
        Value::U8(v) => int!(v, U8, v, v.min(1)),
        Value::I8(v) => int!(v, I8, v.wrapping_abs(), v.signum()),
    }
}

/// `a - floor(a / b) * b` without rounding in between: fmod, moved to the sign of `b`.
pub fn floor_mod(a: f64, b: f64) -> f64 {
    let r = a % b;
    if r == 0.0 {
        0.0f64.copysign(b)
    } else if (r < 0.0) != (b < 0.0) {
        r + b
    } else {
        r
    }
}

/// An arithmetic primitive of two arguments in f64 (not a comparison, not a bitwise one).
pub fn binary_f64(op: Binary, a: f64, b: f64) -> f64 {
    match op {
        Binary::Add => a + b,
        Binary::Sub => a - b,
        Binary::Mul => a * b,
        Binary::Div => a / b,
        Binary::Rem => floor_mod(a, b),
        Binary::Pow => a.powf(b),
        Binary::Max if a.is_nan() || b.is_nan() => f64::NAN,
        Binary::Min if a.is_nan() || b.is_nan() => f64::NAN,
        Binary::Max => {
            if a > b {
                a
            } else {
                b
            }
        }
        Binary::Min => {
            if a < b {
                a
            } else {
                b
            }
        }
        Binary::Hypot => a.hypot(b),
        Binary::Atan2 => a.atan2(b),
        _ => f64::NAN,
    }
}

fn compare<T: PartialOrd>(op: Binary, a: T, b: T) -> bool {
    match op {
        Binary::Eq => a == b,
        Binary::Ne => a != b,
        Binary::Lt => a < b,
        Binary::Le => a <= b,
        Binary::Gt => a > b,
        Binary::Ge => a >= b,
        _ => false,
    }
}

/// a^b on integers, wrapping; for a negative exponent 0, but for bases 1 and -1.
pub fn int_pow(a: i64, b: i64) -> i64 {
    if b < 0 {
        return match a {
            1 => 1,
            -1 => 1 - 2 * (b & 1),
            _ => 0,
        };
    }
    let (mut base, mut exponent, mut result) = (a, b as u64, 1i64);
    while exponent > 0 {
        if exponent & 1 == 1 {
            result = result.wrapping_mul(base);
        }
        base = base.wrapping_mul(base);
        exponent >>= 1;
    }
    result
}

/// A primitive of two arguments of one dtype. Comparisons give bool.
pub fn binary(op: Binary, a: Value, b: Value) -> Value {
    macro_rules! int {
        ($a:expr, $b:expr, $variant:ident, $type:ty, $rem:expr) => {
            if op.is_comparison() {
                Value::Bool(compare(op, $a, $b))
            } else {
                Value::$variant(match op {
                    Binary::Add => $a.wrapping_add($b),
                    Binary::Sub => $a.wrapping_sub($b),
                    Binary::Mul => $a.wrapping_mul($b),
                    Binary::Div => {
                        if $b == 0 {
                            0
                        } else {
                            $a.wrapping_div($b)
                        }
                    }
                    Binary::Rem => {
                        if $b == 0 {
                            0
                        } else {
                            $rem
                        }
                    }
                    Binary::Pow => int_pow($a as i64, $b as i64) as $type,
                    Binary::Max => $a.max($b),
                    Binary::Min => $a.min($b),
                    Binary::And => $a & $b,
                    Binary::Or => $a | $b,
                    Binary::Xor => $a ^ $b,
                    Binary::Shl => $a.wrapping_shl($b as u32),
                    Binary::Shr => $a.wrapping_shr($b as u32),
                    _ => $a,
                })
            }
        };
    }
    // The remainder with the sign of b.
    macro_rules! signed_rem {
        ($a:expr, $b:expr) => {{
            let r = $a.wrapping_rem($b);
            if r != 0 && (r < 0) != ($b < 0) { r.wrapping_add($b) } else { r }
        }};
    }
    match (a, b) {
        (Value::F64(x), Value::F64(y)) if op.is_comparison() => Value::Bool(compare(op, x, y)),
        (Value::F32(x), Value::F32(y)) if op.is_comparison() => Value::Bool(compare(op, x, y)),
        (Value::F64(x), Value::F64(y)) => Value::F64(binary_f64(op, x, y)),
        // f64 has more than twice the bits, so rounding twice is rounding once (for + - * / too).
        (Value::F32(x), Value::F32(y)) => Value::F32(binary_f64(op, x as f64, y as f64) as f32),
        (Value::I32(x), Value::I32(y)) => int!(x, y, I32, i32, signed_rem!(x, y)),
        (Value::I64(x), Value::I64(y)) => int!(x, y, I64, i64, signed_rem!(x, y)),
        (Value::I8(x), Value::I8(y)) => int!(x, y, I8, i8, signed_rem!(x, y)),
        (Value::U8(x), Value::U8(y)) => int!(x, y, U8, u8, x % y),
        (Value::Bool(x), Value::Bool(y)) => Value::Bool(match op {
            Binary::And | Binary::Min => x & y,
            Binary::Or | Binary::Max => x | y,
            Binary::Xor => x ^ y,
            op => compare(op, x, y),
        }),
        _ => binary(op, a.cast(a.dtype().compute()), b.cast(a.dtype().compute())).cast(if op.is_comparison() {
            DType::Bool
        } else {
            a.dtype()
        }),
    }
}

/// The same bits as another dtype of equal size.
pub fn bitcast(v: Value, to: DType) -> Value {
    let mut bytes = [0u8; 8];
    v.write(&mut bytes, 0);
    Value::read(to, &bytes, 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn philox_gives_the_published_vectors() {
        // Random123's kat_vectors, those whose counter has no upper half.
        assert_eq!(philox(0, 0), [0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8]);
        assert_ne!(philox(1, 0), philox(0, 1));
    }

    #[test]
    fn erfinv_inverts_erf() {
        for i in 1..4000 {
            let y = -1.0 + i as f64 / 2000.0;
            let back = libm::erf(erfinv(y));
            assert!((back - y).abs() <= 4e-16, "{y}: {back}");
        }
        for e in 1..52 {
            let y = 1.0 - 2f64.powi(-e);
            let tail = libm::erfc(erfinv(y));
            assert!((tail - (1.0 - y)).abs() <= 1e-13 * (1.0 - y), "{y}");
        }
        assert_eq!(erfinv(1.0), f64::INFINITY);
        assert!(erfinv(1.5).is_nan());
        assert!((erfinv(1e-300) / 1e-300 - 0.886_226_925_452_758).abs() < 1e-12);
    }

    #[test]
    fn integers_never_trap() {
        for op in Binary::ALL {
            for v in [i32::MIN, -1, 0, 1, i32::MAX] {
                for w in [i32::MIN, -1, 0, 1, i32::MAX] {
                    if op.accepts(DType::I32) {
                        binary(*op, Value::I32(v), Value::I32(w));
                        binary(*op, Value::I64(v as i64), Value::I64(w as i64));
                        binary(*op, Value::I8(v as i8), Value::I8(w as i8));
                        binary(*op, Value::U8(v as u8), Value::U8(w as u8));
                    }
                }
            }
        }
        assert_eq!(binary(Binary::Rem, Value::I32(-7), Value::I32(3)), Value::I32(2));
        assert_eq!(binary(Binary::Div, Value::I32(-7), Value::I32(3)), Value::I32(-2));
        assert_eq!(unary(Unary::Neg, Value::I32(i32::MIN)), Value::I32(i32::MIN));
        assert_eq!(unary(Unary::Neg, Value::I32(5)), Value::I32(-5));
    }

    #[test]
    fn remainders_have_the_sign_of_the_divisor() {
        assert_eq!(floor_mod(-7.0, 3.0), 2.0);
        assert_eq!(floor_mod(7.0, -3.0), -2.0);
        assert!(floor_mod(-6.0, 3.0).is_sign_positive());
        assert!(floor_mod(1.0, 0.0).is_nan());
    }
}
