//! [`Uniform`] and [`Normal`], of a width that does not depend on the shape.

use super::Initializer;
use crate::options;
use isograd_core::{Backend, DType, Result, Shape, Tensor};

/// Uniform numbers in `-scale..scale`; Gluon's default, with scale 0.07.
///
/// ```
/// use isograd::nn::{Dense, Parameters, initializers::Uniform};
/// let ctx = isograd::device("cpu")?;
/// let layer = Dense::new(30).in_units(40);
/// layer.initialize(Uniform::default(), &ctx)?;
/// assert!(layer.weight().data()?.to_vec::<f32>()?.iter().all(|w| w.abs() <= 0.07));
/// # Ok::<(), isograd::Error>(())
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
        options::finite("Uniform", "scale", self.scale)?;
        Tensor::uniform(ctx, shape, -self.scale, self.scale, dtype)
    }
}

impl<B: Backend> Initializer<B> for Normal {
    fn initialize(&self, ctx: &B, _: &str, shape: &Shape, dtype: DType) -> Result<Tensor<B>> {
        options::not_negative("Normal", "sigma", self.sigma)?;
        Tensor::normal(ctx, shape, 0.0, self.sigma, dtype)
    }
}

/// Normal numbers without those further than two standard deviations from the mean, in whose place others are drawn.
///
/// ```
/// use isograd::DType;
/// use isograd::nn::initializers::{Initializer, TruncatedNormal};
/// let ctx = isograd::device("cpu")?;
/// let x = TruncatedNormal { sigma: 0.5, ..TruncatedNormal::default() }.initialize(&ctx, "w", &[1000].into(), DType::F32)?;
/// assert!(x.abs()?.max((), false)?.asscalar::<f32>()? <= 1.0);
/// assert!((x.std((), false, 0)?.asscalar::<f32>()? - 0.44).abs() < 0.03);
/// # Ok::<(), isograd::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TruncatedNormal {
    /// The mean.
    pub mean: f64,
    /// The standard deviation before the truncation.
    pub sigma: f64,
}

impl Default for TruncatedNormal {
    /// Mean 0, standard deviation 0.01.
    fn default() -> Self {
        TruncatedNormal { mean: 0.0, sigma: 0.01 }
    }
}

impl<B: Backend> Initializer<B> for TruncatedNormal {
    fn initialize(&self, ctx: &B, _: &str, shape: &Shape, dtype: DType) -> Result<Tensor<B>> {
        options::finite("TruncatedNormal", "mean", self.mean)?;
        options::not_negative("TruncatedNormal", "sigma", self.sigma)?;
        // By inversion: erf(√2) is the probability of lying inside, so no draw is thrown away.
        const INSIDE: f64 = 0.954_499_736_103_641_6;
        let inside = Tensor::uniform(ctx, shape, -INSIDE, INSIDE, DType::F32)?
            .erfinv()?
            .clamp(-std::f64::consts::SQRT_2, std::f64::consts::SQRT_2)?;
        inside.mul_scalar(self.sigma * std::f64::consts::SQRT_2)?.add_scalar(self.mean)?.cast(dtype)
    }
}
