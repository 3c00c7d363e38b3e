//! Parameters on several contexts: one replica of the values on each.

use super::{Parameter, State, Values};
use crate::ParameterDict;
use isograd_core::{Backend, Error, Expr, GradReq, Result, Tensor, Value, autograd, expr::PerDType};

/// old · factor, which is the product of two numbers.
static SCALE: PerDType = PerDType::new("scale_gradient", |d| {
    let c = d.compute();
    (vec![(Expr::old(0, d).cast(c) * Expr::scalar(0, c) * Expr::scalar(1, c)).cast(d)], vec![], vec![c, c])
});

/// One context or several: `&ctx`, `&[first, second]`, `&contexts`.
///
/// ```
/// use isograd::Cpu;
/// use isograd::nn::{Dense, Parameters, initializers::One};
/// let contexts = vec![Cpu::default(), Cpu::with_threads(1)?];
/// let layer = Dense::new(2).in_units(3);
/// layer.initialize(One, &contexts)?;
/// assert_eq!(layer.weight().list_ctx()?.len(), 2);
/// layer.force_reinit(One, &contexts[0])?;
/// assert_eq!(layer.weight().list_ctx()?.len(), 1);
/// # Ok::<(), isograd::Error>(())
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no context of backend `{B}`",
    label = "expected `&ctx`, or `&contexts` for several",
    note = "a context is lent: write `&ctx`"
)]
pub trait Contexts<B: Backend> {
    /// As a list.
    fn list(self) -> Vec<B>;
}

macro_rules! contexts {
    ($([$($generics:tt)*] $type:ty, |$contexts:ident| $list:expr;)*) => { $(
        impl<B: Backend, $($generics)*> Contexts<B> for $type {
            fn list(self) -> Vec<B> {
                let $contexts = self;
                $list
            }
        }
    )* };
}
contexts! {
    [] &B, |ctx| vec![ctx.clone()];
    [] &&B, |ctx| vec![(*ctx).clone()];
    [] &[B], |contexts| contexts.to_vec();
    [] &Vec<B>, |contexts| contexts.clone();
    [const N: usize] &[B; N], |contexts| contexts.to_vec();
}

impl<B: Backend> State<B> {
    /// Refuses an empty list, and one that names a context twice.
    pub(super) fn check_contexts(&self, contexts: &[B]) -> Result<()> {
        if contexts.is_empty() {
            return Err(self.error("it must be on at least one context"));
        }
        match contexts.iter().enumerate().find(|(i, ctx)| contexts[..*i].contains(ctx)) {
            Some((_, twice)) => Err(self.error(format!("the context {} is named twice", twice.name()))),
            None => Ok(()),
        }
    }

    /// The values as one tensor on the first context.
    pub(super) fn merged(&self) -> Result<Tensor<B>> {
        let first = self.replica(None)?.detach();
        let Values::Ready(replicas) = &self.values else { return Ok(first) };
        // What is trained is equal everywhere.
        if replicas.len() == 1 || self.request() != GradReq::Null || !first.dtype().is_float() {
            return Ok(first);
        }
        let bytes = first.to_bytes()?;
        let mut different = false;
        for replica in &replicas[1..] {
            different |= replica.detach().to_bytes()? != bytes;
        }
        if !different {
            return Ok(first);
        }
        autograd::pause(|| {
            // By the differences, so that no sum overflows.
            let mut mean = first.clone();
            for replica in &replicas[1..] {
                let share =
                    replica.detach().as_in_context(first.ctx())?.sub(&first)?.div_scalar(replicas.len() as f64)?;
                mean = mean.add(&share)?;
            }
            Ok(mean)
        })
    }
}

impl<B: Backend> Parameter<B> {
    /// The gradient on `ctx`.
    ///
    /// # Errors
    /// As [`Parameter::grad`]; [`isograd_core::Error::Parameter`] when it has no values there.
    pub fn grad_on(&self, ctx: &B) -> Result<Tensor<B>> {
        let data = self.data_on(ctx)?;
        if self.grad_req() == GradReq::Null { self.grad() } else { data.grad() }
    }

