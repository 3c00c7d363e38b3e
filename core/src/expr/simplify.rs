//! Rewrites of new nodes. Each holds for every value, NaN, infinities and signed zeros included; `x * 0` and `x + 0` stay
//! as they are on floats (NaN, and -0 + 0 = 0). To add one: a line here and a case in the test that tries special values.

use super::{Binary, Expr, Kind, Unary, scalar};
use crate::{DType, Value};

fn constant(e: &Expr) -> Option<Value> {
    match e.kind() {
        Kind::Const(v) => Some(*v),
        _ => None,
    }
}

/// The constant of `e` as a number, when it is one.
fn number(e: &Expr) -> Option<f64> {
    constant(e).map(Value::to_f64)
}

/// f16 and bf16 are computed in f32 and rounded only where stored, so their constants cannot be folded early.
fn foldable(d: DType) -> bool {
    d.compute() == d
}

fn negated(e: &Expr) -> Option<&Expr> {
    match e.kind() {
        Kind::Unary(Unary::Neg, x) => Some(x),
        _ => None,
    }
}

pub(super) fn unary(op: Unary, x: &Expr) -> Option<Expr> {
    if let Some(v) = constant(x)
        && foldable(x.dtype())
    {
        return Some(Expr::constant(scalar::unary(op, v)));
    }
    match (op, x.kind()) {
        (Unary::Neg, Kind::Unary(Unary::Neg, inner)) => Some(inner.clone()),
        (Unary::Not, Kind::Unary(Unary::Not, inner)) => Some(inner.clone()),
        (Unary::Abs, Kind::Unary(Unary::Abs, _)) => Some(x.clone()),
        (Unary::Abs, Kind::Unary(Unary::Neg, inner)) => Some(inner.abs()),
        (Unary::Relu, Kind::Unary(Unary::Relu, _)) => Some(x.clone()),
        (
            Unary::Floor | Unary::Ceil | Unary::Trunc | Unary::Round,
            Kind::Unary(Unary::Floor | Unary::Ceil | Unary::Trunc | Unary::Round, _),
        ) => Some(x.clone()),
        _ => None,
    }
}

pub(super) fn binary(op: Binary, a: &Expr, b: &Expr) -> Option<Expr> {
    if let (Some(x), Some(y)) = (constant(a), constant(b))
        && foldable(a.dtype())
    {
        return Some(Expr::constant(scalar::binary(op, x, y)));
    }
    let float = a.dtype().is_float();
    let int = a.dtype().is_int();
    match op {
        // x + -0 = x for every float; x + 0 = x only for integers.
        Binary::Add => {
            for (x, y) in [(a, b), (b, a)] {
                if let Some(v) = number(y)
                    && v == 0.0
                    && (int || v.is_sign_negative())
                {
                    return Some(x.clone());
                }
            }
            if let Some(y) = negated(b) {
                return Some(a - y);
            }
            negated(a).map(|x| b - x)
        }
        Binary::Sub => match (number(b), negated(b)) {
            (Some(v), _) if v == 0.0 && v.is_sign_positive() => Some(a.clone()),
            (_, Some(y)) => Some(a + y),
            _ => None,
        },
        Binary::Mul => {
            for (x, y) in [(a, b), (b, a)] {
                match number(y) {
                    Some(1.0) => return Some(x.clone()),
                    Some(-1.0) => return Some(-x),
                    Some(0.0) if int => return Some(y.clone()),
                    _ => {}
                }
            }
            match (negated(a), negated(b)) {
                (Some(x), Some(y)) => Some(x * y),
                (Some(x), None) if float => Some(-(x * b)),
                (None, Some(y)) if float => Some(-(a * y)),
                _ => None,
            }
        }
        Binary::Div => match number(b) {
            Some(1.0) => Some(a.clone()),
            _ if float && number(a) == Some(1.0) => Some(b.reciprocal()),
            _ => match (negated(a), negated(b)) {
                (Some(x), Some(y)) if float => Some(x / y),
                (Some(x), None) if float => Some(-(x / b)),
                (None, Some(y)) if float => Some(-(a / y)),
                _ => None,
            },
        },
        Binary::Pow => match number(b) {
            Some(1.0) => Some(a.clone()),
            Some(2.0) => Some(a * a),
            Some(-1.0) if float => Some(a.reciprocal()),
            _ => None,
        },
        Binary::Max | Binary::Min | Binary::And | Binary::Or if a == b => Some(a.clone()),
        Binary::Eq | Binary::Le | Binary::Ge if a == b && !float => Some(Expr::constant(true)),
        Binary::Ne | Binary::Lt | Binary::Gt if a == b && !float => Some(Expr::constant(false)),
        _ => None,
    }
}

pub(super) fn mul_add(a: &Expr, b: &Expr, c: &Expr) -> Option<Expr> {
    match (constant(a), constant(b), constant(c)) {
        (Some(x), Some(y), Some(z)) if foldable(a.dtype()) => Some(Expr::constant(scalar::mul_add(x, y, z))),
        _ => None,
    }
}

pub(super) fn select(condition: &Expr, then: &Expr, otherwise: &Expr) -> Option<Expr> {
    if then == otherwise {
        return Some(then.clone());
    }
    match condition.kind() {
        Kind::Const(v) => Some(if v.to_bool() { then.clone() } else { otherwise.clone() }),
        Kind::Unary(Unary::Not, c) => Some(c.select(otherwise, then)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::expr::{Kernel, Program};

    /// Builds each primitive once with leaves (nothing to rewrite) and once with constants or near-identities in their
    /// place, and compares the results on special values.
    #[test]
    fn rewrites_hold_on_special_values() {
        let specials =
            [0.0, -0.0, 1.0, -1.0, 2.0, 0.5, -2.5, f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 5e-324, f64::MAX];
        let x = Expr::input(0, DType::F64);
        let y = Expr::input(1, DType::F64);
        let run = |e: &Expr, a: f64, b: f64| {
            let p = Program::new("test", std::slice::from_ref(e), &[DType::F64; 2], &[]).unwrap();
            Kernel::new(&p, &[]).evaluate(0, &[Value::F64(a), Value::F64(b)], &[])[0]
        };
        let same = |u: Value, v: Value| u == v || (u.to_f64().is_nan() && v.to_f64().is_nan());
        for &op in Binary::ALL.iter().filter(|op| op.accepts(DType::F64)) {
            for a in specials {
                for b in specials {
                    let plain = run(&Expr::binary(op, &x, &y), a, b);
                    for (name, e) in [
                        ("constant right", Expr::binary(op, &x, &x.like(b))),
                        ("constant left", Expr::binary(op, &x.like(a), &y)),
                        ("both constant", Expr::binary(op, &x.like(a), &x.like(b))),
                    ] {
                        assert!(
                            same(run(&e, a, b), plain),
                            "{name}: {op:?} {a} {b}: {e} gives {:?}, not {plain:?}",
                            run(&e, a, b)
                        );
                    }
                    for (name, e, f) in [
                        (
                            "negated right",
                            Expr::binary(op, &x, &-&y),
                            scalar::binary(op, Value::F64(a), Value::F64(-b)),
                        ),
                        ("negated left", Expr::binary(op, &-&x, &y), scalar::binary(op, Value::F64(-a), Value::F64(b))),
                        ("same", Expr::binary(op, &x, &x), scalar::binary(op, Value::F64(a), Value::F64(a))),
                    ] {
                        let got = run(&e, a, b);
                        // Signed zero and value must agree.
                        assert!(same(got, f), "{name}: {op:?} {a} {b}: {e} gives {got:?}, not {f:?}");
                    }
                }
            }
        }
    }
}
