//! [`AdaMax`]: Adam with the largest gradient instead of the mean square.

use super::{Optimizer, Step, Update, adam::bias, common_methods, common_options, definition, options, terms, zeros};
use isograd_core::{Backend, Result, Tensor, expr::PerDType};

/// Adam with the infinity norm (Kingma and Ba, arXiv:1412.6980, section 7.1):
///
/// g = clip(rescale · gradient + wd · w); m ← β₁ m + (1 - β₁) g; u ← max(β₂ u, |g|);
/// w ← w - lr / (1 - β₁ᵗ) · m / (u + 1e-8).
///
/// ```
/// use isograd::autograd;
/// use isograd::nn::{Parameter, Parameters, Trainer, initializers::One, optimizer::AdaMax};
/// let ctx = isograd::device("cpu")?;
/// let w = Parameter::new("w", &[Some(1)]);
/// w.initialize(One, &ctx)?;
/// let mut trainer = Trainer::new(w.collect_params(), AdaMax::new(0.1))?;
/// for _ in 0..50 {
///     autograd::record(|| w.data()?.square())?.backward()?;
///     trainer.step(1)?;
/// }
/// assert!(w.data()?.asscalar::<f32>()?.abs() < 0.5);
/// # Ok::<(), isograd::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdaMax {
    /// The learning rate lr.
    pub learning_rate: f64,
    /// β₁, how much of the mean gradient is kept.
    pub beta1: f64,
    /// β₂, how much of the largest gradient is kept.
    pub beta2: f64,
    /// The weight decay wd.
    pub weight_decay: f64,
    /// The limit c of clipping to -c..c.
    pub clip_gradient: Option<f64>,
}

impl Default for AdaMax {
    /// Learning rate 0.002, β 0.9 and 0.999.
    fn default() -> Self {
        AdaMax { learning_rate: 0.002, beta1: 0.9, beta2: 0.999, weight_decay: 0.0, clip_gradient: None }
    }
}

common_options!(AdaMax);
options!(AdaMax {
    /// Sets: β₁, how much of the mean gradient is kept.
    beta1: f64,
    /// Sets: β₂, how much of the largest gradient is kept.
    beta2: f64,
});

static STEP: PerDType = PerDType::new("adamax", |d| {
    let t = terms(d);
    let [beta1, beta2, correction] = [0, 1, 2].map(|k| t.argument(k));
    let g = t.decayed_then_clipped();
    let mean = &beta1 * t.state(0, d) + (1.0 - &beta1) * &g;
    let largest = (beta2 * t.state(1, d)).maximum(&g.abs());
    let weight = &t.weight - &t.lr * correction * &mean / (&largest + 1e-8);
    definition(d, vec![weight, mean, largest], 3)
});

impl<B: Backend> Optimizer<B> for AdaMax {
    common_methods!(AdaMax { beta1: share, beta2: share });

    fn new_state(&self, weight: &Tensor<B>) -> Result<Vec<Tensor<B>>> {
        zeros(weight, 2)
    }

    fn update(&self, step: &Step, weight: &Tensor<B>, gradient: &Tensor<B>, state: &[Tensor<B>]) -> Result<()> {
        let update = Update { step, clip: self.clip_gradient, weight, gradient, state };
        let correction = bias(self.beta1, step.count).recip();
        update.launch("adamax", &STEP, &[self.beta1, self.beta2, correction])
    }
}
