//! Random tensors and dropout: the same bits on every backend for one seed.
//!
//! Numbers come from Philox 4x32-10 with the element's index as counter, and a key made of the seed and of how many random
//! tensors this thread has drawn since. Everything after the bits is arithmetic that IEEE 754 rounds in one way only
//! (+ - × and, in f64, ÷ and √), so normal numbers are the same to the last bit as well.

use super::{PerDTypeFormula, apply, create::generate};
use crate::{
    Backend, DType, Error, Expr, Result, Scalar, Tensor, Value,
    backend::replay,
    expr::{Definition, PerDType},
};
use smallvec::smallvec;
use std::cell::Cell;

thread_local! {
    /// Seed and number of draws; absent until the first use.
    static STATE: Cell<Option<(u64, u64)>> = const { Cell::new(None) };
}

/// Seeds the random numbers of this thread: what is drawn after it is determined.
///
/// Each thread has a generator of its own; one that was never seeded starts from the system's entropy.
///
/// ```
/// use isograd::{DType, Tensor, operators::random};
/// let ctx = isograd::device("cpu")?;
/// random::seed(1);
/// let a = Tensor::normal(&ctx, [3], 0.0, 1.0, DType::F32)?.to_vec::<f32>()?;
/// random::seed(1);
/// assert_eq!(Tensor::normal(&ctx, [3], 0.0, 1.0, DType::F32)?.to_vec::<f32>()?, a);
/// # Ok::<(), isograd::Error>(())
/// ```
pub fn seed(seed: u64) {
    STATE.set(Some((seed, 0)));
}

/// The state of this thread's generator: seed and number of draws. [`set_state`] puts it back.
pub fn state() -> (u64, u64) {
    let state = STATE.get().unwrap_or_else(|| (rand::random(), 0));
    STATE.set(Some(state));
    state
}

/// Puts back a state that [`state`] gave.
pub fn set_state(state: (u64, u64)) {
    STATE.set(Some(state));
}

/// A fresh key, told to [`replay`]: SplitMix64's finalizer over seed and draw (Steele et al., OOPSLA 2014).
pub fn next_key() -> u64 {
    let (seed, draw) = state();
    STATE.set(Some((seed, draw + 1)));
    let mix = |mut z: u64| {
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    };
    let key = mix(mix(seed.wrapping_add(0x9E37_79B9_7F4A_7C15)).wrapping_add(draw.wrapping_mul(0x9E37_79B9_7F4A_7C15)));
    replay::drawn(key);
    key
}

/// Random word `word` of this element, i64 in 0..2³², with arg0 as key.
fn word(word: u8) -> Expr {
    Expr::random_bits(&Expr::scalar(0, DType::I64), &Expr::index(), word)
}

fn shifted(e: &Expr, by: i64) -> Expr {
    e.shr(&Expr::constant(by))
}

/// Uniform in [0, 1) from one or two words, with as many bits as `c`, a dtype that is computed in, has.
fn unit(c: DType) -> Expr {
    if c == DType::F64 {
        let high = shifted(&word(0), 5) * Expr::constant(1i64 << 26);
        return (high + shifted(&word(1), 6)).cast(c) * 2f64.powi(-53);
    }
    shifted(&word(0), 8).cast(c) * 2f64.powi(-24)
}

