//! Activations that are layers of their own in Gluon: [`LeakyReLU`], [`ELU`], [`SELU`], [`GELU`], [`Swish`], [`PReLU`].

use super::python;
use crate::{
    Block, Initializer, Parameter, Parameters, Visitor, describe::print_blocks, hooks, initializers::Constant, naming,
    options,
};
use isograd_core::{Backend, Dyn, Result, Tensor};

/// x above 0, α x below (Maas et al., ICML 2013).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LeakyReLU {
    alpha: f64,
}

impl LeakyReLU {
    /// With the given alpha.
    pub fn new(alpha: f64) -> Self {
        LeakyReLU { alpha }
    }
}

impl<B: Backend> Parameters<B> for LeakyReLU {
    fn visit(&self, _: &mut dyn Visitor<B>) {}

    fn label(&self) -> Option<String> {
        Some(format!("LeakyReLU({})", python::float(self.alpha)))
    }
}

impl<B: Backend> Block<B> for LeakyReLU {
    fn forward(&self, x: &Tensor<B>) -> Result<Tensor<B>> {
        hooks::layer(self, x, || {
            options::finite("LeakyReLU", "alpha", self.alpha)?;
            x.leaky_relu(self.alpha)
        })
    }
}

/// x above 0, α (e^x - 1) below (Clevert et al., arXiv:1511.07289).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ELU {
    alpha: f64,
}

impl ELU {
    /// With the given alpha.
    pub fn new(alpha: f64) -> Self {
        ELU { alpha }
    }
}

impl<B: Backend> Parameters<B> for ELU {
    fn visit(&self, _: &mut dyn Visitor<B>) {}

    fn label(&self) -> Option<String> {
        Some("ELU(\n\n)".into())
    }
}

impl<B: Backend> Block<B> for ELU {
    fn forward(&self, x: &Tensor<B>) -> Result<Tensor<B>> {
        hooks::layer(self, x, || {
            options::finite("ELU", "alpha", self.alpha)?;
            x.elu(self.alpha)
        })
    }
}

/// λ x above 0, λ α (e^x - 1) below, with the constants of Klambauer et al., arXiv:1706.02515.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct SELU;

impl<B: Backend> Parameters<B> for SELU {
    fn visit(&self, _: &mut dyn Visitor<B>) {}

    fn label(&self) -> Option<String> {
        Some("SELU(\n\n)".into())
    }
}

impl<B: Backend> Block<B> for SELU {
    fn forward(&self, x: &Tensor<B>) -> Result<Tensor<B>> {
        hooks::layer(self, x, || x.selu())
    }
}

/// x Φ(x), with the normal distribution function Φ (Hendrycks and Gimpel, arXiv:1606.08415).
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct GELU;

impl<B: Backend> Parameters<B> for GELU {
    fn visit(&self, _: &mut dyn Visitor<B>) {}

    fn label(&self) -> Option<String> {
        Some("GELU(\n\n)".into())
    }
}

impl<B: Backend> Block<B> for GELU {
    fn forward(&self, x: &Tensor<B>) -> Result<Tensor<B>> {
        hooks::layer(self, x, || x.gelu())
    }
}

/// x σ(β x) (Ramachandran et al., arXiv:1710.05941).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Swish {
    beta: f64,
}

impl Swish {
    /// With the given beta.
    pub fn new(beta: f64) -> Self {
        Swish { beta }
    }
}

impl<B: Backend> Parameters<B> for Swish {
    fn visit(&self, _: &mut dyn Visitor<B>) {}

    fn label(&self) -> Option<String> {
        Some("Swish(\n\n)".into())
    }
}

impl<B: Backend> Block<B> for Swish {
    fn forward(&self, x: &Tensor<B>) -> Result<Tensor<B>> {
        hooks::layer(self, x, || {
            options::finite("Swish", "beta", self.beta)?;
            x.mul(&x.mul_scalar(self.beta)?.sigmoid()?)
        })
    }
}

