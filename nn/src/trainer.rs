//! [`Trainer`]: applies an optimizer to the parameters of a network.

use crate::{Optimizer, Parameter, ParameterDict, optimizer::Step, options, parameter::sum};
use isograd_core::{
    Backend, DType, Dyn, Error, GradReq, Result, Tensor, autograd,
    format::{HostArray, safetensors},
};
use std::{
    collections::{BTreeMap, HashMap},
    path::Path,
};

/// Applies an optimizer to parameters after each `backward`.
///
/// A parameter that is shared is updated once. Parameters with [`GradReq::Null`] are left alone. Of a parameter on several
/// contexts the gradients are added up in the order of the contexts; it is updated on the first, and the new values are
/// copied to the others, so that all of them stay equal to the last bit. Several trainers may have disjoint parameters of one
/// network.
///
/// A gradient counts once: to use one again, or to step when `backward` has not reached a parameter, is an error that names
/// the parameter; [`Trainer::step_ignoring_stale`] leaves such parameters as they are.
///
/// ```
/// use isograd_core::{DType, Tensor, autograd};
/// use isograd_nn::{Block, Dense, Parameters, Trainer, initializers::Zero, loss::{L2Loss, Loss}, optimizer::SGD};
/// # let ctx = isograd_reference::Reference;
/// let net = Dense::new(1);
/// net.initialize(Zero, &ctx)?;
/// let mut trainer = Trainer::new(net.collect_params(), SGD::new(0.5))?;
/// let (x, y) = (Tensor::ones(&ctx, [4, 1], DType::F32)?, Tensor::ones(&ctx, [4], DType::F32)?);
/// autograd::record(|| L2Loss::default().loss(&net.forward(&x)?, &y))?.backward()?;
/// trainer.step(4)?;
/// assert_eq!(net.bias().unwrap().data()?.to_vec::<f32>()?, [0.5]);
/// assert!(trainer.step(4).unwrap_err().to_string().contains("since the last step"));
/// # Ok::<(), isograd_core::Error>(())
/// ```
pub struct Trainer<B: Backend = Dyn> {
    slots: Vec<Slot<B>>,
    optimizer: Box<dyn Optimizer<B>>,
    /// The most updates that a parameter has seen: the place in a schedule.
    updates: u64,
    rescale_grad: f64,
    /// Whether the gradients on several contexts have been added up since the last update.
    reduced: bool,
}

struct Slot<B: Backend> {
    path: String,
    parameter: Parameter<B>,
    /// How often it was updated.
    count: u64,
    /// What the optimizer keeps, on the first context; made at the first update.
    state: Option<Vec<Tensor<B>>>,
    /// The dtype of the values that the state belongs to.
    dtype: DType,
}

impl<B: Backend> Trainer<B> {
    /// A trainer of `parameters`, which may still await their values.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] when there are no parameters, or for an option of the optimizer out of its domain, such as a
    /// negative learning rate.
    pub fn new(parameters: ParameterDict<B>, optimizer: impl Optimizer<B> + 'static) -> Result<Trainer<B>> {
        if parameters.is_empty() {
            return Err(Error::invalid("Trainer", "there are no parameters to train"));
        }
        optimizer.check()?;
        let slot = |(path, p): (&str, &Parameter<B>)| Slot {
            path: path.into(),
            parameter: p.clone(),
            count: 0,
            state: None,
            dtype: p.dtype(),
        };
        let slots = parameters.unique().iter().map(slot).collect();
        Ok(Trainer { slots, optimizer: Box::new(optimizer), updates: 0, rescale_grad: 1.0, reduced: false })
    }

    /// The parameters, each once, with their paths.
    pub fn parameters(&self) -> impl Iterator<Item = (&str, &Parameter<B>)> {
        self.slots.iter().map(|slot| (slot.path.as_str(), &slot.parameter))
    }

    /// The learning rate of the last update, or of the first one to come; with a schedule, the scheduled one.
    pub fn learning_rate(&self) -> f64 {
        self.optimizer.learning_rate_at(self.updates)
    }

    /// Sets the learning rate of the steps to come; with a schedule, the one that its shares are of. A negative one, or NaN, is
    /// refused by the next step.
    pub fn set_learning_rate(&mut self, learning_rate: f64) {
        self.optimizer.set_learning_rate(learning_rate);
    }

    /// How often a parameter has been updated, at most: the place in a schedule.
    pub fn updates(&self) -> u64 {
        self.updates
    }

