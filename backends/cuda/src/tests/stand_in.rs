//! Runs a test in a process of its own, whose driver and NVRTC are stand-ins (`host/driver.cpp`, `host/nvrtc.cpp`): a
//! process has one driver, and looks for it once.

use super::host::{self, HEADER, RUNTIME};
use crate::driver::symbols;
use std::{
    env,
    ffi::CString,
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::{
        OnceLock,
        atomic::{AtomicUsize, Ordering},
    },
};

const DRIVER: &str = include_str!("host/driver.cpp");
const NVRTC: &str = include_str!("host/nvrtc.cpp");

/// Whether this process is to run a test itself.
const CHILD: &str = "ISOGRAD_TEST_ON_STAND_IN";

/// Where the libraries are; `None`, in one line, where there is no C++ compiler, or no Linux. They are kept between runs.
pub(super) fn directory() -> Option<&'static Path> {
    static DIRECTORY: OnceLock<Option<PathBuf>> = OnceLock::new();
    let found = DIRECTORY.get_or_init(|| {
        // It reads ELF files.
        cfg!(target_os = "linux").then(|| Command::new("c++").arg("--version").output().ok())??;
        let hash = blake3::hash([DRIVER, NVRTC, RUNTIME, HEADER].join("\0").as_bytes());
        let directory = host::directory().join(format!("stand-in-{hash}"));
        if !directory.is_dir() {
            let own = directory.with_extension(std::process::id().to_string());
            fs::create_dir_all(&own).unwrap();
            let texts = [("driver.cpp", DRIVER), ("runtime.cpp", RUNTIME), ("nvrtc.cpp", NVRTC), ("other.cpp", "")];
            texts
                .into_iter()
                .chain([("host.h", HEADER)])
                .for_each(|(name, text)| fs::write(own.join(name), text).unwrap());
            compile(&own, &["driver.cpp", "runtime.cpp"], "libcuda.so.1");
            compile(&own, &["nvrtc.cpp"], "libnvrtc.so.13");
            fs::copy(own.join("libnvrtc.so.13"), own.join("libnvrtc.so")).unwrap();
            // NVIDIA's own, if there are any, would not know these devices.
            for name in ["libcublas.so.13", "libcublasLt.so.13", "libcudnn.so.9", "libnccl.so.2"] {
                compile(&own, &["other.cpp"], name);
            }
            // Another process may have been faster.
            if fs::rename(&own, &directory).is_err() {
                fs::remove_dir_all(&own).unwrap();
            }
        }
        Some(directory)
    });
    if found.is_none() {
        assert!(!host::required(), "there is no c++ on Linux");
        eprintln!("skipped: there is no c++ on Linux to make a driver");
    }
    found.as_deref()
}

fn compile(directory: &Path, sources: &[&str], name: &str) {
    let options = ["-std=c++17", "-O1", "-shared", "-fPIC", "-Wall", "-Werror", "-o", name];
    let soname = format!("-Wl,-soname,{name}");
    let made = Command::new("c++").current_dir(directory).args(options).arg(soname).args(sources).arg("-ldl").output();
    let made = made.unwrap();
    assert!(made.status.success(), "{name}: {}", String::from_utf8_lossy(&made.stderr));
}

/// Runs `body` once for each list of variables, with the stand-ins of [`directory`].
pub(super) fn run(test: &str, variables: &[&[(&str, &str)]], body: impl FnOnce()) {
    let Some(directory) = directory() else { return };
    run_in(test, directory, variables, body);
}

/// Runs `body` once for each list of variables, with the libraries of `directory`. `test` is the calling test, below
/// `tests`. Where the driver is the stand-in, nothing may be left at the end, nor used in a wrong way.
pub(super) fn run_in(test: &str, directory: &Path, variables: &[&[(&str, &str)]], body: impl FnOnce()) {
    static NUMBER: AtomicUsize = AtomicUsize::new(0);
    if env::var_os(CHILD).is_some() {
        body();
        if hook::<fn() -> i32>("ig_left").is_some() {
            assert_eq!([number("ig_left"), number("ig_violations")], [0, 0], "left behind, and violations");
        }
        return println!("{test} has run");
    }
    for variables in variables {
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let cache = crate::temporary_directory(&format!("stand-in-{number}"));
        let kernels = host::directory().join("stand-in-kernels");
        fs::create_dir_all(&kernels).unwrap();
        let output = Command::new(env::current_exe().unwrap())
            .args([&format!("tests::{test}"), "--exact", "--nocapture"])
            .env(CHILD, "1")
            .env("ISOGRAD_CUDA_LIBRARIES", directory)
            .env(isograd_kernel_cache::VARIABLE, &cache)
            .env("IG_HEADER", directory.join("host.h"))
            .env("IG_KERNELS", &kernels)
            .envs(variables.iter().copied())
            .output()
            .unwrap();
        let [out, err] = [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text));
        let ran = output.status.success() && out.contains(&format!("{test} has run"));
        assert!(ran, "{test} {variables:?}: {}\n{out}{err}", output.status);
        fs::remove_dir_all(cache).unwrap();
    }
}

/// A function that the stand-in has beside the driver's.
fn hook<F: Copy>(name: &str) -> Option<F> {
    // SAFETY: the callers below name the types that `driver.cpp` gives them.
    symbols::driver().ok().and_then(|driver| unsafe { driver.function(&format!("{name}\0")) })
}

/// What a function without arguments gives.
pub(super) fn number(name: &str) -> i32 {
    hook::<extern "C" fn() -> i32>(name).expect("the driver is the stand-in")()
}

/// How often the driver's function of that name was called; of no name: how often any was.
pub(super) fn calls(name: &str) -> i32 {
    let calls: extern "C" fn(*const i8) -> i32 = hook("ig_calls").expect("the driver is the stand-in");
    calls(CString::new(name).unwrap().as_ptr().cast())
}

/// Makes the driver's function of that name fail once, after `after` calls that do not.
pub(super) fn fail(name: &str, after: i32, code: i32) {
    let fail: extern "C" fn(*const i8, i32, i32) = hook("ig_fail").expect("the driver is the stand-in");
    fail(CString::new(name).unwrap().as_ptr().cast(), after, code);
}

/// Makes the next work of a device end with an error that stays.
pub(super) fn break_device(device: i32, code: i32) {
    hook::<extern "C" fn(i32, i32)>("ig_break").expect("the driver is the stand-in")(device, code);
}
