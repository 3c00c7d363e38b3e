//! A device of the CUDA driver, by way of `cust`.

use super::{Architecture, Driver, Function, symbols};
use crate::nvrtc::Nvrtc;
use cust::{
    context::{Context, CurrentContext},
    device::{Device as Handle, DeviceAttribute},
    error::{CudaError, CudaResult},
    module::Module,
    stream::{Stream, StreamFlags},
    sys::{self, CUgraph, CUgraphExec, CUresult},
};
use isograd_core::{Error, Result, expr::render::Dialect};
use std::{
    ffi::c_void,
    ptr,
    sync::{Mutex, MutexGuard, PoisonError},
};

/// Bytes of the pinned memory through which small copies go to the device while it works.
const STAGED: usize = 1 << 20;

/// A device, its primary context, and a stream.
pub(crate) struct Device {
    number: usize,
    architecture: Architecture,
    memory: usize,
    context: Context,
    stream: Stream,
    modules: Mutex<Vec<Module>>,
    staging: Mutex<Staging>,
    /// Devices whose memory this one was asked to read.
    seen: Mutex<Vec<i32>>,
}

// SAFETY: the driver's functions may be called on any thread, with the context made current first, which every method
// does; modules and staging memory are behind locks.
unsafe impl Send for Device {}
// SAFETY: as above.
unsafe impl Sync for Device {}

impl std::fmt::Debug for Device {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Device").field("number", &self.number).field("architecture", &self.architecture).finish()
    }
}

/// A ring of pinned memory: the device reads from it while the host fills the rest.
struct Staging {
    memory: *mut u8,
    used: usize,
}

fn initialized() -> Result<()> {
    let fail = |why: String| Error::backend("cuda", "opening the device", why);
    symbols::driver().map_err(|why| fail(why.to_string()))?;
    // The symbols are referred to here, so that a program that uses devices has them.
    std::hint::black_box(symbols::defined());
    cust::init(cust::CudaFlags::empty()).map_err(|e| fail(format!("the driver does not start: {e}")))
}

/// The number of devices; 0 without a driver.
pub(crate) fn count() -> usize {
    initialized().and_then(|()| Handle::num_devices().map_err(|e| Error::backend("cuda", "counting", e))).unwrap_or(0)
        as usize
}

impl Device {
    /// Device `number`.
    pub fn new(number: usize) -> Result<Device> {
        initialized()?;
        let name = format!("cuda:{number}");
        let fail = |e: CudaError| Error::backend(&name, "opening the device", e);
        let devices = Handle::num_devices().map_err(fail)? as usize;
        if number >= devices {
            let available = (0..devices).map(|i| format!("cuda:{i}")).collect::<Vec<_>>().join(", ");
            return Err(Error::UnknownDevice { name, available, hint: "; devices count from 0".into() });
        }
        let handle = Handle::get_device(number as u32).map_err(fail)?;
        let attribute = |a| handle.get_attribute(a).map_err(fail);
        let architecture = Architecture::new(
            attribute(DeviceAttribute::ComputeCapabilityMajor)? as u32,
            attribute(DeviceAttribute::ComputeCapabilityMinor)? as u32,
        );
        let memory = handle.total_memory().map_err(fail)?;
        let context = Context::new(handle).map_err(fail)?;
        CurrentContext::set_current(&context).map_err(fail)?;
        let stream = Stream::new(StreamFlags::NON_BLOCKING, None).map_err(fail)?;
        let mut staging = ptr::null_mut();
        // SAFETY: the context is current, and the pointer valid for writing.
        checked(unsafe { sys::cuMemHostAlloc(&mut staging, STAGED, 0) }).map_err(fail)?;
        Ok(Device {
            number,
            architecture,
            memory,
            context,
            stream,
            modules: Mutex::default(),
            staging: Mutex::new(Staging { memory: staging.cast(), used: 0 }),
            seen: Mutex::default(),
        })
    }

    /// Lets this device read the memory of another directly, where the two are wired so; else copies go through the host.
    fn see(&self, other: *mut c_void, number: i32) -> CudaResult<()> {
        let mut seen = locked(&self.seen);
        if seen.contains(&number) {
            return Ok(());
        }
        let (mut ours, mut theirs, mut can) = (0, 0, 0);
        // SAFETY: pointers are valid for writing, this device's context is current, the other's is alive.
        unsafe {
            checked(sys::cuDeviceGet(&mut ours, self.number as i32))?;
            checked(sys::cuDeviceGet(&mut theirs, number))?;
            checked(sys::cuDeviceCanAccessPeer(&mut can, ours, theirs))?;
            if can != 0 {
                // Another library may have enabled it before, which is an error of no consequence.
                let _ = sys::cuCtxEnablePeerAccess(other as sys::CUcontext, 0);
            }
        }
        seen.push(number);
        Ok(())
    }

    /// Makes the context current on this thread, and calls `f`.
    fn run<T>(&self, op: &str, f: impl FnOnce(&Stream) -> CudaResult<T>) -> Result<T> {
        CurrentContext::set_current(&self.context)
            .and_then(|()| f(&self.stream))
            .map_err(|e| Error::backend(self.name(), op, e))
    }
}

