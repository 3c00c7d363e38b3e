//! The networks of *Dive into Deep Learning*, where they differ from the published ones: for small grey pictures, ten classes,
//! and with sizes that the first batch fixes.
//!
//! ```
//! use isograd::{DType, Tensor};
//! use isograd::nn::{Block, Parameters, initializers::Xavier, zoo::book};
//! let ctx = isograd::device("cpu")?;
//! let net = book::lenet(10);
//! net.initialize(Xavier::default(), &ctx)?;
//! assert_eq!(net.forward(&Tensor::ones(&ctx, [1, 1, 28, 28], DType::F32)?)?.shape(), &[1, 10]);
//! # Ok::<(), isograd::Error>(())
//! ```

use super::chain;
use crate::{
    Activation, AvgPool2D, BatchNorm, Block, Conv2D, Dense, Dropout, Flatten, GlobalAvgPool2D, MaxPool2D, Parameters,
    Sequential,
};
use isograd_core::{Backend, Result, Tensor};

fn conv<B: Backend>(channels: usize, kernel: usize) -> Conv2D<B> {
    Conv2D::new(channels, kernel).padding(kernel / 2).activation(Activation::Relu)
}

fn pool() -> MaxPool2D {
    MaxPool2D::new(3).strides(2)
}

/// LeNet with sigmoids and mean pooling, 61,706 parameters on 28 × 28 pixels.
pub fn lenet<B: Backend>(classes: usize) -> Sequential<B> {
    chain![
        Conv2D::new(6, 5).padding(2).activation(Activation::Sigmoid),
        AvgPool2D::new(2),
        Conv2D::new(16, 5).activation(Activation::Sigmoid),
        AvgPool2D::new(2),
        Dense::new(120).activation(Activation::Sigmoid),
        Dense::new(84).activation(Activation::Sigmoid),
        Dense::new(classes),
    ]
}

/// AlexNet with the published channels on pictures of one channel, in one column.
pub fn alexnet<B: Backend>(classes: usize) -> Sequential<B> {
    let dense = || Dense::new(4096).activation(Activation::Relu);
    chain![
        Conv2D::new(96, 11).strides(4).activation(Activation::Relu),
        pool(),
        conv(256, 5),
        pool(),
        conv(384, 3),
        conv(384, 3),
        conv(256, 3),
        pool(),
        dense(),
        Dropout::new(0.5),
        dense(),
        Dropout::new(0.5),
        Dense::new(classes),
    ]
}

/// VGG of blocks of (convolutions, channels) each. The book's VGG-11 is
/// `[(1, 64), (1, 128), (2, 256), (2, 512), (2, 512)]`; to train it fast, it divides the channels by 4.
pub fn vgg<B: Backend>(blocks: &[(usize, usize)], classes: usize) -> Sequential<B> {
    let mut net = Sequential::new();
    for &(count, channels) in blocks {
        (0..count).for_each(|_| {
            net.add(conv(channels, 3));
        });
        net.add(MaxPool2D::new(2));
    }
    for _ in 0..2 {
        net.add(Dense::new(4096).activation(Activation::Relu)).add(Dropout::new(0.5));
    }
    net.add(Dense::new(classes));
    net
}

/// Network in Network whose last block gives the classes.
pub fn nin<B: Backend>(classes: usize) -> Sequential<B> {
    let block = |first: Conv2D<B>, channels: usize| {
        chain![first.activation(Activation::Relu), conv(channels, 1), conv(channels, 1)]
    };
    chain![
        block(Conv2D::new(96, 11).strides(4), 96),
        pool(),
        block(Conv2D::new(256, 5).padding(2), 256),
        pool(),
        block(Conv2D::new(384, 3).padding(1), 384),
        pool(),
        Dropout::new(0.5),
        block(Conv2D::new(classes, 3).padding(1), classes),
        GlobalAvgPool2D::new(),
        Flatten,
    ]
}

#[derive(Parameters)]
struct Inception<B: Backend> {
    paths: [Sequential<B>; 4],
}

fn inception<B: Backend>(a: usize, b: [usize; 2], c: [usize; 2], d: usize) -> Inception<B> {
    let paths = [
        chain![conv(a, 1)],
        chain![conv(b[0], 1), conv(b[1], 3)],
        chain![conv(c[0], 1), conv(c[1], 5)],
        chain![MaxPool2D::new(3).strides(1).padding(1), conv(d, 1)],
    ];
    Inception { paths }
}

