//! The functions of f64, after FreeBSD's msun (exponentials, logarithms, sine, cosine, erf), Cephes (arctangent), Borges
//! (hypot) and Wichura (the inverse of erf), rewritten without branches: every case is computed and the right one chosen.
//!
//! Those of f32 that are not in `single` are these, of the widened number, rounded once.

use super::number::{Double, Integer, Real, Truth};
use std::f64::consts::{FRAC_2_PI, FRAC_PI_2, FRAC_PI_4, LN_2, LOG2_E, PI, SQRT_2};

/// Adding this rounds to an integer, which is then in the low bits.
pub(super) const MAGIC: f64 = 6_755_399_441_055_744.0;

/// Sines of angles beyond this size need more digits of π; see [`far_angle`].
pub(super) const LARGEST_ANGLE: f64 = 8192.0;

/// π/2 in parts of 33 bits, whose products with small integers are exact, and the rest.
pub(super) const HALF_PI: [f64; 3] = [1.570_796_326_734_125_6, 6.077_100_506_303_966e-11, 2.022_266_248_795_950_6e-21];

const LN2_HIGH: f64 = 6.931_471_803_691_238e-1;
const LN2_LOW: f64 = 1.908_214_929_270_587_7e-10;
/// Of a number's bits those of the exponent and of the upper half of the fraction.
const UPPER: i64 = -0x1_0000_0000;

/// The constant `v`.
#[inline(always)]
pub(super) fn c<R: Real>(v: f64) -> R {
    R::of(v)
}

/// The integer constant `v`.
#[inline(always)]
fn i<D: Double>(v: i64) -> D::Bits {
    D::Bits::of(v)
}

/// Σ coefficients[i] x^(n-1-i), highest power first, each step rounded once.
#[inline(always)]
pub(super) fn polynomial<R: Real, const N: usize>(x: R, coefficients: [f64; N]) -> R {
    let mut p = c::<R>(coefficients[0]);
    for &k in &coefficients[1..] {
        p = p.mul_add(x, c(k));
    }
    p
}

/// A polynomial of which each coefficient is one of two.
#[inline(always)]
fn either<D: Double, const N: usize>(first: D::Truth, x: D, coefficients: [(f64, f64); N]) -> D {
    let pick = |(a, b): (f64, f64)| D::select(first, c(a), c(b));
    let mut p = pick(coefficients[0]);
    for &k in &coefficients[1..] {
        p = p.mul_add(x, pick(k));
    }
    p
}

/// 2^n for the integer n with `t = n + MAGIC`, within normal numbers.
#[inline(always)]
fn power_of_two<D: Double>(t: D) -> D {
    D::from_bits(t.bits().minus(i::<D>(MAGIC.to_bits() as i64 - 1023)).shl(i::<D>(52)))
}

/// 2^n as a product of two factors that are both normal numbers, `t` being `n + MAGIC`.
#[inline(always)]
fn two_powers<D: Double>(t: D) -> (D, D) {
    let n = t - c(MAGIC);
    let half = n * c(0.5) + c(MAGIC);
    (power_of_two(half), power_of_two((n - (half - c(MAGIC))) + c(MAGIC)))
}

/// e^r - 1 for |r| <= log(2) / 2: Taylor's series, whose next term is below 2^-57.
#[inline(always)]
fn expm1_near_zero<D: Double>(r: D) -> D {
    let q = polynomial(
        r,
        [
            1.605_904_383_682_161_3e-10,
            2.087_675_698_786_81e-9,
            2.505_210_838_544_172e-8,
            2.755_731_922_398_589e-7,
            2.755_731_922_398_589_3e-6,
            2.480_158_730_158_73e-5,
            1.984_126_984_126_984e-4,
            1.388_888_888_888_889e-3,
            8.333_333_333_333_333e-3,
            4.166_666_666_666_666_4e-2,
            1.666_666_666_666_666_6e-1,
            0.5,
        ],
    );
    (r * r).mul_add(q, r)
}

/// The part of `x` beyond the nearest multiple of log(2), and the number of that multiple plus `MAGIC`.
#[inline(always)]
fn modulo_ln2<D: Double>(x: D) -> (D, D) {
    let t = x * c(LOG2_E) + c(MAGIC);
    let n = t - c(MAGIC);
    (n.mul_add(c(-LN2_LOW), x - n * c(LN2_HIGH)), t)
}

/// e^x.
#[inline(always)]
pub fn exp<D: Double>(x: D) -> D {
    let (r, t) = modulo_ln2(x.clamped(-746.0, 710.0));
    let (a, b) = two_powers(t);
    (c::<D>(1.0) + expm1_near_zero(r)) * a * b
}

/// 2^x.
#[inline(always)]
pub fn exp2<D: Double>(x: D) -> D {
    let x = x.clamped(-1076.0, 1025.0);
    let t = x + c(MAGIC);
    let (a, b) = two_powers(t);
    (c::<D>(1.0) + expm1_near_zero((x - (t - c(MAGIC))) * c(LN_2))) * a * b
}

