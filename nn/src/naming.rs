//! Gluon's names: `dense0_weight` is the weight of the first Dense layer made on this thread.
//!
//! A structural path (`0.weight`) says where a parameter is in a network, and is what files hold; a name says which layer
//! made it, and is what errors and printing show.

use std::{
    cell::RefCell,
    collections::HashMap,
    sync::{Arc, Mutex},
};

#[derive(Default)]
struct Names {
    /// The scopes entered, outermost first.
    scopes: Vec<NameScope>,
    /// What the next block is to be called, instead of a number.
    given: Option<String>,
    outside: NameScope,
}

thread_local! {
    static NAMES: RefCell<Names> = RefCell::default();
}

/// What the names of a block's parts begin with, and how many parts of each kind it has. Clones are the same scope.
///
/// ```
/// use isograd::nn::{Dense, naming::NameScope};
/// let model = NameScope::new("model_");
/// let [first, second]: [Dense; 2] = [0, 1].map(|_| model.enter(|| Dense::new(2)));
/// assert_eq!(first.weight().name(), "model_dense0_weight");
/// assert_eq!(second.weight().name(), "model_dense1_weight");
/// assert_eq!(model.name("scale"), "model_scale");
/// ```
#[derive(Clone, Debug, Default)]
pub struct NameScope {
    prefix: String,
    counts: Arc<Mutex<HashMap<String, usize>>>,
}

impl NameScope {
    /// The scope of a block whose names begin with `prefix`, after that of the scope that is entered now.
    pub fn new(prefix: &str) -> NameScope {
        NameScope { prefix: current().prefix + prefix, ..NameScope::default() }
    }

    /// The scope of the next block of this kind: `residual0_`, `residual1_`, ...
    pub fn of(kind: &str) -> NameScope {
        NameScope { prefix: prefix(kind), ..NameScope::default() }
    }

    /// What names begin with.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// The name of a parameter of the block itself.
    pub fn name(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    /// Runs `f`; the layers that it makes are named and counted within this scope.
    pub fn enter<R>(&self, f: impl FnOnce() -> R) -> R {
        /// Leaves the scope, also when the closure panics.
        struct Leave;
        impl Drop for Leave {
            fn drop(&mut self) {
                NAMES.with_borrow_mut(|names| drop(names.scopes.pop()));
            }
        }
        NAMES.with_borrow_mut(|names| names.scopes.push(self.clone()));
        let _leave = Leave;
        f()
    }
}

fn current() -> NameScope {
    NAMES.with_borrow(|names| names.scopes.last().unwrap_or(&names.outside).clone())
}

/// The next prefix for a layer of the given kind: `dense0_`, `dense1_`, ... on each thread and in each scope.
pub fn prefix(kind: &str) -> String {
    let scope = current();
    if let Some(given) = NAMES.with_borrow_mut(|names| names.given.take()) {
        return scope.prefix + &given;
    }
    let mut counts = scope.counts.lock().unwrap_or_else(|e| e.into_inner());
    let count = counts.entry(kind.to_string()).or_default();
    *count += 1;
    format!("{}{kind}{}_", scope.prefix, *count - 1)
}

/// Runs `f`; the layers that it makes get `scope` in front of their names, and are counted on their own.
///
/// ```
/// use isograd::nn::{Dense, naming};
/// let layer: Dense = naming::scope("model_", || Dense::new(2));
/// assert_eq!(layer.weight().name(), "model_dense0_weight");
/// ```
pub fn scope<R>(scope: &str, f: impl FnOnce() -> R) -> R {
    NameScope::new(scope).enter(f)
}

/// Runs `f`; the first block that it makes has this prefix instead of a number. Gluon's argument `prefix`.
///
/// ```
/// use isograd::nn::{Dense, naming};
/// let layer: Dense = naming::named("out_", || Dense::new(2));
/// assert_eq!(layer.weight().name(), "out_weight");
/// ```
pub fn named<R>(prefix: &str, f: impl FnOnce() -> R) -> R {
    /// Forgets a prefix that no block took, also when the closure panics.
    struct Forget(Option<String>);
    impl Drop for Forget {
        fn drop(&mut self) {
            NAMES.with_borrow_mut(|names| names.given = self.0.take());
        }
    }
    let _forget = Forget(NAMES.with_borrow_mut(|names| names.given.replace(prefix.to_string())));
    f()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_count_by_kind_and_scope() {
        assert_eq!((prefix("x"), prefix("x"), prefix("y")), ("x0_".into(), "x1_".into(), "y0_".into()));
        scope("a_", || {
            assert_eq!(prefix("x"), "a_x0_");
            assert_eq!(scope("b_", || prefix("x")), "a_b_x0_");
            assert_eq!(prefix("x"), "a_x1_");
        });
        assert_eq!(prefix("x"), "x2_");
    }

    #[test]
    fn a_given_prefix_is_for_one_block_only() {
        let both = named("first_", || (prefix("z"), prefix("z")));
        assert_eq!(both, ("first_".into(), "z0_".into()));
        named("unused_", || ());
        assert_eq!(prefix("z"), "z1_");
    }
}
