//! A device's state: memory, loaded kernels, and what kernels report.

use crate::{
    Mode,
    cublas::Cublas,
    cublas_lt::CublasLt,
    cudnn::Cudnn,
    driver::{Driver, Function},
    memory::{Arena, Buffer, Memory},
    nccl::Nccl,
    operand::word,
    source::{Source, THREADS},
};
use isograd_core::{
    Error, Result, Value,
    backend::replay::{self, Changes},
};
use isograd_kernel_cache::{self as kernel_cache, Cache};
use smallvec::SmallVec;
use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

/// What tells kernels apart: the name that the kernel has in its source, and all numbers that the source depends on.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Key {
    name: &'static str,
    variant: SmallVec<[u64; 10]>,
}

impl Key {
    pub fn new(name: &'static str, variant: impl IntoIterator<Item = u64>) -> Key {
        Key { name, variant: variant.into_iter().collect() }
    }

    /// With more numbers.
    pub fn and(mut self, more: impl IntoIterator<Item = u64>) -> Key {
        self.variant.extend(more);
        self
    }
}

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
    /// By what they are compiled from: variants of one source are one kernel.
    loaded: Mutex<HashMap<kernel_cache::Key, Function>>,
    fault: Buffer,
    /// Whether a kernel that may report has been launched since the last look.
    may_fault: AtomicBool,
    pub mode: Mode,
    pub tf32: AtomicBool,
    pub deterministic: AtomicBool,
    /// Where the numbers that change from replay to replay lie, of the step that is being captured.
    numbers: Mutex<Vec<Buffer>>,
}

/// Numbers of one buffer.
const NUMBERS: usize = 512;

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
    pub fn new(driver: Arc<dyn Driver>, cache: Cache, mode: Mode) -> Result<Context> {
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
            mode,
            tf32: AtomicBool::new(false),
            deterministic: AtomicBool::new(true),
            numbers: Mutex::default(),
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
        debug_assert_eq!(source.name, key.name, "a kernel is known by the name that it has");
        let function = self.loaded(source.name, &source.finish())?;
        locked(&self.kernels).insert(key, function);
        Ok(function)
    }

    fn loaded(&self, name: &str, text: &str) -> Result<Function> {
        let (architecture, compiler) = (self.driver.architecture().target(), self.driver.compiler()?);
        let key = kernel_cache::Key::new(&[text, &architecture, &compiler]);
        // Held while compiling: two threads that need one kernel compile it once.
        let mut loaded = locked(&self.loaded);
        if let Some(found) = loaded.get(&key) {
            return Ok(*found);
        }
        // What was kept may be of another driver; then it is compiled once more.
        let kept = self.cache.load(&key).and_then(|image| self.driver.load(name, &image).ok());
        let function = match kept {
            Some(function) => function,
            None => {
                let image = self.driver.compile(name, text)?;
                let function = self.driver.load(name, &image).or_else(|_| {
                    // The device may be full of dropped buffers.
                    self.memory.trim();
                    self.driver.load(name, &image)
                })?;
                self.cache.store(&key, &image);
                function
            }
        };
        loaded.insert(key, function);
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

    /// The words by which a kernel gets its scalars: the numbers themselves, or in a step that is captured, where some of them
    /// change from replay to replay, the addresses of all; and whether they are addresses.
    ///
    /// # Errors
    /// Out of memory.
    pub fn scalars(&self, scalars: &[Value]) -> Result<(Words, bool)> {
        let places = if self.memory.in_arena() { replay::places(scalars) } else { None };
        let Some(places) = places else { return Ok((scalars.iter().map(|v| word(*v)).collect(), false)) };
        let mut numbers = locked(&self.numbers);
        let mut words = Words::new();
        for place in places {
            while numbers.len() <= place / NUMBERS {
                numbers.push(self.memory.alloc(NUMBERS * 8)?);
            }
            words.push(numbers[place / NUMBERS].address() + (place % NUMBERS * 8) as u64);
        }
        Ok((words, true))
    }

    /// The memory of numbers of the step that was captured.
    pub fn take_numbers(&self) -> Vec<Buffer> {
        std::mem::take(&mut *locked(&self.numbers))
    }

    /// Whether a kernel that may report has been launched since the last call or wait; `other` is noted in its place.
    pub fn may_fault(&self, other: bool) -> bool {
        self.may_fault.swap(other, Ordering::Relaxed)
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
    /// Whether a kernel of it may report an index out of range.
    pub may_fault: bool,
    /// What changes from replay to replay.
    pub changes: Mutex<Changes>,
    /// The device's memory of the numbers among it.
    pub numbers: Vec<Buffer>,
}

impl Captured {
    /// Brings the numbers of the next replay to the device, and replays.
    pub fn replay(&self) -> Result<()> {
        // Held until the replay is in the queue, behind its numbers.
        let mut changes = locked(&self.changes);
        // In a capture it is refused, and nothing is to be counted.
        if !changes.is_empty() && !self.context.memory.in_arena() {
            let bytes: Vec<u8> = changes.refresh()?.iter().flat_map(|v| word(*v).to_le_bytes()).collect();
            for (part, buffer) in bytes.chunks(NUMBERS * 8).zip(&self.numbers) {
                // SAFETY: a buffer has so many bytes.
                unsafe { self.context.driver.upload(part, buffer.address()) }?;
            }
        }
        if self.may_fault {
            self.context.may_fault(true);
        }
        // SAFETY: the graph and its memory live as long as `self`; of buffers made before, it keeps those that it uses when
        // they are dropped.
        unsafe { self.context.driver.replay(self.graph) }
    }
}

impl Drop for Captured {
    fn drop(&mut self) {
        // The memory is kept for as long as the device may still run the graph.
        let _ = self.context.driver.synchronize();
        // SAFETY: the graph is from this driver, and nobody else has it.
        unsafe { self.context.driver.free_graph(self.graph) };
        self.numbers.clear();
        drop(self.arena.take());
    }
}
