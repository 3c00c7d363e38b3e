//! What the normalizing layers have in common: γ and β.

use crate::{
    Parameter, Visitor,
    initializers::{One, Zero},
    options,
};
use isograd_core::{Backend, Error, Result, Tensor};

/// γ and β, of one element per channel.
#[derive(Clone)]
pub(super) struct Affine<B: Backend> {
    pub epsilon: f64,
    pub scale: bool,
    pub center: bool,
    pub gamma: Parameter<B>,
    pub beta: Parameter<B>,
}

impl<B: Backend> Affine<B> {
    pub fn new(prefix: &str, epsilon: f64) -> Self {
        let gamma = Parameter::new(format!("{prefix}gamma"), &[None]).with_initializer(One);
        let beta = Parameter::new(format!("{prefix}beta"), &[None]).with_initializer(Zero);
        Affine { epsilon, scale: true, center: true, gamma, beta }
    }

    pub fn sized(mut self, channels: usize) -> Self {
        self.gamma = self.gamma.shaped(&[Some(channels)]);
        self.beta = self.beta.shaped(&[Some(channels)]);
        self
    }

    pub fn with_scale(mut self, scale: bool) -> Self {
        self.gamma = self.gamma.with_differentiable(scale);
        self.scale = scale;
        self
    }

    pub fn with_center(mut self, center: bool) -> Self {
        self.beta = self.beta.with_differentiable(center);
        self.center = center;
        self
    }

    /// Uses γ and β of `other`.
    pub fn take(&mut self, other: &Self) {
        (self.gamma, self.beta) = (other.gamma.clone(), other.beta.clone());
        (self.scale, self.center) = (other.scale, other.center);
    }

    pub fn channels(&self) -> Option<usize> {
        self.gamma.partial_shape()[0]
    }

    /// γ and β where `x` is.
    pub fn bind(&self, op: &'static str, x: &Tensor<B>, channels: usize) -> Result<(Tensor<B>, Tensor<B>)> {
        options::not_negative(op, "epsilon", self.epsilon)?;
        Ok((self.gamma.bind(x.ctx(), &[channels])?, self.beta.bind(x.ctx(), &[channels])?))
    }

    pub fn visit(&self, visitor: &mut dyn Visitor<B>) {
        visitor.child("gamma", &self.gamma);
        visitor.child("beta", &self.beta);
    }
}

/// The size of `axis`, which may count from the end.
pub(crate) fn size_of_axis<B: Backend>(op: &'static str, x: &Tensor<B>, axis: isize) -> Result<usize> {
    let rank = x.rank();
    let at = if axis < 0 { axis + rank as isize } else { axis };
    usize::try_from(at).ok().and_then(|at| x.shape().get(at).copied()).ok_or_else(|| Error::AxisOutOfRange {
        op,
        axis,
        rank,
        shape: x.shape().clone(),
        device: x.ctx().name(),
    })
}

/// The builder methods and getters of a layer with a field `affine`.
macro_rules! affine_options {
    ($name:ident) => {
        impl<B: Backend> $name<B> {
            /// What is added to the variance, so that it may be 0.
            #[must_use]
            pub fn epsilon(mut self, epsilon: f64) -> Self {
                self.affine.epsilon = epsilon;
                self
            }

            /// Whether γ is trained.
            #[must_use]
            pub fn scale(mut self, scale: bool) -> Self {
                self.affine = self.affine.with_scale(scale);
                self
            }

            /// Whether β is trained.
            #[must_use]
            pub fn center(mut self, center: bool) -> Self {
                self.affine = self.affine.with_center(center);
                self
            }

            /// Initializes γ by `initializer` instead of ones.
            #[must_use]
            pub fn gamma_initializer(mut self, initializer: impl $crate::Initializer<B> + 'static) -> Self {
                self.affine.gamma = self.affine.gamma.with_initializer(initializer);
                self
            }

            /// Uses `gamma`, such as that of another layer, in the place of its own: the two are one.
            #[must_use]
            pub fn with_gamma(mut self, gamma: &Parameter<B>) -> Self {
                self.affine.gamma = self.affine.gamma.replaced(gamma);
                self
            }

            /// Initializes β by `initializer` instead of zeros.
            #[must_use]
            pub fn beta_initializer(mut self, initializer: impl $crate::Initializer<B> + 'static) -> Self {
                self.affine.beta = self.affine.beta.with_initializer(initializer);
                self
            }

            /// Uses `beta`, such as that of another layer, in the place of its own: the two are one.
            #[must_use]
            pub fn with_beta(mut self, beta: &Parameter<B>) -> Self {
                self.affine.beta = self.affine.beta.replaced(beta);
                self
            }

            /// γ.
            pub fn gamma(&self) -> &Parameter<B> {
                &self.affine.gamma
            }

            /// β.
            pub fn beta(&self) -> &Parameter<B> {
                &self.affine.beta
            }
        }
    };
}
pub(super) use affine_options;
