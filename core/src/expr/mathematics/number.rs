//! What the definitions of functions are written in: the basic operations on one real number, its bits, and a truth value.
//!
//! They are implemented for `f32` and `f64`, which gives functions to call, and for handles that write down what is done with
//! them, which gives the list of instructions that a backend runs or prints.

use std::ops::{Add, Div, Mul, Neg, Sub};

/// The result of a comparison.
pub trait Truth: Copy {
    /// Both.
    fn and(self, other: Self) -> Self;
    /// One of them or both.
    fn or(self, other: Self) -> Self;
    /// The opposite.
    fn negated(self) -> Self;
}

/// Integers of two's complement, as wide as the real numbers that they are the bits of. Arithmetic wraps.
pub trait Integer: Copy {
    /// What comparisons give.
    type Truth: Truth;
    /// The constant `v`.
    fn of(v: i64) -> Self;
    /// `self + b`.
    fn plus(self, b: Self) -> Self;
    /// `self - b`.
    fn minus(self, b: Self) -> Self;
    /// `self * b`.
    fn times(self, b: Self) -> Self;
    /// Bits that both have.
    fn and(self, b: Self) -> Self;
    /// Bits that one of them has.
    fn or(self, b: Self) -> Self;
    /// Bits in which they differ.
    fn xor(self, b: Self) -> Self;
    /// `self * 2^n`, for n from 0 to less than the width.
    fn shl(self, n: Self) -> Self;
    /// `self / 2^n` rounded down, for n from 0 to less than the width.
    fn shr(self, n: Self) -> Self;
    /// `self == b`.
    fn equals(self, b: Self) -> Self::Truth;
    /// `self < b`.
    fn less(self, b: Self) -> Self::Truth;
    /// `a` where `condition` holds, else `b`.
    fn select(condition: Self::Truth, a: Self, b: Self) -> Self;
}

/// IEEE 754 numbers. Every operation rounds once, to nearest, ties to even.
pub trait Real:
    Copy + Add<Output = Self> + Sub<Output = Self> + Mul<Output = Self> + Div<Output = Self> + Neg<Output = Self>
{
    /// What comparisons give.
    type Truth: Truth;
    /// Integers of the same width.
    type Bits: Integer<Truth = Self::Truth>;
    /// The bit of the sign, as an integer.
    const SIGN: i64;
    /// The constant nearest to `v`.
    fn of(v: f64) -> Self;
    /// `self * b + c`, rounded once.
    fn mul_add(self, b: Self, c: Self) -> Self;
    /// The square root.
    fn sqrt(self) -> Self;
    /// Without its sign.
    fn abs(self) -> Self;
    /// The integer part.
    fn trunc(self) -> Self;
    /// `self < b`.
    fn less(self, b: Self) -> Self::Truth;
    /// `self <= b`.
    fn less_equal(self, b: Self) -> Self::Truth;
    /// `self == b`.
    fn equals(self, b: Self) -> Self::Truth;
    /// `a` where `condition` holds, else `b`.
    fn select(condition: Self::Truth, a: Self, b: Self) -> Self;
    /// Its bits.
    fn bits(self) -> Self::Bits;
    /// The number with these bits.
    fn from_bits(bits: Self::Bits) -> Self;
    /// The number nearest to an integer.
    fn from_integer(v: Self::Bits) -> Self;

    /// `self > b`.
    #[inline(always)]
    fn greater(self, b: Self) -> Self::Truth {
        b.less(self)
    }
    /// Whether it is not a number.
    #[inline(always)]
    fn is_nan(self) -> Self::Truth {
        self.equals(self).negated()
    }
    /// Its magnitude with the sign of `sign`.
    #[inline(always)]
    fn copysign(self, sign: Self) -> Self {
        Self::from_bits(self.abs().bits().or(sign.bits().and(Self::Bits::of(Self::SIGN))))
    }
    /// Not above `high`, not below `low`; NaN stays.
    #[inline(always)]
    fn clamped(self, low: f64, high: f64) -> Self {
        let (low, high) = (Self::of(low), Self::of(high));
        let x = Self::select(self.greater(high), high, self);
        Self::select(x.less(low), low, x)
    }
}

