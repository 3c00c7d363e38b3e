//! The CUDA backend of isograd.
//!
//! It builds without a CUDA toolkit, and a program that has it starts without a driver: the driver, the compiler of
//! kernels (NVRTC), cuBLAS, cuDNN and NCCL are opened at run time. What is missing is told by [`Cuda::new`] or by the
//! first kernel; for the last three, own kernels serve. Kernels are CUDA C++, rendered from expressions or written by
//! hand (`src/kernels`), compiled for the device when first used, and kept on disk.
//!
//! A context is exact or fast ([`Mode`]). In an exact one, which [`Cuda::new`] gives, results have the bits that the book's
//! chapter *Arithmetic* defines, the same as on every other exact device. In a fast one products and convolutions run on
//! tensor cores, or in cuBLAS and cuDNN where they are found.
//!
//! In both, results are the same to the last bit every time: how work is cut follows from sizes, and nothing is added
//! atomically, unless a fast context is told by [`Cuda::set_deterministic`] that it may be. TF32 is used only when asked for,
//! by [`Cuda::set_tf32`].
//!
//! ```
//! use isograd_core::{DType, Tensor};
//! use isograd_cuda::Cuda;
//! match Cuda::new(0) {
//!     Ok(cuda) => {
//!         let x = Tensor::<Cuda>::ones(&cuda, [2, 3], DType::F32)?;
//!         assert_eq!(x.sum((), false)?.asscalar::<f32>()?, 6.0);
//!     }
//!     Err(e) => assert!(e.to_string().contains("cuda"), "{e}"),
//! }
//! # Ok::<(), isograd_core::Error>(())
//! ```
//!
//! Where things are: `driver` is what is asked of a device, and the device itself; `library` finds libraries, `nvrtc`
//! compiles; `cublas`, `cublas_lt`, `cudnn` and `nccl` call NVIDIA's libraries;
//! `context` is a device's state, `memory` its memory; `source` puts sources together; each other file launches a family
//! of kernels.

mod context;
mod cublas;
mod cublas_lt;
mod cudnn;
pub mod driver;
mod elementwise;
mod gather;
mod gemm;
mod library;
mod matmul;
mod memory;
mod nccl;
mod nvrtc;
mod operand;
mod reduce;
mod rows;
mod source;
#[cfg(test)]
mod tests;
mod window;

pub use memory::Buffer;
pub use nvrtc::Nvrtc;

use context::{Captured, Context};
use driver::Driver;
use isograd_core::{
    Backend, Capabilities, Error, Operand, OperandMut, Pool, ReduceOp, Result, Window,
    backend::{composed, replay},
    expr::Kernel,
};
use isograd_kernel_cache::Cache;
use std::{
    collections::HashMap,
    fmt,
    panic::{self, AssertUnwindSafe},
    path::Path,
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicBool, Ordering},
    },
};
use window::Which;

/// Which results a context gives.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum Mode {
    /// Those that the book's chapter *Arithmetic* defines, to the last bit.
    #[default]
    Exact,
    /// Within error bounds: products and convolutions in cuBLAS and cuDNN where they are found, f16 and bf16 on tensor cores;
    /// and what [`Cuda::set_tf32`] and [`Cuda::set_deterministic`] allow.
    Fast,
}

/// A CUDA device. [`Cuda::new`] gives the context of the process for the device of that number; all values made that
/// way are equal, as long as one of them lives. So are those of [`Cuda::with_mode`] for one device and mode.
#[derive(Clone)]
pub struct Cuda {
    context: Arc<Context>,
}

impl Cuda {
    /// Device `number`, counted from 0, with exact results.
    ///
    /// # Errors
    /// [`Error::Backend`] without NVIDIA's driver, or when the device cannot be used; [`Error::UnknownDevice`] when
    /// there are fewer.
    pub fn new(number: usize) -> Result<Cuda> {
        Cuda::with_mode(number, Mode::Exact)
    }

