//! [`Identity`], [`Bilinear`] and [`LSTMBias`]: values that follow from the shape.

use super::Initializer;
use isograd_core::{Backend, DType, Error, Result, Shape, Tensor, host};

fn misfit(name: &str, what: &str, shape: &Shape) -> Error {
    Error::Parameter { name: name.to_string(), why: format!("{what}, not {shape:?}") }
}

/// Ones where the first two indices are equal, in the middle of the kernel if there is one: a layer that hands its input on.
/// The value is a factor.
///
/// ```
/// use isograd::nn::{Dense, Parameters, initializers::Identity};
/// let ctx = isograd::device("cpu")?;
/// let layer = Dense::new(2).in_units(3);
/// layer.initialize(Identity::default(), &ctx)?;
/// assert_eq!(layer.weight().data()?.to_vec::<f32>()?, [1.0, 0.0, 0.0, 0.0, 1.0, 0.0]);
/// # Ok::<(), isograd::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Identity(pub f64);

impl Default for Identity {
    /// Ones.
    fn default() -> Self {
        Identity(1.0)
    }
}

impl<B: Backend> Initializer<B> for Identity {
    fn initialize(&self, ctx: &B, name: &str, shape: &Shape, dtype: DType) -> Result<Tensor<B>> {
        let [rows, columns, kernel @ ..] = &shape[..] else {
            return Err(misfit(name, "Identity needs a shape of at least two axes", shape));
        };
        let window: usize = kernel.iter().product();
        let middle = kernel.iter().fold(0, |at, &n| at * n + n / 2);
        let mut values = host::reserve("Identity", shape.size())?;
        values.resize(shape.size(), 0.0);
        if window > 0 {
            (0..*rows.min(columns)).for_each(|i| values[(i * columns + i) * window + middle] = self.0);
        }
        Tensor::from_slice::<f64>(ctx, &values, shape)?.cast(dtype)
    }
}

/// The kernel of bilinear interpolation, for transposed convolutions `[channels, .., height, width]` that enlarge pictures.
///
/// ```
/// use isograd::DType;
/// use isograd::nn::initializers::{Bilinear, Initializer};
/// let ctx = isograd::device("cpu")?;
/// let kernel = Bilinear.initialize(&ctx, "w", &[1, 1, 4, 4].into(), DType::F32)?;
/// assert_eq!(kernel.to_vec::<f32>()?[..4], [0.0625, 0.1875, 0.1875, 0.0625]);
/// # Ok::<(), isograd::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bilinear;

impl<B: Backend> Initializer<B> for Bilinear {
    fn initialize(&self, ctx: &B, name: &str, shape: &Shape, dtype: DType) -> Result<Tensor<B>> {
        let [.., height, width] = shape[..] else {
            return Err(misfit(name, "Bilinear needs a shape that ends in height and width", shape));
        };
        // MXNet takes the scale of both axes from the width.
        let factor = (width as f64 / 2.0).ceil();
        let centre = (2.0 * factor - 1.0 - factor % 2.0) / (2.0 * factor);
        let tent = |i: usize| 1.0 - (i as f64 / factor - centre).abs();
        let mut values: Vec<f64> = host::reserve("Bilinear", shape.size())?;
        values.extend((0..shape.size()).map(|i| tent(i % width) * tent(i / width % height)));
        Tensor::from_slice(ctx, &values, shape)?.cast(dtype)
    }
}

/// For the bias of an LSTM, gates in the order input, forget, cell, output: `forget_bias` for the forget gate, which keeps
/// the state at first, and 0 for the others (Jozefowicz et al., ICML 2015).
///
/// ```
/// use isograd::DType;
/// use isograd::nn::initializers::{Initializer, LSTMBias};
/// let ctx = isograd::device("cpu")?;
/// let bias = LSTMBias::default().initialize(&ctx, "b", &[4].into(), DType::F32)?;
/// assert_eq!(bias.to_vec::<f32>()?, [0.0, 1.0, 0.0, 0.0]);
/// # Ok::<(), isograd::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LSTMBias {
    /// The value for the forget gate.
    pub forget_bias: f64,
}

impl Default for LSTMBias {
    fn default() -> Self {
        LSTMBias { forget_bias: 1.0 }
    }
}

impl<B: Backend> Initializer<B> for LSTMBias {
    fn initialize(&self, ctx: &B, name: &str, shape: &Shape, dtype: DType) -> Result<Tensor<B>> {
        if shape.len() != 1 || !shape[0].is_multiple_of(4) {
            return Err(misfit(name, "LSTMBias needs one axis of four gates", shape));
        }
        let gate = shape[0] / 4;
        let value = |i: usize| if (gate..2 * gate).contains(&i) { self.forget_bias } else { 0.0 };
        let mut values: Vec<f64> = host::reserve("LSTMBias", shape[0])?;
        values.extend((0..shape[0]).map(value));
        Tensor::from_slice(ctx, &values, shape)?.cast(dtype)
    }
}
