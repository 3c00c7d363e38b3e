//! A small GPT.

use super::head::Head;
use crate::{
    Activation, AttentionMask, Block, Dense, Dropout, Embedding, LayerNorm, Parameters, PositionalEmbedding,
    describe::print_blocks,
    hooks,
    layers::{attend, merge_heads, split_heads},
};
use isograd_core::{Backend, Dyn, Error, Result, Tensor};

/// What a [`Gpt`] is made of.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct GptConfig {
    /// How many words there are.
    pub vocabulary: usize,
    /// How many positions a text has at most.
    pub positions: usize,
    /// The elements of a vector.
    pub units: usize,
    /// Into how many heads attention is split; they divide the units.
    pub heads: usize,
    /// How many blocks lie on each other.
    pub layers: usize,
    /// The probability of dropping, in train mode.
    pub dropout: f64,
    /// Whether words are read and scored by the same vectors.
    pub tied: bool,
}

impl GptConfig {
    /// The smallest GPT-2.
    pub fn gpt2() -> Self {
        GptConfig { vocabulary: 50257, positions: 1024, units: 768, heads: 12, layers: 12, dropout: 0.1, tied: true }
    }

    /// For experiments: four blocks of 128 units in four heads, over so many words and positions.
    pub fn small(vocabulary: usize, positions: usize) -> Self {
        GptConfig { vocabulary, positions, units: 128, heads: 4, layers: 4, dropout: 0.0, tied: true }
    }
}

#[derive(Clone, Parameters)]
struct Attention<B: Backend> {
    heads: usize,
    rate: f64,
    c_attn: Dense<B>,
    c_proj: Dense<B>,
}

impl<B: Backend> Block<B> for Attention<B> {
    fn forward(&self, x: &Tensor<B>) -> Result<Tensor<B>> {
        let parts = self.c_attn.call(x)?.split(3, -1)?;
        let split = |part: &Tensor<B>| split_heads(part, self.heads);
        let (query, key, value) = (split(&parts[0])?, split(&parts[1])?, split(&parts[2])?);
        let (y, _) = attend("Gpt", [&query, &key, &value], &AttentionMask::new().causal(), self.rate)?;
        self.c_proj.call(&merge_heads(&y)?)
    }
}

#[derive(Clone, Parameters)]
struct Network<B: Backend> {
    c_fc: Dense<B>,
    c_proj: Dense<B>,
}

impl<B: Backend> Block<B> for Network<B> {
    fn forward(&self, x: &Tensor<B>) -> Result<Tensor<B>> {
        self.c_proj.call(&Activation::GeluTanh.forward(&self.c_fc.call(x)?)?)
    }
}

#[derive(Clone, Parameters)]
struct Layer<B: Backend> {
    ln_1: LayerNorm<B>,
    attn: Attention<B>,
    ln_2: LayerNorm<B>,
    mlp: Network<B>,
    dropout: Dropout,
}

impl<B: Backend> Layer<B> {
    fn new(config: &GptConfig) -> Self {
        let units = config.units;
        let dense = |inputs: usize, outputs: usize| Dense::new(outputs).in_units(inputs).flatten(false);
        let attn = Attention {
            heads: config.heads,
            rate: config.dropout,
            c_attn: dense(units, 3 * units),
            c_proj: dense(units, units),
        };
        Layer {
            ln_1: LayerNorm::new().in_channels(units),
            attn,
            ln_2: LayerNorm::new().in_channels(units),
            mlp: Network { c_fc: dense(units, 4 * units), c_proj: dense(4 * units, units) },
            dropout: Dropout::new(config.dropout),
        }
    }
}

impl<B: Backend> Block<B> for Layer<B> {
    fn forward(&self, x: &Tensor<B>) -> Result<Tensor<B>> {
        let x = x.add(&self.dropout.call(&self.attn.call(&self.ln_1.call(x)?)?)?)?;
        x.add(&self.dropout.call(&self.mlp.call(&self.ln_2.call(&x)?)?)?)
    }
}

#[derive(Clone, Parameters)]
struct Body<B: Backend> {
    wte: Embedding<B>,
    wpe: PositionalEmbedding<B>,
    drop: Dropout,
    h: Vec<Layer<B>>,
    ln_f: LayerNorm<B>,
}

impl<B: Backend> Block<B> for Body<B> {
    fn forward(&self, words: &Tensor<B>) -> Result<Tensor<B>> {
        let vectors = self.drop.call(&self.wpe.call(&self.wte.call(words)?)?)?;
        self.ln_f.call(&self.h.iter().try_fold(vectors, |x, layer| layer.call(&x))?)
    }
}

/// GPT-2's network (Radford et al., *Language Models are Unsupervised Multitask Learners*, 2019): word and position vectors,
/// blocks of causal attention, and a score for each word that may come next.
///
/// Words `[batch, positions]`, of any number dtype, give scores `[batch, positions, vocabulary]`. Parameters have GPT-2's
/// names (`transformer.h.0.attn.c_attn.weight`), with weights `[units, in]` as PyTorch's `Linear` has them; the files that
/// were published with GPT-2 have them transposed.
///
/// ```
/// use isograd::Tensor;
/// use isograd::nn::{Block, Parameters, initializers::Normal, zoo::{Gpt, GptConfig}};
/// let ctx = isograd::device("cpu")?;
/// let net = Gpt::new(GptConfig { units: 16, layers: 2, ..GptConfig::small(10, 8) })?;
/// net.initialize(Normal { sigma: 0.02 }, &ctx)?;
/// let words = Tensor::from_slice(&ctx, &[1i64, 4, 7], [1, 3])?;
/// assert_eq!(net.forward(&words)?.shape(), &[1, 3, 10]);
/// # Ok::<(), isograd::Error>(())
/// ```
#[derive(Clone, Parameters)]
pub struct Gpt<B: Backend = Dyn> {
    transformer: Body<B>,
    lm_head: Head<B>,
}

impl<B: Backend> Gpt<B> {
    /// Of the given make.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] unless the heads divide the units.
    pub fn new(config: GptConfig) -> Result<Self> {
        let GptConfig { vocabulary, positions, units, heads, layers, dropout, tied } = config;
        if heads == 0 || !units.is_multiple_of(heads) {
            let why = format!("{units} units cannot be split into {heads} equal heads");
            return Err(Error::invalid("Gpt", why));
        }
        let transformer = Body {
            wte: Embedding::new(vocabulary, units),
            wpe: PositionalEmbedding::new(positions, units),
            drop: Dropout::new(dropout),
            h: (0..layers).map(|_| Layer::new(&config)).collect(),
            ln_f: LayerNorm::new().in_channels(units),
        };
        let lm_head = Head::new(vocabulary, units, tied.then(|| transformer.wte.weight()), false);
        Ok(Gpt { transformer, lm_head })
    }
}

impl<B: Backend> Block<B> for Gpt<B> {
    fn forward(&self, words: &Tensor<B>) -> Result<Tensor<B>> {
        hooks::layer(self, words, || self.lm_head.call(&self.transformer.call(words)?))
    }
}

print_blocks! {
    debug impl [B: Backend] Gpt<B>;
}
