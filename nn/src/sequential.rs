//! [`Sequential`]: blocks one after another.

use crate::{Block, Parameters, Visitor, describe::print_blocks};
use isograd_core::{Backend, Dyn, Result, Tensor};
use std::{
    ops::{Index, RangeBounds},
    sync::Arc,
};

/// Blocks one after another: each gets the output of the one before.
///
/// ```
/// use isograd_nn::{Activation, Dense, Parameters, Sequential};
/// let mut net: Sequential = Sequential::new();
/// net.add(Dense::new(16)).add(Activation::Relu).add(Dense::new(2));
/// assert_eq!(net.len(), 3);
/// assert_eq!(net[1].label().as_deref(), Some("Activation(relu)"));
/// assert_eq!(net.collect_params().paths(), ["0.weight", "0.bias", "2.weight", "2.bias"]);
/// ```
#[derive(Clone)]
pub struct Sequential<B: Backend = Dyn> {
    blocks: Vec<Arc<dyn Block<B>>>,
}

impl<B: Backend> Default for Sequential<B> {
    fn default() -> Self {
        Sequential { blocks: Vec::new() }
    }
}

impl<B: Backend> Sequential<B> {
    /// No blocks: the output is the input.
    pub fn new() -> Sequential<B> {
        Sequential::default()
    }

    /// Appends a block.
    pub fn add(&mut self, block: impl Block<B> + 'static) -> &mut Self {
        self.blocks.push(Arc::new(block));
        self
    }

    /// The number of blocks.
    pub fn len(&self) -> usize {
        self.blocks.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.blocks.is_empty()
    }

    /// The block at `index`, if there is one.
    pub fn get(&self, index: usize) -> Option<&dyn Block<B>> {
        self.blocks.get(index).map(|b| &**b)
    }

    /// The blocks in order.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &dyn Block<B>> + ExactSizeIterator {
        self.blocks.iter().map(|b| &**b)
    }

    /// The blocks in `range`, shared with this network; a range beyond the end is cut there.
    #[must_use]
    pub fn slice(&self, range: impl RangeBounds<usize>) -> Sequential<B> {
        let inside = |i: &usize| range.contains(i);
        let blocks = self.blocks.iter().enumerate().filter(|(i, _)| inside(i)).map(|(_, b)| b.clone()).collect();
        Sequential { blocks }
    }
}

impl<B: Backend> Index<usize> for Sequential<B> {
    type Output = dyn Block<B>;

    /// The block at `index`.
    ///
    /// # Panics
    /// Panics when there is none; [`Sequential::get`] does not.
    fn index(&self, index: usize) -> &(dyn Block<B> + 'static) {
        &*self.blocks[index]
    }
}

impl<B: Backend> Parameters<B> for Sequential<B> {
    fn visit(&self, visitor: &mut dyn Visitor<B>) {
        self.blocks.visit(visitor);
    }

    fn label(&self) -> Option<String> {
        Some(if self.is_empty() { "Sequential(\n\n)".into() } else { "Sequential".into() })
    }
}

impl<B: Backend> Block<B> for Sequential<B> {
    fn forward(&self, x: &Tensor<B>) -> Result<Tensor<B>> {
        self.blocks.iter().try_fold(x.clone(), |x, block| block.forward(&x))
    }
}

print_blocks! {
    impl [B: Backend] Sequential<B>;
}
