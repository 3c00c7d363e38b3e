//! VGG.

use super::{Options, chain};
use crate::{
    Activation, AdaptiveAvgPool2D, BatchNorm, Block, Conv2D, Dense, Dropout, MaxPool2D, Parameters, Sequential,
    describe::print_blocks, hooks,
};
use isograd_core::{Backend, Dyn, Result, Tensor};

/// Simonyan and Zisserman's network (arXiv:1409.1556), as in torchvision; made by [`vgg`].
#[derive(Clone, Parameters)]
pub struct Vgg<B: Backend = Dyn> {
    features: Sequential<B>,
    avgpool: AdaptiveAvgPool2D,
    classifier: Sequential<B>,
}

/// How many layers with weights a [`Vgg`] has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VggDepth {
    /// Configuration A.
    Vgg11,
    /// Configuration B.
    Vgg13,
    /// Configuration D.
    Vgg16,
    /// Configuration E.
    Vgg19,
}

impl VggDepth {
    /// How many convolutions each of the five stages has.
    fn stages(self) -> [usize; 5] {
        match self {
            VggDepth::Vgg11 => [1, 1, 2, 2, 2],
            VggDepth::Vgg13 => [2, 2, 2, 2, 2],
            VggDepth::Vgg16 => [2, 2, 3, 3, 3],
            VggDepth::Vgg19 => [2, 2, 4, 4, 4],
        }
    }
}

/// [`Vgg`] of the given depth, with or without a batch normalization after each convolution, for pictures of at least 32
/// pixels a side.
///
/// ```
/// use isograd::nn::zoo::{self, Vgg};
/// let net: Vgg = zoo::vgg11(1000);
/// assert_eq!(zoo::parameter_count(&net)?, 132_863_336);
/// # Ok::<(), isograd::Error>(())
/// ```
pub fn vgg<B: Backend>(depth: VggDepth, batch_norm: bool, options: impl Into<Options>) -> Vgg<B> {
    let Options { classes, in_channels } = options.into();
    let mut features = Sequential::new();
    let mut inputs = in_channels;
    for (count, outputs) in depth.stages().into_iter().zip([64, 128, 256, 512, 512]) {
        for _ in 0..count {
            features.add(Conv2D::new(outputs, 3).padding(1).in_channels(inputs));
            if batch_norm {
                features.add(BatchNorm::new().in_channels(outputs));
            }
            features.add(Activation::Relu);
            inputs = outputs;
        }
        features.add(MaxPool2D::new(2));
    }
    let classifier = chain![
        Dense::new(4096).in_units(512 * 7 * 7),
        Activation::Relu,
        Dropout::new(0.5),
        Dense::new(4096).in_units(4096),
        Activation::Relu,
        Dropout::new(0.5),
        Dense::new(classes).in_units(4096),
    ];
    Vgg { features, avgpool: AdaptiveAvgPool2D::new(7), classifier }
}

macro_rules! depths {
    ($($name:ident $depth:ident $batch_norm:literal $text:literal;)*) => { $(
        #[doc = concat!("[`Vgg`] of ", $text, "; see [`vgg`].")]
        pub fn $name<B: Backend>(options: impl Into<Options>) -> Vgg<B> {
            vgg(VggDepth::$depth, $batch_norm, options)
        }
    )* };
}

depths! {
    vgg11 Vgg11 false "11 layers";
    vgg13 Vgg13 false "13 layers";
    vgg16 Vgg16 false "16 layers";
    vgg19 Vgg19 false "19 layers";
    vgg11_bn Vgg11 true "11 layers and batch normalization";
    vgg13_bn Vgg13 true "13 layers and batch normalization";
    vgg16_bn Vgg16 true "16 layers and batch normalization";
    vgg19_bn Vgg19 true "19 layers and batch normalization";
}

impl<B: Backend> Block<B> for Vgg<B> {
    fn forward(&self, x: &Tensor<B>) -> Result<Tensor<B>> {
        hooks::layer(self, x, || self.classifier.call(&self.avgpool.call(&self.features.call(x)?)?))
    }
}

print_blocks! {
    debug impl [B: Backend] Vgg<B>;
}