/// e^x - 1.
#[inline(always)]
pub fn expm1<D: Double>(x: D) -> D {
    let (r, t) = modulo_ln2(x.clamped(-100.0, 710.0));
    let (a, b) = two_powers(t);
    let result = a.mul_add(expm1_near_zero(r), a - c::<D>(1.0) / b) * b;
    D::select(x.equals(c(0.0)), x, result)
}

/// A number above 0 as 2^k (1 + f) with 1 + f between sqrt(1/2) and sqrt(2).
#[inline(always)]
fn exponent_and_fraction<D: Double>(x: D) -> (D, D) {
    const ROOT_HALF: i64 = 0x3fe6_a09e_667f_3bcd;
    const TWO_52: f64 = 4_503_599_627_370_496.0;
    let subnormal = x.less(c(f64::MIN_POSITIVE));
    let scaled = D::select(subnormal, x * c(18_014_398_509_481_984.0), x);
    let bits = scaled.bits().plus(i::<D>(0x3ff0_0000_0000_0000 - ROOT_HALF));
    // The exponent as a float, by way of its bits: processors have no vector instruction for it before AVX-512.
    let exponent = bits.shr(i::<D>(52)).and(i::<D>(0xfff)).or(i::<D>(TWO_52.to_bits() as i64));
    let bias = D::select(subnormal, c(TWO_52 + 1023.0 + 54.0), c(TWO_52 + 1023.0));
    let fraction = bits.and(i::<D>(0x000f_ffff_ffff_ffff)).plus(i::<D>(ROOT_HALF));
    (D::from_bits(exponent) - bias, D::from_bits(fraction) - c(1.0))
}

/// `x = 2^k (1 + f)`, and the logarithm of 1 + f.
struct Split<D> {
    k: D,
    f: D,
    half_square: D,
    /// log(1 + f) - f + f²/2.
    rest: D,
}

#[inline(always)]
fn split<D: Double>(x: D) -> Split<D> {
    let (k, f) = exponent_and_fraction(x);
    let s = f / (c::<D>(2.0) + f);
    let z = s * s;
    let w = z * z;
    let odd = w * polynomial(w, [1.531_383_769_920_937_3e-1, 2.222_219_843_214_978_4e-1, 3.999_999_999_940_942e-1]);
    let even = z * polynomial(
        w,
        [1.479_819_860_511_658_6e-1, 1.818_357_216_161_805e-1, 2.857_142_874_366_239e-1, 6.666_666_666_666_735e-1],
    );
    let half_square = c::<D>(0.5) * f * f;
    Split { k, f, half_square, rest: s * (half_square + (odd + even)) }
}

/// What a logarithm of `x` is where `result` does not hold: at 0, infinity, NaN and below 0.
#[inline(always)]
pub(super) fn logarithm_edges<R: Real>(x: R, result: R) -> R {
    let result = R::select(x.less(c(f64::INFINITY)), result, x);
    let result = R::select(x.equals(c(0.0)), c(f64::NEG_INFINITY), result);
    R::select(x.less(c(0.0)), c(f64::NAN), result)
}

/// The natural logarithm.
#[inline(always)]
pub fn log<D: Double>(x: D) -> D {
    let s = split(x);
    let low = s.rest + s.k * c(LN2_LOW);
    logarithm_edges(x, s.k * c(LN2_HIGH) - ((s.half_square - low) - s.f))
}

/// log(1 + x).
#[inline(always)]
pub fn log1p<D: Double>(x: D) -> D {
    let one = c::<D>(1.0);
    let u = one + x;
    let s = split(u);
    // What rounding 1 + x lost.
    let lost = D::select(x.greater(one), one - (u - x), x - (u - one)) / u;
    let low = s.rest + (s.k * c(LN2_LOW) + lost);
    let result = logarithm_edges(u, s.k * c(LN2_HIGH) - ((s.half_square - low) - s.f));
    D::select(x.equals(c(0.0)), x, result)
}

/// log(1 + f) as a sum, the first part with half of the bits, so that products with such are exact.
#[inline(always)]
fn in_two_parts<D: Double>(s: &Split<D>) -> (D, D) {
    let high = D::from_bits((s.f - s.half_square).bits().and(i::<D>(UPPER)));
    (high, ((s.f - high) - s.half_square) + s.rest)
}

/// The logarithm to base 2.
#[inline(always)]
pub fn log2<D: Double>(x: D) -> D {
    const HIGH: f64 = 1.442_695_040_721_446_3;
    const LOW: f64 = 1.675_171_316_488_651_2e-10;
    let s = split(x);
    let (high, low) = in_two_parts(&s);
    let product = high * c(HIGH);
    let sum = s.k + product;
    logarithm_edges(x, (low + high) * c(LOW) + low * c(HIGH) + ((s.k - sum) + product) + sum)
}

