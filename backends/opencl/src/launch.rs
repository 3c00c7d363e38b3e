//! Starting kernels, moving bytes, and finding out what failed.
//!
//! Kernels go to one queue, in order, and are not waited for. Transfers go to another, and wait for the last launch that
//! used the memory, so that they overlap with kernels that do not. What failed is told by the next `download` or `synchronize`,
//! with the name of the operator, and not by a launch or an upload that comes between.

use crate::{Buffer, context::Shared, memory::Block, program::Compiled};
use isograd_core::{Error, Result, Value};
use opencl3::{
    error_codes::{
        CL_DEVICE_NOT_AVAILABLE, CL_INVALID_COMMAND_QUEUE, CL_INVALID_CONTEXT, CL_MEM_OBJECT_ALLOCATION_FAILURE,
        CL_OUT_OF_HOST_MEMORY, CL_OUT_OF_RESOURCES, ClError,
    },
    event::Event,
    memory::{Buffer as Memory, CL_MAP_READ, CL_MAP_WRITE, ClMem},
    types::{CL_BLOCKING, cl_event, cl_mem},
};
use smallvec::SmallVec;
use std::{
    collections::vec_deque::Drain,
    ptr,
    sync::{Arc, atomic::Ordering},
};

/// A kernel that was started.
pub(crate) struct Launch {
    event: Event,
    op: Arc<str>,
}

impl Launch {
    /// What a library started.
    #[cfg(feature = "clblast")]
    pub fn new(event: Event, op: Arc<str>) -> Launch {
        Launch { event, op }
    }

    /// Why it failed, once it is done.
    fn failure(&self, _shared: &Shared) -> Option<ClError> {
        #[cfg(test)]
        if let Err(planted) = _shared.faults.check(crate::faults::Point::Kernel) {
            return Some(planted);
        }
        self.event.command_execution_status().ok().filter(|status| status.0 < 0).map(|status| ClError(status.0))
    }
}

/// Launches that are remembered at most; more than that are not in flight at once.
const IN_FLIGHT: usize = 512;

/// Launches after which the driver is told to start working.
const FLUSH_EVERY: usize = 32;

/// Transfers of at least so many bytes are done in place where host and device share memory.
const IN_PLACE: usize = 1 << 14;

/// An argument of a kernel.
pub(crate) enum Arg<'a> {
    /// Device memory.
    Memory(&'a Buffer),
    /// Device memory that is not a tensor's.
    Raw(&'a Memory<u8>),
    /// A value, by its bytes.
    Bytes(SmallVec<[u8; 16]>),
    /// A block of numbers by value.
    Words(&'a [u64]),
}

impl Arg<'_> {
    /// A launch argument.
    pub fn value(v: &Value) -> Self {
        let mut bytes = [0; 8];
        v.write(&mut bytes, 0);
        Arg::Bytes(SmallVec::from_slice(&bytes[..v.dtype().size()]))
    }

    /// A 64-bit integer.
    pub fn long(v: impl TryInto<i64>) -> Self {
        let v: i64 = v.try_into().ok().expect("sizes fit 63 bits");
        Arg::Bytes(SmallVec::from_slice(&v.to_le_bytes()))
    }
}

/// How many work items along one axis, in groups of which size.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Grid {
    groups: usize,
    /// Of a group.
    local: usize,
    /// Whether the items of a group work together, so that it has exactly so many.
    together: bool,
}

impl Grid {
    /// `groups` groups of `local` items, each of which works alone.
    pub fn line(groups: usize, local: usize) -> Grid {
        Grid { groups, local, together: false }
    }

    /// `groups` groups of `local` items that work together; the kernel's source says [`together`] of them.
    pub fn teams(groups: usize, local: usize) -> Grid {
        Grid { groups, local, together: true }
    }

    /// All items.
    pub fn items(&self) -> usize {
        self.groups * self.local
    }

    /// Sizes of the whole and of a group, for a kernel that can have `most` items in a group; none where it cannot run.
    fn sizes(&self, most: usize) -> Option<[usize; 2]> {
        if self.local <= most {
            return Some([self.items(), self.local]);
        }
        // All groups have one size, which therefore divides the whole.
        let divisor = (1..=most).rev().find(|n| self.local.is_multiple_of(*n)).filter(|_| !self.together)?;
        Some([self.items(), divisor])
    }
}

