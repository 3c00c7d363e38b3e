//! Parameters on several contexts: one replica of the values on each.

use super::{Parameter, Values};
use crate::{Initializer, ParameterDict};
use isograd_core::{Backend, Error, GradReq, Result, Tensor, autograd};
use std::sync::Arc;

/// Refuses an empty list, and one that names a context twice.
fn check<B: Backend>(op: &'static str, contexts: &[B]) -> Result<()> {
    if contexts.is_empty() {
        return Err(Error::invalid(op, "there are no contexts; name at least one"));
    }
    match contexts.iter().enumerate().find(|(i, ctx)| contexts[..*i].contains(ctx)) {
        Some((_, twice)) => Err(Error::invalid(op, format!("the context {} is named twice", twice.name()))),
        None => Ok(()),
    }
}

impl<B: Backend> Parameter<B> {
    /// [`Parameter::initialize`] on several contexts, with the same values on each.
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
    /// [`Error::InvalidArgument`] for no contexts, and for one that is named twice; as [`Parameter::initialize`].
    pub fn initialize_on(
        &self,
        initializer: impl Initializer<B> + 'static,
        contexts: &[B],
        force_reinit: bool,
    ) -> Result<()> {
        check("Parameter::initialize_on", contexts)?;
        self.lock().initialize(Arc::new(initializer), contexts.to_vec(), force_reinit)
    }

    /// The values on each of its contexts, in their order.
    ///
    /// # Errors
    /// [`Error::Uninitialized`].
    pub fn list_data(&self) -> Result<Vec<Tensor<B>>> {
        let state = self.lock();
        state.replica(None)?;
        match &state.values {
            Values::Ready(replicas) => Ok(replicas.clone()),
            _ => Ok(vec![]),
        }
    }

    /// The gradient on each of its contexts, in their order.
    ///
    /// # Errors
    /// [`Error::Uninitialized`]; [`Error::Parameter`] with [`GradReq::Null`].
    pub fn list_grad(&self) -> Result<Vec<Tensor<B>>> {
        self.grad()?;
        self.list_data()?.iter().map(Tensor::grad).collect()
    }

    /// The gradient on `ctx`.
    ///
    /// # Errors
    /// As [`Parameter::grad`]; [`Error::Parameter`] when it has no values there.
    pub fn grad_on(&self, ctx: &B) -> Result<Tensor<B>> {
        let data = self.data_on(ctx)?;
        if self.grad_req() == GradReq::Null { self.grad() } else { data.grad() }
    }

    /// The contexts that it is on, or will be once its shape is known.
    ///
    /// # Errors
    /// [`Error::Uninitialized`] when it has not been initialized at all.
    pub fn list_ctx(&self) -> Result<Vec<B>> {
        let contexts = self.contexts();
        if contexts.is_empty() {
            self.lock().replica(None)?;
        }
        Ok(contexts)
    }

    /// Moves it to other contexts. Its gradient is lost.
    ///
    /// # Errors
    /// As [`Parameter::initialize_on`]; [`Error::Uninitialized`] when it has not been initialized at all.
    pub fn reset_ctx(&self, contexts: &[B]) -> Result<()> {
        check("Parameter::reset_ctx", contexts)?;
        let merged = if self.is_initialized() { Some(self.merged()?) } else { None };
        let mut state = self.lock();
        if let Some(merged) = merged {
            let first = merged.copyto(&contexts[0])?;
            return state.set_ready(first, contexts);
        }
        match &mut state.values {
            Values::Deferred { contexts: old, .. } => *old = contexts.to_vec(),
            _ => drop(state.replica(None)?),
        }
        Ok(())
    }

    /// The values as one tensor on the first of its contexts: what files hold. Trained values are the same everywhere; those
    /// that forward passes change, such as running statistics, are averaged, as in Gluon.
    ///
    /// # Errors
    /// [`Error::Uninitialized`]; what the devices report.
    pub fn merged(&self) -> Result<Tensor<B>> {
        let replicas = self.list_data()?;
        let first = replicas[0].detach();
        if replicas.len() == 1 || self.grad_req() != GradReq::Null || !first.dtype().is_float() {
            return Ok(first);
        }
        autograd::pause(|| sum(&replicas)?.div_scalar(replicas.len() as f64))
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
    /// Gives all parameters values on each of `contexts`; see [`crate::Parameters::initialize`].
    ///
    /// # Errors
    /// As [`Parameter::initialize_on`].
    pub fn initialize_on(
        &self,
        default: impl Initializer<B> + 'static,
        contexts: &[B],
        force_reinit: bool,
    ) -> Result<()> {
        check("initialize_on", contexts)?;
        let default: Arc<dyn Initializer<B>> = Arc::new(default);
        self.unique().iter().try_for_each(|(_, parameter)| {
            let mut state = parameter.lock();
            let initializer = state.own.as_ref().unwrap_or(&default).clone();
            state.initialize(initializer, contexts.to_vec(), force_reinit)
        })
    }

    /// [`Parameter::reset_ctx`] of all parameters.
    ///
    /// # Errors
    /// As [`Parameter::reset_ctx`].
    pub fn reset_ctx(&self, contexts: &[B]) -> Result<()> {
        self.unique().iter().try_for_each(|(_, parameter)| parameter.reset_ctx(contexts))
    }

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