    /// The factor on gradients beside 1 / batch size; 1 unless set.
    pub fn rescale_grad(&self) -> f64 {
        self.rescale_grad
    }

    /// Sets the factor on gradients beside 1 / batch size, such as 1 / (loss scale).
    pub fn set_rescale_grad(&mut self, factor: f64) {
        self.rescale_grad = factor;
    }

    /// Adds up the gradients on several contexts and updates every parameter by the sum divided by `batch_size`.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for a batch size of 0; [`Error::Parameter`] naming a parameter that `backward` has not
    /// reached since the last step; [`Error::Uninitialized`]; what the device reports. Nothing changes unless every parameter
    /// can be updated.
    pub fn step(&mut self, batch_size: usize) -> Result<()> {
        self.run("Trainer::step", batch_size, true, false)
    }

    /// [`Trainer::step`] that leaves parameters alone that `backward` has not reached since the last step.
    ///
    /// # Errors
    /// As [`Trainer::step`], less those.
    pub fn step_ignoring_stale(&mut self, batch_size: usize) -> Result<()> {
        self.run("Trainer::step_ignoring_stale", batch_size, true, true)
    }

    /// The first half of [`Trainer::step`]: adds up the gradients on several contexts, so that each of them has the sum. What
    /// is done to gradients as a whole, such as [`crate::optimizer::clip_global_norm`], comes after it and before
    /// [`Trainer::update`].
    ///
    /// # Errors
    /// [`Error::Uninitialized`]; what the devices report.
    pub fn allreduce_grads(&mut self) -> Result<()> {
        autograd::pause(|| {
            for slot in self.slots.iter().filter(|slot| slot.is_trained() && slot.parameter.contexts().len() > 1) {
                let fresh: Vec<Tensor<B>> = slot.fresh()?;
                if !fresh.is_empty() {
                    let all = slot.parameter.list_grad()?;
                    if fresh.len() == all.len() && Tensor::all_reduce(&detached(&all))? {
                        continue;
                    }
                    let total = sum(&gradients(&fresh)?)?;
                    for gradient in all {
                        gradient.detach().assign(&total.as_in_context(gradient.ctx())?)?;
                    }
                }
            }
            Ok(())
        })?;
        self.reduced = true;
        Ok(())
    }

    /// The second half of [`Trainer::step`]: updates every parameter by its gradient, which [`Trainer::allreduce_grads`] has
    /// added up, divided by `batch_size`.
    ///
    /// # Errors
    /// As [`Trainer::step`]; [`Error::Parameter`] when a parameter is on several contexts and its gradients were not added up.
    pub fn update(&mut self, batch_size: usize) -> Result<()> {
        self.run("Trainer::update", batch_size, false, false)
    }

    /// [`Trainer::update`] that leaves parameters alone that `backward` has not reached since the last step.
    ///
    /// # Errors
    /// As [`Trainer::update`], less those.
    pub fn update_ignoring_stale(&mut self, batch_size: usize) -> Result<()> {
        self.run("Trainer::update_ignoring_stale", batch_size, false, true)
    }

    /// Counts the gradients as used, without an update.
    ///
    /// # Errors
    /// [`Error::Uninitialized`].
    pub fn skip(&mut self) -> Result<()> {
        self.reduced = false;
        for slot in self.slots.iter().filter(|slot| slot.is_trained() && !slot.is_deferred()) {
            slot.parameter.list_data()?.iter().for_each(Tensor::mark_grad_stale);
        }
        Ok(())
    }

    fn run(&mut self, op: &'static str, batch_size: usize, reduce: bool, ignore_stale: bool) -> Result<()> {
        if batch_size == 0 {
            return Err(Error::invalid(op, "the batch size must be at least 1"));
        }
        self.optimizer.check()?;
        options::finite(op, "rescale_grad", self.rescale_grad)?;
        autograd::pause(|| {
            // Everything is checked before anything changes.
            let reduced = std::mem::take(&mut self.reduced);
            let mut ready = Vec::new();
            for (i, slot) in self.slots.iter().enumerate().filter(|(_, slot)| slot.is_trained()) {
                if ignore_stale && slot.is_deferred() {
                    continue;
                }
                slot.check_factors()?;
                let fresh = slot.fresh()?;
                if !ignore_stale {
                    slot.check_all_fresh(&fresh)?;
                }
                if fresh.is_empty() {
                    continue;
                }
                let replicas = slot.parameter.list_data()?;
                let gradient = if replicas.len() == 1 || reduced {
                    replicas[0].grad()?
                } else if reduce {
                    let gradients = gradients(&fresh)?;
                    match Tensor::all_reduce(&detached(&gradients))? {
                        true => gradients[0].as_in_context(replicas[0].ctx())?,
                        false => sum(&gradients)?.as_in_context(replicas[0].ctx())?,
                    }
                } else {
                    let why = "it is on several contexts, and their gradients were not added up; call allreduce_grads \
                               before update, or step for both";
                    return Err(slot.error(why));
                };
                ready.push((i, replicas, gradient));
            }
            let most = ready.iter().map(|(i, ..)| self.slots[*i].count + 1).max().unwrap_or(0);
            self.updates = self.updates.max(most);
            let learning_rate = self.optimizer.learning_rate_at(self.updates);
            for (i, replicas, gradient) in ready {
                let rescale_grad = self.rescale_grad / batch_size as f64;
                self.slots[i].update(&*self.optimizer, learning_rate, rescale_grad, &replicas[0], &gradient)?;
                self.slots[i].parameter.broadcast(&replicas[0])?;
                replicas.iter().for_each(Tensor::mark_grad_stale);
            }
            Ok(())
        })
    }

