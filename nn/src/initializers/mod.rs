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

use crate::options::by_name;
use isograd_core::{Backend, DType, Dyn, Error, Result, Shape, Tensor};
use std::{fmt::Debug, str::FromStr, sync::Arc};

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
pub trait Initializer<B: Backend = Dyn>: Debug + Send + Sync {
    /// Values of exactly this shape and dtype for the parameter `name`.
    ///
    /// # Errors
    /// [`isograd_core::Error::Parameter`] for a shape that it cannot fill; what the device reports.
    fn initialize(&self, ctx: &B, name: &str, shape: &Shape, dtype: DType) -> Result<Tensor<B>>;
}

macro_rules! pointers {
    ($($pointer:ident)*) => { $(
        impl<B: Backend, T: Initializer<B> + ?Sized> Initializer<B> for $pointer<T> {
            fn initialize(&self, ctx: &B, name: &str, shape: &Shape, dtype: DType) -> Result<Tensor<B>> {
                (**self).initialize(ctx, name, shape, dtype)
            }
        }
    )* };
}
pointers!(Box Arc);

/// By Gluon's names, with Gluon's defaults:
///
/// ```
/// use isograd::nn::{Dense, Initializer, Parameters};
/// let ctx = isograd::device("cpu")?;
/// let xavier: Box<dyn Initializer<_>> = "xavier".parse()?;
/// Dense::new(2).in_units(3).initialize(xavier, &ctx)?;
/// assert!("xaver".parse::<Box<dyn Initializer>>().unwrap_err().to_string().contains("xavier"));
/// # Ok::<(), isograd::Error>(())
/// ```
impl<B: Backend> FromStr for Box<dyn Initializer<B>> {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        by_name(
            "Initializer",
            name,
            &[
                ("zeros", || Box::new(Zero)),
                ("ones", || Box::new(One)),
                ("uniform", || Box::new(Uniform::default())),
                ("normal", || Box::new(Normal::default())),
                ("truncated_normal", || Box::new(TruncatedNormal::default())),
                ("orthogonal", || Box::new(Orthogonal::default())),
                ("xavier", || Box::new(Xavier::default())),
                ("msraprelu", || Box::new(MSRAPrelu::default())),
                ("bilinear", || Box::new(Bilinear)),
                ("identity", || Box::new(Identity::default())),
                ("lstmbias", || Box::new(LSTMBias::default())),
            ],
        )
    }
}
