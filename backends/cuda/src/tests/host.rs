//! A driver that runs kernels on the host: their text is compiled as C++, after a header that gives CUDA's words a
//! meaning.

use crate::driver::{Architecture, Driver, Function};
use isograd_core::{Error, Result};
use libloading::Library;
use std::{
    collections::HashMap,
    ffi::c_void,
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicUsize, Ordering},
    },
};

pub(super) const HEADER: &str = include_str!("host/host.h");
pub(super) const RUNTIME: &str = include_str!("host/runtime.cpp");

type Start = unsafe extern "C" fn(*const u64, u32, u32, u32) -> i32;

/// Bytes after each allocation, which nobody may write.
const GUARD: usize = 64;
const GUARDED: u8 = 0x5c;

/// A device made of the host.
#[derive(Debug)]
pub(super) struct Host {
    architecture: Architecture,
    memory: Mutex<HashMap<u64, usize>>,
    /// Allocations that still succeed.
    pub left: AtomicUsize,
    /// Sources compiled so far.
    pub compiled: AtomicUsize,
    loaded: Mutex<Vec<(String, Start, usize)>>,
    libraries: Mutex<Vec<Library>>,
    recording: Mutex<Option<Vec<Launch>>>,
    graphs: Mutex<Vec<Vec<Launch>>>,
    /// Its number, and where it finds CUDA's libraries; without them it is none of CUDA's devices.
    libraries_of_cuda: Option<(i32, PathBuf)>,
    /// Copies from other devices so far.
    pub copies: AtomicUsize,
}

type Launch = (Function, u32, u32, u32, Vec<u64>);

/// Whether a missing tool is an error: `ISOGRAD_REQUIRE_NVRTC`, set to anything but nothing.
pub(super) fn required() -> bool {
    std::env::var_os("ISOGRAD_REQUIRE_NVRTC").is_some_and(|v| !v.is_empty())
}

/// Blocks share the runtime's fibers and the kernels' static memory: one kernel at a time.
static RUNNING: Mutex<()> = Mutex::new(());

impl Host {
    /// The device, or `None`, in one line, where there is no C++ compiler.
    pub fn new(architecture: Architecture) -> Option<Arc<Host>> {
        Host::with_libraries(architecture, None)
    }

    /// One that has a number, and finds CUDA's libraries in a directory.
    pub fn with_libraries(architecture: Architecture, libraries: Option<(i32, PathBuf)>) -> Option<Arc<Host>> {
        static RUNTIME_LIBRARY: OnceLock<Option<Library>> = OnceLock::new();
        let runtime = RUNTIME_LIBRARY.get_or_init(|| {
            Command::new("c++").arg("--version").output().ok()?;
            let path = build("runtime", RUNTIME, "-O2").unwrap();
            // Its symbols are for the kernels.
            use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_NOW};
            // SAFETY: it has no initializers but those of its empty vectors.
            Some(unsafe { Library::open(Some(&path), RTLD_NOW | RTLD_GLOBAL) }.unwrap().into())
        });
        if runtime.is_none() {
            assert!(!required(), "there is no c++");
            eprintln!("skipped: there is no c++ to run kernels on the host");
            return None;
        }
        Some(Arc::new(Host {
            architecture,
            memory: Mutex::default(),
            left: AtomicUsize::new(usize::MAX),
            compiled: AtomicUsize::new(0),
            loaded: Mutex::default(),
            libraries: Mutex::default(),
            recording: Mutex::default(),
            graphs: Mutex::default(),
            libraries_of_cuda: libraries,
            copies: AtomicUsize::new(0),
        }))
    }

    /// Whether a kernel of that name was loaded.
    pub fn has_loaded(&self, name: &str) -> bool {
        self.loaded.lock().unwrap().iter().any(|(loaded, ..)| loaded == name)
    }

    fn fail(&self, op: &str, why: impl ToString) -> Error {
        Error::backend(self.name(), op, why)
    }

    fn run(&self, (f, blocks, threads, shared, words): &Launch) -> Result<()> {
        let (name, start, expected) = self.loaded.lock().unwrap()[*f as usize].clone();
        assert_eq!(words.len(), expected, "words of the argument of {name}");
        let _running = RUNNING.lock().unwrap_or_else(|e| e.into_inner());
        // SAFETY: the words are as many as the kernel has; the rest is the kernel's business, which is under test.
        match unsafe { start(words.as_ptr(), *blocks, *threads, *shared) } {
            0 => Ok(()),
            1 => panic!("{name}: threads wait at a barrier that others do not reach"),
            _ => panic!("{name}: {threads} threads and {shared} bytes of shared memory, or a write beyond them"),
        }
    }

    /// Checks the bytes after every allocation.
    pub fn check_guards(&self) {
        for (&address, &bytes) in self.memory.lock().unwrap().iter() {
            // SAFETY: the allocation has as many bytes, and the guard's.
            let guard = unsafe { std::slice::from_raw_parts((address as usize + bytes) as *const u8, GUARD) };
            assert!(guard.iter().all(|b| *b == GUARDED), "a kernel wrote beyond an allocation of {bytes} bytes");
        }
    }
}

