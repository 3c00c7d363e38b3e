//! [`GroupNorm`]: groups of channels normalized together.

use super::{
    affine::{Affine, affine_options},
    python,
};
use crate::{Block, Parameter, Parameters, Visitor, describe::print_blocks, hooks, naming};
use isograd_core::{Backend, Dyn, Result, Tensor};

/// (x - mean) / √(variance + ε) over each of `num_groups` groups of channels of `[batch, channels, ..]`, then γ and β per
/// channel (Wu and He, arXiv:1803.08494), or with [`GroupNorm::per_group`] per group, as in MXNet 1.9. A clone shares the
/// parameters.
///
/// ```
/// use isograd::{DType, Tensor};
/// use isograd::nn::{Block, GroupNorm, Parameters, initializers::Zero};
/// let ctx = isograd::device("cpu")?;
/// let layer = GroupNorm::new(2);
/// layer.initialize(Zero, &ctx)?;
/// let x = Tensor::arange(&ctx, 0, 24, 1, DType::F32)?.reshape([2, 4, 3])?;
/// let y = layer.forward(&x)?;
/// assert_eq!(y.shape(), x.shape());
/// assert!((y.square()?.mean((), false)?.asscalar::<f32>()? - 1.0).abs() < 1e-3);
/// # Ok::<(), isograd::Error>(())
/// ```
#[derive(Clone)]
pub struct GroupNorm<B: Backend = Dyn> {
    num_groups: usize,
    per_group: bool,
    affine: Affine<B>,
}

impl<B: Backend> GroupNorm<B> {
    /// Of so many groups, ε 1e-5, with γ and β.
    pub fn new(num_groups: usize) -> Self {
        GroupNorm { num_groups, per_group: false, affine: Affine::new(&naming::prefix("groupnorm"), 1e-5) }
    }

    /// Whether γ and β have one element per group, MXNet's form, rather than one per channel.
    #[must_use]
    pub fn per_group(mut self, per_group: bool) -> Self {
        self.per_group = per_group;
        self
    }

    /// Uses the parameters of `other`: gradients add up, and a step changes both layers.
    #[must_use]
    pub fn share(mut self, other: &Self) -> Self {
        self.affine.take(&other.affine);
        (self.num_groups, self.per_group) = (other.num_groups, other.per_group);
        self
    }

    /// The number of channels, so that shapes are known before the first batch.
    #[must_use]
    pub fn in_channels(mut self, channels: usize) -> Self {
        self.affine = self.affine.sized(if self.per_group { self.num_groups } else { channels });
        self
    }
}

affine_options!(GroupNorm);

impl<B: Backend> Parameters<B> for GroupNorm<B> {
    fn visit(&self, visitor: &mut dyn Visitor<B>) {
        self.affine.visit(visitor);
    }

    fn label(&self) -> Option<String> {
        let a = &self.affine;
        let (eps, center, scale) = (python::float(a.epsilon), python::bool(a.center), python::bool(a.scale));
        let groups = self.num_groups;
        Some(format!("GroupNorm(eps={eps}, num_groups={groups}, center={center}, scale={scale})"))
    }
}

impl<B: Backend> Block<B> for GroupNorm<B> {
    fn forward(&self, x: &Tensor<B>) -> Result<Tensor<B>> {
        hooks::layer(self, x, || self.compute(x))
    }
}

impl<B: Backend> GroupNorm<B> {
    fn compute(&self, x: &Tensor<B>) -> Result<Tensor<B>> {
        let channels = super::affine::size_of_axis("GroupNorm", x, 1)?;
        let (gamma, beta) =
            self.affine.bind("GroupNorm", x, if self.per_group { self.num_groups } else { channels })?;
        x.group_norm(&gamma, &beta, self.num_groups, self.affine.epsilon)
    }
}

print_blocks! {
    impl [B: Backend] GroupNorm<B>;
}
