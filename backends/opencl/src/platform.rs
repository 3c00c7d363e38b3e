//! Which devices there are: every platform's GPUs, CPUs and accelerators that can compile, in the order of the platforms.

use isograd_core::{Error, Result};
use opencl3::{
    device::{CL_DEVICE_TYPE_ALL, CL_DEVICE_TYPE_CPU, CL_FP_CORRECTLY_ROUNDED_DIVIDE_SQRT, Device},
    error_codes::{ClError, DLOPEN_FUNCTION_NOT_AVAILABLE, DLOPEN_RUNTIME_LOAD_FAILED},
    platform::get_platforms,
};
use std::sync::{Mutex, MutexGuard};

/// `CL_PLATFORM_NOT_FOUND_KHR`, which the loader gives where no driver is installed.
const PLATFORM_NOT_FOUND: i32 = -1001;

/// What to do where there is no device.
const INSTALL: &str = "install the driver of the device's vendor, or PoCL for the processor \
                       (Debian and Ubuntu: apt install pocl-opencl-icd)";

/// Devices differ most in whether work items are lanes of a wide machine or iterations of a loop.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Class {
    /// Few strong cores: each work item takes a long run of neighbouring elements, which the compiler vectorizes.
    Cpu,
    /// Thousands of lanes: neighbouring work items take neighbouring elements.
    Gpu,
}

/// A device, as its driver describes it.
#[derive(Clone, Debug)]
pub struct Description {
    /// The platform's name, such as `Portable Computing Language`.
    pub platform: String,
    /// Who made the device.
    pub vendor: String,
    /// The device's name.
    pub name: String,
    /// The driver's version.
    pub driver: String,
    /// How kernels divide their work.
    pub class: Class,
    /// Whether there is double precision.
    pub double: bool,
    /// Bytes of device memory.
    pub memory: usize,
    /// Bytes of the largest buffer.
    pub max_buffer: usize,
    /// Whether host and device share memory, so that transfers need no staging.
    pub unified: bool,
    /// Numbers of f32 in a vector register.
    pub vector: usize,
    /// Cores or multiprocessors.
    pub units: usize,
    /// The largest work group.
    pub max_group: usize,
    /// Bytes of arguments that a kernel may have.
    pub max_parameters: usize,
    /// Whether division and square root can be asked to be correctly rounded.
    pub exact_division: bool,
    pub(crate) device: Device,
}

impl Description {
    /// Whether kernels call the driver's mathematical functions: the definitions of those of f32 need double precision.
    pub(crate) fn native(&self) -> bool {
        !self.double
    }
}

/// One thread of the process at a time finds devices, makes a context or builds a program: not every driver bears more.
static ALONE: Mutex<()> = Mutex::new(());

pub(crate) fn alone() -> MutexGuard<'static, ()> {
    ALONE.lock().unwrap_or_else(|e| e.into_inner())
}

fn describe(platform: &str, device: Device) -> Result<Option<Description>, ClError> {
    // Kernels are compiled on the device's driver, and laid out for the host's byte order.
    if !device.available()? || !device.compiler_available()? || !device.endian_little()? {
        return Ok(None);
    }
    if device.profile()? != "FULL_PROFILE" {
        return Ok(None);
    }
    let class = if device.dev_type()? & CL_DEVICE_TYPE_CPU != 0 { Class::Cpu } else { Class::Gpu };
    let trimmed = |s: String| s.trim().to_string();
    Ok(Some(Description {
        platform: platform.trim().to_string(),
        vendor: trimmed(device.vendor()?),
        name: trimmed(device.name()?),
        driver: trimmed(device.driver_version()?),
        class,
        double: device.double_fp_config().unwrap_or(0) != 0,
        memory: device.global_mem_size()? as usize,
        max_buffer: device.max_mem_alloc_size()? as usize,
        unified: device.host_unified_memory()?,
        vector: (device.native_vector_width_float()? as usize).max(1),
        units: (device.max_compute_units()? as usize).max(1),
        max_group: device.max_work_group_size()?.max(1),
        max_parameters: device.max_parameter_size()?,
        exact_division: device.single_fp_config()? & CL_FP_CORRECTLY_ROUNDED_DIVIDE_SQRT != 0,
        device,
    }))
}

/// All devices of this machine.
///
/// # Errors
/// [`Error::Backend`] that says what to install where there is no OpenCL library, no platform, or no device.
pub(crate) fn devices() -> Result<Vec<Description>> {
    let nothing = |why: &str| Error::backend("opencl", "looking for devices", format!("{why}; {INSTALL}"));
    let _alone = alone();
    let platforms = match get_platforms() {
        Ok(platforms) => platforms,
        Err(ClError(DLOPEN_RUNTIME_LOAD_FAILED | DLOPEN_FUNCTION_NOT_AVAILABLE)) => {
            return Err(nothing("there is no OpenCL library (libOpenCL.so.1, OpenCL.dll)"));
        }
        Err(ClError(PLATFORM_NOT_FOUND)) => return Err(nothing("no driver is installed")),
        Err(e) => return Err(nothing(&format!("the OpenCL library failed: {e}"))),
    };
    let mut found = Vec::new();
    for platform in platforms {
        // A platform without devices says so with an error; a broken one must not hide the others.
        let (Ok(name), Ok(ids)) = (platform.name(), platform.get_devices(CL_DEVICE_TYPE_ALL)) else { continue };
        found.extend(ids.into_iter().filter_map(|id| describe(&name, Device::new(id)).ok().flatten()));
    }
    if found.is_empty() { Err(nothing("no platform has a device that can compile kernels")) } else { Ok(found) }
}

impl Description {
    /// Whether `word` occurs in the name of the platform, the vendor or the device, in any case.
    pub(crate) fn matches(&self, word: &str) -> bool {
        let word = word.to_lowercase();
        [&self.platform, &self.vendor, &self.name].iter().any(|s| s.to_lowercase().contains(&word))
    }
}