/// low + u * width may round to the upper bound, or in f16 and bf16 below the lower one: arg3 and arg4 are the lowest and the
/// highest number of the dtype that may be drawn.
static UNIFORM: PerDType = PerDType::new("uniform", |d| {
    let c = d.compute();
    let [low, width, lowest, highest] = [1, 2, 3, 4].map(|k| Expr::scalar(k, c));
    let drawn = (low + unit(c) * width).maximum(&lowest).minimum(&highest);
    (vec![drawn.cast(d)], vec![], vec![DType::I64, c, c, c, c])
});
static NORMAL: PerDType = PerDType::new("normal", |d| {
    let c = d.compute();
    let (mean, std) = (Expr::scalar(1, c), Expr::scalar(2, c));
    (vec![(mean + std_normal(c) * std).cast(d)], vec![], vec![DType::I64, c, c])
});
static BERNOULLI: PerDType = PerDType::new("bernoulli", |d| {
    (vec![word(0).less(&Expr::scalar(1, DType::I64)).cast(d)], vec![], vec![DType::I64, DType::I64])
});
static RANDINT: PerDType = PerDType::new("randint", |d| {
    // 62 random bits modulo the range, which is at most 2^32: a bias below 2^-30.
    let bits = shifted(&word(0), 1) * Expr::constant(1i64 << 31) + shifted(&word(1), 1);
    (vec![(Expr::scalar(1, DType::I64) + bits % Expr::scalar(2, DType::I64)).cast(d)], vec![], vec![DType::I64; 3])
});
/// floor(R * width / 2^96) of a random R below 2^96, for ranges of any width: arg2 and arg3 are its upper and its lower 32 bits. A
/// Horner scheme over pieces of 16 bits, so that no product leaves i64; the result is held as two numbers of 32 bits as well.
static RANDINT_WIDE: PerDType = PerDType::new("randint", |d| {
    let low_bits = |e: &Expr, bits: u32| e.and(&Expr::constant((1i64 << bits) - 1));
    let (wide, narrow) = (Expr::scalar(2, DType::I64), Expr::scalar(3, DType::I64));
    let (mut upper, mut lower) = (Expr::constant(0i64), Expr::constant(0i64));
    for k in [2, 1, 0] {
        for piece in [low_bits(&word(k), 16), shifted(&word(k), 16)] {
            let small = &piece * &narrow + lower;
            let large = piece * &wide + upper + shifted(&small, 32);
            upper = shifted(&large, 16);
            lower = low_bits(&large, 16) * Expr::constant(1i64 << 16) + low_bits(&shifted(&small, 16), 16);
        }
    }
    let drawn = Expr::scalar(1, DType::I64) + (upper * Expr::constant(1i64 << 32) + lower);
    (vec![drawn.cast(d)], vec![], vec![DType::I64; 4])
});
static KEYS: PerDType = PerDType::new("permutation", |_| -> Definition {
    (vec![shifted(&word(0), 1) * Expr::constant(1i64 << 32) + word(1)], vec![], vec![DType::I64])
});
/// Keeps x / (1 - p) where the random word is not below p · 2³², else 0. The derivative draws the same word again, so the
/// tape saves no mask.
static DROPOUT: PerDTypeFormula = PerDTypeFormula::new("dropout", |d| {
    let x = Expr::input(0, d);
    let dropped = word(0).less(&Expr::scalar(1, DType::I64));
    (dropped.select(&x.like(0), &(&x * Expr::scalar(2, d))), smallvec![d], smallvec![DType::I64, DType::I64, d])
});

/// A standard normal number by Box and Muller (*A note on the generation of random normal deviates*, 1958), made of
/// operations that every backend rounds alike.
fn std_normal(c: DType) -> Expr {
    if c == DType::F64 {
        // u in (0, 1], so that the logarithm is finite.
        let u = (shifted(&word(0), 5) * Expr::constant(1i64 << 26) + shifted(&word(1), 6) + Expr::constant(1i64))
            .cast(c)
            * 2f64.powi(-53);
        let v = (shifted(&word(2), 5) * Expr::constant(1i64 << 26) + shifted(&word(3), 6)).cast(c) * 2f64.powi(-53);
        return (log_exact_f64(&u) * -2.0).sqrt() * cos_turn(&v);
    }
    let u = (shifted(&word(0), 8) + Expr::constant(1i64)).cast(c) * 2f64.powi(-24);
    let v = shifted(&word(1), 8).cast(c) * 2f64.powi(-24);
    sqrt_exact_f32(&(log_exact_f32(&u) * -2.0)) * cos_turn(&v)
}

fn horner(x: &Expr, coefficients: &[f64]) -> Expr {
    let (first, rest) = coefficients.split_first().expect("a polynomial has coefficients");
    rest.iter().fold(x.like(*first), |p, &c| p * x + c)
}

/// ln x of a normal f32, from additions and multiplications; coefficients of Cephes' `logf`.
fn log_exact_f32(x: &Expr) -> Expr {
    let bits = x.bitcast(DType::I32);
    let exponent = (&bits - &bits.like(0x3f33_0000)).shr(&bits.like(23));
    let mantissa = (&bits - &exponent.shl(&bits.like(23))).bitcast(DType::F32);
    let e = exponent.cast(DType::F32);
    let f = mantissa - 1.0;
    let z = &f * &f;
    let p = horner(
        &f,
        &[
            7.0376836292e-2,
            -1.1514610310e-1,
            1.1676998740e-1,
            -1.2420140846e-1,
            1.4249322787e-1,
            -1.6668057665e-1,
            2.0000714765e-1,
            -2.4999993993e-1,
            3.3333331174e-1,
        ],
    );
    let tail = &f * &z * p + &e * -2.121_944_4e-4 - &z * 0.5;
    tail + f + e * 0.693_359_375
}