/// Where compiled kernels are kept between runs.
pub(super) fn directory() -> PathBuf {
    let executable = std::env::current_exe().unwrap();
    executable.parent().and_then(Path::parent).unwrap().join("isograd-cuda-host")
}

fn build(name: &str, source: &str, optimize: &str) -> Result<PathBuf, String> {
    static NUMBER: AtomicUsize = AtomicUsize::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let directory = directory();
    fs::create_dir_all(&directory).map_err(|e| e.to_string())?;
    let at = |extension: &str| directory.join(format!("{}-{number}-{name}.{extension}", std::process::id()));
    let (code, library) = (at("cpp"), at("so"));
    fs::write(&code, source).map_err(|e| e.to_string())?;
    let options = ["-std=c++17", optimize, "-w", "-shared", "-fPIC", "-ffp-contract=off", "-fno-strict-aliasing", "-o"];
    let compiled = Command::new("c++").args(options).args([&library, &code]).output().map_err(|e| e.to_string())?;
    if !compiled.status.success() {
        return Err(format!("{}: {}", code.display(), String::from_utf8_lossy(&compiled.stderr)));
    }
    let _ = fs::remove_file(code);
    Ok(library)
}

impl Driver for Host {
    fn name(&self) -> String {
        match &self.libraries_of_cuda {
            Some((number, _)) => format!("cuda:host{number}"),
            None => "cuda:host".into(),
        }
    }

    fn architecture(&self) -> Architecture {
        self.architecture
    }

    fn memory(&self) -> usize {
        1 << 34
    }

    fn alloc(&self, bytes: usize) -> Result<Option<u64>> {
        if bytes > self.memory() || self.left.load(Ordering::Relaxed) == 0 {
            return Ok(None);
        }
        self.left.fetch_sub(1, Ordering::Relaxed);
        let layout = std::alloc::Layout::from_size_align(bytes + GUARD, 256).unwrap();
        // SAFETY: the layout is not empty.
        let address = unsafe { std::alloc::alloc(layout) };
        // SAFETY: as many bytes were allocated; what is read before it is written shows as NaN.
        unsafe {
            address.write_bytes(0xff, bytes);
            address.add(bytes).write_bytes(GUARDED, GUARD);
        }
        self.memory.lock().unwrap().insert(address as u64, bytes);
        Ok(Some(address as u64))
    }

    unsafe fn free(&self, address: u64) {
        let bytes = self.memory.lock().unwrap().remove(&address).expect("what is freed was allocated");
        let layout = std::alloc::Layout::from_size_align(bytes + GUARD, 256).unwrap();
        // SAFETY: from `alloc`, with this layout.
        unsafe { std::alloc::dealloc(address as *mut u8, layout) };
    }

    unsafe fn upload(&self, from: &[u8], to: u64) -> Result<()> {
        // SAFETY: by this function's contract.
        unsafe { std::ptr::copy_nonoverlapping(from.as_ptr(), to as *mut u8, from.len()) };
        Ok(())
    }

    unsafe fn download(&self, from: u64, to: &mut [u8]) -> Result<()> {
        // SAFETY: by this function's contract.
        unsafe { std::ptr::copy_nonoverlapping(from as *const u8, to.as_mut_ptr(), to.len()) };
        Ok(())
    }

