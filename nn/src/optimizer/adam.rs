//! [`Adam`]: adaptive moments; [`AdamW`]: with decay apart.

use super::{Optimizer, Step, Update, common_methods, common_options, definition, options, terms, zeros};
use isograd_core::{Backend, DType, Expr, Result, Tensor, expr::PerDType};

/// Adaptive moments (Kingma and Ba, arXiv:1412.6980), as MXNet carries them out:
///
/// g = clip(rescale · gradient + wd · w); m ← β₁ m + (1 - β₁) g; v ← β₂ v + (1 - β₂) g²;
/// w ← w - lr √(1 - β₂ᵗ) / (1 - β₁ᵗ) · m / (√v + ε).
///
/// ε is added to √v before the correction of its bias, so it weighs more in the first steps than in the paper's Algorithm 1.
///
/// ```
/// use isograd::autograd;
/// use isograd::nn::{Parameter, Parameters, Trainer, initializers::One, optimizer::Adam};
/// let ctx = isograd::device("cpu")?;
/// let w = Parameter::new("w", &[Some(1)]);
/// w.initialize(One, &ctx)?;
/// let mut trainer = Trainer::new(w.collect_params(), Adam::new(0.1))?;
/// for _ in 0..50 {
///     autograd::record(|| w.data()?.square())?.backward()?;
///     trainer.step(1)?;
/// }
/// assert!(w.data()?.asscalar::<f32>()?.abs() < 0.5);
/// # Ok::<(), isograd::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Adam {
    /// The learning rate lr.
    pub learning_rate: f64,
    /// β₁, how much of the mean gradient is kept.
    pub beta1: f64,
    /// β₂, how much of the mean square is kept.
    pub beta2: f64,
    /// ε, which keeps the quotient finite.
    pub epsilon: f64,
    /// The weight decay wd.
    pub weight_decay: f64,
    /// The limit c of clipping to -c..c.
    pub clip_gradient: Option<f64>,
}

impl Default for Adam {
    /// Learning rate 0.001, β 0.9 and 0.999, ε 1e-8.
    fn default() -> Self {
        Adam { learning_rate: 0.001, beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weight_decay: 0.0, clip_gradient: None }
    }
}

common_options!(Adam);
options!(Adam {
    /// Sets: β₁, how much of the mean gradient is kept.
    beta1: f64,
    /// Sets: β₂, how much of the mean square is kept.
    beta2: f64,
    /// Sets: ε, which keeps the quotient finite.
    epsilon: f64,
});

/// Adam whose weight decay acts on the weight alone, not through the moments (Loshchilov and Hutter, arXiv:1711.05101), in
/// PyTorch's form:
///
/// g = clip(rescale · gradient); m and v as in [`Adam`]; w ← w - lr (m̂ / (√v̂ + ε) + wd · w), with m̂ = m / (1 - β₁ᵗ) and
/// v̂ = v / (1 - β₂ᵗ).
///
/// ```
/// use isograd::autograd;
/// use isograd::nn::{Parameter, Parameters, Trainer, initializers::One, optimizer::AdamW};
/// let ctx = isograd::device("cpu")?;
/// let w = Parameter::new("w", &[Some(1)]);
/// w.initialize(One, &ctx)?;
/// let mut trainer = Trainer::new(w.collect_params(), AdamW::new(0.1).weight_decay(0.01))?;
/// for _ in 0..50 {
///     autograd::record(|| w.data()?.square())?.backward()?;
///     trainer.step(1)?;
/// }
/// assert!(w.data()?.asscalar::<f32>()?.abs() < 0.5);
/// # Ok::<(), isograd::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamW {
    /// The learning rate lr.
    pub learning_rate: f64,
    /// β₁, how much of the mean gradient is kept.
    pub beta1: f64,
    /// β₂, how much of the mean square is kept.
    pub beta2: f64,
    /// ε, which keeps the quotient finite.
    pub epsilon: f64,
    /// The weight decay wd.
    pub weight_decay: f64,
    /// The limit c of clipping to -c..c.
    pub clip_gradient: Option<f64>,
}

impl Default for AdamW {
    /// Learning rate 0.001, β 0.9 and 0.999, ε 1e-8, no decay.
    fn default() -> Self {
        AdamW { learning_rate: 0.001, beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weight_decay: 0.0, clip_gradient: None }
    }
}

common_options!(AdamW);
options!(AdamW {
    /// Sets: β₁, how much of the mean gradient is kept.
    beta1: f64,
    /// Sets: β₂, how much of the mean square is kept.
    beta2: f64,
    /// Sets: ε, which keeps the quotient finite.
    epsilon: f64,
});

/// The new moments of the gradient `g`. Own arguments: β₁, β₂, then the rule's.
pub(super) fn moments(t: &super::Terms, g: &Expr, d: DType) -> (Expr, Expr) {
    let (beta1, beta2) = (t.argument(0), t.argument(1));
    let mean = &beta1 * t.state(0, d) + (1.0 - &beta1) * g;
    let square = &beta2 * t.state(1, d) + (1.0 - &beta2) * g.square();
    (mean, square)
}

static ADAM: PerDType = PerDType::new("adam", |d| {
    let t = terms(d);
    let (mean, square) = moments(&t, &t.decayed_then_clipped(), d);
    let (epsilon, correction) = (t.argument(2), t.argument(3));
    let weight = &t.weight - &t.lr * correction * &mean / (square.sqrt() + epsilon);
    definition(d, vec![weight, mean, square], 4)
});

static ADAMW: PerDType = PerDType::new("adamw", |d| {
    let t = terms(d);
    let (mean, square) = moments(&t, &t.clipped(), d);
    let [epsilon, of_mean, of_square] = [2, 3, 4].map(|k| t.argument(k));
    let direction = &mean * of_mean / ((&square * of_square).sqrt() + epsilon);
    let weight = &t.weight - &t.lr * (direction + &t.wd * &t.weight);
    definition(d, vec![weight, mean, square], 5)
});

/// 1 - βᵗ.
pub(super) fn bias(beta: f64, count: u64) -> f64 {
    -(count as f64 * beta.ln()).exp_m1()
}

impl<B: Backend> Optimizer<B> for Adam {
    common_methods!(Adam { beta1: share, beta2: share, epsilon: not_negative });

    fn new_state(&self, weight: &Tensor<B>) -> Result<Vec<Tensor<B>>> {
        zeros(weight, 2)
    }

    fn update(&self, step: &Step, weight: &Tensor<B>, gradient: &Tensor<B>, state: &[Tensor<B>]) -> Result<()> {
        let update = Update { step, clip: self.clip_gradient, weight, gradient, state };
        let correction = bias(self.beta2, step.count).sqrt() / bias(self.beta1, step.count);
        update.launch("adam", &ADAM, &[self.beta1, self.beta2, self.epsilon, correction])
    }
}

impl<B: Backend> Optimizer<B> for AdamW {
    common_methods!(AdamW { beta1: share, beta2: share, epsilon: not_negative });

    fn new_state(&self, weight: &Tensor<B>) -> Result<Vec<Tensor<B>>> {
        zeros(weight, 2)
    }

    fn update(&self, step: &Step, weight: &Tensor<B>, gradient: &Tensor<B>, state: &[Tensor<B>]) -> Result<()> {
        let update = Update { step, clip: self.clip_gradient, weight, gradient, state };
        let [of_mean, of_square] = [self.beta1, self.beta2].map(|beta| bias(beta, step.count).recip());
        update.launch("adamw", &ADAMW, &[self.beta1, self.beta2, self.epsilon, of_mean, of_square])
    }
}
