//! [`BatchNorm`]: each channel normalized over the batch.

use super::{affine::Affine, python};
use crate::{
    Block, Initializer, Parameter, Parameters, Visitor,
    describe::print_blocks,
    dry_run, hooks,
    initializers::{One, Zero},
    naming, options,
};
use isograd_core::{Backend, Dyn, Expr, Result, Tensor, Value, autograd, expr::PerDType};

/// (x - mean) / √(variance + ε) · γ + β for each channel of `axis` (Ioffe and Szegedy, arXiv:1502.03167).
///
/// In train mode the statistics are those of the batch, and the running ones, which predict mode uses, move towards them:
/// running ← momentum · running + (1 - momentum) · batch, with the variance divided by n, as in MXNet (PyTorch divides by
/// n - 1, and its momentum is 1 - this one). γ, β and the statistics are `[channels]`, taken from the first batch unless
/// given. Without `scale` γ is not trained, and each forward pass sets it to 1, whatever a file put there; without `center` β is
/// not trained. The statistics are f32 also where the rest is f16 or bf16.
/// A clone shares the parameters.
///
/// ```
/// use isograd::{Tensor, autograd};
/// use isograd::nn::{BatchNorm, Block, Parameters, initializers::Zero};
/// let ctx = isograd::device("cpu")?;
/// let layer = BatchNorm::new();
/// layer.initialize(Zero, &ctx)?;
/// let x = Tensor::from_slice(&ctx, &[1.0f32, 3.0], [2, 1])?;
/// let y = autograd::train_mode(|| layer.forward(&x))?.to_vec::<f32>()?;
/// assert!((y[0] + 1.0).abs() < 1e-4 && (y[1] - 1.0).abs() < 1e-4);
/// let mean = layer.running_mean().data()?.to_vec::<f32>()?;
/// assert!((mean[0] - 0.2).abs() < 1e-6);
/// # Ok::<(), isograd::Error>(())
/// ```
#[derive(Clone)]
pub struct BatchNorm<B: Backend = Dyn> {
    axis: isize,
    momentum: f64,
    use_global_stats: bool,
    affine: Affine<B>,
    running_mean: Parameter<B>,
    running_var: Parameter<B>,
}

/// momentum · old + (1 - momentum) · batch.
static RUNNING: PerDType = PerDType::new("running_statistics", |d| {
    let c = d.compute();
    let momentum = Expr::scalar(0, c);
    let new = &momentum * Expr::old(0, d).cast(c) + (1.0 - &momentum) * Expr::input(0, d).cast(c);
    (vec![new.cast(d)], vec![d], vec![c])
});

impl<B: Backend> Default for BatchNorm<B> {
    fn default() -> Self {
        let prefix = naming::prefix("batchnorm");
        let statistic =
            |name| Parameter::new(format!("{prefix}{name}"), &[None]).with_differentiable(false).with_wide(true);
        BatchNorm {
            axis: 1,
            momentum: 0.9,
            use_global_stats: false,
            affine: Affine::new(&prefix, 1e-5),
            running_mean: statistic("running_mean").with_initializer(Zero),
            running_var: statistic("running_var").with_initializer(One),
        }
    }
}

impl<B: Backend> BatchNorm<B> {
    /// Over axis 1, momentum 0.9, ε 1e-5, with γ and β.
    pub fn new() -> Self {
        BatchNorm::default()
    }

    /// The axis of the channels.
    #[must_use]
    pub fn axis(mut self, axis: isize) -> Self {
        self.axis = axis;
        self
    }

    /// How much of the running statistics is kept at each step.
    #[must_use]
    pub fn momentum(mut self, momentum: f64) -> Self {
        self.momentum = momentum;
        self
    }

    /// Whether the running statistics are used in train mode too, and left as they are.
    #[must_use]
    pub fn use_global_stats(mut self, use_global_stats: bool) -> Self {
        self.use_global_stats = use_global_stats;
        self
    }

