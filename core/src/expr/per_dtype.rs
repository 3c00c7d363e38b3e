//! Programs of built-in kernels: one definition, compiled once for each dtype that asks.

use super::{Expr, Kernel, Program};
use crate::{DType, Value};
use std::sync::{Arc, OnceLock};

/// Roots, dtypes of the inputs, dtypes of the launch arguments.
pub type Definition = (Vec<Expr>, Vec<DType>, Vec<DType>);

/// A kernel defined for every dtype, compiled when first used and kept.
#[derive(Debug)]
pub struct PerDType {
    name: &'static str,
    build: fn(DType) -> Definition,
    compiled: [OnceLock<Arc<Program>>; 9],
}

impl PerDType {
    /// The kernel `name`, defined by `build`.
    pub const fn new(name: &'static str, build: fn(DType) -> Definition) -> PerDType {
        PerDType { name, build, compiled: [const { OnceLock::new() }; 9] }
    }

    /// The program for `dtype`.
    ///
    /// # Panics
    /// Panics when the definition is ill-typed for `dtype`.
    pub fn program(&self, dtype: DType) -> &Arc<Program> {
        self.compiled[dtype as usize].get_or_init(|| {
            let (roots, inputs, scalars) = (self.build)(dtype);
            Program::new(self.name, &roots, &inputs, &scalars)
                .unwrap_or_else(|e| panic!("built-in kernel on {dtype}: {e}"))
        })
    }

    /// A launch for `dtype` with `scalars`.
    pub fn kernel<'a>(&'a self, dtype: DType, scalars: &'a [Value]) -> Kernel<'a> {
        Kernel::new(self.program(dtype), scalars)
    }
}
