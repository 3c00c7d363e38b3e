//! Mathematics that LLVM turns into vector instructions: branch-free, without calls, and inlined into loops that are
//! compiled once per instruction set.
//!
//! `float64` has the functions in f64, after FreeBSD's msun and Cephes; `float32` those of f32 that are worth an
//! implementation of their own (the rest are computed in f64 and rounded). Functions without a vector form here
//! (`cbrt`, `erfinv`, in f64 also `pow` and the inverse hyperbolic ones) call the standard library.
//!
//! To add one: the function, its line in the `Math` impl below, and a bound in `accuracy`.

#[cfg(test)]
mod accuracy;
mod float32;
mod float64;

use bytemuck::Pod;
use isograd_core::{
    expr::{Binary, Unary},
    host::{Lane, LaneMut, Math, PlainMath},
};

/// Mathematics compiled for one instruction set.
pub(crate) trait Vector: Math {
    /// Whether there is an instruction for `a * b + c` rounded once; where there is none, it would be a slow call.
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
        macro_rules! wide {
            ($function:ident) => {
                float64::$function::<Self>(x as f64) as f32
            };
        }
        match op {
            Unary::Exp => float32::exp::<Self>(x),
            Unary::Exp2 => float32::exp2::<Self>(x),
            Unary::Log => float32::log::<Self>(x),
            Unary::Tanh => float32::tanh::<Self>(x),
            Unary::Sigmoid => float32::sigmoid::<Self>(x),
            Unary::Sin => float32::sin::<Self>(x),
            Unary::Cos => float32::cos::<Self>(x),
            Unary::Tan => float32::tan::<Self>(x),
            Unary::Expm1 => wide!(expm1),
            Unary::Log2 => wide!(log2),
            Unary::Log10 => wide!(log10),
            Unary::Log1p => wide!(log1p),
            Unary::Sinh => wide!(sinh),
            Unary::Cosh => wide!(cosh),
            Unary::Softplus => wide!(softplus),
            Unary::Erf => float32::erf::<Self>(x),
            Unary::Atan => wide!(atan),
            Unary::Asin => wide!(asin),
            Unary::Acos => wide!(acos),
            Unary::Asinh => wide!(asinh),
            Unary::Acosh => wide!(acosh),
            Unary::Atanh => wide!(atanh),
            op => PlainMath::f32(op, x),
        }
    }

    #[inline(always)]
    fn f64(op: Unary, x: f64) -> f64 {
        match op {
            Unary::Exp => float64::exp::<Self>(x),
            Unary::Exp2 => float64::exp2::<Self>(x),
            Unary::Expm1 => float64::expm1::<Self>(x),
            Unary::Log => float64::log::<Self>(x),
            Unary::Log2 => float64::log2::<Self>(x),
            Unary::Log10 => float64::log10::<Self>(x),
            Unary::Log1p => float64::log1p::<Self>(x),
            Unary::Sin => float64::sin::<Self>(x),
            Unary::Cos => float64::cos::<Self>(x),
            Unary::Tan => float64::tan::<Self>(x),
            Unary::Tanh => float64::tanh::<Self>(x),
            Unary::Sigmoid => float64::sigmoid::<Self>(x),
            Unary::Softplus => float64::softplus::<Self>(x),
            Unary::Sinh => float64::sinh::<Self>(x),
            Unary::Cosh => float64::cosh::<Self>(x),
            Unary::Erf => float64::erf::<Self>(x),
            Unary::Atan => float64::atan::<Self>(x),
            Unary::Asin => float64::asin::<Self>(x),
            Unary::Acos => float64::acos::<Self>(x),
            Unary::Acosh if x < 1.0 => f64::NAN,
            op => PlainMath::f64(op, x),
        }
    }

    #[inline(always)]
    fn binary_f32(op: Binary, a: f32, b: f32) -> f32 {
        match op {
            Binary::Pow => float64::pow_of_f32::<Self>(a as f64, b as f64) as f32,
            op => PlainMath::binary_f32(op, a, b),
        }
    }
}

/// Computes again, one by one, what the vector form of `op` is not made for: the sine of large angles.
#[inline(always)]
pub(crate) fn repair(op: Unary, x: Lane<'_>, out: LaneMut<'_>) {
    if !matches!(op, Unary::Sin | Unary::Cos | Unary::Tan) {
        return;
    }
    macro_rules! again {
        ($x:expr, $out:expr, $limit:expr, $f:ident) => {
            if $x.iter().fold(false, |any, v| any | (v.abs() > $limit)) {
                for (o, &v) in $out.iter_mut().zip($x) {
                    if v.abs() > $limit {
                        *o = PlainMath::$f(op, v);
                    }
                }
            }
        };
    }
    match (x, out) {
        (Lane::F32(x), LaneMut::F32(out)) => again!(x, out, float32::LARGEST_ANGLE, f32),
        (Lane::F64(x), LaneMut::F64(out)) => again!(x, out, float64::LARGEST_ANGLE, f64),
        _ => {}
    }
}

/// Numbers with sums and products; those of integers wrap.
pub(crate) trait Ring: Pod + Send + Sync {
    /// 0.
    const ZERO: Self;
    /// `self + b`.
    fn add(self, b: Self) -> Self;
    /// `self * b`.
    fn times(self, b: Self) -> Self;
    /// `self * b + c`, rounded once where `M` can.
    fn mul_add<M: Vector>(self, b: Self, c: Self) -> Self;
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
            fn mul_add<M: Vector>(self, b: $float, c: $float) -> $float {
                if M::FMA { <$float>::mul_add(self, b, c) } else { self * b + c }
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
            fn mul_add<M: Vector>(self, b: $int, c: $int) -> $int {
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
    fn exp<M: Vector>(self) -> Self;
    /// Its natural logarithm.
    fn log<M: Vector>(self) -> Self;
    /// One over its square root.
    fn rsqrt(self) -> Self;
    /// `self - b`.
    fn sub(self, b: Self) -> Self;
    /// `self / b`.
    fn div(self, b: Self) -> Self;
}

macro_rules! reals {
    ($($float:ident $module:ident)*) => {
        $(impl Real for $float {
            const LEAST: $float = $float::NEG_INFINITY;
            #[inline(always)]
            fn of(x: f64) -> $float {
                x as $float
            }
            #[inline(always)]
            fn exp<M: Vector>(self) -> $float {
                $module::exp::<M>(self)
            }
            #[inline(always)]
            fn log<M: Vector>(self) -> $float {
                $module::log::<M>(self)
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
reals!(f32 float32 f64 float64);