    /// Adds up its gradients on several contexts, over those that `backward` has reached since the last step, so that each of
    /// them has the sum. The gradients know whether they are sums: one is not added up twice, and what `backward` left since is.
    /// On a single context there is nothing to do.
    ///
    /// # Errors
    /// [`isograd_core::Error::Parameter`] when `backward` has reached it again on some contexts only; as [`Parameter::grad`].
    pub fn allreduce_grad(&self) -> Result<()> {
        Tensor::all_reduce_grads(&self.list_data()?).map_err(|e| match e {
            Error::InvalidArgument { why, .. } => self.lock().error(why),
            other => other,
        })
    }

    /// Multiplies its gradient by `factor`, in place and on every context.
    pub(crate) fn scale_grad(&self, factor: f64) -> Result<()> {
        // A factor that f32 holds with few digits or not at all is two.
        let factors = if factor > 0.0 && factor < 1e-30 { [factor.sqrt(); 2] } else { [factor, 1.0] };
        for gradient in self.list_grad()? {
            let d = gradient.dtype();
            let factors = factors.map(|f| Value::F64(f).cast(d.compute()));
            Tensor::update(SCALE.program(d), &factors, &[], &[&gradient.detach()])?;
        }
        Ok(())
    }

    /// The contexts that it is on, or will be once its shape is known.
    ///
    /// ```
    /// use isograd::nn::{Parameter, initializers::Normal};
    /// use isograd::Cpu;
    /// let contexts = [Cpu::default(), Cpu::with_threads(1)?];
    /// let weight = Parameter::new("weight", &[Some(4), Some(3)]);
    /// weight.initialize(Normal::default(), &contexts)?;
    /// assert_eq!(weight.list_ctx()?, contexts);
    /// assert_eq!(weight.list_data()?[0].to_vec::<f32>()?, weight.data_on(&contexts[1])?.to_vec::<f32>()?);
    /// weight.reset_ctx(&contexts[1..])?;
    /// assert!(weight.data_on(&contexts[0]).is_err());
    /// # Ok::<(), isograd::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`isograd_core::Error::Uninitialized`] when it has not been initialized at all.
    pub fn list_ctx(&self) -> Result<Vec<B>> {
        let contexts = self.contexts();
        if contexts.is_empty() {
            self.lock().replica(None)?;
        }
        Ok(contexts)
    }

    /// The values as one tensor on the first of its contexts: what files hold. Trained values are the same everywhere; those
    /// that forward passes change, such as running statistics, are averaged where they differ, as in Gluon.
    ///
    /// # Errors
    /// [`isograd_core::Error::Uninitialized`]; what the devices report.
    pub fn merged(&self) -> Result<Tensor<B>> {
        self.open()?.merged()
    }

    /// Writes `values`, which may be on any context, over every replica, in place.
    pub(crate) fn broadcast(&self, values: &Tensor<B>) -> Result<()> {
        let values = values.detach();
        for replica in self.list_data()?.iter().filter(|r| !r.shares_memory_with(&values)) {
            replica.assign(&values.as_in_context(replica.ctx())?)?;
        }
        Ok(())
    }
}

impl<B: Backend> ParameterDict<B> {
    /// Every context that a parameter is on, in the order of the parameters.
    ///
    /// # Errors
    /// As [`Parameter::list_ctx`].
    pub fn list_ctx(&self) -> Result<Vec<B>> {
        let mut all: Vec<B> = Vec::new();
        for (_, parameter) in self.iter() {
            for ctx in parameter.list_ctx()? {
                if !all.contains(&ctx) {
                    all.push(ctx);
                }
            }
        }
        Ok(all)
    }
}

/// The trained parameters that have values, each once: those of which something is done to all gradients.
pub(crate) fn with_gradients<B: Backend>(parameters: &ParameterDict<B>) -> Result<Vec<Parameter<B>>> {
    let trained = parameters.unique().into_iter().map(|(_, p)| p).filter(|p| p.grad_req() != GradReq::Null);
    trained.map(|p| p.allreduce_grad().map(|()| p)).collect()
}
