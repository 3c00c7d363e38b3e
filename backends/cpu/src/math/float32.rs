//! Functions of f32: those that are used most, in f32 arithmetic (after Cephes and FreeBSD's msun), and the
//! trigonometric ones in f64 with polynomials short enough for f32.

use super::{Ring, Vector, float64};

/// Adding this rounds to an integer, which is then in the low bits.
const MAGIC: f32 = 12_582_912.0;

/// The sine of an angle up to this size is computed here; see [`super::repair`].
pub(super) const LARGEST_ANGLE: f32 = 1_048_576.0;

/// 2^k for k of a normal number.
#[inline(always)]
fn power_of_two(k: i32) -> f32 {
    f32::from_bits((k.wrapping_add(127) as u32).wrapping_shl(23))
}

#[inline(always)]
fn fma<M: Vector>(a: f32, b: f32, c: f32) -> f32 {
    Ring::mul_add::<M>(a, b, c)
}

/// `e^r 2^n` for |r| <= log(2) / 2, `t` being `n + MAGIC`. In two steps, so that subnormal results are rounded once.
#[inline(always)]
fn scaled_exp<M: Vector>(r: f32, t: f32) -> f32 {
    let mut p = 1.987_569_1e-4;
    for c in [1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5] {
        p = fma::<M>(p, r, c);
    }
    let e = 1.0 + fma::<M>(r * r, p, r);
    let k = (t.to_bits() as i32).wrapping_sub(MAGIC.to_bits() as i32);
    let half = k >> 1;
    e * power_of_two(half) * power_of_two(k.wrapping_sub(half))
}

#[inline(always)]
pub(super) fn exp<M: Vector>(x: f32) -> f32 {
    let x = if x > 89.0 { 89.0 } else { x };
    let x = if x < -104.0 { -104.0 } else { x };
    let t = x * std::f32::consts::LOG2_E + MAGIC;
    let n = t - MAGIC;
    // log(2) in two parts, of which the first times n is exact.
    let r = fma::<M>(n, 2.121_944_4e-4, x - n * 0.693_359_4);
    scaled_exp::<M>(r, t)
}

#[inline(always)]
pub(super) fn exp2<M: Vector>(x: f32) -> f32 {
    let x = if x > 129.0 { 129.0 } else { x };
    let x = if x < -151.0 { -151.0 } else { x };
    let t = x + MAGIC;
    scaled_exp::<M>((x - (t - MAGIC)) * std::f32::consts::LN_2, t)
}

#[inline(always)]
pub(super) fn log<M: Vector>(x: f32) -> f32 {
    let subnormal = x < f32::MIN_POSITIVE;
    let scaled = if subnormal { x * 33_554_432.0 } else { x };
    // x = 2^k (1 + f) with 1 + f between sqrt(1/2) and sqrt(2).
    let bits = scaled.to_bits().wrapping_add(0x3f80_0000 - 0x3f35_04f3);
    let k = (bits >> 23) as i32 - if subnormal { 127 + 25 } else { 127 };
    let k = k as f32;
    let f = f32::from_bits((bits & 0x007f_ffff) + 0x3f35_04f3) - 1.0;
    let s = f / (2.0 + f);
    let z = s * s;
    let w = z * z;
    let odd = w * fma::<M>(w, 0.242_790_79, 0.400_009_72);
    let even = z * fma::<M>(w, 0.284_987_87, 0.666_666_6);
    let half_square = 0.5 * f * f;
    let low = fma::<M>(s, half_square + (odd + even), k * 9.058_001e-6);
    let result = (low - half_square) + f + k * 0.693_138_1;
    let result = if x < f32::INFINITY { result } else { x };
    let result = if x == 0.0 { f32::NEG_INFINITY } else { result };
    if x < 0.0 { f32::NAN } else { result }
}

