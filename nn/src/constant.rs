//! [`Constant`]: values that belong to a block and are never trained.

use crate::{Initializer, Parameter, Parameters, Visitor, block::stands_for};
use isograd_core::{Backend, DType, Dyn, Element, Result, Shape, Tensor, format::HostArray};
use std::{fmt, ops::Deref};

/// A [`Parameter`] that is not trained: no gradient is computed, no trainer updates it, [`Parameters::unfreeze`] does not
/// change that. Otherwise it is one: it is saved and loaded, has a path and a name, and moves between contexts. Whatever the
/// network is initialized with, it begins with its own values. Gluon's `params.get_constant`.
///
/// ```
/// use isograd::{Backend, GradReq, Result, Tensor};
/// use isograd::nn::{Block, Constant, Parameters, initializers::One};
/// let ctx = isograd::device("cpu")?;
/// #[derive(Parameters)]
/// struct Scaled<B: Backend> { by: Constant<B> }
/// impl<B: Backend> Block<B> for Scaled<B> {
///     fn forward(&self, x: &Tensor<B>) -> Result<Tensor<B>> {
///         x.mul(&self.by.data_on(x.ctx())?)
///     }
/// }
/// let layer = Scaled { by: Constant::new("by", &[2.0f32, 3.0], [2])? };
/// layer.initialize(One, &ctx)?;
/// let x = Tensor::from_slice(&ctx, &[1.0f32, 1.0], [2])?;
/// assert_eq!(layer.forward(&x)?.to_vec::<f32>()?, [2.0, 3.0]);
/// assert_eq!(layer.by.grad_req(), GradReq::Null);
/// # Ok::<(), isograd::Error>(())
/// ```
#[derive(Clone)]
pub struct Constant<B: Backend = Dyn>(Parameter<B>);

/// Gives the values of a constant.
#[derive(Debug)]
struct Values(HostArray);

impl<B: Backend> Initializer<B> for Values {
    fn initialize(&self, ctx: &B, _: &str, _: &Shape, dtype: DType) -> Result<Tensor<B>> {
        Tensor::from_host(ctx, &self.0)?.cast(dtype)
    }
}

impl<B: Backend> Constant<B> {
    /// The row-major `elements` of `shape`.
    ///
    /// # Errors
    /// [`isograd_core::Error::InvalidShape`] when their number is not the size of `shape`.
    pub fn new<T: Element>(name: impl Into<String>, elements: &[T], shape: impl Into<Shape>) -> Result<Constant<B>> {
        Ok(Constant::from_host(name, HostArray::from_slice(elements, shape)?))
    }

    /// The values of `array`.
    pub fn from_host(name: impl Into<String>, array: HostArray) -> Constant<B> {
        let dtype = array.dtype;
        Constant::drawn(name, &array.shape.clone(), Values(array)).with_dtype(dtype)
    }

    /// Values of `shape`, drawn by `initializer` when the network is initialized.
    pub fn drawn(name: impl Into<String>, shape: &[usize], initializer: impl Initializer<B> + 'static) -> Constant<B> {
        let shape: Vec<Option<usize>> = shape.iter().copied().map(Some).collect();
        Constant(Parameter::new(name, &shape).with_initializer(initializer).with_differentiable(false))
    }

    /// Values of another dtype than those given.
    #[must_use]
    pub fn with_dtype(self, dtype: DType) -> Self {
        Constant(self.0.with_dtype(dtype))
    }
}

impl<B: Backend> Deref for Constant<B> {
    type Target = Parameter<B>;

    fn deref(&self) -> &Parameter<B> {
        &self.0
    }
}

impl<B: Backend> Parameters<B> for Constant<B> {
    stands_for!();
}

impl<B: Backend> fmt::Display for Constant<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Constant{}", self.0.to_string().trim_start_matches("Parameter"))
    }
}

impl<B: Backend> fmt::Debug for Constant<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
