//! What a layer ends with, a bias and an activation, in one kernel: that of the product where a backend has one, or one pass over
//! what a convolution gave.

use super::activation;
use crate::Activation;
use isograd_core::{Backend, DType, Result, Shape, Tensor, operators::Fused};
use std::sync::OnceLock;

type OfDTypes = [OnceLock<Fused>; DType::ALL.len()];

/// For `dtype`, a floating one: a bias is added, where there is one, then an activation applied.
fn epilogue(activation: Option<Activation>, bias: bool, dtype: DType) -> Result<Option<&'static Fused>> {
    static ALL: [[OfDTypes; 2]; Activation::ALL.len() + 1] =
        [const { [const { [const { OnceLock::new() }; DType::ALL.len()] }; 2] }; Activation::ALL.len() + 1];
    if activation.is_none() && !bias {
        return Ok(None);
    }
    let cell = &ALL[activation.map_or(0, |a| a as usize + 1)][bias as usize][dtype as usize];
    if let Some(fused) = cell.get() {
        return Ok(Some(fused));
    }
    let fused =
        Fused::new(activation.map_or("linear", Activation::name), &[dtype; 2][..1 + bias as usize], 0, |x, _| {
            let sum = if bias { &x[0] + &x[1] } else { x[0].clone() };
            activation.map_or(sum.clone(), |a| a.expr(&sum))
        })?;
    Ok(Some(cell.get_or_init(|| fused)))
}

/// activation(x Wᵀ + b).
pub(super) fn linear<B: Backend>(
    x: &Tensor<B>,
    weight: &Tensor<B>,
    bias: Option<&Tensor<B>>,
    activation: Option<Activation>,
) -> Result<Tensor<B>> {
    let weight = weight.t()?;
    if x.dtype().is_float()
        && let Some(end) = epilogue(activation, bias.is_some(), x.dtype())?
    {
        return x.matmul_fused(&weight, end, bias.as_slice(), &[]);
    }
    apart(x.matmul(&weight)?, bias, activation)
}

/// activation(x + b), with an element of b per channel of x, `[batch, channels, ..]`.
pub(super) fn of_channels<B: Backend>(
    x: Tensor<B>,
    bias: Option<&Tensor<B>>,
    activation: Option<Activation>,
) -> Result<Tensor<B>> {
    let mut shape = Shape::from(vec![1; x.rank()]);
    shape.as_mut_slice()[1] = x.shape()[1];
    let bias = bias.map(|b| b.reshape(&shape)).transpose()?;
    match (&bias, activation) {
        (Some(bias), Some(_)) if x.dtype().is_float() => {
            let end = epilogue(activation, true, x.dtype())?.expect("there are a bias and an activation");
            end.call(&[&x, bias], &[])
        }
        _ => apart(x, bias.as_ref(), activation),
    }
}

fn apart<B: Backend>(x: Tensor<B>, bias: Option<&Tensor<B>>, activation: Option<Activation>) -> Result<Tensor<B>> {
    let sum = match bias {
        Some(bias) => x.add(bias)?,
        None => x,
    };
    activation::apply(activation, sum)
}
