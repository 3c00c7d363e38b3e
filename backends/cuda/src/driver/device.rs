//! A device of the CUDA driver, by way of `cust`.

use super::{
    Architecture, Driver, Function,
    failure::{Failure, checked},
    queue::{Event, Queue},
    staging::{Pinned, Staging},
    symbols,
};
use crate::nvrtc::Nvrtc;
use cust::{
    context::{Context, CurrentContext},
    device::{Device as Handle, DeviceAttribute},
    module::Module,
    sys::{self, CUgraph, CUgraphExec},
};
use isograd_core::{Error, Result, expr::render::Dialect};
use std::{
    ffi::c_void,
    ptr,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

/// Downloads up to this size go through pinned memory.
const SMALL: usize = 64 << 10;

/// The oldest device that the kernels are written for.
const OLDEST: Architecture = Architecture::new(7, 5);
/// The oldest driver, by the version of CUDA that it is for.
const OLDEST_DRIVER: i32 = 12;

/// `CUDA_ERROR_OUT_OF_MEMORY`.
const OUT_OF_MEMORY: u32 = 2;

type Outcome<T> = std::result::Result<T, Failure>;

/// A device, its primary context, and the queue of its kernels.
pub(crate) struct Device {
    number: usize,
    architecture: Architecture,
    memory: usize,
    /// Whether what is given to the queue is recorded, and nothing may wait for it.
    capturing: AtomicBool,
    /// Devices whose memory this one was asked to read.
    seen: Mutex<Vec<i32>>,
    modules: Mutex<Vec<Module>>,
    staging: Mutex<Staging>,
    downloaded: Mutex<Pinned>,
    queue: Queue,
    // The last that is dropped: everything else is in it.
    context: Primary,
}

// SAFETY: the driver's functions may be called on any thread, with the context made current first, which every method
// does; what is not the driver's is behind locks.
unsafe impl Send for Device {}
// SAFETY: as above.
unsafe impl Sync for Device {}

impl std::fmt::Debug for Device {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Device").field("number", &self.number).field("architecture", &self.architecture).finish()
    }
}

/// A device's primary context, which libraries share.
struct Primary(Context);

impl Drop for Primary {
    fn drop(&mut self) {
        // Given back by its last user, it must not stay current.
        // SAFETY: none is a context that may be current.
        unsafe { sys::cuCtxSetCurrent(ptr::null_mut()) };
    }
}

fn initialized() -> Result<()> {
    let fail = |why: String| Error::backend("cuda", "opening the device", why);
    symbols::driver().map_err(|why| fail(why.to_string()))?;
    // The symbols are referred to here, so that a program that uses devices has them.
    std::hint::black_box(symbols::defined());
    let fail = |why: Failure| fail(format!("the driver does not start: {why}"));
    cust::init(cust::CudaFlags::empty()).map_err(|e| fail(e.into()))?;
    let (major, minor) = version().map_err(fail)?;
    if major >= OLDEST_DRIVER {
        return Ok(());
    }
    let why = format!("the driver is for CUDA {major}.{minor}; install one for CUDA {OLDEST_DRIVER}.0 or later");
    Err(Error::backend("cuda", "opening the device", why))
}

/// The newest version of CUDA that the driver is for.
fn version() -> Outcome<(i32, i32)> {
    let mut version = 0;
    // SAFETY: the number is valid for writing.
    checked(unsafe { sys::cuDriverGetVersion(&mut version) })?;
    Ok((version / 1000, version % 1000 / 10))
}

/// The newest CUDA whose compiled kernels the driver loads; none where there is no driver.
pub(crate) fn newest_compiler() -> Option<i32> {
    symbols::driver().ok().and_then(|_| version().ok()).map(|(major, _)| major)
}

/// The number of devices; 0 without a driver.
pub(crate) fn count() -> usize {
    initialized().map_or(0, |()| Handle::num_devices().unwrap_or(0) as usize)
}

/// The names of so many devices.
pub(crate) fn names(devices: usize) -> String {
    (0..devices).map(|i| format!("cuda:{i}")).collect::<Vec<_>>().join(", ")
}

