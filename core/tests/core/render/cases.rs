//! What is rendered and compared, on which elements, and how close the results must be.

use super::{Bound, Case};
use isograd_core::expr::scalar::philox;
use isograd_core::expr::{Binary, Expr, Program, Unary};
use isograd_core::{DType, Value};
use std::sync::Arc;

/// Units in the last place by which the mathematical library (glibc documents at most 4 for these) or this renderer's own
/// code may differ from the evaluator, in f32 and in f64. f16 and bf16 are computed in f32: at most one of theirs.
fn bound(op: Unary, dtype: DType) -> Bound {
    use Unary::*;
    let (single, double) = match op {
        Neg | Abs | Sign | Not | Relu | Recip | Sqrt | Floor | Ceil | Trunc | Round => (0, 0),
        Rsqrt => (1, 0),
        Sigmoid | Softplus => (3, 3),
        Erfinv => (6, 6),
        _ => (4, 4),
    };
    match dtype {
        DType::F32 => Bound::Ulp(single),
        DType::F64 => Bound::Ulp(double),
        _ => Bound::Ulp(single.min(1)),
    }
}

/// Random words from the generator under test's own reference, so that a run repeats.
struct Random(u64);

impl Random {
    fn bits(&mut self) -> u64 {
        self.0 += 1;
        let words = philox(17, self.0);
        (words[0] as u64) << 32 | words[1] as u64
    }

    /// Half of the floats are any bits, half of moderate size; integers are any bits or small.
    fn value(&mut self, dtype: DType) -> Value {
        let (bits, unit) = (self.bits(), self.bits() as f64 / 2f64.powi(64));
        if bits & 1 == 1 {
            let moderate = if bits & 2 == 2 { 2.0 * unit - 1.0 } else { 16.0 * unit - 8.0 };
            return Value::F64(if dtype == DType::I64 { 40.0 * moderate } else { moderate }).cast(dtype);
        }
        if dtype == DType::Bool {
            return Value::Bool(bits & 4 == 4);
        }
        Value::read(dtype, &self.bits().to_le_bytes(), 0)
    }
}

fn specials(dtype: DType) -> Vec<Value> {
    let mut list: Vec<Value> = match dtype {
        DType::Bool => vec![false, true].into_iter().map(Value::from).collect(),
        d if d.is_float() => {
            let unit = [0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 7.0, 0.1, 127.5, 128.0, 255.5, 256.0, 65504.0, 65520.0];
            let powers =
                [-1074, -149, -126, -25, -24, -14, -10, 15, 24, 31, 52, 63, 64, 127, 1023].map(|e| 2f64.powi(e));
            unit.into_iter()
                .chain(powers)
                .chain([f64::INFINITY, f64::MAX, f32::MAX as f64, 1.0 - 2f64.powi(-24), 1.0 - 2f64.powi(-53)])
                .flat_map(|v| [v, -v])
                .chain([f64::NAN])
                .map(|v| Value::F64(v).cast(d))
                .collect()
        }
        d => [0, 1, 2, 3, 5, 7, 8, 9, 31, 32, 63, 64, 127, 128, 255, 1 << 31, (1 << 31) - 1, (1 << 53) + 1, i64::MAX]
            .into_iter()
            .flat_map(|v: i64| [v, -v, v.wrapping_sub(1 << 63)])
            .map(|v| Value::I64(v).cast(d))
            .collect(),
    };
    let mut seen = std::collections::HashSet::new();
    list.retain(|v| seen.insert(*v));
    list
}

fn singles(dtype: DType, random: &mut Random) -> Vec<Value> {
    specials(dtype).into_iter().chain((0..400).map(|_| random.value(dtype))).collect()
}

/// All pairs of special values, and random ones.
fn pairs(dtype: DType, random: &mut Random) -> Vec<Vec<Value>> {
    let all = specials(dtype);
    let (mut a, mut b): (Vec<_>, Vec<_>) = all.iter().flat_map(|x| all.iter().map(move |y| (*x, *y))).unzip();
    for _ in 0..300 {
        a.push(random.value(dtype));
        b.push(random.value(dtype));
    }
    vec![a, b]
}

