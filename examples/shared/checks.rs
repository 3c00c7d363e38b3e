//! What the examples end with: claims that are checked and printed.

use std::process::ExitCode;

/// Claims, and whether all held so far.
#[derive(Debug, Default)]
pub struct Checks {
    failed: usize,
}

impl Checks {
    /// Prints the claim and whether it holds.
    pub fn claim(&mut self, what: &str, holds: bool) {
        println!("{} {what}", if holds { "holds:" } else { "FAILS:" });
        self.failed += usize::from(!holds);
    }

    /// Success when all claims held.
    pub fn exit(self) -> ExitCode {
        if self.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }
}
