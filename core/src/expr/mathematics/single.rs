//! Those functions of f32 that are worth a definition in f32 arithmetic (after Cephes, FreeBSD's msun and N. Juffa's erff), and
//! the trigonometric ones in f64 with polynomials short enough for f32.

use super::{
    double::{self, Part, c, polynomial},
    number::{Double, Integer, Real, Single},
};
use std::f64::consts::FRAC_2_PI;

/// Adding this rounds to an integer, which is then in the low bits.
const MAGIC: f32 = 12_582_912.0;

/// Sines of angles beyond this size need more digits of π.
pub(super) const LARGEST_ANGLE: f32 = 1_048_576.0;

/// The integer constant `v`.
#[inline(always)]
fn i<S: Single>(v: i64) -> S::Bits {
    S::Bits::of(v)
}

/// 2^k for k of a normal number.
#[inline(always)]
fn power_of_two<S: Single>(k: S::Bits) -> S {
    S::from_bits(k.plus(i::<S>(127)).shl(i::<S>(23)))
}

/// `e^r 2^n` for |r| <= log(2) / 2, `t` being `n + MAGIC`. In two steps, so that subnormal results are rounded once.
#[inline(always)]
fn scaled_exp<S: Single>(r: S, t: S) -> S {
    let p = polynomial(r, [1.987_569_1e-4, 1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5]);
    let e = c::<S>(1.0) + (r * r).mul_add(p, r);
    let k = t.bits().minus(i::<S>(MAGIC.to_bits() as i64));
    let half = k.shr(i::<S>(1));
    e * power_of_two(half) * power_of_two(k.minus(half))
}

/// e^x.
#[inline(always)]
pub fn exp<S: Single>(x: S) -> S {
    let x = x.clamped(-104.0, 89.0);
    let t = x * c(std::f32::consts::LOG2_E as f64) + c(MAGIC as f64);
    let n = t - c(MAGIC as f64);
    // log(2) in two parts, of which the first times n is exact.
    let r = n.mul_add(c(2.121_944_4e-4), x - n * c(0.693_359_4));
    scaled_exp(r, t)
}

/// 2^x.
#[inline(always)]
pub fn exp2<S: Single>(x: S) -> S {
    let x = x.clamped(-151.0, 129.0);
    let t = x + c(MAGIC as f64);
    scaled_exp((x - (t - c(MAGIC as f64))) * c(std::f32::consts::LN_2 as f64), t)
}

/// The natural logarithm.
#[inline(always)]
pub fn log<S: Single>(x: S) -> S {
    const ROOT_HALF: i64 = 0x3f35_04f3;
    let subnormal = x.less(c(f32::MIN_POSITIVE as f64));
    let scaled = S::select(subnormal, x * c(33_554_432.0), x);
    // x = 2^k (1 + f) with 1 + f between sqrt(1/2) and sqrt(2).
    let bits = scaled.bits().plus(i::<S>(0x3f80_0000 - ROOT_HALF));
    let bias = S::Bits::select(subnormal, i::<S>(127 + 25), i::<S>(127));
    let k = S::from_integer(bits.shr(i::<S>(23)).minus(bias));
    let f = S::from_bits(bits.and(i::<S>(0x007f_ffff)).plus(i::<S>(ROOT_HALF))) - c(1.0);
    let s = f / (c::<S>(2.0) + f);
    let z = s * s;
    let w = z * z;
    let odd = w * w.mul_add(c(0.242_790_79), c(0.400_009_72));
    let even = z * w.mul_add(c(0.284_987_87), c(0.666_666_6));
    let half_square = c::<S>(0.5) * f * f;
    let low = s.mul_add(half_square + (odd + even), k * c(9.058_001e-6));
    let result = (low - half_square) + f + k * c(0.693_138_1);
    double::logarithm_edges(x, result)
}

/// The hyperbolic tangent.
#[inline(always)]
pub fn tanh<S: Single>(x: S) -> S {
    let a = x.abs();
    let near = S::select(a.greater(c(10.0)), c(10.0), a);
    let large = c::<S>(1.0) - c::<S>(2.0) / (exp(c::<S>(2.0) * near) + c(1.0));
    let z = a * a;
    let p = polynomial(z, [-5.704_988_7e-3, 2.063_909e-2, -5.373_971_5e-2, 1.333_144_2e-1, -3.333_328e-1]);
    let small = (p * z).mul_add(a, a);
    S::select(a.less(c(0.625)), small, large).copysign(x)
}

