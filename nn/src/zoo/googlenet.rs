//! GoogLeNet.

use super::{Options, chain};
use crate::{
    AdaptiveAvgPool2D, BatchNorm, Block, Conv2D, Dense, Dropout, GlobalAvgPool2D, MaxPool2D, Parameters, Sequential,
    describe::print_blocks, hooks,
};
use isograd_core::{Backend, Dyn, Result, Tensor};

/// Convolution, normalization, rectification.
#[derive(Clone, Parameters)]
struct Unit<B: Backend> {
    conv: Conv2D<B>,
    bn: BatchNorm<B>,
}

fn unit<B: Backend>(inputs: usize, outputs: usize, kernel: usize, stride: usize) -> Unit<B> {
    Unit {
        conv: super::conv(inputs, outputs, kernel, stride),
        bn: BatchNorm::new().epsilon(0.001).in_channels(outputs),
    }
}

impl<B: Backend> Block<B> for Unit<B> {
    fn forward(&self, x: &Tensor<B>) -> Result<Tensor<B>> {
        self.bn.call(&self.conv.call(x)?)?.relu()
    }
}

/// Four paths beside each other, their channels joined.
#[derive(Clone, Parameters)]
struct Inception<B: Backend> {
    branch1: Unit<B>,
    branch2: Sequential<B>,
    branch3: Sequential<B>,
    branch4: Sequential<B>,
}

/// Of so many input channels; the others are those of the four paths, two for each that has two convolutions.
fn inception<B: Backend>(inputs: usize, [a, b1, b2, c1, c2, d]: [usize; 6]) -> Inception<B> {
    Inception {
        branch1: unit(inputs, a, 1, 1),
        branch2: chain![unit(inputs, b1, 1, 1), unit(b1, b2, 3, 1)],
        branch3: chain![unit(inputs, c1, 1, 1), unit(c1, c2, 3, 1)],
        branch4: chain![MaxPool2D::new(3).strides(1).padding(1).ceil_mode(true), unit(inputs, d, 1, 1)],
    }
}

impl<B: Backend> Block<B> for Inception<B> {
    fn forward(&self, x: &Tensor<B>) -> Result<Tensor<B>> {
        let paths = [self.branch1.call(x)?, self.branch2.call(x)?, self.branch3.call(x)?, self.branch4.call(x)?];
        Tensor::concat(&paths.each_ref(), 1)
    }
}

/// A classifier on the way, which brings gradients to the layers below it.
#[derive(Clone, Parameters)]
struct Auxiliary<B: Backend> {
    conv: Unit<B>,
    fc1: Dense<B>,
    dropout: Dropout,
    fc2: Dense<B>,
}

fn auxiliary<B: Backend>(inputs: usize, classes: usize) -> Auxiliary<B> {
    Auxiliary {
        conv: unit(inputs, 128, 1, 1),
        fc1: Dense::new(1024).in_units(2048),
        dropout: Dropout::new(0.7),
        fc2: Dense::new(classes).in_units(1024),
    }
}

impl<B: Backend> Block<B> for Auxiliary<B> {
    fn forward(&self, x: &Tensor<B>) -> Result<Tensor<B>> {
        let x = self.conv.call(&AdaptiveAvgPool2D::new(4).forward(x)?)?;
        let x = self.fc1.call(&x)?.relu()?;
        self.fc2.call(&self.dropout.call(&x)?)
    }
}

/// Szegedy et al.'s network of inception blocks (arXiv:1409.4842), as in torchvision: with batch normalization, and 3 × 3
/// pixels where the paper has 5 × 5. Made by [`googlenet`].
///
/// Pictures have at least 31 pixels a side. The network gives the scores of its last classifier;
/// [`GoogLeNet::forward_with_auxiliary`] those of the two on the way too.
#[derive(Clone, Parameters)]
pub struct GoogLeNet<B: Backend = Dyn> {
    conv1: Unit<B>,
    maxpool1: MaxPool2D,
    conv2: Unit<B>,
    conv3: Unit<B>,
    maxpool2: MaxPool2D,
    inception3a: Inception<B>,
    inception3b: Inception<B>,
    maxpool3: MaxPool2D,
    inception4a: Inception<B>,
    inception4b: Inception<B>,
    inception4c: Inception<B>,
    inception4d: Inception<B>,
    inception4e: Inception<B>,
    maxpool4: MaxPool2D,
    inception5a: Inception<B>,
    inception5b: Inception<B>,
    aux1: Option<Auxiliary<B>>,
    aux2: Option<Auxiliary<B>>,
    dropout: Dropout,
    fc: Dense<B>,
}

