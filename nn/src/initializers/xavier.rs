//! [`Xavier`]: random numbers of a width that keeps the size of signals from layer to layer.

use super::Initializer;
use crate::options;
use isograd_core::{Backend, DType, Error, Result, Shape, Tensor};

/// From which distribution [`Xavier`] draws.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Random {
    /// Uniform in `-c..c`.
    #[default]
    Uniform,
    /// Normal of standard deviation c.
    Gaussian,
}

/// By which count [`Xavier`] scales.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Factor {
    /// The mean of inputs and outputs.
    #[default]
    Avg,
    /// The number of inputs.
    In,
    /// The number of outputs.
    Out,
}

/// Random numbers of width c = √(magnitude / factor), where factor counts inputs, outputs or their mean (Glorot and Bengio,
/// *Understanding the difficulty of training deep feedforward neural networks*, AISTATS 2010).
///
/// A weight `[out, in, kernel..]` has in × kernel inputs and out × kernel outputs.
///
/// ```
/// use isograd::nn::{Dense, Parameters, initializers::Xavier};
/// let ctx = isograd::device("cpu")?;
/// let layer = Dense::new(200).in_units(300);
/// layer.initialize(Xavier::default(), &ctx)?;
/// let largest = layer.weight().data()?.abs()?.max((), false)?.asscalar::<f64>()?;
/// assert!((largest - (3.0f64 / 250.0).sqrt()).abs() < 1e-4);
/// # Ok::<(), isograd::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Xavier {
    /// The distribution.
    pub rnd_type: Random,
    /// The count to scale by.
    pub factor_type: Factor,
    /// The numerator under the root.
    pub magnitude: f64,
}

impl Default for Xavier {
    /// Uniform, by the mean of inputs and outputs, magnitude 3.
    fn default() -> Self {
        Xavier { rnd_type: Random::Uniform, factor_type: Factor::Avg, magnitude: 3.0 }
    }
}

impl<B: Backend> Initializer<B> for Xavier {
    fn initialize(&self, ctx: &B, name: &str, shape: &Shape, dtype: DType) -> Result<Tensor<B>> {
        options::not_negative("Xavier", "magnitude", self.magnitude)?;
        let [outputs, inputs, kernel @ ..] = &shape[..] else {
            let why = format!("Xavier needs a shape of at least two axes, [out, in, ..], not {shape:?}");
            return Err(Error::Parameter { name: name.to_string(), why });
        };
        let kernel = kernel.iter().product::<usize>() as f64;
        let (inputs, outputs) = (*inputs as f64 * kernel, *outputs as f64 * kernel);
        let factor = match self.factor_type {
            Factor::Avg => (inputs + outputs) / 2.0,
            Factor::In => inputs,
            Factor::Out => outputs,
        };
        let width = if factor > 0.0 { (self.magnitude / factor).sqrt() } else { 0.0 };
        match self.rnd_type {
            Random::Uniform => Tensor::uniform(ctx, shape, -width, width, dtype),
            Random::Gaussian => Tensor::normal(ctx, shape, 0.0, width, dtype),
        }
    }
}

/// [`Xavier`] for layers before a PReLU of the given slope: normal numbers of magnitude 2 / (1 + slope²) (He et al.,
/// arXiv:1502.01852). Slope 0 and [`Factor::In`] are He's initialization for ReLU, [`MSRAPrelu::he`].
///
/// ```
/// use isograd::nn::{Dense, Parameters, initializers::MSRAPrelu};
/// let ctx = isograd::device("cpu")?;
/// let layer = Dense::new(200).in_units(300);
/// layer.initialize(MSRAPrelu::he(), &ctx)?;
/// let deviation = layer.weight().data()?.std((), false, 0)?.asscalar::<f64>()?;
/// assert!((deviation - (2.0f64 / 300.0).sqrt()).abs() < 2e-3);
/// # Ok::<(), isograd::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MSRAPrelu {
    /// The count to scale by.
    pub factor_type: Factor,
    /// The slope of the activation below 0.
    pub slope: f64,
}

impl Default for MSRAPrelu {
    /// By the mean of inputs and outputs, slope 0.25.
    fn default() -> Self {
        MSRAPrelu { factor_type: Factor::Avg, slope: 0.25 }
    }
}

impl MSRAPrelu {
    /// For ReLU: by the inputs, slope 0.
    pub fn he() -> MSRAPrelu {
        MSRAPrelu { factor_type: Factor::In, slope: 0.0 }
    }
}

impl<B: Backend> Initializer<B> for MSRAPrelu {
    fn initialize(&self, ctx: &B, name: &str, shape: &Shape, dtype: DType) -> Result<Tensor<B>> {
        let magnitude = 2.0 / (1.0 + self.slope * self.slope);
        let xavier = Xavier { rnd_type: Random::Gaussian, factor_type: self.factor_type, magnitude };
        xavier.initialize(ctx, name, shape, dtype)
    }
}
