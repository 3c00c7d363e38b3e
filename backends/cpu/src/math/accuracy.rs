//! Every function against the standard library's in f64, over all exponents and the edges, for every instruction set that
//! the processor has.

use crate::lanes::{Isa, Simd};
use isograd_core::{
    expr::{Binary, Unary, scalar},
    host::{Lane, LaneMut, Lanes},
};

/// Distance in units of the last place; NaN equals NaN, and zeros must agree in sign.
fn ulp32(got: f32, exact: f64) -> f64 {
    let rounded = exact as f32;
    if got.to_bits() == rounded.to_bits() || got.is_nan() && rounded.is_nan() {
        return 0.0;
    }
    if got.is_nan() || rounded.is_nan() || (got == 0.0 && rounded == 0.0) {
        return f64::INFINITY;
    }
    let key = |v: f32| {
        (if v.is_sign_negative() { i32::MIN.wrapping_sub(v.to_bits() as i32) } else { v.to_bits() as i32 }) as i64
    };
    (key(got) - key(rounded)).unsigned_abs() as f64
}

fn ulp64(got: f64, exact: f64) -> f64 {
    if got.to_bits() == exact.to_bits() || got.is_nan() && exact.is_nan() {
        return 0.0;
    }
    if got.is_nan() || exact.is_nan() || (got == 0.0 && exact == 0.0) {
        return f64::INFINITY;
    }
    let key = |v: f64| {
        (if v.is_sign_negative() { i64::MIN.wrapping_sub(v.to_bits() as i64) } else { v.to_bits() as i64 }) as i128
    };
    (key(got) - key(exact)).unsigned_abs() as f64
}

const EDGES: [f64; 30] = [
    0.0,
    -0.0,
    1.0,
    -1.0,
    f64::INFINITY,
    f64::NEG_INFINITY,
    f64::NAN,
    5e-324,
    -5e-324,
    1e-45,
    -1e-45,
    1.5e-310,
    88.72283,
    88.72284,
    -103.97,
    -103.98,
    -87.4,
    709.782712893384,
    709.7827128933841,
    -745.1332,
    -745.14,
    710.4758,
    -708.5,
    0.5,
    1e22,
    -1e22,
    8191.99,
    8192.01,
    3.4e38,
    1.7e308,
];

/// The definition, but that libm's acosh gives numbers below -1.
fn oracle(op: Unary, x: f64) -> f64 {
    if op == Unary::Acosh && x < 1.0 { f64::NAN } else { scalar::unary_f64(op, x) }
}

/// Bit patterns over all exponents and signs, and numbers of everyday size.
fn samples32() -> Vec<f32> {
    let step = 4099;
    let mut all: Vec<f32> = (0..u32::MAX / step).map(|i| f32::from_bits(i * step)).collect();
    all.extend((-200_000..200_000).map(|i| i as f32 * 1.37e-4));
    all.extend(EDGES.iter().map(|&v| v as f32));
    all
}

fn samples64() -> Vec<f64> {
    let step = u64::MAX / 400_009;
    let mut all: Vec<f64> = (0..400_000).map(|i| f64::from_bits(i * step)).collect();
    all.extend((-200_000..200_000).map(|i| i as f64 * 1.370_123_456_789e-4));
    all.extend((0..200_000).map(|i| (i as f64 - 1e5) * 7.127_7e-3));
    all.extend(EDGES);
    all
}

/// Bounds in units of the last place: f32, f64.
fn bound(op: Unary) -> [f64; 2] {
    match op {
        Unary::Exp | Unary::Exp2 | Unary::Log => [1.0, 1.0],
        Unary::Tanh | Unary::Sigmoid => [3.0, 3.0],
        Unary::Sin | Unary::Cos => [1.0, 1.0],
        Unary::Tan => [1.0, 3.0],
        Unary::Expm1 | Unary::Log1p | Unary::Log2 | Unary::Log10 | Unary::Atan => [1.0, 2.0],
        Unary::Sinh | Unary::Cosh | Unary::Softplus => [1.0, 3.0],
        Unary::Asin | Unary::Acos => [1.0, 3.0],
        Unary::Erf => [1.0, 2.0],
        Unary::Rsqrt => [1.0, 1.0],
        _ => [1.0, 1.0],
    }
}

