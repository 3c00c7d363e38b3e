//! DenseNet.

use super::{Options, conv};
use crate::{
    AvgPool2D, BatchNorm, Block, Conv2D, Dense, GlobalAvgPool2D, MaxPool2D, Parameters, Visitor,
    describe::print_blocks, hooks,
};
use isograd_core::{Backend, Dyn, Result, Tensor};

/// What a [`DenseNet`] is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DenseNetConfig {
    /// How many channels each layer adds.
    pub growth: usize,
    /// How many layers each block has.
    pub blocks: Vec<usize>,
    /// The channels before the first block.
    pub width: usize,
}

impl Default for DenseNetConfig {
    /// DenseNet-121.
    fn default() -> Self {
        DenseNetConfig { growth: 32, blocks: vec![6, 12, 24, 16], width: 64 }
    }
}

/// Adds channels to those that it gets.
#[derive(Clone, Parameters)]
struct Layer<B: Backend> {
    norm1: BatchNorm<B>,
    conv1: Conv2D<B>,
    norm2: BatchNorm<B>,
    conv2: Conv2D<B>,
}

impl<B: Backend> Layer<B> {
    fn new(inputs: usize, growth: usize) -> Self {
        let inner = 4 * growth;
        Layer {
            norm1: BatchNorm::new().in_channels(inputs),
            conv1: conv(inputs, inner, 1, 1),
            norm2: BatchNorm::new().in_channels(inner),
            conv2: conv(inner, growth, 3, 1),
        }
    }
}

impl<B: Backend> Block<B> for Layer<B> {
    fn forward(&self, x: &Tensor<B>) -> Result<Tensor<B>> {
        let y = self.conv1.call(&self.norm1.call(x)?.relu()?)?;
        let y = self.conv2.call(&self.norm2.call(&y)?.relu()?)?;
        Tensor::concat(&[x, &y], 1)
    }
}

#[derive(Clone)]
struct Layers<B: Backend>(Vec<Layer<B>>);

impl<B: Backend> Parameters<B> for Layers<B> {
    fn visit(&self, visitor: &mut dyn Visitor<B>) {
        for (i, layer) in self.0.iter().enumerate() {
            visitor.child(&format!("denselayer{}", i + 1), layer);
        }
    }

    fn label(&self) -> Option<String> {
        Some("DenseBlock".into())
    }
}

/// Halves channels and size.
impl<B: Backend> Block<B> for Layers<B> {
    fn forward(&self, x: &Tensor<B>) -> Result<Tensor<B>> {
        self.0.iter().try_fold(x.clone(), |y, layer| layer.call(&y))
    }
}

#[derive(Clone, Parameters)]
struct Transition<B: Backend> {
    norm: BatchNorm<B>,
    conv: Conv2D<B>,
    pool: AvgPool2D,
}

impl<B: Backend> Block<B> for Transition<B> {
    fn forward(&self, x: &Tensor<B>) -> Result<Tensor<B>> {
        self.pool.call(&self.conv.call(&self.norm.call(x)?.relu()?)?)
    }
}

#[derive(Clone)]
struct Features<B: Backend> {
    conv0: Conv2D<B>,
    norm0: BatchNorm<B>,
    pool0: MaxPool2D,
    stages: Vec<(Layers<B>, Option<Transition<B>>)>,
    norm5: BatchNorm<B>,
}

impl<B: Backend> Parameters<B> for Features<B> {
    fn visit(&self, visitor: &mut dyn Visitor<B>) {
        visitor.child("conv0", &self.conv0);
        visitor.child("norm0", &self.norm0);
        visitor.child("pool0", &self.pool0);
        for (i, (layers, transition)) in self.stages.iter().enumerate() {
            visitor.child(&format!("denseblock{}", i + 1), layers);
            if let Some(transition) = transition {
                visitor.child(&format!("transition{}", i + 1), transition);
            }
        }
        visitor.child("norm5", &self.norm5);
    }

    fn label(&self) -> Option<String> {
        Some("Features".into())
    }
}

impl<B: Backend> Block<B> for Features<B> {
    fn forward(&self, x: &Tensor<B>) -> Result<Tensor<B>> {
        let mut y = self.pool0.call(&self.norm0.call(&self.conv0.call(x)?)?.relu()?)?;
        for (layers, transition) in &self.stages {
            y = layers.call(&y)?;
            if let Some(transition) = transition {
                y = transition.call(&y)?;
            }
        }
        self.norm5.call(&y)?.relu()
    }
}

/// Huang et al.'s network, in which each layer sees what all before it gave (arXiv:1608.06993), with bottlenecks and
/// compression, as in torchvision. Pictures have at least 29 pixels a side. [`densenet121`] and its siblings are the published
/// ones, [`DenseNet::new`] makes others.
#[derive(Clone, Parameters)]
pub struct DenseNet<B: Backend = Dyn> {
    features: Features<B>,
    classifier: Dense<B>,
}

impl<B: Backend> DenseNet<B> {
    /// Of the given make.
    pub fn new(config: &DenseNetConfig, options: impl Into<Options>) -> Self {
        let Options { classes, in_channels } = options.into();
        let mut channels = config.width;
        let mut stages = Vec::with_capacity(config.blocks.len());
        for (i, &count) in config.blocks.iter().enumerate() {
            let layers = Layers((0..count).map(|k| Layer::new(channels + k * config.growth, config.growth)).collect());
            channels += count * config.growth;
            let transition = (i + 1 < config.blocks.len()).then(|| {
                let norm = BatchNorm::new().in_channels(channels);
                let inputs = channels;
                channels /= 2;
                Transition { norm, conv: conv(inputs, channels, 1, 1), pool: AvgPool2D::new(2) }
            });
            stages.push((layers, transition));
        }
        DenseNet {
            features: Features {
                conv0: conv(in_channels, config.width, 7, 2),
                norm0: BatchNorm::new().in_channels(config.width),
                pool0: MaxPool2D::new(3).strides(2).padding(1),
                stages,
                norm5: BatchNorm::new().in_channels(channels),
            },
            classifier: Dense::new(classes).in_units(channels),
        }
    }
}

impl<B: Backend> Block<B> for DenseNet<B> {
    fn forward(&self, x: &Tensor<B>) -> Result<Tensor<B>> {
        hooks::layer(self, x, || self.classifier.call(&GlobalAvgPool2D::new().forward(&self.features.call(x)?)?))
    }
}

print_blocks! {
    debug impl [B: Backend] DenseNet<B>;
}

macro_rules! published {
    ($($name:ident $depth:literal $growth:literal $width:literal $blocks:expr;)*) => { $(
        #[doc = concat!("[`DenseNet`] of ", $depth, " layers.")]
        pub fn $name<B: Backend>(options: impl Into<Options>) -> DenseNet<B> {
            DenseNet::new(&DenseNetConfig { growth: $growth, blocks: $blocks.into(), width: $width }, options)
        }
    )* };
}

published! {
    densenet121 "121" 32 64 [6, 12, 24, 16];
    densenet161 "161" 48 96 [6, 12, 36, 24];
    densenet169 "169" 32 64 [6, 12, 32, 32];
    densenet201 "201" 32 64 [6, 12, 48, 32];
}