#[inline(always)]
pub(super) fn tanh<M: Vector>(x: f32) -> f32 {
    let a = x.abs();
    let clamped = if a > 10.0 { 10.0 } else { a };
    let large = 1.0 - 2.0 / (exp::<M>(2.0 * clamped) + 1.0);
    let z = a * a;
    let mut p = -5.704_988_7e-3;
    for c in [2.063_909e-2, -5.373_971_5e-2, 1.333_144_2e-1, -3.333_328e-1] {
        p = fma::<M>(p, z, c);
    }
    let small = fma::<M>(p * z, a, a);
    (if a < 0.625 { small } else { large }).copysign(x)
}

#[inline(always)]
pub(super) fn sigmoid<M: Vector>(x: f32) -> f32 {
    let e = exp::<M>(-x.abs());
    (if x < 0.0 { e } else { 1.0 }) / (1.0 + e)
}

/// The angle less the nearest multiple of π/2, and the number of that multiple in the low bits; in f64.
#[inline(always)]
fn reduced(x: f32) -> (f64, u64) {
    let x = x as f64;
    let t = x * std::f64::consts::FRAC_2_PI + float64::MAGIC;
    let n = t - float64::MAGIC;
    ((x - n * float64::HALF_PI[0]) - n * (float64::HALF_PI[1] + float64::HALF_PI[2]), t.to_bits())
}

#[inline(always)]
fn sine_cosine<M: Vector>(r: f64) -> (f64, f64) {
    let z = r * r;
    let mut s = 2.718_311_493_989_822e-6;
    for c in [-1.983_933_483_609_663_2e-4, 8.333_329_385_889_463e-3, -0.166_666_666_416_265_24] {
        s = Ring::mul_add::<M>(s, z, c);
    }
    let mut c = 2.439_044_879_627_741e-5;
    for k in [-1.388_676_377_460_993e-3, 4.166_662_332_373_906e-2, -0.499_999_997_251_031, 1.0] {
        c = Ring::mul_add::<M>(c, z, k);
    }
    (Ring::mul_add::<M>(s * z, r, r), c)
}

#[inline(always)]
pub(super) fn sin<M: Vector>(x: f32) -> f32 {
    let (r, quadrant) = reduced(x);
    let (s, c) = sine_cosine::<M>(r);
    let result = float64::by_quadrant(s, c, quadrant) as f32;
    if x == 0.0 { x } else { result }
}

#[inline(always)]
pub(super) fn cos<M: Vector>(x: f32) -> f32 {
    let (r, quadrant) = reduced(x);
    let (s, c) = sine_cosine::<M>(r);
    float64::by_quadrant(s, c, quadrant.wrapping_add(1)) as f32
}

#[inline(always)]
pub(super) fn tan<M: Vector>(x: f32) -> f32 {
    let (r, quadrant) = reduced(x);
    let (s, c) = sine_cosine::<M>(r);
    let odd = quadrant & 1 == 1;
    let result = ((if odd { -c } else { s }) / (if odd { s } else { c })) as f32;
    if x == 0.0 { x } else { result }
}

/// A polynomial near 0, elsewhere 1 less the exponential of one (after N. Juffa's erff).
#[inline(always)]
pub(super) fn erf<M: Vector>(x: f32) -> f32 {
    let a = x.abs();
    let s = a * a;
    let mut p = -5.967_617e-4;
    for c in [4.991_194_2e-3, -2.676_813_5e-2, 1.128_199_25e-1, -3.761_253_4e-1, 1.283_791_7e-1] {
        p = fma::<M>(p, s, c);
    }
    let small = fma::<M>(p, a, a);
    let t = if a > 4.0 { 4.0 } else { a };
    let high = fma::<M>(-1.728_534_7e-5, t, 3.831_971_3e-4);
    let low = fma::<M>(-3.883_964_4e-3, t, 2.425_462_2e-2);
    let mut q = fma::<M>(high, t * t, low);
    for c in [-1.067_778_8e-1, -6.348_467e-1, -1.287_175_1e-1] {
        q = fma::<M>(q, t, c);
    }
    let large = 1.0 - exp::<M>(fma::<M>(q, t, -t));
    (if a < 0.921_875 { small } else { large }).copysign(x)
}
