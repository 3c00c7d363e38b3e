//! A device's state: memory, loaded kernels, and what kernels report.

use crate::{
    cache::{self, Cache},
    cublas::Cublas,
    cublas_lt::CublasLt,
    cudnn::Cudnn,
    driver::{Driver, Function},
    memory::{Arena, Buffer, Memory},
    nccl::Nccl,
    source::{Source, THREADS},
};
use isograd_core::{Error, Result};
use smallvec::SmallVec;
use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

/// What tells a kernel's variants apart: a number per family, then the variant.
pub(crate) type Key = SmallVec<[u64; 8]>;

/// A kernel's argument.
pub(crate) type Words = SmallVec<[u64; 40]>;

/// Bytes of a kernel's argument that every driver takes.
const MOST_WORDS: usize = 4096 / 8;

#[derive(Debug)]
pub(crate) struct Context {
    pub cublas: Cublas,
    pub cublas_lt: CublasLt,
    pub cudnn: Cudnn,
    pub nccl: Nccl,
    pub driver: Arc<dyn Driver>,
    pub memory: Arc<Memory>,
    cache: Cache,
    kernels: Mutex<HashMap<Key, Function>>,
    /// By the hash of their sources: variants of one source are one kernel.
    loaded: Mutex<HashMap<[u64; 2], Function>>,
    fault: Buffer,
    /// Whether a kernel that may report has been launched since the last look.
    may_fault: AtomicBool,
    pub tf32: AtomicBool,
    pub deterministic: AtomicBool,
}

impl Drop for Context {
    /// The libraries go first, with nothing under way and the device's context current.
    fn drop(&mut self) {
        let _ = self.driver.synchronize();
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Context {
    pub fn new(driver: Arc<dyn Driver>, cache: Cache) -> Result<Context> {
        let memory = Memory::new(driver.clone());
        let fault = memory.alloc(32)?;
        // SAFETY: the buffer has 32 bytes.
        unsafe { driver.upload(&[0; 32], fault.address()) }?;
        Ok(Context {
            driver,
            memory,
            cache,
            kernels: Mutex::default(),
            loaded: Mutex::default(),
            fault,
            may_fault: AtomicBool::new(false),
            tf32: AtomicBool::new(false),
            deterministic: AtomicBool::new(true),
            cublas: Cublas::default(),
            cublas_lt: CublasLt::default(),
            cudnn: Cudnn::default(),
            nccl: Nccl::default(),
        })
    }

    /// The kernel of `key`, made from `source` the first time.
    pub fn kernel(&self, key: Key, source: impl FnOnce() -> Source) -> Result<Function> {
        if let Some(found) = locked(&self.kernels).get(&key) {
            return Ok(*found);
        }
        let source = source();
        let function = self.loaded(source.name, &source.finish())?;
        locked(&self.kernels).insert(key, function);
        Ok(function)
    }

    fn loaded(&self, name: &str, text: &str) -> Result<Function> {
        let hash = [1, 2].map(|seed| cache::hash(text.as_bytes(), seed));
        // Held while compiling: two threads that need one kernel compile it once.
        let mut loaded = locked(&self.loaded);
        if let Some(found) = loaded.get(&hash) {
            return Ok(*found);
        }
        let architecture = self.driver.architecture().target();
        let compiler = self.driver.compiler()?;
        let parts = [text, &architecture, &compiler];
        let image = self.cache.get(&parts, || self.driver.compile(name, text))?;
        let function = match self.driver.load(name, &image) {
            Ok(function) => function,
            Err(_) => {
                // What was kept may be of another driver, or the device full of dropped buffers: once more, from the source.
                self.memory.trim();
                self.cache.forget(&parts);
                let image = self.cache.get(&parts, || self.driver.compile(name, text))?;
                self.driver.load(name, &image)?
            }
        };
        loaded.insert(hash, function);
        Ok(function)
    }

    /// Runs a kernel with one thread per element of `count`.
    ///
    /// # Safety
    /// As [`Driver::launch`].
    pub unsafe fn launch_each(&self, name: &str, f: Function, count: usize, words: &[u64]) -> Result<()> {
        // SAFETY: by this function's contract.
        unsafe { self.launch(name, f, count.div_ceil(THREADS as usize), 0, words) }
    }

    /// Runs a kernel of `blocks` blocks.
    ///
    /// # Safety
    /// As [`Driver::launch`].
    pub unsafe fn launch(&self, name: &str, f: Function, blocks: usize, shared: usize, words: &[u64]) -> Result<()> {
        let fail = |why: String| Error::backend(self.driver.name(), name, why);
        if words.len() > MOST_WORDS {
            return Err(fail(format!(
                "the kernel's arguments take {} bytes, of {} that a launch has: use fewer operands at once",
                words.len() * 8,
                MOST_WORDS * 8
            )));
        }
        let blocks = u32::try_from(blocks).ok().filter(|b| *b <= i32::MAX as u32);
        let blocks = blocks.ok_or_else(|| fail("the work is more than one launch can have".into()))?;
        // SAFETY: by this function's contract.
        let launched = unsafe { self.driver.launch(f, blocks, THREADS, shared as u32, words) };
        launched.map_err(|e| match e {
            Error::Backend { device, op, why } => Error::Backend { device, op: format!("{op} of kernel {name}"), why },
            other => other,
        })
    }

    /// Where a kernel reports an index that is out of range; read at the next wait.
    pub fn fault(&self) -> u64 {
        self.may_fault.store(true, Ordering::Relaxed);
        self.fault.address()
    }

    /// What kernels reported since the last call. Everything before has been waited for.
    pub fn reported(&self) -> Result<()> {
        if !self.may_fault.swap(false, Ordering::Relaxed) {
            return Ok(());
        }
        let mut bytes = [0u8; 32];
        // SAFETY: the buffer has 32 bytes.
        unsafe { self.driver.download(self.fault.address(), &mut bytes) }?;
        let word = |i: usize| i64::from_le_bytes(bytes[8 * i..8 * i + 8].try_into().expect("eight bytes"));
        if word(0) == 0 {
            return Ok(());
        }
        // SAFETY: as above.
        unsafe { self.driver.upload(&[0; 32], self.fault.address()) }?;
        Err(Error::IndexOutOfRange {
            op: if word(0) == 1 { "gather" } else { "scatter_add" },
            index: word(1),
            axis: word(2) as usize,
            size: word(3) as usize,
            device: self.driver.name(),
        })
    }
}

/// Kernels that were captured, and the memory that they use.
#[derive(Debug)]
pub(crate) struct Captured {
    pub context: Arc<Context>,
    pub graph: u64,
    pub arena: Option<Arc<Arena>>,
}

impl Drop for Captured {
    fn drop(&mut self) {
        // The memory is kept for as long as the device may still run the graph.
        let _ = self.context.driver.synchronize();
        // SAFETY: the graph is from this driver, and nobody else has it.
        unsafe { self.context.driver.free_graph(self.graph) };
        drop(self.arena.take());
    }
}
