//! Optimizers, one a file: each is one fused kernel per parameter, a single pass over its memory.
//!
//! The rules are MXNet's. To add one: a type with its options, an expression of the new weight and state in terms of the
//! old ones and the gradient (a `PerDType`), and [`Optimizer`], whose `update` launches it by `Tensor::update`.

mod sgd;

pub use sgd::SGD;

use isograd_core::{Backend, DType, Dyn, Result, Tensor, Value};
use std::fmt::Debug;

/// The numbers of one update of one parameter.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Step {
    /// Learning rate, the parameter's own factor included.
    pub learning_rate: f64,
    /// Weight decay, the parameter's own factor included.
    pub weight_decay: f64,
    /// The factor on the gradient: 1 / batch size.
    pub rescale_grad: f64,
    /// How often the parameter has been updated, this time included.
    pub count: u64,
}

/// A rule by which gradients change parameters.
pub trait Optimizer<B: Backend = Dyn>: Debug + Send {
    /// The learning rate.
    fn learning_rate(&self) -> f64;

    /// Sets the learning rate.
    fn set_learning_rate(&mut self, learning_rate: f64);

    /// The weight decay.
    fn weight_decay(&self) -> f64;

    /// What is kept between updates of `weight`, such as its momentum.
    ///
    /// # Errors
    /// What the device reports.
    fn new_state(&self, weight: &Tensor<B>) -> Result<Vec<Tensor<B>>>;

    /// Changes `weight` and `state` in place.
    ///
    /// # Errors
    /// What the device reports.
    fn update(&self, step: &Step, weight: &Tensor<B>, gradient: &Tensor<B>, state: &[Tensor<B>]) -> Result<()>;
}

/// A number as a kernel for weights of `dtype` takes it.
fn scalar(dtype: DType, number: f64) -> Value {
    Value::F64(number).cast(dtype.compute())
}
