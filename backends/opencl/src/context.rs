//! What the handles to one context share: the driver's objects, the pool, the compiled kernels, and the record of indices
//! out of range.

use crate::{
    launch::Launch,
    memory::Pool,
    platform::{self, Description},
    program::Programs,
};
use isograd_core::{DType, Error, Result, Value};
use opencl3::{
    command_queue::CommandQueue,
    context::Context,
    error_codes::ClError,
    memory::{Buffer as Memory, CL_MEM_READ_WRITE},
    types::CL_BLOCKING,
};
use std::{
    collections::VecDeque,
    ptr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

pub(crate) struct Shared {
    pub name: String,
    pub facts: Description,
    pub pool: Pool,
    pub programs: Programs,
    pub launches: Mutex<VecDeque<Arc<Launch>>>,
    /// The first failure of a kernel that nobody was told of yet.
    pub failure: Mutex<Option<Error>>,
    pub lost: AtomicBool,
    /// The process that opened the device: one made by `fork` has no driver behind it.
    pub process: u32,
    /// Device memory in which kernels note the first index out of range: which kernel, which axis, the index, the size.
    report: Mutex<Memory<u8>>,
    /// Whether a kernel that may write the report was started since it was last read.
    reporting: AtomicBool,
    #[cfg(test)]
    pub faults: crate::faults::Faults,
    /// Kernels, in order.
    pub queue: CommandQueue,
    /// Transfers, which wait for the launches that they depend on.
    pub transfers: CommandQueue,
    pub context: Context,
}

/// Bytes of a report: kernel and axis as `int`, index and size as `long`.
const REPORT: usize = 24;

/// The kernels that check indices; a report names one by its place here, counted from 1.
pub(crate) const CHECKED: [&str; 2] = ["gather", "scatter_add"];

impl Shared {
    pub fn new(name: String, facts: Description, programs: Programs) -> Result<Shared> {
        let failed = |e: ClError| Error::backend(&name, "making a context", e);
        let _alone = platform::alone();
        let context = Context::from_device(&facts.device).map_err(failed)?;
        // SAFETY: the device is the context's, and no properties are given, so queues run in order.
        let queue = || unsafe { CommandQueue::create(&context, facts.device.id(), 0) };
        let (kernels, transfers) = (queue().map_err(failed)?, queue().map_err(failed)?);
        // SAFETY: no host pointer is given; the blocking write reads the array before it returns.
        let report = unsafe {
            let mut report = Memory::create(&context, CL_MEM_READ_WRITE, REPORT, ptr::null_mut()).map_err(failed)?;
            kernels.enqueue_write_buffer(&mut report, CL_BLOCKING, 0, &[0; REPORT], &[]).map_err(failed)?;
            report
        };
        Ok(Shared {
            name,
            facts,
            pool: Pool::default(),
            programs,
            launches: Mutex::default(),
            failure: Mutex::default(),
            lost: AtomicBool::new(false),
            process: std::process::id(),
            report: Mutex::new(report),
            reporting: AtomicBool::new(false),
            #[cfg(test)]
            faults: Default::default(),
            queue: kernels,
            transfers,
            context,
        })
    }

    /// Runs `f` with the memory for reports, which the kernel that it starts may write.
    pub fn with_report<T>(&self, f: impl FnOnce(&Memory<u8>) -> T) -> T {
        let report = self.report.lock().unwrap_or_else(|e| e.into_inner());
        self.reporting.store(true, Ordering::Relaxed);
        f(&report)
    }

    /// # Errors
    /// [`Error::IndexOutOfRange`] if a kernel since the last call met one.
    pub fn index_error(&self) -> Result<()> {
        let mut report = self.report.lock().unwrap_or_else(|e| e.into_inner());
        if !self.reporting.swap(false, Ordering::Relaxed) {
            return Ok(());
        }
        let mut bytes = [0; REPORT];
        let failed = |e: ClError| self.failed("reading the report of indices", e);
        // SAFETY: both calls wait until they are done with the array, which is as long as the buffer.
        unsafe {
            self.queue.enqueue_read_buffer(&report, CL_BLOCKING, 0, &mut bytes, &[]).map_err(failed)?;
            if bytes[..4] == [0; 4] {
                return Ok(());
            }
            self.queue.enqueue_write_buffer(&mut report, CL_BLOCKING, 0, &[0; REPORT], &[]).map_err(failed)?;
        }
        let word = |dtype, at| Value::read(dtype, &bytes, at).to_i64();
        Err(Error::IndexOutOfRange {
            op: CHECKED[word(DType::I32, 0) as usize - 1],
            axis: word(DType::I32, 1) as usize,
            index: word(DType::I64, 1),
            size: word(DType::I64, 2) as usize,
            device: self.name.clone(),
        })
    }
}
