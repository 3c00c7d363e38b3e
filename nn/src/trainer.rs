//! [`Trainer`]: applies an optimizer to the parameters of a network.

use crate::{Optimizer, Parameter, ParameterDict, optimizer::Step};
use isograd_core::{Backend, Dyn, Error, GradReq, Result, Tensor, autograd, format::safetensors};
use std::{collections::BTreeMap, path::Path};

/// Applies an optimizer to parameters after each `backward`.
///
/// A parameter that is shared is updated once. Parameters with [`GradReq::Null`] are left alone.
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
/// # Ok::<(), isograd_core::Error>(())
/// ```
pub struct Trainer<B: Backend = Dyn> {
    slots: Vec<Slot<B>>,
    optimizer: Box<dyn Optimizer<B>>,
}

struct Slot<B: Backend> {
    path: String,
    parameter: Parameter<B>,
    /// How often it was updated.
    count: u64,
    /// What the optimizer keeps; made at the first update.
    state: Option<Vec<Tensor<B>>>,
}

impl<B: Backend> Trainer<B> {
    /// A trainer of `parameters`, which may still await their values.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] when there are no parameters.
    pub fn new(parameters: ParameterDict<B>, optimizer: impl Optimizer<B> + 'static) -> Result<Trainer<B>> {
        if parameters.is_empty() {
            return Err(Error::invalid("Trainer", "there are no parameters to train"));
        }
        let slot =
            |(path, p): (&str, &Parameter<B>)| Slot { path: path.into(), parameter: p.clone(), count: 0, state: None };
        let slots = parameters.unique().iter().map(slot).collect();
        Ok(Trainer { slots, optimizer: Box::new(optimizer) })
    }

    /// The learning rate.
    pub fn learning_rate(&self) -> f64 {
        self.optimizer.learning_rate()
    }

    /// Sets the learning rate of the steps to come.
    pub fn set_learning_rate(&mut self, learning_rate: f64) {
        self.optimizer.set_learning_rate(learning_rate);
    }

    /// Updates every parameter by its gradient divided by `batch_size`.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for a batch size of 0; [`Error::Uninitialized`]; what the device reports.
    pub fn step(&mut self, batch_size: usize) -> Result<()> {
        if batch_size == 0 {
            return Err(Error::invalid("Trainer::step", "the batch size must be at least 1"));
        }
        autograd::pause(|| self.slots.iter_mut().try_for_each(|slot| slot.step(&*self.optimizer, batch_size)))
    }

    /// Writes what the optimizer keeps between steps, as safetensors; with the parameters it lets training go on.
    ///
    /// # Errors
    /// [`Error::Io`]; what the device reports.
    pub fn save_states(&self, path: impl AsRef<Path>) -> Result<()> {
        let mut arrays = Vec::new();
        let mut counts = BTreeMap::new();
        for slot in &self.slots {
            counts.insert(slot.path.clone(), slot.count.to_string());
            for (i, tensor) in slot.state.iter().flatten().enumerate() {
                arrays.push((format!("{}.{i}", slot.path), tensor.to_host()?));
            }
        }
        safetensors::save(path, &arrays, &counts)
    }

    /// Reads what [`Trainer::save_states`] wrote, for the same parameters and the same kind of optimizer.
    ///
    /// # Errors
    /// [`Error::Parameter`] naming a parameter whose state is missing or does not fit; [`Error::File`]; [`Error::Io`].
    pub fn load_states(&mut self, path: impl AsRef<Path>) -> Result<()> {
        let path = path.as_ref();
        let file = safetensors::load(path)?;
        let mut loaded = Vec::new();
        for slot in &self.slots {
            let fail = |why: String| Error::Parameter { name: slot.path.clone(), why };
            let count = file.metadata.get(&slot.path).and_then(|n| n.parse().ok());
            let count = count.ok_or_else(|| fail(format!("{} has no state of it", path.display())))?;
            let mut state = None;
            if count > 0 {
                let weight = slot.parameter.data()?;
                let mut tensors = self.optimizer.new_state(&weight)?;
                for (i, tensor) in tensors.iter_mut().enumerate() {
                    let name = format!("{}.{i}", slot.path);
                    let array = file.arrays.iter().find(|(n, _)| *n == name).map(|(_, a)| a);
                    let array = array.filter(|a| a.shape == *tensor.shape() && a.dtype == tensor.dtype());
                    let array = array.ok_or_else(|| {
                        fail(format!("its state {name} in {} is missing, or of another shape or dtype", path.display()))
                    })?;
                    *tensor = Tensor::from_host(weight.ctx(), array)?;
                }
                state = Some(tensors);
            }
            loaded.push((count, state));
        }
        for (slot, (count, state)) in self.slots.iter_mut().zip(loaded) {
            (slot.count, slot.state) = (count, state);
        }
        Ok(())
    }
}

impl<B: Backend> Slot<B> {
    fn step(&mut self, optimizer: &dyn Optimizer<B>, batch_size: usize) -> Result<()> {
        if self.parameter.grad_req() == GradReq::Null {
            return Ok(());
        }
        let (weight, gradient) = (self.parameter.data()?, self.parameter.grad()?);
        let state = match &self.state {
            Some(state) => state,
            None => self.state.insert(optimizer.new_state(&weight)?),
        };
        self.count += 1;
        let step = Step {
            learning_rate: optimizer.learning_rate() * self.parameter.lr_mult(),
            weight_decay: optimizer.weight_decay() * self.parameter.wd_mult(),
            rescale_grad: 1.0 / batch_size as f64,
            count: self.count,
        };
        optimizer.update(&step, &weight, &gradient, state)
    }
}

impl<B: Backend> std::fmt::Debug for Trainer<B> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let paths: Vec<&str> = self.slots.iter().map(|s| s.path.as_str()).collect();
        f.debug_struct("Trainer").field("optimizer", &self.optimizer).field("parameters", &paths).finish()
    }
}