/// The logarithm to base 10.
#[inline(always)]
pub fn log10<D: Double>(x: D) -> D {
    const HIGH: f64 = 4.342_944_818_781_689e-1;
    const LOW: f64 = 2.508_294_671_164_527_5e-11;
    let s = split(x);
    let (high, low) = in_two_parts(&s);
    let (product, exponent) = (high * c(HIGH), s.k * c(3.010_299_956_636_117_7e-1));
    let sum = exponent + product;
    let rest = s.k * c(3.694_239_077_158_931e-13) + (low + high) * c(LOW) + low * c(HIGH);
    logarithm_edges(x, rest + ((exponent - sum) + product) + sum)
}

/// An angle less the nearest multiple of π/2 in two parts, and the number of that multiple in the low bits.
type Reduced<D> = (D, D, <D as Real>::Bits);

/// For angles up to [`LARGEST_ANGLE`].
#[inline(always)]
fn near_angle<D: Double>(x: D) -> Reduced<D> {
    let t = x * c(FRAC_2_PI) + c(MAGIC);
    let n = t - c(MAGIC);
    let first = x - n * c(HALF_PI[0]);
    let w = n * c(HALF_PI[1]);
    let second = first - w;
    let low = n * c(HALF_PI[2]) - ((first - second) - w);
    let r = second - low;
    (r, (second - r) - low, t.bits())
}

/// The bits of 2/π after the point, 56 to a word, with one word of zeros before them.
const TWO_OVER_PI: [i64; 23] = [
    0x00_0000_0000_0000,
    0xa2_f983_6e4e_4415,
    0x29_fc27_57d1_f534,
    0xdd_c0db_6295_993c,
    0x43_9041_fe51_63ab,
    0xde_bbc5_61b7_246e,
    0x3a_424d_d2e0_0649,
    0x2e_ea09_d192_1cfe,
    0x1d_eb1c_b129_a73e,
    0xe8_8235_f52e_bb44,
    0x84_e99c_7026_b45f,
    0x7e_4139_91d6_3983,
    0x53_39f4_9c84_5f8b,
    0xbd_f928_3b1f_f897,
    0xff_de05_980f_ef2f,
    0x11_8b5a_0a6d_1f6d,
    0x36_7ecf_27cb_09b7,
    0x4f_463f_669e_5fea,
    0x2d_7527_bac7_ebe5,
    0xf1_7b3d_0739_f78a,
    0x52_92ea_6bfb_5fb1,
    0x1f_8d5d_0856_0330,
    0x46_fc7b_6bab_f0cf,
];

/// For angles from [`LARGEST_ANGLE`] on, after Payne and Hanek (*Radian reduction for trigonometric functions*, SIGNUM 1983):
/// the 53 bits of the number times those 196 bits of 2/π that decide the quarter turn and what is left of it.
#[inline(always)]
fn far_angle<D: Double>(x: D) -> Reduced<D> {
    const LIMB: i64 = (1 << 28) - 1;
    let and = |v: D::Bits, mask: i64| v.and(i::<D>(mask));
    let shr = |v: D::Bits, n: i64| v.shr(i::<D>(n));
    let real = |v: D::Bits, scale: i32| D::from_integer(v) * c(2f64.powi(scale));
    // x = m 2^(exponent - 1075). Of 2/π those bits are skipped whose products are multiples of 4.
    let bits = x.abs().bits();
    let exponent = shr(bits, 52);
    let skipped = exponent.minus(i::<D>(1075 + 2 - 56));
    let skipped = D::Bits::select(skipped.less(i::<D>(0)), i::<D>(0), skipped);
    let skipped = D::Bits::select(skipped.less(i::<D>(1_027)), skipped, i::<D>(1_026));
    let word = skipped.times(i::<D>(1171)).shr(i::<D>(16));
    let shift = skipped.minus(word.times(i::<D>(56)));
    let window = |this: D::Bits, next: D::Bits| {
        let both = this.shl(shift).or(next.shr(i::<D>(56).minus(shift)));
        and(both, (1 << 56) - 1)
    };
    // Five words from the table, by moving it ahead for each bit of the first one's number.
    let mut words = TWO_OVER_PI.map(i::<D>);
    for step in [16, 8, 4, 2, 1] {
        let ahead = and(word, step).equals(i::<D>(0)).negated();
        for k in 0..step as usize + 4 {
            let next = words.get(k + step as usize).copied().unwrap_or(i::<D>(0));
            words[k] = D::Bits::select(ahead, next, words[k]);
        }
    }
    let mut w = [i::<D>(0); 8];
    for k in 0..4 {
        let v = window(words[k], words[k + 1]);
        w[2 * k] = shr(v, 28);
        w[2 * k + 1] = and(v, LIMB);
    }
    let mantissa = and(bits, 0x000f_ffff_ffff_ffff).or(i::<D>(0x0010_0000_0000_0000));
    let (high, low) = (shr(mantissa, 28), and(mantissa, LIMB));
    // The product, modulo 1: seven limbs of it, from the last.
    let mut digits = [i::<D>(0); 7];
    let mut carry = i::<D>(0);
    for k in (0..7).rev() {
        let sum = low.times(w[k]).plus(high.times(w[k + 1])).plus(carry);
        digits[k] = and(sum, LIMB);
        carry = shr(sum, 28);
    }
    // The first two bits are the quarter turns; more than half of one is the next, less a rest.
    let up = and(shr(digits[0], 25), 1);
    let quadrant = shr(digits[0], 26).plus(up);
    let first = and(digits[0], (1 << 26) - 1).minus(up.shl(i::<D>(26)));
    let a = real(first.shl(i::<D>(28)).plus(digits[1]), -54);
    // Each exact: the first two may cancel down to the last bits of the second, and never further.
    let b = real(digits[2], -82);
    let rest = real(digits[3].shl(i::<D>(28)).plus(digits[4]), -138);
    let turn = a + b;
    let part = turn - a;
    let turn_low = ((a - (turn - part)) + (b - part)) + rest;
    let r = turn * c(FRAC_PI_2);
    let r_low = turn.mul_add(c(FRAC_PI_2), -r) + turn.mul_add(c(6.123_233_995_736_766e-17), turn_low * c(FRAC_PI_2));
    let (sum, finite) = (r + r_low, x.abs().less(c(f64::INFINITY)));
    let sum_low = (r - sum) + r_low;
    let negative = x.less(c(0.0));
    let sum = D::select(finite, sum, c(f64::NAN));
    (
        D::select(negative, -sum, sum),
        D::select(negative, -sum_low, sum_low),
        D::Bits::select(negative, i::<D>(0).minus(quadrant), quadrant),
    )
}

