//! [`ParameterDict`]: the parameters of a network by path, and what is done to all of them at once.

use crate::{Contexts, Initializer, Parameter, parameter::NewData};
use isograd_core::{Backend, DType, Dyn, Error, GradReq, Result, Tensor, autograd};
use std::{
    collections::{HashMap, HashSet},
    fmt,
    ops::Index,
    sync::Arc,
};

/// Parameters by structural path, in the order of the network.
///
/// ```
/// use isograd::GradReq;
/// use isograd::nn::{Dense, Parameters, Sequential, initializers::Zero};
/// let ctx = isograd::device("cpu")?;
/// let mut net = Sequential::new();
/// net.add(Dense::new(4).in_units(3)).add(Dense::new(2).in_units(4));
/// net.initialize(Zero, &ctx)?;
/// let all = net.collect_params();
/// assert_eq!(all["1.bias"].shape()?, [2]);
/// assert_eq!(all.numel()?, 4 * 3 + 4 + 2 * 4 + 2);
/// all.matching(r"\d+\.bias")?.set_wd_mult(0.0);
/// all.matching("0")?.freeze()?;
/// assert_eq!(all["0.weight"].grad_req(), GradReq::Null);
/// let error = all.find("0.wieght").unwrap_err().to_string();
/// assert!(error.contains("0.weight"), "{error}");
/// # Ok::<(), isograd::Error>(())
/// ```
#[derive(Clone)]
pub struct ParameterDict<B: Backend = Dyn> {
    prefix: String,
    entries: Vec<(String, Parameter<B>)>,
}

impl<B: Backend> Default for ParameterDict<B> {
    fn default() -> Self {
        ParameterDict::new(String::new(), Vec::new())
    }
}

impl<B: Backend> ParameterDict<B> {
    pub(crate) fn new(prefix: String, entries: Vec<(String, Parameter<B>)>) -> Self {
        ParameterDict { prefix, entries }
    }

    fn with(&self, entries: Vec<(String, Parameter<B>)>) -> Self {
        ParameterDict::new(self.prefix.clone(), entries)
    }

