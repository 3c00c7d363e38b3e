//! [`ConvTranspose`]: transposed convolution over one, two or three spatial axes.

use super::{Spatial, epilogue, tuple, weight_and_bias::weight_and_bias};
use crate::{
    Activation, Block, Parameter, Parameters, Visitor, describe::print_blocks, hooks, initializers::Zero, naming,
};
use isograd_core::{Backend, DType, Dyn, Error, Result, Tensor, operators::ConvOptions};

/// Transposed convolution over `N` spatial axes: the gradient of a convolution in its input, as a layer that enlarges.
///
/// Input `[batch, in_channels, spatial..]`, output `[batch, channels, spatial..]`, W `[in_channels, channels / groups,
/// kernel..]`, b `[channels]`. An axis of n elements becomes (n - 1) stride - 2 padding + dilation (kernel - 1) + 1 +
/// output_padding. The number of input channels is taken from the first batch unless it is given. The bias begins at zero. A
/// clone shares the parameters.
///
/// ```
/// use isograd::{DType, Tensor};
/// use isograd::nn::{Block, Conv2DTranspose, Parameters, initializers::Bilinear};
/// let ctx = isograd::device("cpu")?;
/// let layer = Conv2DTranspose::new(1, 4).strides(2).padding(1);
/// layer.initialize(Bilinear, &ctx)?;
/// let x = Tensor::ones(&ctx, [1, 1, 3, 3], DType::F32)?;
/// let y = layer.forward(&x)?;
/// assert_eq!(y.shape(), &[1, 1, 6, 6]);
/// assert_eq!(y.to_vec::<f32>()?[14], 1.0);
/// # Ok::<(), isograd::Error>(())
/// ```
#[derive(Clone)]
pub struct ConvTranspose<B: Backend, const N: usize> {
    channels: usize,
    in_channels: Option<usize>,
    kernel: [usize; N],
    options: ConvOptions,
    activation: Option<Activation>,
    weight: Parameter<B>,
    bias: Option<Parameter<B>>,
}

/// Transposed convolution of `[batch, channels, width]`.
pub type Conv1DTranspose<B = Dyn> = ConvTranspose<B, 1>;
/// Transposed convolution of `[batch, channels, height, width]`.
pub type Conv2DTranspose<B = Dyn> = ConvTranspose<B, 2>;
/// Transposed convolution of `[batch, channels, depth, height, width]`.
pub type Conv3DTranspose<B = Dyn> = ConvTranspose<B, 3>;

impl<B: Backend, const N: usize> ConvTranspose<B, N> {
    /// A layer of `channels` outputs with the given kernel, stride 1, no padding, with bias and without activation.
    pub fn new(channels: usize, kernel: impl Spatial<N>) -> Self {
        let prefix = naming::prefix("conv");
        let each = |n| vec![n; N];
        let options = ConvOptions {
            stride: each(1),
            padding: each(0),
            dilation: each(1),
            output_padding: each(0),
            ..ConvOptions::default()
        };
        let layer = ConvTranspose {
            channels,
            in_channels: None,
            kernel: kernel.sizes(),
            options,
            activation: None,
            weight: Parameter::new(format!("{prefix}weight"), &[]),
            bias: Some(Parameter::new(format!("{prefix}bias"), &[Some(channels)]).with_initializer(Zero)),
        };
        layer.with_weight_shape()
    }

    /// Makes the weight anew, in the shape that the options ask for.
    fn with_weight_shape(mut self) -> Self {
        let mut shape = vec![self.in_channels, Some(self.channels / self.options.groups.max(1))];
        shape.extend(self.kernel.map(Some));
        self.weight = self.weight.shaped(&shape);
        self
    }

    /// The distance between neighbouring windows of the output.
    #[must_use]
    pub fn strides(mut self, strides: impl Spatial<N>) -> Self {
        self.options.stride = strides.sizes().to_vec();
        self
    }

    /// Elements cut off before and after each axis.
    #[must_use]
    pub fn padding(mut self, padding: impl Spatial<N>) -> Self {
        self.options.padding = padding.sizes().to_vec();
        self
    }

    /// The distance between neighbouring elements of a window.
    #[must_use]
    pub fn dilation(mut self, dilation: impl Spatial<N>) -> Self {
        self.options.dilation = dilation.sizes().to_vec();
        self
    }

    /// Elements that the output is longer by at the end of each axis; fewer than the stride or the dilation.
    #[must_use]
    pub fn output_padding(mut self, output_padding: impl Spatial<N>) -> Self {
        self.options.output_padding = output_padding.sizes().to_vec();
        self
    }

