//! Element types: [`DType`] at run time, [`Element`] at compile time, [`Value`] for one element, [`Scalar`] for a
//! host number that has no dtype yet.
//!
//! To add a dtype: a row in `dtypes!`, a variant of [`Value`] falls out of it; then `host` and the renderer say
//! what the compiler misses.

use crate::{Error, Result};
use half::{bf16, f16};
use std::fmt;

/// A host type that a tensor can hold. Implemented for `f16`, `bf16`, `f32`, `f64`, `i32`, `i64`, `u8`, `i8`, `bool`.
///
/// ```
/// use isograd::{DType, Element};
/// assert_eq!(<f32 as Element>::DTYPE, DType::F32);
/// assert_eq!(i8::from_value(isograd::Value::F32(3.7)), 3);
/// ```
pub trait Element:
    Copy
    + PartialEq
    + PartialOrd
    + Default
    + fmt::Debug
    + fmt::Display
    + bytemuck::NoUninit
    + bytemuck::CheckedBitPattern
    + Send
    + Sync
    + 'static
{
    /// The run-time name of this type.
    const DTYPE: DType;
    /// This element as a typed value.
    fn to_value(self) -> Value;
    /// The element nearest to `value`, by the rules of [`Value::cast`].
    fn from_value(value: Value) -> Self;
}

/// An [`Element`] with arithmetic (every one but `bool`).
pub trait Number: Element + num_traits::Num + num_traits::NumCast {}
impl<T: Element + num_traits::Num + num_traits::NumCast> Number for T {}

/// An [`Element`] with real arithmetic: `f16`, `bf16`, `f32`, `f64`.
pub trait Float: Number + num_traits::Float {}
impl<T: Number + num_traits::Float> Float for T {}