    /// Paths and parameters in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Parameter<B>)> {
        self.entries.iter().map(|(path, p)| (path.as_str(), p))
    }

    /// The paths in order.
    pub fn paths(&self) -> Vec<&str> {
        self.iter().map(|(path, _)| path).collect()
    }

    /// Gluon's names (`dense0_weight`) in order, each parameter once.
    pub fn names(&self) -> Vec<String> {
        self.unique().iter().map(|(_, p)| p.name()).collect()
    }

    /// The parameter at `path`, or else the one of this name.
    pub fn get(&self, path: &str) -> Option<&Parameter<B>> {
        let by_path = self.iter().find(|(p, _)| *p == path);
        by_path.or_else(|| self.iter().find(|(_, p)| p.name() == path)).map(|(_, p)| p)
    }

    /// [`ParameterDict::get`], with an error that helps.
    ///
    /// # Errors
    /// [`Error::Parameter`] with the paths that are nearest.
    pub fn find(&self, path: &str) -> Result<&Parameter<B>> {
        self.get(path).ok_or_else(|| {
            let why = match nearest(path, &self.paths()) {
                near if near.is_empty() => "there are no parameters here".to_string(),
                near => format!("there is none of this path or name; the nearest are {}", near.join(", ")),
            };
            Error::Parameter { name: path.to_string(), why }
        })
    }

    /// How many paths there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The number of elements, those of a shared parameter counted once.
    ///
    /// # Errors
    /// [`Error::Uninitialized`] while a shape is not known.
    pub fn numel(&self) -> Result<usize> {
        self.unique().iter().map(|(_, p)| Ok(p.shape()?.iter().product::<usize>())).sum()
    }

    /// Each parameter once, under the first of its paths.
    #[must_use]
    pub fn unique(&self) -> ParameterDict<B> {
        let mut seen = HashSet::new();
        self.with(self.entries.iter().filter(|(_, p)| seen.insert(p.identity())).cloned().collect())
    }

    /// Those whose path or name matches `pattern`; see
    /// [`Parameters::collect_params_matching`](crate::Parameters::collect_params_matching).
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for what is no regular expression.
    pub fn matching(&self, pattern: &str) -> Result<ParameterDict<B>> {
        let compile = |p: &str| regex::bytes::RegexBuilder::new(p).unicode(false).build();
        let invalid = |e: regex::Error| {
            Error::invalid("collect_params_matching", format!("{pattern:?} is no regular expression: {e}"))
        };
        compile(pattern).map_err(invalid)?;
        let anchored = compile(&format!("^(?:{pattern})")).map_err(invalid)?;
        let fits = |text: &str| anchored.is_match(text.as_bytes());
        Ok(self.with(self.entries.iter().filter(|(path, p)| fits(path) || fits(&p.name())).cloned().collect()))
    }

    /// Adds the parameters of `other`.
    ///
    /// # Errors
    /// [`Error::Parameter`] for a path that stands for another parameter here; then nothing is added.
    pub fn merge(&mut self, other: ParameterDict<B>) -> Result<()> {
        let mut new = Vec::new();
        for (path, parameter) in other.entries {
            match self.entries.iter().find(|(p, _)| *p == path) {
                Some((_, old)) if old.is(&parameter) => {}
                Some((_, old)) => {
                    let why = format!("the path stands for {old} here and for {parameter} in what is to be added");
                    return Err(Error::Parameter { name: path, why });
                }
                None => new.push((path, parameter)),
            }
        }
        self.entries.extend(new);
        Ok(())
    }

    /// The same parameters with `prefix.` before each path.
    #[must_use]
    pub fn under(&self, prefix: &str) -> ParameterDict<B> {
        self.with(self.iter().map(|(path, p)| (format!("{prefix}.{path}"), p.clone())).collect())
    }

    /// Gives all parameters values; see [`Parameters::initialize`](crate::Parameters::initialize).
    ///
    /// # Errors
    /// What the initializers and the device report; [`Error::Parameter`] for no contexts, and for one that is named twice.
    pub fn initialize(&self, default: impl Initializer<B> + 'static, contexts: impl Contexts<B>) -> Result<()> {
        self.initialize_all(Arc::new(default), &contexts.list(), false)
    }

    /// [`ParameterDict::initialize`], also of those that have values.
    ///
    /// # Errors
    /// As [`ParameterDict::initialize`].
    pub fn force_reinit(&self, default: impl Initializer<B> + 'static, contexts: impl Contexts<B>) -> Result<()> {
        self.initialize_all(Arc::new(default), &contexts.list(), true)
    }

    fn initialize_all(&self, default: Arc<dyn Initializer<B>>, contexts: &[B], force: bool) -> Result<()> {
        self.each(|p| p.initialize_default(&default, contexts, force))
    }

    /// Calls `f` once with each parameter, up to the first error.
    fn each(&self, f: impl Fn(&Parameter<B>) -> Result<()>) -> Result<()> {
        self.iter().try_for_each(|(_, p)| p.check())?;
        self.unique().iter().try_for_each(|(_, p)| f(p))
    }

    /// Sets all gradients to zero.
    ///
    /// # Errors
    /// As [`Parameter::zero_grad`].
    pub fn zero_grad(&self) -> Result<()> {
        self.each(Parameter::zero_grad)
    }

    /// [`Parameter::set_grad_req`] of all; those that are not differentiable stay without gradients.
    ///
    /// # Errors
    /// As [`Parameter::set_grad_req`].
    pub fn set_grad_req(&self, request: GradReq) -> Result<()> {
        self.each(|p| p.set_grad_req(request))
    }

    /// [`Parameter::freeze`] of all.
    ///
    /// # Errors
    /// As [`Parameter::freeze`].
    pub fn freeze(&self) -> Result<()> {
        self.each(Parameter::freeze)
    }

    /// [`Parameter::unfreeze`] of all.
    ///
    /// # Errors
    /// As [`Parameter::unfreeze`].
    pub fn unfreeze(&self) -> Result<()> {
        self.each(Parameter::unfreeze)
    }

    /// Sets the factor of all on the trainer's learning rate.
    pub fn set_lr_mult(&self, factor: f64) {
        self.iter().for_each(|(_, p)| p.set_lr_mult(factor));
    }

    /// Sets the factor of all on the optimizer's weight decay.
    pub fn set_wd_mult(&self, factor: f64) {
        self.iter().for_each(|(_, p)| p.set_wd_mult(factor));
    }

    /// [`Parameter::cast`] of all.
    ///
    /// # Errors
    /// As [`Parameter::cast`].
    pub fn cast(&self, dtype: DType) -> Result<()> {
        self.each(|p| p.cast(dtype))
    }

    /// [`Parameter::reset_ctx`] of all.
    ///
    /// # Errors
    /// As [`Parameter::reset_ctx`].
    pub fn reset_ctx(&self, contexts: impl Contexts<B>) -> Result<()> {
        let contexts = contexts.list();
        self.each(|p| p.reset_ctx(&contexts))
    }

    pub(crate) fn load_state_dict(&self, state: impl IntoIterator<Item = (String, Tensor<B>)>) -> Result<()> {
        let mut named: HashMap<String, Tensor<B>> = HashMap::new();
        for (path, data) in state {
            if let Some((path, _)) = named.remove_entry(&path) {
                return Err(Error::Parameter { name: path, why: "it is in the state twice".into() });
            }
            named.insert(path, data);
        }
        let mut left: Vec<&str> = named.keys().map(String::as_str).filter(|key| !self.has_path(key)).collect();
        left.sort_unstable();
        if let Some(key) = left.first() {
            let why = format!("it is in the state, but not in the network; near are {}", self.near(key));
            return Err(Error::Parameter { name: key.to_string(), why });
        }
        let mut values = Vec::new();
        for (path, parameter) in self.iter() {
            let Some(data) = named.get(path) else {
                return Err(Error::Parameter { name: path.into(), why: "it is missing in the state".into() });
            };
            // Copies, since it may be the memory of other parameters.
            values.push((path, parameter, autograd::pause(|| data.detach().copy())?));
        }
        write_all(prepare_all(&values)?)
    }

    fn has_path(&self, path: &str) -> bool {
        self.entries.iter().any(|(p, _)| p == path)
    }

    fn near(&self, path: &str) -> String {
        nearest(path, &self.paths()).join(", ")
    }
}

