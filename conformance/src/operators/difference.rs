//! Gradients against differences: first and second order, along random directions, in f64, on the device itself.

use super::Row;
use crate::{
    case::{Checked, Environment, Failure, Level, Measured},
    gradcheck::gradcheck,
    numbers::Array,
};
use isograd_core::{DType, Tensor};

pub(super) fn check(environment: &Environment<'_>, row: &Row) -> Checked {
    let ctx = environment.ctx;
    // The oracle's gradients are held against the device's in a quick run, and those against differences in any other.
    if environment.level == Level::Quick {
        return Ok(Measured::default());
    }
    let mut numbers = environment.numbers(&format!("difference {} {}", row.operator, row.variant));
    let arrays: Vec<Array> = (row.inputs.iter())
        .map(|(shape, domain)| {
            let values = domain.draw(&mut numbers, DType::F64, shape.iter().product());
            Array::dense(DType::F64, shape, &values)
        })
        .collect();
    let inputs: Vec<Tensor> = arrays.iter().map(|a| a.base(ctx)).collect::<Result<_, _>>()?;
    let f = |x: &[Tensor]| (row.body)(ctx, DType::F64, x);
    let y = f(&inputs)?;
    // Casts to narrower dtypes are steps; what is empty has no differences.
    if y.dtype() != DType::F64 || y.size() == 0 {
        return Ok(Measured::default());
    }
    gradcheck(f, &inputs).map_err(|e| Failure::new("differences", e.to_string()).on(super::described(&arrays)))?;
    // They agree within a relative bound, not one in units of the last place.
    Ok(Measured::default())
}
