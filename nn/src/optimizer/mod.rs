//! Optimizers, one a file: each is one fused kernel per parameter, a single pass over its memory.
//!
//! The rules are MXNet's. To add one: a type with its options, an expression of the new weight and state in terms of the
//! old ones and the gradient (a `PerDType`), and [`Optimizer`], whose `update` launches it by `Tensor::update`; `terms`
//! and `launch` here are what the rules have in common.

mod adadelta;
mod adagrad;
mod adam;
mod adamax;
mod clip;
mod ftrl;
mod lamb;
mod multi_precision;
mod nadam;
mod nag;
mod rmsprop;
mod schedule;
mod sgd;
mod signum;

pub use adadelta::AdaDelta;
pub use adagrad::AdaGrad;
pub use adam::{Adam, AdamW};
pub use adamax::AdaMax;
pub use clip::clip_global_norm;
pub use ftrl::Ftrl;
pub use lamb::LAMB;
pub use multi_precision::MultiPrecision;
pub use nadam::Nadam;
pub use nag::NAG;
pub use rmsprop::RMSProp;
pub use schedule::{Schedule, Scheduled};
pub use sgd::SGD;
pub use signum::Signum;

use crate::options::by_name;
use isograd_core::{Backend, DType, Dyn, Error, Expr, Result, Tensor, Value, expr::PerDType};
use std::{fmt::Debug, str::FromStr};

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

    /// The learning rate of an update, counted from 1; another than [`Optimizer::learning_rate`] under a schedule.
    fn learning_rate_at(&self, _update: u64) -> f64 {
        self.learning_rate()
    }

    /// Whether the options are in their domains; asked by [`crate::Trainer::new`], and before each step, since options and the
    /// learning rate may change between.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] that names the optimizer, the option and its value.
    fn check(&self) -> Result<()> {
        Ok(())
    }

    /// What files of states call it: by default the name of its type.
    fn name(&self) -> String {
        let path = std::any::type_name::<Self>();
        let path = path.split('<').next().unwrap_or(path);
        path.rsplit("::").next().unwrap_or(path).to_string()
    }

    /// The weight decay.
    fn weight_decay(&self) -> f64;

    /// What is kept between updates of `weight`, such as its momentum.
    ///
    /// # Errors
    /// What the device reports.
    fn new_state(&self, weight: &Tensor<B>) -> Result<Vec<Tensor<B>>>;

    /// The state to go on with when `weight` was cast from dtype `before`: by default, what has that dtype is cast as well.
    ///
    /// # Errors
    /// What the device reports.
    fn cast_state(&self, before: DType, weight: &Tensor<B>, state: Vec<Tensor<B>>) -> Result<Vec<Tensor<B>>> {
        let cast = |old: Tensor<B>| if old.dtype() == before { old.cast(weight.dtype()) } else { Ok(old) };
        state.into_iter().map(cast).collect()
    }

    /// Changes `weight` and `state` in place.
    ///
    /// # Errors
    /// What the device reports.
    fn update(&self, step: &Step, weight: &Tensor<B>, gradient: &Tensor<B>, state: &[Tensor<B>]) -> Result<()>;
}

impl<B: Backend, O: Optimizer<B> + ?Sized> Optimizer<B> for Box<O> {
    fn learning_rate(&self) -> f64 {
        (**self).learning_rate()
    }

    fn set_learning_rate(&mut self, learning_rate: f64) {
        (**self).set_learning_rate(learning_rate);
    }

    fn learning_rate_at(&self, update: u64) -> f64 {
        (**self).learning_rate_at(update)
    }

    fn check(&self) -> Result<()> {
        (**self).check()
    }

    fn cast_state(&self, before: DType, weight: &Tensor<B>, state: Vec<Tensor<B>>) -> Result<Vec<Tensor<B>>> {
        (**self).cast_state(before, weight, state)
    }

    fn name(&self) -> String {
        (**self).name()
    }

    fn weight_decay(&self) -> f64 {
        (**self).weight_decay()
    }

    fn new_state(&self, weight: &Tensor<B>) -> Result<Vec<Tensor<B>>> {
        (**self).new_state(weight)
    }

