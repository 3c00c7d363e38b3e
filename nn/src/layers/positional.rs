//! Where in a sequence something is: [`PositionalEncoding`], fixed, and [`PositionalEmbedding`], learned.

use super::dropped;
use crate::{Block, Initializer, Parameter, Parameters, Visitor, describe::print_blocks, hooks, naming};
use isograd_core::{Backend, DType, Dyn, Error, Result, Tensor};
use std::{
    any::Any,
    fmt,
    sync::{Arc, Mutex},
};

fn check<B: Backend>(op: &'static str, x: &Tensor<B>) -> Result<(usize, usize)> {
    let [_, positions, units] = x.shape()[..] else {
        return Err(Error::InvalidShape {
            op,
            shape: x.shape().clone(),
            why: "the input must be [batch, positions, units]".into(),
            device: x.ctx().name(),
        });
    };
    Ok((positions, units))
}

/// Adds sines and cosines of falling frequency to `[batch, positions, units]`: at position p, element 2i gets
/// sin(p / 10000^(2i/units)), element 2i + 1 the cosine (Vaswani et al., arXiv:1706.03762). Then elements are dropped with
/// probability `dropout` in train mode.
///
/// ```
/// use isograd::{DType, Tensor};
/// use isograd::nn::{Block, PositionalEncoding};
/// let ctx = isograd::device("cpu")?;
/// let x = Tensor::zeros(&ctx, [1, 2, 2], DType::F64)?;
/// let y = PositionalEncoding::default().forward(&x)?.to_vec::<f64>()?;
/// assert_eq!(y, [0.0, 1.0, 1f64.sin(), 1f64.cos()]);
/// # Ok::<(), isograd::Error>(())
/// ```
///
/// The table of what is added is made at the first pass, and again for longer inputs, other units, another dtype or device.
/// Clones share the tables.
#[derive(Clone, Default)]
pub struct PositionalEncoding {
    dropout: f64,
    /// Tensors of whatever backends ran, the last one last; at most [`TABLES`].
    tables: Arc<Mutex<Vec<Box<dyn Any + Send>>>>,
}

/// How many tables are kept, for so many devices or dtypes that a layer is used on in turn.
const TABLES: usize = 16;

impl fmt::Debug for PositionalEncoding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PositionalEncoding").field("dropout", &self.dropout).finish_non_exhaustive()
    }
}

impl PartialEq for PositionalEncoding {
    fn eq(&self, other: &Self) -> bool {
        self.dropout == other.dropout
    }
}

impl PositionalEncoding {
    /// With the given probability of dropping an element of the sum.
    pub fn new(dropout: f64) -> Self {
        PositionalEncoding { dropout, ..Self::default() }
    }

    /// What is added: `[positions, units]`.
    ///
    /// # Errors
    /// What the device reports.
    pub fn table<B: Backend>(ctx: &B, positions: usize, units: usize, dtype: DType) -> Result<Tensor<B>> {
        let at = |k: usize| {
            let (position, unit) = (k / units, k % units);
            let angle = position as f64 / 10000f64.powf((unit - unit % 2) as f64 / units as f64);
            if unit % 2 == 0 { angle.sin() } else { angle.cos() }
        };
        let values: Vec<f64> = (0..positions * units).map(at).collect();
        match dtype {
            DType::F64 => Tensor::from_slice(ctx, &values, [positions, units]),
            _ => {
                let values: Vec<f32> = values.iter().map(|&v| v as f32).collect();
                Tensor::from_slice(ctx, &values, [positions, units])?.cast(dtype)
            }
        }
    }
}

impl<B: Backend> Parameters<B> for PositionalEncoding {
    fn visit(&self, _: &mut dyn Visitor<B>) {}

    fn label(&self) -> Option<String> {
        Some(format!("PositionalEncoding(dropout={})", self.dropout))
    }
}

impl<B: Backend> Block<B> for PositionalEncoding {
    fn forward(&self, x: &Tensor<B>) -> Result<Tensor<B>> {
        hooks::layer(self, x, || self.compute(x))
    }
}

impl PositionalEncoding {
    fn compute<B: Backend>(&self, x: &Tensor<B>) -> Result<Tensor<B>> {
        let (positions, units) = check("PositionalEncoding", x)?;
        dropped("PositionalEncoding", &x.add(&self.kept_table(x, positions, units)?)?, self.dropout)
    }

