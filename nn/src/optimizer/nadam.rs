//! [`Nadam`]: Adam with a Nesterov momentum.

use super::{
    Optimizer, Step, Update,
    adam::{bias, moments},
    common_methods, common_options, definition, options, terms, zeros,
};
use isograd_core::{Backend, Result, Tensor, expr::PerDType};

/// Adam with Nesterov momentum (Dozat, *Incorporating Nesterov Momentum into Adam*, 2016):
///
/// g = clip(rescale · gradient + wd · w); m and v as in [`Adam`](super::Adam); μₜ = β₁ (1 - 0.96^(t · decay) / 2), Πₜ the
/// product of the first t of them; w ← w - lr ((1 - μₜ) g / (1 - Πₜ) + μₜ₊₁ m / (1 - Πₜ₊₁)) / (√(v / (1 - β₂ᵗ)) + ε).
///
/// MXNet 1.9.1 keeps one product for all parameters, so that it shrinks faster the more there are; here each parameter has its
/// own.
///
/// ```
/// use isograd::autograd;
/// use isograd::nn::{Parameter, Parameters, Trainer, initializers::One, optimizer::Nadam};
/// let ctx = isograd::device("cpu")?;
/// let w = Parameter::new("w", &[Some(1)]);
/// w.initialize(One, &ctx)?;
/// let mut trainer = Trainer::new(w.collect_params(), Nadam::new(0.1))?;
/// for _ in 0..50 {
///     autograd::record(|| w.data()?.square())?.backward()?;
///     trainer.step(1)?;
/// }
/// assert!(w.data()?.asscalar::<f32>()?.abs() < 0.5);
/// # Ok::<(), isograd::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Nadam {
    /// The learning rate lr.
    pub learning_rate: f64,
    /// β₁, how much of the mean gradient is kept.
    pub beta1: f64,
    /// β₂, how much of the mean square is kept.
    pub beta2: f64,
    /// ε, which keeps the quotient finite.
    pub epsilon: f64,
    /// How fast the momentum grows to β₁.
    pub schedule_decay: f64,
    /// The weight decay wd.
    pub weight_decay: f64,
    /// The limit c of clipping to -c..c.
    pub clip_gradient: Option<f64>,
}

impl Default for Nadam {
    /// Learning rate 0.001, β 0.9 and 0.999, ε 1e-8, schedule decay 0.004.
    fn default() -> Self {
        Nadam {
            learning_rate: 0.001,
            beta1: 0.9,
            beta2: 0.999,
            epsilon: 1e-8,
            schedule_decay: 0.004,
            weight_decay: 0.0,
            clip_gradient: None,
        }
    }
}

common_options!(Nadam);
options!(Nadam {
    /// Sets: β₁, how much of the mean gradient is kept.
    beta1: f64,
    /// Sets: β₂, how much of the mean square is kept.
    beta2: f64,
    /// Sets: ε, which keeps the quotient finite.
    epsilon: f64,
    /// Sets: how fast the momentum grows to β₁.
    schedule_decay: f64,
});

static STEP: PerDType = PerDType::new("nadam", |d| {
    let t = terms(d);
    let g = t.decayed_then_clipped();
    let (mean, square) = moments(&t, &g, d);
    let [epsilon, of_gradient, of_mean, of_square] = [2, 3, 4, 5].map(|k| t.argument(k));
    let direction = (of_gradient * g + of_mean * &mean) / ((&square * of_square).sqrt() + epsilon);
    definition(d, vec![&t.weight - &t.lr * direction, mean, square], 6)
});

impl Nadam {
    /// μ at step `t`.
    fn momentum(&self, t: u64) -> f64 {
        self.beta1 * (1.0 - 0.5 * 0.96f64.powf(t as f64 * self.schedule_decay))
    }

    /// The product of the momenta up to step `t`; 0 once it no longer tells in 1 - product.
    fn product(&self, t: u64) -> f64 {
        let mut product = 1.0;
        for step in 1..=t {
            product *= self.momentum(step);
            if product < 1e-20 {
                return 0.0;
            }
        }
        product
    }
}

impl<B: Backend> Optimizer<B> for Nadam {
    common_methods!(Nadam { beta1: share, beta2: share, epsilon: not_negative, schedule_decay: not_negative });

    fn new_state(&self, weight: &Tensor<B>) -> Result<Vec<Tensor<B>>> {
        zeros(weight, 2)
    }

    fn update(&self, step: &Step, weight: &Tensor<B>, gradient: &Tensor<B>, state: &[Tensor<B>]) -> Result<()> {
        let update = Update { step, clip: self.clip_gradient, weight, gradient, state };
        let (t, now, next) = (step.count, self.momentum(step.count), self.momentum(step.count + 1));
        let of_gradient = (1.0 - now) / (1.0 - self.product(t));
        let of_mean = next / (1.0 - self.product(t + 1));
        let of_square = bias(self.beta2, t).recip();
        let own = [self.beta1, self.beta2, self.epsilon, of_gradient, of_mean, of_square];
        update.launch("nadam", &STEP, &own)
    }
}
