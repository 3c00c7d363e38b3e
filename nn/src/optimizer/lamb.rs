//! [`LAMB`]: Adam whose steps are scaled by layer, for large batches.

use super::{
    Optimizer, Step,
    adam::{bias, moments},
    arguments, common_methods, common_options, definition, need_float, options, terms, zeros,
};
use isograd_core::{Backend, Expr, Result, Tensor, expr::PerDType};

/// Layer-wise adaptive moments (You et al., arXiv:1904.00962), as MXNet carries them out:
///
/// g = clip(rescale · gradient); m and v as in [`Adam`](super::Adam); s = m̂ / (√v̂ + ε) + wd · w, with biases corrected
/// unless `bias_correction` is off; w ← w - lr · ‖w‖ / ‖s‖ · s, the quotient being 1 where a norm is 0.
///
/// ```
/// use isograd::autograd;
/// use isograd::nn::{Parameter, Parameters, Trainer, initializers::One, optimizer::LAMB};
/// let ctx = isograd::device("cpu")?;
/// let w = Parameter::new("w", &[Some(1)]);
/// w.initialize(One, &ctx)?;
/// let mut trainer = Trainer::new(w.collect_params(), LAMB::new(0.1))?;
/// for _ in 0..50 {
///     autograd::record(|| w.data()?.square())?.backward()?;
///     trainer.step(1)?;
/// }
/// assert!(w.data()?.asscalar::<f32>()?.abs() < 0.5);
/// # Ok::<(), isograd::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LAMB {
    /// The learning rate lr.
    pub learning_rate: f64,
    /// β₁, how much of the mean gradient is kept.
    pub beta1: f64,
    /// β₂, how much of the mean square is kept.
    pub beta2: f64,
    /// ε, which keeps the quotient finite.
    pub epsilon: f64,
    /// The least that ‖w‖ counts.
    pub lower_bound: Option<f64>,
    /// The most that ‖w‖ counts.
    pub upper_bound: Option<f64>,
    /// Whether the moments are corrected for their beginning at 0.
    pub bias_correction: bool,
    /// The weight decay wd.
    pub weight_decay: f64,
    /// The limit c of clipping to -c..c.
    pub clip_gradient: Option<f64>,
}

impl Default for LAMB {
    /// Learning rate 0.001, β 0.9 and 0.999, ε 1e-6, no bounds.
    fn default() -> Self {
        LAMB {
            learning_rate: 0.001,
            beta1: 0.9,
            beta2: 0.999,
            epsilon: 1e-6,
            lower_bound: None,
            upper_bound: None,
            bias_correction: true,
            weight_decay: 0.0,
            clip_gradient: None,
        }
    }
}

common_options!(LAMB);
options!(LAMB {
    /// Sets: β₁, how much of the mean gradient is kept.
    beta1: f64,
    /// Sets: β₂, how much of the mean square is kept.
    beta2: f64,
    /// Sets: ε, which keeps the quotient finite.
    epsilon: f64,
    /// Sets: the least that ‖w‖ counts.
    lower_bound: Option<f64>,
    /// Sets: the most that ‖w‖ counts.
    upper_bound: Option<f64>,
    /// Sets: whether the moments are corrected for their beginning at 0.
    bias_correction: bool,
});

/// Writes the moments, which are targets 1 and 2, and the direction s, which is target 3.
static DIRECTION: PerDType = PerDType::new("lamb", |d| {
    let t = terms(d);
    let (mean, square) = moments(&t, &t.clipped(), d);
    let [epsilon, of_mean, of_square] = [2, 3, 4].map(|k| t.argument(k));
    let direction = &mean * of_mean / ((&square * of_square).sqrt() + epsilon) + &t.wd * &t.weight;
    definition(d, vec![t.weight.clone(), mean, square, direction], 5)
});

/// Inputs: s, ‖w‖, ‖s‖. Arguments: lr and the bounds.
static STEP: PerDType = PerDType::new("lamb_step", |d| {
    let c = d.compute();
    let [direction, r1, r2] = [0, 1, 2].map(|k| Expr::input(k, d).cast(c));
    let [lr, low, high] = [0, 1, 2].map(|k| Expr::scalar(k, c));
    let r1 = r1.maximum(&low).minimum(&high);
    let zero = r1.like(0);
    let usable = r1.greater(&zero).and(&r2.greater(&zero));
    let trust = usable.select(&(&r1 / &r2), &r1.like(1));
    (vec![(Expr::old(0, d).cast(c) - lr * trust * direction).cast(d)], vec![d; 3], vec![c; 3])
});

impl LAMB {
    /// The least and the most that ‖w‖ counts.
    fn bounds(&self) -> (f64, f64) {
        (self.lower_bound.unwrap_or(0.0), self.upper_bound.unwrap_or(f64::INFINITY))
    }

    fn check_bounds(&self) -> Result<()> {
        let (low, high) = self.bounds();
        let (rule, holds) = ("at least 0, the lower one first", 0.0 <= low && low <= high);
        crate::options::require("LAMB", "lower_bound, upper_bound", (low, high), holds, rule)
    }
}

impl<B: Backend> Optimizer<B> for LAMB {
    common_methods!(LAMB { beta1: share, beta2: share, epsilon: not_negative } check_bounds);

    fn new_state(&self, weight: &Tensor<B>) -> Result<Vec<Tensor<B>>> {
        zeros(weight, 2)
    }

    fn update(&self, step: &Step, weight: &Tensor<B>, gradient: &Tensor<B>, state: &[Tensor<B>]) -> Result<()> {
        need_float("lamb", weight)?;
        let d = weight.dtype();
        let correction = |beta| if self.bias_correction { bias(beta, step.count).recip() } else { 1.0 };
        let own = [self.beta1, self.beta2, self.epsilon, correction(self.beta1), correction(self.beta2)];
        let direction = weight.detach().zeros_like()?;
        let targets: Vec<&Tensor<B>> = std::iter::once(weight).chain(state).chain([&direction]).collect();
        let numbers = arguments(d, step, self.clip_gradient, &own);
        Tensor::update(DIRECTION.program(d), &numbers, &[gradient], &targets)?;

        // The norms stay on the device.
        let (r1, r2) = (weight.detach().norm((), false)?, direction.norm((), false)?);
        let (low, high) = self.bounds();
        let numbers = [step.learning_rate, low, high].map(|number| super::scalar(d, number));
        Tensor::update(STEP.program(d), &numbers, &[&direction, &r1, &r2], &[weight])
    }
}
