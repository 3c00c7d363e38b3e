//! What a case is, what it measures, and how it fails.

use crate::{bounds, numbers::Numbers, oracle::Cell, suite::Progress};
use isograd_core::{DType, Dyn, Error, Value};
use std::fmt;

/// How much is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// One draw of each row: what the mutants are judged by.
    Quick,
    /// What everyone runs.
    Default,
    /// Ten times as much, every number for each function of an f32, and buffers beyond 4 GiB.
    Full,
}

/// How the suite runs.
#[derive(Clone, Debug)]
pub struct Options {
    /// Only cases whose name contains this.
    pub filter: Option<String>,
    /// Only this dtype.
    pub dtype: Option<DType>,
    /// How much is drawn.
    pub level: Level,
    /// Where the draws start.
    pub seed: u64,
    /// `(k, n)`: of what is selected, every n-th check from the k-th on, counted from 0; n processes may run one share each.
    pub share: (usize, usize),
    /// Whether to stop after the first failure.
    pub stop: bool,
    /// Cases that are known to fail, with the reason. One of them that passes is a failure.
    pub expected: Vec<(String, String)>,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            filter: None,
            dtype: None,
            level: Level::Default,
            seed: 1,
            share: (0, 1),
            stop: false,
            expected: vec![],
        }
    }
}

/// What a passed check measured.
#[derive(Clone, Debug, Default)]
pub struct Measured {
    /// Elements compared.
    pub elements: usize,
    /// Of those, the ones that rounding decides, about which nothing is claimed.
    pub open: usize,
    /// The largest error relative to its bound.
    pub share: f64,
    /// That error, in units of the last place.
    pub ulp: f64,
    /// Its bound, likewise.
    pub bound: f64,
}

impl Measured {
    /// Both together.
    pub fn merge(&mut self, other: &Measured) {
        self.elements += other.elements;
        self.open += other.open;
        if other.share > self.share {
            (self.share, self.ulp, self.bound) = (other.share, other.ulp, other.bound);
        }
    }
}

/// Everything there is to say about a failure.
#[derive(Clone, Debug, Default)]
pub struct Failure {
    /// Which variant of the operator, or what was asked of the device.
    pub variant: String,
    /// Shapes, strides and offsets of the operands.
    pub layouts: Vec<String>,
    /// What is wrong.
    pub why: String,
    /// The worst element, row-major.
    pub element: Option<usize>,
    /// What it should be.
    pub expected: String,
    /// What it is.
    pub got: String,
    /// Its error in units of the last place.
    pub ulp: f64,
    /// The bound on that.
    pub bound: f64,
    /// Not a failure: the case cannot run here, and `why` says why.
    pub skipped: bool,
}

impl Failure {
    /// What a case gives that cannot run on this device or machine.
    pub fn skip(why: impl Into<String>) -> Failure {
        Failure { why: why.into(), skipped: true, ..Failure::default() }
    }

    /// A failure that is not about one number.
    pub fn new(variant: impl Into<String>, why: impl Into<String>) -> Failure {
        Failure { variant: variant.into(), why: why.into(), ..Failure::default() }
    }

    /// The same, with the operands.
    #[must_use]
    pub fn on(mut self, layouts: Vec<String>) -> Failure {
        self.layouts = layouts;
        self
    }
}

impl From<Error> for Failure {
    fn from(e: Error) -> Failure {
        Failure::new("", format!("the device gave an error: {e}"))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.variant.is_empty() {
            write!(f, "{}: ", self.variant)?;
        }
        write!(f, "{}", self.why)?;
        if let Some(i) = self.element {
            write!(
                f,
                "\n    element {i}: expected {}, got {}; error {:.4} ulp, bound {:.4}",
                self.expected, self.got, self.ulp, self.bound
            )?;
        }
        for (k, layout) in self.layouts.iter().enumerate() {
            write!(f, "\n    operand {k}: {layout}")?;
        }
        Ok(())
    }
}

/// What a check gives.
pub type Checked = Result<Measured, Failure>;

/// What a case runs in.
pub struct Environment<'a> {
    /// The device under test.
    pub ctx: &'a Dyn,
    /// The dtype under test.
    pub dtype: DType,
    /// How much to draw.
    pub level: Level,
    /// Where the draws start.
    pub seed: u64,
    /// At most about this many elements: lowered to make a failing draw small.
    pub size: usize,
    /// Who is told how far a long case is.
    pub progress: &'a dyn Progress,
}

