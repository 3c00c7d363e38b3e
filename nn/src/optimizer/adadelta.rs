//! [`AdaDelta`]: steps as long as those before.

use super::{Optimizer, Step, Update, common_methods, common_options, definition, options, terms, zeros};
use isograd_core::{Backend, Result, Tensor, expr::PerDType};

/// Steps whose length is learned from those before (Zeiler, arXiv:1212.5701):
///
/// g = clip(rescale · gradient); G ← ρ G + (1 - ρ) g²; d = √(D + ε) / √(G + ε) · g; D ← ρ D + (1 - ρ) d²;
/// w ← w - d - wd · w. As in MXNet, the learning rate has no part in it.
///
/// ```
/// use isograd::autograd;
/// use isograd::nn::{Parameter, Parameters, Trainer, initializers::One, optimizer::AdaDelta};
/// let ctx = isograd::device("cpu")?;
/// let w = Parameter::new("w", &[Some(1)]);
/// w.initialize(One, &ctx)?;
/// let mut trainer = Trainer::new(w.collect_params(), AdaDelta::default())?;
/// for _ in 0..50 {
///     autograd::record(|| w.data()?.square())?.backward()?;
///     trainer.step(1)?;
/// }
/// assert!(w.data()?.asscalar::<f32>()?.abs() < 0.9);
/// # Ok::<(), isograd::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdaDelta {
    /// The learning rate lr.
    pub learning_rate: f64,
    /// ρ, how much of the mean squares is kept.
    pub rho: f64,
    /// ε, which keeps the quotient finite.
    pub epsilon: f64,
    /// The weight decay wd.
    pub weight_decay: f64,
    /// The limit c of clipping to -c..c.
    pub clip_gradient: Option<f64>,
}

impl Default for AdaDelta {
    /// ρ 0.9, ε 1e-5.
    fn default() -> Self {
        AdaDelta { learning_rate: 0.01, rho: 0.9, epsilon: 1e-5, weight_decay: 0.0, clip_gradient: None }
    }
}

common_options!(AdaDelta);
options!(AdaDelta {
    /// Sets: ρ, how much of the mean squares is kept.
    rho: f64,
    /// Sets: ε, which keeps the quotient finite.
    epsilon: f64,
});

static STEP: PerDType = PerDType::new("adadelta", |d| {
    let t = terms(d);
    let (rho, epsilon) = (t.argument(0), t.argument(1));
    let g = t.clipped();
    let mean = |old: isograd_core::Expr, new: &isograd_core::Expr| &rho * old + (1.0 - &rho) * new.square();
    let gradients = mean(t.state(0, d), &g);
    let change = (t.state(1, d) + &epsilon).sqrt() / (&gradients + &epsilon).sqrt() * g;
    let changes = mean(t.state(1, d), &change);
    definition(d, vec![&t.weight - (change + &t.wd * &t.weight), gradients, changes], 2)
});

impl<B: Backend> Optimizer<B> for AdaDelta {
    common_methods!(AdaDelta { rho: share, epsilon: not_negative });

    fn new_state(&self, weight: &Tensor<B>) -> Result<Vec<Tensor<B>>> {
        zeros(weight, 2)
    }

    fn update(&self, step: &Step, weight: &Tensor<B>, gradient: &Tensor<B>, state: &[Tensor<B>]) -> Result<()> {
        let update = Update { step, clip: self.clip_gradient, weight, gradient, state };
        update.launch("adadelta", &STEP, &[self.rho, self.epsilon])
    }
}