impl<B: Backend> Block<B> for Inception<B> {
    fn forward(&self, x: &Tensor<B>) -> Result<Tensor<B>> {
        let outputs = self.paths.iter().map(|path| path.call(x)).collect::<Result<Vec<_>>>()?;
        Tensor::concat(&outputs.iter().collect::<Vec<_>>(), 1)
    }
}

/// GoogLeNet without normalization and without classifiers on the way.
pub fn googlenet<B: Backend>(classes: usize) -> Sequential<B> {
    let pool = || MaxPool2D::new(3).strides(2).padding(1);
    chain![
        chain![conv(64, 7).strides(2), pool()],
        chain![conv(64, 1), conv(192, 3), pool()],
        chain![inception(64, [96, 128], [16, 32], 32), inception(128, [128, 192], [32, 96], 64), pool()],
        chain![
            inception(192, [96, 208], [16, 48], 64),
            inception(160, [112, 224], [24, 64], 64),
            inception(128, [128, 256], [24, 64], 64),
            inception(112, [144, 288], [32, 64], 64),
            inception(256, [160, 320], [32, 128], 128),
            pool(),
        ],
        chain![
            inception(256, [160, 320], [32, 128], 128),
            inception(384, [192, 384], [48, 128], 128),
            GlobalAvgPool2D::new(),
        ],
        Dense::new(classes),
    ]
}

#[derive(Parameters)]
struct Residual<B: Backend> {
    conv1: Conv2D<B>,
    conv2: Conv2D<B>,
    conv3: Option<Conv2D<B>>,
    bn1: BatchNorm<B>,
    bn2: BatchNorm<B>,
}

impl<B: Backend> Residual<B> {
    fn new(channels: usize, halve: bool) -> Self {
        let stride = if halve { 2 } else { 1 };
        Residual {
            conv1: Conv2D::new(channels, 3).padding(1).strides(stride),
            conv2: Conv2D::new(channels, 3).padding(1),
            conv3: halve.then(|| Conv2D::new(channels, 1).strides(stride)),
            bn1: BatchNorm::new(),
            bn2: BatchNorm::new(),
        }
    }
}

impl<B: Backend> Block<B> for Residual<B> {
    fn forward(&self, x: &Tensor<B>) -> Result<Tensor<B>> {
        let y = self.bn1.call(&self.conv1.call(x)?)?.relu()?;
        let y = self.bn2.call(&self.conv2.call(&y)?)?;
        y.add(&self.conv3.as_ref().map_or(Ok(x.clone()), |conv| conv.call(x))?)?.relu()
    }
}

/// What ResNet and DenseNet begin with.
fn stem<B: Backend>() -> Sequential<B> {
    let conv = Conv2D::new(64, 7).strides(2).padding(3);
    chain![conv, BatchNorm::new(), Activation::Relu, MaxPool2D::new(3).strides(2).padding(1)]
}

/// ResNet-18 with biases in its convolutions, for 1 × 96 × 96 pixels.
pub fn resnet18<B: Backend>(classes: usize) -> Sequential<B> {
    let mut net = chain![stem()];
    for (stage, channels) in [64, 128, 256, 512].into_iter().enumerate() {
        net.add(chain![Residual::new(channels, stage > 0), Residual::new(channels, false)]);
    }
    net.add(GlobalAvgPool2D::new()).add(Dense::new(classes));
    net
}

#[derive(Parameters)]
struct DenseLayer<B: Backend> {
    norm: BatchNorm<B>,
    conv: Conv2D<B>,
}

impl<B: Backend> Block<B> for DenseLayer<B> {
    fn forward(&self, x: &Tensor<B>) -> Result<Tensor<B>> {
        Tensor::concat(&[x, &self.conv.call(&self.norm.call(x)?.relu()?)?], 1)
    }
}

/// DenseNet of four blocks of four layers without bottlenecks.
pub fn densenet<B: Backend>(classes: usize) -> Sequential<B> {
    let mut net = chain![stem()];
    let mut channels = 64;
    for block in 0..4 {
        for _ in 0..4 {
            net.add(DenseLayer { norm: BatchNorm::new(), conv: Conv2D::new(32, 3).padding(1) });
        }
        channels += 4 * 32;
        if block < 3 {
            channels /= 2;
            net.add(chain![BatchNorm::new(), Activation::Relu, Conv2D::new(channels, 1), AvgPool2D::new(2)]);
        }
    }
    net.add(BatchNorm::new()).add(Activation::Relu).add(GlobalAvgPool2D::new()).add(Dense::new(classes));
    net
}