/// What a kernel says whose groups have `items` items that work together: its compiler then sees to it that they can.
pub(crate) fn together(items: usize) -> String {
    format!("__attribute__((reqd_work_group_size({items}, 1, 1))) ")
}

fn is_lost(status: i32) -> bool {
    matches!(status, CL_DEVICE_NOT_AVAILABLE | CL_INVALID_CONTEXT | CL_INVALID_COMMAND_QUEUE)
}

impl Shared {
    /// The error for `status`, which `op` met; after a lost device the context refuses everything.
    pub fn failed(&self, op: &str, status: ClError) -> Error {
        if is_lost(status.0) {
            self.lost.store(true, Ordering::Relaxed);
            return self.lost_error(op, &status.to_string());
        }
        if matches!(status.0, CL_MEM_OBJECT_ALLOCATION_FAILURE | CL_OUT_OF_HOST_MEMORY) {
            let hint = format!("{op} failed with {status}; drop tensors, or use smaller batches");
            return Error::OutOfMemory { device: self.name.clone(), bytes: 0, hint };
        }
        Error::backend(&self.name, op, status)
    }

    fn lost_error(&self, op: &str, why: &str) -> Error {
        Error::backend(&self.name, op, format!("the device was lost ({why}); make a new context with OpenCl::new"))
    }

    /// # Errors
    /// When the device was lost before, or opened by another process.
    pub fn alive(&self, op: &str) -> Result<()> {
        if self.process != std::process::id() {
            let why = "the device was opened before this process was made by fork, which drivers do not follow; \
                       open devices after fork";
            return Err(Error::backend(&self.name, op, why));
        }
        match self.lost.load(Ordering::Relaxed) {
            true => Err(self.lost_error(op, "earlier")),
            false => Ok(()),
        }
    }

    /// Starts `kernel` without waiting for it.
    pub fn launch(&self, kernel: &Compiled, args: &[Arg<'_>], grid: Grid) -> Result<()> {
        self.alive(&kernel.op)?;
        let sizes = grid.sizes(kernel.most_items).ok_or_else(|| {
            let why = format!(
                "the driver runs at most {} work items of this kernel in a group, and it needs {}",
                kernel.most_items, grid.local
            );
            Error::backend(&self.name, &*kernel.op, why)
        })?;
        let launch = match self.enqueue(kernel, args, sizes) {
            // The driver makes memory real only when a kernel uses it: free what is kept, and try once more.
            Err(ClError(CL_MEM_OBJECT_ALLOCATION_FAILURE | CL_OUT_OF_RESOURCES | CL_OUT_OF_HOST_MEMORY)) => {
                let _ = self.queue.finish();
                self.pool.trim();
                self.enqueue(kernel, args, sizes)
            }
            other => other,
        };
        let event = launch.map_err(|e| self.failed(&kernel.op, e))?;
        let buffers = args.iter().filter_map(|arg| if let Arg::Memory(buffer) = arg { Some(*buffer) } else { None });
        self.started(Launch { event, op: kernel.op.clone() }, buffers)
    }

    /// Remembers what was started on `buffers`.
    pub fn started<'a>(&self, launch: Launch, buffers: impl IntoIterator<Item = &'a Buffer>) -> Result<()> {
        let launch = Arc::new(launch);
        for buffer in buffers {
            *buffer.block().last.lock().unwrap_or_else(|e| e.into_inner()) = Some(launch.clone());
        }
        self.remember(launch)
    }

