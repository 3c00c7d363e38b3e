//! Programs that nobody wrote: expressions drawn at random, of several inputs, dtypes, scalars and outputs.

use super::{
    Launch, Region,
    cases::{any, distinct, not_empty},
    check,
};
use crate::{
    case::{Checked, Environment},
    numbers::{Domain, Numbers},
};
use isograd_core::{Backend, DType, Expr, Value, expr::Program};

pub(super) fn random(e: &Environment<'_>, n: &mut Numbers) -> Checked {
    let (d, s) = (e.dtype, not_empty(n, e.size));
    let computes = e.ctx.capabilities().computes;
    let near = [d, d, d, DType::Bool, DType::F32, DType::I32, DType::F16, DType::U8];
    let dtypes: Vec<DType> =
        (0..1 + n.below(7)).map(|_| n.pick(&near)).map(|t| if computes.contains(t) { t } else { d }).collect();
    let scalars = [Value::F64(1.5).cast(d), Value::F64(-2.0).cast(d)];
    let mut terms: Vec<Expr> = dtypes.iter().enumerate().map(|(k, &t)| Expr::input(k as u8, t).cast(d)).collect();
    terms.extend([Expr::scalar(0, d), Expr::scalar(1, d), Expr::index().and(&Expr::constant(7i64)).cast(d)]);
    let mut questions = vec![terms[0].less(&terms[terms.len() - 1])];
    for _ in 0..4 + n.below(12) {
        let [a, b] = [0; 2].map(|_| terms[terms.len() - 1 - n.below(terms.len().min(6))].clone());
        let c = questions[n.below(questions.len())].clone();
        terms.push(match n.below(if d.is_float() { 15 } else { 11 }) {
            0 => &a + &b,
            1 => &a - &b,
            2 => &a * &b,
            3 => a.maximum(&b),
            4 => a.minimum(&b),
            5 => a.abs(),
            6 => -&a,
            7 | 8 => c.select(&a, &b),
            9 => {
                questions.push(c.xor(&a.less_equal(&b)));
                a.sign()
            }
            10 if d.is_int() => a.xor(&b),
            10 => a.tanh(),
            11 => &a / &(b.square() + 1.0),
            12 => (-&a.abs()).exp(),
            13 => a.mul_add(&b, &terms[0]),
            _ => a.sigmoid(),
        });
    }
    let last = &terms[terms.len() - 1];
    let mut roots =
        vec![last.clone(), questions[questions.len() - 1].clone(), last + &terms[0], terms[terms.len() - 3].clone()];
    roots.truncate(1 + n.below(4));
    let inputs: Vec<Region> = (dtypes.iter())
        .map(|&t| {
            let layout = any(n, &s);
            Region::input(n, t, layout, Domain::Any)
        })
        .collect();
    let outputs: Vec<Region> = roots.iter().map(|r| Region::output(r.dtype(), distinct(n, &s))).collect();
    let program = Program::new("drawn at random", &roots, &dtypes, &[d, d])?;
    check(e, &Launch::Map(program, scalars.to_vec()), &inputs, &outputs)
}
