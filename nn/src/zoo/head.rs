//! What language models end with: a score for each word.

use crate::{Block, Parameter, Parameters, initializers::Zero, naming};
use isograd_core::{Backend, Result, Tensor};

/// x Wᵀ + b on the last axis, W of its own or an embedding's table.
#[derive(Clone, Parameters)]
pub(super) struct Head<B: Backend> {
    weight: Parameter<B>,
    bias: Option<Parameter<B>>,
}

impl<B: Backend> Head<B> {
    /// From `units` to `words`, by `tied` if there is one.
    pub fn new(words: usize, units: usize, tied: Option<&Parameter<B>>, bias: bool) -> Self {
        let prefix = naming::prefix("head");
        let own = || Parameter::new(format!("{prefix}weight"), &[Some(words), Some(units)]);
        Head {
            weight: tied.cloned().unwrap_or_else(own),
            bias: bias.then(|| Parameter::new(format!("{prefix}bias"), &[Some(words)]).with_initializer(Zero)),
        }
    }
}

impl<B: Backend> Block<B> for Head<B> {
    fn forward(&self, x: &Tensor<B>) -> Result<Tensor<B>> {
        let scores = x.matmul(&self.weight.data_on(x.ctx())?.t()?)?;
        self.bias.as_ref().map_or(Ok(scores.clone()), |bias| scores.add(&bias.data_on(x.ctx())?))
    }
}
