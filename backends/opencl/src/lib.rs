//! The OpenCL backend of isograd: GPUs, CPUs and accelerators of any vendor, from OpenCL 1.2 on.
//!
//! The OpenCL library is loaded when the first device is opened; where there is none, [`OpenCl::new`] says what to install.
//! Kernels are rendered from expressions and a few templates, compiled by the device's driver, and kept in memory and on
//! disk (in the folder that `ISOGRAD_CACHE_DIR` names, or the user's cache folder; PoCL keeps its own). Sizes and strides
//! are arguments, so new shapes compile nothing. Memory is pooled per context.
//!
//! ```
//! use isograd_core::Tensor;
//! use isograd_opencl::OpenCl;
//! match OpenCl::new(0) {
//!     Ok(ctx) => {
//!         let x = Tensor::from_slice(&ctx, &[1.0f32, 2.0, 3.0], [3])?;
//!         assert_eq!((&x * &x).to_vec::<f32>()?, [1.0, 4.0, 9.0]);
//!     }
//!     Err(error) => assert!(error.to_string().contains("install")),
//! }
//! # Ok::<(), isograd_core::Error>(())
//! ```
//!
//! Where things are: `platform` finds devices; `context` is what the handles to one context share; `memory`, `program`
//! and `launch` its parts; `walk` the text that element loops share; each kind of kernel is a file of its own.

mod builtins;
#[cfg(feature = "clblast")]
mod clblast;
mod context;
mod conv;
mod dot;
#[cfg(test)]
mod faults;
mod gather;
mod gemm;
mod launch;
mod map;
mod matmul;
mod memory;
mod platform;
mod pool;
mod program;
mod reduce;
mod rows;
#[cfg(test)]
mod tests;
mod walk;

pub use memory::Buffer;
pub use platform::{Class, Description};

use context::Shared;
use isograd_core::{
    Backend, Capabilities, DType, DTypes, Error, Operand, OperandMut, Pool, ReduceOp, Result, Window,
    expr::{
        Kernel,
        render::{Dialect, Renderer},
    },
};
use isograd_kernel_cache::Cache;
use program::Programs;
use std::{
    fmt,
    path::Path,
    sync::{Arc, Mutex, atomic::Ordering},
};

/// An OpenCL device: a handle to a context with its queues, memory and kernels. Clones are the same context.
///
/// [`OpenCl::new`] gives the process's context of a device; [`OpenCl::separate`] makes one of its own.
#[derive(Clone)]
pub struct OpenCl {
    shared: Arc<Shared>,
}

/// The contexts of the process, by the number of their device.
static CONTEXTS: Mutex<Vec<Option<OpenCl>>> = Mutex::new(Vec::new());

/// Choices for [`OpenCl::separate`].
#[derive(Clone, Debug, Default)]
pub struct Options<'a> {
    /// Where compiled kernels are kept; without it, where `ISOGRAD_CACHE_DIR` says, or the user's cache folder (PoCL keeps
    /// its own).
    pub cache: Option<&'a Path>,
    /// How kernels divide their work; without it, as the device's kind suggests.
    pub class: Option<Class>,
}

impl OpenCl {
    /// The context of device `index`, the same one for every call; a new one after the device was lost.
    ///
    /// # Errors
    /// [`Error::Backend`] where there is no OpenCL library, driver or device, which says what to install;
    /// [`Error::UnknownDevice`] where there is no device of that number.
    pub fn new(index: usize) -> Result<OpenCl> {
        let mut contexts = CONTEXTS.lock().unwrap_or_else(|e| e.into_inner());
        if let Some(Some(ctx)) = contexts.get(index)
            && !ctx.shared.lost.load(Ordering::Relaxed)
        {
            return Ok(ctx.clone());
        }
        let ctx = OpenCl::separate(index, &Options::default())?;
        if contexts.len() <= index {
            contexts.resize(index + 1, None);
        }
        contexts[index] = Some(ctx.clone());
        Ok(ctx)
    }

