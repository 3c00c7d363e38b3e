//! The suite that every isograd backend must pass, and the proof that it can fail.
//!
//! A backend's own tests call it in one line; each case is a `#[test]` of its own:
//!
//! ```
//! isograd_conformance::suite!(isograd_reference::Reference);
//! ```
//!
//! [`Suite`] runs the same in a program and gives a [`Report`]. Cases are chosen by the capabilities that the backend
//! declares; what is skipped is listed with its reason. [`gradcheck`] and [`cross_check`] are for functions of one's own.
//!
//! Where things are: [`oracle`] computes what is right and how far off a result may be; [`bounds`] has the table that this
//! follows from; [`operators`] is the table of operators; `primitives` tries the methods of `Backend` themselves;
//! `semantics` all that is not numbers; [`networks`] trains some; [`mutants`] breaks a good backend in many ways, each of which must be found.
#![forbid(unsafe_code)]

pub mod bounds;
pub mod case;
mod gradcheck;
pub mod mutants;
mod names;
pub mod networks;
pub mod numbers;
pub mod operators;
pub mod oracle;
mod primitives;
pub mod report;
mod semantics;
mod suite;
mod watch;

pub use case::{Failure, Level, Options};
pub use gradcheck::{cross_check, gradcheck};
pub use names::NAMES;
pub use report::Report;
pub use suite::{Progress, Suite, check};