#[test]
fn functions_of_f32_are_within_their_bounds() {
    let samples = samples32();
    let mut out = vec![0.0f32; samples.len()];
    let mut failures = Vec::new();
    for isa in Isa::available() {
        for &op in Unary::ALL.iter().filter(|op| op.accepts(isograd_core::DType::F32)) {
            let some: &[f32] = if op == Unary::Erfinv { &samples[..1000] } else { &samples };
            let out = &mut out[..some.len()];
            Simd::for_test(isa).unary(op, Lane::F32(some), LaneMut::F32(out));
            let (worst, at) = some
                .iter()
                .zip(&*out)
                .map(|(&x, &got)| (ulp32(got, oracle(op, x as f64)), x))
                .fold((0.0, 0.0), |a, b| if b.0 > a.0 { b } else { a });
            println!("{isa:?} f32 {}: {worst} ulp at {at:e}", op.name());
            if worst > bound(op)[0] {
                failures.push(format!("{isa:?} {}: {worst} ulp at {at:e}", op.name()));
            }
        }
    }
    assert!(failures.is_empty(), "{failures:#?}");
}

#[test]
fn functions_of_f64_are_within_their_bounds() {
    let samples = samples64();
    let mut out = vec![0.0f64; samples.len()];
    let mut failures = Vec::new();
    for isa in Isa::available() {
        for &op in Unary::ALL.iter().filter(|op| op.accepts(isograd_core::DType::F64)) {
            let some: &[f64] = if op == Unary::Erfinv { &samples[..1000] } else { &samples };
            let out = &mut out[..some.len()];
            Simd::for_test(isa).unary(op, Lane::F64(some), LaneMut::F64(out));
            let (worst, at) = some
                .iter()
                .zip(&*out)
                .map(|(&x, &got)| (ulp64(got, oracle(op, x)), x))
                .fold((0.0, 0.0), |a, b| if b.0 > a.0 { b } else { a });
            println!("{isa:?} f64 {}: {worst} ulp at {at:e}", op.name());
            if worst > bound(op)[1] {
                failures.push(format!("{isa:?} {}: {worst} ulp at {at:e}", op.name()));
            }
        }
    }
    assert!(failures.is_empty(), "{failures:#?}");
}

#[test]
fn powers_of_f32_are_within_their_bounds() {
    let mut bases: Vec<f32> = (0..2000).map(|i| f32::from_bits(i * 2_147_483)).collect();
    bases.extend((-300..300).map(|i| i as f32 * 0.037));
    bases.extend(EDGES.iter().map(|&v| v as f32));
    let exponents: Vec<f32> = (-60..60)
        .map(|i| i as f32 * 0.5)
        .chain([0.1, -0.3, 1e-3, 33.33, 1e10, f32::INFINITY, f32::NEG_INFINITY, f32::NAN, 16_777_216.0, 1e-40, -0.0])
        .collect();
    for isa in Isa::available() {
        let mut worst = (0.0, 0.0, 0.0);
        for &e in &exponents {
            let es = vec![e; bases.len()];
            let mut out = vec![0.0; bases.len()];
            Simd::for_test(isa).binary(Binary::Pow, Lane::F32(&bases), Lane::F32(&es), LaneMut::F32(&mut out));
            for (&b, &got) in bases.iter().zip(&out) {
                let distance = ulp32(got, (b as f64).powf(e as f64));
                if distance > worst.0 {
                    worst = (distance, b, e);
                }
            }
        }
        println!("{isa:?} f32 pow: {} ulp at {:e} to {:e}", worst.0, worst.1, worst.2);
        assert!(worst.0 <= 1.0, "{isa:?}: {worst:?}");
    }
}