    /// A new context of device `index`, with queues, memory and kernels of its own. It is not equal to any other.
    ///
    /// # Errors
    /// As [`OpenCl::new`].
    pub fn separate(index: usize, options: &Options<'_>) -> Result<OpenCl> {
        let devices = platform::devices()?;
        let name = format!("opencl:{index}");
        let Some(mut facts) = devices.get(index).cloned() else {
            let available: Vec<String> =
                devices.iter().enumerate().map(|(i, d)| format!("opencl:{i} ({})", d.name)).collect();
            return Err(Error::UnknownDevice { name, available: available.join(", "), hint: String::new() });
        };
        facts.class = options.class.unwrap_or(facts.class);
        let cache = options.cache.map_or_else(
            || // PoCL keeps what it compiled itself: then asking it for binaries costs more than they save.
            Cache::of_user("opencl", !builtins::is_pocl(&facts)),
            Cache::at,
        );
        let programs = Programs::new(&facts, cache);
        Ok(OpenCl { shared: Arc::new(Shared::new(name, facts, programs)?) })
    }

    /// The contexts of all devices.
    ///
    /// # Errors
    /// As [`OpenCl::new`].
    pub fn all() -> Result<Vec<OpenCl>> {
        (0..OpenCl::count()?).map(OpenCl::new).collect()
    }

    /// The number of devices.
    ///
    /// # Errors
    /// [`Error::Backend`] where there is no OpenCL library, driver or device.
    pub fn count() -> Result<usize> {
        Ok(platform::devices()?.len())
    }

    /// The first device in whose platform's, vendor's or own name `word` occurs, in any case: `OpenCl::find("intel")`.
    ///
    /// # Errors
    /// As [`OpenCl::new`].
    pub fn find(word: &str) -> Result<OpenCl> {
        let devices = platform::devices()?;
        match devices.iter().position(|d| d.matches(word)) {
            Some(index) => OpenCl::new(index),
            None => Err(Error::UnknownDevice {
                name: format!("opencl:{word}"),
                available: devices
                    .iter()
                    .enumerate()
                    .map(|(i, d)| format!("opencl:{i} ({}, {})", d.name, d.platform))
                    .collect::<Vec<_>>()
                    .join(", "),
                hint: String::new(),
            }),
        }
    }

    /// What the driver says about the device.
    pub fn description(&self) -> &Description {
        &self.shared.facts
    }

    /// Bytes of freed buffers that are kept for the next ones.
    pub fn kept_memory(&self) -> usize {
        self.shared.pool.kept()
    }

    /// Keeps at most `bytes` of freed buffers; 1 GiB unless told otherwise.
    pub fn set_memory_limit(&self, bytes: usize) {
        self.shared.pool.set_limit(bytes);
    }

    /// Gives the memory of freed buffers back to the driver.
    pub fn trim(&self) {
        self.shared.pool.trim();
    }
}

impl PartialEq for OpenCl {
    /// The same context.
    fn eq(&self, other: &OpenCl) -> bool {
        Arc::ptr_eq(&self.shared, &other.shared)
    }
}

impl fmt::Debug for OpenCl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OpenCl({}, {})", self.shared.name, self.shared.facts.name)
    }
}

impl Backend for OpenCl {
    type Buffer = Buffer;

    fn name(&self) -> String {
        self.shared.name.clone()
    }

    fn capabilities(&self) -> Capabilities {
        let dtypes = if self.shared.facts.double { DTypes::ALL } else { DTypes::ALL.without(DType::F64) };
        let facts = &self.shared.facts;
        Capabilities {
            stores: dtypes,
            computes: dtypes,
            deterministic: true,
            exact: !facts.native() && facts.exact_division && !sums_elsewhere(),
            max_buffer: facts.max_buffer,
        }
    }

    fn alloc(&self, bytes: usize) -> Result<Buffer> {
        memory::alloc(&self.shared, bytes)
    }

    fn upload(&self, bytes: &[u8], to: &mut Buffer, offset: usize) -> Result<()> {
        self.shared.upload(bytes, to, offset)
    }

    fn download(&self, from: &Buffer, offset: usize, bytes: &mut [u8]) -> Result<()> {
        self.shared.download(from, offset, bytes)
    }

