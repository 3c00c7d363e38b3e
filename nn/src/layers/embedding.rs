//! [`Embedding`]: a vector for each number.

use crate::{Block, Initializer, Parameter, Parameters, Visitor, describe::print_blocks, hooks, labels::Whole, naming};
use isograd_core::{Backend, DType, Dyn, Result, Tensor};

/// Rows of a table `[input_dim, output_dim]`: indices `[..]` of any number dtype become `[.., output_dim]`. An index that is
/// negative, fractional or too large is an error that names it; to see that, the layer waits for the device. A clone shares the
/// parameter.
///
/// ```
/// use isograd::Tensor;
/// use isograd::nn::{Block, Embedding, Parameters, initializers::Identity};
/// let ctx = isograd::device("cpu")?;
/// let layer = Embedding::new(3, 2);
/// layer.initialize(Identity::default(), &ctx)?;
/// let words = Tensor::from_slice(&ctx, &[1i64, 0], [2])?;
/// assert_eq!(layer.forward(&words)?.to_vec::<f32>()?, [0.0, 1.0, 1.0, 0.0]);
/// # Ok::<(), isograd::Error>(())
/// ```
#[derive(Clone)]
pub struct Embedding<B: Backend = Dyn> {
    input_dim: usize,
    output_dim: usize,
    weight: Parameter<B>,
}

impl<B: Backend> Embedding<B> {
    /// A table of `input_dim` vectors of `output_dim` elements.
    pub fn new(input_dim: usize, output_dim: usize) -> Self {
        let name = format!("{}weight", naming::prefix("embedding"));
        Embedding { input_dim, output_dim, weight: Parameter::new(name, &[Some(input_dim), Some(output_dim)]) }
    }

    /// The dtype of the table.
    #[must_use]
    pub fn dtype(mut self, dtype: DType) -> Self {
        self.weight = self.weight.with_dtype(dtype);
        self
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
        (self.input_dim, self.output_dim) = (other.input_dim, other.output_dim);
        self
    }

    /// Uses `weight`, such as that of another layer, in the place of its own: the two are one. Its shape must be that of this layer's.
    #[must_use]
    pub fn with_weight(mut self, weight: &Parameter<B>) -> Self {
        self.weight = self.weight.replaced(weight);
        self
    }

    /// The table, `[input_dim, output_dim]`.
    pub fn weight(&self) -> &Parameter<B> {
        &self.weight
    }
}

impl<B: Backend> Parameters<B> for Embedding<B> {
    fn visit(&self, visitor: &mut dyn Visitor<B>) {
        visitor.child("weight", &self.weight);
    }

    fn label(&self) -> Option<String> {
        let dtype = match self.weight.dtype() {
            DType::F64 => "float64",
            DType::F16 => "float16",
            DType::BF16 => "bfloat16",
            _ => "float32",
        };
        Some(format!("Embedding({} -> {}, {dtype})", self.input_dim, self.output_dim))
    }
}

impl<B: Backend> Block<B> for Embedding<B> {
    fn forward(&self, x: &Tensor<B>) -> Result<Tensor<B>> {
        hooks::layer(self, x, || {
            let rows = Whole::below("Embedding", "index", self.input_dim).check(x)?.numbers;
            self.weight.data_on(x.ctx())?.embedding(&rows)
        })
    }
}

print_blocks! {
    impl [B: Backend] Embedding<B>;
}
