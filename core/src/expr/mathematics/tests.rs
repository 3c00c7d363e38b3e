//! Every function against libm's and the standard library's, over all exponents and the edges; and its program against itself.

use super::*;
use crate::{
    Value,
    expr::{Kernel, scalar},
};

fn key(v: f64) -> i128 {
    (if v.is_sign_negative() { i64::MIN.wrapping_sub(v.to_bits() as i64) } else { v.to_bits() as i64 }) as i128
}

/// Distance in units of the last place; NaN equals NaN, and zeros must agree in sign.
fn ulp64(got: f64, exact: f64) -> f64 {
    if got.to_bits() == exact.to_bits() || got.is_nan() && exact.is_nan() {
        return 0.0;
    }
    if got.is_nan() || exact.is_nan() || (got == 0.0 && exact == 0.0) {
        return f64::INFINITY;
    }
    (key(got) - key(exact)).unsigned_abs() as f64
}

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

/// A value by other means: the standard library (which is the C library's, below one unit) or libm.
fn other(op: Unary, x: f64) -> f64 {
    match op {
        Unary::Cbrt => x.cbrt(),
        Unary::Exp => x.exp(),
        Unary::Exp2 => x.exp2(),
        Unary::Expm1 => x.exp_m1(),
        Unary::Log => x.ln(),
        Unary::Log2 => x.log2(),
        Unary::Log10 => x.log10(),
        Unary::Log1p => x.ln_1p(),
        Unary::Sin => x.sin(),
        Unary::Cos => x.cos(),
        Unary::Tan => x.tan(),
        Unary::Asin => x.asin(),
        Unary::Acos => x.acos(),
        Unary::Atan => x.atan(),
        Unary::Sinh => x.sinh(),
        Unary::Cosh => x.cosh(),
        Unary::Tanh => x.tanh(),
        Unary::Asinh => libm::asinh(x),
        Unary::Acosh if x < 1.0 => f64::NAN,
        Unary::Acosh => libm::acosh(x),
        Unary::Atanh => libm::atanh(x),
        Unary::Erf => libm::erf(x),
        Unary::Sigmoid if x < 0.0 => x.exp() / (1.0 + x.exp()),
        Unary::Sigmoid => 1.0 / (1.0 + (-x).exp()),
        Unary::Softplus if x > 0.0 => x + (-x).exp().ln_1p(),
        Unary::Softplus => x.exp().ln_1p(),
        _ => unreachable!(),
    }
}

const EDGES: [f64; 32] = [
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
    -1.600_812_610_6e15,
    f64::MIN_POSITIVE,
];

/// Bounds in units of the last place: f32, f64.
fn bound(op: Unary) -> [f64; 2] {
    match op {
        Unary::Exp | Unary::Exp2 | Unary::Log | Unary::Sin | Unary::Cos | Unary::Cbrt => [1.0, 1.0],
        Unary::Tanh | Unary::Sigmoid => [3.0, 3.0],
        Unary::Expm1 | Unary::Log1p | Unary::Log2 | Unary::Log10 | Unary::Atan | Unary::Erf => [1.0, 2.0],
        _ => [1.0, 3.0],
    }
}

fn samples(count: u64) -> Vec<f64> {
    let step = u64::MAX / (count + 9);
    let mut all: Vec<f64> = (0..count).map(|i| f64::from_bits(i * step)).collect();
    all.extend((0..count).map(|i| (i as f64 - count as f64 / 2.0) * 20.0 / count as f64));
    all.extend((0..count).map(|i| (i as f64 - count as f64 / 2.0) * 3000.0 / count as f64));
    all.extend(EDGES);
    all
}

#[test]
fn functions_are_within_their_bounds() {
    let mut failures = Vec::new();
    for &op in Unary::ALL.iter().filter(|op| op.is_function() && **op != Unary::Erfinv) {
        let (mut worst, mut worst32) = ((0.0, 0.0), (0.0, 0.0f32));
        for x in samples(40_000) {
            let d = ulp64(scalar::unary_f64(op, x), other(op, x));
            worst = if d > worst.0 { (d, x) } else { worst };
            let y = x as f32;
            let d = ulp32(scalar::unary_f32(op, y), other(op, y as f64));
            worst32 = if d > worst32.0 { (d, y) } else { worst32 };
        }
        println!("{}: f32 {} ulp at {:e}, f64 {} ulp at {:e}", op.name(), worst32.0, worst32.1, worst.0, worst.1);
        if worst32.0 > bound(op)[0] || worst.0 > bound(op)[1] {
            failures.push(format!("{}: f32 {worst32:?}, f64 {worst:?}", op.name()));
        }
    }
    assert!(failures.is_empty(), "{failures:#?}");
}

