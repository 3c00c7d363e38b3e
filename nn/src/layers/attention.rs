//! Attention: [`masked_softmax`], [`DotProductAttention`], [`MultiHeadAttention`], and what they may look at, [`AttentionMask`].

use super::dropped;
use crate::{Block, Dense, Parameters, Visitor, describe::print_blocks, hooks, labels::Whole};
use isograd_core::{Backend, DType, Dyn, Error, Result, Shape, Tensor};

/// Which keys a query may look at. By default, all.
///
/// ```
/// use isograd::{DType, Tensor};
/// use isograd::nn::{AttentionMask, masked_softmax};
/// let ctx = isograd::device("cpu")?;
/// let scores = Tensor::zeros(&ctx, [1, 2, 2], DType::F32)?;
/// let weights = masked_softmax(&scores, &AttentionMask::new().causal())?;
/// assert_eq!(weights.to_vec::<f32>()?, [1.0, 0.0, 0.5, 0.5]);
/// # Ok::<(), isograd::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct AttentionMask<B: Backend = Dyn> {
    causal: bool,
    valid_lengths: Option<Tensor<B>>,
    allowed_keys: Option<Tensor<B>>,
    allowed: Option<Tensor<B>>,
}

impl<B: Backend> Default for AttentionMask<B> {
    fn default() -> Self {
        AttentionMask { causal: false, valid_lengths: None, allowed_keys: None, allowed: None }
    }
}

impl<B: Backend> AttentionMask<B> {
    /// Every query may look at every key.
    pub fn new() -> Self {
        AttentionMask::default()
    }

    /// No query sees the keys after it. The last query stands at the last key, so that of fewer queries than keys, as in a
    /// decoder that keeps the keys of earlier steps, query i sees keys 0 to keys - queries + i.
    #[must_use]
    pub fn causal(mut self) -> Self {
        self.causal = true;
        self
    }

    /// Only so many keys at the beginning are seen: whole numbers `[batch]`, or `[batch, queries]`, of any number dtype.
    #[must_use]
    pub fn valid_lengths(mut self, lengths: &Tensor<B>) -> Self {
        self.valid_lengths = Some(lengths.clone());
        self
    }

    /// Only keys where `allowed` is true are seen, the same by all queries of a sample: bool, `[batch, keys]`, false for
    /// padding. (PyTorch's `key_padding_mask` is its opposite.)
    #[must_use]
    pub fn allowed_keys(mut self, allowed: &Tensor<B>) -> Self {
        self.allowed_keys = Some(allowed.clone());
        self
    }

    /// Only keys where `allowed` is true are seen: bool, broadcast to `[batch, queries, keys]`. A mask of two axes is
    /// `[queries, keys]`; where that is also the shape of `[batch, keys]` it is an error, since either may be meant: say
    /// [`AttentionMask::allowed_keys`], or give `[1, queries, keys]`.
    #[must_use]
    pub fn allowed(mut self, allowed: &Tensor<B>) -> Self {
        self.allowed = Some(allowed.clone());
        self
    }