    /// Groups of channels that do not see each other.
    #[must_use]
    pub fn groups(mut self, groups: usize) -> Self {
        self.options.groups = groups;
        self.with_weight_shape()
    }

    /// The number of input channels, so that the shape is known before the first batch.
    #[must_use]
    pub fn in_channels(mut self, in_channels: usize) -> Self {
        self.in_channels = Some(in_channels);
        self.with_weight_shape()
    }

    /// Ends the layer with `activation`.
    #[must_use]
    pub fn activation(mut self, activation: Activation) -> Self {
        self.activation = Some(activation);
        self
    }

    /// Whether there is a bias (the default).
    #[must_use]
    pub fn use_bias(mut self, use_bias: bool) -> Self {
        if !use_bias {
            self.bias = None;
        } else if self.bias.is_none() {
            let bias = self.weight.sibling("weight", "bias", &[Some(self.channels)]);
            self.bias = Some(bias.with_initializer(Zero));
        }
        self
    }

    /// The dtype of the parameters; that of the input must be the same.
    #[must_use]
    pub fn dtype(mut self, dtype: DType) -> Self {
        self.weight = self.weight.with_dtype(dtype);
        self.bias = self.bias.map(|b| b.with_dtype(dtype));
        self
    }

    /// Uses the parameters of `other`: gradients add up, and a step changes both layers.
    #[must_use]
    pub fn share(mut self, other: &Self) -> Self {
        self.weight = other.weight.clone();
        self.bias = other.bias.clone();
        (self.channels, self.in_channels, self.kernel) = (other.channels, other.in_channels, other.kernel);
        self.options.groups = other.options.groups;
        self
    }

    /// W, `[in_channels, channels / groups, kernel..]`.
    pub fn weight(&self) -> &Parameter<B> {
        &self.weight
    }
}

weight_and_bias!(impl [B: Backend, const N: usize] ConvTranspose<B, N>, channels);

impl<B: Backend, const N: usize> Parameters<B> for ConvTranspose<B, N> {
    fn visit(&self, visitor: &mut dyn Visitor<B>) {
        visitor.child("weight", &self.weight);
        if let Some(bias) = &self.bias {
            visitor.child("bias", bias);
        }
    }

    fn label(&self) -> Option<String> {
        let o = &self.options;
        let inputs = self.weight.partial_shape()[0].map_or("None".into(), |n| n.to_string());
        let mut text = format!(
            "Conv{N}DTranspose({inputs} -> {}, kernel_size={}, stride={}",
            self.channels,
            tuple(&self.kernel),
            tuple(&o.stride)
        );
        if o.padding != [0; N] {
            text += &format!(", padding={}", tuple(&o.padding));
        }
        if o.output_padding != [0; N] {
            text += &format!(", output_padding={}", tuple(&o.output_padding));
        }
        if o.dilation != [1; N] {
            text += &format!(", dilation={}", tuple(&o.dilation));
        }
        if o.groups != 1 {
            text += &format!(", groups={}", o.groups);
        }
        if self.bias.is_none() {
            text += ", bias=False";
        }
        if let Some(activation) = self.activation {
            text += &format!(", {activation}");
        }
        Some(text + ")")
    }
}

impl<B: Backend, const N: usize> Block<B> for ConvTranspose<B, N> {
    fn forward(&self, x: &Tensor<B>) -> Result<Tensor<B>> {
        hooks::layer(self, x, || self.compute(x))
    }
}

impl<B: Backend, const N: usize> ConvTranspose<B, N> {
    fn compute(&self, x: &Tensor<B>) -> Result<Tensor<B>> {
        let groups = self.options.groups;
        let fits = groups > 0 && self.channels.is_multiple_of(groups);
        if x.rank() != N + 2 || !fits || !x.shape()[1].is_multiple_of(groups) {
            return Err(Error::InvalidShape {
                op: "ConvTranspose",
                shape: x.shape().clone(),
                why: format!(
                    "the input must be [batch, channels, spatial..] with {N} spatial axes; its channels and the {} of the output multiples of the {groups} groups",
                    self.channels
                ),
                device: x.ctx().name(),
            });
        }
        let mut shape = vec![x.shape()[1], self.channels / groups];
        shape.extend(self.kernel);
        let weight = self.weight.bind(x.ctx(), &shape)?;
        let bias = self.bias.as_ref().map(|b| b.bind(x.ctx(), &[self.channels])).transpose()?;
        epilogue::of_channels(x.conv_transpose(&weight, None, &self.options)?, bias.as_ref(), self.activation)
    }
}

print_blocks! {
    impl [B: Backend, const N: usize] ConvTranspose<B, N>;
}
