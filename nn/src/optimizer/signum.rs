//! [`Signum`]: steps of one length, by the sign alone.

use super::{Optimizer, Step, Update, common_methods, common_options, definition, options, terms, zeros};
use isograd_core::{Backend, Result, Tensor, expr::PerDType};

/// Steps by the sign of the momentum (Bernstein et al., arXiv:1802.04434):
///
/// g = clip(rescale · gradient); m ← momentum · m - (1 - momentum) (g + wd · w); w ← (1 - lr · wd_lh) w + lr · sign(m).
/// With momentum 0: w ← (1 - lr · wd) w - lr · sign(g).
///
/// ```
/// use isograd::autograd;
/// use isograd::nn::{Parameter, Parameters, Trainer, initializers::One, optimizer::Signum};
/// let ctx = isograd::device("cpu")?;
/// let w = Parameter::new("w", &[Some(1)]);
/// w.initialize(One, &ctx)?;
/// let mut trainer = Trainer::new(w.collect_params(), Signum::new(0.03))?;
/// for _ in 0..50 {
///     autograd::record(|| w.data()?.square())?.backward()?;
///     trainer.step(1)?;
/// }
/// assert!(w.data()?.asscalar::<f32>()?.abs() < 0.5);
/// # Ok::<(), isograd::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Signum {
    /// The learning rate lr.
    pub learning_rate: f64,
    /// How much of the mean gradient is kept.
    pub momentum: f64,
    /// The decay of the weight itself (Loshchilov and Hutter).
    pub wd_lh: f64,
    /// The weight decay wd.
    pub weight_decay: f64,
    /// The limit c of clipping to -c..c.
    pub clip_gradient: Option<f64>,
}

impl Default for Signum {
    /// Learning rate 0.01, momentum 0.9.
    fn default() -> Self {
        Signum { learning_rate: 0.01, momentum: 0.9, wd_lh: 0.0, weight_decay: 0.0, clip_gradient: None }
    }
}

common_options!(Signum);
options!(Signum {
    /// Sets: how much of the mean gradient is kept.
    momentum: f64,
    /// Sets: the decay of the weight itself (Loshchilov and Hutter).
    wd_lh: f64,
});

static MOMENTUM: PerDType = PerDType::new("signum", |d| {
    let t = terms(d);
    let (momentum, decay) = (t.argument(0), t.argument(1));
    let mean = &momentum * t.state(0, d) - (1.0 - &momentum) * t.clipped_then_decayed();
    let weight = (1.0 - &t.lr * decay) * &t.weight + &t.lr * mean.sign();
    definition(d, vec![weight, mean], 2)
});

static PLAIN: PerDType = PerDType::new("signsgd", |d| {
    let t = terms(d);
    let weight = (1.0 - &t.lr * &t.wd) * &t.weight - &t.lr * t.gradient.sign();
    definition(d, vec![weight], 0)
});

impl<B: Backend> Optimizer<B> for Signum {
    common_methods!(Signum { momentum: share, wd_lh: not_negative });

    fn new_state(&self, weight: &Tensor<B>) -> Result<Vec<Tensor<B>>> {
        zeros(weight, usize::from(self.momentum != 0.0))
    }

    fn update(&self, step: &Step, weight: &Tensor<B>, gradient: &Tensor<B>, state: &[Tensor<B>]) -> Result<()> {
        let update = Update { step, clip: self.clip_gradient, weight, gradient, state };
        if state.is_empty() {
            return update.launch("signum", &PLAIN, &[]);
        }
        update.launch("signum", &MOMENTUM, &[self.momentum, self.wd_lh])
    }
}