    /// True where a query must not look, broadcastable to the scores; none where all may be seen.
    fn hidden(&self, scores: &Tensor<B>, heads: bool) -> Result<Option<Tensor<B>>> {
        const OP: &str = "masked_softmax";
        let ctx = scores.ctx();
        let rank = scores.rank();
        let (queries, keys) = (scores.shape()[rank - 2], scores.shape()[rank - 1]);
        let misfit = |mask: &Tensor<B>, why: &str| Error::ShapeMismatch {
            op: OP,
            left: scores.shape().clone(),
            right: mask.shape().clone(),
            why: why.into(),
            device: ctx.name(),
        };
        // A mask is of a batch; the axis of heads lies between.
        let place = |mask: Tensor<B>| if heads && mask.rank() == 3 { mask.expand_dims(1) } else { Ok(mask) };
        let positions = Tensor::arange(ctx, 0, keys as i64, 1, DType::I64)?;
        let mut hidden: Option<Tensor<B>> = None;
        let mut add = |more: Tensor<B>| {
            hidden = Some(match &hidden {
                Some(h) => h.logical_or(&more)?,
                None => more,
            });
            Ok::<_, Error>(())
        };
        if self.causal {
            let first = keys as i64 - queries as i64;
            let rows = Tensor::arange(ctx, first, keys as i64, 1, DType::I64)?.reshape(&Shape::from([queries, 1]))?;
            add(positions.greater(&rows)?)?;
        }
        if let Some(lengths) = &self.valid_lengths {
            let batch = scores.shape()[0];
            let fits = rank > 2 && (lengths.shape()[..] == [batch] || lengths.shape()[..] == [batch, queries]);
            if !fits {
                return Err(misfit(lengths, "valid lengths are [batch] or [batch, queries]"));
            }
            let per_query = if lengths.rank() == 2 { queries } else { 1 };
            let lengths = Whole::natural(OP, "valid length").check(lengths)?.numbers;
            let lengths = lengths.reshape(&Shape::from([batch, per_query, 1]))?;
            add(place(positions.greater_equal(&lengths)?)?)?;
        }
        if let Some(allowed) = &self.allowed_keys {
            let batch = scores.shape()[0];
            if rank < 3 || allowed.shape()[..] != [batch, keys] {
                return Err(misfit(allowed, "allowed keys are [batch, keys]"));
            }
            add(place(allowed.reshape(&Shape::from([batch, 1, keys]))?.logical_not()?)?)?;
        }
        if let Some(allowed) = &self.allowed {
            let batch = if rank > 2 { scores.shape()[0] } else { 1 };
            if queries > 1 && batch == queries && allowed.shape()[..] == [queries, keys] {
                let why = "this may be [batch, keys] or [queries, keys]; say allowed_keys for the first, or give the second \
                           as [1, queries, keys]";
                return Err(misfit(allowed, why));
            }
            add(place(allowed.logical_not()?)?)?;
        }
        Ok(hidden)
    }
}

/// Softmax over the keys of `scores`, `[batch, queries, keys]`, that `mask` lets be seen; the others get 0, and a query that
/// sees nothing gets zeros.
///
/// ```
/// use isograd::{DType, Tensor};
/// use isograd::nn::{AttentionMask, masked_softmax};
/// let ctx = isograd::device("cpu")?;
/// let scores = Tensor::zeros(&ctx, [2, 1, 4], DType::F32)?;
/// let lengths = Tensor::from_slice(&ctx, &[2i64, 0], [2])?;
/// let weights = masked_softmax(&scores, &AttentionMask::new().valid_lengths(&lengths))?;
/// assert_eq!(weights.to_vec::<f32>()?, [0.5, 0.5, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]);
/// # Ok::<(), isograd::Error>(())
/// ```
///
/// # Errors
/// [`Error::ShapeMismatch`] for lengths or a mask that do not fit; [`Error::InvalidShape`] for scores of fewer than two axes.
pub fn masked_softmax<B: Backend>(scores: &Tensor<B>, mask: &AttentionMask<B>) -> Result<Tensor<B>> {
    weights(scores, mask, false)
}

fn weights<B: Backend>(scores: &Tensor<B>, mask: &AttentionMask<B>, heads: bool) -> Result<Tensor<B>> {
    if scores.rank() < 2 {
        return Err(Error::InvalidShape {
            op: "masked_softmax",
            shape: scores.shape().clone(),
            why: "scores are [batch, queries, keys]".into(),
            device: scores.ctx().name(),
        });
    }
    let Some(hidden) = mask.hidden(scores, heads)? else { return scores.softmax(-1) };
    // Finite, so that a query that sees nothing gives no NaN.
    let lowest = if scores.dtype() == DType::F16 { -65504.0 } else { -3e38 };
    scores.masked_fill(&hidden, lowest)?.softmax(-1)?.masked_fill(&hidden, 0)
}