impl Device {
    /// Device `number`.
    pub fn new(number: usize) -> Result<Device> {
        initialized()?;
        let name = format!("cuda:{number}");
        let fail = |why: String| Error::backend(&name, "opening the device", why);
        let failed = |e: Failure| fail(e.to_string());
        let devices = Handle::num_devices().map_err(|e| failed(e.into()))? as usize;
        if number >= devices {
            return Err(Error::UnknownDevice {
                name,
                available: names(devices),
                hint: "; devices count from 0".into(),
            });
        }
        let handle = Handle::get_device(number as u32).map_err(|e| failed(e.into()))?;
        let attribute = |a| handle.get_attribute(a).map_err(|e| failed(e.into()));
        let architecture = Architecture::new(
            attribute(DeviceAttribute::ComputeCapabilityMajor)? as u32,
            attribute(DeviceAttribute::ComputeCapabilityMinor)? as u32,
        );
        if architecture < OLDEST {
            return Err(fail(format!("it has {architecture}; kernels need {OLDEST} or later")));
        }
        let memory = handle.total_memory().map_err(|e| failed(e.into()))?;
        let context = Primary(Context::new(handle).map_err(|e| failed(e.into()))?);
        CurrentContext::set_current(&context.0).map_err(|e| failed(e.into()))?;
        Ok(Device {
            number,
            architecture,
            memory,
            capturing: AtomicBool::new(false),
            seen: Mutex::default(),
            modules: Mutex::default(),
            staging: Mutex::new(Staging::new().map_err(failed)?),
            downloaded: Mutex::new(Pinned::new(SMALL).map_err(failed)?),
            queue: Queue::new().map_err(failed)?,
            context,
        })
    }

