//! [`Dense`]: a fully connected layer.

use super::{epilogue::linear, weight_and_bias::weight_and_bias};
use crate::{
    Activation, Block, Parameter, Parameters, Visitor, describe::print_blocks, hooks, initializers::Zero, naming,
};
use isograd_core::{Backend, DType, Dyn, Error, Result, Shape, Tensor};

/// A fully connected layer: activation(x Wᵀ + b), with W `[units, in_units]` and b `[units]`.
///
/// The input is `[batch, ..]`, flattened to `[batch, in_units]`, and the output `[batch, units]`; with `flatten(false)` they
/// are `[.., in_units]` and `[.., units]`. The number of inputs is taken from the first batch unless it is given. The bias
/// begins at zero. A clone shares the parameters.
///
/// ```
/// use isograd::{DType, Tensor};
/// use isograd::nn::{Activation, Block, Dense, Parameters, initializers::Normal};
/// let ctx = isograd::device("cpu")?;
/// let layer = Dense::new(3).activation(Activation::Tanh);
/// layer.initialize(Normal { sigma: 0.1 }, &ctx)?;
/// let x = Tensor::ones(&ctx, [2, 4, 5], DType::F32)?;
/// assert_eq!(layer.forward(&x)?.shape(), &[2, 3]);
/// assert_eq!(layer.weight().data()?.shape(), &[3, 20]);
/// # Ok::<(), isograd::Error>(())
/// ```
///
/// A layer can be given the parameters of another, such as an embedding's table:
///
/// ```
/// use isograd::nn::{Dense, Embedding};
/// let table: Embedding = Embedding::new(100, 8);
/// let scores = Dense::new(100).use_bias(false).with_weight(table.weight());
/// assert!(scores.weight().is(table.weight()));
/// let error = Dense::new(99).with_weight(table.weight()).weight().data().unwrap_err().to_string();
/// assert!(error.contains("(100, 8)") && error.contains("(99, ?)"), "{error}");
/// ```
#[derive(Clone)]
pub struct Dense<B: Backend = Dyn> {
    units: usize,
    flatten: bool,
    activation: Option<Activation>,
    weight: Parameter<B>,
    bias: Option<Parameter<B>>,
}

impl<B: Backend> Dense<B> {
    /// A layer of `units` outputs, with bias and without activation.
    pub fn new(units: usize) -> Dense<B> {
        let prefix = naming::prefix("dense");
        Dense {
            units,
            flatten: true,
            activation: None,
            weight: Parameter::new(format!("{prefix}weight"), &[Some(units), None]),
            bias: Some(Parameter::new(format!("{prefix}bias"), &[Some(units)]).with_initializer(Zero)),
        }
    }

    /// Ends the layer with `activation`.
    #[must_use]
    pub fn activation(mut self, activation: Activation) -> Self {
        self.activation = Some(activation);
        self
    }

    /// Whether all axes but the first are flattened to one (the default); if not, the layer works on the last axis.
    #[must_use]
    pub fn flatten(mut self, flatten: bool) -> Self {
        self.flatten = flatten;
        self
    }

    /// The number of inputs, so that the shape is known before the first batch.
    #[must_use]
    pub fn in_units(mut self, in_units: usize) -> Self {
        self.weight = self.weight.shaped(&[Some(self.units), Some(in_units)]);
        self
    }

    /// Whether there is a bias (the default).
    #[must_use]
    pub fn use_bias(mut self, use_bias: bool) -> Self {
        if !use_bias {
            self.bias = None;
        } else if self.bias.is_none() {
            let bias = self.weight.sibling("weight", "bias", &[Some(self.units)]);
            self.bias = Some(bias.with_initializer(Zero));
        }
        self
    }

    /// The dtype of the parameters; that of the input must be the same.
    #[must_use]
    pub fn dtype(mut self, dtype: DType) -> Self {
        self.weight = self.weight.with_dtype(dtype);
        self.bias = self.bias.map(|b| b.with_dtype(dtype));
        self
    }

    /// Uses the parameters of `other`: gradients add up, and a step changes both layers.
    #[must_use]
    pub fn share(mut self, other: &Dense<B>) -> Self {
        self.weight = other.weight.clone();
        self.bias = other.bias.clone();
        self.units = other.units;
        self
    }

    /// W, `[units, in_units]`.
    pub fn weight(&self) -> &Parameter<B> {
        &self.weight
    }
}

weight_and_bias!(impl [B: Backend] Dense<B>, units);

impl<B: Backend> Parameters<B> for Dense<B> {
    fn visit(&self, visitor: &mut dyn Visitor<B>) {
        visitor.child("weight", &self.weight);
        if let Some(bias) = &self.bias {
            visitor.child("bias", bias);
        }
    }

    fn label(&self) -> Option<String> {
        let inputs = self.weight.partial_shape()[1].map_or("None".into(), |n| n.to_string());
        let end = self.activation.map_or("linear".into(), |a| a.to_string());
        Some(format!("Dense({inputs} -> {}, {end})", self.units))
    }
}

impl<B: Backend> Block<B> for Dense<B> {
    fn forward(&self, x: &Tensor<B>) -> Result<Tensor<B>> {
        hooks::layer(self, x, || self.compute(x))
    }
}

impl<B: Backend> Dense<B> {
    fn compute(&self, x: &Tensor<B>) -> Result<Tensor<B>> {
        if x.rank() == 0 {
            return Err(Error::InvalidShape {
                op: "Dense",
                shape: x.shape().clone(),
                why: "the input needs a batch axis: [batch, ..]".into(),
                device: x.ctx().name(),
            });
        }
        let x = match (self.flatten, x.rank()) {
            (true, rank) if rank != 2 => {
                let inputs: usize = x.shape()[1..].iter().product();
                x.reshape(&Shape::from([x.shape()[0], inputs]))?
            }
            _ => x.clone(),
        };
        let weight = self.weight.bind(x.ctx(), &[self.units, x.shape()[x.rank() - 1]])?;
        let bias = self.bias.as_ref().map(|b| b.bind(x.ctx(), &[self.units])).transpose()?;
        linear(&x, &weight, bias.as_ref(), self.activation)
    }
}

print_blocks! {
    impl [B: Backend] Dense<B>;
}