/// `[batch, positions, units]` as `[batch, heads, positions, units / heads]`.
pub(crate) fn split_heads<B: Backend>(x: &Tensor<B>, heads: usize) -> Result<Tensor<B>> {
    x.reshape(&Shape::from([x.shape()[0], x.shape()[1], heads, x.shape()[2] / heads]))?.swapaxes(1, 2)
}

/// Undoes [`split_heads`].
pub(crate) fn merge_heads<B: Backend>(x: &Tensor<B>) -> Result<Tensor<B>> {
    x.swapaxes(1, 2)?.reshape(&Shape::from([x.shape()[0], x.shape()[2], x.shape()[1] * x.shape()[3]]))
}

/// softmax(q kᵀ / √d) v on the last two axes, and the softmax.
pub(crate) fn attend<B: Backend>(
    op: &'static str,
    [query, key, value]: [&Tensor<B>; 3],
    mask: &AttentionMask<B>,
    dropout: f64,
) -> Result<(Tensor<B>, Tensor<B>)> {
    // Before the product, which in f16 would be infinite √d times sooner.
    let scaled = query.div_scalar((query.shape()[query.rank() - 1] as f64).sqrt())?;
    let weights = weights(&scaled.matmul(&key.swapaxes(-2, -1)?)?, mask, query.rank() == 4)?;
    Ok((dropped(op, &weights, dropout)?.matmul(value)?, weights))
}

fn check<B: Backend>(op: &'static str, inputs: [&Tensor<B>; 3]) -> Result<()> {
    let [query, key, value] = inputs;
    if let Some(x) = inputs.into_iter().find(|x| x.rank() != 3) {
        return Err(Error::InvalidShape {
            op,
            shape: x.shape().clone(),
            why: "queries, keys and values are [batch, positions, units]".into(),
            device: x.ctx().name(),
        });
    }
    if key.shape()[..2] != value.shape()[..2] || key.shape()[0] != query.shape()[0] {
        return Err(Error::ShapeMismatch {
            op,
            left: key.shape().clone(),
            right: value.shape().clone(),
            why: format!("there must be a value for each key, and as many batches as queries, {:?}", query.shape()),
            device: key.ctx().name(),
        });
    }
    Ok(())
}

/// softmax(q kᵀ / √d) v: means of values, weighted by how well each key fits the query (Vaswani et al., arXiv:1706.03762).
///
/// Queries `[batch, queries, d]`, keys `[batch, keys, d]`, values `[batch, keys, units]`; output `[batch, queries, units]`.
/// While training, weights are dropped with the given probability.
///
/// ```
/// use isograd::{DType, Tensor};
/// use isograd::nn::{AttentionMask, Block, DotProductAttention};
/// let ctx = isograd::device("cpu")?;
/// let (q, k) = (Tensor::ones(&ctx, [1, 1, 2], DType::F32)?, Tensor::ones(&ctx, [1, 3, 2], DType::F32)?);
/// let v = Tensor::from_slice(&ctx, &[1.0f32, 2.0, 6.0], [1, 3, 1])?;
/// let attention = DotProductAttention::default();
/// assert_eq!(attention.forward(&(q.clone(), k.clone(), v.clone()))?.to_vec::<f32>()?, [3.0]);
/// let two = AttentionMask::new().valid_lengths(&Tensor::from_slice(&ctx, &[2i64], [1])?);
/// assert_eq!(attention.attend(&q, &k, &v, &two)?.0.to_vec::<f32>()?, [1.5]);
/// # Ok::<(), isograd::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct DotProductAttention {
    dropout: f64,
}

impl DotProductAttention {
    /// That drops weights with probability `dropout` in train mode.
    pub fn new(dropout: f64) -> Self {
        DotProductAttention { dropout }
    }

