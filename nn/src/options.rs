//! What options may be. Builders take any number, since they give no error; the first call that can fail refuses it: the
//! forward pass of a layer, `loss` of a loss, `Trainer::new` and each step for an optimizer.

use isograd_core::{Error, Result};
use std::fmt;

/// [`Error::InvalidArgument`] with the option's name and value unless it `holds` that the option is what `rule` says.
pub(crate) fn require(op: &'static str, option: &str, value: impl fmt::Debug, holds: bool, rule: &str) -> Result<()> {
    if holds { Ok(()) } else { Err(Error::invalid(op, format!("{option} must be {rule}, not {value:?}"))) }
}

pub(crate) fn finite(op: &'static str, option: &str, value: f64) -> Result<()> {
    require(op, option, value, value.is_finite(), "finite")
}

/// Finite and above 0.
pub(crate) fn positive(op: &'static str, option: &str, value: f64) -> Result<()> {
    require(op, option, value, value > 0.0 && value.is_finite(), "finite and above 0")
}

/// Finite and at least 0.
pub(crate) fn not_negative(op: &'static str, option: &str, value: f64) -> Result<()> {
    require(op, option, value, value >= 0.0 && value.is_finite(), "finite and at least 0")
}

/// How much of something old is kept, or how much is dropped: at least 0, below 1.
pub(crate) fn share(op: &'static str, option: &str, value: f64) -> Result<()> {
    require(op, option, value, (0.0..1.0).contains(&value), "at least 0 and below 1")
}

/// A size or a count that is not 0.
pub(crate) fn at_least_one(op: &'static str, option: &str, value: u64) -> Result<()> {
    require(op, option, value, value > 0, "at least 1")
}

/// A name, and what makes what it is the name of.
type Named<T> = (&'static str, fn() -> T);

/// What stands under `name` in `table`, whatever the case: how what Gluon has by name is read.
pub(crate) fn by_name<T>(op: &'static str, name: &str, table: &[Named<T>]) -> Result<T> {
    match table.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)) {
        Some((_, make)) => Ok(make()),
        None => {
            let names: Vec<&str> = table.iter().map(|(known, _)| *known).collect();
            Err(Error::invalid(op, format!("there is none called {name:?}; there are {}", names.join(", "))))
        }
    }
}
