//! [`TransformerEncoderBlock`]: self-attention and a network per position, each beside a shortcut.

use super::dropped;
use crate::{
    Activation, AttentionMask, Block, Dense, LayerNorm, MultiHeadAttention, Parameters, Visitor,
    describe::print_blocks, hooks, options,
};
use isograd_core::{Backend, Dyn, Result, Tensor};

/// One block of a Transformer's encoder (Vaswani et al., arXiv:1706.03762) on `[batch, positions, units]`.
///
/// As published, x ← norm1(x + attention(x)), x ← norm2(x + network(x)), where the network is two dense layers with an
/// activation between, of `hidden` and `units` outputs. With [`TransformerEncoderBlock::pre_norm`] the norms come first:
/// x ← x + attention(norm1(x)), which trains without a warm-up (Xiong et al., arXiv:2002.04745). In train mode what each half
/// adds, and what is inside, is dropped with the given probability. Parameters are named as in PyTorch: `self_attn`,
/// `linear1`, `linear2`, `norm1`, `norm2`. A clone shares them.
///
/// ```
/// use isograd::{DType, Tensor};
/// use isograd::nn::{Block, Parameters, TransformerEncoderBlock, initializers::Xavier};
/// let ctx = isograd::device("cpu")?;
/// let block = TransformerEncoderBlock::new(8, 2, 32).pre_norm(true).dropout(0.1);
/// block.initialize(Xavier::default(), &ctx)?;
/// let x = Tensor::ones(&ctx, [2, 5, 8], DType::F32)?;
/// assert_eq!(block.forward(&x)?.shape(), x.shape());
/// # Ok::<(), isograd::Error>(())
/// ```
#[derive(Clone)]
pub struct TransformerEncoderBlock<B: Backend = Dyn> {
    pre_norm: bool,
    dropout: f64,
    activation: Activation,
    self_attn: MultiHeadAttention<B>,
    linear1: Dense<B>,
    linear2: Dense<B>,
    norm1: LayerNorm<B>,
    norm2: LayerNorm<B>,
}

impl<B: Backend> TransformerEncoderBlock<B> {
    /// Of `units` units in `heads` heads, with `hidden` units in the network per position: norms last, relu, no dropout,
    /// biases everywhere.
    pub fn new(units: usize, heads: usize, hidden: usize) -> Self {
        TransformerEncoderBlock {
            pre_norm: false,
            dropout: 0.0,
            activation: Activation::Relu,
            self_attn: MultiHeadAttention::new(units, heads).use_bias(true).in_units(units, units, units),
            linear1: Dense::new(hidden).in_units(units).flatten(false),
            linear2: Dense::new(units).in_units(hidden).flatten(false),
            norm1: LayerNorm::new().in_channels(units),
            norm2: LayerNorm::new().in_channels(units),
        }
    }

    /// Uses the parameters of `other`: gradients add up, and a step changes both blocks.
    #[must_use]
    pub fn share(self, other: &Self) -> Self {
        TransformerEncoderBlock {
            self_attn: self.self_attn.share(&other.self_attn),
            linear1: self.linear1.share(&other.linear1),
            linear2: self.linear2.share(&other.linear2),
            norm1: self.norm1.share(&other.norm1),
            norm2: self.norm2.share(&other.norm2),
            ..self
        }
    }

    /// Whether each half normalizes what it reads, rather than what it gives.
    #[must_use]
    pub fn pre_norm(mut self, pre_norm: bool) -> Self {
        self.pre_norm = pre_norm;
        self
    }

    /// The probability of dropping, in train mode.
    #[must_use]
    pub fn dropout(mut self, rate: f64) -> Self {
        self.dropout = rate;
        self.self_attn = self.self_attn.dropout(rate);
        self
    }

    /// The activation inside the network per position.
    #[must_use]
    pub fn activation(mut self, activation: Activation) -> Self {
        self.activation = activation;
        self
    }

    fn drop(&self, x: Tensor<B>) -> Result<Tensor<B>> {
        dropped("TransformerEncoderBlock", &x, self.dropout)
    }

    fn network(&self, x: &Tensor<B>) -> Result<Tensor<B>> {
        let hidden = self.activation.forward(&self.linear1.forward(x)?)?;
        self.linear2.forward(&self.drop(hidden)?)
    }

    /// The output where attention sees what `mask` lets it.
    ///
    /// # Errors
    /// As [`MultiHeadAttention::attend`].
    pub fn forward_masked(&self, x: &Tensor<B>, mask: &AttentionMask<B>) -> Result<Tensor<B>> {
        hooks::layer(self, x, || {
            options::share("TransformerEncoderBlock", "dropout", self.dropout)?;
            let attention = |x: &Tensor<B>| self.drop(self.self_attn.attend(x, x, x, mask)?.0);
            if self.pre_norm {
                let x = x.add(&attention(&self.norm1.forward(x)?)?)?;
                x.add(&self.drop(self.network(&self.norm2.forward(&x)?)?)?)
            } else {
                let x = self.norm1.forward(&x.add(&attention(x)?)?)?;
                self.norm2.forward(&x.add(&self.drop(self.network(&x)?)?)?)
            }
        })
    }
}

impl<B: Backend> Parameters<B> for TransformerEncoderBlock<B> {
    fn visit(&self, visitor: &mut dyn Visitor<B>) {
        visitor.child("self_attn", &self.self_attn);
        visitor.child("linear1", &self.linear1);
        visitor.child("linear2", &self.linear2);
        visitor.child("norm1", &self.norm1);
        visitor.child("norm2", &self.norm2);
    }

    fn label(&self) -> Option<String> {
        Some("TransformerEncoderBlock".into())
    }
}

impl<B: Backend> Block<B> for TransformerEncoderBlock<B> {
    fn forward(&self, x: &Tensor<B>) -> Result<Tensor<B>> {
        self.forward_masked(x, &AttentionMask::new())
    }
}

/// `[batch, positions, units]` and a mask.
impl<B: Backend> Block<B, (Tensor<B>, AttentionMask<B>)> for TransformerEncoderBlock<B> {
    fn forward(&self, (x, mask): &(Tensor<B>, AttentionMask<B>)) -> Result<Tensor<B>> {
        self.forward_masked(x, mask)
    }
}

print_blocks! {
    impl [B: Backend] TransformerEncoderBlock<B>;
}