    /// The output, and the weights `[batch, queries, keys]`.
    ///
    /// # Errors
    /// [`Error::InvalidShape`], [`Error::ShapeMismatch`]; as [`masked_softmax`].
    pub fn attend<B: Backend>(
        &self,
        query: &Tensor<B>,
        key: &Tensor<B>,
        value: &Tensor<B>,
        mask: &AttentionMask<B>,
    ) -> Result<(Tensor<B>, Tensor<B>)> {
        const OP: &str = "DotProductAttention";
        let inputs = [query, key, value];
        hooks::observe(Parameters::<B>::id(self), &inputs, || {
            check(OP, inputs)?;
            attend(OP, inputs, mask, self.dropout)
        })
    }
}

impl<B: Backend> Parameters<B> for DotProductAttention {
    fn visit(&self, _: &mut dyn Visitor<B>) {}

    fn label(&self) -> Option<String> {
        Some(format!("DotProductAttention(dropout={})", self.dropout))
    }
}

impl<B: Backend> Block<B, (Tensor<B>, Tensor<B>, Tensor<B>)> for DotProductAttention {
    fn forward(&self, x: &(Tensor<B>, Tensor<B>, Tensor<B>)) -> Result<Tensor<B>> {
        let (query, key, value) = x;
        hooks::observe(Parameters::<B>::id(self), x, || Ok(self.attend(query, key, value, &AttentionMask::new())?.0))
    }
}

/// Several [`DotProductAttention`]s beside each other, each on its own part of projected queries, keys and values, and a
/// projection of what they give (Vaswani et al., arXiv:1706.03762).
///
/// Queries, keys and values are `[batch, positions, any units]`, the output `[batch, queries, units]`. As a block of one
/// input it is self-attention, of a triple cross-attention; [`MultiHeadAttention::attend`] takes a mask and gives the weights
/// too. The projections `q_proj`, `k_proj`, `v_proj`, `out_proj` have no bias, as in the book, unless asked for. A clone
/// shares the parameters.
///
/// ```
/// use isograd::{DType, Tensor};
/// use isograd::nn::{AttentionMask, Block, MultiHeadAttention, Parameters, initializers::Xavier};
/// let ctx = isograd::device("cpu")?;
/// let attention = MultiHeadAttention::new(8, 2);
/// attention.initialize(Xavier::default(), &ctx)?;
/// let x = Tensor::ones(&ctx, [2, 5, 8], DType::F32)?;
/// assert_eq!(attention.forward(&x)?.shape(), &[2, 5, 8]);
/// let (y, weights) = attention.attend(&x, &x, &x, &AttentionMask::new().causal())?;
/// assert_eq!((y.shape().to_vec(), weights.shape().to_vec()), (vec![2, 5, 8], vec![2, 2, 5, 5]));
/// # Ok::<(), isograd::Error>(())
/// ```
#[derive(Clone)]
pub struct MultiHeadAttention<B: Backend = Dyn> {
    units: usize,
    heads: usize,
    dropout: f64,
    q_proj: Dense<B>,
    k_proj: Dense<B>,
    v_proj: Dense<B>,
    out_proj: Dense<B>,
}

impl<B: Backend> MultiHeadAttention<B> {
    /// Of `units` outputs in `heads` parts, which must divide them.
    pub fn new(units: usize, heads: usize) -> Self {
        let dense = || Dense::new(units).flatten(false).use_bias(false);
        let (q_proj, k_proj, v_proj) = (dense(), dense(), dense());
        MultiHeadAttention { units, heads, dropout: 0.0, q_proj, k_proj, v_proj, out_proj: dense().in_units(units) }
    }

    /// Uses the parameters of `other`: gradients add up, and a step changes both layers. The numbers of units and heads are
    /// taken over with them.
    #[must_use]
    pub fn share(self, other: &Self) -> Self {
        MultiHeadAttention { dropout: self.dropout, ..other.clone() }
    }

