//! A container equal to [`isograd::nn::Sequential`], with public API alone.

use isograd::{nn::Visitor, prelude::*};

/// Blocks one after another.
pub struct MySequential<B: Backend = Dyn> {
    blocks: Vec<Box<dyn Block<B>>>,
}

impl<B: Backend> MySequential<B> {
    /// The given blocks.
    pub fn new(blocks: Vec<Box<dyn Block<B>>>) -> MySequential<B> {
        MySequential { blocks }
    }
}

/// By hand rather than derived, so that paths are `0.weight` and not `blocks.0.weight`.
impl<B: Backend> Parameters<B> for MySequential<B> {
    fn visit(&self, visitor: &mut dyn Visitor<B>) {
        self.blocks.visit(visitor);
    }

    fn label(&self) -> Option<String> {
        Some("MySequential".into())
    }
}

impl<B: Backend> Block<B> for MySequential<B> {
    fn forward(&self, x: &Tensor<B>) -> Result<Tensor<B>> {
        self.blocks.iter().try_fold(x.clone(), |x, block| block.call(&x))
    }
}
