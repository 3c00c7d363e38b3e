//! The loops of `isograd_core::host` compiled several times, for the vector instructions of different processors, and
//! the choice among them, made once when the first kernel runs.
//!
//! To add an instruction set: a variant of [`Isa`], a line in [`Isa::detect`], and a `variant!` below.

use crate::math::{Fast, Vector};
use isograd_core::{
    ReduceOp,
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
            pub fn unary(op: Unary, x: Lane<'_>, out: LaneMut<'_>) {
                loops::unary(op, x, out);
            }
            $(#[$feature])?
            pub fn binary(op: Binary, a: Lane<'_>, b: Lane<'_>, out: LaneMut<'_>) {
                loops::binary(op, a, b, out);
            }
            $(#[$feature])?
            pub fn mul_add(a: Lane<'_>, b: Lane<'_>, c: Lane<'_>, out: LaneMut<'_>) {
                loops::mul_add(a, b, c, out);
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
            pub fn fold(op: ReduceOp, x: Lane<'_>, out: LaneMut<'_>) {
                loops::fold(op, x, out);
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
    mul_add(a: Lane<'_>, b: Lane<'_>, c: Lane<'_>, out: LaneMut<'_>);
    select(condition: &[u8], a: Lane<'_>, b: Lane<'_>, out: LaneMut<'_>);
    convert(x: Lane<'_>, out: LaneMut<'_>);
    random(word: u8, seed: &[i64], index: &[i64], out: &mut [i64]);
    fold(op: ReduceOp, x: Lane<'_>, out: LaneMut<'_>);
    combine(op: ReduceOp, x: Lane<'_>, accumulator: LaneMut<'_>);
}

#[cfg(test)]
mod tests {
    use super::*;
    use isograd_core::expr::scalar;

    /// How many numbers are skipped between two: 1 tries all 2^32 of f32, which takes minutes with optimization:
    /// `ISOGRAD_EVERY=1 cargo test --release -p isograd-cpu lanes_give_the_bits`.
    fn step() -> u64 {
        std::env::var("ISOGRAD_EVERY").ok().and_then(|v| v.parse().ok()).unwrap_or(if cfg!(debug_assertions) {
            2_000_003
        } else {
            40_009
        })
    }

    fn same(a: f64, b: f64) -> bool {
        a.to_bits() == b.to_bits() || a.is_nan() && b.is_nan()
    }

    /// Vector instructions give the bits of the definitions, on every processor's set that is here.
    #[test]
    fn lanes_give_the_bits_of_the_definitions() {
        const PIECE: usize = 1 << 14;
        let functions = || Unary::ALL.iter().copied().filter(|op| op.accepts(isograd_core::DType::F32));
        let step = step();
        let (mut x32, mut out32) = (vec![0f32; PIECE], vec![0f32; PIECE]);
        let (mut x64, mut out64) = (vec![0f64; PIECE], vec![0f64; PIECE]);
        for start in (0..1u64 << 32).step_by((step * PIECE as u64) as usize) {
            for (i, (x, y)) in x32.iter_mut().zip(&mut x64).enumerate() {
                let bits = (start + i as u64 * step).min(u32::MAX as u64);
                *x = f32::from_bits(bits as u32);
                *y = f64::from_bits(bits << 32 | bits.wrapping_mul(0x9E37_79B9) & 0xffff_ffff);
            }
            for op in functions() {
                let exact32: Vec<f32> = x32.iter().map(|&v| scalar::unary_f32(op, v)).collect();
                let exact64: Vec<f64> = x64.iter().map(|&v| scalar::unary_f64(op, v)).collect();
                for isa in Isa::available() {
                    let simd = Simd::for_test(isa);
                    simd.unary(op, Lane::F32(&x32), LaneMut::F32(&mut out32));
                    simd.unary(op, Lane::F64(&x64), LaneMut::F64(&mut out64));
                    for i in 0..PIECE {
                        let (a, b, x) = (out32[i], exact32[i], x32[i]);
                        assert!(same(a as f64, b as f64), "{isa:?} {} of {x:e}f32: {a:e}, not {b:e}", op.name());
                        let (a, b, x) = (out64[i], exact64[i], x64[i]);
                        assert!(same(a, b), "{isa:?} {} of {x:e}: {a:e}, not {b:e}", op.name());
                    }
                }
            }
            for op in [Binary::Pow, Binary::Hypot, Binary::Atan2, Binary::Rem, Binary::Max, Binary::Min, Binary::Div] {
                let (y32, y64): (Vec<f32>, Vec<f64>) =
                    (x32.iter().rev().copied().collect(), x64.iter().rev().copied().collect());
                for isa in Isa::available() {
                    let simd = Simd::for_test(isa);
                    simd.binary(op, Lane::F32(&x32), Lane::F32(&y32), LaneMut::F32(&mut out32));
                    simd.binary(op, Lane::F64(&x64), Lane::F64(&y64), LaneMut::F64(&mut out64));
                    for i in 0..PIECE {
                        let (a, b) = (out32[i], scalar::binary_f32(op, x32[i], y32[i]));
                        assert!(same(a as f64, b as f64), "{isa:?} {op:?} {:e} {:e}: {a:e}, not {b:e}", x32[i], y32[i]);
                        let (a, b) = (out64[i], scalar::binary_f64(op, x64[i], y64[i]));
                        assert!(same(a, b), "{isa:?} {op:?} {:e} {:e}: {a:e}, not {b:e}", x64[i], y64[i]);
                    }
                }
            }
        }
    }
}
