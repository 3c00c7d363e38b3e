//! [`Checkpoint`]: all that a training needs to go on, in one file.

use crate::{
    LoadOptions, LossScaler, Parameter, ParameterDict, Parameters, Trainer,
    data::{DataLoader, Dataset, Place, Position},
    parameter_dict::write_all,
    serialize::{self, Found},
};
use isograd_core::{
    Backend, Dyn, Error, Result, Tensor,
    format::{HostArray, safetensors},
    operators::random,
};
use std::{
    collections::{BTreeMap, HashMap},
    path::Path,
};

const OP: &str = "Checkpoint";
// Keys of the texts in the file.
const VERSION: &str = "isograd.checkpoint";
const EPOCH: &str = "epoch";
const RANDOM: &str = "random";
const SCALER: &str = "scaler";

/// What a training is made of, to be written to one file and read from it: parameters; of each trainer the states of the
/// optimizer, the place in its schedule and the learning rate; the scale of the loss; the position of each loader; the random
/// numbers of this thread; and the number of the epoch. A training that goes on from it gives what an unbroken one gives, to the
/// last bit. Gradients are not kept: save between a step and the next backward pass.
///
/// The file is written whole or not at all, so that its parts always belong together. It is safetensors, with the parameters
/// under their paths: [`Parameters::load_parameters_with`] reads them alone when it may `ignore_extra`.
///
/// ```
/// use isograd::{Result, autograd};
/// use isograd::nn::{Block, Checkpoint, Dense, Parameters, Trainer, initializers::Normal, optimizer::Adam};
/// use isograd::nn::data::{DataLoader, SimpleDataset};
/// let ctx = isograd::device("cpu")?;
/// let folder = tempfile::tempdir().unwrap();
/// let path = folder.path().join("training.safetensors");
/// let run = |epochs: std::ops::Range<u64>| -> Result<Vec<f32>> {
///     let net = Dense::new(1).in_units(1);
///     net.initialize(Normal::default(), &ctx)?;
///     let mut trainer = Trainer::new(net.collect_params(), Adam::new(0.1))?;
///     let loader = DataLoader::new(SimpleDataset::new(vec![1.0f32, 2.0, 3.0]), 2)?.shuffle(5);
///     let mut begin = epochs.start;
///     if begin > 0 {
///         begin = Checkpoint::new(&net).trainer(&mut trainer).loader(&loader).load(&path, &ctx)?;
///     }
///     for epoch in begin..epochs.end {
///         for x in loader.epoch(&ctx) {
///             let x = x?.expand_dims(1)?;
///             autograd::record(|| net.forward(&x)?.square())?.backward()?;
///             trainer.step(2)?;
///         }
///         Checkpoint::new(&net).trainer(&mut trainer).loader(&loader).save(&path, epoch + 1)?;
///     }
///     net.weight().data()?.to_vec()
/// };
/// isograd::operators::random::seed(1);
/// let unbroken = run(0..3)?;
/// isograd::operators::random::seed(1);
/// run(0..2)?;
/// assert_eq!(run(2..3)?, unbroken);
/// # Ok::<(), isograd::Error>(())
/// ```
#[derive(Debug)]
pub struct Checkpoint<'a, B: Backend = Dyn> {
    parameters: ParameterDict<B>,
    trainers: Vec<&'a mut Trainer<B>>,
    scaler: Option<&'a mut LossScaler>,
    loaders: Vec<Place>,
}

impl<'a, B: Backend> Checkpoint<'a, B> {
    /// Of the parameters of `net`, and of the random numbers.
    pub fn new(net: &(impl Parameters<B> + ?Sized)) -> Self {
        Checkpoint { parameters: net.collect_params(), trainers: vec![], scaler: None, loaders: vec![] }
    }

    /// Also of a trainer. Several are told apart by the order in which they are added.
    #[must_use]
    pub fn trainer(mut self, trainer: &'a mut Trainer<B>) -> Self {
        self.trainers.push(trainer);
        self
    }

    /// Also of the scale of the loss.
    #[must_use]
    pub fn scaler(mut self, scaler: &'a mut LossScaler) -> Self {
        self.scaler = Some(scaler);
        self
    }

    /// Also of the [`DataLoader::position`] of a loader, which may be within an epoch. Several are told apart by the order in which
    /// they are added.
    #[must_use]
    pub fn loader<D: Dataset, F>(mut self, loader: &DataLoader<D, F>) -> Self {
        self.loaders.push(loader.place());
        self
    }

