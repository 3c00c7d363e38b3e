//! AlexNet.

use super::{Options, chain};
use crate::{
    Activation, AdaptiveAvgPool2D, Block, Conv2D, Dense, Dropout, MaxPool2D, Parameters, Sequential,
    describe::print_blocks, hooks,
};
use isograd_core::{Backend, Dyn, Result, Tensor};

/// Krizhevsky's network in its one-column form (arXiv:1404.5997), as in torchvision; made by [`alexnet`].
#[derive(Clone, Parameters)]
pub struct AlexNet<B: Backend = Dyn> {
    features: Sequential<B>,
    avgpool: AdaptiveAvgPool2D,
    classifier: Sequential<B>,
}

/// [`AlexNet`], for pictures of at least 63 pixels a side.
pub fn alexnet<B: Backend>(options: impl Into<Options>) -> AlexNet<B> {
    let Options { classes, in_channels } = options.into();
    let conv = |inputs, outputs, kernel: usize| Conv2D::new(outputs, kernel).padding(kernel / 2).in_channels(inputs);
    AlexNet {
        features: chain![
            Conv2D::new(64, 11).strides(4).padding(2).in_channels(in_channels),
            Activation::Relu,
            MaxPool2D::new(3).strides(2),
            conv(64, 192, 5),
            Activation::Relu,
            MaxPool2D::new(3).strides(2),
            conv(192, 384, 3),
            Activation::Relu,
            conv(384, 256, 3),
            Activation::Relu,
            conv(256, 256, 3),
            Activation::Relu,
            MaxPool2D::new(3).strides(2),
        ],
        avgpool: AdaptiveAvgPool2D::new(6),
        classifier: chain![
            Dropout::new(0.5),
            Dense::new(4096).in_units(256 * 6 * 6),
            Activation::Relu,
            Dropout::new(0.5),
            Dense::new(4096).in_units(4096),
            Activation::Relu,
            Dense::new(classes).in_units(4096),
        ],
    }
}

impl<B: Backend> Block<B> for AlexNet<B> {
    fn forward(&self, x: &Tensor<B>) -> Result<Tensor<B>> {
        hooks::layer(self, x, || self.classifier.call(&self.avgpool.call(&self.features.call(x)?)?))
    }
}

print_blocks! {
    debug impl [B: Backend] AlexNet<B>;
}