    /// Device `number`, counted from 0, with exact or with fast results. The contexts of both modes are two devices to core:
    /// tensors go from one to the other by a copy.
    ///
    /// ```
    /// use isograd_core::Backend;
    /// use isograd_cuda::{Cuda, Mode};
    /// if let Ok(cuda) = Cuda::with_mode(0, Mode::Fast) {
    ///     assert_eq!(cuda.name(), "cuda:0:fast");
    ///     assert!(!cuda.capabilities().exact);
    /// }
    /// ```
    ///
    /// # Errors
    /// As [`Cuda::new`].
    pub fn with_mode(number: usize, mode: Mode) -> Result<Cuda> {
        type Contexts = HashMap<(usize, Mode), Weak<Context>>;
        static OPEN: Mutex<Option<Contexts>> = Mutex::new(None);
        let mut open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
        let open = open.get_or_insert_default();
        if let Some(context) = open.get(&(number, mode)).and_then(Weak::upgrade) {
            return Ok(Cuda { context });
        }
        let driver = Arc::new(driver::Device::new(number)?);
        let context = Arc::new(Context::new(driver, Cache::of_user("cuda", true), mode)?);
        open.insert((number, mode), Arc::downgrade(&context));
        Ok(Cuda { context })
    }

    /// The device that the part after `cuda:` of its name stands for: a number, `fast`, or both, as in `1:fast`; the first
    /// device where no number is given.
    ///
    /// ```
    /// use isograd_core::Error;
    /// use isograd_cuda::Cuda;
    /// assert_eq!(Cuda::find("0:fast").is_ok(), Cuda::count() > 0);
    /// assert!(matches!(Cuda::find("0:quick").unwrap_err(), Error::UnknownDevice { .. }));
    /// ```
    ///
    /// # Errors
    /// As [`Cuda::new`]; [`Error::UnknownDevice`] for anything else.
    pub fn find(which: &str) -> Result<Cuda> {
        let (number, mode) = match which.rsplit_once(':') {
            Some((number, "fast")) => (number, Mode::Fast),
            None if which == "fast" => ("0", Mode::Fast),
            _ => (if which.is_empty() { "0" } else { which }, Mode::Exact),
        };
        match number.parse() {
            Ok(number) => Cuda::with_mode(number, mode),
            Err(_) => Err(Error::UnknownDevice {
                name: format!("cuda:{which}"),
                available: driver::names(Cuda::count()),
                hint: "; after the colon comes a number, `fast`, or both, as in cuda:0:fast".into(),
            }),
        }
    }

    /// A device behind a [`Driver`] of one's own, with its compiled kernels kept in `directory`.
    ///
    /// # Errors
    /// What the driver reports.
    pub fn with_driver(driver: Arc<dyn Driver>, directory: impl AsRef<Path>, mode: Mode) -> Result<Cuda> {
        Ok(Cuda { context: Arc::new(Context::new(driver, Cache::at(directory.as_ref()), mode)?) })
    }

    /// How many devices there are; 0 without a driver.
    ///
    /// ```
    /// assert_eq!(isograd_cuda::Cuda::new(isograd_cuda::Cuda::count()).is_ok(), false);
    /// ```
    pub fn count() -> usize {
        driver::count()
    }

    /// Which results this context gives.
    pub fn mode(&self) -> Mode {
        self.context.mode
    }

    pub(crate) fn is_fast(&self) -> bool {
        self.mode() == Mode::Fast
    }

    /// Notes whether a way with other results may be taken; an exact context has none.
    fn allow(&self, op: &'static str, what: &AtomicBool, value: bool, other: bool) -> Result<()> {
        if other && !self.is_fast() {
            let name = self.name();
            let why = format!(
                "{name} is exact, and what this allows has other results; use the device {name}:fast, \
                 which Cuda::with_mode(.., Mode::Fast) opens too"
            );
            return Err(Error::invalid(op, why));
        }
        what.store(value, Ordering::Relaxed);
        Ok(())
    }

    /// Whether products of f32 may round their operands to TF32 (10 bits of mantissa) and run on tensor cores.
    pub fn tf32(&self) -> bool {
        self.context.tf32.load(Ordering::Relaxed)
    }

    /// Allows TF32, or forbids it, for this fast context; forbidden unless told otherwise. Compute capability 8.0 or later
    /// has it.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] where it is to be allowed and the context is exact.
    pub fn set_tf32(&self, allowed: bool) -> Result<()> {
        self.allow("set_tf32", &self.context.tf32, allowed, allowed)
    }