/// Which angles a trigonometric function is compiled for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Part {
    /// Those up to a size that a few operations reduce.
    Near,
    /// Those beyond.
    Far,
}

/// An angle less the nearest multiple of π/2, as [`Part`] says.
#[inline(always)]
pub(super) fn reduced<D: Double>(part: Part, x: D) -> Reduced<D> {
    match part {
        Part::Near => near_angle(x),
        Part::Far => far_angle(x),
    }
}

/// Sine and cosine of `r + low`, up to π/4.
#[inline(always)]
fn sine_cosine<D: Double>(r: D, low: D) -> (D, D) {
    let z = r * r;
    let cube = z * r;
    let p = polynomial(
        z,
        [
            1.589_690_995_211_55e-10,
            -2.505_076_025_340_686_3e-8,
            2.755_731_370_707_006_8e-6,
            -1.984_126_982_985_795e-4,
            8.333_333_333_322_49e-3,
        ],
    );
    let sine = r - ((z * (c::<D>(0.5) * low - cube * p) - low) - cube * c(-1.666_666_666_666_663_2e-1));
    let q = z * polynomial(
        z,
        [
            -1.135_964_755_778_819_5e-11,
            2.087_572_321_298_175e-9,
            -2.755_731_435_139_066_3e-7,
            2.480_158_728_947_673e-5,
            -1.388_888_888_887_411e-3,
            4.166_666_666_666_66e-2,
        ],
    );
    let half = c::<D>(0.5) * z;
    let w = c::<D>(1.0) - half;
    (sine, w + (((c::<D>(1.0) - w) - half) + (z * q - r * low)))
}

/// Whether the number of quarter turns is odd.
#[inline(always)]
fn odd<D: Double>(quadrant: D::Bits) -> D::Truth {
    quadrant.and(i::<D>(1)).equals(i::<D>(1))
}

/// Sine of an angle from those of its rest, by the number of quarter turns.
#[inline(always)]
pub(super) fn by_quadrant<D: Double>(sine: D, cosine: D, quadrant: D::Bits) -> D {
    let v = D::select(odd::<D>(quadrant), cosine, sine);
    D::from_bits(v.bits().xor(quadrant.and(i::<D>(2)).shl(i::<D>(62))))
}

/// Tangent of an angle from sine and cosine of its rest.
#[inline(always)]
pub(super) fn quotient<D: Double>(sine: D, cosine: D, quadrant: D::Bits) -> D {
    let odd = odd::<D>(quadrant);
    D::select(odd, -cosine, sine) / D::select(odd, sine, cosine)
}

/// The sine.
#[inline(always)]
pub fn sin<D: Double>(part: Part, x: D) -> D {
    let (r, low, quadrant) = reduced(part, x);
    let (s, k) = sine_cosine(r, low);
    D::select(x.equals(c(0.0)), x, by_quadrant(s, k, quadrant))
}

