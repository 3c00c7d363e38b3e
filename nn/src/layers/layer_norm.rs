//! [`LayerNorm`]: each sample normalized over its features.

use super::{
    affine::{Affine, affine_options},
    python,
};
use crate::{Block, Parameter, Parameters, Visitor, describe::print_blocks, hooks, naming};
use isograd_core::{Backend, Dyn, Result, Tensor};

/// (x - mean) / √(variance + ε) · γ + β over `axis`, with γ and β for each of its elements (Ba et al., arXiv:1607.06450). A
/// clone shares the parameters.
///
/// ```
/// use isograd::{DType, Tensor};
/// use isograd::nn::{Block, LayerNorm, Parameters, initializers::Zero};
/// let ctx = isograd::device("cpu")?;
/// let layer = LayerNorm::new();
/// layer.initialize(Zero, &ctx)?;
/// let x = Tensor::arange(&ctx, 0, 24, 1, DType::F32)?.reshape([4, 6])?;
/// let y = layer.forward(&x)?;
/// assert_eq!(y.shape(), x.shape());
/// assert!((y.square()?.mean((), false)?.asscalar::<f32>()? - 1.0).abs() < 1e-3);
/// # Ok::<(), isograd::Error>(())
/// ```
#[derive(Clone)]
pub struct LayerNorm<B: Backend = Dyn> {
    axis: isize,
    affine: Affine<B>,
}

impl<B: Backend> Default for LayerNorm<B> {
    fn default() -> Self {
        LayerNorm { axis: -1, affine: Affine::new(&naming::prefix("layernorm"), 1e-5) }
    }
}

impl<B: Backend> LayerNorm<B> {
    /// Over the last axis, ε 1e-5, with γ and β.
    pub fn new() -> Self {
        LayerNorm::default()
    }

    /// The axis that is normalized over.
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

affine_options!(LayerNorm);

impl<B: Backend> Parameters<B> for LayerNorm<B> {
    fn visit(&self, visitor: &mut dyn Visitor<B>) {
        self.affine.visit(visitor);
    }

    fn label(&self) -> Option<String> {
        let a = &self.affine;
        let (eps, center, scale) = (python::float(a.epsilon), python::bool(a.center), python::bool(a.scale));
        let channels = a.channels().unwrap_or(0);
        Some(format!(
            "LayerNorm(eps={eps}, axis={}, center={center}, scale={scale}, in_channels={channels})",
            self.axis
        ))
    }
}

impl<B: Backend> Block<B> for LayerNorm<B> {
    fn forward(&self, x: &Tensor<B>) -> Result<Tensor<B>> {
        hooks::layer(self, x, || self.compute(x))
    }
}

impl<B: Backend> LayerNorm<B> {
    fn compute(&self, x: &Tensor<B>) -> Result<Tensor<B>> {
        let size = super::affine::size_of_axis("LayerNorm", x, self.axis)?;
        let (gamma, beta) = self.affine.bind("LayerNorm", x, size)?;
        x.layer_norm(&gamma, &beta, self.affine.epsilon, self.axis)
    }
}

print_blocks! {
    impl [B: Backend] LayerNorm<B>;
}
