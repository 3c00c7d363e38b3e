//! Pooling: the largest or the mean of each window, or of each channel.

use super::{Spatial, tuple};
use crate::{Block, Parameters, Visitor, hooks};
use isograd_core::{Backend, Error, Result, Tensor, operators::PoolOptions};

pub(super) fn check<B: Backend, const N: usize>(op: &'static str, x: &Tensor<B>) -> Result<()> {
    if x.rank() == N + 2 {
        return Ok(());
    }
    Err(Error::InvalidShape {
        op,
        shape: x.shape().clone(),
        why: format!("the input must be [batch, channels, spatial..] with {N} spatial axes"),
        device: x.ctx().name(),
    })
}

macro_rules! pooling {
    ($(#[$doc:meta])* $name:ident, $operator:ident, $kind:literal;
     $one:ident $two:ident $three:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug)]
        pub struct $name<const N: usize> {
            options: PoolOptions,
        }

        /// Pooling of `[batch, channels, width]`.
        pub type $one = $name<1>;
        /// Pooling of `[batch, channels, height, width]`.
        pub type $two = $name<2>;
        /// Pooling of `[batch, channels, depth, height, width]`.
        pub type $three = $name<3>;

        impl<const N: usize> $name<N> {
            /// Windows of the given size, side by side.
            pub fn new(pool_size: impl Spatial<N>) -> Self {
                let kernel = pool_size.sizes();
                let options = PoolOptions { stride: kernel.to_vec(), padding: vec![0; N], ..PoolOptions::new(&kernel) };
                $name { options }
            }

            /// The distance between neighbouring windows.
            #[must_use]
            pub fn strides(mut self, strides: impl Spatial<N>) -> Self {
                self.options.stride = strides.sizes().to_vec();
                self
            }

            /// Elements put before and after each axis.
            #[must_use]
            pub fn padding(mut self, padding: impl Spatial<N>) -> Self {
                self.options.padding = padding.sizes().to_vec();
                self
            }

            /// Whether a last window that reaches beyond the end counts (no by default).
            #[must_use]
            pub fn ceil_mode(mut self, ceil_mode: bool) -> Self {
                self.options.ceil_mode = ceil_mode;
                self
            }
        }

        impl<const N: usize> Default for $name<N> {
            /// Windows of 2 along each axis, side by side.
            fn default() -> Self {
                $name::new(2)
            }
        }

        impl<B: Backend, const N: usize> Parameters<B> for $name<N> {
            fn visit(&self, _: &mut dyn Visitor<B>) {}

            fn label(&self) -> Option<String> {
                let o = &self.options;
                Some(text(
                    &format!("{}{N}D", stringify!($name)), N, &o.kernel, &o.stride, &o.padding, o.ceil_mode, false, $kind,
                ))
            }
        }

        impl<B: Backend, const N: usize> Block<B> for $name<N> {
            fn forward(&self, x: &Tensor<B>) -> Result<Tensor<B>> {
                hooks::layer(self, x, || {
                    check::<B, N>(stringify!($name), x)?;
                    x.$operator(&self.options)
                })
            }
        }
    };
}

/// What Gluon prints for a pooling layer.
#[allow(clippy::too_many_arguments, reason = "the fields of one line of text")]
fn text(
    name: &str,
    n: usize,
    size: &[usize],
    stride: &[usize],
    padding: &[usize],
    ceil: bool,
    global: bool,
    kind: &str,
) -> String {
    let python = |b: bool| if b { "True" } else { "False" };
    format!(
        "{name}(size={}, stride={}, padding={}, ceil_mode={}, global_pool={}, pool_type={kind}, layout={})",
        tuple(size),
        tuple(stride),
        tuple(padding),
        python(ceil),
        python(global),
        ["NCW", "NCHW", "NCDHW"].get(n - 1).unwrap_or(&"NC..")
    )
}

