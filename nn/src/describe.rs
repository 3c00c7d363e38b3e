//! Printing blocks as Gluon does: a line per layer, indented by depth.

use crate::{Parameters, Visitor};
use isograd_core::Backend;

/// The structure of a block as text.
///
/// ```
/// use isograd_nn::{Activation, Dense, Sequential, describe};
/// let mut net: Sequential = Sequential::new();
/// net.add(Dense::new(8).activation(Activation::Relu)).add(Dense::new(2).in_units(8));
/// assert_eq!(
///     describe(&net),
///     "Sequential(\n  (0): Dense(None -> 8, Activation(relu))\n  (1): Dense(8 -> 2, linear)\n)"
/// );
/// ```
pub fn describe<B: Backend>(block: &dyn Parameters<B>) -> String {
    let mut lines = Lines { path: String::new(), text: String::new() };
    block.visit(&mut lines);
    let label = block.label().unwrap_or_default();
    if lines.text.is_empty() { label } else { format!("{label}(\n{})", lines.text) }
}

/// Collects a line for each child that is a block; lists and pointers are looked through.
struct Lines {
    path: String,
    text: String,
}

impl<B: Backend> Visitor<B> for Lines {
    fn parameter(&mut self, _: &crate::Parameter<B>) {}

    fn child(&mut self, name: &str, child: &dyn Parameters<B>) {
        let before = self.path.len();
        if before > 0 {
            self.path.push('.');
        }
        self.path.push_str(name);
        if child.label().is_some() {
            let text = describe(child).replace('\n', "\n  ");
            self.text.push_str(&format!("  ({}): {text}\n", self.path));
        } else {
            child.visit(self);
        }
        self.path.truncate(before);
    }
}

/// Implements `Display` and `Debug` of blocks by [`describe`].
macro_rules! print_blocks {
    ($(impl [$($generics:tt)*] $type:ty;)*) => { $(
        impl<$($generics)*> std::fmt::Display for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(&$crate::describe::describe(self as &dyn $crate::Parameters<B>))
            }
        }

        impl<$($generics)*> std::fmt::Debug for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                std::fmt::Display::fmt(self, f)
            }
        }
    )* };
}
pub(crate) use print_blocks;

#[cfg(test)]
mod tests {
    use crate::{Activation, Dense, Dropout, Sequential};

    #[test]
    fn nested_blocks_print_as_in_gluon() {
        let mut inner: Sequential = Sequential::new();
        inner.add(Dense::new(3).activation(Activation::Relu)).add(Dropout::new(0.5));
        let mut net = Sequential::new();
        net.add(inner).add(Dense::new(2));
        let expected = "Sequential(\n  (0): Sequential(\n    (0): Dense(None -> 3, Activation(relu))\n    \
                        (1): Dropout(p = 0.5, axes=())\n  )\n  (1): Dense(None -> 2, linear)\n)";
        assert_eq!(net.to_string(), expected);
        assert_eq!(Sequential::<isograd_core::Dyn>::new().to_string(), "Sequential(\n\n)");
    }
}