#[test]
fn erfinv_inverts_erf() {
    let erfinv = |y| scalar::unary_f64(Unary::Erfinv, y);
    for i in 1..4000 {
        let y = -1.0 + i as f64 / 2000.0;
        let back = libm::erf(erfinv(y));
        assert!((back - y).abs() <= 8e-16, "{y}: {back}");
    }
    for e in 1..53 {
        let y = 1.0 - 2f64.powi(-e);
        let tail = libm::erfc(erfinv(y));
        assert!((tail - (1.0 - y)).abs() <= 1e-13 * (1.0 - y), "{y}: {tail}");
    }
    assert_eq!(erfinv(1.0), f64::INFINITY);
    assert_eq!(erfinv(-1.0), f64::NEG_INFINITY);
    assert!(erfinv(1.5).is_nan() && erfinv(f64::NAN).is_nan());
    assert!((erfinv(1e-300) / 1e-300 - 0.886_226_925_452_758).abs() < 1e-15);
    assert!(erfinv(-0.0).is_sign_negative());
}

#[test]
fn functions_of_two_are_within_their_bounds() {
    let some: Vec<f64> = samples(120);
    for op in [Binary::Pow, Binary::Hypot, Binary::Atan2] {
        let (mut worst, mut worst32) = ((0.0, 0.0, 0.0), (0.0, 0.0f32, 0.0f32));
        let other = |a: f64, b: f64| match op {
            Binary::Pow => a.powf(b),
            Binary::Hypot => a.hypot(b),
            _ => a.atan2(b),
        };
        for &a in &some {
            for &b in &some {
                let d = ulp64(scalar::binary_f64(op, a, b), other(a, b));
                worst = if d > worst.0 { (d, a, b) } else { worst };
                let (x, y) = (a as f32, b as f32);
                let d = ulp32(scalar::binary_f32(op, x, y), other(x as f64, y as f64));
                worst32 = if d > worst32.0 { (d, x, y) } else { worst32 };
            }
        }
        println!("{}: f32 {worst32:?}, f64 {worst:?}", op.name());
        assert!(
            worst32.0 <= 1.0 && worst.0 <= if op == Binary::Atan2 { 2.0 } else { 1.0 },
            "{op:?} {worst:?} {worst32:?}"
        );
    }
}

/// What is printed for a device, and run here, has the bits of the functions that are called.
#[test]
fn programs_have_the_bits_of_the_functions() {
    let some = samples(300);
    for dtype in [DType::F32, DType::F64] {
        let value = |x: f64| Value::F64(x).cast(dtype);
        for &op in Unary::ALL.iter().filter(|op| op.is_function()) {
            for part in [Part::Near, Part::Far] {
                let program = unary_program(op, part, dtype).unwrap();
                let mut evaluator = Kernel::new(&program, &[]).evaluator();
                for &x in &some {
                    let far = op.near(dtype).is_some_and(|limit| x.abs() > limit);
                    if far != (part == Part::Far) {
                        continue;
                    }
                    evaluator.run(0, &[value(x)], &[]);
                    assert_same(evaluator.output(0), scalar::unary(op, value(x)), &format!("{op:?} {dtype} {x:e}"));
                }
            }
        }
        for op in [Binary::Pow, Binary::Hypot, Binary::Atan2] {
            let program = binary_program(op, dtype).unwrap();
            let mut evaluator = Kernel::new(&program, &[]).evaluator();
            for (&a, &b) in some.iter().zip(some.iter().rev()).chain(some.iter().zip(&some[7..])) {
                evaluator.run(0, &[value(a), value(b)], &[]);
                let direct = scalar::binary(op, value(a), value(b));
                assert_same(evaluator.output(0), direct, &format!("{op:?} {dtype} {a:e} {b:e}"));
            }
        }
    }
}

fn assert_same(a: Value, b: Value, what: &str) {
    assert!(a.bits() == b.bits() || a.to_f64().is_nan() && b.to_f64().is_nan(), "{what}: {a:?}, {b:?}");
}

/// Values of mpmath with 4000 bits. The first is the double nearest to a multiple of π/2, where C libraries lose bits.
#[test]
fn sines_of_huge_angles_are_exact_to_the_last_place() {
    for (x, sine, cosine, tangent) in [
        (5.319372648326541e255, 1.0, -4.687165924254628e-19, -2.133485385753704e18),
        (1.7976931348623157e308, 0.004961954789184062, -0.9999876894265599, -0.004962015874444895),
        (1e300, -0.8178819121159085, -0.5753861119575491, 1.4214488238747245),
        (-8.5e17, -0.5695889707724031, -0.8219296833515836, 0.6929899020677651),
        (1.0715086071862673e301, -0.15920170308624243, 0.9872460775989135, -0.16125837995065806),
    ] {
        for (op, exact) in [(Unary::Sin, sine), (Unary::Cos, cosine), (Unary::Tan, tangent)] {
            let got = scalar::unary_f64(op, x);
            assert!(ulp64(got, exact) <= 1.0, "{op:?} of {x:e}: {got:e}, not {exact:e}");
        }
    }
}
