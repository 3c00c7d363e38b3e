//! [`Zero`], [`One`] and [`Constant`].

use super::Initializer;
use crate::options;
use isograd_core::{Backend, DType, Result, Shape, Tensor};

/// Zeros.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Zero;

/// Ones.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct One;

/// One value everywhere.
///
/// ```
/// use isograd::nn::{Dense, Parameters, initializers::Constant};
/// let ctx = isograd::device("cpu")?;
/// let layer = Dense::new(1).in_units(2);
/// layer.initialize(Constant(0.5), &ctx)?;
/// assert_eq!(layer.weight().data()?.to_vec::<f32>()?, [0.5, 0.5]);
/// # Ok::<(), isograd::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Constant(pub f64);

impl<B: Backend> Initializer<B> for Zero {
    fn initialize(&self, ctx: &B, _: &str, shape: &Shape, dtype: DType) -> Result<Tensor<B>> {
        Tensor::zeros(ctx, shape, dtype)
    }
}

impl<B: Backend> Initializer<B> for One {
    fn initialize(&self, ctx: &B, _: &str, shape: &Shape, dtype: DType) -> Result<Tensor<B>> {
        Tensor::ones(ctx, shape, dtype)
    }
}

impl<B: Backend> Initializer<B> for Constant {
    fn initialize(&self, ctx: &B, _: &str, shape: &Shape, dtype: DType) -> Result<Tensor<B>> {
        options::require("Constant", "the value", self.0, !self.0.is_nan(), "a number")?;
        Tensor::full(ctx, shape, self.0, dtype)
    }
}