/// The cosine.
#[inline(always)]
pub fn cos<D: Double>(part: Part, x: D) -> D {
    let (r, low, quadrant) = reduced(part, x);
    let (s, k) = sine_cosine(r, low);
    by_quadrant(s, k, quadrant.plus(i::<D>(1)))
}

/// The tangent.
#[inline(always)]
pub fn tan<D: Double>(part: Part, x: D) -> D {
    let (r, low, quadrant) = reduced(part, x);
    let (s, k) = sine_cosine(r, low);
    D::select(x.equals(c(0.0)), x, quotient(s, k, quadrant))
}

/// The hyperbolic tangent.
#[inline(always)]
pub fn tanh<D: Double>(x: D) -> D {
    let a = x.abs();
    let t = expm1(c::<D>(2.0) * D::select(a.greater(c(25.0)), c(25.0), a));
    (t / (t + c(2.0))).copysign(x)
}

/// 1 / (1 + e^-x).
#[inline(always)]
pub fn sigmoid<D: Double>(x: D) -> D {
    let e = exp(-x.abs());
    D::select(x.less(c(0.0)), e, c(1.0)) / (c::<D>(1.0) + e)
}

/// log(1 + e^x).
#[inline(always)]
pub fn softplus<D: Double>(x: D) -> D {
    D::select(x.greater(c(0.0)), x, c(0.0)) + log1p(exp(-x.abs()))
}

/// Half of e^a where e^a may overflow though half of it does not.
#[inline(always)]
fn half_exp<D: Double>(a: D) -> D {
    let root = exp(c::<D>(0.5) * a);
    c::<D>(0.5) * root * root
}

/// The hyperbolic sine.
#[inline(always)]
pub fn sinh<D: Double>(x: D) -> D {
    let a = x.abs();
    let large = a.greater(c(709.0));
    let t = expm1(D::select(large, c(709.0), a));
    let result = c::<D>(0.5) * (t + t / (t + c(1.0)));
    D::select(large, half_exp(a), result).copysign(x)
}

/// The hyperbolic cosine.
#[inline(always)]
pub fn cosh<D: Double>(x: D) -> D {
    let a = x.abs();
    let large = a.greater(c(709.0));
    let e = exp(D::select(large, c(709.0), a));
    D::select(large, half_exp(a), c::<D>(0.5) * e + c::<D>(0.5) / e)
}

/// The inverse tangent of a number that is not negative.
#[inline(always)]
fn atan_of_positive<D: Double>(a: D) -> D {
    let (far, middle) = (a.greater(c(2.414_213_562_373_095)), a.greater(c(0.66)));
    let choose = |x: D, y: D, z: D| D::select(far, x, D::select(middle, y, z));
    let above = choose(c(-1.0), a - c(1.0), a);
    let below = choose(a, a + c(1.0), c(1.0));
    let base = choose(c(FRAC_PI_2), c(FRAC_PI_4), c(0.0));
    let rest = choose(c(6.123_233_995_736_766e-17), c(3.061_616_997_868_383e-17), c(0.0));
    let r = above / below;
    let z = r * r;
    let p = polynomial(
        z,
        [
            -8.750_608_600_031_904e-1,
            -1.615_753_718_733_365e1,
            -7.500_855_792_314_705e1,
            -1.228_866_684_490_136_2e2,
            -6.485_021_904_942_025e1,
        ],
    );
    let q = polynomial(
        z,
        [
            1.0,
            2.485_846_490_142_306_3e1,
            1.650_270_098_316_988_5e2,
            4.328_810_604_912_902_7e2,
            4.853_903_996_359_137e2,
            1.945_506_571_482_614e2,
        ],
    );
    base + (r.mul_add(z * p / q, r) + rest)
}

/// The inverse tangent.
#[inline(always)]
pub fn atan<D: Double>(x: D) -> D {
    atan_of_positive(x.abs()).copysign(x)
}

/// The angle of the point (x, y).
#[inline(always)]
pub fn atan2<D: Double>(y: D, x: D) -> D {
    let (ay, ax) = (y.abs(), x.abs());
    let both_infinite = ay.equals(ax).and(ay.equals(c(f64::INFINITY)));
    let ratio = D::select(both_infinite, c(1.0), ay / ax);
    let angle = atan_of_positive(D::select(ay.equals(c(0.0)), c(0.0), ratio));
    let left = x.bits().less(i::<D>(0));
    let angle = D::select(left, c::<D>(PI) - (angle - c(1.224_646_799_147_353_2e-16)), angle).copysign(y);
    D::select(x.is_nan().or(y.is_nan()), c(f64::NAN), angle)
}

/// The inverse sine.
#[inline(always)]
pub fn asin<D: Double>(x: D) -> D {
    atan(x / ((c::<D>(1.0) - x) * (c::<D>(1.0) + x)).sqrt())
}

/// The inverse cosine.
#[inline(always)]
pub fn acos<D: Double>(x: D) -> D {
    c::<D>(2.0) * atan(((c::<D>(1.0) - x) / (c::<D>(1.0) + x)).sqrt())
}

