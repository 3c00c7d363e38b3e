//! [`Sequential`]: blocks one after another.

use crate::{
    AnyBlock, Block, Parameters, Visitor,
    block::{child, located},
    describe::print_blocks,
    naming::NameScope,
};
use isograd_core::{Backend, Dyn, Error, Result, Tensor};
use std::ops::{Index, RangeBounds};

/// Blocks one after another: each gets the output of the one before.
///
/// ```
/// use isograd::nn::{Activation, Dense, Parameters, Sequential};
/// let mut net: Sequential = Sequential::new();
/// net.add(Dense::new(16)).add(Activation::Relu).add_named("output", Dense::new(2))?;
/// assert_eq!(net.len(), 3);
/// assert_eq!(net[1].label().as_deref(), Some("Activation(relu)"));
/// assert_eq!(net.collect_params().paths(), ["0.weight", "0.bias", "output.weight", "output.bias"]);
/// assert_eq!(net.slice(1..).len(), 2);
/// # Ok::<(), isograd::Error>(())
/// ```
///
/// Several blocks at once come from an iterator, of one type or boxed:
///
/// ```
/// use isograd::nn::{Activation, Block, Dense, Sequential};
/// let mlp: Sequential = [8, 4, 2].map(Dense::new).into_iter().collect();
/// let mixed: Vec<Box<dyn Block>> = vec![Box::new(Dense::new(3)), Box::new(Activation::Tanh)];
/// assert_eq!((mlp.len(), Sequential::from(mixed).len()), (3, 2));
/// ```
#[derive(Clone)]
pub struct Sequential<B: Backend = Dyn> {
    scope: NameScope,
    children: Children<B>,
}

impl<B: Backend> Default for Sequential<B> {
    fn default() -> Self {
        Sequential { scope: NameScope::of("sequential"), children: Children::default() }
    }
}

/// The blocks of a container. One without a name of its own is called by its place.
#[derive(Clone)]
pub(crate) struct Children<B: Backend>(Vec<(Option<String>, AnyBlock<B>)>);

impl<B: Backend> Default for Children<B> {
    fn default() -> Self {
        Children(Vec::new())
    }
}

impl<B: Backend> Children<B> {
    pub fn add(&mut self, block: impl Block<B> + 'static) {
        self.0.push((None, AnyBlock::new(block)));
    }

    pub fn add_named(&mut self, op: &'static str, name: &str, block: impl Block<B> + 'static) -> Result<()> {
        let why = if name.is_empty() || name.contains('.') || name.bytes().all(|b| b.is_ascii_digit()) {
            "a name is not empty, has no dots (they separate the parts of a path) and is no number (those are places)"
        } else if self.0.iter().any(|(n, _)| n.as_deref() == Some(name)) {
            "there is a block of this name already"
        } else {
            self.0.push((Some(name.to_string()), AnyBlock::new(block)));
            return Ok(());
        };
        Err(Error::invalid(op, format!("{name:?}: {why}")))
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn get(&self, index: usize) -> Option<&AnyBlock<B>> {
        self.0.get(index).map(|(_, block)| block)
    }

    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &AnyBlock<B>> + ExactSizeIterator {
        self.0.iter().map(|(_, block)| block)
    }

    pub fn visit(&self, visitor: &mut dyn Visitor<B>) {
        for (place, (name, block)) in self.0.iter().enumerate() {
            visitor.child(name.as_deref().unwrap_or(&place.to_string()), block);
        }
    }
}

impl<B: Backend> Sequential<B> {
    /// No blocks: the output is the input.
    pub fn new() -> Sequential<B> {
        Sequential::default()
    }

    /// No blocks, and names that begin with `prefix` for what [`Sequential::name_scope`] makes.
    ///
    /// ```
    /// use isograd::nn::{Dense, Parameters, Sequential};
    /// let mut net: Sequential = Sequential::with_prefix("model_");
    /// net.name_scope(|net| {
    ///     net.add(Dense::new(2));
    /// });
    /// assert_eq!(net.collect_params().names(), ["model_dense0_weight", "model_dense0_bias"]);
    /// ```
    pub fn with_prefix(prefix: &str) -> Sequential<B> {
        Sequential { scope: NameScope::new(prefix), children: Children::default() }
    }

    /// Runs `f`; the layers that it makes have names that begin with the prefix of this network. Gluon's `with
    /// net.name_scope()`.
    pub fn name_scope<R>(&mut self, f: impl FnOnce(&mut Self) -> R) -> R {
        self.scope.clone().enter(|| f(self))
    }

    /// Appends a block.
    pub fn add(&mut self, block: impl Block<B> + 'static) -> &mut Self {
        self.children.add(block);
        self
    }

    /// Appends a block that has `name` in paths instead of its place.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for a name that another block has, that has dots, or that is a number or empty.
    pub fn add_named(&mut self, name: &str, block: impl Block<B> + 'static) -> Result<&mut Self> {
        self.children.add_named("Sequential::add_named", name, block)?;
        Ok(self)
    }