    fn synchronize(&self) -> Result<()> {
        self.shared.synchronize("synchronize")
    }

    fn map(
        &self,
        kernel: &Kernel<'_>,
        inputs: &[Operand<'_, Self>],
        outputs: &mut [OperandMut<'_, Self>],
    ) -> Result<()> {
        map::map(self, kernel, inputs, outputs)
    }

    fn reduce(
        &self,
        op: ReduceOp,
        kernel: &Kernel<'_>,
        inputs: &[Operand<'_, Self>],
        output: &mut OperandMut<'_, Self>,
    ) -> Result<()> {
        reduce::reduce(self, op, kernel, inputs, output)
    }

    fn gather(
        &self,
        axis: usize,
        source: &Operand<'_, Self>,
        index: &Operand<'_, Self>,
        output: &mut OperandMut<'_, Self>,
    ) -> Result<()> {
        gather::gather(self, axis, source, index, output)
    }

    fn scatter_add(
        &self,
        axis: usize,
        source: &Operand<'_, Self>,
        index: &Operand<'_, Self>,
        output: &mut OperandMut<'_, Self>,
    ) -> Result<()> {
        gather::scatter_add(self, axis, source, index, output)
    }

    fn matmul(&self, a: &Operand<'_, Self>, b: &Operand<'_, Self>, output: &mut OperandMut<'_, Self>) -> Result<()> {
        matmul::matmul(self, a, b, output)
    }

    fn conv(
        &self,
        window: &Window,
        input: &Operand<'_, Self>,
        weight: &Operand<'_, Self>,
        output: &mut OperandMut<'_, Self>,
    ) -> Result<()> {
        conv::conv(self, window, input, weight, output)
    }

    fn conv_weight_gradient(
        &self,
        window: &Window,
        input: &Operand<'_, Self>,
        head: &Operand<'_, Self>,
        output: &mut OperandMut<'_, Self>,
    ) -> Result<()> {
        conv::conv_weight_gradient(self, window, input, head, output)
    }

    fn pool(
        &self,
        kind: Pool,
        window: &Window,
        input: &Operand<'_, Self>,
        output: &mut OperandMut<'_, Self>,
    ) -> Result<()> {
        pool::pool(self, kind, window, input, output)
    }

    fn pool_gradient(
        &self,
        kind: Pool,
        window: &Window,
        input: &Operand<'_, Self>,
        head: &Operand<'_, Self>,
        output: &mut OperandMut<'_, Self>,
    ) -> Result<()> {
        pool::pool_gradient(self, kind, window, input, head, output)
    }

    fn softmax(&self, logarithm: bool, input: &Operand<'_, Self>, output: &mut OperandMut<'_, Self>) -> Result<()> {
        rows::softmax(self, logarithm, input, output)
    }

    fn normalize(
        &self,
        epsilon: f64,
        input: &Operand<'_, Self>,
        output: &mut OperandMut<'_, Self>,
        mean: &mut OperandMut<'_, Self>,
        rstd: &mut OperandMut<'_, Self>,
    ) -> Result<()> {
        rows::normalize(self, epsilon, input, output, mean, rstd)
    }

    fn scan(&self, op: ReduceOp, input: &Operand<'_, Self>, output: &mut OperandMut<'_, Self>) -> Result<()> {
        rows::scan(self, op, input, output)
    }

    fn argsort(&self, descending: bool, input: &Operand<'_, Self>, output: &mut OperandMut<'_, Self>) -> Result<()> {
        rows::argsort(self, descending, input, output)
    }
}

/// Whether a library sums some products, in an order of its own.
fn sums_elsewhere() -> bool {
    #[cfg(feature = "clblast")]
    return clblast::is_there();
    #[cfg(not(feature = "clblast"))]
    false
}

/// What stands before a kernel: what `renderer` used, and the types, with doubles where `dtype` is f64.
fn preamble(renderer: &Renderer, dtype: DType) -> String {
    let text = renderer.preamble();
    match dtype {
        DType::F64 => text.replacen(&Dialect::OpenCl.prologue(false), &Dialect::OpenCl.prologue(true), 1),
        _ => text,
    }
}
