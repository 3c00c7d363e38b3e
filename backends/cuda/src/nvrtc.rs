//! NVRTC, NVIDIA's compiler as a library: CUDA C++ in, machine code for one architecture out. It needs no device.

use crate::{
    driver::{self, Architecture},
    library::{self, Library},
};
use isograd_core::{Error, Result};
use std::{
    ffi::{CStr, CString, c_char, c_int, c_void},
    path::Path,
    ptr,
    sync::OnceLock,
};

type Code = c_int;
type Program = *mut c_void;

/// The compiler's functions, all of which every NVRTC of CUDA 12 and 13 has.
#[derive(Debug)]
pub struct Nvrtc {
    library: Library,
    version: (i32, i32),
    create: unsafe extern "C" fn(
        *mut Program,
        *const c_char,
        *const c_char,
        c_int,
        *const *const c_char,
        *const *const c_char,
    ) -> Code,
    compile: unsafe extern "C" fn(Program, c_int, *const *const c_char) -> Code,
    log_size: unsafe extern "C" fn(Program, *mut usize) -> Code,
    log: unsafe extern "C" fn(Program, *mut c_char) -> Code,
    cubin_size: unsafe extern "C" fn(Program, *mut usize) -> Code,
    cubin: unsafe extern "C" fn(Program, *mut c_char) -> Code,
    destroy: unsafe extern "C" fn(*mut Program) -> Code,
    text: unsafe extern "C" fn(Code) -> *const c_char,
}

/// `NVRTC_ERROR_INVALID_OPTION`.
const INVALID_OPTION: Code = 5;

/// The oldest version that is used.
const OLDEST: i32 = 12;

