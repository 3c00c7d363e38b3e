//! The proof that the suite can fail: a good backend with one fault planted, of a kind seen in real backends. Each must be
//! found by the suite, and the backend without a fault must pass.
//!
//! To add one: a row in `table`. `Plant` says where a fault can sit; `backend` puts it there. Faults of asynchronous
//! backends are in `lazy`, a decorator that does everything later.

mod backend;
mod lazy;
mod table;

pub use backend::Mutant;
pub use lazy::{Haste, Lazy};
pub use table::{Fault, faults};

use table::Plant;

use crate::{Level, Options, Suite, report::Status};
use isograd_core::{Backend, Dyn};

/// What became of a mutant.
#[derive(Clone, Debug)]
pub struct Verdict {
    /// The fault's name.
    pub name: &'static str,
    /// The first check that failed, and how; none: the mutant lives.
    pub killed_by: Option<(String, String)>,
    /// How long that took.
    pub seconds: f64,
}

/// Runs the quick suite on `inner` with each fault in turn whose name contains `filter`, telling each verdict. With a
/// filter, what a failure says is made as small as it is in any other run.
///
/// ```no_run
/// use isograd_conformance::mutants;
/// let verdicts = mutants::run(&isograd_reference::Reference, None, &mut |v| println!("{v:?}"));
/// assert!(verdicts.iter().all(|v| v.killed_by.is_some()));
/// ```
pub fn run(inner: &impl Backend, filter: Option<&str>, told: &mut dyn FnMut(&Verdict)) -> Vec<Verdict> {
    let small = filter.is_some();
    let inner = Dyn::new(inner.clone());
    let mut verdicts = Vec::new();
    for fault in faults().iter().filter(|f| filter.is_none_or(|part| f.name.contains(part))) {
        let verdict = match fault.plant {
            Plant::Queue(haste) => judge(Lazy::new(inner.clone(), fault.name, Some(haste)), fault.name, small),
            _ => judge(Mutant::new(inner.clone(), Some(fault)), fault.name, small),
        };
        told(&verdict);
        verdicts.push(verdict);
    }
    verdicts
}

/// Runs the quick suite on one mutant until a check fails, then what large memories show. Primitives come first: they
/// find most faults soonest. `small`: the failure is shrunk.
pub fn judge(mutant: impl Backend, name: &'static str, small: bool) -> Verdict {
    let suite = Suite::new(mutant);
    let mut verdict = Verdict { name, killed_by: None, seconds: 0.0 };
    // Faults are called by the method that they sit in, if they sit in one.
    let own = format!("primitive_{}", name.split([' ', '\'']).next().unwrap_or_default());
    let first = [own.as_str(), "primitive_order", "primitive_errors", "semantics_out_of_memory"];
    let quick = first.into_iter().chain(["primitive_", "semantics_", "forward_", "gradient_"]);
    let quick = quick.map(|filter| (filter, Level::Quick));
    // What only large memories show takes seconds, so it comes last.
    let slow = ["primitive_large", "primitive_far_offsets"].map(|filter| (filter, Level::Default));
    for (filter, level) in quick.chain(slow) {
        let options = Options { filter: Some(filter.into()), level, stop: true, ..Options::default() };
        let report = suite.run(&options);
        verdict.seconds += report.seconds;
        let failed = report.lines.iter().find_map(|l| match &l.status {
            Status::Failed(f) => {
                let again =
                    Options { filter: Some(l.name.clone()), dtype: Some(l.dtype), stop: false, ..options.clone() };
                let told = if small { suite.run(&again).to_string() } else { f.to_string() };
                Some((format!("{} {}", l.name, l.dtype), told))
            }
            _ => None,
        });
        if failed.is_some() {
            verdict.killed_by = failed;
            break;
        }
    }
    verdict
}