/// √x of an f32 by Newton's iteration on 1/√x: devices may round their own square root differently.
fn sqrt_exact_f32(x: &Expr) -> Expr {
    let bits = x.bitcast(DType::I32);
    let mut y = (&bits.like(0x5f37_59df) - &bits.shr(&bits.like(1))).bitcast(DType::F32);
    let half = x * 0.5;
    for _ in 0..4 {
        // Multiplied in this order, so that x = 0 gives 0 and not 0 * infinity.
        y = &y * (1.5 - (&half * &y) * &y);
    }
    x * &y
}

/// ln x of a normal f64 by the series of artanh; division in f64 is rounded correctly everywhere.
fn log_exact_f64(x: &Expr) -> Expr {
    let bits = x.bitcast(DType::I64);
    let exponent = (&bits - &Expr::constant(0x3fe6_a09e_0000_0000i64)).shr(&Expr::constant(52i64));
    let mantissa = (&bits - &exponent.shl(&Expr::constant(52i64))).bitcast(DType::F64);
    let f = mantissa - 1.0;
    let s = &f / (&f + 2.0);
    let series: Vec<f64> = (0..12).rev().map(|k| 2.0 / (2 * k + 1) as f64).collect();
    let p = horner(&(&s * &s), &series);
    exponent.cast(DType::F64) * std::f64::consts::LN_2 + s * p
}

/// cos(2πv) for v in [0, 1): quarter turns exactly, Taylor polynomials within an eighth.
fn cos_turn(v: &Expr) -> Expr {
    let quarters = v * 4.0;
    let q = (&quarters + 0.5).floor();
    let a = (quarters - &q) * std::f64::consts::FRAC_PI_2;
    let z = &a * &a;
    let terms = if v.dtype() == DType::F64 { 10 } else { 5 };
    let taylor = |odd: u32| -> Vec<f64> {
        (0..terms)
            .rev()
            .map(|k| if k % 2 == 0 { 1.0 } else { -1.0 } / (1..=2 * k + odd).map(f64::from).product::<f64>())
            .collect()
    };
    let (cos, sin) = (horner(&z, &taylor(0)), horner(&z, &taylor(1)) * &a);
    let at = |k: f64| q.equal(&q.like(k));
    at(1.0).select(&-&sin, &at(2.0).select(&-&cos, &at(3.0).select(&sin, &cos)))
}

fn float_only<B: Backend>(ctx: &B, op: &'static str, dtype: DType) -> Result<()> {
    if dtype.is_float() {
        return Ok(());
    }
    Err(Error::UnsupportedDType { op, dtype, device: ctx.name(), why: "use a floating dtype, or randint".into() })
}

/// p · 2³², the bound that a random word is compared with.
fn threshold(op: &'static str, p: f64) -> Result<Value> {
    if (0.0..=1.0).contains(&p) {
        return Ok(Value::I64((p * 2f64.powi(32)).round() as i64));
    }
    Err(Error::invalid(op, format!("the probability must be in 0..=1, got {p}")))
}

impl<B: Backend> Tensor<B> {
    /// Uniform numbers in `low..high`: rounding never gives `high`, unless it is `low`, or no number of the dtype lies between.
    ///
    /// # Errors
    /// [`Error::UnsupportedDType`] unless the dtype is a floating one; [`Error::InvalidArgument`] unless both bounds are finite
    /// and `low <= high`; what the device reports.
    pub fn uniform(ctx: &B, shape: impl AsRef<[usize]>, low: f64, high: f64, dtype: DType) -> Result<Tensor<B>> {
        float_only(ctx, "uniform", dtype)?;
        if !(low <= high && (high - low).is_finite()) {
            return Err(Error::invalid("uniform", format!("the bounds {low} and {high} must be finite and in order")));
        }
        let c = dtype.compute();
        // The lowest number that is not below `low`, by symmetry.
        let (lowest, highest) = (-Value::below(-low, dtype).to_f64(), Value::below(high, dtype).to_f64());
        let (lowest, highest) = match Scalar::Float(low).to_value(dtype)?.to_f64() {
            at if at == low => (low, highest.max(low)),
            _ if lowest <= highest => (lowest, highest),
            rounded => (rounded, rounded),
        };
        let [low, width, lowest, highest] = [low, high - low, lowest, highest].map(|v| Scalar::Float(v).to_value(c));
        let scalars = [Value::I64(next_key() as i64), low?, width?, lowest?, highest?];
        generate(ctx, "uniform", &UNIFORM, dtype, &scalars, &shape.as_ref().into())
    }

