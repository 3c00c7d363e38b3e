//! x Wᵀ + b and an activation of it, as one kernel where a backend has one.

use super::activation;
use crate::Activation;
use isograd_core::{Backend, DType, Result, Tensor, operators::Fused};
use std::sync::OnceLock;

type OfDTypes = [OnceLock<Fused>; DType::ALL.len()];

/// What ends a product of `dtype`, a floating one: a bias is added, where there is one, then an activation applied.
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
    let fused = Fused::new("linear", &[dtype; 2][..1 + bias as usize], 0, |x, _| {
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
    let product = x.matmul(&weight)?;
    match bias {
        Some(bias) => activation::apply(activation, product.add(bias)?),
        None => activation::apply(activation, product),
    }
}
