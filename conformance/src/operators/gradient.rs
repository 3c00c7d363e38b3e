//! Gradients against the oracle's analytic ones: each input used twice, through views, through another backend and back,
//! written or added, with a head gradient that is not contiguous.

use super::{Row, described};
use crate::{
    case::{Checked, Environment, Failure, Measured, compare},
    numbers::{Array, Numbers},
    oracle::{Oracle, cells},
    suite::total,
};
use isograd_core::{DType, Dyn, GradReq, Result, Tensor, autograd};
use isograd_reference::Reference;

/// How the gradient is taken.
#[derive(Clone, Debug)]
struct Way {
    /// Inputs go to another backend and back.
    across: bool,
    /// Taken twice, adding.
    add: bool,
    /// Inputs are views.
    views: bool,
    /// Where the head gradients are drawn from.
    head: Numbers,
}

pub(super) fn check(environment: &Environment<'_>, row: &Row) -> Checked {
    let mut numbers = environment.numbers(&format!("gradient {} {}", row.operator, row.variant));
    total((0..environment.draws().min(10)).map(|draw| {
        let way = Way {
            across: numbers.below(3) == 0 || draw == 1,
            add: numbers.below(3) == 0 || draw == 2,
            views: draw != 2,
            head: numbers.clone(),
        };
        let arrays: Vec<Array> = (row.inputs.iter())
            .map(|(shape, domain)| {
                let values = domain.draw(&mut numbers, environment.dtype, shape.iter().product());
                if way.views {
                    Array::view(&mut numbers, environment.dtype, shape, &values)
                } else {
                    Array::dense(environment.dtype, shape, &values)
                }
            })
            .collect();
        let told = format!(
            "gradient{}{}",
            if way.across { ", through another backend" } else { "" },
            if way.add { ", added" } else { "" }
        );
        one(environment, row, &arrays, &way).map_err(|f| Failure { variant: told, ..f }.on(described(&arrays)))
    }))
}

fn one(environment: &Environment<'_>, row: &Row, arrays: &[Array], way: &Way) -> Checked {
    let expected = gradients(&Dyn::new(Oracle), environment.dtype, row, arrays, way, None)?;
    let there = way.across.then(|| Dyn::new(Reference));
    let got = gradients(environment.ctx, environment.dtype, row, arrays, way, there.as_ref())?;
    let mut measured = Measured::default();
    for (k, (g, e)) in got.iter().zip(&expected).enumerate() {
        if g.dtype() != e.dtype() || g.shape() != e.shape() {
            return Err(Failure::new("", format!("gradient {k} is {} {:?}", g.dtype(), g.shape())));
        }
        let checked = compare(g.dtype(), &g.to_values()?, &cells(e)?);
        measured.merge(&checked.map_err(|f| Failure { why: format!("gradient {k} is off"), ..f })?);
    }
    Ok(measured)
}

fn gradients(
    ctx: &Dyn,
    dtype: DType,
    row: &Row,
    arrays: &[Array],
    way: &Way,
    there: Option<&Dyn>,
) -> Result<Vec<Tensor>> {
    let bases: Vec<Tensor> = arrays.iter().map(|a| a.base(ctx)).collect::<Result<_>>()?;
    for base in &bases {
        base.attach_grad_with(if way.add { GradReq::Add } else { GradReq::Write })?;
    }
    for _ in 0..if way.add { 2 } else { 1 } {
        let mut numbers = way.head.clone();
        let (y, again) = autograd::record(|| -> Result<_> {
            let views: Vec<Tensor> = (arrays.iter().zip(&bases))
                .map(|(a, b)| {
                    let view = a.of(b)?;
                    there.map_or(Ok(view.clone()), |there| view.copyto(there)?.copyto(ctx))
                })
                .collect::<Result<_>>()?;
            // Each input is used once more, so that gradients must add up.
            let again: Vec<Tensor> = views.iter().map(|x| x.mul_scalar(0.5)).collect::<Result<_>>()?;
            Ok(((row.body)(ctx, dtype, &views)?, again))
        })?;
        let mut heads: Vec<&Tensor> = again.iter().collect();
        if y.requires_grad() {
            heads.push(&y);
        }
        let mut weights = Vec::new();
        for head in &heads {
            let n = head.size();
            let values = crate::numbers::Domain::Range(0.25, 1.0, &[]).draw(&mut numbers, head.dtype(), n);
            let array = Array::view(&mut numbers, head.dtype(), head.shape(), &values);
            weights.push(array.of(&array.base(ctx)?)?);
        }
        autograd::backward(&heads, &weights.iter().collect::<Vec<_>>(), false, false)?;
    }
    bases.iter().map(Tensor::grad).collect()
}