    /// Writes what a trainer keeps between steps, as safetensors: the states of the optimizer, the counts of updates, and the
    /// learning rate. With the parameters it lets training go on as if it had never stopped, to the last bit.
    ///
    /// # Errors
    /// [`Error::Io`]; what the device reports.
    pub fn save_states(&self, path: impl AsRef<Path>) -> Result<()> {
        let mut arrays = Vec::new();
        let mut numbers = BTreeMap::from([
            (OPTIMIZER.to_string(), self.optimizer.name()),
            // The shortest digits that give the same number back.
            (LEARNING_RATE.to_string(), format!("{:?}", self.optimizer.learning_rate())),
            (UPDATES.to_string(), self.updates.to_string()),
        ]);
        for slot in &self.slots {
            numbers.insert(slot.count_key(), slot.count.to_string());
            for (i, tensor) in slot.state.iter().flatten().enumerate() {
                arrays.push((format!("{}.{i}", slot.path), tensor.to_host()?));
            }
        }
        safetensors::save(path, &arrays, &numbers)
    }

    /// Reads what [`Trainer::save_states`] wrote, for the same parameters and the same kind of optimizer. The learning rate
    /// becomes that of the file.
    ///
    /// # Errors
    /// [`Error::Parameter`] naming a parameter whose state is missing or does not fit; [`Error::InvalidArgument`] for another
    /// kind of optimizer; [`Error::File`]; [`Error::Io`]. Nothing changes unless everything fits.
    pub fn load_states(&mut self, path: impl AsRef<Path>) -> Result<()> {
        let path = path.as_ref();
        let file = safetensors::load(path)?;
        let number = |key: &str| file.metadata.get(key).map(String::as_str);
        if let Some(saved) = number(OPTIMIZER)
            && saved != self.optimizer.name()
        {
            let why =
                format!("{} has the states of {saved}, this trainer's are {}", path.display(), self.optimizer.name());
            return Err(Error::invalid("Trainer::load_states", why));
        }
        let arrays: HashMap<&str, &HostArray> = file.arrays.iter().map(|(name, a)| (name.as_str(), a)).collect();
        let mut loaded = Vec::new();
        for slot in &self.slots {
            let count = number(&slot.count_key()).and_then(|n| n.parse().ok());
            let count = count.ok_or_else(|| slot.error(format!("{} has no state of it", path.display())))?;
            let state = if count > 0 { Some(slot.load(&*self.optimizer, &arrays, path)?) } else { None };
            loaded.push((count, state));
        }
        let missing = |what| Error::invalid("Trainer::load_states", format!("{} has no {what}", path.display()));
        let learning_rate = number(LEARNING_RATE).and_then(|n| n.parse().ok()).ok_or_else(|| missing(LEARNING_RATE))?;
        self.updates = number(UPDATES).and_then(|n| n.parse().ok()).ok_or_else(|| missing(UPDATES))?;
        self.optimizer.set_learning_rate(learning_rate);
        for (slot, (count, state)) in self.slots.iter_mut().zip(loaded) {
            (slot.count, slot.state, slot.dtype) = (count, state, slot.parameter.dtype());
        }
        Ok(())
    }
}

// Keys of the metadata in a file of states. Those of parameters have a prefix, so that none is like these.
const OPTIMIZER: &str = "optimizer";
const LEARNING_RATE: &str = "learning_rate";
const UPDATES: &str = "updates";

