//! Initializers: the values that parameters begin with, one kind a file.
//!
//! Random ones draw from [`isograd_core::operators::random`], so that the same seed gives the same values on every
//! backend. To add one: a type that implements [`Initializer`] for every backend.

mod constant;
mod orthogonal;
mod pattern;
mod random;
mod structured;
mod xavier;

pub use constant::{Constant, One, Zero};
pub use orthogonal::Orthogonal;
pub use pattern::{Load, Mixed};
pub use random::{Normal, TruncatedNormal, Uniform};
pub use structured::{Bilinear, Identity, LSTMBias};
pub use xavier::{Factor, MSRAPrelu, Random, Xavier};

use isograd_core::{Backend, DType, Result, Shape, Tensor};
use std::{fmt::Debug, sync::Arc};

/// Makes the first values of a parameter. Implement it for one's own:
///
/// ```
/// use isograd::{Backend, DType, Result, Shape, Tensor};
/// use isograd::nn::{Dense, Initializer, Parameters};
///
/// #[derive(Debug)]
/// struct Identity;
/// impl<B: Backend> Initializer<B> for Identity {
///     fn initialize(&self, ctx: &B, _name: &str, shape: &Shape, dtype: DType) -> Result<Tensor<B>> {
///         Tensor::eye(ctx, shape[0], shape[1], 0, dtype)
///     }
/// }
/// let ctx = isograd::device("cpu")?;
/// let layer = Dense::new(2).in_units(2);
/// layer.initialize(Identity, &ctx)?;
/// assert_eq!(layer.weight().data()?.to_vec::<f32>()?, [1.0, 0.0, 0.0, 1.0]);
/// # Ok::<(), isograd::Error>(())
/// ```
pub trait Initializer<B: Backend>: Debug + Send + Sync {
    /// Values of exactly this shape and dtype for the parameter `name`.
    ///
    /// # Errors
    /// [`isograd_core::Error::Parameter`] for a shape that it cannot fill; what the device reports.
    fn initialize(&self, ctx: &B, name: &str, shape: &Shape, dtype: DType) -> Result<Tensor<B>>;
}

impl<B: Backend, T: Initializer<B> + ?Sized> Initializer<B> for Arc<T> {
    fn initialize(&self, ctx: &B, name: &str, shape: &Shape, dtype: DType) -> Result<Tensor<B>> {
        (**self).initialize(ctx, name, shape, dtype)
    }
}
