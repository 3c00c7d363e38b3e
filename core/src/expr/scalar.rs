//! The meaning of each primitive on one element: the definition that every backend is measured against.

use super::{
    Binary, Unary,
    mathematics::{self, Part},
};
use crate::{DType, Value};

/// Philox 4x32-10 (Salmon et al., *Parallel random numbers: as easy as 1, 2, 3*, SC 2011): four random words from a key
/// and a counter. The counter's upper 64 bits are 0.
///
/// ```
/// // The published vector for key and counter 0.
/// assert_eq!(isograd::expr::scalar::philox(0, 0), [0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8]);
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

macro_rules! floats {
    ($float:ident, $unary:ident, $unary_function:ident, $binary:ident, $binary_function:ident, $of_one:ident, $of_two:ident) => {
        #[doc = concat!("A primitive of one ", stringify!($float), ", for arguments of [`Part::Near`]. Inlined, with `op` a constant.")]
        #[inline(always)]
        pub fn $of_one(op: Unary, x: $float) -> $float {
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
                Unary::Floor => x.floor(),
                Unary::Ceil => x.ceil(),
                Unary::Trunc => x.trunc(),
                Unary::Round => x.round_ties_even(),
                Unary::Not => $float::NAN,
                op => mathematics::$unary_function(op, Part::Near, x),
            }
        }

        #[doc = concat!("A primitive of one ", stringify!($float), ". `Not` gives NaN.")]
        pub fn $unary(op: Unary, x: $float) -> $float {
            match op.near(<$float as crate::Element>::DTYPE) {
                Some(limit) if x.abs() > limit as $float => mathematics::$unary_function(op, Part::Far, x),
                _ => $of_one(op, x),
            }
        }

        #[doc = concat!("An arithmetic primitive of two ", stringify!($float), " (not a comparison, not a bitwise one).")]
        #[doc = "Inlined, with `op` a constant."]
        #[inline(always)]
        pub fn $of_two(op: Binary, a: $float, b: $float) -> $float {
            match op {
                Binary::Add => a + b,
                Binary::Sub => a - b,
                Binary::Mul => a * b,
                Binary::Div => a / b,
                Binary::Rem => {
                    // a - floor(a / b) * b without rounding in between: fmod, moved to the sign of b.
                    let r = a % b;
                    if r == 0.0 {
                        $float::copysign(0.0, b)
                    } else if (r < 0.0) != (b < 0.0) {
                        r + b
                    } else {
                        r
                    }
                }
                // Written so that it becomes a compare and two blends: the sum is NaN exactly where one of them is, or for
                // opposite infinities, which the comparison decides first.
                Binary::Max => {
                    if a > b {
                        a
                    } else if a <= b {
                        b
                    } else {
                        a + b
                    }
                }
                Binary::Min => {
                    if a < b {
                        a
                    } else if a >= b {
                        b
                    } else {
                        a + b
                    }
                }
                op => mathematics::$binary_function(op, a, b),
            }
        }

        #[doc = concat!("An arithmetic primitive of two ", stringify!($float), "; others give NaN.")]
        pub fn $binary(op: Binary, a: $float, b: $float) -> $float {
            $of_two(op, a, b)
        }
    };
}
floats!(f32, unary_f32, unary_single, binary_f32, binary_single, of_one_f32, of_two_f32);
floats!(f64, unary_f64, unary_double, binary_f64, binary_double, of_one_f64, of_two_f64);

/// The first two multiplied, plus the third, rounded once. f16 and bf16 are computed in f32.
pub fn mul_add(a: Value, b: Value, c: Value) -> Value {
    match (a, b, c) {
        (Value::F64(a), Value::F64(b), Value::F64(c)) => Value::F64(a.mul_add(b, c)),
        (Value::F32(a), Value::F32(b), Value::F32(c)) => Value::F32(a.mul_add(b, c)),
        _ => {
            let wide = |v: Value| v.cast(DType::F32).to_f64() as f32;
            Value::F32(wide(a).mul_add(wide(b), wide(c))).cast(a.dtype())
        }
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
        Value::F32(v) => Value::F32(unary_f32(op, v)),
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
        (Value::F32(x), Value::F32(y)) => Value::F32(binary_f32(op, x, y)),
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
        let rem = |a, b| binary_f64(Binary::Rem, a, b);
        assert_eq!(rem(-7.0, 3.0), 2.0);
        assert_eq!(rem(7.0, -3.0), -2.0);
        assert!(rem(-6.0, 3.0).is_sign_positive());
        assert!(rem(1.0, 0.0).is_nan());
        assert_eq!(binary_f32(Binary::Rem, -7.0, 3.0), 2.0);
    }
}