fn detached<B: Backend>(tensors: &[Tensor<B>]) -> Vec<Tensor<B>> {
    tensors.iter().map(Tensor::detach).collect()
}

fn gradients<B: Backend>(replicas: &[Tensor<B>]) -> Result<Vec<Tensor<B>>> {
    replicas.iter().map(Tensor::grad).collect()
}

impl<B: Backend> Slot<B> {
    fn is_trained(&self) -> bool {
        self.parameter.grad_req() != GradReq::Null
    }

    /// Whether no forward pass has given it values yet, though it was initialized.
    fn is_deferred(&self) -> bool {
        !self.parameter.is_initialized() && !self.parameter.contexts().is_empty()
    }

    fn count_key(&self) -> String {
        format!("count/{}", self.path)
    }

    fn error(&self, why: impl Into<String>) -> Error {
        let name = self.parameter.name();
        let name = if self.path.is_empty() { name } else { format!("{name} ({})", self.path) };
        Error::Parameter { name, why: why.into() }
    }

    fn check_factors(&self) -> Result<()> {
        for (name, factor) in [("lr_mult", self.parameter.lr_mult()), ("wd_mult", self.parameter.wd_mult())] {
            if !(factor >= 0.0 && factor.is_finite()) {
                return Err(self.error(format!("its {name} must be finite and at least 0, not {factor:?}")));
            }
        }
        Ok(())
    }

    /// The replicas that `backward` has reached since the last step.
    fn fresh(&self) -> Result<Vec<Tensor<B>>> {
        Ok(self.parameter.list_data()?.into_iter().filter(Tensor::has_fresh_grad).collect())
    }

    fn check_all_fresh(&self, fresh: &[Tensor<B>]) -> Result<()> {
        let contexts = self.parameter.contexts();
        match contexts.iter().find(|ctx| !fresh.iter().any(|replica| replica.ctx() == *ctx)) {
            None => Ok(()),
            Some(ctx) => Err(self.error(format!(
                "backward has not updated its gradient on {} since the last step, perhaps because the forward pass did not \
                 reach it; if only a part of the network is meant to be trained, use step_ignoring_stale, or set its \
                 grad_req to Null",
                ctx.name()
            ))),
        }
    }

    fn update(
        &mut self,
        optimizer: &dyn Optimizer<B>,
        learning_rate: f64,
        rescale_grad: f64,
        weight: &Tensor<B>,
        gradient: &Tensor<B>,
    ) -> Result<()> {
        // A parameter that has moved takes its state along.
        if let Some(state) = &mut self.state
            && state.iter().any(|tensor| tensor.ctx() != weight.ctx())
        {
            *state = state.iter().map(|tensor| tensor.as_in_context(weight.ctx())).collect::<Result<_>>()?;
        }
        // So does one that was cast.
        if self.dtype != weight.dtype() {
            if let Some(state) = &self.state {
                self.state = Some(optimizer.cast_state(self.dtype, weight, state.clone())?);
            }
            self.dtype = weight.dtype();
        }
        let state = match &self.state {
            Some(state) => state,
            None => self.state.insert(optimizer.new_state(weight)?),
        };
        self.count += 1;
        let step = Step {
            learning_rate: learning_rate * self.parameter.lr_mult(),
            weight_decay: optimizer.weight_decay() * self.parameter.wd_mult(),
            rescale_grad,
            count: self.count,
        };
        optimizer.update(&step, weight, gradient, state)
    }

    /// Its state from a file.
    fn load(
        &self,
        optimizer: &dyn Optimizer<B>,
        arrays: &HashMap<&str, &HostArray>,
        path: &Path,
    ) -> Result<Vec<Tensor<B>>> {
        let weight = self.parameter.data()?;
        let mut state = optimizer.new_state(&weight)?;
        for (i, tensor) in state.iter_mut().enumerate() {
            let name = format!("{}.{i}", self.path);
            let array = arrays.get(name.as_str());
            let array = array.filter(|a| a.shape == *tensor.shape() && a.dtype == tensor.dtype());
            let array = array.ok_or_else(|| {
                self.error(format!("its state {name} in {} is missing, or of another shape or dtype", path.display()))
            })?;
            *tensor = Tensor::from_host(weight.ctx(), array)?;
        }
        Ok(state)
    }
}

impl<B: Backend> std::fmt::Debug for Trainer<B> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let paths: Vec<&str> = self.slots.iter().map(|s| s.path.as_str()).collect();
        f.debug_struct("Trainer").field("optimizer", &self.optimizer).field("parameters", &paths).finish()
    }
}
