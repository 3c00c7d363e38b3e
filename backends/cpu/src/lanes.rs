//! The loops of `isograd_core::host` compiled several times, for the vector instructions of different processors, and
//! the choice among them, made once when the first kernel runs.
//!
//! To add an instruction set: a variant of [`Isa`], a line in [`Isa::detect`], and a `variant!` below.

use crate::math::{self, Fast, Vector};
use isograd_core::{
    ReduceOp, Value,
    expr::{Binary, Unary},
    host::{Lane, LaneMut, Lanes, loops},
};
use std::sync::OnceLock;

/// A set of vector instructions. The numbers are the parameter of [`Fast`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Isa {
    /// What every processor of the target has: SSE2 or NEON.
    Baseline,
    /// AVX2 and FMA.
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// AVX-512 F, BW, DQ and VL.
    #[cfg(target_arch = "x86_64")]
    Avx512,
}

impl Isa {
    fn detect() -> Isa {
        #[cfg(target_arch = "x86_64")]
        {
            if cfg!(miri) {
                return Isa::Baseline;
            }
            macro_rules! all {
                ($($feature:tt)*) => { $(is_x86_feature_detected!($feature))&&* };
            }
            let avx2 = all!("avx2" "fma" "f16c" "bmi2" "lzcnt" "popcnt");
            if avx2 && all!("avx512f" "avx512bw" "avx512dq" "avx512vl") {
                return Isa::Avx512;
            }
            if avx2 {
                return Isa::Avx2;
            }
        }
        Isa::Baseline
    }

    /// Every set that this processor has, for tests.
    #[cfg(test)]
    pub(crate) fn available() -> Vec<Isa> {
        let best = Isa::detect();
        #[cfg(target_arch = "x86_64")]
        return [Isa::Baseline, Isa::Avx2, Isa::Avx512].into_iter().take(best as usize + 1).collect();
        #[cfg(not(target_arch = "x86_64"))]
        vec![best]
    }
}

/// The loops for one instruction set. Values are only made for sets that the processor has.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Simd(Isa);

impl Simd {
    /// The best that this processor has.
    #[inline]
    pub fn get() -> Simd {
        static BEST: OnceLock<Isa> = OnceLock::new();
        Simd(*BEST.get_or_init(Isa::detect))
    }

    /// The loops for `isa`.
    #[cfg(test)]
    pub fn for_test(isa: Isa) -> Simd {
        assert!(Isa::available().contains(&isa));
        Simd(isa)
    }

    /// Runs `work` compiled for this instruction set.
    #[inline]
    pub fn run<W: Work>(self, work: W) -> W::Output {
        match self.0 {
            Isa::Baseline => baseline::run(work),
            // SAFETY: a `Simd` is only made for instructions that the processor has.
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => unsafe { avx2::run(work) },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => unsafe { avx512::run(work) },
        }
    }
}

/// A kernel that is compiled once per instruction set. `run` must be `#[inline(always)]`, and so must all that it calls in
/// its loops.
pub(crate) trait Work {
    /// What it returns.
    type Output;
    /// Does it, with the mathematics of `M`.
    fn run<M: Vector>(self) -> Self::Output;
}

macro_rules! variant {
    ($name:ident, $isa:expr $(, #[$feature:meta])?) => {
        mod $name {
            use super::*;
            type M = Fast<{ $isa as u8 }>;
            $(#[$feature])?
            pub fn run<W: Work>(work: W) -> W::Output {
                work.run::<M>()
            }
            $(#[$feature])?
            pub fn unary(op: Unary, x: Lane<'_>, mut out: LaneMut<'_>) {
                loops::unary::<M>(op, x, again(&mut out));
                math::repair(op, x, out);
            }
            $(#[$feature])?
            pub fn binary(op: Binary, a: Lane<'_>, b: Lane<'_>, out: LaneMut<'_>) {
                loops::binary::<M>(op, a, b, out);
            }
            $(#[$feature])?
            pub fn select(condition: &[u8], a: Lane<'_>, b: Lane<'_>, out: LaneMut<'_>) {
                loops::select(condition, a, b, out);
            }
            $(#[$feature])?
            pub fn convert(x: Lane<'_>, out: LaneMut<'_>) {
                loops::convert(x, out);
            }
            $(#[$feature])?
            pub fn random(word: u8, seed: &[i64], index: &[i64], out: &mut [i64]) {
                loops::random(word, seed, index, out);
            }
            $(#[$feature])?
            pub fn fold(op: ReduceOp, x: Lane<'_>) -> Value {
                loops::fold(op, x)
            }
            $(#[$feature])?
            pub fn combine(op: ReduceOp, x: Lane<'_>, accumulator: LaneMut<'_>) {
                loops::combine(op, x, accumulator);
            }
        }
    };
}

variant!(baseline, Isa::Baseline);
#[cfg(target_arch = "x86_64")]
variant!(avx2, Isa::Avx2, #[target_feature(enable = "avx2,fma,f16c,bmi2,lzcnt,popcnt")]);
#[cfg(target_arch = "x86_64")]
variant!(avx512, Isa::Avx512, #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c,bmi2,lzcnt,popcnt")]);

/// The same lane, borrowed for a shorter time.
#[inline(always)]
fn again<'a>(lane: &'a mut LaneMut<'_>) -> LaneMut<'a> {
    match lane {
        LaneMut::F32(x) => LaneMut::F32(x),
        LaneMut::F64(x) => LaneMut::F64(x),
        LaneMut::I32(x) => LaneMut::I32(x),
        LaneMut::I64(x) => LaneMut::I64(x),
        LaneMut::U8(x) => LaneMut::U8(x),
        LaneMut::I8(x) => LaneMut::I8(x),
        LaneMut::Bool(x) => LaneMut::Bool(x),
    }
}

macro_rules! dispatch {
    ($($name:ident($($argument:ident: $type:ty),*) $(-> $result:ty)?;)*) => {
        impl Lanes for Simd {
            $(#[inline]
            fn $name(self, $($argument: $type),*) $(-> $result)? {
                match self.0 {
                    Isa::Baseline => baseline::$name($($argument),*),
                    // SAFETY: a `Simd` is only made for instructions that the processor has.
                    #[cfg(target_arch = "x86_64")]
                    Isa::Avx2 => unsafe { avx2::$name($($argument),*) },
                    // SAFETY: as above.
                    #[cfg(target_arch = "x86_64")]
                    Isa::Avx512 => unsafe { avx512::$name($($argument),*) },
                }
            })*
        }
    };
}
dispatch! {
    unary(op: Unary, x: Lane<'_>, out: LaneMut<'_>);
    binary(op: Binary, a: Lane<'_>, b: Lane<'_>, out: LaneMut<'_>);
    select(condition: &[u8], a: Lane<'_>, b: Lane<'_>, out: LaneMut<'_>);
    convert(x: Lane<'_>, out: LaneMut<'_>);
    random(word: u8, seed: &[i64], index: &[i64], out: &mut [i64]);
    fold(op: ReduceOp, x: Lane<'_>) -> Value;
    combine(op: ReduceOp, x: Lane<'_>, accumulator: LaneMut<'_>);
}
