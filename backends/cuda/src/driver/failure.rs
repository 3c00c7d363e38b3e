//! What the driver answers when it cannot.

use super::symbols::{self, Refusal};
use cust::{error::CudaError, sys::CUresult};
use std::{
    ffi::{CStr, c_char},
    fmt, ptr,
};

/// A code of the driver, not zero. One that `cust` does not know is looked up.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Failure(Refusal);

impl Failure {
    fn of(code: u32) -> Failure {
        // What `cust` calls unknown, and what a function that is not there gives, has more to it.
        Failure(if code == 999 || code == 801 { symbols::last_refusal() } else { (code, None) })
    }

    /// The driver's number for it.
    pub fn code(self) -> u32 {
        self.0.0
    }
}

impl From<CudaError> for Failure {
    fn from(error: CudaError) -> Failure {
        Failure::of(error as u32)
    }
}

/// `Ok` of success.
pub(super) fn checked(code: CUresult) -> Result<(), Failure> {
    match code {
        CUresult::CUDA_SUCCESS => Ok(()),
        code => Err(Failure::of(code as u32)),
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (code, missing) = self.0;
        if let (Some(function), Ok(driver)) = (missing, symbols::driver()) {
            return write!(f, "{} has no {function}: it is not NVIDIA's driver, or too old", driver.path.display());
        }
        let mut text: *const c_char = ptr::null();
        // SAFETY: the pointer is valid for writing.
        let found = unsafe { symbols::cuGetErrorString(code, &mut text) } == 0 && !text.is_null();
        if found {
            // SAFETY: the text is a string constant of the driver.
            write!(f, "{} ", unsafe { CStr::from_ptr(text) }.to_string_lossy())?;
        }
        write!(f, "(CUDA error {code})")
    }
}
