//! Printing blocks: a line per layer, indented by depth, as Gluon and PyTorch do.

use crate::{Parameters, Visitor, block::push};
use isograd_core::Backend;

/// The structure of a block as text, as Gluon prints it. `{net}` and `println!` use it.
///
/// ```
/// use isograd::nn::{Activation, Dense, Sequential, describe};
/// let mut net: Sequential = Sequential::new();
/// net.add(Dense::new(8).activation(Activation::Relu)).add(Dense::new(2).in_units(8));
/// assert_eq!(
///     describe(&net),
///     "Sequential(\n  (0): Dense(None -> 8, Activation(relu))\n  (1): Dense(8 -> 2, linear)\n)"
/// );
/// ```
pub fn describe<B: Backend>(block: &dyn Parameters<B>) -> String {
    text(block, false)
}

/// [`describe`] with what PyTorch prints: parameters that a block holds itself have lines of their own, with their shapes.
/// `{net:#}` uses it.
///
/// ```
/// use isograd::nn::{Activation, Dense, Sequential};
/// let mut net: Sequential = Sequential::new();
/// net.add(Dense::new(8)).add(Activation::Relu);
/// assert_eq!(
///     format!("{net:#}"),
///     "Sequential(\n  (0): Dense(\n    None -> 8, linear\n    (weight): Parameter (8, ?), float32\n    \
///      (bias): Parameter (8,), float32\n  )\n  (1): Activation(relu)\n)"
/// );
/// ```
pub fn describe_parameters<B: Backend>(block: &dyn Parameters<B>) -> String {
    text(block, true)
}

fn text<B: Backend>(block: &dyn Parameters<B>, parameters: bool) -> String {
    let mut lines = Lines { path: String::new(), text: String::new(), parameters };
    block.visit(&mut lines);
    let label = block.label().unwrap_or_default();
    if lines.text.is_empty() {
        return label;
    }
    // A label with options, `Dense(8 -> 2, linear)`, opens what its parameters close.
    match label.strip_suffix(')').and_then(|l| l.split_once('(')) {
        Some((name, options)) if !options.trim().is_empty() => format!("{name}(\n  {options}\n{})", lines.text),
        Some((name, _)) => format!("{name}(\n{})", lines.text),
        None => format!("{label}(\n{})", lines.text),
    }
}

/// Collects a line for each child that is a block; lists and pointers are looked through.
struct Lines {
    path: String,
    text: String,
    /// Whether parameters have lines as well.
    parameters: bool,
}

impl<B: Backend> Visitor<B> for Lines {
    fn parameter(&mut self, parameter: &crate::Parameter<B>) {
        if self.parameters {
            self.text.push_str(&format!("  ({}): Parameter {}\n", self.path, parameter.shape_and_dtype()));
        }
    }

    fn child(&mut self, name: &str, child: &dyn Parameters<B>) {
        let before = push(&mut self.path, name);
        if child.label().is_some() {
            let text = text(child, self.parameters).replace('\n', "\n  ");
            self.text.push_str(&format!("  ({}): {text}\n", self.path));
        } else {
            child.visit(self);
        }
        self.path.truncate(before);
    }
}

/// Implements `Display` and `Debug` of blocks by [`describe`] and, with `#`, by [`describe_parameters`]; `debug` alone for those
/// whose `Display` is derived, `display` alone for those that know no backend.
macro_rules! print_blocks {
    ($(impl [$($generics:tt)*] $type:ty;)*) => { $(
        $crate::describe::print_blocks!(@display [$($generics)*] $type, B);
        $crate::describe::print_blocks!(debug impl [$($generics)*] $type;);
    )* };
    ($(display impl [$($generics:tt)*] $type:ty;)*) => { $(
        $crate::describe::print_blocks!(@display [$($generics)*] $type, isograd_core::Dyn);
    )* };
    ($(debug impl [$($generics:tt)*] $type:ty;)*) => { $(
        impl<$($generics)*> std::fmt::Debug for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                std::fmt::Display::fmt(self, f)
            }
        }
    )* };
    (@display [$($generics:tt)*] $type:ty, $backend:ty) => {
        impl<$($generics)*> std::fmt::Display for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                let block: &dyn $crate::Parameters<$backend> = self;
                std::fmt::Display::fmt(block, f)
            }
        }
    };
}
pub(crate) use print_blocks;

impl<B: Backend> std::fmt::Display for dyn Parameters<B> + '_ {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(&if f.alternate() { describe_parameters(self) } else { describe(self) })
    }
}

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