    unsafe fn copy(&self, from: u64, to: u64, bytes: usize) -> Result<()> {
        // SAFETY: by this function's contract.
        unsafe { std::ptr::copy_nonoverlapping(from as *const u8, to as *mut u8, bytes) };
        Ok(())
    }

    fn compiler(&self) -> Result<String> {
        Ok(format!("c++ {}", blake3::hash(HEADER.as_bytes())))
    }

    fn compile(&self, name: &str, source: &str) -> Result<Vec<u8>> {
        self.compiled.fetch_add(1, Ordering::Relaxed);
        let library = build(name, &format!("{HEADER}{source}"), "-O1").map_err(|e| self.fail("compile", e))?;
        let bytes = fs::read(&library).map_err(|e| self.fail("compile", e))?;
        let _ = fs::remove_file(library);
        Ok(bytes)
    }

    fn load(&self, name: &str, image: &[u8]) -> Result<Function> {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = directory().join(format!("{}-{number}.loaded.so", std::process::id()));
        fs::write(&path, image).map_err(|e| self.fail("load", e))?;
        // SAFETY: it is what `compile` gave; it has no initializers.
        let library = unsafe { Library::new(&path) };
        let _ = fs::remove_file(&path);
        let library = library.map_err(|e| self.fail("load", e))?;
        // SAFETY: `IG_KERNEL` in host.h defines both.
        let (start, words) = unsafe {
            let start =
                library.get::<Start>(format!("ig_start_{name}").as_bytes()).map_err(|e| self.fail("load", e))?;
            let words = library.get::<unsafe extern "C" fn() -> u32>(format!("ig_words_{name}").as_bytes());
            (*start, words.map_err(|e| self.fail("load", e))?() as usize)
        };
        self.libraries.lock().unwrap().push(library);
        let mut loaded = self.loaded.lock().unwrap();
        loaded.push((name.to_string(), start, words));
        Ok(loaded.len() as u64 - 1)
    }

    unsafe fn launch(&self, f: Function, blocks: u32, threads: u32, shared: u32, words: &[u64]) -> Result<()> {
        let launch = (f, blocks, threads, shared, words.to_vec());
        if let Some(recorded) = &mut *self.recording.lock().unwrap() {
            recorded.push(launch);
            return Ok(());
        }
        self.run(&launch)
    }

    fn synchronize(&self) -> Result<()> {
        Ok(())
    }

    fn stream(&self) -> Option<*mut c_void> {
        self.libraries_of_cuda.as_ref().map(|_| std::ptr::dangling_mut())
    }

    fn ordinal(&self) -> Option<i32> {
        self.libraries_of_cuda.as_ref().map(|l| l.0)
    }

    fn libraries(&self) -> Vec<PathBuf> {
        self.libraries_of_cuda.iter().map(|l| l.1.clone()).collect()
    }

    unsafe fn copy_from_peer(&self, source: &dyn Driver, from: u64, to: u64, bytes: usize) -> Result<bool> {
        if source.ordinal().is_none() {
            return Ok(false);
        }
        self.copies.fetch_add(1, Ordering::Relaxed);
        // SAFETY: by this function's contract; all memory is the host's.
        unsafe { self.copy(from, to, bytes) }.map(|()| true)
    }

    fn begin_capture(&self) -> Result<()> {
        *self.recording.lock().unwrap() = Some(vec![]);
        Ok(())
    }

    fn end_capture(&self) -> Result<u64> {
        let mut graphs = self.graphs.lock().unwrap();
        graphs.push(self.recording.lock().unwrap().take().ok_or_else(|| self.fail("capture", "none is under way"))?);
        Ok(graphs.len() as u64 - 1)
    }

    unsafe fn replay(&self, graph: u64) -> Result<()> {
        let launches = self.graphs.lock().unwrap()[graph as usize].clone();
        launches.iter().try_for_each(|launch| self.run(launch))
    }

    unsafe fn free_graph(&self, graph: u64) {
        self.graphs.lock().unwrap()[graph as usize].clear();
    }
}
