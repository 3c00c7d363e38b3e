//! [`InstanceNorm`]: each channel of each sample normalized by itself.

use super::{
    affine::{Affine, affine_options},
    python,
};
use crate::{Block, Parameter, Parameters, Visitor, describe::print_blocks, hooks, naming};
use isograd_core::{Backend, Dyn, Result, Tensor};

/// (x - mean) / √(variance + ε) · γ + β over the spatial axes, for each sample and each channel of `axis` (Ulyanov et al.,
/// arXiv:1607.08022). As in Gluon γ is not trained unless `scale` is set; it stays at 1, or
/// at what a file put there. A clone shares the parameters.
///
/// ```
/// use isograd::{DType, Tensor};
/// use isograd::nn::{Block, InstanceNorm, Parameters, initializers::Zero};
/// let ctx = isograd::device("cpu")?;
/// let layer = InstanceNorm::new();
/// layer.initialize(Zero, &ctx)?;
/// let x = Tensor::arange(&ctx, 0, 24, 1, DType::F32)?.reshape([2, 3, 4])?;
/// let y = layer.forward(&x)?;
/// assert_eq!(y.shape(), x.shape());
/// assert!((y.square()?.mean((), false)?.asscalar::<f32>()? - 1.0).abs() < 1e-3);
/// # Ok::<(), isograd::Error>(())
/// ```
#[derive(Clone)]
pub struct InstanceNorm<B: Backend = Dyn> {
    axis: isize,
    affine: Affine<B>,
}

impl<B: Backend> Default for InstanceNorm<B> {
    fn default() -> Self {
        let affine = Affine::new(&naming::prefix("instancenorm"), 1e-5).with_scale(false);
        InstanceNorm { axis: 1, affine }
    }
}

impl<B: Backend> InstanceNorm<B> {
    /// Channels on axis 1, ε 1e-5, with β only.
    pub fn new() -> Self {
        InstanceNorm::default()
    }

    /// The axis of the channels.
    #[must_use]
    pub fn axis(mut self, axis: isize) -> Self {
        self.axis = axis;
        self
    }

    /// Uses the parameters of `other`: gradients add up, and a step changes both layers.
    #[must_use]
    pub fn share(mut self, other: &Self) -> Self {
        self.affine.take(&other.affine);
        self
    }

    /// The number of channels, so that shapes are known before the first batch.
    #[must_use]
    pub fn in_channels(mut self, channels: usize) -> Self {
        self.affine = self.affine.sized(channels);
        self
    }
}

affine_options!(InstanceNorm);

impl<B: Backend> Parameters<B> for InstanceNorm<B> {
    fn visit(&self, visitor: &mut dyn Visitor<B>) {
        self.affine.visit(visitor);
    }

    fn label(&self) -> Option<String> {
        let a = &self.affine;
        let (eps, center, scale) = (python::float(a.epsilon), python::bool(a.center), python::bool(a.scale));
        let channels = a.channels().unwrap_or(0);
        Some(format!(
            "InstanceNorm(eps={eps}, axis={}, center={center}, scale={scale}, in_channels={channels})",
            self.axis
        ))
    }
}

impl<B: Backend> Block<B> for InstanceNorm<B> {
    fn forward(&self, x: &Tensor<B>) -> Result<Tensor<B>> {
        hooks::layer(self, x, || self.compute(x))
    }
}

impl<B: Backend> InstanceNorm<B> {
    fn compute(&self, x: &Tensor<B>) -> Result<Tensor<B>> {
        let size = super::affine::size_of_axis("InstanceNorm", x, self.axis)?;
        let (gamma, beta) = self.affine.bind("InstanceNorm", x, size)?;
        if self.axis == 1 {
            return x.instance_norm(&gamma, &beta, self.affine.epsilon);
        }
        x.swapaxes(1, self.axis)?.instance_norm(&gamma, &beta, self.affine.epsilon)?.swapaxes(1, self.axis)
    }
}

print_blocks! {
    impl [B: Backend] InstanceNorm<B>;
}
