//! [`Uniform`] and [`Normal`], of a width that does not depend on the shape.

use super::Initializer;
use isograd_core::{Backend, DType, Result, Shape, Tensor};

/// Uniform numbers in `-scale..scale`; Gluon's default, with scale 0.07.
///
/// ```
/// use isograd_nn::{Dense, Parameters, initializers::Uniform};
/// # let ctx = isograd_reference::Reference;
/// let layer = Dense::new(30).in_units(40);
/// layer.initialize(Uniform::default(), &ctx)?;
/// assert!(layer.weight().data()?.to_vec::<f32>()?.iter().all(|w| w.abs() <= 0.07));
/// # Ok::<(), isograd_core::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Uniform {
    /// Half the width of the interval.
    pub scale: f64,
}

impl Default for Uniform {
    fn default() -> Self {
        Uniform { scale: 0.07 }
    }
}

/// Normal numbers of mean 0 and standard deviation `sigma`, 0.01 by default.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Normal {
    /// The standard deviation.
    pub sigma: f64,
}

impl Default for Normal {
    fn default() -> Self {
        Normal { sigma: 0.01 }
    }
}

impl<B: Backend> Initializer<B> for Uniform {
    fn initialize(&self, ctx: &B, _: &str, shape: &Shape, dtype: DType) -> Result<Tensor<B>> {
        Tensor::uniform(ctx, shape, -self.scale, self.scale, dtype)
    }
}

impl<B: Backend> Initializer<B> for Normal {
    fn initialize(&self, ctx: &B, _: &str, shape: &Shape, dtype: DType) -> Result<Tensor<B>> {
        Tensor::normal(ctx, shape, 0.0, self.sigma, dtype)
    }
}