    fn update(&self, step: &Step, weight: &Tensor<B>, gradient: &Tensor<B>, state: &[Tensor<B>]) -> Result<()> {
        (**self).update(step, weight, gradient, state)
    }
}

/// By Gluon's names, with Gluon's defaults; the learning rate is set on the optimizer or on the trainer.
///
/// ```
/// use isograd::nn::{Dense, Optimizer, Parameters, Trainer};
/// let ctx = isograd::device("cpu")?;
/// let net: Dense<isograd_reference::Reference> = Dense::new(1);
/// let mut sgd: Box<dyn Optimizer<_>> = "sgd".parse()?;
/// sgd.set_learning_rate(0.1);
/// let trainer = Trainer::new(net.collect_params(), sgd)?;
/// assert_eq!(trainer.learning_rate(), 0.1);
/// assert!("sdg".parse::<Box<dyn Optimizer>>().unwrap_err().to_string().contains("sgd"));
/// # Ok::<(), isograd::Error>(())
/// ```
impl<B: Backend> FromStr for Box<dyn Optimizer<B>> {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        by_name(
            "Optimizer",
            name,
            &[
                ("sgd", || Box::new(SGD::default())),
                ("nag", || Box::new(NAG::default())),
                ("signum", || Box::new(Signum::default())),
                ("adam", || Box::new(Adam::default())),
                ("adamw", || Box::new(AdamW::default())),
                ("adamax", || Box::new(AdaMax::default())),
                ("nadam", || Box::new(Nadam::default())),
                ("adagrad", || Box::new(AdaGrad::default())),
                ("adadelta", || Box::new(AdaDelta::default())),
                ("rmsprop", || Box::new(RMSProp::default())),
                ("ftrl", || Box::new(Ftrl::default())),
                ("lamb", || Box::new(LAMB::default())),
            ],
        )
    }
}

/// A number as a kernel for weights of `dtype` takes it.
fn scalar(dtype: DType, number: f64) -> Value {
    Value::F64(number).cast(dtype.compute())
}

/// What every rule is made of. A kernel's arguments begin with lr, wd, rescale and the clipping limit; its own follow.
struct Terms {
    /// The dtype that is computed in.
    dtype: DType,
    lr: Expr,
    wd: Expr,
    limit: Expr,
    /// rescale · gradient.
    gradient: Expr,
    /// The old weight, which is target 0.
    weight: Expr,
}

/// How many arguments all rules have.
const COMMON: usize = 4;

fn terms(d: DType) -> Terms {
    let c = d.compute();
    let [lr, wd, rescale, limit] = [0, 1, 2, 3].map(|k| Expr::scalar(k, c));
    let gradient = Expr::input(0, d).cast(c) * rescale;
    Terms { dtype: c, lr, wd, limit, gradient, weight: Expr::old(0, d).cast(c) }
}

impl Terms {
    /// x limited to -limit..limit.
    fn clip(&self, x: &Expr) -> Expr {
        x.maximum(&-&self.limit).minimum(&self.limit)
    }

    /// clip(rescale · gradient).
    fn clipped(&self) -> Expr {
        self.clip(&self.gradient)
    }

    /// clip(rescale · gradient) + wd · w: SGD's order.
    fn clipped_then_decayed(&self) -> Expr {
        self.clipped() + &self.wd * &self.weight
    }

    /// clip(rescale · gradient + wd · w): Adam's order.
    fn decayed_then_clipped(&self) -> Expr {
        self.clip(&(&self.gradient + &self.wd * &self.weight))
    }

    /// The old value of state `k`, counted from 0.
    fn state(&self, k: u8, d: DType) -> Expr {
        Expr::old(k + 1, d).cast(self.dtype)
    }

    /// Argument `k` of the rule's own.
    fn argument(&self, k: u8) -> Expr {
        Expr::scalar(COMMON as u8 + k, self.dtype)
    }
}

/// A kernel that reads the gradient, takes `own` arguments of its own, and writes `roots`: the weight, then the states.
fn definition(d: DType, roots: Vec<Expr>, own: usize) -> isograd_core::expr::Definition {
    (roots.iter().map(|r| r.cast(d)).collect(), vec![d], vec![d.compute(); COMMON + own])
}