/// Checks new values, which share their memory with nothing, of parameters by path, and takes them to where they will be. A shared
/// parameter has one value, so what is for it in several places must be equal.
pub(crate) fn prepare_all<B: Backend>(values: &[(&str, &Parameter<B>, Tensor<B>)]) -> Result<Vec<NewData<B>>> {
    let mut first: HashMap<usize, (&str, &Tensor<B>)> = HashMap::new();
    let mut all = Vec::new();
    for (path, parameter, data) in values {
        match first.get(&parameter.identity()) {
            None => {
                let place = |e| match e {
                    Error::Parameter { why, .. } => Error::Parameter { name: path.to_string(), why },
                    other => other,
                };
                all.push(autograd::pause(|| parameter.prepare(data)).map_err(place)?);
                first.insert(parameter.identity(), (path, data));
            }
            Some((earlier, one)) => {
                if one.shape() != data.shape() || one.to_bytes()? != data.to_bytes()? {
                    let why = format!(
                        "it is shared with {earlier}, but the two have other values here; a network that does not share them has \
                         room for both"
                    );
                    return Err(Error::Parameter { name: path.to_string(), why });
                }
            }
        }
    }
    Ok(all)
}

/// Writes what [`prepare_all`] gave.
pub(crate) fn write_all<B: Backend>(all: Vec<NewData<B>>) -> Result<()> {
    autograd::pause(|| all.into_iter().try_for_each(NewData::write))
}

/// The three of `names` that are most like `wanted`.
fn nearest<'a>(wanted: &str, names: &[&'a str]) -> Vec<&'a str> {
    let mut ranked: Vec<(usize, &str)> = names.iter().map(|name| (distance(wanted, name), *name)).collect();
    ranked.sort_by_key(|(distance, _)| *distance);
    ranked.into_iter().take(3).map(|(_, name)| name).collect()
}

/// How many letters have to be changed, put in or left out to make `b` of `a` (Levenshtein, 1966).
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let changed = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = changed.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

impl<B: Backend> Index<&str> for ParameterDict<B> {
    type Output = Parameter<B>;

    /// The parameter at this path, or of this name.
    ///
    /// # Panics
    /// Panics when there is none; [`ParameterDict::get`] and [`ParameterDict::find`] do not.
    fn index(&self, path: &str) -> &Parameter<B> {
        match self.find(path) {
            Ok(parameter) => parameter,
            Err(error) => panic!("{error}"),
        }
    }
}

impl<B: Backend> IntoIterator for ParameterDict<B> {
    type Item = (String, Parameter<B>);
    type IntoIter = std::vec::IntoIter<Self::Item>;

    fn into_iter(self) -> Self::IntoIter {
        self.entries.into_iter()
    }
}

impl<B: Backend> FromIterator<(String, Parameter<B>)> for ParameterDict<B> {
    fn from_iter<I: IntoIterator<Item = (String, Parameter<B>)>>(entries: I) -> Self {
        ParameterDict::new(String::new(), entries.into_iter().collect())
    }
}

impl<B: Backend> fmt::Display for ParameterDict<B> {
    /// A line for each parameter as Gluon prints it, after its paths, of which one that is shared has several.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} (", self.prefix)?;
        for (_, parameter) in self.unique().iter() {
            let paths = self.iter().filter(|(_, p)| p.is(parameter)).map(|(path, _)| path);
            writeln!(f, "  {}: {parameter}", paths.collect::<Vec<_>>().join(", "))?;
        }
        f.write_str(")")
    }
}

impl<B: Backend> fmt::Debug for ParameterDict<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}