impl Nvrtc {
    /// The compiler of this process, opened at first use.
    ///
    /// # Errors
    /// [`Error::Backend`], which says where it was looked for and what to install.
    pub fn get() -> Result<&'static Nvrtc> {
        static OPENED: OnceLock<Result<Nvrtc, String>> = OnceLock::new();
        let open = || {
            let newest = driver::newest_compiler().unwrap_or(i32::MAX);
            Nvrtc::of(Library::open("NVRTC", library::nvrtc(newest))?, newest)
        };
        OPENED.get_or_init(open).as_ref().map_err(|why| Error::backend("cuda", "opening the kernel compiler", why))
    }

    /// What a compiler newer than `newest` makes, the driver does not load.
    fn of(library: Library, newest: i32) -> Result<Nvrtc, String> {
        macro_rules! function {
            ($name:literal) => {
                // SAFETY: the fields have the types of NVRTC's header, which have not changed since CUDA 11.1.
                unsafe { library.function(concat!($name, "\0")) }.ok_or_else(|| {
                    format!("{} has no {}: it is not NVRTC of CUDA {OLDEST} or later", library.path.display(), $name)
                })?
            };
        }
        let version: unsafe extern "C" fn(*mut c_int, *mut c_int) -> Code = function!("nvrtcVersion");
        let (mut major, mut minor) = (0, 0);
        // SAFETY: both are valid for writing.
        unsafe { version(&mut major, &mut minor) };
        let wrong = match major {
            _ if major < OLDEST => Some("too old".to_string()),
            _ if major > newest => Some(format!("whose kernels the driver, of CUDA {newest}, does not load")),
            _ => None,
        };
        if let Some(wrong) = wrong {
            let path = library.path.display();
            return Err(format!(
                "{path} is NVRTC {major}.{minor}, {wrong}; install {}",
                library::nvrtc(newest).install
            ));
        }
        Ok(Nvrtc {
            version: (major, minor),
            create: function!("nvrtcCreateProgram"),
            compile: function!("nvrtcCompileProgram"),
            log_size: function!("nvrtcGetProgramLogSize"),
            log: function!("nvrtcGetProgramLog"),
            cubin_size: function!("nvrtcGetCUBINSize"),
            cubin: function!("nvrtcGetCUBIN"),
            destroy: function!("nvrtcDestroyProgram"),
            text: function!("nvrtcGetErrorString"),
            library,
        })
    }

    /// Major and minor version.
    pub fn version(&self) -> (i32, i32) {
        self.version
    }

    /// Where it was found.
    pub fn path(&self) -> &Path {
        &self.library.path
    }

    /// Compiles `source` to a cubin for `architecture`.
    ///
    /// # Errors
    /// [`Error::Backend`] with the compiler's messages, each of which gives a line of `source`.
    pub fn compile(&self, name: &str, source: &str, architecture: Architecture, options: &[&str]) -> Result<Vec<u8>> {
        let fail = |why: String| Error::backend("cuda", format!("compiling kernel {name} for {architecture}"), why);
        let checked = |code: Code| match code {
            0 => Ok(()),
            // SAFETY: the text is a string constant of the library.
            _ => Err(fail(unsafe { CStr::from_ptr((self.text)(code)) }.to_string_lossy().into_owned())),
        };
        let text = CString::new(source).map_err(|e| fail(e.to_string()))?;
        let file = CString::new(format!("{name}.cu")).map_err(|e| fail(e.to_string()))?;
        let target = format!("--gpu-architecture={}", architecture.target());
        let options: Vec<CString> = std::iter::once(target.as_str())
            .chain(["--std=c++17", "--device-as-default-execution-space"])
            .chain(options.iter().copied())
            .map(|o| CString::new(o).expect("options have no zero byte"))
            .collect();
        let pointers: Vec<*const c_char> = options.iter().map(|o| o.as_ptr()).collect();
        let mut program = Destroyed { nvrtc: self, program: ptr::null_mut() };
        // SAFETY: texts end with a zero byte and outlive the call; there are no headers.
        checked(unsafe {
            (self.create)(&mut program.program, text.as_ptr(), file.as_ptr(), 0, ptr::null(), ptr::null())
        })?;
        // SAFETY: the program was created, and the options outlive the call.
        let compiled = unsafe { (self.compile)(program.program, pointers.len() as c_int, pointers.as_ptr()) };
        if compiled != 0 {
            let mut bytes = 0;
            // SAFETY: the program was created.
            checked(unsafe { (self.log_size)(program.program, &mut bytes) })?;
            let mut log = vec![0u8; bytes];
            // SAFETY: the log has as many bytes as NVRTC says.
            checked(unsafe { (self.log)(program.program, log.as_mut_ptr().cast()) })?;
            let log = String::from_utf8_lossy(&log);
            let log = log.trim_end_matches('\0').trim_end();
            return Err(match (log, compiled) {
                ("", code) => checked(code).unwrap_err(),
                (log, INVALID_OPTION) => {
                    let (major, minor) = self.version;
                    fail(format!("{log}: NVRTC {major}.{minor} may be older than the device; install a newer one"))
                }
                (log, _) => fail(log.to_string()),
            });
        }
        let mut bytes = 0;
        // SAFETY: the program was compiled.
        checked(unsafe { (self.cubin_size)(program.program, &mut bytes) })?;
        let mut cubin = vec![0u8; bytes];
        // SAFETY: the cubin has as many bytes as NVRTC says.
        checked(unsafe { (self.cubin)(program.program, cubin.as_mut_ptr().cast()) })?;
        Ok(cubin)
    }
}

/// A program that is destroyed whatever happens.
struct Destroyed<'a> {
    nvrtc: &'a Nvrtc,
    program: Program,
}

impl Drop for Destroyed<'_> {
    fn drop(&mut self) {
        if !self.program.is_null() {
            // SAFETY: the program was created, and nobody else has it.
            unsafe { (self.nvrtc.destroy)(&mut self.program) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_library_that_is_not_nvrtc_is_told_from_it() {
        let other = library::Names { files: &["libm.so.6", "libSystem.dylib"], install: "a C library" };
        let Ok(library) = Library::open("C", other) else {
            eprintln!("skipped: there is no C library of a known name");
            return;
        };
        let error = Nvrtc::of(library, i32::MAX).unwrap_err();
        assert!(error.contains("nvrtcVersion") && error.contains("not NVRTC"), "{error}");
    }
}