/// [`GoogLeNet`], with or without the two classifiers on the way.
///
/// ```
/// use isograd::nn::zoo::{self, GoogLeNet};
/// let net: GoogLeNet = zoo::googlenet(1000, false);
/// assert_eq!(zoo::parameter_count(&net)?, 6_624_904);
/// # Ok::<(), isograd::Error>(())
/// ```
pub fn googlenet<B: Backend>(options: impl Into<Options>, auxiliaries: bool) -> GoogLeNet<B> {
    let Options { classes, in_channels } = options.into();
    let pool = |size: usize| MaxPool2D::new(size).strides(2).ceil_mode(true);
    GoogLeNet {
        conv1: unit(in_channels, 64, 7, 2),
        maxpool1: pool(3),
        conv2: unit(64, 64, 1, 1),
        conv3: unit(64, 192, 3, 1),
        maxpool2: pool(3),
        inception3a: inception(192, [64, 96, 128, 16, 32, 32]),
        inception3b: inception(256, [128, 128, 192, 32, 96, 64]),
        maxpool3: pool(3),
        inception4a: inception(480, [192, 96, 208, 16, 48, 64]),
        inception4b: inception(512, [160, 112, 224, 24, 64, 64]),
        inception4c: inception(512, [128, 128, 256, 24, 64, 64]),
        inception4d: inception(512, [112, 144, 288, 32, 64, 64]),
        inception4e: inception(528, [256, 160, 320, 32, 128, 128]),
        maxpool4: pool(2),
        inception5a: inception(832, [256, 160, 320, 32, 128, 128]),
        inception5b: inception(832, [384, 192, 384, 48, 128, 128]),
        aux1: auxiliaries.then(|| auxiliary(512, classes)),
        aux2: auxiliaries.then(|| auxiliary(528, classes)),
        dropout: Dropout::new(0.2),
        fc: Dense::new(classes).in_units(1024),
    }
}

impl<B: Backend> GoogLeNet<B> {
    /// The scores of the last classifier, and of those on the way if there are any. The paper trains by the sum of all three
    /// losses, those on the way times 0.3.
    ///
    /// # Errors
    /// As [`Block::forward`].
    pub fn forward_with_auxiliary(&self, x: &Tensor<B>) -> Result<(Tensor<B>, Vec<Tensor<B>>)> {
        hooks::observe(Parameters::id(self), x, || self.scores(x, [&self.aux1, &self.aux2]))
    }

    fn scores(&self, x: &Tensor<B>, auxiliaries: [&Option<Auxiliary<B>>; 2]) -> Result<(Tensor<B>, Vec<Tensor<B>>)> {
        let x = self.maxpool1.call(&self.conv1.call(x)?)?;
        let x = self.conv3.call(&self.conv2.call(&x)?)?;
        let x = self.inception3a.call(&self.maxpool2.call(&x)?)?;
        let x = self.maxpool3.call(&self.inception3b.call(&x)?)?;
        let first = self.inception4a.call(&x)?;
        let x = self.inception4c.call(&self.inception4b.call(&first)?)?;
        let second = self.inception4d.call(&x)?;
        let x = self.maxpool4.call(&self.inception4e.call(&second)?)?;
        let x = self.inception5b.call(&self.inception5a.call(&x)?)?;
        let x = self.dropout.call(&GlobalAvgPool2D::new().forward(&x)?)?;
        let places = auxiliaries.into_iter().zip([first, second]);
        let on_the_way = places.filter_map(|(aux, x)| aux.as_ref().map(|aux| aux.call(&x)));
        Ok((self.fc.call(&x)?, on_the_way.collect::<Result<_>>()?))
    }

    /// The network without the classifiers on the way, with the same parameters.
    #[must_use]
    pub fn without_auxiliary(&self) -> Self {
        GoogLeNet { aux1: None, aux2: None, ..self.clone() }
    }
}

impl<B: Backend> Block<B> for GoogLeNet<B> {
    fn forward(&self, x: &Tensor<B>) -> Result<Tensor<B>> {
        // What is not asked for is not computed.
        hooks::layer(self, x, || Ok(self.scores(x, [&None, &None])?.0))
    }
}

print_blocks! {
    debug impl [B: Backend] GoogLeNet<B>;
}
