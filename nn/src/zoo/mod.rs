//! Well-known networks, one family a file.
//!
//! Those for pictures `[batch, channels, height, width]` are as in torchvision, which is where their parameter counts and
//! weights are published, down to the names: the structural path of a parameter is PyTorch's name, but for what
//! [`torch_name`] says, so that weights exported from PyTorch load with [`torch_options`]. [`book`] has the variants of *Dive into Deep Learning*. [`Options`] say how many classes and input
//! channels there are; a number of classes alone will do. Input channels are given, so that all shapes are known, and can be
//! counted by [`parameter_count`], before the first batch.
//!
//! ```
//! use isograd::{DType, Tensor};
//! use isograd::nn::{Block, Parameters, initializers::MSRAPrelu, zoo};
//! let ctx = isograd::device("cpu")?;
//! let net = zoo::mobilenet_v2(10, 0.35);
//! net.initialize(MSRAPrelu::he(), &ctx)?;
//! let x = Tensor::ones(&ctx, [1, 3, 32, 32], DType::F32)?;
//! assert_eq!(net.forward(&x)?.shape(), &[1, 10]);
//! # Ok::<(), isograd::Error>(())
//! ```
//!
//! To add a family: a file here, with fields named as in the best-known implementation, a row in `tests/zoo.rs` with the
//! published count and its source, and a step in the example `cnn_zoo`.

mod alexnet;
pub mod book;
mod densenet;
mod googlenet;
mod gpt;
mod head;
mod lenet;
mod lstm;
mod mobilenet;
mod nin;
mod resnet;
mod torch;
mod vgg;

pub use alexnet::{AlexNet, alexnet};
pub use densenet::{DenseNet, DenseNetConfig, densenet121, densenet161, densenet169, densenet201};
pub use googlenet::{GoogLeNet, googlenet};
pub use gpt::{Gpt, GptConfig};
pub use lenet::lenet;
pub use lstm::{LstmLanguageModel, LstmLanguageModelConfig};
pub use mobilenet::{MobileNetV1, MobileNetV2, mobilenet_v1, mobilenet_v2};
pub use nin::nin;
pub use resnet::{
    ResNet, ResNetConfig, ResNetVersion, resnet18, resnet18_v2, resnet34, resnet34_v2, resnet50, resnet50_v2,
    resnet101, resnet101_v2, resnet152, resnet152_v2,
};
pub use torch::{torch_name, torch_options};
pub use vgg::{Vgg, VggDepth, vgg, vgg11, vgg11_bn, vgg13, vgg13_bn, vgg16, vgg16_bn, vgg19, vgg19_bn};

use crate::{Conv2D, Parameters};
use isograd_core::{Backend, GradReq, Result};

/// What the networks for pictures have in common.
///
/// ```
/// use isograd::nn::zoo::Options;
/// let digits = Options::new(10).in_channels(1);
/// assert_eq!((Options::default().classes, Options::from(10).in_channels), (1000, 3));
/// assert_eq!((digits.classes, digits.in_channels), (10, 1));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// How many scores the network gives.
    pub classes: usize,
    /// How many channels a picture has.
    pub in_channels: usize,
}

impl Options {
    /// So many classes of pictures with three channels.
    pub fn new(classes: usize) -> Options {
        Options { classes, in_channels: 3 }
    }

    /// Of pictures with so many channels.
    #[must_use]
    pub fn in_channels(self, in_channels: usize) -> Options {
        Options { in_channels, ..self }
    }
}

impl Default for Options {
    /// ImageNet's 1000 classes of pictures with three channels.
    fn default() -> Self {
        Options::new(1000)
    }
}

impl From<usize> for Options {
    /// So many classes of pictures with three channels.
    fn from(classes: usize) -> Options {
        Options::new(classes)
    }
}

/// How many numbers are trained: the elements of all parameters that want a gradient, each shared one once, counted from
/// their shapes without giving them values. Running statistics do not count.
///
/// ```
/// use isograd::nn::zoo::{self, ResNet};
/// let net: ResNet = zoo::resnet18(1000);
/// assert_eq!(zoo::parameter_count(&net)?, 11_689_512);
/// # Ok::<(), isograd::Error>(())
/// ```
///
/// # Errors
/// [`isograd_core::Error::Uninitialized`] while a dimension is unknown; pass one batch first.
pub fn parameter_count<B: Backend>(network: &dyn Parameters<B>) -> Result<usize> {
    let parameters = network.collect_params().unique();
    let trained = parameters.iter().filter(|(_, p)| p.grad_req() != GradReq::Null);
    trained.map(|(_, p)| Ok(p.shape()?.iter().product::<usize>())).sum()
}

/// Blocks one after another.
macro_rules! chain {
    ($($block:expr),* $(,)?) => {{
        let mut net = $crate::Sequential::new();
        $(net.add($block);)*
        net
    }};
}
use chain;

/// A convolution before a batch normalization, hence without bias; padded so that stride 1 keeps the size.
fn conv<B: Backend>(inputs: usize, outputs: usize, kernel: usize, stride: usize) -> Conv2D<B> {
    Conv2D::new(outputs, kernel).strides(stride).padding(kernel / 2).in_channels(inputs).use_bias(false)
}