/// `count` states of zeros.
fn zeros<B: Backend>(weight: &Tensor<B>, count: usize) -> Result<Vec<Tensor<B>>> {
    (0..count).map(|_| weight.detach().zeros_like()).collect()
}

/// The arguments that all kernels take, then `own`.
fn arguments(d: DType, step: &Step, clip: Option<f64>, own: &[f64]) -> Vec<Value> {
    let common = [step.learning_rate, step.weight_decay, step.rescale_grad, clip.unwrap_or(f64::INFINITY)];
    common.iter().chain(own).map(|&number| scalar(d, number)).collect()
}

fn need_float<B: Backend>(op: &'static str, weight: &Tensor<B>) -> Result<()> {
    if weight.dtype().is_float() {
        return Ok(());
    }
    let why = "optimizers change parameters of floating dtypes; set grad_req to Null".to_string();
    Err(Error::UnsupportedDType { op, dtype: weight.dtype(), device: weight.ctx().name(), why })
}

/// What one update works on.
struct Update<'a, B: Backend> {
    step: &'a Step,
    clip: Option<f64>,
    weight: &'a Tensor<B>,
    gradient: &'a Tensor<B>,
    state: &'a [Tensor<B>],
}

impl<B: Backend> Update<'_, B> {
    /// Runs the rule in place on the weight and all states.
    fn launch(&self, op: &'static str, kernel: &PerDType, own: &[f64]) -> Result<()> {
        need_float(op, self.weight)?;
        let d = self.weight.dtype();
        let targets: Vec<&Tensor<B>> = std::iter::once(self.weight).chain(self.state).collect();
        Tensor::update(kernel.program(d), &arguments(d, self.step, self.clip, own), &[self.gradient], &targets)
    }
}

/// The builder methods that all optimizers with `learning_rate`, `weight_decay` and `clip_gradient` have.
macro_rules! common_options {
    ($name:ident) => {
        impl $name {
            /// Of the given learning rate, the rest as by default.
            pub fn new(learning_rate: f64) -> Self {
                Self { learning_rate, ..Self::default() }
            }

            /// Sets the weight decay.
            #[must_use]
            pub fn weight_decay(mut self, weight_decay: f64) -> Self {
                self.weight_decay = weight_decay;
                self
            }

            /// Limits each element of the gradient to `-limit..limit`.
            #[must_use]
            pub fn clip_gradient(mut self, limit: f64) -> Self {
                self.clip_gradient = Some(limit);
                self
            }
        }
    };
}
use common_options;

/// The methods of [`Optimizer`] that read and write the common options, and check those and others by the rules of
/// [`crate::options`], and by a method of its own.
macro_rules! common_methods {
    ($name:ident { $($option:ident: $rule:ident),* $(,)? } $($also:ident)?) => {
        fn check(&self) -> Result<()> {
            const OP: &str = stringify!($name);
            $crate::options::not_negative(OP, "learning_rate", self.learning_rate)?;
            $crate::options::not_negative(OP, "weight_decay", self.weight_decay)?;
            $($crate::options::$rule(OP, stringify!($option), self.$option)?;)*
            $(self.$also()?;)?
            let limit = self.clip_gradient.unwrap_or(f64::INFINITY);
            $crate::options::require(OP, "clip_gradient", limit, limit > 0.0, "above 0")
        }

        fn learning_rate(&self) -> f64 {
            self.learning_rate
        }

        fn set_learning_rate(&mut self, learning_rate: f64) {
            self.learning_rate = learning_rate;
        }

        fn weight_decay(&self) -> f64 {
            self.weight_decay
        }
    };
}
use common_methods;

/// A builder method for each of the given options.
macro_rules! options {
    ($name:ident { $($(#[$doc:meta])* $option:ident: $type:ty),* $(,)? }) => {
        impl $name { $(
            $(#[$doc])*
            #[must_use]
            pub fn $option(mut self, $option: $type) -> Self {
                self.$option = $option;
                self
            }
        )* }
    };
}
use options;
