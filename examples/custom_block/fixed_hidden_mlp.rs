//! The network of *Dive into Deep Learning* that no chain of layers can express: a constant weight, one layer used twice, and
//! a loop whose length depends on the data.

use isograd::{
    nn::{Constant, initializers::Uniform},
    prelude::*,
};

/// Input `[batch, features]`, output the sum of a `[batch, 20]` whose norm was brought below 1.
#[derive(Parameters)]
pub struct FixedHiddenMlp<B: Backend = Dyn> {
    pub rand_weight: Constant<B>,
    pub dense: Dense<B>,
}

impl<B: Backend> FixedHiddenMlp<B> {
    /// With a constant drawn when the network is initialized.
    pub fn new() -> FixedHiddenMlp<B> {
        FixedHiddenMlp {
            rand_weight: Constant::drawn("rand_weight", &[20, 20], Uniform { scale: 1.0 }),
            dense: Dense::new(20).activation(Activation::Relu),
        }
    }

    /// What is left of the norm after the loop, and what comes out.
    pub fn hidden(&self, x: &Tensor<B>) -> Result<Tensor<B>> {
        let x = self.dense.forward(x)?;
        let x = x.matmul(&self.rand_weight.data_on(x.ctx())?)?.add_scalar(1.0)?.relu()?;
        // The same layer, and thus the same parameters, again.
        let mut x = self.dense.forward(&x)?;
        while norm(&x)? > 1.0 {
            x = x.div_scalar(2.0)?;
        }
        if norm(&x)? < 0.8 {
            x = x.mul_scalar(10.0)?;
        }
        Ok(x)
    }
}

/// The Euclidean norm of all elements.
pub fn norm<B: Backend>(x: &Tensor<B>) -> Result<f32> {
    Ok(x.square()?.sum((), false)?.asscalar::<f32>()?.sqrt())
}

impl<B: Backend> Block<B> for FixedHiddenMlp<B> {
    fn forward(&self, x: &Tensor<B>) -> Result<Tensor<B>> {
        self.hidden(x)?.sum((), false)
    }
}
