//! Small networks, trained for 20 steps from one seed here and on the reference backend.
//!
//! The losses must agree within a bound that grows by the step. One step's forward and backward pass err by some rounding
//! errors u of the dtype; a parameter that is off by δ is off by (1 + λ h) δ after the next step, where h is the learning
//! rate and λ a Lipschitz constant of the gradient, and so is the loss. With λ h ≤ 1/4, which the networks here were chosen
//! for, that gives [`ALLOWED`] · u · 1.25^t, relative to the loss or 1, whichever is larger. A gradient that is wrong changes
//! the second loss by thousands of times as much.
//!
//! To add a network: a row in `cases`.

use crate::{
    case::{Case, Checked, Environment, Failure, Measured},
    numbers::{Domain, Numbers},
};
use isograd_core::{Backend, DType, Dyn, Result, Tensor, Value, autograd, operators::random};
use isograd_nn::{
    Activation, BatchNorm, Block, Conv2D, Dense, Dropout, GlobalAvgPool2D, LSTM, LayerNorm, MaxPool2D, Parameters,
    Sequential, Trainer,
    initializers::Xavier,
    loss::{Loss, SoftmaxCrossEntropyLoss},
    optimizer::{Adam, SGD},
};
use isograd_reference::Reference;
use std::{
    path::PathBuf,
    sync::atomic::{AtomicU64, Ordering},
};

/// Rounding errors that the first loss may differ by: those of the longest sums and of the functions after them, on both
/// backends.
pub const ALLOWED: f64 = 64.0;

const STEPS: usize = 20;

/// What the loss of step `t` may differ by, relative to the larger of the loss and 1.
///
/// ```
/// use isograd_conformance::networks::allowed;
/// assert_eq!(allowed(0), 64.0 * 2f64.powi(-24));
/// assert!(allowed(19) < 0.001);
/// ```
pub fn allowed(t: usize) -> f64 {
    ALLOWED * crate::bounds::power_of_two(-24) * 1.25f64.powi(t as i32)
}

/// Two convolutions with batch normalization around which the input goes as it is (He et al., arXiv:1512.03385).
#[derive(Parameters)]
struct Residual {
    first: Conv2D,
    first_norm: BatchNorm,
    second: Conv2D,
    second_norm: BatchNorm,
}

impl Residual {
    fn new(channels: usize) -> Residual {
        let conv = || Conv2D::new(channels, 3).padding(1).use_bias(false);
        Residual { first: conv(), first_norm: BatchNorm::new(), second: conv(), second_norm: BatchNorm::new() }
    }
}

impl Block for Residual {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let y = self.first_norm.forward(&self.first.forward(x)?)?.relu()?;
        self.second_norm.forward(&self.second.forward(&y)?)?.add(x)?.relu()
    }
}

/// The last step of a recurrent network, `[time, batch, features]`.
#[derive(Parameters)]
struct Recurrent {
    lstm: LSTM,
}

impl Block for Recurrent {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.lstm.forward(x)?.select(0, -1)
    }
}

/// Attention with one head over `[batch, time, features]`, around which the input goes as it is, normalized; then the mean
/// over time (Vaswani et al., arXiv:1706.03762).
#[derive(Parameters)]
struct Attention {
    query: Dense,
    key: Dense,
    value: Dense,
    norm: LayerNorm,
}

impl Block for Attention {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let (q, k, v) = (self.query.forward(x)?, self.key.forward(x)?, self.value.forward(x)?);
        let scale = (q.shape()[2] as f64).sqrt();
        let weights = q.matmul(&k.swapaxes(1, 2)?)?.div_scalar(scale)?.softmax(-1)?;
        self.norm.forward(&weights.matmul(&v)?.add(x)?)?.mean(1, false)
    }
}

/// A network and the shape of its batches.
#[derive(Clone, Copy, Debug)]
enum Kind {
    Mlp,
    Lenet,
    Residual,
    Lstm,
    Attention,
}

const BATCH: usize = 8;
const CLASSES: usize = 4;