    /// Puts a block before the one at `index`, or at the end. Blocks without a name that come after it get other paths.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for an index beyond the end.
    pub fn insert(&mut self, index: usize, block: impl Block<B> + 'static) -> Result<&mut Self> {
        if index > self.len() {
            return Err(self.out_of_range("Sequential::insert", index));
        }
        self.children.0.insert(index, (None, AnyBlock::new(block)));
        Ok(self)
    }

    /// Takes out the block at `index`. Blocks without a name that come after it get other paths.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for an index beyond the end.
    pub fn remove(&mut self, index: usize) -> Result<AnyBlock<B>> {
        if index >= self.len() {
            return Err(self.out_of_range("Sequential::remove", index));
        }
        Ok(self.children.0.remove(index).1)
    }

    fn out_of_range(&self, op: &'static str, index: impl std::fmt::Display) -> Error {
        Error::invalid(op, format!("there is no block {index}; there are {}, counted from 0", self.len()))
    }

    /// The number of blocks.
    pub fn len(&self) -> usize {
        self.children.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The block at `index`, counted from the end when negative; [`AnyBlock`] says what can be done with it.
    ///
    /// ```
    /// use isograd::nn::{Activation, Dense, Parameters, Sequential};
    /// let mut net: Sequential = Sequential::new();
    /// net.add(Dense::new(16)).add(Activation::Relu);
    /// assert_eq!(net.at(-1)?.label().as_deref(), Some("Activation(relu)"));
    /// assert!(net.at(2).is_err());
    /// # Ok::<(), isograd::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] when there is none.
    pub fn at(&self, index: isize) -> Result<&AnyBlock<B>> {
        let from_start = if index < 0 { index + self.len() as isize } else { index };
        let block = usize::try_from(from_start).ok().and_then(|i| self.children.get(i));
        block.ok_or_else(|| self.out_of_range("Sequential::at", index))
    }

    /// The block of this name.
    pub fn named(&self, name: &str) -> Option<&AnyBlock<B>> {
        self.children.0.iter().find(|(n, _)| n.as_deref() == Some(name)).map(|(_, block)| block)
    }

    /// The blocks in order.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &AnyBlock<B>> + ExactSizeIterator {
        self.children.iter()
    }

    /// The blocks in `range`, shared with this network; a range beyond the end is cut there.
    #[must_use]
    pub fn slice(&self, range: impl RangeBounds<usize>) -> Sequential<B> {
        let all = self.children.0.iter().enumerate();
        let children = Children(all.filter(|(i, _)| range.contains(i)).map(|(_, child)| child.clone()).collect());
        Sequential { scope: self.scope.clone(), children }
    }
}

impl<B: Backend, T: Block<B> + 'static> Extend<T> for Sequential<B> {
    fn extend<I: IntoIterator<Item = T>>(&mut self, blocks: I) {
        blocks.into_iter().for_each(|block| self.children.add(block));
    }
}

impl<B: Backend, T: Block<B> + 'static> FromIterator<T> for Sequential<B> {
    fn from_iter<I: IntoIterator<Item = T>>(blocks: I) -> Self {
        let mut net = Sequential::new();
        net.extend(blocks);
        net
    }
}

impl<B: Backend, T: Block<B> + 'static> From<Vec<T>> for Sequential<B> {
    fn from(blocks: Vec<T>) -> Self {
        blocks.into_iter().collect()
    }
}

impl<'a, B: Backend> IntoIterator for &'a Sequential<B> {
    type Item = &'a AnyBlock<B>;
    type IntoIter = std::vec::IntoIter<Self::Item>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter().collect::<Vec<_>>().into_iter()
    }
}

impl<B: Backend> Index<usize> for Sequential<B> {
    type Output = AnyBlock<B>;

    /// The block at `index`.
    ///
    /// # Panics
    /// Panics when there is none; [`Sequential::at`] does not.
    fn index(&self, index: usize) -> &AnyBlock<B> {
        child(self, index)
    }
}

impl<B: Backend> Parameters<B> for Sequential<B> {
    fn visit(&self, visitor: &mut dyn Visitor<B>) {
        self.children.visit(visitor);
    }

    fn label(&self) -> Option<String> {
        Some(if self.is_empty() { "Sequential(\n\n)".into() } else { "Sequential".into() })
    }

    fn prefix(&self) -> String {
        self.scope.prefix().to_string()
    }
}

impl<B: Backend> Block<B> for Sequential<B> {
    fn forward(&self, x: &Tensor<B>) -> Result<Tensor<B>> {
        crate::hooks::layer(self, x, || {
            let all = self.iter().try_fold(x.clone(), |x, block| block.call(&x));
            all.map_err(|e| located(e, self))
        })
    }

    fn child(&self, index: usize) -> Option<&AnyBlock<B>> {
        self.children.get(index)
    }
}

print_blocks! {
    impl [B: Backend] Sequential<B>;
}