    /// Normal numbers of the given mean and standard deviation.
    ///
    /// # Errors
    /// [`Error::UnsupportedDType`] unless the dtype is a floating one; [`Error::InvalidArgument`] for a negative deviation, or when
    /// mean or deviation is not finite; what the device reports.
    pub fn normal(ctx: &B, shape: impl AsRef<[usize]>, mean: f64, std: f64, dtype: DType) -> Result<Tensor<B>> {
        float_only(ctx, "normal", dtype)?;
        if !(std >= 0.0 && std.is_finite() && mean.is_finite()) {
            return Err(Error::invalid(
                "normal",
                format!("mean {mean} and standard deviation {std} must be finite, and the deviation not negative"),
            ));
        }
        let c = dtype.compute();
        let scalars =
            [Value::I64(next_key() as i64), Scalar::Float(mean).to_value(c)?, Scalar::Float(std).to_value(c)?];
        generate(ctx, "normal", &NORMAL, dtype, &scalars, &shape.as_ref().into())
    }

    /// 1 with probability `p`, else 0.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] unless `p` is in 0..=1; what the device reports.
    pub fn bernoulli(ctx: &B, shape: impl AsRef<[usize]>, p: f64, dtype: DType) -> Result<Tensor<B>> {
        let scalars = [Value::I64(next_key() as i64), threshold("bernoulli", p)?];
        generate(ctx, "bernoulli", &BERNOULLI, dtype, &scalars, &shape.as_ref().into())
    }

    /// Whole numbers in `low..high`, each equally likely.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for an empty range, and for one in which a floating dtype lacks some of the whole numbers;
    /// [`Error::ScalarOutOfRange`] when the dtype cannot hold the bounds; what the device reports.
    pub fn randint(ctx: &B, shape: impl AsRef<[usize]>, low: i64, high: i64, dtype: DType) -> Result<Tensor<B>> {
        if high <= low {
            return Err(Error::invalid(
                "randint",
                format!("the range {low}..{high} is empty; the upper bound is excluded"),
            ));
        }
        Scalar::Int(low).to_value(dtype)?;
        Scalar::Int(high - 1).to_value(dtype)?;
        // Beyond this, rounding would merge numbers, and draw the bound that is excluded.
        let whole = match dtype {
            DType::F16 => 1 << 11,
            DType::BF16 => 1 << 8,
            DType::F32 => 1 << 24,
            DType::F64 => 1 << 53,
            _ => u64::MAX,
        };
        if low.unsigned_abs().max((high - 1).unsigned_abs()) > whole {
            let why = format!("the range {low}..{high}: {dtype} has every whole number up to {whole} only; use int64");
            return Err(Error::invalid("randint", why));
        }
        let (key, width) = (Value::I64(next_key() as i64), high.wrapping_sub(low) as u64);
        let shape = shape.as_ref().into();
        if width <= 1 << 32 {
            return generate(
                ctx,
                "randint",
                &RANDINT,
                dtype,
                &[key, Value::I64(low), Value::I64(width as i64)],
                &shape,
            );
        }
        let [upper, lower] = [width >> 32, width & 0xffff_ffff].map(|half| Value::I64(half as i64));
        generate(ctx, "randint", &RANDINT_WIDE, dtype, &[key, Value::I64(low), upper, lower], &shape)
    }

    /// The numbers `0..n` (i64) in random order.
    ///
    /// # Errors
    /// What the device reports.
    pub fn permutation(ctx: &B, n: usize) -> Result<Tensor<B>> {
        let scalars = [Value::I64(next_key() as i64)];
        generate(ctx, "permutation", &KEYS, DType::I64, &scalars, &[n].into())?.argsort(0, false)
    }

    /// Each element 0 with probability `p`, else divided by 1 - p (Srivastava et al., JMLR 2014). Whether to drop is the
    /// caller's decision; layers drop in train mode only.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] unless `p` is in 0..1; [`Error::UnsupportedDType`] unless the dtype is a floating one.
    pub fn dropout(&self, p: f64) -> Result<Tensor<B>> {
        self.need_float("dropout")?;
        let bound = threshold("dropout", p)?;
        if p == 1.0 {
            return Err(Error::invalid("dropout", "with p = 1 nothing would be left; p must be below 1"));
        }
        let scale = Value::F64(1.0 / (1.0 - p)).cast(self.dtype());
        if !scale.to_f64().is_finite() {
            let why = format!("p = {p} divides what is left by {}, which {} cannot", 1.0 - p, self.dtype());
            return Err(Error::invalid("dropout", why));
        }
        let scalars = [Value::I64(next_key() as i64), bound, scale];
        apply(DROPOUT.on(self.dtype())?, &[self], &scalars)
    }
}