impl fmt::Debug for Environment<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Environment({:?} {} {:?} seed {} size {})", self.ctx, self.dtype, self.level, self.seed, self.size)
    }
}

impl Environment<'_> {
    /// The generator for `what`.
    pub fn numbers(&self, what: &str) -> Numbers {
        Numbers::new(self.seed, &format!("{what} {}", self.dtype))
    }

    /// Draws per row.
    pub fn draws(&self) -> u64 {
        match self.level {
            Level::Quick => 1,
            Level::Default => 3,
            Level::Full => 30,
        }
    }
}

/// What a case does.
pub type Run = Box<dyn Fn(&Environment<'_>) -> Checked + Send + Sync>;

/// One thing that must hold, for each of its dtypes.
pub struct Case {
    /// A name that is a Rust identifier, such as `forward_exp`.
    pub name: String,
    /// The dtypes that it is about.
    pub dtypes: Vec<DType>,
    /// Whether the device must compute with the dtype, not only store it.
    pub computes: bool,
    /// Whether it asks for the same bits twice.
    pub repeatable: bool,
    /// Runs it.
    pub run: Run,
}

impl fmt::Debug for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Case({} {:?})", self.name, self.dtypes)
    }
}

/// Compares elements with the oracle's. The bound holds for each element, not on average.
pub fn compare(dtype: DType, got: &[Value], expected: &[Cell]) -> Checked {
    let mut measured = Measured { elements: got.len(), ..Measured::default() };
    if got.len() != expected.len() {
        return Err(Failure::new("", format!("{} elements, expected {}", got.len(), expected.len())));
    }
    let mut worst: Option<(f64, Failure)> = None;
    for (i, (g, e)) in got.iter().zip(expected).enumerate() {
        if !e.error.is_finite() {
            measured.open += 1;
            continue;
        }
        let (distance, allowed) = apart(dtype, *g, e);
        let sign = wrong_sign(dtype, *g, e);
        let share = if sign {
            f64::INFINITY
        } else if distance == 0.0 {
            0.0
        } else {
            distance / allowed
        };
        if share > 1.0 && worst.as_ref().is_none_or(|w| share > w.0) {
            let failure = Failure {
                why: if sign { "a zero has the wrong sign" } else { "a result is off" }.into(),
                element: Some(i),
                expected: format!("{:e}", e.value.to_f64()),
                got: format!("{:e}", g.to_f64()),
                ulp: distance,
                bound: allowed,
                ..Failure::default()
            };
            worst = Some((share, failure));
        } else if share > measured.share {
            (measured.share, measured.ulp, measured.bound) = (share, distance, allowed);
        }
    }
    worst.map_or(Ok(measured), |w| Err(w.1))
}

/// Whether a zero has the other sign where that is defined.
fn wrong_sign(dtype: DType, got: Value, cell: &Cell) -> bool {
    let (v, g) = (cell.value.to_f64(), got.to_f64());
    dtype.is_float() && v == 0.0 && g == 0.0 && !cell.unsigned && v.is_sign_negative() != g.is_sign_negative()
}

/// Error and bound in units of the last place.
fn apart(dtype: DType, got: Value, cell: &Cell) -> (f64, f64) {
    if !dtype.is_float() {
        return (if got == cell.value { 0.0 } else { f64::INFINITY }, 0.0);
    }
    let (v, g) = (cell.value.to_f64(), got.to_f64());
    let distance = bounds::distance(dtype, g, v);
    let unit = bounds::ulp(dtype, v);
    // The oracle computes in f64 as well, and errs there by as much.
    let allowed =
        if dtype == DType::F64 && cell.error > 0.0 { 2.0 * cell.error / unit + 1.0 } else { cell.error / unit };
    if v.is_finite() && g.is_infinite() && v.abs() + cell.error >= bounds::overflow(dtype) {
        return (0.0, allowed);
    }
    // The oracle's own rounding, far below a unit of anything but f64.
    let own = if dtype == DType::F64 { 0.0 } else { 1e-6 };
    (distance, if v.is_finite() { allowed + if cell.error > 0.0 { own } else { 0.0 } } else { 0.0 })
}