macro_rules! dtypes {
    ($($variant:ident $type:ty, $name:literal, $size:literal, $doc:literal;)*) => {
        /// The type of a tensor's elements, known at run time.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum DType { $(#[doc = $doc] $variant),* }

        impl DType {
            /// Every dtype, in the order of the enum.
            pub const ALL: [DType; 9] = [$(DType::$variant),*];

            /// Bytes per element.
            pub const fn size(self) -> usize {
                match self { $(DType::$variant => $size),* }
            }

            /// NumPy's name, such as `float32`.
            pub const fn name(self) -> &'static str {
                match self { $(DType::$variant => $name),* }
            }
        }

        /// One element together with its dtype.
        #[derive(Clone, Copy, Debug)]
        pub enum Value { $(#[doc = $doc] $variant($type)),* }

        impl Value {
            /// The dtype of this value.
            pub const fn dtype(self) -> DType {
                match self { $(Value::$variant(_) => DType::$variant),* }
            }

            /// Reads the element number `index` of `bytes`, which hold elements of `dtype`.
            ///
            /// # Panics
            /// Panics when the element does not lie within `bytes`, or is a bool that is neither 0 nor 1.
            pub fn read(dtype: DType, bytes: &[u8], index: usize) -> Value {
                let at = index * dtype.size();
                match dtype {
                    $(DType::$variant => Value::$variant(bytemuck::checked::pod_read_unaligned(
                        &bytes[at..at + $size])),)*
                }
            }

            /// Writes this value as element number `index` of `bytes`.
            ///
            /// # Panics
            /// Panics when the element does not lie within `bytes`.
            pub fn write(self, bytes: &mut [u8], index: usize) {
                match self {
                    $(Value::$variant(v) => bytes[index * $size..(index + 1) * $size]
                        .copy_from_slice(bytemuck::bytes_of(&v)),)*
                }
            }
        }

        $(impl Element for $type {
            const DTYPE: DType = DType::$variant;
            #[inline]
            fn to_value(self) -> Value { Value::$variant(self) }
            #[inline]
            fn from_value(value: Value) -> Self {
                match value.cast(DType::$variant) { Value::$variant(v) => v, _ => unreachable!("cast gives the dtype asked for") }
            }
        }
        impl From<$type> for Value {
            fn from(v: $type) -> Value { Value::$variant(v) }
        })*
    };
}

dtypes! {
    F16 f16, "float16", 2, "IEEE half precision. Stored as such, computed in f32.";
    BF16 bf16, "bfloat16", 2, "The upper half of an f32. Stored as such, computed in f32.";
    F32 f32, "float32", 4, "IEEE single precision; the default of every layer.";
    F64 f64, "float64", 8, "IEEE double precision.";
    I32 i32, "int32", 4, "Signed 32-bit integer, wrapping.";
    I64 i64, "int64", 8, "Signed 64-bit integer, wrapping; the dtype of indices.";
    U8 u8, "uint8", 1, "Unsigned byte, wrapping.";
    I8 i8, "int8", 1, "Signed byte, wrapping.";
    Bool bool, "bool", 1, "One byte, 0 or 1.";
}

impl fmt::Debug for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl std::str::FromStr for DType {
    type Err = Error;

    /// NumPy's names (`float32`) and Rust's (`f32`).
    fn from_str(s: &str) -> Result<DType> {
        let short = |d: DType| match d {
            DType::F16 => "f16",
            DType::BF16 => "bf16",
            DType::F32 => "f32",
            DType::F64 => "f64",
            DType::I32 => "i32",
            DType::I64 => "i64",
            DType::U8 => "u8",
            DType::I8 => "i8",
            DType::Bool => "bool",
        };
        DType::ALL
            .into_iter()
            .find(|d| d.name() == s || short(*d) == s)
            .ok_or_else(|| Error::invalid("dtype", format!("there is no dtype {s:?}; the dtypes are {:?}", DType::ALL)))
    }
}

impl DType {
    /// Whether this is one of the four floating dtypes, those that have gradients.
    pub const fn is_float(self) -> bool {
        matches!(self, DType::F16 | DType::BF16 | DType::F32 | DType::F64)
    }

    /// Whether this is a signed or unsigned integer (not `bool`).
    pub const fn is_int(self) -> bool {
        matches!(self, DType::I32 | DType::I64 | DType::U8 | DType::I8)
    }

    /// The dtype that arithmetic on this one is carried out in: f32 for f16 and bf16, otherwise the dtype itself.
    pub const fn compute(self) -> DType {
        match self {
            DType::F16 | DType::BF16 => DType::F32,
            d => d,
        }
    }
}

impl Value {
    /// Zero of `dtype` (false for bool).
    pub fn zero(dtype: DType) -> Value {
        Value::I64(0).cast(dtype)
    }

    /// One of `dtype` (true for bool).
    pub fn one(dtype: DType) -> Value {
        Value::I64(1).cast(dtype)
    }

    /// This value as an f64 (exact but for large i64).
    pub fn to_f64(self) -> f64 {
        match self {
            Value::F16(v) => v.to_f64(),
            Value::BF16(v) => v.to_f64(),
            Value::F32(v) => v as f64,
            Value::F64(v) => v,
            Value::I32(v) => v as f64,
            Value::I64(v) => v as f64,
            Value::U8(v) => v as f64,
            Value::I8(v) => v as f64,
            Value::Bool(v) => v as u8 as f64,
        }
    }

    /// This value as the nearest f32.
    pub fn to_f32(self) -> f32 {
        match self {
            Value::F32(v) => v,
            // By way of f64 it would be rounded twice.
            Value::I64(v) => v as f32,
            v => v.to_f64() as f32,
        }
    }

    /// This value as an i64: truncated toward zero, saturating, NaN becomes 0.
    pub fn to_i64(self) -> i64 {
        match self {
            Value::I32(v) => v as i64,
            Value::I64(v) => v,
            Value::U8(v) => v as i64,
            Value::I8(v) => v as i64,
            Value::Bool(v) => v as i64,
            v => v.to_f64() as i64,
        }
    }

    /// Whether this value is not zero (NaN is not zero).
    pub fn to_bool(self) -> bool {
        match self {
            Value::Bool(v) => v,
            v if v.dtype().is_float() => v.to_f64() != 0.0,
            v => v.to_i64() != 0,
        }
    }

    /// The same number in another dtype. Float to integer truncates toward zero and saturates, NaN becomes 0;
    /// integer to a smaller integer wraps; to a float rounds to nearest, ties to even (to f16 and
    /// bf16 by way of f32, the dtype that they are computed in); to bool asks whether it is
    /// not zero.
    pub fn cast(self, to: DType) -> Value {
        let float = self.dtype().is_float();
        match to {
            DType::F16 => Value::F16(match self {
                Value::F16(v) => v,
                Value::BF16(v) => f16::from_f32(v.to_f32()),
                v => f16::from_f32(v.to_f32()),
            }),
            DType::BF16 => Value::BF16(match self {
                Value::BF16(v) => v,
                Value::F16(v) => bf16::from_f32(v.to_f32()),
                v => bf16::from_f32(v.to_f32()),
            }),
            DType::F32 => Value::F32(self.to_f32()),
            DType::F64 => Value::F64(self.to_f64()),
            DType::I32 if float => Value::I32(self.to_f64() as i32),
            DType::I32 => Value::I32(self.to_i64() as i32),
            DType::I64 => Value::I64(self.to_i64()),
            DType::U8 if float => Value::U8(self.to_f64() as u8),
            DType::U8 => Value::U8(self.to_i64() as u8),
            DType::I8 if float => Value::I8(self.to_f64() as i8),
            DType::I8 => Value::I8(self.to_i64() as i8),
            DType::Bool => Value::Bool(self.to_bool()),
        }
    }

    /// Of a floating dtype: the largest of its numbers below `bound`.
    pub(crate) fn below(bound: f64, dtype: DType) -> Value {
        let near = Value::F64(bound).cast(dtype);
        if near.to_f64() < bound {
            return near;
        }
        // The bits of floating numbers of one sign are in the order of their magnitudes.
        let (bits, sign) = (near.bits(), 1u64 << (8 * dtype.size() - 1));
        let next = if bits & !sign == 0 {
            sign | 1
        } else if bits & sign == 0 {
            bits - 1
        } else {
            bits + 1
        };
        Value::read(dtype, &next.to_le_bytes(), 0)
    }

    /// The bits of this value, zero-extended: the key by which constants are compared.
    pub fn bits(self) -> u64 {
        let mut bytes = [0u8; 8];
        self.write(&mut bytes, 0);
        u64::from_le_bytes(bytes)
    }
}

impl PartialEq for Value {
    /// Same dtype and same bits: NaN equals itself, +0 and -0 differ.
    fn eq(&self, other: &Value) -> bool {
        self.dtype() == other.dtype() && self.bits() == other.bits()
    }
}
impl Eq for Value {}
impl std::hash::Hash for Value {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        (self.dtype(), self.bits()).hash(state);
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::F16(v) => v.fmt(f),
            Value::BF16(v) => v.fmt(f),
            Value::F32(v) => v.fmt(f),
            Value::F64(v) => v.fmt(f),
            Value::I32(v) => v.fmt(f),
            Value::I64(v) => v.fmt(f),
            Value::U8(v) => v.fmt(f),
            Value::I8(v) => v.fmt(f),
            Value::Bool(v) => v.fmt(f),
        }
    }
}

