//! What a run gives: lines, and their account as text, JSON and a page.

mod html;

pub use html::page;

use crate::case::{Failure, Measured};
use isograd_core::DType;
use std::fmt;

/// How a check ended.
#[derive(Clone, Debug)]
pub enum Status {
    /// Within every bound.
    Passed(Measured),
    /// Not.
    Failed(Box<Failure>),
    /// Not run, and why.
    Skipped(String),
}

/// One check: a case on a dtype.
#[derive(Clone, Debug)]
pub struct Line {
    /// The case.
    pub name: String,
    /// The dtype.
    pub dtype: DType,
    /// How it ended.
    pub status: Status,
    /// How long it took.
    pub seconds: f64,
}

/// All checks of a run.
#[derive(Clone, Debug)]
pub struct Report {
    /// The device's name.
    pub device: String,
    /// The checks.
    pub lines: Vec<Line>,
    /// How long they took together.
    pub seconds: f64,
}

impl Report {
    fn count(&self, is: impl Fn(&Status) -> bool) -> usize {
        self.lines.iter().filter(|l| is(&l.status)).count()
    }

    /// Checks that passed.
    pub fn passed(&self) -> usize {
        self.count(|s| matches!(s, Status::Passed(_)))
    }

    /// Checks that failed.
    pub fn failed(&self) -> usize {
        self.count(|s| matches!(s, Status::Failed(_)))
    }

    /// Checks that were not run.
    pub fn skipped(&self) -> usize {
        self.count(|s| matches!(s, Status::Skipped(_)))
    }

    /// The report as JSON.
    pub fn json(&self) -> serde_json::Value {
        let lines: Vec<serde_json::Value> = (self.lines.iter())
            .map(|l| {
                let (status, detail) = match &l.status {
                    Status::Passed(m) => (
                        "passed",
                        serde_json::json!({
                            "elements": m.elements, "open": m.open, "ulp": m.ulp, "bound": m.bound, "share": m.share
                        }),
                    ),
                    Status::Failed(f) => ("failed", serde_json::json!(f.to_string())),
                    Status::Skipped(why) => ("skipped", serde_json::json!(why)),
                };
                serde_json::json!({
                    "name": l.name, "dtype": l.dtype.name(), "status": status, "detail": detail, "seconds": l.seconds
                })
            })
            .collect();
        serde_json::json!({
            "device": self.device, "seconds": self.seconds, "passed": self.passed(), "failed": self.failed(),
            "skipped": self.skipped(), "lines": lines
        })
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:<32} {:<9}", self.name, self.dtype)?;
        match &self.status {
            Status::Passed(m) if m.share > 0.0 => {
                write!(f, "passed   worst {:.3} of {:.3} ulp, {} elements", m.ulp, m.bound, m.elements)?;
                if m.open > 0 { write!(f, ", {} open", m.open) } else { Ok(()) }
            }
            Status::Passed(m) if m.elements > 0 => write!(f, "passed   exact, {} elements", m.elements),
            Status::Passed(_) => write!(f, "passed"),
            Status::Failed(failure) => write!(f, "FAILED   {failure}"),
            Status::Skipped(why) => write!(f, "skipped  {why}"),
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in &self.lines {
            writeln!(f, "{line}")?;
        }
        writeln!(f, "{} in {:.1} s", self.device, self.seconds)?;
        write!(f, "passed {}, failed {}, skipped {}", self.passed(), self.failed(), self.skipped())
    }
}