/// Beyond this, the square of a number swallows 1.
const SQUARE_IS_ALL: f64 = 268_435_456.0;

/// The inverse hyperbolic sine.
#[inline(always)]
pub fn asinh<D: Double>(x: D) -> D {
    let a = x.abs();
    let large = a.greater(c(SQUARE_IS_ALL));
    let one = c::<D>(1.0);
    let near = D::select(large, c(SQUARE_IS_ALL), a);
    let square = near * near;
    let argument = near + square / (one + (one + square).sqrt());
    // log(2a), less 1 for the logarithm of 1 more.
    let l = log1p(D::select(large, a - one, argument));
    D::select(large, l + c(LN_2), l).copysign(x)
}

/// The inverse hyperbolic cosine.
#[inline(always)]
pub fn acosh<D: Double>(x: D) -> D {
    let large = x.greater(c(SQUARE_IS_ALL));
    let t = x - c(1.0);
    let near = D::select(large, c(SQUARE_IS_ALL), t);
    let l = log1p(D::select(large, t, near + (near * (near + c(2.0))).sqrt()));
    let result = D::select(large, l + c(LN_2), l);
    D::select(t.less(c(0.0)), c(f64::NAN), result)
}

/// The inverse hyperbolic tangent.
#[inline(always)]
pub fn atanh<D: Double>(x: D) -> D {
    let a = x.abs();
    (c::<D>(0.5) * log1p(c::<D>(2.0) * a / (c::<D>(1.0) - a))).copysign(x)
}

/// The cube root: by logarithm and exponential, then a Newton step whose residue is exact.
#[inline(always)]
pub fn cbrt<D: Double>(x: D) -> D {
    let a = x.abs();
    // Cubes of small numbers would lose bits.
    let small = a.less(c(2f64.powi(-800)));
    let a = D::select(small, a * c(2f64.powi(300)), a);
    let t = exp(log(a) * c(1.0 / 3.0));
    let square = t * t;
    let residue = square.mul_add(t, -a) + t.mul_add(t, -square) * t;
    let root = t - residue / (c::<D>(3.0) * square);
    let root = D::select(small, root * c(2f64.powi(-100)), root);
    D::select(x.equals(c(0.0)).or(x.abs().less(c(f64::INFINITY)).negated()), x, root.copysign(x))
}

/// sqrt(a² + b²), with what rounding lost put back.
#[inline(always)]
pub fn hypot<D: Double>(a: D, b: D) -> D {
    let (a, b) = (a.abs(), b.abs());
    let swap = a.less(b);
    let (large, small) = (D::select(swap, b, a), D::select(swap, a, b));
    let (huge, tiny) = (large.greater(c(2f64.powi(500))), large.less(c(2f64.powi(-450))));
    let scale = |up: i32| D::select(huge, c(2f64.powi(-up)), D::select(tiny, c(2f64.powi(up)), c(1.0)));
    let (x, y) = (large * scale(600), small * scale(600));
    let h = x.mul_add(x, y * y).sqrt();
    let (hh, xx) = (h * h, x * x);
    let excess = (-y).mul_add(y, hh - xx) + h.mul_add(h, -hh) - x.mul_add(x, -xx);
    let result = (h - excess / (c::<D>(2.0) * h)) * D::select(huge, c(2f64.powi(600)), scale(-600));
    let result = D::select(small.equals(c(0.0)), large, result);
    let result = D::select(a.is_nan().or(b.is_nan()), c(f64::NAN), result);
    let infinite = a.equals(c(f64::INFINITY)).or(b.equals(c(f64::INFINITY)));
    D::select(infinite, c(f64::INFINITY), result)
}

/// What a power is where the sign of `a` and special values decide, `magnitude` being |a|^b.
#[inline(always)]
fn power_edges<D: Double>(a: D, b: D, magnitude: D) -> D {
    let half = b * c(0.5);
    let whole = b.trunc().equals(b);
    let odd = whole.and(half.trunc().equals(half).negated());
    let signed = D::select(odd, magnitude.copysign(a), magnitude);
    let complex = a.less(c(0.0)).and(a.greater(c(f64::NEG_INFINITY))).and(whole.negated());
    let result = D::select(complex, c(f64::NAN), signed);
    // 1 to any power is 1, -1 to an infinite one, anything to the power of 0.
    let minus_one = a.equals(c(-1.0)).and(b.abs().equals(c(f64::INFINITY)));
    let one = a.equals(c(1.0)).or(b.equals(c(0.0))).or(minus_one);
    D::select(one, c(1.0), result)
}

/// a^b for numbers that are f32: the product with the logarithm keeps enough of its 53 bits.
#[inline(always)]
pub(super) fn pow_of_single<D: Double>(a: D, b: D) -> D {
    power_edges(a, b, exp(b * log(a.abs())))
}

