//! Adaptive pooling: windows chosen so that the output has given spatial sizes.

use super::{Spatial, tuple};
use crate::{Block, Parameters, Visitor, hooks};
use isograd_core::{Backend, Result, Tensor};

macro_rules! adaptive_pooling {
    ($(#[$doc:meta])* $name:ident, $operator:ident; $one:ident $two:ident $three:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub struct $name<const N: usize> {
            sizes: [usize; N],
        }

        /// To `[batch, channels, width]`.
        pub type $one = $name<1>;
        /// To `[batch, channels, height, width]`.
        pub type $two = $name<2>;
        /// To `[batch, channels, depth, height, width]`.
        pub type $three = $name<3>;

        impl<const N: usize> $name<N> {
            /// To the given spatial sizes.
            pub fn new(output_size: impl Spatial<N>) -> Self {
                $name { sizes: output_size.sizes() }
            }
        }

        impl<const N: usize> Default for $name<N> {
            /// To one element per channel.
            fn default() -> Self {
                $name::new(1)
            }
        }

        impl<B: Backend, const N: usize> Parameters<B> for $name<N> {
            fn visit(&self, _: &mut dyn Visitor<B>) {}

            fn label(&self) -> Option<String> {
                Some(format!("{}{N}D(output_size={})", stringify!($name), tuple(&self.sizes)))
            }
        }

        impl<B: Backend, const N: usize> Block<B> for $name<N> {
            fn forward(&self, x: &Tensor<B>) -> Result<Tensor<B>> {
                hooks::layer(self, x, || {
                    super::pool::check::<B, N>(stringify!($name), x)?;
                    x.$operator(&self.sizes)
                })
            }
        }
    };
}

adaptive_pooling! {
    /// Means of `[batch, channels, spatial..]` to given spatial sizes: along an axis of n elements, output i of m is the mean
    /// from ⌊i n/m⌋ to ⌈(i+1) n/m⌉, as in PyTorch and in Gluon's `AdaptiveAvgPooling2D`.
    ///
    /// ```
    /// use isograd::{DType, Tensor};
    /// use isograd::nn::{AdaptiveAvgPool2D, Block};
    /// let ctx = isograd::device("cpu")?;
    /// let x = Tensor::arange(&ctx, 0, 5, 1, DType::F32)?.reshape([1, 1, 1, 5])?;
    /// let y = AdaptiveAvgPool2D::new([1, 3]).forward(&x)?;
    /// assert_eq!(y.to_vec::<f32>()?, [0.5, 2.0, 3.5]);
    /// # Ok::<(), isograd::Error>(())
    /// ```
    AdaptiveAvgPool, adaptive_avg_pool; AdaptiveAvgPool1D AdaptiveAvgPool2D AdaptiveAvgPool3D
}

adaptive_pooling! {
    /// Maxima of `[batch, channels, spatial..]` to given spatial sizes, with the windows of [`AdaptiveAvgPool`]. Equal
    /// elements share the gradient.
    ///
    /// ```
    /// use isograd::{DType, Tensor};
    /// use isograd::nn::{AdaptiveMaxPool1D, Block};
    /// let ctx = isograd::device("cpu")?;
    /// let x = Tensor::arange(&ctx, 0, 5, 1, DType::F32)?.reshape([1, 1, 5])?;
    /// assert_eq!(AdaptiveMaxPool1D::new(3).forward(&x)?.to_vec::<f32>()?, [1.0, 3.0, 4.0]);
    /// # Ok::<(), isograd::Error>(())
    /// ```
    AdaptiveMaxPool, adaptive_max_pool; AdaptiveMaxPool1D AdaptiveMaxPool2D AdaptiveMaxPool3D
}