/// 1 / (1 + e^-x).
#[inline(always)]
pub fn sigmoid<S: Single>(x: S) -> S {
    let e = exp(-x.abs());
    S::select(x.less(c(0.0)), e, c(1.0)) / (c::<S>(1.0) + e)
}

/// A polynomial near 0, elsewhere 1 less the exponential of one.
#[inline(always)]
pub fn erf<S: Single>(x: S) -> S {
    let a = x.abs();
    let s = a * a;
    let p = polynomial(
        s,
        [-5.967_617e-4, 4.991_194_2e-3, -2.676_813_5e-2, 1.128_199_25e-1, -3.761_253_4e-1, 1.283_791_7e-1],
    );
    let small = p.mul_add(a, a);
    let t = S::select(a.greater(c(4.0)), c(4.0), a);
    let high = t.mul_add(c(-1.728_534_7e-5), c(3.831_971_3e-4));
    let low = t.mul_add(c(-3.883_964_4e-3), c(2.425_462_2e-2));
    let mut q = high.mul_add(t * t, low);
    for k in [-1.067_778_8e-1, -6.348_467e-1, -1.287_175_1e-1] {
        q = q.mul_add(t, c(k));
    }
    let large = c::<S>(1.0) - exp(q.mul_add(t, -t));
    S::select(a.less(c(0.921_875)), small, large).copysign(x)
}

/// The angle less the nearest multiple of π/2, and the number of that multiple in the low bits; in f64.
#[inline(always)]
fn reduced<D: Double>(part: Part, x: D) -> (D, D::Bits) {
    if part == Part::Far {
        let (r, _, quadrant) = double::reduced(part, x);
        return (r, quadrant);
    }
    let t = x * c(FRAC_2_PI) + c(double::MAGIC);
    let n = t - c(double::MAGIC);
    let r = (x - n * c(double::HALF_PI[0])) - n * c(double::HALF_PI[1] + double::HALF_PI[2]);
    (r, t.bits())
}

#[inline(always)]
fn sine_cosine<D: Double>(r: D) -> (D, D) {
    let z = r * r;
    let s = polynomial(
        z,
        [2.718_311_493_989_822e-6, -1.983_933_483_609_663_2e-4, 8.333_329_385_889_463e-3, -0.166_666_666_416_265_24],
    );
    let k = polynomial(
        z,
        [2.439_044_879_627_741e-5, -1.388_676_377_460_993e-3, 4.166_662_332_373_906e-2, -0.499_999_997_251_031, 1.0],
    );
    ((s * z).mul_add(r, r), k)
}

/// The sine.
#[inline(always)]
pub fn sin<S: Single>(part: Part, x: S) -> S {
    let (r, quadrant) = reduced(part, x.widened());
    let (s, k) = sine_cosine(r);
    S::select(x.equals(c(0.0)), x, S::narrowed(double::by_quadrant(s, k, quadrant)))
}

/// The cosine.
#[inline(always)]
pub fn cos<S: Single>(part: Part, x: S) -> S {
    let (r, quadrant) = reduced(part, x.widened());
    let (s, k) = sine_cosine(r);
    let one = <S::Double as Real>::Bits::of(1);
    S::narrowed(double::by_quadrant(s, k, quadrant.plus(one)))
}

/// The tangent.
#[inline(always)]
pub fn tan<S: Single>(part: Part, x: S) -> S {
    let (r, quadrant) = reduced(part, x.widened());
    let (s, k) = sine_cosine(r);
    S::select(x.equals(c(0.0)), x, S::narrowed(double::quotient(s, k, quadrant)))
}

/// sqrt(a² + b²): the squares are exact in f64.
#[inline(always)]
pub fn hypot<S: Single>(a: S, b: S) -> S {
    let (x, y) = (a.widened(), b.widened());
    let h = S::narrowed(x.mul_add(x, y * y).sqrt());
    let infinite = |v: S| v.abs().equals(c(f64::INFINITY));
    S::select(infinite(a), c(f64::INFINITY), S::select(infinite(b), c(f64::INFINITY), h))
}
