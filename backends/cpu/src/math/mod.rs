//! Mathematics that LLVM turns into vector instructions: branch-free, without calls, and inlined into loops that are
//! compiled once per instruction set.
use bytemuck::Pod;
use isograd_core::{
    expr::{Binary, Unary},
    host::{Lane, LaneMut, Math, PlainMath},
};

/// Mathematics compiled for one instruction set.
pub(crate) trait Vector: Math {
    /// Whether there is an instruction for `a * b + c` rounded once.
    const FMA: bool;
}

/// The functions for instruction set number `ISA`. One type per set, so that each loop has one caller and is inlined.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fast<const ISA: u8>;

impl<const ISA: u8> Vector for Fast<ISA> {
    const FMA: bool = ISA > 0 || cfg!(target_arch = "aarch64") || cfg!(target_feature = "fma");
}

impl<const ISA: u8> Math for Fast<ISA> {
    #[inline(always)]
    fn f32(op: Unary, x: f32) -> f32 {
        PlainMath::f32(op, x)
    }
    #[inline(always)]
    fn f64(op: Unary, x: f64) -> f64 {
        PlainMath::f64(op, x)
    }
}
#[inline(always)]
pub(crate) fn repair(_op: Unary, _x: Lane<'_>, _out: LaneMut<'_>) {}

/// Numbers with sums and products; those of integers wrap.
pub(crate) trait Ring: Pod + Send + Sync {
    /// 0.
    const ZERO: Self;
    /// `self + b`.
    fn add(self, b: Self) -> Self;
    /// `self * b + c`, rounded once where `M` can.
    fn mul_add<M: Vector>(self, b: Self, c: Self) -> Self;
}

macro_rules! rings {
    ($($float:ty)*; $($int:ty)*) => {
        $(impl Ring for $float {
            const ZERO: $float = 0.0;
            #[inline(always)]
            fn add(self, b: $float) -> $float { self + b }
            #[inline(always)]
            fn mul_add<M: Vector>(self, b: $float, c: $float) -> $float {
                if M::FMA { <$float>::mul_add(self, b, c) } else { self * b + c }
            }
        })*
        $(impl Ring for $int {
            const ZERO: $int = 0;
            #[inline(always)]
            fn add(self, b: $int) -> $int { self.wrapping_add(b) }
            #[inline(always)]
            fn mul_add<M: Vector>(self, b: $int, c: $int) -> $int { self.wrapping_mul(b).wrapping_add(c) }
        })*
    };
}
rings!(f32 f64; i32 i64 u8 i8);