/// f64, or its handle.
pub trait Double: Real {}

/// f32, or its handle.
pub trait Single: Real {
    /// The wider number.
    type Double: Double;
    /// The same number.
    fn widened(self) -> Self::Double;
    /// The nearest f32.
    fn narrowed(x: Self::Double) -> Self;
}

impl Truth for bool {
    #[inline(always)]
    fn and(self, other: bool) -> bool {
        self & other
    }
    #[inline(always)]
    fn or(self, other: bool) -> bool {
        self | other
    }
    #[inline(always)]
    fn negated(self) -> bool {
        !self
    }
}

macro_rules! concrete {
    ($float:ident $int:ident $bits:ident) => {
        impl Integer for $int {
            type Truth = bool;
            #[inline(always)]
            fn of(v: i64) -> $int {
                v as $int
            }
            #[inline(always)]
            fn plus(self, b: $int) -> $int {
                self.wrapping_add(b)
            }
            #[inline(always)]
            fn minus(self, b: $int) -> $int {
                self.wrapping_sub(b)
            }
            #[inline(always)]
            fn times(self, b: $int) -> $int {
                self.wrapping_mul(b)
            }
            #[inline(always)]
            fn and(self, b: $int) -> $int {
                self & b
            }
            #[inline(always)]
            fn or(self, b: $int) -> $int {
                self | b
            }
            #[inline(always)]
            fn xor(self, b: $int) -> $int {
                self ^ b
            }
            #[inline(always)]
            fn shl(self, n: $int) -> $int {
                self.wrapping_shl(n as u32)
            }
            #[inline(always)]
            fn shr(self, n: $int) -> $int {
                self.wrapping_shr(n as u32)
            }
            #[inline(always)]
            fn equals(self, b: $int) -> bool {
                self == b
            }
            #[inline(always)]
            fn less(self, b: $int) -> bool {
                self < b
            }
            #[inline(always)]
            fn select(condition: bool, a: $int, b: $int) -> $int {
                if condition { a } else { b }
            }
        }

        impl Real for $float {
            type Truth = bool;
            type Bits = $int;
            const SIGN: i64 = $int::MIN as i64;
            #[inline(always)]
            fn of(v: f64) -> $float {
                v as $float
            }
            #[inline(always)]
            fn mul_add(self, b: $float, c: $float) -> $float {
                $float::mul_add(self, b, c)
            }
            #[inline(always)]
            fn sqrt(self) -> $float {
                $float::sqrt(self)
            }
            #[inline(always)]
            fn abs(self) -> $float {
                $float::abs(self)
            }
            #[inline(always)]
            fn trunc(self) -> $float {
                $float::trunc(self)
            }
            #[inline(always)]
            fn less(self, b: $float) -> bool {
                self < b
            }
            #[inline(always)]
            fn less_equal(self, b: $float) -> bool {
                self <= b
            }
            #[inline(always)]
            fn equals(self, b: $float) -> bool {
                self == b
            }
            #[inline(always)]
            fn select(condition: bool, a: $float, b: $float) -> $float {
                if condition { a } else { b }
            }
            #[inline(always)]
            fn bits(self) -> $int {
                self.to_bits() as $int
            }
            #[inline(always)]
            fn from_bits(bits: $int) -> $float {
                $float::from_bits(bits as $bits)
            }
            #[inline(always)]
            fn from_integer(v: $int) -> $float {
                v as $float
            }
        }
    };
}
concrete!(f32 i32 u32);
concrete!(f64 i64 u64);

impl Double for f64 {}

impl Single for f32 {
    type Double = f64;
    #[inline(always)]
    fn widened(self) -> f64 {
        self as f64
    }
    #[inline(always)]
    fn narrowed(x: f64) -> f32 {
        x as f32
    }
}
