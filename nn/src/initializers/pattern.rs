//! [`Mixed`] and [`Load`]: initializers that look at the parameter's name.

use super::Initializer;
use isograd_core::{
    Backend, DType, Error, Result, Shape, Tensor,
    format::{HostArray, mxnet, safetensors},
};
use regex::Regex;
use std::{collections::HashMap, path::Path, sync::Arc};

/// The first initializer whose regular expression is found in the parameter's name.
///
/// ```
/// use isograd::nn::{Dense, Parameters, initializers::{Constant, Mixed, One, Zero}};
/// let ctx = isograd::device("cpu")?;
/// let initializer = Mixed::new().on("special", Constant(3.0))?.on("weight$", One)?.on("", Zero)?;
/// let layer = Dense::new(1).in_units(1);
/// layer.initialize(initializer, &ctx)?;
/// assert_eq!(layer.weight().data()?.to_vec::<f32>()?, [1.0]);
/// # Ok::<(), isograd::Error>(())
/// ```
#[derive(Debug)]
pub struct Mixed<B: Backend> {
    rules: Vec<(Regex, Arc<dyn Initializer<B>>)>,
}

impl<B: Backend> Default for Mixed<B> {
    fn default() -> Self {
        Mixed { rules: Vec::new() }
    }
}

impl<B: Backend> Mixed<B> {
    /// No rules; add some with [`Mixed::on`].
    pub fn new() -> Mixed<B> {
        Mixed::default()
    }

    /// Uses `initializer` for names that `pattern` is found in and no rule before.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for what is no regular expression.
    pub fn on(mut self, pattern: &str, initializer: impl Initializer<B> + 'static) -> Result<Self> {
        let regex = Regex::new(pattern).map_err(|e| Error::invalid("Mixed", e.to_string()))?;
        self.rules.push((regex, Arc::new(initializer)));
        Ok(self)
    }
}

impl<B: Backend> Initializer<B> for Mixed<B> {
    fn initialize(&self, ctx: &B, name: &str, shape: &Shape, dtype: DType) -> Result<Tensor<B>> {
        let rule = self.rules.iter().find(|(pattern, _)| pattern.is_match(name));
        let (_, initializer) = rule.ok_or_else(|| Error::Parameter {
            name: name.to_string(),
            why: "no pattern of Mixed is found in its name; add a last rule with the pattern \"\"".into(),
        })?;
        initializer.initialize(ctx, name, shape, dtype)
    }
}

/// Values from a file by the parameter's name, with or without `arg:` or `aux:` before it; another initializer for names
/// that the file lacks.
///
/// ```
/// use isograd::format::HostArray;
/// use isograd::nn::{Parameter, initializers::{Load, Zero}};
/// let ctx = isograd::device("cpu")?;
/// let file = vec![("arg:w".to_string(), HostArray::from_slice(&[1.0f32, 2.0], [2])?)];
/// let w = Parameter::new("w", &[Some(2)]);
/// w.initialize(Load::new(file).or(Zero), &ctx)?;
/// assert_eq!(w.data()?.to_vec::<f32>()?, [1.0, 2.0]);
/// # Ok::<(), isograd::Error>(())
/// ```
#[derive(Debug)]
pub struct Load<B: Backend> {
    arrays: HashMap<String, HostArray>,
    otherwise: Option<Arc<dyn Initializer<B>>>,
}

impl<B: Backend> Load<B> {
    /// Of arrays by name.
    pub fn new(arrays: impl IntoIterator<Item = (String, HostArray)>) -> Load<B> {
        let plain = |name: String| match name.strip_prefix("arg:").or(name.strip_prefix("aux:")) {
            Some(rest) => rest.to_string(),
            None => name,
        };
        Load { arrays: arrays.into_iter().map(|(name, a)| (plain(name), a)).collect(), otherwise: None }
    }

    /// Of a file: MXNet's format if its name ends in `.params`, else safetensors.
    ///
    /// # Errors
    /// [`Error::File`]; [`Error::Io`].
    pub fn file(path: impl AsRef<Path>) -> Result<Load<B>> {
        let path = path.as_ref();
        let is_mxnet = path.extension().is_some_and(|e| e == "params");
        Ok(Load::new(if is_mxnet { mxnet::load(path)?.into_dict()? } else { safetensors::load(path)?.arrays }))
    }

    /// What names that are not there get.
    #[must_use]
    pub fn or(mut self, initializer: impl Initializer<B> + 'static) -> Self {
        self.otherwise = Some(Arc::new(initializer));
        self
    }
}

impl<B: Backend> Initializer<B> for Load<B> {
    fn initialize(&self, ctx: &B, name: &str, shape: &Shape, dtype: DType) -> Result<Tensor<B>> {
        let fail = |why: String| Error::Parameter { name: name.to_string(), why };
        match (self.arrays.get(name), &self.otherwise) {
            (Some(array), _) if array.shape == *shape => Tensor::from_host(ctx, array)?.cast(dtype),
            (Some(array), _) => Err(fail(format!("Load has it with shape {:?}, {shape:?} is needed", array.shape))),
            (None, Some(other)) => other.initialize(ctx, name, shape, dtype),
            (None, None) => Err(fail("Load has no such name; say what else to do by Load::or".into())),
        }
    }
}