    /// The table for `x`, as far as it was not made before.
    fn kept_table<B: Backend>(&self, x: &Tensor<B>, positions: usize, units: usize) -> Result<Tensor<B>> {
        let mut kept = self.tables.lock().unwrap_or_else(|e| e.into_inner());
        let alike = |any: &Box<dyn Any + Send>| {
            let table = any.downcast_ref::<Tensor<B>>();
            table.filter(|t| t.ctx() == x.ctx() && t.dtype() == x.dtype() && t.shape()[1] == units).cloned()
        };
        if let Some(table) = kept.iter().find_map(alike).filter(|t| t.shape()[0] >= positions) {
            return table.narrow(0, 0, positions);
        }
        let table = Self::table(x.ctx(), positions, units, x.dtype())?;
        // The shorter one goes, and the oldest where there are many.
        kept.retain(|any| alike(any).is_none());
        if kept.len() == TABLES {
            kept.remove(0);
        }
        kept.push(Box::new(table.clone()));
        Ok(table)
    }
}

/// Adds a trained vector per position to `[batch, positions, units]` (Gehring et al., arXiv:1705.03122). A clone shares the
/// parameter.
///
/// ```
/// use isograd::{DType, Tensor};
/// use isograd::nn::{Block, Parameters, PositionalEmbedding, initializers::One};
/// let ctx = isograd::device("cpu")?;
/// let layer = PositionalEmbedding::new(16, 4);
/// layer.initialize(One, &ctx)?;
/// let y = layer.forward(&Tensor::zeros(&ctx, [2, 3, 4], DType::F32)?)?;
/// assert_eq!(y.to_vec::<f32>()?, [1.0; 24]);
/// assert!(layer.forward(&Tensor::zeros(&ctx, [2, 17, 4], DType::F32)?).is_err());
/// # Ok::<(), isograd::Error>(())
/// ```
#[derive(Clone)]
pub struct PositionalEmbedding<B: Backend = Dyn> {
    positions: usize,
    units: usize,
    weight: Parameter<B>,
}

impl<B: Backend> PositionalEmbedding<B> {
    /// Vectors of `units` elements for up to `positions` positions.
    pub fn new(positions: usize, units: usize) -> Self {
        let name = format!("{}weight", naming::prefix("positionalembedding"));
        PositionalEmbedding { positions, units, weight: Parameter::new(name, &[Some(positions), Some(units)]) }
    }

    /// Initializes the table by `initializer`, whatever the network is initialized with.
    #[must_use]
    pub fn weight_initializer(mut self, initializer: impl Initializer<B> + 'static) -> Self {
        self.weight = self.weight.with_initializer(initializer);
        self
    }

    /// Uses the parameters of `other`: gradients add up, and a step changes both layers.
    #[must_use]
    pub fn share(mut self, other: &Self) -> Self {
        self.weight = other.weight.clone();
        (self.positions, self.units) = (other.positions, other.units);
        self
    }

    /// Uses `weight`, such as that of another layer, in the place of its own: the two are one. Its shape must be that of this layer's.
    #[must_use]
    pub fn with_weight(mut self, weight: &Parameter<B>) -> Self {
        self.weight = self.weight.replaced(weight);
        self
    }

    /// The table, `[positions, units]`.
    pub fn weight(&self) -> &Parameter<B> {
        &self.weight
    }
}

impl<B: Backend> Parameters<B> for PositionalEmbedding<B> {
    fn visit(&self, visitor: &mut dyn Visitor<B>) {
        visitor.child("weight", &self.weight);
    }

    fn label(&self) -> Option<String> {
        Some(format!("PositionalEmbedding({}, {})", self.positions, self.units))
    }
}

impl<B: Backend> Block<B> for PositionalEmbedding<B> {
    fn forward(&self, x: &Tensor<B>) -> Result<Tensor<B>> {
        hooks::layer(self, x, || self.compute(x))
    }
}

impl<B: Backend> PositionalEmbedding<B> {
    fn compute(&self, x: &Tensor<B>) -> Result<Tensor<B>> {
        let (positions, _) = check("PositionalEmbedding", x)?;
        if positions > self.positions {
            return Err(Error::InvalidShape {
                op: "PositionalEmbedding",
                shape: x.shape().clone(),
                why: format!("there are vectors for {} positions only; make the layer larger", self.positions),
                device: x.ctx().name(),
            });
        }
        x.add(&self.weight.data_on(x.ctx())?.narrow(0, 0, positions)?)
    }
}

print_blocks! {
    impl [B: Backend] PositionalEmbedding<B>;
}
