//! ResNet.

use super::{Options, chain, conv};
use crate::{
    BatchNorm, Block, Conv2D, Dense, GlobalAvgPool2D, MaxPool2D, Parameters, Sequential, Visitor,
    describe::print_blocks, hooks,
};
use isograd_core::{Backend, Dyn, Result, Tensor};

/// Where a [`ResNet`] normalizes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ResNetVersion {
    /// After each convolution (He et al., arXiv:1512.03385). As in torchvision, the stride of a bottleneck is that of its
    /// 3 × 3 convolution; in Gluon it is that of the first.
    #[default]
    V1,
    /// Before each convolution (He et al., arXiv:1603.05027), in Gluon's form: the input is normalized too, without
    /// trained parameters, and shortcuts have no normalization.
    V2,
}

/// What a [`ResNet`] is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResNetConfig {
    /// Where it normalizes.
    pub version: ResNetVersion,
    /// How many blocks each stage has. Each stage but the first halves the picture and doubles the channels.
    pub blocks: Vec<usize>,
    /// The channels of the first stage.
    pub width: usize,
    /// Whether blocks have three convolutions, in the middle of which channels are four times fewer, rather than two.
    pub bottleneck: bool,
    /// Whether the network begins with a 3 × 3 convolution of stride 1, for pictures like CIFAR's and MNIST's, rather than one
    /// of 7 × 7 pixels and a pooling, which make the picture four times smaller.
    pub small_images: bool,
}

impl Default for ResNetConfig {
    /// ResNet-18.
    fn default() -> Self {
        ResNetConfig {
            version: ResNetVersion::V1,
            blocks: vec![2, 2, 2, 2],
            width: 64,
            bottleneck: false,
            small_images: false,
        }
    }
}

/// One block: two or three convolutions beside a shortcut.
#[derive(Clone, Parameters)]
struct Residual<B: Backend> {
    #[parameters(skip)]
    version: ResNetVersion,
    conv1: Conv2D<B>,
    bn1: BatchNorm<B>,
    conv2: Conv2D<B>,
    bn2: BatchNorm<B>,
    conv3: Option<Conv2D<B>>,
    bn3: Option<BatchNorm<B>>,
    downsample: Option<Sequential<B>>,
}

impl<B: Backend> Residual<B> {
    fn new(config: &ResNetConfig, inputs: usize, outputs: usize, stride: usize) -> Self {
        let v1 = config.version == ResNetVersion::V1;
        let inner = if config.bottleneck { outputs / 4 } else { outputs };
        // Each normalization is of what its convolution gives, or takes.
        let bn = |before: usize, after: usize| BatchNorm::new().in_channels(if v1 { after } else { before });
        let last = config.bottleneck;
        let (first, second) = if last { (1, stride) } else { (stride, 1) };
        let shortcut = || {
            let mut shortcut = chain![conv(inputs, outputs, 1, stride)];
            if v1 {
                shortcut.add(BatchNorm::new().in_channels(outputs));
            }
            shortcut
        };
        Residual {
            version: config.version,
            conv1: conv(inputs, inner, if last { 1 } else { 3 }, first),
            bn1: bn(inputs, inner),
            conv2: conv(inner, inner, 3, second),
            bn2: bn(inner, inner),
            conv3: last.then(|| conv(inner, outputs, 1, 1)),
            bn3: last.then(|| bn(inner, outputs)),
            downsample: (stride != 1 || inputs != outputs).then(shortcut),
        }
    }

    fn shortcut(&self, x: &Tensor<B>) -> Result<Tensor<B>> {
        self.downsample.as_ref().map_or(Ok(x.clone()), |d| d.call(x))
    }
}

impl<B: Backend> Block<B> for Residual<B> {
    fn forward(&self, x: &Tensor<B>) -> Result<Tensor<B>> {
        let third = self.conv3.as_ref().zip(self.bn3.as_ref());
        match self.version {
            ResNetVersion::V1 => {
                let mut y = self.bn1.call(&self.conv1.call(x)?)?.relu()?;
                y = self.bn2.call(&self.conv2.call(&y)?)?;
                if let Some((conv, bn)) = third {
                    y = bn.call(&conv.call(&y.relu()?)?)?;
                }
                y.add(&self.shortcut(x)?)?.relu()
            }
            ResNetVersion::V2 => {
                let normalized = self.bn1.call(x)?.relu()?;
                let shortcut = if self.downsample.is_some() { self.shortcut(&normalized)? } else { x.clone() };
                let mut y = self.conv1.call(&normalized)?;
                y = self.conv2.call(&self.bn2.call(&y)?.relu()?)?;
                if let Some((conv, bn)) = third {
                    y = conv.call(&bn.call(&y)?.relu()?)?;
                }
                y.add(&shortcut)
            }
        }
    }
}