fn program(name: &str, roots: &[Expr], inputs: &[DType], scalars: &[DType]) -> Arc<Program> {
    Program::new(name, roots, inputs, scalars).unwrap_or_else(|e| panic!("{name}: {e}"))
}

pub fn cases() -> Vec<Case> {
    let mut random = Random(0);
    let mut cases = Vec::new();
    let mut push = |p: Arc<Program>, inputs: Vec<Vec<Value>>, bound: Bound| {
        cases.push(Case { program: p, inputs, old: vec![], scalars: vec![], bound });
    };
    for dtype in DType::ALL {
        let (x, y) = (Expr::input(0, dtype), Expr::input(1, dtype));
        for &op in Unary::ALL.iter().filter(|op| op.accepts(dtype)) {
            push(
                program(op.name(), &[Expr::unary(op, &x)], &[dtype], &[]),
                vec![singles(dtype, &mut random)],
                bound(op, dtype),
            );
        }
        for &op in Binary::ALL.iter().filter(|op| op.accepts(dtype)) {
            let bound = match op {
                Binary::Pow | Binary::Hypot | Binary::Atan2 if dtype.is_float() => bound(Unary::Exp, dtype),
                _ => Bound::Ulp(0),
            };
            push(program(op.name(), &[Expr::binary(op, &x, &y)], &[dtype; 2], &[]), pairs(dtype, &mut random), bound);
        }
        for to in DType::ALL {
            let values = match dtype {
                DType::F16 | DType::BF16 => {
                    (0..=u16::MAX).map(|bits| Value::read(dtype, &bits.to_le_bytes(), 0)).collect()
                }
                _ => singles(dtype, &mut random).into_iter().chain(halves(dtype)).collect(),
            };
            push(program("cast", &[x.cast(to)], &[dtype], &[]), vec![values], Bound::Ulp(0));
        }
        let pair = pairs(dtype, &mut random);
        let condition = (0..pair[0].len()).map(|i| Value::Bool(i % 3 == 0)).collect();
        let select = Expr::input(2, DType::Bool).select(&x, &y);
        let p = program("select", &[select], &[dtype, dtype, DType::Bool], &[]);
        push(p, vec![pair[0].clone(), pair[1].clone(), condition], Bound::Ulp(0));
        for v in specials(dtype) {
            // The index keeps the constant from being the whole program, and a constant's bits pass unchanged.
            let constant = Expr::index().equal(&Expr::constant(0i64)).select(&Expr::constant(v), &x);
            push(program("constant", &[constant], &[dtype], &[]), vec![specials(dtype)[..2].to_vec()], Bound::Ulp(0));
        }
    }
    // erfinv is this renderer's own: many values, and both tails up to the last place before 1.
    for dtype in [DType::F32, DType::F64] {
        let (x, last) = (Expr::input(0, dtype), if dtype == DType::F32 { 24 } else { 53 });
        let mut values: Vec<f64> = (0..8000).map(|i| i as f64 / 4000.0 - 1.0).collect();
        for e in 1..=last {
            for part in [1.0, 1.25, 1.4375, 1.75, 1.9375] {
                values.extend([2f64.powi(-e) * part, 1.0 - 2f64.powi(-e) * part, 2f64.powi(-e) * part - 1.0]);
            }
        }
        let values = values.into_iter().map(|v| Value::F64(v).cast(dtype)).collect();
        push(program("erfinv", &[x.erfinv()], &[dtype], &[]), vec![values], bound(Unary::Erfinv, dtype));
    }
    for (from, to) in [(DType::F32, DType::I32), (DType::F64, DType::I64)] {
        for (from, to) in [(from, to), (to, from)] {
            let p = program("bitcast", &[Expr::input(0, from).bitcast(to)], &[from], &[]);
            push(p, vec![singles(from, &mut random)], Bound::Ulp(0));
        }
    }
    // f16 and bf16 rounded in between.
    for half in [DType::F16, DType::BF16] {
        let x = Expr::input(0, DType::F32);
        let values: Vec<Value> = singles(DType::F32, &mut random).into_iter().chain(halves(DType::F32)).collect();
        push(program("round", &[x.cast(half).cast(DType::F32)], &[DType::F32], &[]), vec![values], Bound::Ulp(0));
    }
    let (seed, counter) = (Expr::input(0, DType::I64), Expr::input(1, DType::I64));
    let words: Vec<Expr> = (0..4).map(|w| Expr::random_bits(&seed, &counter, w)).collect();
    push(program("random", &words, &[DType::I64; 2], &[]), pairs(DType::I64, &mut random), Bound::Ulp(0));
    for dtype in DType::ALL.into_iter().filter(|d| d.is_float()) {
        derivatives(dtype, &mut random, &mut push);
    }
    cases.extend(launches(&mut random));
    cases
}

