//! [`NAG`]: Nesterov's accelerated gradient.

use super::{Optimizer, Step, Update, common_methods, common_options, definition, options, terms, zeros};
use isograd_core::{Backend, Result, Tensor, expr::PerDType};

/// Nesterov's accelerated gradient, as MXNet carries it out:
///
/// g = clip(rescale · gradient); m' = momentum · m; d = lr (g + wd · w); w' = w + momentum (m' - d) - d; and
/// m ← m' - lr (g + wd · w'), where MXNet's kernel decays the *new* weight, which has replaced the old one by then.
///
/// ```
/// use isograd::autograd;
/// use isograd::nn::{Parameter, Parameters, Trainer, initializers::One, optimizer::NAG};
/// let ctx = isograd::device("cpu")?;
/// let w = Parameter::new("w", &[Some(1)]);
/// w.initialize(One, &ctx)?;
/// let mut trainer = Trainer::new(w.collect_params(), NAG::new(0.05).momentum(0.9))?;
/// for _ in 0..50 {
///     autograd::record(|| w.data()?.square())?.backward()?;
///     trainer.step(1)?;
/// }
/// assert!(w.data()?.asscalar::<f32>()?.abs() < 0.5);
/// # Ok::<(), isograd::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct NAG {
    /// The learning rate lr.
    pub learning_rate: f64,
    /// How much of the last step is kept, in 0..1.
    pub momentum: f64,
    /// The weight decay wd.
    pub weight_decay: f64,
    /// The limit c of clipping to -c..c.
    pub clip_gradient: Option<f64>,
}

impl Default for NAG {
    /// Learning rate 0.01, momentum 0.
    fn default() -> Self {
        NAG { learning_rate: 0.01, momentum: 0.0, weight_decay: 0.0, clip_gradient: None }
    }
}

common_options!(NAG);
options!(NAG {
    /// Sets: how much of the last step is kept, in 0..1.
    momentum: f64,
});

static STEP: PerDType = PerDType::new("nag", |d| {
    let t = terms(d);
    let momentum = t.argument(0);
    let gradient = t.clipped();
    let kept = &momentum * t.state(0, d);
    let change = |weight: &isograd_core::Expr| &t.lr * (&gradient + &t.wd * weight);
    let old = change(&t.weight);
    let weight = &t.weight + momentum * (&kept - &old) - old;
    let state = kept - change(&weight);
    definition(d, vec![weight, state], 1)
});

impl<B: Backend> Optimizer<B> for NAG {
    common_methods!(NAG { momentum: share });

    fn new_state(&self, weight: &Tensor<B>) -> Result<Vec<Tensor<B>>> {
        zeros(weight, 1)
    }

    fn update(&self, step: &Step, weight: &Tensor<B>, gradient: &Tensor<B>, state: &[Tensor<B>]) -> Result<()> {
        let update = Update { step, clip: self.clip_gradient, weight, gradient, state };
        update.launch("nag", &STEP, &[self.momentum])
    }
}
