//! Parameters on several contexts: one replica of the values on each.

use super::{Parameter, State, Values};
use crate::ParameterDict;
use isograd_core::{Backend, GradReq, Result, Tensor, autograd};

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
        match &self.values {
            Values::Ready(replicas)
                if replicas.len() > 1 && self.request() == GradReq::Null && first.dtype().is_float() =>
            {
                autograd::pause(|| sum(replicas)?.div_scalar(replicas.len() as f64))
            }
            _ => Ok(first),
        }
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

    /// The contexts that it is on, or will be once its shape is known.
    ///
    /// ```
    /// use isograd_nn::{Parameter, initializers::Normal};
    /// use isograd_cpu::Cpu;
    /// let contexts = [Cpu::default(), Cpu::with_threads(1)?];
    /// let weight = Parameter::new("weight", &[Some(4), Some(3)]);
    /// weight.initialize_on(Normal::default(), &contexts, false)?;
    /// assert_eq!(weight.list_ctx()?, contexts);
    /// assert_eq!(weight.list_data()?[0].to_vec::<f32>()?, weight.data_on(&contexts[1])?.to_vec::<f32>()?);
    /// weight.reset_ctx(&contexts[1..])?;
    /// assert!(weight.data_on(&contexts[0]).is_err());
    /// # Ok::<(), isograd_core::Error>(())
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
    /// that forward passes change, such as running statistics, are averaged, as in Gluon.
    ///
    /// # Errors
    /// [`isograd_core::Error::Uninitialized`]; what the devices report.
    pub fn merged(&self) -> Result<Tensor<B>> {
        self.lock().merged()
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

/// The sum of tensors of one shape on the context of the first, added up in their order.
pub(crate) fn sum<B: Backend>(tensors: &[Tensor<B>]) -> Result<Tensor<B>> {
    let mut total = tensors[0].detach();
    for tensor in &tensors[1..] {
        total = total.add(&tensor.detach().as_in_context(total.ctx())?)?;
    }
    Ok(total)
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
