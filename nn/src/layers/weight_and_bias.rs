//! What [`crate::Dense`] and the convolutions have in common: builder methods and a getter of their weight and bias.

/// For a layer with fields `weight` and `bias`, the latter of the size of field `$size`.
macro_rules! weight_and_bias {
    (impl [$($generics:tt)*] $type:ty, $size:ident) => {
        impl<$($generics)*> $type {
            /// Initializes the weight by `initializer`, whatever the network is initialized with.
            #[must_use]
            pub fn weight_initializer(mut self, initializer: impl $crate::Initializer<B> + 'static) -> Self {
                self.weight = self.weight.with_initializer(initializer);
                self
            }

            /// Initializes the bias by `initializer` instead of zeros.
            #[must_use]
            pub fn bias_initializer(mut self, initializer: impl $crate::Initializer<B> + 'static) -> Self {
                self.bias = self.bias.map(|b| b.with_initializer(initializer));
                self
            }

            /// Uses `weight`, such as that of another layer, in the place of its own: the two are one. Its shape must be that of
            /// this layer's, as far as both are known; the bias takes its dtype.
            #[must_use]
            pub fn with_weight(mut self, weight: &$crate::Parameter<B>) -> Self {
                self.weight = self.weight.replaced(weight);
                self.bias = self.bias.map(|b| b.with_dtype(weight.dtype()));
                self
            }

            #[doc = concat!("Uses `bias`, `[", stringify!($size), "]`, in the place of its own.")]
            #[must_use]
            pub fn with_bias(mut self, bias: &$crate::Parameter<B>) -> Self {
                self.bias = Some(bias.clone().shaped(&[Some(self.$size)]));
                self
            }

            #[doc = concat!("b, `[", stringify!($size), "]`.")]
            pub fn bias(&self) -> Option<&$crate::Parameter<B>> {
                self.bias.as_ref()
            }
        }
    };
}
pub(super) use weight_and_bias;
