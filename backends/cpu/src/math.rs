//! Numbers as the kernels of matrices, rows and windows use them, in loops that are compiled once per instruction set.
//! Functions are their definitions in `isograd_core::expr::mathematics`, which LLVM turns into vector instructions.

use bytemuck::Pod;
use isograd_core::expr::{
    Unary,
    scalar::{of_one_f32, of_one_f64},
};

/// An instruction set that loops are compiled for.
pub(crate) trait Vector: Copy {
    /// Whether there are 32 registers of 512 bits.
    const WIDE: bool;
}

/// Instruction set number `ISA`. One type per set, so that each loop has one caller and is inlined.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fast<const ISA: u8>;

impl<const ISA: u8> Vector for Fast<ISA> {
    const WIDE: bool = ISA > 1;
}

/// Numbers with sums and products; those of integers wrap.
pub(crate) trait Ring: Pod + Send + Sync {
    /// 0.
    const ZERO: Self;
    /// `self + b`.
    fn add(self, b: Self) -> Self;
    /// `self * b`.
    fn times(self, b: Self) -> Self;
    /// `self * b + c`, rounded once; where no instruction does it, by a slow call.
    fn mul_add(self, b: Self, c: Self) -> Self;
}

macro_rules! rings {
    ($($float:ty)*; $($int:ty)*) => {
        $(impl Ring for $float {
            const ZERO: $float = 0.0;
            #[inline(always)]
            fn add(self, b: $float) -> $float {
                self + b
            }
            #[inline(always)]
            fn times(self, b: $float) -> $float {
                self * b
            }
            #[inline(always)]
            fn mul_add(self, b: $float, c: $float) -> $float {
                <$float>::mul_add(self, b, c)
            }
        })*
        $(impl Ring for $int {
            const ZERO: $int = 0;
            #[inline(always)]
            fn add(self, b: $int) -> $int {
                self.wrapping_add(b)
            }
            #[inline(always)]
            fn times(self, b: $int) -> $int {
                self.wrapping_mul(b)
            }
            #[inline(always)]
            fn mul_add(self, b: $int, c: $int) -> $int {
                self.wrapping_mul(b).wrapping_add(c)
            }
        })*
    };
}
rings!(f32 f64; i32 i64 u8 i8);

/// Floating numbers as the kernels of whole rows use them.
pub(crate) trait Real: Ring + PartialOrd {
    /// The least.
    const LEAST: Self;
    /// The nearest to `x`.
    fn of(x: f64) -> Self;
    /// e to this.
    fn exp(self) -> Self;
    /// Its natural logarithm.
    fn log(self) -> Self;
    /// One over its square root.
    fn rsqrt(self) -> Self;
    /// `self - b`.
    fn sub(self, b: Self) -> Self;
    /// `self / b`.
    fn div(self, b: Self) -> Self;
}

macro_rules! reals {
    ($($float:ident $of_one:ident)*) => {
        $(impl Real for $float {
            const LEAST: $float = $float::NEG_INFINITY;
            #[inline(always)]
            fn of(x: f64) -> $float {
                x as $float
            }
            #[inline(always)]
            fn exp(self) -> $float {
                $of_one(Unary::Exp, self)
            }
            #[inline(always)]
            fn log(self) -> $float {
                $of_one(Unary::Log, self)
            }
            #[inline(always)]
            fn rsqrt(self) -> $float {
                1.0 / self.sqrt()
            }
            #[inline(always)]
            fn sub(self, b: $float) -> $float {
                self - b
            }
            #[inline(always)]
            fn div(self, b: $float) -> $float {
                self / b
            }
        })*
    };
}
reals!(f32 of_one_f32 f64 of_one_f64);