/// Numbers next to and half way between those that f16 and bf16 hold, where rounding is decided.
fn halves(dtype: DType) -> Vec<Value> {
    if !dtype.is_float() {
        return vec![];
    }
    let mut list = Vec::new();
    for bits in (0..=u16::MAX).step_by(37) {
        for half in [DType::F16, DType::BF16] {
            let low = Value::read(half, &bits.to_le_bytes(), 0).to_f64();
            let high = Value::read(half, &bits.wrapping_add(1).to_le_bytes(), 0).to_f64();
            let middle = ((low + high) / 2.0) as f32;
            let nudge = |step: i32| f32::from_bits((middle.to_bits() as i32).wrapping_add(step) as u32) as f64;
            list.extend([-1, 0, 1].map(|step| Value::F64(nudge(step)).cast(dtype)));
        }
    }
    list
}

/// The derivative of every floating primitive, in each argument, away from the points where it cancels badly.
fn derivatives(dtype: DType, random: &mut Random, push: &mut dyn FnMut(Arc<Program>, Vec<Vec<Value>>, Bound)) {
    let (x, y, head) = (Expr::input(0, dtype), Expr::input(1, dtype), Expr::input(2, dtype));
    let relative = match dtype {
        DType::F64 => 1e-13,
        DType::F32 => 1e-4,
        DType::F16 => 2e-3,
        _ => 1.6e-2,
    };
    let unary = Unary::ALL.iter().filter(|op| op.accepts(dtype)).map(|&op| (op.name(), Expr::unary(op, &x)));
    let binary = Binary::ALL.iter().filter(|op| op.accepts(dtype)).map(|&op| (op.name(), Expr::binary(op, &x, &y)));
    for (name, e) in unary.chain(binary) {
        for k in 0..2 {
            let Some(d) = e.derivative(k, &head) else {
                continue;
            };
            let mut list = |n: usize| -> Vec<Value> {
                let unit = |r: &mut Random| Value::F64(r.bits() as f64 / 2f64.powi(63) - 1.0).cast(dtype);
                (0..n).map(|i| if i % 4 == 0 { random.value(dtype) } else { unit(random) }).collect()
            };
            let inputs = vec![list(200), list(200), list(200).into_iter().map(|_| Value::one(dtype)).collect()];
            push(program(&format!("d {name}"), &[d], &[dtype; 3], &[]), inputs, Bound::Relative(relative));
        }
    }
}

/// Scalar arguments, old values, the index, several outputs, inputs and arguments that nothing reads.
fn launches(random: &mut Random) -> Vec<Case> {
    let mut cases = Vec::new();
    for dtype in DType::ALL {
        let (x, old, s) = (Expr::input(1, dtype), Expr::old(0, dtype), Expr::scalar(1, dtype));
        let roots =
            [old.maximum(&x), s.minimum(&x), Expr::index().equal(&Expr::constant(3i64)).select(&x, &s), Expr::index()];
        cases.push(Case {
            program: program("launch", &roots, &[DType::F64, dtype], &[DType::F32, dtype]),
            inputs: vec![singles(DType::F64, random), singles(dtype, random)]
                .into_iter()
                .map(|v| v[..100].to_vec())
                .collect(),
            old: roots.iter().map(|e| singles(e.dtype(), random)[..100].to_vec()).collect(),
            scalars: vec![Value::F32(0.5), specials(dtype)[1]],
            bound: Bound::Ulp(0),
        });
    }
    cases
}