/// A number given by the host that takes the dtype of the tensor it meets.
///
/// ```
/// use isograd::{DType, Scalar};
/// assert!(Scalar::from(300).to_value(DType::U8).is_err());
/// assert!(Scalar::from(2.5).to_value(DType::I32).is_err());
/// assert!(Scalar::from(2.5).to_value(DType::F16).is_ok());
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Scalar {
    /// A real number.
    Float(f64),
    /// A whole number.
    Int(i64),
    /// A truth value.
    Bool(bool),
}

impl Scalar {
    pub(crate) fn to_f64(self) -> f64 {
        match self {
            Scalar::Float(v) => v,
            Scalar::Int(v) => v as f64,
            Scalar::Bool(v) => f64::from(u8::from(v)),
        }
    }

    /// This number in `dtype`.
    ///
    /// # Errors
    /// [`Error::ScalarOutOfRange`] when `dtype` cannot hold it: a fraction or an overflow for an integer dtype, a finite
    /// number that would become infinite for a floating one. Rounding of a float is no error.
    pub fn to_value(self, dtype: DType) -> Result<Value> {
        let value = match self {
            Scalar::Float(v) => Value::F64(v),
            Scalar::Int(v) => Value::I64(v),
            Scalar::Bool(v) => Value::Bool(v),
        };
        let cast = value.cast(dtype);
        let fits = match (self, dtype) {
            (Scalar::Bool(_), _) => true,
            (Scalar::Int(v), DType::Bool) => v == 0 || v == 1,
            (Scalar::Float(v), DType::Bool) => v == 0.0 || v == 1.0,
            (Scalar::Int(v), d) if d.is_int() => cast.to_i64() == v,
            (Scalar::Float(v), d) if d.is_int() => cast.to_f64() == v && v < 2f64.powi(63),
            (Scalar::Int(_), _) => cast.to_f64().is_finite(),
            (Scalar::Float(v), _) => cast.to_f64().is_finite() || !v.is_finite(),
        };
        if fits { Ok(cast) } else { Err(Error::ScalarOutOfRange { scalar: self, dtype }) }
    }
}

