//! [`AdaGrad`]: steps shorter the more a weight has moved.

use super::{Optimizer, Step, Update, common_methods, common_options, definition, options, terms, zeros};
use isograd_core::{Backend, Result, Tensor, expr::PerDType};

/// Steps divided by the root of all squared gradients so far (Duchi et al., JMLR 2011):
///
/// g = clip(rescale · gradient); h ← h + g²; w ← w - lr (g / √(h + ε) + wd · w). The decay is no part of h.
///
/// ```
/// use isograd::autograd;
/// use isograd::nn::{Parameter, Parameters, Trainer, initializers::One, optimizer::AdaGrad};
/// let ctx = isograd::device("cpu")?;
/// let w = Parameter::new("w", &[Some(1)]);
/// w.initialize(One, &ctx)?;
/// let mut trainer = Trainer::new(w.collect_params(), AdaGrad::new(0.5))?;
/// for _ in 0..50 {
///     autograd::record(|| w.data()?.square())?.backward()?;
///     trainer.step(1)?;
/// }
/// assert!(w.data()?.asscalar::<f32>()?.abs() < 0.5);
/// # Ok::<(), isograd::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdaGrad {
    /// The learning rate lr.
    pub learning_rate: f64,
    /// ε, which keeps the quotient finite.
    pub epsilon: f64,
    /// The weight decay wd.
    pub weight_decay: f64,
    /// The limit c of clipping to -c..c.
    pub clip_gradient: Option<f64>,
}

impl Default for AdaGrad {
    /// Learning rate 0.01, ε 1e-7.
    fn default() -> Self {
        AdaGrad { learning_rate: 0.01, epsilon: 1e-7, weight_decay: 0.0, clip_gradient: None }
    }
}

common_options!(AdaGrad);
options!(AdaGrad {
    /// Sets: ε, which keeps the quotient finite.
    epsilon: f64,
});

static STEP: PerDType = PerDType::new("adagrad", |d| {
    let t = terms(d);
    let g = t.clipped();
    let history = t.state(0, d) + g.square();
    let weight = &t.weight - &t.lr * (g / (&history + t.argument(0)).sqrt() + &t.wd * &t.weight);
    definition(d, vec![weight, history], 1)
});

impl<B: Backend> Optimizer<B> for AdaGrad {
    common_methods!(AdaGrad { epsilon: not_negative });

    fn new_state(&self, weight: &Tensor<B>) -> Result<Vec<Tensor<B>>> {
        zeros(weight, 1)
    }

    fn update(&self, step: &Step, weight: &Tensor<B>, gradient: &Tensor<B>, state: &[Tensor<B>]) -> Result<()> {
        let update = Update { step, clip: self.clip_gradient, weight, gradient, state };
        update.launch("adagrad", &STEP, &[self.epsilon])
    }
}
