//! MobileNet, versions 1 and 2.

use super::{Options, chain};
use crate::{
    Activation, BatchNorm, Block, Dense, Dropout, GlobalAvgPool2D, Parameters, Sequential, describe::print_blocks,
    hooks,
};
use isograd_core::{Backend, Dyn, Result, Tensor};

/// Convolution, normalization, activation; with one group per channel when `depthwise`.
fn unit<B: Backend>(
    inputs: usize,
    outputs: usize,
    kernel: usize,
    stride: usize,
    depthwise: bool,
    activation: Activation,
) -> Sequential<B> {
    let conv = super::conv(inputs, outputs, kernel, stride).groups(if depthwise { inputs } else { 1 });
    chain![conv, BatchNorm::new().in_channels(outputs), activation]
}

/// Howard et al.'s network of depthwise convolutions (arXiv:1704.04861); made by [`mobilenet_v1`].
#[derive(Clone, Parameters)]
pub struct MobileNetV1<B: Backend = Dyn> {
    features: Sequential<B>,
    classifier: Dense<B>,
}

/// [`MobileNetV1`] with all channels times `width`, rounded down as in Gluon.
///
/// ```
/// use isograd::nn::zoo::{self, MobileNetV1};
/// let net: MobileNetV1 = zoo::mobilenet_v1(1000, 1.0);
/// assert_eq!(zoo::parameter_count(&net)?, 4_231_976);
/// # Ok::<(), isograd::Error>(())
/// ```
pub fn mobilenet_v1<B: Backend>(options: impl Into<Options>, width: f64) -> MobileNetV1<B> {
    let Options { classes, in_channels } = options.into();
    let scaled = |channels: usize| ((channels as f64 * width) as usize).max(1);
    let mut inputs = scaled(32);
    let mut features = chain![unit(in_channels, inputs, 3, 2, false, Activation::Relu)];
    let many = [(512, 1); 5];
    let layers = [(64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2)].into_iter();
    for (outputs, stride) in layers.chain(many).chain([(1024, 2), (1024, 1)]) {
        let outputs = scaled(outputs);
        features.add(unit(inputs, inputs, 3, stride, true, Activation::Relu));
        features.add(unit(inputs, outputs, 1, 1, false, Activation::Relu));
        inputs = outputs;
    }
    MobileNetV1 { features, classifier: Dense::new(classes).in_units(inputs) }
}

impl<B: Backend> Block<B> for MobileNetV1<B> {
    fn forward(&self, x: &Tensor<B>) -> Result<Tensor<B>> {
        hooks::layer(self, x, || self.classifier.call(&GlobalAvgPool2D::new().forward(&self.features.call(x)?)?))
    }
}

/// Sandler et al.'s network of inverted residuals with linear bottlenecks (arXiv:1801.04381), as in torchvision; made by
/// [`mobilenet_v2`].
#[derive(Clone, Parameters)]
pub struct MobileNetV2<B: Backend = Dyn> {
    features: Sequential<B>,
    classifier: Sequential<B>,
}

/// Few channels, many, few; beside a shortcut where the shape stays.
#[derive(Clone, Parameters)]
struct InvertedResidual<B: Backend> {
    shortcut: bool,
    conv: Sequential<B>,
}

impl<B: Backend> InvertedResidual<B> {
    fn new(inputs: usize, outputs: usize, stride: usize, expansion: usize) -> Self {
        let inner = inputs * expansion;
        let mut conv = Sequential::new();
        if expansion != 1 {
            conv.add(unit(inputs, inner, 1, 1, false, Activation::Relu6));
        }
        conv.add(unit(inner, inner, 3, stride, true, Activation::Relu6))
            .add(super::conv::<B>(inner, outputs, 1, 1))
            .add(BatchNorm::new().in_channels(outputs));
        InvertedResidual { shortcut: stride == 1 && inputs == outputs, conv }
    }
}

impl<B: Backend> Block<B> for InvertedResidual<B> {
    fn forward(&self, x: &Tensor<B>) -> Result<Tensor<B>> {
        let y = self.conv.call(x)?;
        if self.shortcut { x.add(&y) } else { Ok(y) }
    }
}

/// The nearest multiple of 8, at least 8, that is not below nine tenths.
fn divisible(channels: f64) -> usize {
    let near = (((channels + 4.0) as usize) / 8 * 8).max(8);
    if (near as f64) < 0.9 * channels { near + 8 } else { near }
}

/// [`MobileNetV2`] with all channels times `width`, rounded to multiples of 8.
pub fn mobilenet_v2<B: Backend>(options: impl Into<Options>, width: f64) -> MobileNetV2<B> {
    let Options { classes, in_channels } = options.into();
    let scaled = |channels: usize| divisible(channels as f64 * width);
    let mut inputs = scaled(32);
    let mut features = chain![unit(in_channels, inputs, 3, 2, false, Activation::Relu6)];
    // Expansion, channels, blocks, stride of the first.
    let stages =
        [(1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)];
    for (expansion, channels, count, stride) in stages {
        for block in 0..count {
            let outputs = scaled(channels);
            features.add(InvertedResidual::new(inputs, outputs, if block == 0 { stride } else { 1 }, expansion));
            inputs = outputs;
        }
    }
    let last = divisible(1280.0 * width.max(1.0));
    features.add(unit(inputs, last, 1, 1, false, Activation::Relu6));
    MobileNetV2 { features, classifier: chain![Dropout::new(0.2), Dense::new(classes).in_units(last)] }
}

impl<B: Backend> Block<B> for MobileNetV2<B> {
    fn forward(&self, x: &Tensor<B>) -> Result<Tensor<B>> {
        hooks::layer(self, x, || self.classifier.call(&GlobalAvgPool2D::new().forward(&self.features.call(x)?)?))
    }
}

print_blocks! {
    debug impl [B: Backend] MobileNetV1<B>;
    debug impl [B: Backend] MobileNetV2<B>;
}
