//! [`RMSProp`]: steps divided by the mean size of the gradient.

use super::{Optimizer, Step, Update, common_methods, common_options, definition, options, terms, zeros};
use isograd_core::{Backend, Result, Tensor, expr::PerDType};

/// Steps divided by the root of the mean squared gradient (Tieleman and Hinton, 2012):
///
/// g = clip(rescale · gradient + wd · w); n ← γ₁ n + (1 - γ₁) g²; w ← w - lr g / √(n + ε).
///
/// Centered (Graves, arXiv:1308.0850): also m ← γ₁ m + (1 - γ₁) g; d ← γ₂ d - lr g / √(n - m² + ε); w ← w + d.
///
/// ```
/// use isograd::autograd;
/// use isograd::nn::{Parameter, Parameters, Trainer, initializers::One, optimizer::RMSProp};
/// let ctx = isograd::device("cpu")?;
/// let w = Parameter::new("w", &[Some(1)]);
/// w.initialize(One, &ctx)?;
/// let mut trainer = Trainer::new(w.collect_params(), RMSProp::new(0.05))?;
/// for _ in 0..50 {
///     autograd::record(|| w.data()?.square())?.backward()?;
///     trainer.step(1)?;
/// }
/// assert!(w.data()?.asscalar::<f32>()?.abs() < 0.5);
/// # Ok::<(), isograd::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RMSProp {
    /// The learning rate lr.
    pub learning_rate: f64,
    /// γ₁, how much of the means is kept.
    pub gamma1: f64,
    /// γ₂, the momentum of the centered form.
    pub gamma2: f64,
    /// ε, which keeps the quotient finite.
    pub epsilon: f64,
    /// Whether the variance of the gradient is used rather than its mean square.
    pub centered: bool,
    /// The weight decay wd.
    pub weight_decay: f64,
    /// The limit c of clipping to -c..c.
    pub clip_gradient: Option<f64>,
}

impl Default for RMSProp {
    /// Learning rate 0.001, γ 0.9, ε 1e-8, not centered.
    fn default() -> Self {
        RMSProp {
            learning_rate: 0.001,
            gamma1: 0.9,
            gamma2: 0.9,
            epsilon: 1e-8,
            centered: false,
            weight_decay: 0.0,
            clip_gradient: None,
        }
    }
}

common_options!(RMSProp);
options!(RMSProp {
    /// Sets: γ₁, how much of the means is kept.
    gamma1: f64,
    /// Sets: γ₂, the momentum of the centered form.
    gamma2: f64,
    /// Sets: ε, which keeps the quotient finite.
    epsilon: f64,
    /// Sets: whether the variance of the gradient is used rather than its mean square.
    centered: bool,
});

static PLAIN: PerDType = PerDType::new("rmsprop", |d| {
    let t = terms(d);
    let (gamma, epsilon) = (t.argument(0), t.argument(1));
    let g = t.decayed_then_clipped();
    let square = &gamma * t.state(0, d) + (1.0 - &gamma) * g.square();
    let weight = &t.weight - &t.lr * g / (&square + epsilon).sqrt();
    definition(d, vec![weight, square], 2)
});

static CENTERED: PerDType = PerDType::new("rmsprop_centered", |d| {
    let t = terms(d);
    let [gamma, epsilon, momentum] = [0, 1, 2].map(|k| t.argument(k));
    let g = t.decayed_then_clipped();
    let square = &gamma * t.state(0, d) + (1.0 - &gamma) * g.square();
    let mean = &gamma * t.state(1, d) + (1.0 - &gamma) * &g;
    let change = momentum * t.state(2, d) - &t.lr * g / (&square - mean.square() + epsilon).sqrt();
    definition(d, vec![&t.weight + &change, square, mean, change], 3)
});

impl<B: Backend> Optimizer<B> for RMSProp {
    common_methods!(RMSProp { gamma1: share, gamma2: share, epsilon: not_negative });

    fn new_state(&self, weight: &Tensor<B>) -> Result<Vec<Tensor<B>>> {
        zeros(weight, if self.centered { 3 } else { 1 })
    }

    fn update(&self, step: &Step, weight: &Tensor<B>, gradient: &Tensor<B>, state: &[Tensor<B>]) -> Result<()> {
        let update = Update { step, clip: self.clip_gradient, weight, gradient, state };
        if self.centered {
            return update.launch("rmsprop", &CENTERED, &[self.gamma1, self.epsilon, self.gamma2]);
        }
        update.launch("rmsprop", &PLAIN, &[self.gamma1, self.epsilon])
    }
}