/// a^b, by a logarithm to base 2 of twice the bits.
#[inline(always)]
pub fn pow<D: Double>(a: D, b: D) -> D {
    let one = c::<D>(1.0);
    let magnitude = a.abs();
    let (k, f) = exponent_and_fraction(magnitude);
    // s = f / (2 + f) in two parts.
    let d = c::<D>(2.0) + f;
    let s = f / d;
    let s_low = ((-s).mul_add(d, f) - s * (f - (d - c(2.0)))) / d;
    // log(1 + f) = 2/3 s (3 + s² + r), r = 3 s⁴ (1/5 + s²/7 + ...).
    let z = s * s;
    let z_low = s.mul_add(s, -z) + c::<D>(2.0) * s * s_low;
    let r = z
        * z
        * polynomial(
            z,
            [
                0.12,
                3.0 / 23.0,
                3.0 / 21.0,
                3.0 / 19.0,
                3.0 / 17.0,
                0.2,
                3.0 / 13.0,
                3.0 / 11.0,
                1.0 / 3.0,
                3.0 / 7.0,
                0.6,
            ],
        );
    let t = c::<D>(3.0) + (z + r);
    let t_low = (((c::<D>(3.0) - t) + z) + r) + z_low;
    let u = s * t;
    let u_low = s.mul_add(t, -u) + (s_low * t + s * t_low);
    // To base 2: times 2 / (3 log 2).
    let (scale, scale_low) = (c::<D>(9.617_966_939_259_756e-1), c::<D>(5.057_761_664_812_590_7e-17));
    let v = scale * u;
    let v_low = scale.mul_add(u, -v) + (scale_low * u + scale * u_low);
    let l = k + v;
    let l_low = ((k - l) + v) + v_low;
    let l = D::select(magnitude.less(c(f64::INFINITY)), l, magnitude);
    let l = D::select(magnitude.equals(c(0.0)), c(f64::NEG_INFINITY), l);
    // b times that: beyond what an exponent holds the low part does not matter.
    let p = b * l;
    let p_low = D::select(p.abs().less(c(1100.0)), b.mul_add(l, -p) + b * l_low, c(0.0));
    let p = p.clamped(-1100.0, 1100.0);
    let n = p + c(MAGIC);
    let rest = (p - (n - c(MAGIC))) + p_low;
    let (x, y) = two_powers(n);
    power_edges(a, b, (one + expm1_near_zero(rest * c(LN_2))) * x * y)
}

/// msun's erf: rational functions on four intervals, of which the last two share the form
/// `1 - exp(-x² - 9/16 + R(1/x²) / S(1/x²)) / x`.
#[inline(always)]
pub fn erf<D: Double>(x: D) -> D {
    const NEAR_ONE: f64 = 8.450_629_115_104_675e-1;
    let a = x.abs();
    let z = a * a;
    let p = polynomial(
        z,
        [
            -2.376_301_665_665_016_3e-5,
            -5.770_270_296_489_442e-3,
            -2.848_174_957_559_851e-2,
            -3.250_421_072_470_015e-1,
            1.283_791_670_955_125_6e-1,
        ],
    );
    let q = polynomial(
        z,
        [
            -3.960_228_278_775_368e-6,
            1.324_947_380_043_216_4e-4,
            5.081_306_281_875_766e-3,
            6.502_224_998_876_73e-2,
            3.979_172_239_591_553_5e-1,
            1.0,
        ],
    );
    let small = a.mul_add(p / q, a);
    let s = a - c(1.0);
    let p = polynomial(
        s,
        [
            -2.166_375_594_868_791e-3,
            3.547_830_432_561_823_6e-2,
            -1.108_946_942_823_967e-1,
            3.183_466_199_011_617_5e-1,
            -3.722_078_760_357_013e-1,
            4.148_561_186_837_483_3e-1,
            -2.362_118_560_752_659_4e-3,
        ],
    );
    let q = polynomial(
        s,
        [
            1.198_449_984_679_911e-2,
            1.363_708_391_202_905e-2,
            1.261_712_198_087_616_4e-1,
            7.182_865_441_419_627e-2,
            5.403_979_177_021_71e-1,
            1.064_208_804_008_442_3e-1,
            1.0,
        ],
    );
    let middle = c::<D>(NEAR_ONE) + p / q;
    let nearer = a.less(c(1.0 / 0.35));
    let t = c::<D>(1.0) / z;
    let p = either(
        nearer,
        t,
        [
            (-9.814_329_344_169_145, 0.0),
            (-8.128_743_550_630_66e1, -4.835_191_916_086_514e2),
            (-1.846_050_929_067_110_4e2, -1.025_095_131_611_077_2e3),
            (-1.623_966_694_625_735e2, -6.375_664_433_683_896e2),
            (-6.237_533_245_032_601e1, -1.606_363_848_558_219_2e2),
            (-1.055_862_622_532_329_1e1, -1.775_795_491_775_475_2e1),
            (-6.938_585_727_071_818e-1, -7.992_832_376_805_23e-1),
            (-9.864_944_034_847_148e-3, -9.864_942_924_700_1e-3),
        ],
    );
    let q = either(
        nearer,
        t,
        [
            (-6.042_441_521_485_81e-2, 0.0),
            (6.570_249_770_319_282, -2.244_095_244_658_582e1),
            (1.086_350_055_417_794_4e2, 4.745_285_412_069_554e2),
            (4.290_081_400_275_678_3e2, 2.553_050_406_433_164_4e3),
            (6.453_872_717_332_679e2, 3.199_858_219_508_595_5e3),
            (4.345_658_774_752_292_3e2, 1.536_729_586_084_437e3),
            (1.376_577_541_435_190_4e2, 3.257_925_129_965_739e2),
            (1.965_127_166_743_925_7e1, 3.033_806_074_348_246e1),
            (1.0, 1.0),
        ],
    );
    // Its square must be exact, or the exponential loses what z has beyond 53 bits.
    let b = D::from_bits(a.bits().and(i::<D>(UPPER)));
    let large = c::<D>(1.0) - exp(-b * b - c(0.5625)) * exp((b - a) * (b + a) + p / q) / a;
    let result = D::select(a.less(c(1.25)), middle, large);
    let result = D::select(a.less(c(0.84375)), small, result);
    let result = D::select(a.less(c(6.0)), result, c(1.0));
    D::select(x.is_nan(), x, result.copysign(x))
}