impl fmt::Display for Scalar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Scalar::Float(v) => write!(f, "{v:?}"),
            Scalar::Int(v) => write!(f, "{v}"),
            Scalar::Bool(v) => write!(f, "{v}"),
        }
    }
}

impl From<Value> for Scalar {
    fn from(v: Value) -> Scalar {
        match v.dtype() {
            DType::Bool => Scalar::Bool(v.to_bool()),
            d if d.is_float() => Scalar::Float(v.to_f64()),
            _ => Scalar::Int(v.to_i64()),
        }
    }
}

macro_rules! scalar_from {
    ($($t:ty => $variant:ident as $as:ty),*) => {
        $(impl From<$t> for Scalar { fn from(v: $t) -> Scalar { Scalar::$variant(v as $as) } })*
    };
}
scalar_from!(f64 => Float as f64, f32 => Float as f64, i32 => Int as i64, i64 => Int as i64, u8 => Int as i64, i8 => Int as i64, u32 => Int as i64, bool => Bool as bool);
impl From<f16> for Scalar {
    fn from(v: f16) -> Scalar {
        Scalar::Float(v.to_f64())
    }
}
impl From<bf16> for Scalar {
    fn from(v: bf16) -> Scalar {
        Scalar::Float(v.to_f64())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn casts_follow_the_rules_of_rust_and_numpy() {
        assert_eq!(Value::F32(-1.9).cast(DType::I32), Value::I32(-1));
        assert_eq!(Value::F32(f32::NAN).cast(DType::I64), Value::I64(0));
        assert_eq!(Value::F64(1e10).cast(DType::I32), Value::I32(i32::MAX));
        assert_eq!(Value::I32(300).cast(DType::U8), Value::U8(44));
        assert_eq!(Value::F32(f32::NAN).cast(DType::Bool), Value::Bool(true));
        assert_eq!(Value::I64(i64::MAX).cast(DType::F32), Value::F32(i64::MAX as f32));
        assert_eq!(Value::F32(65520.0).cast(DType::F16), Value::F16(f16::INFINITY));
    }

    #[test]
    fn the_next_number_below() {
        for d in [DType::F16, DType::BF16, DType::F32, DType::F64] {
            for bound in [2.0, 1.0, 1.0 + 1e-9, 0.1, 0.0, -0.0, -0.1, -1.0, 1e4] {
                let below = Value::below(bound, d);
                assert!(below.dtype() == d && below.to_f64() < bound, "{d} {bound}: {below}");
                // Nothing lies between: the middle of both rounds to one of them.
                let middle = Value::F64((below.to_f64() + bound) / 2.0).cast(d).to_f64();
                assert!(middle == below.to_f64() || middle >= bound, "{d} {bound}: {below}, {middle}");
            }
        }
        assert_eq!(Value::below(2.0, DType::F32), Value::F32(2.0f32.next_down()));
        assert_eq!(Value::below(1e9, DType::F16), Value::F16(f16::MAX));
    }

    #[test]
    fn a_scalar_must_fit() {
        for (scalar, dtype, fits) in [
            (Scalar::Int(255), DType::U8, true),
            (Scalar::Int(-1), DType::U8, false),
            (Scalar::Float(3.0), DType::I8, true),
            (Scalar::Float(0.5), DType::I64, false),
            (Scalar::Float(1e39), DType::F32, false),
            (Scalar::Float(f64::INFINITY), DType::F32, true),
            (Scalar::Float(f64::NAN), DType::F16, true),
            (Scalar::Float(1e5), DType::F16, false),
            (Scalar::Int(2), DType::Bool, false),
            (Scalar::Bool(true), DType::F32, true),
            (Scalar::Float(9.3e18), DType::I64, false),
            (Scalar::Float(9_223_372_036_854_775_808.0), DType::I64, false),
            (Scalar::Float(-9_223_372_036_854_775_808.0), DType::I64, true),
        ] {
            assert_eq!(scalar.to_value(dtype).is_ok(), fits, "{scalar} as {dtype}");
        }
    }

    #[test]
    fn names_parse_back() {
        for d in DType::ALL {
            assert_eq!(d.name().parse::<DType>().unwrap(), d);
        }
        assert!("complex64".parse::<DType>().is_err());
    }
}
