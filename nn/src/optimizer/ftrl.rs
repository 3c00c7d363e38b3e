//! [`Ftrl`]: weights that stay zero until they pay.

use super::{Optimizer, Step, Update, common_methods, common_options, definition, options, terms, zeros};
use isograd_core::{Backend, Result, Tensor, expr::PerDType};

/// Follow the regularized leader (McMahan et al., *Ad Click Prediction*, KDD 2013), which keeps weights at exactly 0:
///
/// g = clip(rescale · gradient); z ← z + g - (√(n + g²) - √n) w / lr; n ← n + g²;
/// w ← (sign(z) λ₁ - z) / ((β + √n) / lr + wd) where |z| > λ₁, else 0.
///
/// ```
/// use isograd::autograd;
/// use isograd::nn::{Parameter, Parameters, Trainer, initializers::One, optimizer::Ftrl};
/// let ctx = isograd::device("cpu")?;
/// let w = Parameter::new("w", &[Some(1)]);
/// w.initialize(One, &ctx)?;
/// let mut trainer = Trainer::new(w.collect_params(), Ftrl::new(0.5))?;
/// for _ in 0..50 {
///     autograd::record(|| w.data()?.square())?.backward()?;
///     trainer.step(1)?;
/// }
/// assert!(w.data()?.asscalar::<f32>()?.abs() < 0.5);
/// # Ok::<(), isograd::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ftrl {
    /// The learning rate lr.
    pub learning_rate: f64,
    /// λ₁, the weight of the L1 norm.
    pub lamda1: f64,
    /// β, which damps the first steps.
    pub beta: f64,
    /// The weight decay wd.
    pub weight_decay: f64,
    /// The limit c of clipping to -c..c.
    pub clip_gradient: Option<f64>,
}

impl Default for Ftrl {
    /// Learning rate 0.1, λ₁ 0.01, β 1.
    fn default() -> Self {
        Ftrl { learning_rate: 0.1, lamda1: 0.01, beta: 1.0, weight_decay: 0.0, clip_gradient: None }
    }
}

common_options!(Ftrl);
options!(Ftrl {
    /// Sets: λ₁, the weight of the L1 norm.
    lamda1: f64,
    /// Sets: β, which damps the first steps.
    beta: f64,
});

static STEP: PerDType = PerDType::new("ftrl", |d| {
    let t = terms(d);
    let (lamda1, beta) = (t.argument(0), t.argument(1));
    let (g, z, n) = (t.clipped(), t.state(0, d), t.state(1, d));
    let new_n = &n + g.square();
    let new_z = z + g - (new_n.sqrt() - n.sqrt()) * &t.weight / &t.lr;
    let moved = (new_z.sign() * &lamda1 - &new_z) / ((beta + new_n.sqrt()) / &t.lr + &t.wd);
    let weight = new_z.abs().greater(&lamda1).select(&moved, &moved.like(0));
    definition(d, vec![weight, new_z, new_n], 2)
});

impl<B: Backend> Optimizer<B> for Ftrl {
    common_methods!(Ftrl { lamda1: not_negative, beta: not_negative });

    fn new_state(&self, weight: &Tensor<B>) -> Result<Vec<Tensor<B>>> {
        zeros(weight, 2)
    }

    fn update(&self, step: &Step, weight: &Tensor<B>, gradient: &Tensor<B>, state: &[Tensor<B>]) -> Result<()> {
        if step.learning_rate == 0.0 {
            // The rule divides by it; its limit is to stand still.
            return Ok(());
        }
        let update = Update { step, clip: self.clip_gradient, weight, gradient, state };
        update.launch("ftrl", &STEP, &[self.lamda1, self.beta])
    }
}
