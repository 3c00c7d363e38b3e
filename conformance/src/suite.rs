//! Runs cases: chooses them by capabilities, makes failing draws small, and keeps the account.

use crate::{
    case::{Case, Checked, Environment, Failure, Measured, Options},
    report::{Line, Report, Status},
};
use isograd_core::{Backend, DType, Dyn};
use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    time::Instant,
};

/// All cases, for one device.
#[derive(Debug)]
pub struct Suite {
    ctx: Dyn,
    cases: Vec<Case>,
}

/// Who is told how far a run is. All methods do nothing unless they are written.
pub trait Progress: Sync {
    /// A case begins.
    fn begins(&self, _name: &str, _dtype: DType) {}

    /// A long case is this far; called from any thread.
    fn reached(&self, _part: u64, _of: u64) {}

    /// A case is done.
    fn ends(&self, _line: &Line) {}
}

impl Progress for () {}

/// Elements that a draw has at most.
const SIZE: usize = 400;

impl Suite {
    /// The suite for `ctx`.
    ///
    /// ```
    /// use isograd_conformance::{Options, Suite};
    /// use isograd_reference::Reference;
    /// let options = Options { filter: Some("forward_tanh".into()), ..Options::default() };
    /// let report = Suite::new(Reference).run(&options);
    /// assert_eq!((report.passed(), report.failed(), report.skipped()), (4, 0, 0));
    /// ```
    pub fn new(ctx: impl Backend) -> Suite {
        let mut cases = crate::operators::cases();
        cases.extend(crate::primitives::cases());
        cases.extend(crate::semantics::cases());
        cases.extend(crate::networks::cases());
        Suite { ctx: Dyn::new(ctx), cases }
    }

    /// The names of the cases, in the order in which they run.
    pub fn names(&self) -> Vec<&str> {
        self.cases.iter().map(|c| c.name.as_str()).collect()
    }

    /// How many checks `options` select.
    ///
    /// ```
    /// use isograd_conformance::{Options, Suite};
    /// let suite = Suite::new(isograd_reference::Reference);
    /// let share = |k| suite.count(&Options { share: (k, 3), ..Options::default() });
    /// assert_eq!(share(0) + share(1) + share(2), suite.count(&Options::default()));
    /// ```
    pub fn count(&self, options: &Options) -> usize {
        self.selected(options).count()
    }

    fn selected<'a>(&'a self, options: &'a Options) -> impl Iterator<Item = (&'a Case, DType)> {
        (self.cases.iter())
            .filter(|c| options.filter.as_ref().is_none_or(|f| c.name.contains(f.as_str())))
            .flat_map(|c| c.dtypes.iter().map(move |d| (c, *d)))
            .filter(|(_, d)| options.dtype.is_none_or(|o| o == *d))
            .skip(options.share.0)
            .step_by(options.share.1.max(1))
    }

    /// Runs what `options` select.
    pub fn run(&self, options: &Options) -> Report {
        self.run_with(options, &())
    }

    /// As [`Suite::run`], telling how far it is.
    pub fn run_with(&self, options: &Options, progress: &dyn Progress) -> Report {
        let start = Instant::now();
        let mut report = Report { device: self.ctx.name(), lines: vec![], seconds: 0.0 };
        for (case, dtype) in self.selected(options) {
            progress.begins(&case.name, dtype);
            let line = self.line(case, dtype, options, progress);
            progress.ends(&line);
            let failed = matches!(line.status, Status::Failed(_));
            report.lines.push(line);
            if failed && options.stop {
                break;
            }
        }
        report.seconds = start.elapsed().as_secs_f64();
        report
    }

    fn line(&self, case: &Case, dtype: DType, options: &Options, progress: &dyn Progress) -> Line {
        let start = Instant::now();
        let status = self.status(case, dtype, options, progress);
        Line { name: case.name.clone(), dtype, status, seconds: start.elapsed().as_secs_f64() }
    }

    fn status(&self, case: &Case, dtype: DType, options: &Options, progress: &dyn Progress) -> Status {
        let capabilities = self.ctx.capabilities();
        if !capabilities.stores.contains(dtype) {
            return Status::Skipped(format!("the device does not store {dtype}"));
        }
        if case.computes && !capabilities.computes.contains(dtype) {
            return Status::Skipped(format!("the device does not compute with {dtype}"));
        }
        if case.repeatable && !capabilities.deterministic {
            return Status::Skipped("the device does not promise the same bits twice".into());
        }
        let expected = options.expected.iter().find(|(name, _)| *name == case.name);
        match (self.attempt(case, dtype, options, SIZE, progress), expected) {
            (Err(failure), _) if failure.skipped => Status::Skipped(failure.why),
            (Ok(_), Some((_, why))) => {
                Status::Failed(Box::new(Failure::new("", format!("it passes, though it is expected to fail: {why}"))))
            }
            (Ok(measured), None) => Status::Passed(measured),
            (Err(_), Some((_, why))) => Status::Skipped(format!("expected to fail: {why}")),
            (Err(mut failure), None) => {
                // The same draws with fewer elements: the smallest that still fails is told.
                let mut size = SIZE;
                if !options.stop {
                    while size > 1 {
                        size /= 2;
                        if let Err(smaller) = self.attempt(case, dtype, options, size, progress) {
                            failure = smaller;
                        }
                    }
                }
                failure.why += &format!(
                    "\n    seed {}; again: isograd-conformance run --device {} --filter {} --dtype {dtype} --seed {}",
                    options.seed,
                    self.ctx.name(),
                    case.name,
                    options.seed
                );
                Status::Failed(Box::new(failure))
            }
        }
    }

    fn attempt(&self, case: &Case, dtype: DType, options: &Options, size: usize, progress: &dyn Progress) -> Checked {
        let environment =
            Environment { ctx: &self.ctx, dtype, level: options.level, seed: options.seed, size, progress };
        catch_unwind(AssertUnwindSafe(|| (case.run)(&environment))).unwrap_or_else(|panic| {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or(panic.downcast_ref::<&str>().map(|s| s.to_string())).unwrap_or_default();
            Err(Failure::new("", format!("it panicked: {text}")))
        })
    }
}

/// Runs the case `name` on `ctx` for every dtype, and panics with the report when it fails: what
/// [`suite!`](crate::suite) expands to.
///
/// # Panics
/// Panics when a check fails, or when there is no such case.
pub fn check(name: &str, ctx: impl Backend) {
    let mut suite = Suite::new(ctx);
    suite.cases.retain(|c| c.name == name);
    assert!(!suite.cases.is_empty(), "there is no case {name}");
    let report = suite.run(&Options::default());
    assert!(report.failed() == 0, "{report}");
    report.lines.iter().for_each(|l| println!("{l}"));
}

/// Adds up what several checks of one case measured.
pub(crate) fn total(checks: impl IntoIterator<Item = Checked>) -> Checked {
    let mut all = Measured::default();
    for check in checks {
        all.merge(&check?);
    }
    Ok(all)
}
