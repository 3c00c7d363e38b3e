//! Finding and opening shared libraries at run time: in a toolkit, in the system, or in a Python environment.
//!
//! To add a library: its file names, newest first, as a constant; and a test that its absence is told.

use std::{
    collections::BTreeSet,
    env,
    error::Error,
    path::{Path, PathBuf},
};

/// A library that is looked for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Names {
    /// File names, the preferred first.
    pub files: &'static [&'static str],
    /// What to install.
    pub install: &'static str,
}

pub(crate) const DRIVER: Names = Names {
    files: if cfg!(windows) { &["nvcuda.dll"] } else { &["libcuda.so.1", "libcuda.so"] },
    install: "NVIDIA's driver",
};
const NVRTC: Names = Names {
    files: if cfg!(windows) {
        &["nvrtc64_130_0.dll", "nvrtc64_120_0.dll"]
    } else {
        &["libnvrtc.so.13", "libnvrtc.so.12", "libnvrtc.so"]
    },
    install: "the CUDA toolkit 12 or 13, or `pip install nvidia-cuda-nvrtc` (CUDA 13) or `nvidia-cuda-nvrtc-cu12`",
};

/// NVRTC, none newer than of CUDA `newest`.
pub(crate) fn nvrtc(newest: i32) -> Names {
    match newest {
        ..=12 => Names {
            files: &NVRTC.files[1..],
            install: "that of the CUDA toolkit 12, or `pip install nvidia-cuda-nvrtc-cu12`, or a newer driver",
        },
        _ => NVRTC,
    }
}
pub(crate) const CUBLAS: Names = Names {
    files: if cfg!(windows) {
        &["cublas64_13.dll", "cublas64_12.dll"]
    } else {
        &["libcublas.so.13", "libcublas.so.12", "libcublas.so"]
    },
    install: "the CUDA toolkit 12 or 13, or `pip install nvidia-cublas` (CUDA 13) or `nvidia-cublas-cu12`",
};
/// Part of cuBLAS.
pub(crate) const CUBLAS_LT: Names = Names {
    files: if cfg!(windows) {
        &["cublasLt64_13.dll", "cublasLt64_12.dll"]
    } else {
        &["libcublasLt.so.13", "libcublasLt.so.12", "libcublasLt.so"]
    },
    install: CUBLAS.install,
};
pub(crate) const CUDNN: Names = Names {
    files: if cfg!(windows) {
        &["cudnn64_9.dll", "cudnn64_8.dll"]
    } else {
        &["libcudnn.so.9", "libcudnn.so.8", "libcudnn.so"]
    },
    install: "cuDNN 8 or 9, or `pip install nvidia-cudnn-cu13` (CUDA 13) or `nvidia-cudnn-cu12`",
};
pub(crate) const NCCL: Names = Names {
    files: &["libnccl.so.2", "libnccl.so"],
    install: "NCCL 2, or `pip install nvidia-nccl-cu13` (CUDA 13) or `nvidia-nccl-cu12`",
};

/// Declares `Functions`, a library's functions by their names and the types of their arguments, which are found when it
/// is opened. Each gives a `Code`. Several names in brackets make an array of functions of one type.
macro_rules! table {
    ($what:literal: $($field:ident = $name:tt ($($argument:ty),* $(,)?);)*) => {
        /// The functions of the library that are used, all of which it must have.
        #[derive(Debug)]
        struct Functions {
            $($field: $crate::library::table!(@type $name, unsafe extern "C" fn($($argument),*) -> Code),)*
            _library: Library,
        }

        impl Functions {
            /// From the first library of these names that a device's program finds; `None` where there is none, or another.
            fn found(names: $crate::library::Names, driver: &dyn $crate::driver::Driver) -> Option<Functions> {
                Functions::of(Library::open_in($what, names, &driver.libraries()).ok()?).ok()
            }

            fn of(library: Library) -> Result<Functions, String> {
                Ok(Functions {
                    $($field: $crate::library::table!(@find library, $what, $name),)*
                    _library: library,
                })
            }
        }
    };
    (@type [$a:literal, $b:literal, $c:literal], $type:ty) => { [$type; 3] };
    (@type $name:literal, $type:ty) => { $type };
    (@find $library:ident, $what:literal, [$($name:literal),*]) => {
        [$($crate::library::table!(@find $library, $what, $name)),*]
    };
    (@find $library:ident, $what:literal, $name:literal) => {
        // SAFETY: the fields have the types of the library's header.
        unsafe { $library.function(concat!($name, "\0")) }
            .ok_or_else(|| format!("{} has no {}: it is not {}", $library.path.display(), $name, $what))?
    };
}
pub(crate) use table;

/// A library that is open, for as long as the process runs.
#[derive(Debug)]
pub(crate) struct Library {
    handle: libloading::Library,
    /// Where it was found; a bare name where the system's loader found it.
    pub path: PathBuf,
}

impl Library {
    /// Opens the library `what` from the first place that has it.
    pub fn open(what: &str, names: Names) -> Result<Library, String> {
        Library::open_in(what, names, &directories())
    }