    /// Whether everything gives the same bits every time.
    pub fn deterministic(&self) -> bool {
        self.context.deterministic.load(Ordering::Relaxed)
    }

    /// Allows faster ways whose results may differ in the last bits from one time to the next, or forbids them, for this
    /// fast context; forbidden unless told otherwise. They are: `scatter_add` (the gradient of an embedding, or of `take`) of
    /// f32 and f64 by atomic additions, and those of cuDNN's algorithms that add so.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] where they are to be allowed and the context is exact.
    pub fn set_deterministic(&self, wanted: bool) -> Result<()> {
        self.allow("set_deterministic", &self.context.deterministic, wanted, !wanted)
    }

    /// Bytes of the device's memory in buffers.
    pub fn used_memory(&self) -> usize {
        self.context.memory.usage().0
    }

    /// Bytes of the device's memory in dropped buffers, kept for the next ones.
    pub fn kept_memory(&self) -> usize {
        self.context.memory.usage().1
    }

    /// Uses at most `bytes` of the device's memory, kept buffers included; no limit unless told otherwise. Outside it
    /// is what the driver takes, what CUDA's libraries take, and 32 MiB through which uploads above 64 KiB go once there
    /// was one.
    pub fn set_memory_limit(&self, bytes: usize) {
        self.context.memory.set_limit(bytes);
    }

    /// Gives the memory of dropped buffers back to the device.
    pub fn trim(&self) {
        self.context.memory.trim();
    }

    /// Records what `step` computes, to be run again by [`Graph::replay`] at a fraction of the cost of launching its
    /// kernels one by one: what it reads must be on the device, its shapes fixed, and its results written in place
    /// (`assign`, a parameter's update). Nothing is computed here; every kernel must have run before, so call `step` once
    /// in the ordinary way first. Meanwhile, no other thread may use the device: what it computes would be recorded too.
    ///
    /// Replays give what calls of `step` would: each draws random numbers anew, so that dropout has another mask, from the
    /// generator of the thread that replays; each counts as an update of a `Trainer`, with the learning rate, the correction
    /// of Adam's moments and the place in a schedule of that time. Other numbers that are no tensors stay what they were,
    /// unless they are told by [`replay::changing`].
    ///
    /// # Errors
    /// What `step` returns; [`Error::Backend`] where it copies to or from the host, or waits.
    pub fn capture(&self, step: impl FnOnce() -> Result<()>) -> Result<Graph> {
        let driver = &self.context.driver;
        if self.context.memory.in_arena() {
            return Err(Error::backend(driver.name(), "capture", "a capture is under way; end it first"));
        }
        driver.begin_capture()?;
        self.context.memory.begin_arena();
        let earlier = self.context.may_fault(false);
        // Whatever the step does, the device goes on as before.
        let (done, changes) = replay::record(|| panic::catch_unwind(AssertUnwindSafe(step)));
        let numbers = self.context.take_numbers();
        let arena = self.context.memory.end_arena();
        let graph = driver.end_capture();
        let (context, changes) = (self.context.clone(), Mutex::new(changes));
        let may_fault = self.context.may_fault(earlier);
        let graph =
            graph.map(|graph| Graph { captured: Captured { context, graph, arena, may_fault, changes, numbers } });
        done.unwrap_or_else(|panic| panic::resume_unwind(panic))?;
        graph
    }

    /// Copies to and from the host cannot be recorded.
    fn not_capturing(&self, op: &str) -> Result<()> {
        match self.context.memory.in_arena() {
            true => Err(Error::backend(
                self.name(),
                op,
                "the step being captured copies to or from the host, or waits; do so before or after",
            )),
            false => Ok(()),
        }
    }
}

/// A captured computation, made by [`Cuda::capture`].
#[derive(Debug)]
pub struct Graph {
    captured: Captured,
}

impl Graph {
    /// Runs it, after what the device was given before. An index out of range is reported by the next wait, as elsewhere.
    ///
    /// # Errors
    /// What the device reports; [`Error::InvalidArgument`] when the host's part of the step would launch other kernels than it
    /// did.
    pub fn replay(&self) -> Result<()> {
        self.captured.replay()
    }
}