    /// The probability of dropping a weight, in train mode.
    #[must_use]
    pub fn dropout(mut self, rate: f64) -> Self {
        self.dropout = rate;
        self
    }

    /// Whether the projections have a bias.
    #[must_use]
    pub fn use_bias(self, use_bias: bool) -> Self {
        MultiHeadAttention {
            q_proj: self.q_proj.use_bias(use_bias),
            k_proj: self.k_proj.use_bias(use_bias),
            v_proj: self.v_proj.use_bias(use_bias),
            out_proj: self.out_proj.use_bias(use_bias),
            ..self
        }
    }

    /// As PyTorch's `MultiheadAttention`: with biases.
    #[must_use]
    pub fn torch_defaults(self) -> Self {
        self.use_bias(true)
    }

    /// The units of queries, keys and values, so that shapes are known before the first batch.
    #[must_use]
    pub fn in_units(self, query: usize, key: usize, value: usize) -> Self {
        MultiHeadAttention {
            q_proj: self.q_proj.in_units(query),
            k_proj: self.k_proj.in_units(key),
            v_proj: self.v_proj.in_units(value),
            ..self
        }
    }

    /// The output, and the weights `[batch, heads, queries, keys]`.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] unless the heads divide the units; [`Error::InvalidShape`], [`Error::ShapeMismatch`]; as
    /// [`Block::forward`] and [`masked_softmax`].
    pub fn attend(
        &self,
        query: &Tensor<B>,
        key: &Tensor<B>,
        value: &Tensor<B>,
        mask: &AttentionMask<B>,
    ) -> Result<(Tensor<B>, Tensor<B>)> {
        const OP: &str = "MultiHeadAttention";
        if self.heads == 0 || !self.units.is_multiple_of(self.heads) {
            let why = format!("{} units cannot be split into {} equal heads", self.units, self.heads);
            return Err(Error::invalid(OP, why));
        }
        let inputs = [query, key, value];
        hooks::observe(self.id(), &inputs, || {
            check(OP, inputs)?;
            let query = split_heads(&self.q_proj.forward(query)?, self.heads)?;
            let key = split_heads(&self.k_proj.forward(key)?, self.heads)?;
            let value = split_heads(&self.v_proj.forward(value)?, self.heads)?;
            let (y, weights) = attend(OP, [&query, &key, &value], mask, self.dropout)?;
            Ok((self.out_proj.forward(&merge_heads(&y)?)?, weights))
        })
    }
}

impl<B: Backend> Parameters<B> for MultiHeadAttention<B> {
    fn visit(&self, visitor: &mut dyn Visitor<B>) {
        let parts = [
            ("q_proj", &self.q_proj),
            ("k_proj", &self.k_proj),
            ("v_proj", &self.v_proj),
            ("out_proj", &self.out_proj),
        ];
        parts.into_iter().for_each(|(name, part)| visitor.child(name, part));
    }

    fn label(&self) -> Option<String> {
        Some(format!("MultiHeadAttention({}, heads={}, dropout={})", self.units, self.heads, self.dropout))
    }
}

impl<B: Backend> Block<B> for MultiHeadAttention<B> {
    fn forward(&self, x: &Tensor<B>) -> Result<Tensor<B>> {
        hooks::layer(self, x, || Ok(self.attend(x, x, x, &AttentionMask::new())?.0))
    }
}

impl<B: Backend> Block<B, (Tensor<B>, Tensor<B>, Tensor<B>)> for MultiHeadAttention<B> {
    fn forward(&self, x: &(Tensor<B>, Tensor<B>, Tensor<B>)) -> Result<Tensor<B>> {
        let (query, key, value) = x;
        hooks::observe(Parameters::<B>::id(self), x, || Ok(self.attend(query, key, value, &AttentionMask::new())?.0))
    }
}

print_blocks! {
    impl [B: Backend] MultiHeadAttention<B>;
}