    /// Writes all of it; `epoch` is given back by [`Checkpoint::load`].
    ///
    /// # Errors
    /// [`Error::Uninitialized`]; [`Error::Io`]; what the devices report.
    pub fn save(&self, path: impl AsRef<Path>, epoch: u64) -> Result<()> {
        let entries: Vec<(String, &Parameter<B>)> = self.parameters.iter().map(|(p, q)| (p.to_string(), q)).collect();
        let mut arrays = serialize::arrays(&entries)?;
        let mut texts = BTreeMap::from([
            (VERSION.to_string(), "1".to_string()),
            (EPOCH.to_string(), epoch.to_string()),
            (RANDOM.to_string(), pair(random::state())),
        ]);
        for (i, trainer) in self.trainers.iter().enumerate() {
            let (states, numbers) = trainer.states()?;
            arrays.extend(states.into_iter().map(|(name, array)| (part("trainer", i) + &name, array)));
            texts.extend(numbers.into_iter().map(|(key, number)| (part("trainer", i) + &key, number)));
        }
        if let Some(scaler) = &self.scaler {
            let (scale, good) = scaler.state();
            // The shortest digits that give the same number back.
            texts.insert(SCALER.to_string(), format!("{scale:?} {good}"));
        }
        for (i, loader) in self.loaders.iter().enumerate() {
            let Position { epoch, batch } = loader.get();
            texts.insert(part("loader", i), pair((epoch, batch)));
        }
        safetensors::save(path, &arrays, &texts)
    }

    /// Reads what [`Checkpoint::save`] wrote, and gives the number of the epoch that was saved with it. Parameters that have no
    /// values get them on `ctx`; others keep their contexts. What the file has beside it, such as a trainer where only
    /// parameters are asked for, is left alone.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for a file that is no checkpoint, or lacks a part; as [`Parameters::load_parameters`] and
    /// [`Trainer::load_states`]. Nothing changes unless everything fits.
    pub fn load(self, path: impl AsRef<Path>, ctx: &B) -> Result<u64> {
        let path = path.as_ref();
        let file = safetensors::load_where(path, |_| true)?;
        let (contents, texts) = file;
        let fail = |why: String| Error::invalid(OP, format!("{}: {why}", path.display()));
        match texts.get(VERSION).map(String::as_str) {
            Some("1") => {}
            Some(other) => return Err(fail(format!("it is a checkpoint of version {other}; version 1 is known"))),
            None => return Err(fail("it is no checkpoint; load_parameters reads a file of parameters".into())),
        }
        let text = |key: &str| texts.get(key).ok_or_else(|| fail(format!("it was saved without {key}")));
        let damaged = |key: &str| fail(format!("{key} is {:?}, which it cannot be", texts[key]));
        let numbers = |key: &str| unpair(text(key)?).ok_or_else(|| damaged(key));

        let epoch = text(EPOCH)?.parse().map_err(|_| damaged(EPOCH))?;
        let random_state = numbers(RANDOM)?;
        let scale = match self.scaler {
            None => None,
            Some(scaler) => Some((scaler, unpair::<f64, u64>(text(SCALER)?).ok_or_else(|| damaged(SCALER))?)),
        };
        let mut positions = Vec::new();
        for (i, loader) in self.loaders.iter().enumerate() {
            let (epoch, batch) = numbers(&part("loader", i))?;
            positions.push((loader, Position { epoch, batch }));
        }

        let (states, values): (Vec<_>, Vec<_>) =
            Found::all(contents).into_iter().partition(|(name, _)| name.starts_with("trainer/"));
        let values = serialize::prepare(&self.parameters, values, path, ctx, &LoadOptions::default())?;
        let weight = |parameter: &Parameter<B>| -> Result<Tensor<B>> {
            values
                .iter()
                .find(|new| new.is_of(parameter))
                .map_or_else(|| parameter.data(), |new| Ok(new.first().clone()))
        };
        let mut trained = Vec::new();
        for (i, trainer) in self.trainers.into_iter().enumerate() {
            let prefix = part("trainer", i);
            if !texts.keys().any(|key| key.starts_with(&prefix)) {
                return Err(fail(format!("it was saved with {i} trainers only")));
            }
            let arrays: HashMap<&str, &HostArray> = states
                .iter()
                .filter_map(|(name, found)| match found {
                    Found::Array(array) => Some((name.strip_prefix(&prefix)?, array)),
                    Found::Foreign(_) => None,
                })
                .collect();
            let own =
                |(key, number): (&String, &String)| Some((key.strip_prefix(&prefix)?.to_string(), number.clone()));
            let numbers = texts.iter().filter_map(own).collect();
            let states = trainer.read_states(&arrays, &numbers, path, &weight)?;
            trained.push((trainer, states));
        }

        // All is checked and at hand.
        write_all(values)?;
        trained.into_iter().for_each(|(trainer, states)| trainer.set_states(states));
        if let Some((scaler, state)) = scale {
            scaler.set_state(state);
        }
        positions.into_iter().for_each(|(loader, position)| loader.set(position));
        random::set_state(random_state);
        Ok(epoch)
    }
}

/// What the names of a part begin with: `trainer/0/`.
fn part(kind: &str, i: usize) -> String {
    format!("{kind}/{i}/")
}

fn pair((a, b): (u64, u64)) -> String {
    format!("{a} {b}")
}

fn unpair<A: std::str::FromStr, C: std::str::FromStr>(text: &str) -> Option<(A, C)> {
    let (a, b) = text.split_once(' ')?;
    Some((a.parse().ok()?, b.parse().ok()?))
}
