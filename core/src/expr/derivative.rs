//! The derivative of an expression: reverse mode over its nodes, one rule per primitive.
//!
//! A rule may read its result (`y`) as well as its arguments; where `y` is the root, the tape saves the result instead
//! of the arguments. An absent adjoint is a structural zero, so no rule ever multiplies 0 by infinity on behalf of a
//! branch that does not depend on the input.

use super::{Binary, Expr, Kind, Unary};
use std::collections::{BTreeMap, HashSet};
use std::f64::consts::{FRAC_2_SQRT_PI, LN_2, LN_10};

impl Expr {
    /// The derivative of this expression with respect to input `k`, times `head`. `None` when it is zero everywhere.
    ///
    /// ```
    /// use isograd::{DType, expr::Expr};
    /// let (x, g) = (Expr::input(0, DType::F64), Expr::input(1, DType::F64));
    /// assert_eq!((&x * 3.0).derivative(0, &g), Some(&g * 3.0));
    /// assert_eq!(x.floor().derivative(0, &g), None);
    /// ```
    pub fn derivative(&self, k: u8, head: &Expr) -> Option<Expr> {
        let order = Expr::topological(std::slice::from_ref(self));
        let mut depends: HashSet<u64> = HashSet::new();
        for e in &order {
            let leaf = matches!(e.kind(), Kind::Input(i) if *i == k);
            if leaf || e.arguments().any(|a| depends.contains(&a.id())) {
                depends.insert(e.id());
            }
        }
        let mut adjoints: BTreeMap<u64, Expr> = BTreeMap::new();
        adjoints.insert(self.id(), head.clone());
        let mut result = None;
        for e in order.iter().rev().filter(|e| depends.contains(&e.id())) {
            let Some(g) = adjoints.remove(&e.id()) else { continue };
            if matches!(e.kind(), Kind::Input(_)) {
                result = Some(g);
                continue;
            }
            for (argument, contribution) in rule(e, &g, &|a| depends.contains(&a.id())) {
                let sum = match adjoints.remove(&argument.id()) {
                    Some(old) => old + contribution,
                    None => contribution,
                };
                adjoints.insert(argument.id(), sum);
            }
        }
        result
    }
}

/// What flows from node `y` with adjoint `g` to each of its arguments that `wanted` asks for.
fn rule(y: &Expr, g: &Expr, wanted: &dyn Fn(&Expr) -> bool) -> Vec<(Expr, Expr)> {
    let mut flows = Vec::with_capacity(2);
    let mut flow = |argument: &Expr, value: &dyn Fn() -> Option<Expr>| {
        if wanted(argument)
            && let Some(v) = value()
        {
            flows.push((argument.clone(), v));
        }
    };
    let zero = || g.like(0.0);
    match y.kind() {
        Kind::Unary(op, x) => flow(x, &|| unary(*op, x, y, g)),
        Kind::Binary(op, a, b) => match op {
            Binary::Add => {
                flow(a, &|| Some(g.clone()));
                flow(b, &|| Some(g.clone()));
            }
            Binary::Sub => {
                flow(a, &|| Some(g.clone()));
                flow(b, &|| Some(-g));
            }
            Binary::Mul => {
                flow(a, &|| Some(g * b));
                flow(b, &|| Some(g * a));
            }
            Binary::Div => {
                flow(a, &|| Some(g / b));
                flow(b, &|| Some(-(g * y) / b));
            }
            Binary::Rem => {
                flow(a, &|| Some(g.clone()));
                flow(b, &|| Some(-(g * (a / b).floor())));
            }
            // Where b is 0 the power is constant in a; where a is 0 (and b not negative) it is constant in b. The guards sit
            // inside pow and log, so that derivatives of these derivatives stay finite there as well.
            Binary::Pow => {
                flow(a, &|| match b.kind() {
                    Kind::Const(v) if v.to_f64() == 0.0 => None,
                    Kind::Const(_) => Some(g * (b * a.pow(&(b - 1.0)))),
                    _ => {
                        let flat = b.equal(&b.like(0.0));
                        Some(g * (b * flat.select(&a.like(1.0), a).pow(&(b - 1.0))))
                    }
                });
                flow(b, &|| {
                    let flat = a.equal(&a.like(0.0)).and(&b.greater_equal(&b.like(0.0)));
                    Some(g * (y * flat.select(&a.like(1.0), a).log()))
                });
            }
            // Ties share; NaN lets the gradient through to both.
            Binary::Max | Binary::Min => {
                let loses = |p: &Expr, q: &Expr| if *op == Binary::Max { p.less(q) } else { p.greater(q) };
                let share = |p: &Expr, q: &Expr| p.equal(q).select(&(g * 0.5), &loses(p, q).select(&zero(), g));
                flow(a, &|| Some(share(a, b)));
                flow(b, &|| Some(share(b, a)));
            }
            // 0 at the origin, where the derivatives of both do not exist.
            Binary::Hypot => {
                let length = not_zero(y);
                flow(a, &|| Some(g * (a / &length)));
                flow(b, &|| Some(g * (b / &length)));
            }
            // Divided by the length twice: its square overflows and vanishes where the derivative does not.
            Binary::Atan2 => {
                let length = not_zero(&a.hypot(b));
                flow(a, &|| Some(g * (b / &length / &length)));
                flow(b, &|| Some(-(g * (a / &length / &length))));
            }
            _ => {}
        },
        Kind::MulAdd(a, b, c) => {
            flow(a, &|| Some(g * b));
            flow(b, &|| Some(g * a));
            flow(c, &|| Some(g.clone()));
        }
        Kind::Select(c, a, b) => {
            flow(a, &|| Some(c.select(g, &zero())));
            flow(b, &|| Some(c.select(&zero(), g)));
        }
        Kind::Cast(x) if x.dtype().is_float() && y.dtype().is_float() => flow(x, &|| Some(g.cast(x.dtype()))),
        _ => {}
    }
    flows
}