impl PartialEq for Cuda {
    /// The same context.
    fn eq(&self, other: &Cuda) -> bool {
        Arc::ptr_eq(&self.context, &other.context)
    }
}

impl fmt::Debug for Cuda {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Cuda({})", self.name())
    }
}

/// Whether `bytes` bytes from `offset` on are within a buffer of `len`.
fn within(op: &'static str, len: usize, offset: usize, bytes: usize) -> Result<()> {
    match offset.checked_add(bytes) {
        Some(end) if end <= len => Ok(()),
        _ => Err(Error::invalid(op, format!("{bytes} bytes from offset {offset} on are outside a buffer of {len}"))),
    }
}

impl Backend for Cuda {
    type Buffer = Buffer;

    fn name(&self) -> String {
        let device = self.context.driver.name();
        if self.is_fast() { format!("{device}:fast") } else { device }
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            max_buffer: self.context.driver.memory(),
            deterministic: self.deterministic(),
            exact: !self.is_fast(),
            ..Capabilities::default()
        }
    }

    fn alloc(&self, bytes: usize) -> Result<Buffer> {
        self.context.memory.alloc(bytes)
    }

    fn upload(&self, bytes: &[u8], to: &mut Buffer, offset: usize) -> Result<()> {
        within("upload", to.len(), offset, bytes.len())?;
        self.not_capturing("upload")?;
        // SAFETY: the bytes are within the buffer.
        unsafe { self.context.driver.upload(bytes, to.address() + offset as u64) }
    }

    fn download(&self, from: &Buffer, offset: usize, bytes: &mut [u8]) -> Result<()> {
        within("download", from.len(), offset, bytes.len())?;
        self.not_capturing("download")?;
        // SAFETY: the bytes are within the buffer.
        unsafe { self.context.driver.download(from.address() + offset as u64, bytes) }?;
        self.context.reported()
    }

    fn synchronize(&self) -> Result<()> {
        self.not_capturing("synchronize")?;
        self.context.driver.synchronize()?;
        self.context.reported()
    }

    fn copy_from(&self, source: &Cuda, from: &Buffer, to: &mut Buffer, bytes: usize) -> Result<()> {
        within("copy", from.len().min(to.len()), 0, bytes)?;
        if self == source {
            // SAFETY: the bytes are within both buffers, and two buffers share no memory.
            return unsafe { self.context.driver.copy(from.address(), to.address(), bytes) };
        }
        source.not_capturing("copy to another device")?;
        self.not_capturing("copy from another device")?;
        // SAFETY: the bytes are within both buffers.
        let copied = unsafe {
            self.context.driver.copy_from_peer(&*source.context.driver, from.address(), to.address(), bytes)
        }?;
        if copied {
            return Ok(());
        }
        let mut host = vec![0; bytes];
        source.download(from, 0, &mut host)?;
        self.upload(&host, to, 0)
    }

    fn all_reduce(&self, others: &[&Cuda], parts: &mut [OperandMut<'_, Cuda>]) -> Result<bool> {
        let devices: Vec<&Cuda> = [self].into_iter().chain(others.iter().copied()).collect();
        nccl::all_reduce(&devices, parts)
    }

    fn map(
        &self,
        kernel: &Kernel<'_>,
        inputs: &[Operand<'_, Cuda>],
        outputs: &mut [OperandMut<'_, Cuda>],
    ) -> Result<()> {
        elementwise::map(self, kernel, inputs, outputs)
    }

    fn reduce(
        &self,
        op: ReduceOp,
        kernel: &Kernel<'_>,
        inputs: &[Operand<'_, Cuda>],
        out: &mut OperandMut<'_, Cuda>,
    ) -> Result<()> {
        reduce::reduce(self, op, kernel, inputs, out)
    }

    fn gather(
        &self,
        axis: usize,
        source: &Operand<'_, Cuda>,
        index: &Operand<'_, Cuda>,
        out: &mut OperandMut<'_, Cuda>,
    ) -> Result<()> {
        gather::gather(self, axis, source, index, out)
    }

    fn scatter_add(
        &self,
        axis: usize,
        source: &Operand<'_, Cuda>,
        index: &Operand<'_, Cuda>,
        out: &mut OperandMut<'_, Cuda>,
    ) -> Result<()> {
        gather::scatter_add(self, axis, source, index, out)
    }

    fn matmul(&self, a: &Operand<'_, Cuda>, b: &Operand<'_, Cuda>, out: &mut OperandMut<'_, Cuda>) -> Result<()> {
        matmul::matmul(self, a, b, out)
    }

    fn matmul_fused(
        &self,
        kernel: &Kernel<'_>,
        a: &Operand<'_, Cuda>,
        b: &Operand<'_, Cuda>,
        inputs: &[Operand<'_, Cuda>],
        out: &mut OperandMut<'_, Cuda>,
    ) -> Result<()> {
        matmul::matmul_fused(self, kernel, a, b, inputs, out)
    }

    fn conv(
        &self,
        window: &Window,
        input: &Operand<'_, Cuda>,
        weight: &Operand<'_, Cuda>,
        out: &mut OperandMut<'_, Cuda>,
    ) -> Result<()> {
        match window::conv(self, Which::Forward, window, weight, input, out)? {
            true => Ok(()),
            false => composed::conv(self, window, input, weight, out),
        }
    }

    fn conv_input_gradient(
        &self,
        window: &Window,
        head: &Operand<'_, Cuda>,
        weight: &Operand<'_, Cuda>,
        out: &mut OperandMut<'_, Cuda>,
    ) -> Result<()> {
        match window::conv(self, Which::InputGradient, window, weight, head, out)? {
            true => Ok(()),
            false => composed::conv_input_gradient(self, window, head, weight, out),
        }
    }

    fn conv_weight_gradient(
        &self,
        window: &Window,
        input: &Operand<'_, Cuda>,
        head: &Operand<'_, Cuda>,
        out: &mut OperandMut<'_, Cuda>,
    ) -> Result<()> {
        match window::conv(self, Which::WeightGradient, window, head, input, out)? {
            true => Ok(()),
            false => composed::conv_weight_gradient(self, window, input, head, out),
        }
    }

    fn pool(
        &self,
        kind: Pool,
        window: &Window,
        input: &Operand<'_, Cuda>,
        out: &mut OperandMut<'_, Cuda>,
    ) -> Result<()> {
        window::pool(self, kind, window, input, out)
    }

    fn pool_gradient(
        &self,
        kind: Pool,
        window: &Window,
        input: &Operand<'_, Cuda>,
        head: &Operand<'_, Cuda>,
        out: &mut OperandMut<'_, Cuda>,
    ) -> Result<()> {
        window::pool_gradient(self, kind, window, input, head, out)
    }

    fn softmax(&self, logarithm: bool, input: &Operand<'_, Cuda>, out: &mut OperandMut<'_, Cuda>) -> Result<()> {
        rows::softmax(self, logarithm, input, out)
    }

    fn normalize(
        &self,
        epsilon: f64,
        input: &Operand<'_, Cuda>,
        out: &mut OperandMut<'_, Cuda>,
        mean: &mut OperandMut<'_, Cuda>,
        rstd: &mut OperandMut<'_, Cuda>,
    ) -> Result<()> {
        rows::normalize(self, epsilon, input, out, mean, rstd)
    }

    fn scan(&self, op: ReduceOp, input: &Operand<'_, Cuda>, out: &mut OperandMut<'_, Cuda>) -> Result<()> {
        rows::scan(self, op, input, out)
    }

    fn argsort(&self, descending: bool, input: &Operand<'_, Cuda>, out: &mut OperandMut<'_, Cuda>) -> Result<()> {
        rows::argsort(self, descending, input, out)
    }
}

/// An empty directory of a test's own.
#[cfg(test)]
fn temporary_directory(name: &str) -> std::path::PathBuf {
    let path = std::env::temp_dir().join(format!("isograd-cuda-{}-{name}", std::process::id()));
    let _ = std::fs::remove_dir_all(&path);
    std::fs::create_dir_all(&path).expect("the directory of temporary files can be written");
    path
}
