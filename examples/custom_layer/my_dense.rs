//! Layers with public API alone: one without parameters, and one equal to [`isograd::nn::Dense`].

use isograd::{
    nn::{initializers::Zero, naming::NameScope},
    prelude::*,
};

/// x minus its mean.
#[derive(Parameters)]
pub struct CenteredLayer;

impl<B: Backend> Block<B> for CenteredLayer
where
    CenteredLayer: Parameters<B>,
{
    fn forward(&self, x: &Tensor<B>) -> Result<Tensor<B>> {
        x.sub(&x.mean((), false)?)
    }
}

/// relu(x Wᵀ + b) or x Wᵀ + b for `[batch, inputs]`; the number of inputs is that of the first batch.
#[derive(Parameters)]
pub struct MyDense<B: Backend = Dyn> {
    pub weight: Parameter<B>,
    pub bias: Parameter<B>,
    units: usize,
    relu: bool,
}

impl<B: Backend> MyDense<B> {
    /// A layer of `units` outputs.
    pub fn new(units: usize) -> MyDense<B> {
        let names = NameScope::of("mydense");
        MyDense {
            weight: Parameter::new(names.name("weight"), &[Some(units), None]),
            bias: Parameter::new(names.name("bias"), &[Some(units)]).with_initializer(Zero),
            units,
            relu: false,
        }
    }

    /// Ends the layer with max(x, 0).
    #[must_use]
    pub fn relu(mut self) -> Self {
        self.relu = true;
        self
    }
}

impl<B: Backend> Block<B> for MyDense<B> {
    fn forward(&self, x: &Tensor<B>) -> Result<Tensor<B>> {
        let &[_, inputs] = &x.shape()[..] else {
            return Err(Error::invalid("MyDense", format!("the input must be [batch, inputs], not {:?}", x.shape())));
        };
        let weight = self.weight.bind(x.ctx(), &[self.units, inputs])?;
        let y = x.matmul(&weight.t()?)?.add(&self.bias.data_on(x.ctx())?)?;
        if self.relu { y.relu() } else { Ok(y) }
    }
}