/// x above 0, α x below, with α trained: one for all elements, or with [`PReLU::in_channels`] one for each element of axis 1
/// (He et al., arXiv:1502.01852). It begins at 0.25. A clone shares the parameter.
///
/// ```
/// use isograd::Tensor;
/// use isograd::nn::{Block, ELU, GELU, LeakyReLU, PReLU, Parameters, SELU, Swish, initializers::Zero};
/// let ctx = isograd::device("cpu")?;
/// let x = Tensor::from_slice(&ctx, &[-4.0f32, 2.0], [1, 2])?;
/// let layer = PReLU::new();
/// layer.initialize(Zero, &ctx)?;
/// assert_eq!(layer.forward(&x)?.to_vec::<f32>()?, [-1.0, 2.0]);
/// assert_eq!(LeakyReLU::new(0.5).forward(&x)?.to_vec::<f32>()?, [-2.0, 2.0]);
/// let others: [&dyn Block<_>; 4] = [&ELU::new(1.0), &SELU, &GELU, &Swish::new(1.0)];
/// assert!(others.iter().all(|f| f.forward(&x).is_ok_and(|y| y.shape() == x.shape())));
/// # Ok::<(), isograd::Error>(())
/// ```
#[derive(Clone)]
pub struct PReLU<B: Backend = Dyn> {
    alpha: Parameter<B>,
}

impl<B: Backend> Default for PReLU<B> {
    fn default() -> Self {
        let name = format!("{}alpha", naming::prefix("prelu"));
        PReLU { alpha: Parameter::new(name, &[Some(1)]).with_initializer(Constant(0.25)) }
    }
}

impl<B: Backend> PReLU<B> {
    /// One α for all elements.
    pub fn new() -> Self {
        PReLU::default()
    }

    /// One α for each element of axis 1.
    #[must_use]
    pub fn in_channels(mut self, channels: usize) -> Self {
        self.alpha = self.alpha.shaped(&[Some(channels)]);
        self
    }

    /// Uses the parameters of `other`: gradients add up, and a step changes both layers.
    #[must_use]
    pub fn share(mut self, other: &Self) -> Self {
        self.alpha = other.alpha.clone();
        self
    }

    /// Initializes α by `initializer` instead of 0.25.
    #[must_use]
    pub fn alpha_initializer(mut self, initializer: impl Initializer<B> + 'static) -> Self {
        self.alpha = self.alpha.with_initializer(initializer);
        self
    }

    /// Uses `alpha`, such as that of another layer, in the place of its own: the two are one. Its shape must be that of this layer's.
    #[must_use]
    pub fn with_alpha(mut self, alpha: &Parameter<B>) -> Self {
        self.alpha = self.alpha.replaced(alpha);
        self
    }

    /// α.
    pub fn alpha(&self) -> &Parameter<B> {
        &self.alpha
    }
}

impl<B: Backend> Parameters<B> for PReLU<B> {
    fn visit(&self, visitor: &mut dyn Visitor<B>) {
        visitor.child("alpha", &self.alpha);
    }

    fn label(&self) -> Option<String> {
        Some("PReLU(\n\n)".into())
    }
}

impl<B: Backend> Block<B> for PReLU<B> {
    fn forward(&self, x: &Tensor<B>) -> Result<Tensor<B>> {
        hooks::layer(self, x, || self.compute(x))
    }
}

impl<B: Backend> PReLU<B> {
    fn compute(&self, x: &Tensor<B>) -> Result<Tensor<B>> {
        let mut alpha = self.alpha.data_on(x.ctx())?;
        if alpha.size() != 1 && x.rank() > 2 {
            let mut shape = vec![1; x.rank() - 1];
            shape[0] = alpha.size();
            alpha = alpha.reshape(&isograd_core::Shape::from(shape))?;
        }
        let positive = x.greater_scalar(0)?;
        // The gradient in α must not read what is positive, which may be infinite.
        positive.where_(x, &x.masked_fill(&positive, 0)?.mul(&alpha)?)
    }
}

print_blocks! {
    impl [B: Backend] PReLU<B>;
}