/// A divisor: x, but 1 where that is 0.
fn not_zero(x: &Expr) -> Expr {
    x.equal(&x.like(0.0)).select(&x.like(1.0), x)
}

fn unary(op: Unary, x: &Expr, y: &Expr, g: &Expr) -> Option<Expr> {
    if !x.dtype().is_float() {
        return None;
    }
    Some(match op {
        Unary::Neg => -g,
        Unary::Abs => g * x.sign(),
        Unary::Relu => y.less_equal(&y.like(0.0)).select(&y.like(0.0), g),
        Unary::Recip => -(g * (y * y)),
        Unary::Sqrt => g * 0.5 / y,
        Unary::Rsqrt => g * -0.5 * (y * y * y),
        Unary::Cbrt => g / (y * y * 3.0),
        Unary::Exp => g * y,
        Unary::Exp2 => g * (y * LN_2),
        Unary::Expm1 => g * (y + 1.0),
        Unary::Log => g / x,
        Unary::Log2 => g / (x * LN_2),
        Unary::Log10 => g / (x * LN_10),
        Unary::Log1p => g / (x + 1.0),
        Unary::Sin => g * x.cos(),
        Unary::Cos => -(g * x.sin()),
        Unary::Tan => g * (y * y + 1.0),
        Unary::Asin => g * ((1.0 - x) * (x + 1.0)).rsqrt(),
        Unary::Acos => -(g * ((1.0 - x) * (x + 1.0)).rsqrt()),
        Unary::Atan => g / (x * x + 1.0),
        Unary::Sinh => g * x.cosh(),
        Unary::Cosh => g * x.sinh(),
        Unary::Tanh => g * (1.0 - y * y),
        Unary::Asinh => g / x.hypot(&x.like(1.0)),
        Unary::Acosh => g / ((x - 1.0).sqrt() * (x + 1.0).sqrt()),
        Unary::Atanh => g / ((1.0 - x) * (x + 1.0)),
        Unary::Erf => g * ((-(x * x)).exp() * FRAC_2_SQRT_PI),
        Unary::Erfinv => g * ((y * y).exp() * (1.0 / FRAC_2_SQRT_PI)),
        Unary::Sigmoid => g * (y * (1.0 - y)),
        Unary::Softplus => g * x.sigmoid(),
        Unary::Sign | Unary::Not | Unary::Floor | Unary::Ceil | Unary::Trunc | Unary::Round => return None,
    })
}

#[cfg(test)]
mod tests {
    use crate::expr::{Binary, Expr, Kernel, Program, Unary};
    use crate::{DType, Value};