fn checked(code: CUresult) -> CudaResult<()> {
    match code {
        CUresult::CUDA_SUCCESS => Ok(()),
        CUresult::CUDA_ERROR_OUT_OF_MEMORY => Err(CudaError::OutOfMemory),
        CUresult::CUDA_ERROR_ILLEGAL_ADDRESS => Err(CudaError::IllegalAddress),
        CUresult::CUDA_ERROR_INVALID_VALUE => Err(CudaError::InvalidValue),
        CUresult::CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES => Err(CudaError::LaunchOutOfResources),
        CUresult::CUDA_ERROR_LAUNCH_FAILED => Err(CudaError::LaunchFailed),
        CUresult::CUDA_ERROR_MISALIGNED_ADDRESS => Err(CudaError::MisalignedAddress),
        CUresult::CUDA_ERROR_NOT_SUPPORTED => Err(CudaError::NotSupported),
        CUresult::CUDA_ERROR_NO_DEVICE => Err(CudaError::NoDevice),
        CUresult::CUDA_ERROR_INVALID_HANDLE => Err(CudaError::InvalidHandle),
        _ => Err(CudaError::UnknownError),
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Driver for Device {
    fn name(&self) -> String {
        format!("cuda:{}", self.number)
    }

    fn architecture(&self) -> Architecture {
        self.architecture
    }

    fn memory(&self) -> usize {
        self.memory
    }

    fn alloc(&self, bytes: usize) -> Result<Option<u64>> {
        let mut address = 0;
        // SAFETY: the context is current, and the address valid for writing.
        match self.run("alloc", |_| checked(unsafe { sys::cuMemAlloc_v2(&mut address, bytes) })) {
            Ok(()) => Ok(Some(address)),
            Err(Error::Backend { why, .. }) if why == CudaError::OutOfMemory.to_string() => Ok(None),
            Err(e) => Err(e),
        }
    }

    unsafe fn free(&self, address: u64) {
        // An error here is one of a kernel before, which the next call reports.
        // SAFETY: by this function's contract.
        let _ = self.run("free", |_| checked(unsafe { sys::cuMemFree_v2(address) }));
    }

    unsafe fn upload(&self, from: &[u8], to: u64) -> Result<()> {
        let mut staging = locked(&self.staging);
        self.run("upload", |stream| {
            // SAFETY: by this function's contract; the ring is as long as `STAGED`.
            let copy = |from: *const u8, to, bytes| unsafe {
                checked(sys::cuMemcpyHtoDAsync_v2(to, from.cast::<c_void>(), bytes, stream.as_inner()))
            };
            if from.len() > STAGED / 4 {
                copy(from.as_ptr(), to, from.len())?;
                // The driver may read pageable memory until it is done.
                return stream.synchronize();
            }
            if staging.used + from.len() > STAGED {
                // What was staged before must have been read.
                stream.synchronize()?;
                staging.used = 0;
            }
            // SAFETY: `used + len` is within the ring, and nothing there is still read.
            let place = unsafe { staging.memory.add(staging.used) };
            // SAFETY: as above.
            unsafe { ptr::copy_nonoverlapping(from.as_ptr(), place, from.len()) };
            staging.used = (staging.used + from.len()).next_multiple_of(16);
            copy(place, to, from.len())
        })
    }

    unsafe fn download(&self, from: u64, to: &mut [u8]) -> Result<()> {
        self.run("download", |stream| {
            // SAFETY: by this function's contract; `to` is valid until the stream is done, which is waited for.
            checked(unsafe {
                sys::cuMemcpyDtoHAsync_v2(to.as_mut_ptr().cast::<c_void>(), from, to.len(), stream.as_inner())
            })?;
            stream.synchronize()
        })
    }

    unsafe fn copy(&self, from: u64, to: u64, bytes: usize) -> Result<()> {
        // SAFETY: by this function's contract.
        self.run("copy", |s| checked(unsafe { sys::cuMemcpyDtoDAsync_v2(to, from, bytes, s.as_inner()) }))
    }

    fn compiler(&self) -> Result<String> {
        let (major, minor) = Nvrtc::get()?.version();
        Ok(format!("nvrtc {major}.{minor}"))
    }

    fn compile(&self, name: &str, source: &str) -> Result<Vec<u8>> {
        Nvrtc::get()?.compile(name, source, self.architecture, Dialect::Cuda.build_options())
    }

    fn load(&self, name: &str, image: &[u8]) -> Result<Function> {
        self.run("loading a kernel", |_| {
            let module = Module::from_cubin(image, &[])?;
            let function = module.get_function(name)?.to_raw() as u64;
            // The module is kept as long as the device, and the function with it.
            locked(&self.modules).push(module);
            Ok(function)
        })
    }

    unsafe fn launch(&self, f: Function, blocks: u32, threads: u32, shared: u32, words: &[u64]) -> Result<()> {
        let mut arguments = [words.as_ptr().cast_mut().cast::<c_void>()];
        self.run("launch", |stream| {
            // SAFETY: the function is from `load`, and its one argument is `words`, by this function's contract.
            checked(unsafe {
                sys::cuLaunchKernel(
                    f as sys::CUfunction,
                    blocks,
                    1,
                    1,
                    threads,
                    1,
                    1,
                    shared,
                    stream.as_inner(),
                    arguments.as_mut_ptr(),
                    ptr::null_mut(),
                )
            })
        })
    }

    fn synchronize(&self) -> Result<()> {
        self.run("synchronize", Stream::synchronize)
    }

    fn stream(&self) -> Option<*mut c_void> {
        self.run("stream", |stream| Ok(stream.as_inner() as *mut c_void)).ok()
    }

    fn context(&self) -> Option<*mut c_void> {
        Some(self.context.as_raw().cast())
    }

    fn ordinal(&self) -> Option<i32> {
        Some(self.number as i32)
    }

    unsafe fn copy_from_peer(&self, source: &dyn Driver, from: u64, to: u64, bytes: usize) -> Result<bool> {
        // The source's context is current from here on.
        let (Some(theirs), Some(number), Some(queue)) = (source.context(), source.ordinal(), source.stream()) else {
            return Ok(false);
        };
        let queue = queue as sys::CUstream;
        let fail = |e: CudaError| Error::backend(self.name(), "copy between devices", e);
        // SAFETY: the stream is the source's, whose context is current.
        let written = unsafe { Reached::by(queue) }.map_err(fail)?;
        self.run("copy between devices", |stream| {
            self.see(theirs, number)?;
            // SAFETY: streams, contexts and events are alive; the bytes are the devices', by this function's contract.
            unsafe {
                checked(sys::cuStreamWaitEvent(stream.as_inner(), written.0, 0))?;
                let (ours, theirs) = (self.context.as_raw(), theirs as sys::CUcontext);
                checked(sys::cuMemcpyPeerAsync(to, ours, from, theirs, bytes, stream.as_inner()))?;
                // The source's memory may be used again as soon as its next kernels run.
                let read = Reached::by(stream.as_inner())?;
                checked(sys::cuStreamWaitEvent(queue, read.0, 0))
            }
        })?;
        Ok(true)
    }

    fn begin_capture(&self) -> Result<()> {
        let mode = sys::CUstreamCaptureMode_enum::CU_STREAM_CAPTURE_MODE_RELAXED;
        // SAFETY: the stream is this device's.
        self.run("capture", |s| checked(unsafe { sys::cuStreamBeginCapture_v2(s.as_inner(), mode) }))
    }

    fn end_capture(&self) -> Result<u64> {
        self.run("capture", |stream| {
            let (mut graph, mut ready): (CUgraph, CUgraphExec) = (ptr::null_mut(), ptr::null_mut());
            // SAFETY: the stream is this device's, and the pointers valid for writing.
            checked(unsafe { sys::cuStreamEndCapture(stream.as_inner(), &mut graph) })?;
            // SAFETY: the graph is what capture gave.
            let made = checked(unsafe { sys::cuGraphInstantiateWithFlags(&mut ready, graph, 0) });
            // SAFETY: as above; what was instantiated does not need it.
            checked(unsafe { sys::cuGraphDestroy(graph) })?;
            made.map(|()| ready as u64)
        })
    }

    unsafe fn replay(&self, graph: u64) -> Result<()> {
        // SAFETY: by this function's contract.
        self.run("replay", |s| checked(unsafe { sys::cuGraphLaunch(graph as CUgraphExec, s.as_inner()) }))
    }

    unsafe fn free_graph(&self, graph: u64) {
        // SAFETY: by this function's contract.
        let _ = self.run("free", |_| checked(unsafe { sys::cuGraphExecDestroy(graph as CUgraphExec) }));
    }
}

/// An event that a stream records: reached once everything before it is done.
struct Reached(sys::CUevent);

impl Reached {
    /// # Safety
    /// The stream is of the current context.
    unsafe fn by(stream: sys::CUstream) -> CudaResult<Reached> {
        const WITHOUT_TIMING: u32 = 2;
        let mut event = ptr::null_mut();
        // SAFETY: the pointer is valid for writing, and the stream is of the current context.
        unsafe {
            checked(sys::cuEventCreate(&mut event, WITHOUT_TIMING))?;
            let reached = Reached(event);
            checked(sys::cuEventRecord(event, stream)).map(|()| reached)
        }
    }
}

impl Drop for Reached {
    fn drop(&mut self) {
        // SAFETY: the event is this value's; who waits for it goes on doing so.
        unsafe { sys::cuEventDestroy_v2(self.0) };
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        let staging = locked(&self.staging).memory;
        let _ = self.run("close", |stream| {
            stream.synchronize()?;
            // SAFETY: the memory is from `cuMemHostAlloc`, and the stream is done with it.
            checked(unsafe { sys::cuMemFreeHost(staging.cast()) })
        });
    }
}