    /// As [`Library::open`], from `directories`, then from where the system's loader looks.
    pub fn open_in(what: &str, names: Names, directories: &[PathBuf]) -> Result<Library, String> {
        let mut failures = Vec::new();
        let in_directories = directories.iter().flat_map(|d| names.files.iter().map(move |f| d.join(f)));
        let candidates = in_directories.filter(|p| p.is_file()).chain(names.files.iter().map(PathBuf::from));
        for path in candidates {
            match load(&path) {
                Ok(handle) => return Ok(Library { handle, path }),
                Err(e) => {
                    let why = e.source().map_or_else(|| e.to_string(), |source| source.to_string());
                    failures.push(match why.contains(&*path.to_string_lossy()) {
                        true => why,
                        false => format!("{}: {why}", path.display()),
                    });
                }
            }
        }
        Err(format!(
            "the library of {what} ({}) cannot be opened: {}; install {}",
            names.files.join(" or "),
            failures.join("; "),
            names.install
        ))
    }

    /// The function `name`, which ends with a zero byte.
    ///
    /// # Safety
    /// `F` must be the function's type.
    pub unsafe fn function<F: Copy>(&self, name: &str) -> Option<F> {
        // SAFETY: by this function's own contract; the library stays open as long as the value exists, and values of
        // this type are kept in statics.
        unsafe { self.handle.get::<F>(name.as_bytes()) }.ok().map(|f| *f)
    }
}

#[cfg(unix)]
fn load(path: &Path) -> Result<libloading::Library, libloading::Error> {
    use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_NOW};
    // SAFETY: NVIDIA's libraries may be initialized at any time, on any thread. Their symbols are global because some
    // of them (NVRTC, cuDNN) open others by name.
    unsafe { Library::open(Some(path), RTLD_NOW | RTLD_GLOBAL) }.map(Into::into)
}

#[cfg(not(unix))]
fn load(path: &Path) -> Result<libloading::Library, libloading::Error> {
    // SAFETY: as above.
    unsafe { libloading::Library::new(path) }
}

/// Where toolkits and Python packages keep their libraries: `ISOGRAD_CUDA_LIBRARIES` (a list like `PATH`), the toolkit
/// that `CUDA_PATH` or `CUDA_HOME` names, the active Python environment, the user's packages, `/usr/local/cuda`, the
/// system's Python packages.
pub(crate) fn directories() -> Vec<PathBuf> {
    let variable = |name: &str| env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    let mut found = Vec::new();
    for given in env::var_os("ISOGRAD_CUDA_LIBRARIES").iter().flat_map(env::split_paths) {
        found.extend(python_packages(&given));
        found.push(given);
    }
    for root in ["CUDA_PATH", "CUDA_HOME"].iter().filter_map(|name| variable(name)) {
        found.extend(["lib64", "lib", "bin"].map(|d| root.join(d)));
    }
    for root in ["VIRTUAL_ENV", "CONDA_PREFIX"].iter().filter_map(|name| variable(name)) {
        found.extend(site_packages(&root).iter().flat_map(|d| python_packages(d)));
        found.push(root.join("lib"));
    }
    if let Some(home) = variable("HOME") {
        found.extend(site_packages(&home.join(".local")).iter().flat_map(|d| python_packages(d)));
    }
    found.push("/usr/local/cuda/lib64".into());
    found.extend(
        ["/usr/local", "/usr"].iter().flat_map(|d| site_packages(Path::new(d))).flat_map(|d| python_packages(&d)),
    );
    found
}

fn entries(directory: &Path) -> BTreeSet<PathBuf> {
    std::fs::read_dir(directory).into_iter().flatten().flatten().map(|e| e.path()).collect()
}

/// `lib/python3.*/site-packages` under `root`, and Debian's `dist-packages`.
fn site_packages(root: &Path) -> Vec<PathBuf> {
    let python = |p: &PathBuf| p.file_name().is_some_and(|n| n.to_string_lossy().starts_with("python3"));
    let versions = entries(&root.join("lib")).into_iter().filter(python);
    versions.flat_map(|p| [p.join("site-packages"), p.join("dist-packages")]).filter(|p| p.is_dir()).collect()
}

/// `nvidia/*/lib` in a directory of Python packages, the newest CUDA first.
fn python_packages(directory: &Path) -> Vec<PathBuf> {
    let folders = entries(&directory.join("nvidia")).into_iter().rev();
    folders.flat_map(|p| [p.join("lib"), p.join("bin")]).filter(|p| p.is_dir()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOWHERE: Names = Names { files: &["libisograd_nowhere.so.7"], install: "it from nowhere" };

    #[test]
    fn a_missing_library_is_named_with_the_way_out() {
        let error = Library::open("nowhere", NOWHERE).unwrap_err();
        for word in ["nowhere", "libisograd_nowhere.so.7", "install it from nowhere"] {
            assert!(error.contains(word), "{error}");
        }
    }

    #[test]
    fn a_file_that_is_no_library_is_told_and_passed_over() {
        let directory = crate::temporary_directory("no-library");
        std::fs::write(directory.join(NOWHERE.files[0]), "not a library").unwrap();
        let error = Library::open_in("nowhere", NOWHERE, std::slice::from_ref(&directory)).unwrap_err();
        assert!(error.contains(&directory.display().to_string()), "{error}");
        std::fs::remove_dir_all(directory).unwrap();
    }

    #[test]
    fn python_packages_are_found_newest_first() {
        let directory = crate::temporary_directory("python-packages");
        for folder in ["cu13/lib", "cuda_nvrtc/lib", "cu12/include"] {
            std::fs::create_dir_all(directory.join("nvidia").join(folder)).unwrap();
        }
        let expected = ["nvidia/cuda_nvrtc/lib", "nvidia/cu13/lib"].map(|p| directory.join(p));
        assert_eq!(python_packages(&directory), expected);
        std::fs::remove_dir_all(directory).unwrap();
    }
}