impl Kind {
    /// The batch axis comes first, but for the recurrent network.
    fn shape(self) -> &'static [usize] {
        match self {
            Kind::Mlp => &[BATCH, 12],
            Kind::Lenet => &[BATCH, 1, 12, 12],
            Kind::Residual => &[BATCH, 2, 6, 6],
            Kind::Lstm => &[5, BATCH, 6],
            Kind::Attention => &[BATCH, 5, 6],
        }
    }

    fn network(self) -> Sequential {
        let mut net = Sequential::new();
        match self {
            Kind::Mlp => {
                net.add(Dense::new(16).activation(Activation::Tanh))
                    .add(Dropout::new(0.25))
                    .add(Dense::new(16).activation(Activation::Relu));
            }
            Kind::Lenet => {
                net.add(Conv2D::new(4, 3).activation(Activation::Relu))
                    .add(MaxPool2D::new(2))
                    .add(Conv2D::new(6, 3).activation(Activation::Relu))
                    .add(Dense::new(10).activation(Activation::Tanh));
            }
            Kind::Residual => {
                net.add(Conv2D::new(4, 3).padding(1)).add(Residual::new(4)).add(GlobalAvgPool2D::new());
            }
            Kind::Lstm => {
                net.add(Recurrent { lstm: LSTM::new(7) });
            }
            Kind::Attention => {
                let dense = || Dense::new(6).flatten(false);
                net.add(Attention { query: dense(), key: dense(), value: dense(), norm: LayerNorm::new() });
            }
        }
        net.add(Dense::new(CLASSES));
        net
    }

    fn batch(self, ctx: &Dyn, t: usize) -> Result<(Tensor, Tensor)> {
        let mut numbers = Numbers::new(11, &format!("{self:?} {}", t % 3));
        let n = self.shape().iter().product();
        let values = Domain::Range(-1.5, 1.5, &[]).draw(&mut numbers, DType::F32, n);
        let values: Vec<f32> = values.into_iter().map(Value::to_f32).collect();
        let labels: Vec<i64> = (0..BATCH).map(|_| numbers.below(CLASSES) as i64).collect();
        Ok((Tensor::from_slice(ctx, &values, self.shape())?, Tensor::from_slice(ctx, &labels, [BATCH])?))
    }

    /// The losses, and the network that they led to.
    fn trained(self, ctx: &Dyn) -> Result<(Vec<f64>, Sequential)> {
        random::seed(23);
        let net = self.network();
        net.initialize(Xavier::default(), ctx)?;
        let parameters = net.collect_params();
        let mut trainer = match self {
            Kind::Attention | Kind::Mlp => Trainer::new(parameters, Adam::new(0.01))?,
            _ => Trainer::new(parameters, SGD::new(0.1).momentum(0.5))?,
        };
        let criterion = SoftmaxCrossEntropyLoss::default();
        let mut losses = Vec::with_capacity(STEPS);
        for t in 0..STEPS {
            let (x, labels) = self.batch(ctx, t)?;
            let loss = autograd::record(|| criterion.loss(&net.forward(&x)?, &labels))?;
            loss.backward()?;
            trainer.step(BATCH)?;
            losses.push(loss.mean((), false)?.asscalar::<f64>()?);
        }
        Ok((losses, net))
    }
}

pub(crate) fn cases() -> Vec<Case> {
    let rows = [
        ("mlp", Kind::Mlp),
        ("lenet", Kind::Lenet),
        ("residual", Kind::Residual),
        ("lstm", Kind::Lstm),
        ("attention", Kind::Attention),
    ];
    rows.into_iter()
        .map(|(name, kind)| Case {
            name: format!("network_{name}"),
            dtypes: vec![DType::F32],
            computes: true,
            repeatable: false,
            run: Box::new(move |e| check(e, kind)),
        })
        .collect()
}

fn check(e: &Environment<'_>, kind: Kind) -> Checked {
    if !e.ctx.capabilities().computes.contains(DType::I64) {
        return Err(Failure::skip("labels are int64, which the device does not compute with"));
    }
    let (losses, net) = kind.trained(e.ctx)?;
    let there = Dyn::new(Reference);
    let (expected, reference) = kind.trained(&there)?;
    let unit = crate::bounds::power_of_two(-24);
    let mut measured = Measured::default();
    for (t, (&got, &right)) in losses.iter().zip(&expected).enumerate() {
        let (off, bound) = ((got - right).abs() / right.abs().max(1.0), allowed(t));
        if off > bound || !got.is_finite() {
            return Err(Failure {
                why: format!(
                    "the loss of step {t} is not the reference's; the losses are {losses:?}, there {expected:?}"
                ),
                element: Some(t),
                expected: right.to_string(),
                got: got.to_string(),
                ulp: off / unit,
                bound: bound / unit,
                ..Failure::default()
            });
        }
        measured.merge(&Measured { elements: 1, open: 0, share: off / bound, ulp: off / unit, bound: bound / unit });
    }
    must(expected[STEPS - 1] < expected[0], "the reference learns")?;
    exchanged(kind, &net, e.ctx, &there)?;
    exchanged(kind, &reference, &there, e.ctx)?;
    Ok(measured)
}

fn must(holds: bool, what: &str) -> Result<(), Failure> {
    if holds { Ok(()) } else { Err(Failure::new("", format!("it does not hold that {what}"))) }
}

/// What `net` saves here, a fresh network loads there: every parameter bit for bit, and the same predictions.
fn exchanged(kind: Kind, net: &Sequential, here: &Dyn, there: &Dyn) -> Result<(), Failure> {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let name = format!("isograd-{}-{}.safetensors", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
    let file = Removed(std::env::temp_dir().join(name));
    net.save_parameters(&file.0)?;
    let fresh = kind.network();
    fresh.load_parameters(&file.0, there)?;
    let (mine, theirs) = (net.collect_params(), fresh.collect_params());
    must(mine.paths() == theirs.paths(), "a network that was loaded has the parameters of the one that was saved")?;
    for (path, p) in mine.iter() {
        let loaded = theirs.get(path).map(|q| q.data().and_then(|d| d.to_bytes())).transpose()?;
        let same = loaded.as_deref() == Some(&p.data()?.to_bytes()?[..]);
        must(same, &format!("parameter {path} is loaded as it was saved"))?;
    }
    let (x, y) = (kind.batch(here, 0)?.0, kind.batch(there, 0)?.0);
    let (x, y) = (net.forward(&x)?.to_vec::<f32>()?, fresh.forward(&y)?.to_vec::<f32>()?);
    let near = |(a, b): (&f32, &f32)| ((a - b).abs() as f64) <= allowed(0) * (b.abs() as f64).max(1.0);
    must(x.iter().zip(&y).all(near), "a network that was loaded predicts as the one that was saved")
}

/// A file that goes away with its owner.
struct Removed(PathBuf);

impl Drop for Removed {
    fn drop(&mut self) {
        // It may never have been written.
        let _ = std::fs::remove_file(&self.0);
    }
}