/// The inverse of erf, after Wichura (*Algorithm AS 241: the percentage points of the normal distribution*, Applied Statistics
/// 37, 1988): rational functions near 0, and of sqrt(-log((1 - |y|) / 2)) in the tails.
#[inline(always)]
pub fn erfinv<D: Double>(y: D) -> D {
    let a = y.abs();
    let q = a * c(0.5);
    let r = q.mul_add(-q, c(0.180625));
    let p = polynomial(
        r,
        [
            2.509_080_928_730_122_6e3,
            3.343_057_558_358_813e4,
            6.726_577_092_700_87e4,
            4.592_195_393_154_987e4,
            1.373_169_376_550_946e4,
            1.971_590_950_306_551_3e3,
            1.331_416_678_917_843_8e2,
            3.387_132_872_796_366_5,
        ],
    );
    let d = polynomial(
        r,
        [
            5.226_495_278_852_854e3,
            2.872_908_573_572_194_3e4,
            3.930_789_580_009_271e4,
            2.121_379_430_158_659_7e4,
            5.394_196_021_424_751e3,
            6.871_870_074_920_579e2,
            4.231_333_070_160_091e1,
            1.0,
        ],
    );
    let middle = q * p / d;
    // 1 - |y| is exact where it is small.
    let root = (-log((c::<D>(1.0) - a) * c(0.5))).sqrt();
    let nearer = root.less_equal(c(5.0));
    let t = D::select(nearer, root - c(1.6), root - c(5.0));
    let p = either(
        nearer,
        t,
        [
            (7.745_450_142_783_414e-4, 2.010_334_399_292_288_1e-7),
            (2.272_384_498_926_918_4e-2, 2.711_555_568_743_487_6e-5),
            (2.417_807_251_774_506e-1, 1.242_660_947_388_078_4e-3),
            (1.270_458_252_452_368_4, 2.653_218_952_657_612_4e-2),
            (3.647_848_324_763_204_5, 2.965_605_718_285_049e-1),
            (5.769_497_221_460_691, 1.784_826_539_917_291_3),
            (4.630_337_846_156_546, 5.463_784_911_164_114),
            (1.423_437_110_749_683_5, 6.657_904_643_501_103),
        ],
    );
    let d = either(
        nearer,
        t,
        [
            (1.050_750_071_644_416_9e-9, 2.044_263_103_389_939_8e-15),
            (5.475_938_084_995_345e-4, 1.421_511_758_316_446e-7),
            (1.519_866_656_361_645_7e-2, 1.846_318_317_510_054_8e-5),
            (1.481_039_764_274_800_7e-1, 7.868_691_311_456_133e-4),
            (6.897_673_349_851e-1, 1.487_536_129_085_061_5e-2),
            (1.676_384_830_183_803_8, 1.369_298_809_227_358e-1),
            (2.053_191_626_637_759, 5.998_322_065_558_879e-1),
            (1.0, 1.0),
        ],
    );
    let x = D::select(a.less_equal(c(0.85)), middle, p / d) * c(SQRT_2 / 2.0);
    let x = D::select(a.equals(c(1.0)), c(f64::INFINITY), x);
    let x = D::select(a.less_equal(c(1.0)), x, c(f64::NAN));
    D::select(y.equals(c(0.0)), y, x.copysign(y))
}
