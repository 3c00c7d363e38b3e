//! LeNet.

use super::{Options, chain};
use crate::{Activation, Conv2D, Dense, MaxPool2D, Sequential};
use isograd_core::Backend;

/// LeCun's network for digits (*Gradient-based learning applied to document recognition*, 1998) with rectified units and max
/// pooling; [`super::book::lenet`] has sigmoids and mean pooling. Any picture of at least 12 pixels a side will do; the first
/// batch fixes its size.
///
/// ```
/// use isograd::{DType, Tensor};
/// use isograd::nn::{Block, Parameters, initializers::Xavier, zoo::{self, Options}};
/// let ctx = isograd::device("cpu")?;
/// let net = zoo::lenet(Options::new(10).in_channels(1));
/// net.initialize(Xavier::default(), &ctx)?;
/// assert_eq!(net.forward(&Tensor::ones(&ctx, [2, 1, 28, 28], DType::F32)?)?.shape(), &[2, 10]);
/// assert_eq!(zoo::parameter_count(&net)?, 61_706);
/// # Ok::<(), isograd::Error>(())
/// ```
pub fn lenet<B: Backend>(options: impl Into<Options>) -> Sequential<B> {
    let Options { classes, in_channels } = options.into();
    chain![
        Conv2D::new(6, 5).padding(2).in_channels(in_channels).activation(Activation::Relu),
        MaxPool2D::new(2),
        Conv2D::new(16, 5).in_channels(6).activation(Activation::Relu),
        MaxPool2D::new(2),
        Dense::new(120).activation(Activation::Relu),
        Dense::new(84).in_units(120).activation(Activation::Relu),
        Dense::new(classes).in_units(84),
    ]
}
