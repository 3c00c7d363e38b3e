//! What the backend needs of a device: [`Driver`]. `device` is the CUDA driver, by way of `cust`: `symbols` finds its
//! functions, `failure` says what it answers, `queue` has streams and events, `staging` brings data to it. Tests have a
//! driver of their own that runs kernels on the host.

mod device;
mod failure;
mod queue;
mod staging;
pub(crate) mod symbols;

pub(crate) use device::{Device, count, names, newest_compiler};

use isograd_core::Result;
use std::{ffi::c_void, fmt, path::PathBuf};

/// A compute capability, such as 9.0.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Architecture {
    /// The part before the point.
    pub major: u32,
    /// The part after it.
    pub minor: u32,
}

impl Architecture {
    /// The compute capability `major.minor`.
    pub const fn new(major: u32, minor: u32) -> Architecture {
        Architecture { major, minor }
    }

    /// The name that the compiler has for it.
    ///
    /// ```
    /// assert_eq!(isograd_cuda::driver::Architecture::new(9, 0).target(), "sm_90");
    /// ```
    pub fn target(self) -> String {
        format!("sm_{}{}", self.major, self.minor)
    }
}

impl fmt::Display for Architecture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "compute capability {}.{}", self.major, self.minor)
    }
}

/// A kernel that is loaded; a number that the driver understands.
pub type Function = u64;

/// A device with one queue, on which copies and kernels run in the order of their calls.
pub trait Driver: fmt::Debug + Send + Sync + 'static {
    /// The device's name, such as `cuda:0`.
    fn name(&self) -> String;

    /// Its compute capability.
    fn architecture(&self) -> Architecture;

    /// Its memory in bytes.
    fn memory(&self) -> usize;

    /// The address of `bytes` new bytes, aligned to 256; `None` where memory is exhausted.
    ///
    /// # Errors
    /// What else the device reports.
    fn alloc(&self, bytes: usize) -> Result<Option<u64>>;

    /// Gives memory back, after the kernels before.
    ///
    /// # Safety
    /// `address` is from [`Driver::alloc`], and is not used again.
    unsafe fn free(&self, address: u64);

    /// Copies to the device; `from` may change afterwards.
    ///
    /// # Errors
    /// What the device reports.
    ///
    /// # Safety
    /// The bytes at `to` are the device's.
    unsafe fn upload(&self, from: &[u8], to: u64) -> Result<()>;

    /// Copies from the device, after the kernels before, and waits.
    ///
    /// # Errors
    /// What the device reports, also of kernels before.
    ///
    /// # Safety
    /// The bytes at `from` are the device's.
    unsafe fn download(&self, from: u64, to: &mut [u8]) -> Result<()>;

    /// Copies within the device.
    ///
    /// # Errors
    /// What the device reports.
    ///
    /// # Safety
    /// The bytes at both addresses are the device's, and do not overlap.
    unsafe fn copy(&self, from: u64, to: u64, bytes: usize) -> Result<()>;

    /// What compiles kernels, by name and version; part of the key under which they are kept on disk.
    ///
    /// # Errors
    /// Where there is none: what to install.
    fn compiler(&self) -> Result<String>;

    /// Compiles a source.
    ///
    /// # Errors
    /// With the compiler's messages.
    fn compile(&self, name: &str, source: &str) -> Result<Vec<u8>>;

    /// Loads what [`Driver::compile`] gave, and finds the kernel `name` in it.
    ///
    /// # Errors
    /// What the device reports.
    fn load(&self, name: &str, image: &[u8]) -> Result<Function>;

    /// Runs a kernel of `blocks` blocks of `threads` threads, each block with `shared` bytes of dynamic shared
    /// memory, and `words` as its one argument.
    ///
    /// # Errors
    /// What the device reports.
    ///
    /// # Safety
    /// `words` are the kernel's argument, and what they point at is the device's.
    unsafe fn launch(&self, f: Function, blocks: u32, threads: u32, shared: u32, words: &[u64]) -> Result<()>;

    /// Waits for everything before.
    ///
    /// # Errors
    /// What the kernels before reported.
    fn synchronize(&self) -> Result<()>;

    /// The queue as CUDA's libraries take it, with the device's context made current on this thread; `None` where the
    /// device is none of theirs.
    fn stream(&self) -> Option<*mut c_void> {
        None
    }

    /// The device's context, likewise.
    fn context(&self) -> Option<*mut c_void> {
        None
    }

    /// The device's number among CUDA's, where it is one of them.
    fn ordinal(&self) -> Option<i32> {
        None
    }

    /// Where CUDA's libraries are looked for before the system's loader is asked.
    fn libraries(&self) -> Vec<PathBuf> {
        crate::library::directories()
    }

    /// Copies from another device to this one, after what either was given before, and before what either is given next;
    /// false where the two cannot do so themselves.
    ///
    /// # Errors
    /// What either device reports.
    ///
    /// # Safety
    /// The bytes at `from` are the source's, those at `to` this device's.
    unsafe fn copy_from_peer(&self, source: &dyn Driver, from: u64, to: u64, bytes: usize) -> Result<bool> {
        let _ = (source, from, to, bytes);
        Ok(false)
    }

    /// Begins to record what is launched instead of running it.
    ///
    /// # Errors
    /// What the device reports.
    fn begin_capture(&self) -> Result<()>;

    /// Ends recording, and makes a graph of it.
    ///
    /// # Errors
    /// What the device reports, also where something was called that cannot be recorded.
    fn end_capture(&self) -> Result<u64>;

    /// Runs a graph.
    ///
    /// # Errors
    /// What the device reports.
    ///
    /// # Safety
    /// The graph is from [`Driver::end_capture`] and not freed, and the memory that it uses is still the device's.
    unsafe fn replay(&self, graph: u64) -> Result<()>;

    /// Gives a graph back.
    ///
    /// # Safety
    /// The graph is from [`Driver::end_capture`], and is not used again.
    unsafe fn free_graph(&self, graph: u64);
}
