//! [`Trainer`]: applies an optimizer to the parameters of a network.

use crate::{Optimizer, Parameter, ParameterDict, optimizer::Step, options};
use isograd_core::{
    Backend, DType, Dyn, Error, GradReq, Result, Tensor, autograd,
    backend::replay,
    format::{HostArray, safetensors},
};
use std::{
    collections::{BTreeMap, HashMap},
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
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
/// use isograd::{DType, Tensor, autograd};
/// use isograd::nn::{Block, Dense, Parameters, Trainer, initializers::Zero, loss::{L2Loss, Loss}, optimizer::SGD};
/// let ctx = isograd::device("cpu")?;
/// let net = Dense::new(1);
/// net.initialize(Zero, &ctx)?;
/// let mut trainer = Trainer::new(net.collect_params(), SGD::new(0.5))?;
/// let (x, y) = (Tensor::ones(&ctx, [4, 1], DType::F32)?, Tensor::ones(&ctx, [4], DType::F32)?);
/// autograd::record(|| L2Loss::default().loss(&net.forward(&x)?, &y))?.backward()?;
/// trainer.step(4)?;
/// assert_eq!(net.bias().unwrap().data()?.to_vec::<f32>()?, [0.5]);
/// assert!(trainer.step(4).unwrap_err().to_string().contains("since the last step"));
/// # Ok::<(), isograd::Error>(())
/// ```
pub struct Trainer<B: Backend = Dyn> {
    slots: Vec<Slot<B>>,
    progress: Arc<Mutex<Progress<B>>>,
}

/// What a step changes on the host; shared with the captured steps that it is part of, each replay of which is a step.
struct Progress<B: Backend> {
    optimizer: Box<dyn Optimizer<B>>,
    /// The most updates that a parameter has seen: the place in a schedule.
    updates: u64,
    rescale_grad: f64,
    /// How often each parameter was updated.
    counts: Vec<u64>,
}

fn lock<B: Backend>(progress: &Mutex<Progress<B>>) -> MutexGuard<'_, Progress<B>> {
    progress.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What a step works on for one parameter.
#[derive(Clone)]
struct Work<B: Backend> {
    slot: usize,
    parameter: Parameter<B>,
    weight: Tensor<B>,
    gradient: Tensor<B>,
    state: Vec<Tensor<B>>,
}

impl<B: Backend> Progress<B> {
    /// Updates all parameters, and calls `updated` after each.
    fn step(&mut self, batch_size: usize, work: &[Work<B>], updated: impl Fn(&Work<B>) -> Result<()>) -> Result<()> {
        let most = work.iter().map(|w| self.counts[w.slot] + 1).max().unwrap_or(0);
        let updates = self.updates.max(most);
        let learning_rate = self.optimizer.learning_rate_at(updates);
        // A step that is recorded is none yet.
        let counted = !replay::is_recording();
        for w in work {
            let step = Step {
                learning_rate: learning_rate * w.parameter.lr_mult(),
                weight_decay: self.optimizer.weight_decay() * w.parameter.wd_mult(),
                rescale_grad: self.rescale_grad / batch_size as f64,
                count: self.counts[w.slot] + 1,
            };
            self.optimizer.update(&step, &w.weight, &w.gradient, &w.state)?;
            self.counts[w.slot] += counted as u64;
            updated(w)?;
        }
        if counted {
            self.updates = updates;
        }
        Ok(())
    }
}

struct Slot<B: Backend> {
    path: String,
    parameter: Parameter<B>,
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
            state: None,
            dtype: p.dtype(),
        };
        let slots: Vec<_> = parameters.unique().iter().map(slot).collect();
        let (optimizer, counts) = (Box::new(optimizer), vec![0; slots.len()]);
        let progress = Progress { optimizer, updates: 0, rescale_grad: 1.0, counts };
        Ok(Trainer { slots, progress: Arc::new(Mutex::new(progress)) })
    }

    fn progress(&self) -> MutexGuard<'_, Progress<B>> {
        lock(&self.progress)
    }

    /// The parameters, each once, with their paths.
    pub fn parameters(&self) -> impl Iterator<Item = (&str, &Parameter<B>)> {
        self.slots.iter().map(|slot| (slot.path.as_str(), &slot.parameter))
    }

    /// The learning rate of the last update, or of the first one to come; with a schedule, the scheduled one.
    pub fn learning_rate(&self) -> f64 {
        let progress = self.progress();
        progress.optimizer.learning_rate_at(progress.updates)
    }

    /// Sets the learning rate of the steps to come; with a schedule, the one that its shares are of. A negative one, or NaN, is
    /// refused by the next step.
    pub fn set_learning_rate(&mut self, learning_rate: f64) {
        self.progress().optimizer.set_learning_rate(learning_rate);
    }

    /// How often a parameter has been updated, at most: the place in a schedule.
    pub fn updates(&self) -> u64 {
        self.progress().updates
    }

    /// The factor on gradients beside 1 / batch size; 1 unless set.
    pub fn rescale_grad(&self) -> f64 {
        self.progress().rescale_grad
    }

    /// Sets the factor on gradients beside 1 / batch size, such as 1 / (loss scale).
    pub fn set_rescale_grad(&mut self, factor: f64) {
        self.progress().rescale_grad = factor;
    }

    /// Adds up the gradients on several contexts and updates every parameter by the sum divided by `batch_size`. Gradients that
    /// [`Trainer::allreduce_grads`] has added up already are not added up again.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for a batch size of 0; [`Error::Parameter`] naming a parameter that `backward` has not
    /// reached since the last step, or only on some contexts since its gradients were added up; [`Error::Uninitialized`]; what
    /// the device reports. Nothing changes unless every parameter can be updated.
    pub fn step(&mut self, batch_size: usize) -> Result<()> {
        let ready = self.ready("Trainer::step", batch_size, false)?;
        self.allreduce(&ready)?;
        self.run(&ready, batch_size)
    }

    /// [`Trainer::step`] that leaves parameters alone that `backward` has not reached since the last step.
    ///
    /// # Errors
    /// As [`Trainer::step`], less those.
    pub fn step_ignoring_stale(&mut self, batch_size: usize) -> Result<()> {
        let ready = self.ready("Trainer::step_ignoring_stale", batch_size, true)?;
        self.allreduce(&ready)?;
        self.run(&ready, batch_size)
    }

    /// The first half of [`Trainer::step`]: adds up the gradients on several contexts, so that each of them has the sum
    /// ([`Parameter::allreduce_grad`]). What is done to single gradients comes after it and before [`Trainer::update`];
    /// [`crate::optimizer::clip_global_norm`] and [`crate::LossScaler::unscale`] call it themselves where it is needed. To call
    /// it twice does no harm: a sum is not added up again, what a later `backward` left is.
    ///
    /// # Errors
    /// [`Error::Parameter`] when `backward` has reached a parameter again on some contexts only; what the devices report.
    pub fn allreduce_grads(&mut self) -> Result<()> {
        let trained = |(_, slot): &(usize, &Slot<B>)| slot.is_trained() && slot.parameter.is_initialized();
        let all: Vec<usize> = self.slots.iter().enumerate().filter(trained).map(|(i, _)| i).collect();
        self.allreduce(&all)
    }

    fn allreduce(&self, slots: &[usize]) -> Result<()> {
        slots.iter().try_for_each(|&i| self.slots[i].parameter.allreduce_grad())
    }

    /// The second half of [`Trainer::step`]: updates every parameter by its gradient, which [`Trainer::allreduce_grads`] has
    /// added up, divided by `batch_size`.
    ///
    /// # Errors
    /// As [`Trainer::step`]; [`Error::Parameter`] when a parameter is on several contexts and its gradients were not added up.
    pub fn update(&mut self, batch_size: usize) -> Result<()> {
        let ready = self.ready("Trainer::update", batch_size, false)?;
        self.run(&ready, batch_size)
    }

    /// [`Trainer::update`] that leaves parameters alone that `backward` has not reached since the last step.
    ///
    /// # Errors
    /// As [`Trainer::update`], less those.
    pub fn update_ignoring_stale(&mut self, batch_size: usize) -> Result<()> {
        let ready = self.ready("Trainer::update_ignoring_stale", batch_size, true)?;
        self.run(&ready, batch_size)
    }

    /// Counts the gradients as used, without an update.
    ///
    /// # Errors
    /// [`Error::Uninitialized`].
    pub fn skip(&mut self) -> Result<()> {
        for slot in self.slots.iter().filter(|slot| slot.is_trained() && !slot.is_deferred()) {
            slot.parameter.list_data()?.iter().for_each(Tensor::mark_grad_stale);
        }
        Ok(())
    }

    /// The parameters that a step would update; with `ignore_stale` only those that `backward` has reached.
    pub(crate) fn ready(&self, op: &'static str, batch_size: usize, ignore_stale: bool) -> Result<Vec<usize>> {
        if batch_size == 0 {
            return Err(Error::invalid(op, "the batch size must be at least 1"));
        }
        {
            let progress = self.progress();
            progress.optimizer.check()?;
            options::finite(op, "rescale_grad", progress.rescale_grad)?;
        }
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
            if !fresh.is_empty() {
                ready.push(i);
            }
        }
        Ok(ready)
    }

    fn run(&mut self, ready: &[usize], batch_size: usize) -> Result<()> {
        autograd::pause(|| {
            // Everything is checked and at hand before anything changes.
            let mut work = Vec::new();
            for &i in ready {
                let slot = &mut self.slots[i];
                let (weight, gradient) = (slot.parameter.data()?, slot.gradient()?);
                slot.prepare(&*lock(&self.progress).optimizer, &weight)?;
                let (parameter, state) = (slot.parameter.clone(), slot.state.clone().unwrap_or_default());
                work.push(Work { slot: i, parameter, weight, gradient, state });
            }
            let again = || -> Box<dyn FnMut() -> Result<()> + Send> {
                let (progress, work) = (self.progress.clone(), work.clone());
                Box::new(move || autograd::pause(|| lock(&progress).step(batch_size, &work, |_| Ok(()))))
            };
            replay::changing(again, || {
                lock(&self.progress).step(batch_size, &work, |w| {
                    w.parameter.broadcast(&w.weight)?;
                    w.parameter.list_data()?.iter().for_each(Tensor::mark_grad_stale);
                    Ok(())
                })
            })
        })
    }

    /// Writes what a trainer keeps between steps, as safetensors: the states of the optimizer, the counts of updates, and the
    /// learning rate. With the parameters it lets training go on as if it had never stopped, to the last bit; a
    /// [`crate::Checkpoint`] keeps both in one file.
    ///
    /// # Errors
    /// [`Error::Io`]; what the device reports.
    pub fn save_states(&self, path: impl AsRef<Path>) -> Result<()> {
        let (arrays, numbers) = self.states()?;
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
        let arrays = file.arrays.iter().map(|(name, array)| (name.as_str(), array)).collect();
        let states = self.read_states(&arrays, &file.metadata, path, &|parameter| parameter.data())?;
        self.set_states(states);
        Ok(())
    }

    /// The arrays and numbers of a file of states.
    pub(crate) fn states(&self) -> Result<SavedStates> {
        let mut arrays = Vec::new();
        let progress = self.progress();
        let mut numbers = BTreeMap::from([
            (OPTIMIZER.to_string(), progress.optimizer.name()),
            // The shortest digits that give the same number back.
            (LEARNING_RATE.to_string(), format!("{:?}", progress.optimizer.learning_rate())),
            (UPDATES.to_string(), progress.updates.to_string()),
        ]);
        for (slot, count) in self.slots.iter().zip(&progress.counts) {
            numbers.insert(slot.count_key(), count.to_string());
            // What was made for a first update that failed is not a state yet.
            let state = slot.state.iter().flatten().filter(|_| *count > 0);
            for (i, tensor) in state.enumerate() {
                arrays.push((format!("{}.{i}", slot.path), tensor.to_host()?));
            }
        }
        Ok((arrays, numbers))
    }

    /// What [`Trainer::states`] gave, checked and on the devices, where `weight` gives the values of a parameter.
    pub(crate) fn read_states(
        &self,
        arrays: &HashMap<&str, &HostArray>,
        numbers: &BTreeMap<String, String>,
        path: &Path,
        weight: &dyn Fn(&Parameter<B>) -> Result<Tensor<B>>,
    ) -> Result<States<B>> {
        let progress = self.progress();
        let number = |key: &str| numbers.get(key).map(String::as_str);
        if let Some(saved) = number(OPTIMIZER)
            && saved != progress.optimizer.name()
        {
            let why = format!(
                "{} has the states of {saved}, this trainer's are {}",
                path.display(),
                progress.optimizer.name()
            );
            return Err(Error::invalid("Trainer::load_states", why));
        }
        let mut slots = Vec::new();
        for slot in &self.slots {
            let count = number(&slot.count_key()).and_then(|n| n.parse().ok());
            let count = count.ok_or_else(|| slot.error(format!("{} has no state of it", path.display())))?;
            let load = || slot.load(&*progress.optimizer, arrays, path, &weight(&slot.parameter)?);
            slots.push((count, if count > 0 { Some(load()?) } else { None }));
        }
        let missing = |what| Error::invalid("Trainer::load_states", format!("{} has no {what}", path.display()));
        let learning_rate = number(LEARNING_RATE).and_then(|n| n.parse().ok()).ok_or_else(|| missing(LEARNING_RATE))?;
        let updates = number(UPDATES).and_then(|n| n.parse().ok()).ok_or_else(|| missing(UPDATES))?;
        Ok(States { learning_rate, updates, slots })
    }

    pub(crate) fn set_states(&mut self, states: States<B>) {
        let mut progress = lock(&self.progress);
        progress.updates = states.updates;
        progress.optimizer.set_learning_rate(states.learning_rate);
        for ((slot, old), (count, state)) in self.slots.iter_mut().zip(&mut progress.counts).zip(states.slots) {
            (*old, slot.state, slot.dtype) = (count, state, slot.parameter.dtype());
        }
    }
}