    /// The number of channels, so that shapes are known before the first batch.
    #[must_use]
    pub fn in_channels(mut self, channels: usize) -> Self {
        self.affine = self.affine.sized(channels);
        self.running_mean = self.running_mean.shaped(&[Some(channels)]);
        self.running_var = self.running_var.shaped(&[Some(channels)]);
        self
    }

    /// Uses the parameters of `other`: gradients add up, and a step changes both layers. The running
    /// statistics are shared as well.
    #[must_use]
    pub fn share(mut self, other: &Self) -> Self {
        self.affine.take(&other.affine);
        self.running_mean = other.running_mean.clone();
        self.running_var = other.running_var.clone();
        self
    }

    /// Initializes the running mean by `initializer` instead of zeros.
    #[must_use]
    pub fn running_mean_initializer(mut self, initializer: impl Initializer<B> + 'static) -> Self {
        self.running_mean = self.running_mean.with_initializer(initializer);
        self
    }

    /// Initializes the running variance by `initializer` instead of ones.
    #[must_use]
    pub fn running_variance_initializer(mut self, initializer: impl Initializer<B> + 'static) -> Self {
        self.running_var = self.running_var.with_initializer(initializer);
        self
    }

    /// The running mean, `[channels]`.
    pub fn running_mean(&self) -> &Parameter<B> {
        &self.running_mean
    }

    /// The running variance, `[channels]`.
    pub fn running_var(&self) -> &Parameter<B> {
        &self.running_var
    }
}

super::affine::affine_options!(BatchNorm);

impl<B: Backend> Parameters<B> for BatchNorm<B> {
    fn visit(&self, visitor: &mut dyn Visitor<B>) {
        self.affine.visit(visitor);
        visitor.child("running_mean", &self.running_mean);
        visitor.child("running_var", &self.running_var);
    }

    fn label(&self) -> Option<String> {
        Some(format!(
            "BatchNorm(axis={}, eps={}, momentum={}, fix_gamma={}, use_global_stats={}, in_channels={})",
            self.axis,
            python::float(self.affine.epsilon),
            python::float(self.momentum),
            python::bool(!self.affine.scale),
            python::bool(self.use_global_stats),
            self.affine.channels().map_or("None".into(), |n| n.to_string()),
        ))
    }
}

impl<B: Backend> Block<B> for BatchNorm<B> {
    fn forward(&self, x: &Tensor<B>) -> Result<Tensor<B>> {
        hooks::layer(self, x, || self.compute(x))
    }
}

impl<B: Backend> BatchNorm<B> {
    fn compute(&self, x: &Tensor<B>) -> Result<Tensor<B>> {
        let channels = super::affine::size_of_axis("BatchNorm", x, self.axis)?;
        let (gamma, beta) = self.affine.bind("BatchNorm", x, channels)?;
        options::require("BatchNorm", "momentum", self.momentum, (0.0..=1.0).contains(&self.momentum), "in 0..=1")?;
        let gamma = if self.affine.scale {
            gamma
        } else {
            // What is saved later is what was computed with.
            if !dry_run::is_active() {
                gamma.detach().fill(1)?;
            }
            gamma.detach().ones_like()?
        };
        let mean = self.running_mean.bind(x.ctx(), &[channels])?;
        let var = self.running_var.bind(x.ctx(), &[channels])?;
        if !autograd::is_training() || self.use_global_stats {
            return x.batch_norm_by(&gamma, &beta, &mean, &var, self.affine.epsilon, self.axis);
        }
        let normalized = x.batch_norm(&gamma, &beta, self.affine.epsilon, self.axis)?;
        for (running, batch) in [(&mean, &normalized.mean), (&var, &normalized.var)] {
            let d = running.dtype();
            let batch = batch.detach().reshape(running.shape())?.cast(d)?;
            Tensor::update(RUNNING.program(d), &[Value::F64(self.momentum).cast(d.compute())], &[&batch], &[running])?;
        }
        Ok(normalized.output)
    }
}

print_blocks! {
    impl [B: Backend] BatchNorm<B>;
}