    fn value(e: &Expr, inputs: &[f64]) -> f64 {
        let p = Program::new("test", std::slice::from_ref(e), &vec![DType::F64; inputs.len()], &[]).unwrap();
        let inputs: Vec<Value> = inputs.iter().map(|&v| Value::F64(v)).collect();
        Kernel::new(&p, &[]).evaluate(0, &inputs, &[])[0].to_f64()
    }

    /// Compares the derivative in every input with a central difference, and recurs for the second order.
    fn check(name: &str, e: &Expr, at: &[f64], order: u32) {
        for k in 0..at.len() {
            let d = e.derivative(k as u8, &Expr::constant(1.0f64));
            let got = d.as_ref().map_or(0.0, |d| value(d, at));
            let h = 1e-5 * at[k].abs().max(0.5);
            let (mut up, mut down) = (at.to_vec(), at.to_vec());
            up[k] += h;
            down[k] -= h;
            let expected = (value(e, &up) - value(e, &down)) / (up[k] - down[k]);
            let scale = got.abs().max(expected.abs()).max(1.0);
            assert!(
                (got - expected).abs() / scale < 2e-8,
                "{name} order {order} in input {k} at {at:?}: {got} but {expected}"
            );
            if let (Some(d), true) = (d, order > 1) {
                check(name, &d, at, order - 1);
            }
        }
    }

    #[test]
    fn every_primitive_has_the_derivative_that_differences_give() {
        let (a, b) = (Expr::input(0, DType::F64), Expr::input(1, DType::F64));
        for &op in Unary::ALL.iter().filter(|op| op.accepts(DType::F64)) {
            let points: &[f64] = match op {
                Unary::Acosh => &[1.3, 2.5],
                Unary::Asin | Unary::Acos | Unary::Atanh | Unary::Erfinv => &[-0.7, 0.2, 0.6],
                Unary::Sqrt | Unary::Rsqrt | Unary::Log | Unary::Log2 | Unary::Log10 | Unary::Log1p => &[0.3, 0.8, 2.7],
                Unary::Sinh | Unary::Cosh | Unary::Exp | Unary::Expm1 | Unary::Exp2 => &[-1.3, 0.4, 1.1],
                _ => &[-2.3, -0.6, 0.3, 0.9, 1.2],
            };
            for &p in points {
                check(op.name(), &Expr::unary(op, &a), &[p], 2);
            }
        }
        for &op in Binary::ALL.iter().filter(|op| op.accepts(DType::F64) && !op.is_comparison()) {
            for p in [[0.7, 1.3], [1.7, 0.4], [2.2, -1.7]] {
                check(op.name(), &Expr::binary(op, &a, &b), &p, 2);
            }
        }
        check("mul_add", &a.mul_add(&(&b * &a), &b.sin()), &[0.5, 0.7], 2);
        let c = a.less(&b);
        check("select", &c.select(&(&a * &a), &(&b * &a)), &[0.5, 0.7], 2);
    }

    #[test]
    fn derivatives_read_no_more_than_they_need() {
        let (x, y, g) = (Expr::input(0, DType::F32), Expr::input(1, DType::F32), Expr::input(2, DType::F32));
        assert_eq!((&x + &y).derivative(0, &g), Some(g.clone()));
        assert_eq!((&x * &y).derivative(1, &g), Some(&g * &x));
        let t = x.tanh();
        let reads_t = t.derivative(0, &g).unwrap().substitute(&|e| (e == &t).then(|| Expr::input(9, DType::F32)));
        assert!(!Expr::topological(&[reads_t]).contains(&x));
    }

    #[test]
    fn edges_follow_the_contract() {
        let x = Expr::input(0, DType::F64);
        let y = Expr::input(1, DType::F64);
        let one = Expr::constant(1.0f64);
        assert_eq!(value(&x.relu().derivative(0, &one).unwrap(), &[0.0]), 0.0);
        assert_eq!(value(&x.maximum(&y).derivative(0, &one).unwrap(), &[2.0, 2.0]), 0.5);
        assert_eq!(value(&x.abs().derivative(0, &one).unwrap(), &[0.0]), 0.0);
        assert_eq!(value(&x.pow(&y).derivative(1, &one).unwrap(), &[0.0, 2.0]), 0.0);
        assert_eq!(value(&x.pow(&y).derivative(0, &one).unwrap(), &[0.0, 0.0]), 0.0);
        assert_eq!(value(&x.hypot(&y).derivative(0, &one).unwrap(), &[0.0, 0.0]), 0.0);
    }
}
