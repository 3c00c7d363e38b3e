//! Network in Network.

use super::{Options, chain};
use crate::{Activation, Conv2D, Dropout, Flatten, GlobalAvgPool2D, MaxPool2D, Sequential};
use isograd_core::Backend;

/// A convolution and two of one pixel, which are a small network at each place.
fn mlpconv<B: Backend>(inputs: usize, spatial: Conv2D<B>, channels: [usize; 3]) -> Sequential<B> {
    let one = |inputs, outputs| Conv2D::new(outputs, 1).in_channels(inputs).activation(Activation::Relu);
    chain![
        spatial.in_channels(inputs).activation(Activation::Relu),
        one(channels[0], channels[1]),
        one(channels[1], channels[2])
    ]
}

/// Lin, Chen and Yan's Network in Network (arXiv:1312.4400), in the form for ImageNet that its authors published for Caffe:
/// a classifier of means over the picture instead of dense layers. For pictures of at least 67 pixels a side.
///
/// ```
/// use isograd::nn::{Sequential, zoo};
/// let net: Sequential = zoo::nin(1000);
/// assert_eq!(zoo::parameter_count(&net)?, 7_595_176);
/// # Ok::<(), isograd::Error>(())
/// ```
pub fn nin<B: Backend>(options: impl Into<Options>) -> Sequential<B> {
    let Options { classes, in_channels } = options.into();
    let pool = || MaxPool2D::new(3).strides(2);
    chain![
        mlpconv(in_channels, Conv2D::new(96, 11).strides(4), [96; 3]),
        pool(),
        mlpconv(96, Conv2D::new(256, 5).padding(2), [256; 3]),
        pool(),
        mlpconv(256, Conv2D::new(384, 3).padding(1), [384; 3]),
        pool(),
        Dropout::new(0.5),
        mlpconv(384, Conv2D::new(1024, 3).padding(1), [1024, 1024, classes]),
        GlobalAvgPool2D::new(),
        Flatten,
    ]
}