    fn enqueue(&self, kernel: &Compiled, args: &[Arg<'_>], [global, local]: [usize; 2]) -> Result<Event, ClError> {
        #[cfg(test)]
        self.faults.check(crate::faults::Point::Launch)?;
        let kernel = kernel.kernel.lock().unwrap_or_else(|e| e.into_inner());
        for (k, arg) in args.iter().enumerate() {
            let k = k as u32;
            // SAFETY: each argument has the size and kind of the parameter in the kernel's source, which stands beside the
            // code that makes the arguments; the kernel object is locked from here to the launch.
            unsafe {
                match arg {
                    Arg::Memory(buffer) => kernel.set_arg(k, &buffer.block().memory.get())?,
                    Arg::Raw(memory) => kernel.set_arg(k, &memory.get())?,
                    Arg::Bytes(bytes) => set_bytes(&kernel, k, bytes)?,
                    Arg::Words(words) => {
                        let bytes: SmallVec<[u8; 512]> = words.iter().flat_map(|w| w.to_le_bytes()).collect();
                        set_bytes(&kernel, k, &bytes)?;
                    }
                }
            }
        }
        // SAFETY: the sizes are of one axis; buffers live until the launch is done, because the driver keeps them.
        unsafe { self.queue.enqueue_nd_range_kernel(kernel.get(), 1, ptr::null(), &global, &local, &[]) }
    }

    /// Keeps `launch` until it is known to have succeeded.
    fn remember(&self, launch: Arc<Launch>) -> Result<()> {
        let mut launches = self.launches.lock().unwrap_or_else(|e| e.into_inner());
        launches.push_back(launch);
        if launches.len().is_multiple_of(FLUSH_EVERY) {
            self.queue.flush().map_err(|e| self.failed("flush", e))?;
        }
        if launches.len() < IN_FLIGHT {
            return Ok(());
        }
        let half = launches.len() / 2;
        if let Some(middle) = launches.get(half) {
            let _ = middle.event.wait();
        }
        self.examine(launches.drain(..=half));
        Ok(())
    }

    /// Notes the first failure among `done` launches, for [`Shared::told`]. The record of launches stays locked meanwhile, so
    /// that what is in it no more was examined.
    fn examine(&self, done: Drain<'_, Arc<Launch>>) {
        for launch in done {
            if let Some(status) = launch.failure(self) {
                let error = self.failed(&launch.op, status);
                self.failure.lock().unwrap_or_else(|e| e.into_inner()).get_or_insert(error);
            }
        }
    }

    /// # Errors
    /// The first failure that was noted since the last call.
    fn told(&self) -> Result<()> {
        self.failure.lock().unwrap_or_else(|e| e.into_inner()).take().map_or(Ok(()), Err)
    }

    /// Examines all launches up to `last`, which is done; kernels run in order, so those before it are done too.
    fn examine_up_to(&self, last: &Arc<Launch>) {
        let mut launches = self.launches.lock().unwrap_or_else(|e| e.into_inner());
        if let Some(place) = launches.iter().position(|l| Arc::ptr_eq(l, last)) {
            self.examine(launches.drain(..=place));
        }
    }

    /// Waits for all kernels, and tells what failed.
    pub fn synchronize(&self, op: &str) -> Result<()> {
        self.alive(op)?;
        let last = self.launches.lock().unwrap_or_else(|e| e.into_inner()).back().cloned();
        let waited = self.finish();
        last.iter().for_each(|last| self.examine_up_to(last));
        self.told()?;
        waited.map_err(|e| self.failed(op, e))?;
        self.index_error()
    }

    fn finish(&self) -> Result<(), ClError> {
        #[cfg(test)]
        self.faults.check(crate::faults::Point::Wait)?;
        self.queue.finish()
    }

    /// The wait that a transfer of `block` needs: the last launch that used it.
    fn dependency(&self, op: &str, block: &Block) -> Result<Option<Arc<Launch>>> {
        let last = block.last.lock().unwrap_or_else(|e| e.into_inner()).clone();
        if last.is_some() {
            self.queue.flush().map_err(|e| self.failed(op, e))?;
        }
        Ok(last)
    }

    /// Runs `transfer` after `last`. A driver refuses to transfer after a launch that failed; then the failure is noted, and
    /// there is nothing left to wait for.
    fn after(
        &self,
        op: &str,
        last: Option<Arc<Launch>>,
        mut transfer: impl FnMut(&[cl_event]) -> Result<(), ClError>,
    ) -> Result<()> {
        let Some(last) = last else { return transfer(&[]).map_err(|e| self.failed(op, e)) };
        let done = transfer(&[last.event.get()]);
        let done = if done.is_err() && last.failure(self).is_some() { transfer(&[]) } else { done };
        if done.is_err() {
            // What broke the device may be a launch before.
            let _ = last.event.wait();
        }
        self.examine_up_to(&last);
        done.or_else(|e| self.told().and(Err(self.failed(op, e))))
    }

    /// Copies `bytes` into `to`.
    pub fn upload(&self, bytes: &[u8], to: &mut Buffer, offset: usize) -> Result<()> {
        self.alive("upload")?;
        within("upload", to.len(), offset, bytes.len())?;
        if bytes.is_empty() {
            return Ok(());
        }
        let last = self.dependency("upload", to.block())?;
        self.after("upload", last, |waits| {
            if self.facts.unified && bytes.len() >= IN_PLACE {
                return self.mapped(to.block(), CL_MAP_WRITE, offset, bytes.len(), waits, |to| {
                    // SAFETY: the driver mapped that many bytes for the host to write, and nothing else has them now.
                    unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), to, bytes.len()) }
                });
            }
            // SAFETY: the range lies within the block, and the call returns when the slice was read.
            let written =
                unsafe { self.transfers.enqueue_write_buffer(to.memory_mut(), CL_BLOCKING, offset, bytes, waits) };
            written.map(drop)
        })
    }

    /// Copies from `from` into `bytes`, and tells what failed before.
    pub fn download(&self, from: &Buffer, offset: usize, bytes: &mut [u8]) -> Result<()> {
        self.alive("download")?;
        within("download", from.len(), offset, bytes.len())?;
        if bytes.is_empty() {
            return Ok(());
        }
        #[cfg(test)]
        self.faults.check(crate::faults::Point::Wait).map_err(|e| self.failed("download", e))?;
        self.read(from, offset, bytes)?;
        self.told()?;
        self.index_error()
    }

    fn read(&self, from: &Buffer, offset: usize, bytes: &mut [u8]) -> Result<()> {
        let block = from.block();
        let last = self.dependency("download", block)?;
        self.after("download", last, |waits| {
            if self.facts.unified && bytes.len() >= IN_PLACE {
                let length = bytes.len();
                return self.mapped(block, CL_MAP_READ, offset, length, waits, |from| {
                    // SAFETY: the driver mapped that many bytes for the host to read.
                    unsafe { ptr::copy_nonoverlapping(from, bytes.as_mut_ptr(), length) }
                });
            }
            // SAFETY: the range lies within the block, and the call returns when the slice was written.
            let read = unsafe { self.transfers.enqueue_read_buffer(&block.memory, CL_BLOCKING, offset, bytes, waits) };
            read.map(drop)
        })
    }

    /// Runs `f` on the host's view of a part of `block`.
    fn mapped(
        &self,
        block: &Block,
        flags: u64,
        offset: usize,
        bytes: usize,
        waits: &[cl_event],
        f: impl FnOnce(*mut u8),
    ) -> Result<(), ClError> {
        let mut host: cl_mem = ptr::null_mut();
        // SAFETY: the range lies within the block; the pointer is used between map and unmap only, and the unmap is waited
        // for before any later command can use the block.
        unsafe {
            self.transfers.enqueue_map_buffer(&block.memory, CL_BLOCKING, flags, offset, bytes, &mut host, waits)?;
            f(host.cast());
            self.transfers.enqueue_unmap_mem_object(block.memory.get(), host, &[])?.wait()
        }
    }
}

/// # Safety
/// `bytes` must be what parameter `k` of the kernel takes by value.
unsafe fn set_bytes(kernel: &opencl3::kernel::Kernel, k: u32, bytes: &[u8]) -> Result<(), ClError> {
    let value = bytes.as_ptr().cast();
    // SAFETY: the driver copies so many bytes from the slice; the caller answers for their meaning.
    unsafe { opencl3::kernel::set_kernel_arg(kernel.get(), k, bytes.len(), value) }.map_err(ClError)
}

fn within(op: &'static str, len: usize, offset: usize, bytes: usize) -> Result<()> {
    match offset.checked_add(bytes) {
        Some(end) if end <= len => Ok(()),
        _ => Err(Error::invalid(op, format!("{bytes} bytes from offset {offset} on are outside a buffer of {len}"))),
    }
}