/// A residual network (He et al.); [`resnet18`] and its siblings are the published ones, [`ResNet::new`] makes others.
///
/// Of version 1 the paths are torchvision's names: `conv1`, `bn1`, `layer1.0.conv1`, `layer2.0.downsample.0`, `fc`. Version 2
/// adds `bn0` before all and `bn2` before `fc`. Pictures of any size will do.
///
/// ```
/// use isograd::{DType, Tensor};
/// use isograd::nn::{Block, Parameters, initializers::MSRAPrelu, zoo::{Options, ResNet, ResNetConfig}};
/// let ctx = isograd::device("cpu")?;
/// let config = ResNetConfig { blocks: vec![1, 1], width: 8, small_images: true, ..ResNetConfig::default() };
/// let net = ResNet::new(&config, Options::new(10).in_channels(1));
/// net.initialize(MSRAPrelu::he(), &ctx)?;
/// assert_eq!(net.forward(&Tensor::ones(&ctx, [2, 1, 28, 28], DType::F32)?)?.shape(), &[2, 10]);
/// assert_eq!(net.collect_params().paths()[1], "bn1.gamma");
/// # Ok::<(), isograd::Error>(())
/// ```
#[derive(Clone)]
pub struct ResNet<B: Backend = Dyn> {
    bn0: Option<BatchNorm<B>>,
    conv1: Conv2D<B>,
    bn1: BatchNorm<B>,
    maxpool: Option<MaxPool2D>,
    stages: Vec<Vec<Residual<B>>>,
    bn2: Option<BatchNorm<B>>,
    fc: Dense<B>,
}

impl<B: Backend> ResNet<B> {
    /// Of the given make.
    pub fn new(config: &ResNetConfig, options: impl Into<Options>) -> Self {
        let Options { classes, in_channels } = options.into();
        let v1 = config.version == ResNetVersion::V1;
        let width = config.width;
        let factor = if config.bottleneck { 4 } else { 1 };
        let mut inputs = width;
        let mut stages = Vec::with_capacity(config.blocks.len());
        for (stage, &count) in config.blocks.iter().enumerate() {
            let outputs = (width << stage) * factor;
            let mut blocks = Vec::with_capacity(count);
            for block in 0..count {
                let stride = if stage > 0 && block == 0 { 2 } else { 1 };
                blocks.push(Residual::new(config, inputs, outputs, stride));
                inputs = outputs;
            }
            stages.push(blocks);
        }
        let (kernel, stride) = if config.small_images { (3, 1) } else { (7, 2) };
        ResNet {
            bn0: (!v1).then(|| BatchNorm::new().scale(false).center(false).in_channels(in_channels)),
            conv1: conv(in_channels, width, kernel, stride),
            bn1: BatchNorm::new().in_channels(width),
            maxpool: (!config.small_images).then(|| MaxPool2D::new(3).strides(2).padding(1)),
            stages,
            bn2: (!v1).then(|| BatchNorm::new().in_channels(inputs)),
            fc: Dense::new(classes).in_units(inputs),
        }
    }
}

impl<B: Backend> Parameters<B> for ResNet<B> {
    fn visit(&self, visitor: &mut dyn Visitor<B>) {
        if let Some(bn0) = &self.bn0 {
            visitor.child("bn0", bn0);
        }
        visitor.child("conv1", &self.conv1);
        visitor.child("bn1", &self.bn1);
        if let Some(maxpool) = &self.maxpool {
            visitor.child("maxpool", maxpool);
        }
        for (i, stage) in self.stages.iter().enumerate() {
            visitor.child(&format!("layer{}", i + 1), stage);
        }
        if let Some(bn2) = &self.bn2 {
            visitor.child("bn2", bn2);
        }
        visitor.child("fc", &self.fc);
    }

    fn label(&self) -> Option<String> {
        Some("ResNet".into())
    }
}

impl<B: Backend> Block<B> for ResNet<B> {
    fn forward(&self, x: &Tensor<B>) -> Result<Tensor<B>> {
        hooks::layer(self, x, || {
            let x = self.bn0.as_ref().map_or(Ok(x.clone()), |bn| bn.call(x))?;
            let mut y = self.bn1.call(&self.conv1.call(&x)?)?.relu()?;
            if let Some(maxpool) = &self.maxpool {
                y = maxpool.call(&y)?;
            }
            for block in self.stages.iter().flatten() {
                y = block.call(&y)?;
            }
            if let Some(bn2) = &self.bn2 {
                y = bn2.call(&y)?.relu()?;
            }
            self.fc.call(&GlobalAvgPool2D::new().forward(&y)?)
        })
    }
}

print_blocks! {
    impl [B: Backend] ResNet<B>;
}

macro_rules! published {
    ($($v1:ident $v2:ident $depth:literal $blocks:expr, $bottleneck:literal;)*) => { $(
        #[doc = concat!("[`ResNet`] of ", $depth, " layers.")]
        pub fn $v1<B: Backend>(options: impl Into<Options>) -> ResNet<B> {
            let config = ResNetConfig { blocks: $blocks.into(), bottleneck: $bottleneck, ..ResNetConfig::default() };
            ResNet::new(&config, options)
        }

        #[doc = concat!("[`ResNet`] of ", $depth, " layers, version 2.")]
        pub fn $v2<B: Backend>(options: impl Into<Options>) -> ResNet<B> {
            let version = ResNetVersion::V2;
            let config =
                ResNetConfig { version, blocks: $blocks.into(), bottleneck: $bottleneck, ..ResNetConfig::default() };
            ResNet::new(&config, options)
        }
    )* };
}

published! {
    resnet18 resnet18_v2 "18" [2, 2, 2, 2], false;
    resnet34 resnet34_v2 "34" [3, 4, 6, 3], false;
    resnet50 resnet50_v2 "50" [3, 4, 6, 3], true;
    resnet101 resnet101_v2 "101" [3, 4, 23, 3], true;
    resnet152 resnet152_v2 "152" [3, 8, 36, 3], true;
}
