//! [`SGD`]: stochastic gradient descent.

use super::{Optimizer, Step, common_methods, common_options, options, scalar};
use isograd_core::{
    Backend, DType, Error, Expr, Result, Tensor,
    expr::{Definition, PerDType},
};

/// Stochastic gradient descent, with momentum if it is not 0:
///
/// g = clip(rescale · gradient) + wd · w; m ← momentum · m - lr · g; w ← w + m.
///
/// ```
/// use isograd::{Tensor, autograd};
/// use isograd::nn::{Parameter, ParameterDict, Parameters, Trainer, initializers::One, optimizer::SGD};
/// let ctx = isograd::device("cpu")?;
/// let w = Parameter::new("w", &[Some(1)]);
/// w.initialize(One, &ctx)?;
/// let mut trainer = Trainer::new(w.collect_params(), SGD::new(1.0))?;
/// let loss = autograd::record(|| w.data()?.mul_scalar(4.0))?;
/// loss.backward()?;
/// trainer.step(2)?;
/// assert_eq!(w.data()?.to_vec::<f32>()?, [-1.0]);
/// # Ok::<(), isograd::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SGD {
    /// The learning rate lr.
    pub learning_rate: f64,
    /// How much of the last step is kept, in 0..1.
    pub momentum: f64,
    /// The weight decay wd.
    pub weight_decay: f64,
    /// The rescaled gradient is clipped to -c..c.
    pub clip_gradient: Option<f64>,
}

impl Default for SGD {
    /// Learning rate 0.01 and nothing else.
    fn default() -> Self {
        SGD { learning_rate: 0.01, momentum: 0.0, weight_decay: 0.0, clip_gradient: None }
    }
}

common_options!(SGD);
options!(SGD {
    /// Sets: how much of the last step is kept, in 0..1.
    momentum: f64,
});

/// lr · (clip(rescale · gradient) + wd · w), and w. Arguments: lr, wd, rescale, clip, momentum.
fn step(d: DType) -> (Expr, Expr) {
    let c = d.compute();
    let [lr, wd, rescale, clip] = [0, 1, 2, 3].map(|k| Expr::scalar(k, c));
    let weight = Expr::old(0, d).cast(c);
    let gradient = (Expr::input(0, d).cast(c) * rescale).maximum(&-&clip).minimum(&clip);
    (lr * (gradient + wd * &weight), weight)
}

static PLAIN: PerDType = PerDType::new("sgd", |d| -> Definition {
    let (change, weight) = step(d);
    (vec![(weight - change).cast(d)], vec![d], vec![d.compute(); 5])
});

static MOMENTUM: PerDType = PerDType::new("sgd_momentum", |d| -> Definition {
    let (change, weight) = step(d);
    let momentum = Expr::scalar(4, d.compute()) * Expr::old(1, d).cast(d.compute()) - change;
    (vec![(weight + &momentum).cast(d), momentum.cast(d)], vec![d], vec![d.compute(); 5])
});

impl<B: Backend> Optimizer<B> for SGD {
    common_methods!(SGD { momentum: share });

    fn new_state(&self, weight: &Tensor<B>) -> Result<Vec<Tensor<B>>> {
        if self.momentum == 0.0 { Ok(vec![]) } else { Ok(vec![weight.detach().zeros_like()?]) }
    }

    fn update(&self, step: &Step, weight: &Tensor<B>, gradient: &Tensor<B>, state: &[Tensor<B>]) -> Result<()> {
        let d = weight.dtype();
        if !d.is_float() {
            let why = "optimizers change parameters of floating dtypes; set grad_req to Null".to_string();
            return Err(Error::UnsupportedDType { op: "sgd", dtype: d, device: weight.ctx().name(), why });
        }
        let clip = self.clip_gradient.unwrap_or(f64::INFINITY);
        let scalars = [step.learning_rate, step.weight_decay, step.rescale_grad, clip, self.momentum];
        let scalars = scalars.map(|s| scalar(d, s));
        match state {
            [] => Tensor::update(PLAIN.program(d), &scalars, &[gradient], &[weight]),
            [momentum, ..] => Tensor::update(MOMENTUM.program(d), &scalars, &[gradient], &[weight, momentum]),
        }
    }
}