/// The arrays and texts of a file.
pub(crate) type SavedStates = (Vec<(String, HostArray)>, BTreeMap<String, String>);

/// What a trainer keeps between steps.
pub(crate) struct States<B: Backend> {
    learning_rate: f64,
    updates: u64,
    /// Of each parameter the count of updates, and what the optimizer keeps.
    slots: Vec<(u64, Option<Vec<Tensor<B>>>)>,
}

// Keys of the metadata in a file of states. Those of parameters have a prefix, so that none is like these.
const OPTIMIZER: &str = "optimizer";
const LEARNING_RATE: &str = "learning_rate";
const UPDATES: &str = "updates";

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

    /// The gradient to update by, on the first of its contexts.
    fn gradient(&self) -> Result<Tensor<B>> {
        let fresh = self.fresh()?;
        if self.parameter.contexts().len() > 1 && !fresh.iter().all(Tensor::has_reduced_grad) {
            return Err(self.error(
                "it is on several contexts, and their gradients were not added up since the last backward pass; call \
                 allreduce_grads before update, or step for both",
            ));
        }
        let data = self.parameter.data()?;
        fresh.first().unwrap_or(&data).grad()?.as_in_context(data.ctx())
    }

    /// Makes what the optimizer keeps, or takes it to where `weight` is, and to its dtype.
    fn prepare(&mut self, optimizer: &dyn Optimizer<B>, weight: &Tensor<B>) -> Result<()> {
        if let Some(state) = &mut self.state
            && state.iter().any(|tensor| tensor.ctx() != weight.ctx())
        {
            *state = state.iter().map(|tensor| tensor.as_in_context(weight.ctx())).collect::<Result<_>>()?;
        }
        if self.dtype != weight.dtype() {
            if let Some(state) = &self.state {
                self.state = Some(optimizer.cast_state(self.dtype, weight, state.clone())?);
            }
            self.dtype = weight.dtype();
        }
        if self.state.is_none() {
            self.state = Some(optimizer.new_state(weight)?);
        }
        Ok(())
    }

    /// Its state from a file.
    fn load(
        &self,
        optimizer: &dyn Optimizer<B>,
        arrays: &HashMap<&str, &HostArray>,
        path: &Path,
        weight: &Tensor<B>,
    ) -> Result<Vec<Tensor<B>>> {
        let mut state = optimizer.new_state(weight)?;
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
        f.debug_struct("Trainer").field("optimizer", &self.progress().optimizer).field("parameters", &paths).finish()
    }
}
