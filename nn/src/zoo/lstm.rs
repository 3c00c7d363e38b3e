//! A language model of LSTM layers.

use super::head::Head;
use crate::{Block, Dropout, Embedding, LSTM, Parameters, describe::print_blocks, hooks};
use isograd_core::{Backend, Dyn, Error, Result, Tensor};

/// What an [`LstmLanguageModel`] is made of.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LstmLanguageModelConfig {
    /// How many words there are.
    pub vocabulary: usize,
    /// The elements of a word's vector.
    pub embedding: usize,
    /// The units of each layer.
    pub hidden: usize,
    /// How many layers lie on each other.
    pub layers: usize,
    /// The probability of dropping an element before, between and after the layers, in train mode.
    pub dropout: f64,
    /// Whether words are read and scored by the same vectors, which must have as many elements as a layer has units.
    pub tied: bool,
}

impl LstmLanguageModelConfig {
    /// The medium model of Zaremba et al. for so many words: two layers of 650 units.
    pub fn medium(vocabulary: usize) -> Self {
        LstmLanguageModelConfig { vocabulary, embedding: 650, hidden: 650, layers: 2, dropout: 0.5, tied: false }
    }

    /// The large model of Zaremba et al. for so many words: two layers of 1500 units.
    pub fn large(vocabulary: usize) -> Self {
        LstmLanguageModelConfig { vocabulary, embedding: 1500, hidden: 1500, layers: 2, dropout: 0.65, tied: false }
    }
}

/// Word vectors, LSTM layers, and a score for each word that may come next (Zaremba et al., arXiv:1409.2329; tied: Press and
/// Wolf, arXiv:1608.05859).
///
/// Words `[time, batch]`, of any number dtype, give scores `[time, batch, vocabulary]`. Parameters are named as in PyTorch's
/// example: `encoder`, `rnn`, `decoder`.
///
/// ```
/// use isograd::Tensor;
/// use isograd::nn::{Parameters, initializers::Uniform, zoo::{LstmLanguageModel, LstmLanguageModelConfig}};
/// let ctx = isograd::device("cpu")?;
/// let config = LstmLanguageModelConfig { embedding: 8, hidden: 8, tied: true, ..LstmLanguageModelConfig::medium(20) };
/// let net = LstmLanguageModel::new(config)?;
/// net.initialize(Uniform::default(), &ctx)?;
/// let words = Tensor::from_slice(&ctx, &[1i64, 4, 7], [3, 1])?;
/// let (scores, states) = net.forward_with(&words, &net.begin_state(&ctx, 1)?)?;
/// assert_eq!((scores.shape().to_vec(), states.len()), (vec![3, 1, 20], 2));
/// # Ok::<(), isograd::Error>(())
/// ```
#[derive(Clone, Parameters)]
pub struct LstmLanguageModel<B: Backend = Dyn> {
    encoder: Embedding<B>,
    dropout: Dropout,
    rnn: LSTM<B>,
    decoder: Head<B>,
}

impl<B: Backend> LstmLanguageModel<B> {
    /// Of the given make.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] when `tied` and the sizes differ.
    pub fn new(config: LstmLanguageModelConfig) -> Result<Self> {
        let LstmLanguageModelConfig { vocabulary, embedding, hidden, layers, dropout, tied } = config;
        if tied && embedding != hidden {
            let why = format!("tied vectors need as many elements as there are units, not {embedding} and {hidden}");
            return Err(Error::invalid("LstmLanguageModel", why));
        }
        let encoder = Embedding::new(vocabulary, embedding);
        let decoder = Head::new(vocabulary, hidden, tied.then(|| encoder.weight()), true);
        let rnn = LSTM::new(hidden).num_layers(layers).dropout(dropout).input_size(embedding);
        Ok(LstmLanguageModel { encoder, dropout: Dropout::new(dropout), rnn, decoder })
    }

    /// States of zeros for a batch.
    ///
    /// # Errors
    /// What the device reports.
    pub fn begin_state(&self, ctx: &B, batch: usize) -> Result<Vec<Tensor<B>>> {
        self.rnn.begin_state(ctx, batch)
    }

    /// The scores, and the states after the last word.
    ///
    /// # Errors
    /// As [`LSTM::forward_with`].
    pub fn forward_with(&self, words: &Tensor<B>, states: &[Tensor<B>]) -> Result<(Tensor<B>, Vec<Tensor<B>>)> {
        hooks::observe(Parameters::id(self), &(words, states), || {
            let vectors = self.dropout.call(&self.encoder.call(words)?)?;
            let (y, states) = self.rnn.forward_with(&vectors, states)?;
            Ok((self.decoder.call(&self.dropout.call(&y)?)?, states))
        })
    }
}

impl<B: Backend> Block<B> for LstmLanguageModel<B> {
    fn forward(&self, words: &Tensor<B>) -> Result<Tensor<B>> {
        hooks::layer(self, words, || {
            let batch = words.shape().get(1).copied().unwrap_or(0);
            Ok(self.forward_with(words, &self.begin_state(words.ctx(), batch)?)?.0)
        })
    }
}

print_blocks! {
    debug impl [B: Backend] LstmLanguageModel<B>;
}