pooling! {
    /// The largest element of each window of `[batch, channels, spatial..]`. Padding never wins; of equal elements the first
    /// gets the gradient.
    ///
    /// ```
    /// use isograd::{DType, Tensor};
    /// use isograd::nn::{Block, MaxPool2D};
    /// let ctx = isograd::device("cpu")?;
    /// let x = Tensor::arange(&ctx, 0, 16, 1, DType::F32)?.reshape([1, 1, 4, 4])?;
    /// let y = MaxPool2D::new(2).forward(&x)?;
    /// assert_eq!(y.to_vec::<f32>()?, [5.0, 7.0, 13.0, 15.0]);
    /// # Ok::<(), isograd::Error>(())
    /// ```
    MaxPool, max_pool, "max"; MaxPool1D MaxPool2D MaxPool3D
}

pooling! {
    /// The mean of each window of `[batch, channels, spatial..]`. Padding counts as zeros unless
    /// [`AvgPool::count_include_pad`] says otherwise.
    ///
    /// ```
    /// use isograd::{DType, Tensor};
    /// use isograd::nn::{AvgPool2D, Block};
    /// let ctx = isograd::device("cpu")?;
    /// let x = Tensor::arange(&ctx, 0, 16, 1, DType::F32)?.reshape([1, 1, 4, 4])?;
    /// let y = AvgPool2D::default().forward(&x)?;
    /// assert_eq!(y.to_vec::<f32>()?, [2.5, 4.5, 10.5, 12.5]);
    /// # Ok::<(), isograd::Error>(())
    /// ```
    AvgPool, avg_pool, "avg"; AvgPool1D AvgPool2D AvgPool3D
}

impl<const N: usize> AvgPool<N> {
    /// Whether padding counts as zeros in the mean (the default).
    #[must_use]
    pub fn count_include_pad(mut self, count_include_pad: bool) -> Self {
        self.options.count_include_pad = count_include_pad;
        self
    }
}

macro_rules! global_pooling {
    ($(#[$doc:meta])* $name:ident, $operator:ident, $kind:literal;
     $one:ident $two:ident $three:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default)]
        pub struct $name<const N: usize>;

        /// Over `[batch, channels, width]`.
        pub type $one = $name<1>;
        /// Over `[batch, channels, height, width]`.
        pub type $two = $name<2>;
        /// Over `[batch, channels, depth, height, width]`.
        pub type $three = $name<3>;

        impl<const N: usize> $name<N> {
            /// The layer; it has no options.
            pub fn new() -> Self {
                $name
            }
        }

        impl<B: Backend, const N: usize> Parameters<B> for $name<N> {
            fn visit(&self, _: &mut dyn Visitor<B>) {}

            fn label(&self) -> Option<String> {
                let name = format!("{}{N}D", stringify!($name));
                Some(text(&name, N, &[1; N], &[1; N], &[0; N], true, true, $kind))
            }
        }

        impl<B: Backend, const N: usize> Block<B> for $name<N> {
            fn forward(&self, x: &Tensor<B>) -> Result<Tensor<B>> {
                hooks::layer(self, x, || {
                    check::<B, N>(stringify!($name), x)?;
                    x.$operator()
                })
            }
        }
    };
}

global_pooling! {
    /// The mean of each channel: `[batch, channels, spatial..]` to `[batch, channels, 1..]`.
    ///
    /// ```
    /// use isograd::{DType, Tensor};
    /// use isograd::nn::{Block, GlobalAvgPool2D};
    /// let ctx = isograd::device("cpu")?;
    /// let x = Tensor::arange(&ctx, 0, 8, 1, DType::F32)?.reshape([1, 2, 2, 2])?;
    /// assert_eq!(GlobalAvgPool2D::new().forward(&x)?.to_vec::<f32>()?, [1.5, 5.5]);
    /// # Ok::<(), isograd::Error>(())
    /// ```
    GlobalAvgPool, global_avg_pool, "avg"; GlobalAvgPool1D GlobalAvgPool2D GlobalAvgPool3D
}

global_pooling! {
    /// The largest element of each channel: `[batch, channels, spatial..]` to `[batch, channels, 1..]`.
    GlobalMaxPool, global_max_pool, "max"; GlobalMaxPool1D GlobalMaxPool2D GlobalMaxPool3D
}
