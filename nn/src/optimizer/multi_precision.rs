//! [`MultiPrecision`]: f32 masters of parameters in half precision.

use super::{Optimizer, Step};
use isograd_core::{Backend, DType, Expr, Result, Tensor, expr::PerDType};

/// An optimizer that keeps an f32 master of every f16 and bf16 parameter, and its own states in f32 (Micikevicius et al.,
/// arXiv:1710.03740; `multi_precision` in MXNet). Steps that are too small for the parameter add up in the master, which the
/// parameter is rounded from. Parameters of other dtypes are updated as without it.
///
/// A parameter that is overwritten from outside, as by loading a file, becomes the master where it differs from it.
///
/// ```
/// use isograd::{DType, autograd};
/// use isograd::nn::{Parameter, Parameters, Trainer, initializers::One, optimizer::{MultiPrecision, SGD}};
/// let ctx = isograd::device("cpu")?;
/// let train = |masters: bool| {
///     let w = Parameter::new("w", &[Some(1)]).with_dtype(DType::F16);
///     w.initialize(One, &ctx)?;
///     // Half the distance to the next number below 1, and less.
///     let sgd = SGD::new(1e-4);
///     let mut trainer = match masters {
///         true => Trainer::new(w.collect_params(), MultiPrecision(sgd))?,
///         false => Trainer::new(w.collect_params(), sgd)?,
///     };
///     for _ in 0..100 {
///         autograd::record(|| w.data()?.mul_scalar(1))?.backward()?;
///         trainer.step(1)?;
///     }
///     w.data()?.asscalar::<f32>()
/// };
/// assert_eq!(train(false)?, 1.0);
/// assert!((train(true)? - 0.99).abs() < 1e-3);
/// # Ok::<(), isograd::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct MultiPrecision<O>(
    /// The optimizer that updates the masters.
    pub O,
);

/// The master, where it still rounds to the parameter; the parameter elsewhere.
static FOLLOW: PerDType = PerDType::new("follow_parameter", |d| {
    let (parameter, master) = (Expr::input(0, d), Expr::old(0, DType::F32));
    let same = master.cast(d).cast(DType::F32).equal(&parameter.cast(DType::F32));
    (vec![same.select(&master, &parameter.cast(DType::F32))], vec![d], vec![])
});

fn is_half(dtype: DType) -> bool {
    matches!(dtype, DType::F16 | DType::BF16)
}

impl<B: Backend, O: Optimizer<B>> Optimizer<B> for MultiPrecision<O> {
    fn learning_rate(&self) -> f64 {
        self.0.learning_rate()
    }

    fn set_learning_rate(&mut self, learning_rate: f64) {
        self.0.set_learning_rate(learning_rate);
    }

    fn learning_rate_at(&self, update: u64) -> f64 {
        self.0.learning_rate_at(update)
    }

    fn weight_decay(&self) -> f64 {
        self.0.weight_decay()
    }

    fn check(&self) -> Result<()> {
        self.0.check()
    }

    /// A master is made or dropped, and the states of the optimizer follow its dtype.
    fn cast_state(&self, before: DType, weight: &Tensor<B>, state: Vec<Tensor<B>>) -> Result<Vec<Tensor<B>>> {
        let mut state = state;
        let master = if is_half(before) && !state.is_empty() { Some(state.remove(0)) } else { None };
        if !is_half(weight.dtype()) {
            return self.0.cast_state(before.compute(), weight, state);
        }
        let master = master.map_or_else(|| weight.detach().cast(DType::F32), Ok)?;
        let mut state = self.0.cast_state(before.compute(), &master, state)?;
        state.insert(0, master);
        Ok(state)
    }

    fn name(&self) -> String {
        format!("MultiPrecision({})", self.0.name())
    }

    /// The master, then the states of the optimizer.
    fn new_state(&self, weight: &Tensor<B>) -> Result<Vec<Tensor<B>>> {
        if !is_half(weight.dtype()) {
            return self.0.new_state(weight);
        }
        let master = weight.detach().cast(DType::F32)?;
        let mut state = self.0.new_state(&master)?;
        state.insert(0, master);
        Ok(state)
    }

    fn update(&self, step: &Step, weight: &Tensor<B>, gradient: &Tensor<B>, state: &[Tensor<B>]) -> Result<()> {
        match state {
            [master, rest @ ..] if is_half(weight.dtype()) => {
                let weight = weight.detach();
                Tensor::update(FOLLOW.program(weight.dtype()), &[], &[&weight], &[master])?;
                self.0.update(step, master, &gradient.detach().cast(DType::F32)?, rest)?;
                weight.assign(&master.cast(weight.dtype())?)
            }
            _ => self.0.update(step, weight, gradient, state),
        }
    }
}