    /// Lets this device read the memory of another directly, where the two are wired so; else copies go through the host.
    fn see(&self, other: *mut c_void, number: i32) -> Outcome<()> {
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
    fn with<T>(&self, f: impl FnOnce(&Queue) -> Outcome<T>) -> Outcome<T> {
        CurrentContext::set_current(&self.context.0)?;
        f(&self.queue)
    }

    /// As `with`, with the device's name in the error.
    fn run<T>(&self, op: &str, f: impl FnOnce(&Queue) -> Outcome<T>) -> Result<T> {
        self.with(f).map_err(|e| Error::backend(self.name(), op, e))
    }

    /// What waits would spoil a capture, and copies to or from the host would be recorded.
    fn not_capturing(&self, op: &str) -> Result<()> {
        match self.capturing.load(Ordering::Acquire) {
            true => Err(Error::backend(self.name(), op, "a step is being captured; do so before or after")),
            false => Ok(()),
        }
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
        match self.with(|_| checked(unsafe { sys::cuMemAlloc_v2(&mut address, bytes) })) {
            Ok(()) => Ok(Some(address)),
            Err(e) if e.code() == OUT_OF_MEMORY => Ok(None),
            Err(e) => Err(Error::backend(self.name(), "alloc", e)),
        }
    }

    unsafe fn free(&self, address: u64) {
        // An error here is one of a kernel before, which the next call reports.
        let _ = self.run("free", |queue| {
            // A capture begins with a wait, and nothing is run until it ends.
            if !self.capturing.load(Ordering::Acquire) {
                queue.synchronize()?;
            }
            // SAFETY: by this function's contract.
            checked(unsafe { sys::cuMemFree_v2(address) })
        });
    }

    unsafe fn upload(&self, from: &[u8], to: u64) -> Result<()> {
        let mut staging = locked(&self.staging);
        self.not_capturing("upload")?;
        // SAFETY: by this function's contract.
        self.run("upload", |queue| unsafe { staging.upload(from, to, queue) })
    }

    unsafe fn download(&self, from: u64, to: &mut [u8]) -> Result<()> {
        self.not_capturing("download")?;
        let bytes = to.len();
        let copied = |place: *mut u8, queue: &Queue| {
            // SAFETY: by this function's contract; `place` is valid until the queue is done, which is waited for.
            checked(unsafe { sys::cuMemcpyDtoHAsync_v2(place.cast::<c_void>(), from, bytes, queue.raw()) })?;
            queue.synchronize()
        };
        self.run("download", |queue| {
            let pinned = locked(&self.downloaded);
            if bytes > pinned.len() {
                drop(pinned);
                return copied(to.as_mut_ptr(), queue);
            }
            copied(pinned.address(), queue)?;
            // SAFETY: the device has written as many bytes there, and is done.
            unsafe { ptr::copy_nonoverlapping(pinned.address(), to.as_mut_ptr(), bytes) };
            Ok(())
        })
    }

    unsafe fn copy(&self, from: u64, to: u64, bytes: usize) -> Result<()> {
        // SAFETY: by this function's contract.
        self.run("copy", |q| checked(unsafe { sys::cuMemcpyDtoDAsync_v2(to, from, bytes, q.raw()) }))
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
        self.run("launch", |queue| {
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
                    queue.raw(),
                    arguments.as_mut_ptr(),
                    ptr::null_mut(),
                )
            })
        })
    }

    fn synchronize(&self) -> Result<()> {
        self.not_capturing("synchronize")?;
        self.run("synchronize", Queue::synchronize)
    }

    fn stream(&self) -> Option<*mut c_void> {
        self.run("stream", |queue| Ok(queue.raw() as *mut c_void)).ok()
    }

    fn context(&self) -> Option<*mut c_void> {
        Some(self.context.0.as_raw().cast())
    }

    fn ordinal(&self) -> Option<i32> {
        Some(self.number as i32)
    }

    unsafe fn copy_from_peer(&self, source: &dyn Driver, from: u64, to: u64, bytes: usize) -> Result<bool> {
        // The source's context is current from here on.
        let (Some(theirs), Some(number), Some(stream)) = (source.context(), source.ordinal(), source.stream()) else {
            return Ok(false);
        };
        self.not_capturing("copy from another device")?;
        let stream = stream as sys::CUstream;
        // SAFETY: the stream is the source's, whose context is current.
        let written =
            unsafe { Event::of(stream) }.map_err(|e| Error::backend(source.name(), "copy between devices", e))?;
        self.run("copy between devices", |queue| {
            self.see(theirs, number)?;
            queue.wait_for(&written)?;
            let (ours, theirs) = (self.context.0.as_raw(), theirs as sys::CUcontext);
            // SAFETY: queue and contexts are alive; the bytes are the devices', by this function's contract.
            checked(unsafe {
                match ours == theirs {
                    // Another queue of this device.
                    true => sys::cuMemcpyDtoDAsync_v2(to, from, bytes, queue.raw()),
                    false => sys::cuMemcpyPeerAsync(to, ours, from, theirs, bytes, queue.raw()),
                }
            })?;
            // The source's memory may be used again as soon as its next kernels run.
            let read = Event::new()?;
            read.record(queue)?;
            // SAFETY: stream and event are alive.
            checked(unsafe { sys::cuStreamWaitEvent(stream, read.raw(), 0) })
        })?;
        Ok(true)
    }

    fn begin_capture(&self) -> Result<()> {
        let mode = sys::CUstreamCaptureMode_enum::CU_STREAM_CAPTURE_MODE_RELAXED;
        // No upload is under way, and none begins.
        let _staging = locked(&self.staging);
        self.not_capturing("capture")?;
        self.run("capture", |queue| {
            queue.synchronize()?;
            // SAFETY: the stream is this device's.
            checked(unsafe { sys::cuStreamBeginCapture_v2(queue.raw(), mode) })
        })?;
        self.capturing.store(true, Ordering::Release);
        Ok(())
    }

    fn end_capture(&self) -> Result<u64> {
        let ended = self.run("capture", |queue| {
            let (mut graph, mut ready): (CUgraph, CUgraphExec) = (ptr::null_mut(), ptr::null_mut());
            // SAFETY: the stream is this device's, and the pointers valid for writing.
            checked(unsafe { sys::cuStreamEndCapture(queue.raw(), &mut graph) })?;
            // SAFETY: the graph is what capture gave.
            let made = checked(unsafe { sys::cuGraphInstantiateWithFlags(&mut ready, graph, 0) });
            // SAFETY: as above; what was instantiated does not need it.
            checked(unsafe { sys::cuGraphDestroy(graph) })?;
            made.map(|()| ready as u64)
        });
        self.capturing.store(false, Ordering::Release);
        ended
    }

    unsafe fn replay(&self, graph: u64) -> Result<()> {
        self.not_capturing("replay")?;
        // SAFETY: by this function's contract.
        self.run("replay", |q| checked(unsafe { sys::cuGraphLaunch(graph as CUgraphExec, q.raw()) }))
    }

    unsafe fn free_graph(&self, graph: u64) {
        // SAFETY: by this function's contract; the driver lets it finish first.
        let _ = self.run("free", |_| checked(unsafe { sys::cuGraphExecDestroy(graph as CUgraphExec) }));
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        // With the context current, and nothing under way, everything that is in it can go.
        let _ = self.run("close", |queue| {
            let copied = locked(&self.staging).synchronize();
            queue.synchronize().and(copied)
        });
    }
}
