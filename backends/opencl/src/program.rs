//! Compiled kernels: kept in memory by what they compute, and on disk by their source.

use crate::{
    builtins,
    context::Shared,
    platform::{self, Description},
};
use isograd_core::{Error, Result, expr::render::Dialect};
use isograd_kernel_cache::{Cache, Key};
use opencl3::{error_codes::ClError, kernel::Kernel, program::Program};
use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, RwLock,
        atomic::{AtomicBool, Ordering},
    },
};

/// The name of the only kernel of a source.
pub(crate) const ENTRY: &str = "isograd_kernel";

/// A kernel that can be started.
pub(crate) struct Compiled {
    /// Locked while arguments are set, because they are part of the driver's object.
    pub kernel: Arc<Mutex<Kernel>>,
    /// The work items that a group can have: registers and local memory may allow fewer than the device does.
    pub most_items: usize,
    /// The operator, for errors.
    pub op: Arc<str>,
}

/// A kernel, and the work items that a group of it can have.
type Built = (Arc<Mutex<Kernel>>, usize);

/// What a kernel computes: a template's name, the program that it runs or 0, and the choices that its source depends on.
pub(crate) type Name = (&'static str, u64, u64);

/// Kernels found by name are forgotten beyond so many; those found by source stay.
const NAMES: usize = 1 << 14;

/// All kernels of a context.
pub(crate) struct Programs {
    named: RwLock<HashMap<Name, Arc<Compiled>>>,
    built: Mutex<HashMap<Key, Built>>,
    cache: Cache,
    options: String,
    /// What besides source and options a binary depends on.
    device: String,
    /// What takes the place of the driver's declarations, if something does, and whether it still has sufficed.
    declarations: Option<String>,
    pub sufficed: AtomicBool,
}

impl Programs {
    pub fn new(facts: &Description, cache: Cache) -> Programs {
        let options = Dialect::OpenCl.build_options();
        let options = options.iter().filter(|o| facts.exact_division || !o.contains("correctly-rounded"));
        let options = options.copied().collect::<Vec<_>>().join(" ");
        let device = [&facts.platform, &facts.vendor, &facts.name, &facts.driver].map(String::as_str).join("\n");
        let declarations = builtins::is_pocl(facts).then(|| builtins::declarations(facts));
        let (named, built, sufficed) = (RwLock::default(), Mutex::default(), AtomicBool::new(true));
        Programs { named, built, cache, options, device, declarations, sufficed }
    }

    /// The key of what `source` is compiled to.
    pub fn key(&self, source: &str) -> Key {
        Key::new(&[source, &self.options, &self.device])
    }
}

impl Shared {
    /// The kernel called `name`, for operator `op`; compiled from `source()` when it is not known yet.
    pub fn kernel(&self, name: Name, op: &str, source: impl FnOnce() -> String) -> Result<Arc<Compiled>> {
        let programs = &self.programs;
        if let Some(found) = programs.named.read().unwrap_or_else(|e| e.into_inner()).get(&name) {
            return Ok(found.clone());
        }
        let (kernel, most_items) = self.compile(op, &source())?;
        let compiled = Arc::new(Compiled { kernel, most_items, op: op.into() });
        let mut named = programs.named.write().unwrap_or_else(|e| e.into_inner());
        if named.len() >= NAMES {
            named.clear();
        }
        named.insert(name, compiled.clone());
        Ok(compiled)
    }

    /// The kernel of `source`, from memory, from disk, or built; and the work items that a group of it can have.
    pub fn compile(&self, op: &str, source: &str) -> Result<Built> {
        self.alive(op)?;
        let programs = &self.programs;
        let key = programs.key(source);
        // Held while building, so that threads that need one kernel build it once.
        let mut built = programs.built.lock().unwrap_or_else(|e| e.into_inner());
        if let Some(found) = built.get(&key) {
            return Ok(found.clone());
        }
        let _alone = platform::alone();
        let cached = programs.cache.load(&key).and_then(|binary| self.load_binary(&binary).ok());
        let kernel = match cached {
            Some(kernel) => kernel,
            None => {
                let program = self.build(op, source)?;
                let kernel = Kernel::create(&program, ENTRY).map_err(|e| self.failed(op, e))?;
                if programs.cache.is_some()
                    && let Some(binary) = program.get_binaries().ok().and_then(|b| b.into_iter().next())
                {
                    programs.cache.store(&key, &binary);
                }
                kernel
            }
        };
        let most = kernel.get_work_group_size(self.facts.device.id()).map_err(|e| self.failed(op, e))?;
        #[cfg(test)]
        let most = most.min(self.faults.most_items());
        let made = (Arc::new(Mutex::new(kernel)), most.max(1));
        built.insert(key, made.clone());
        Ok(made)
    }

    fn load_binary(&self, binary: &[u8]) -> Result<Kernel, ClError> {
        // SAFETY: the bytes are what the same version of this driver gave for this device and this source: the cache gives only
        // what this user stored under the key.
        let mut program = unsafe { Program::create_from_binary(&self.context, &[self.facts.device.id()], &[binary])? };
        program.build(&[self.facts.device.id()], &self.programs.options)?;
        Kernel::create(&program, ENTRY)
    }

    fn build(&self, op: &str, source: &str) -> Result<Program> {
        let programs = &self.programs;
        if let Some(declarations) = &programs.declarations
            && programs.sufficed.load(Ordering::Relaxed)
        {
            let options = format!("{} {}", programs.options, builtins::OPTION);
            if let Ok(program) = self.build_with(op, &format!("{declarations}{source}"), &options) {
                return Ok(program);
            }
        }
        let program = self.build_with(op, source, &programs.options)?;
        programs.sufficed.store(false, Ordering::Relaxed);
        Ok(program)
    }

    fn build_with(&self, op: &str, source: &str, options: &str) -> Result<Program> {
        let device = self.facts.device.id();
        let mut program = Program::create_from_source(&self.context, source).map_err(|e| self.failed(op, e))?;
        match program.build(&[device], options) {
            Ok(()) => Ok(program),
            Err(e) => {
                let log = program.get_build_log(device).unwrap_or_default();
                let log: String = log.lines().take(20).collect::<Vec<_>>().join("\n");
                Err(Error::backend(&self.name, op, format!("the kernel does not compile ({e}): {log}\n{source}")))
            }
        }
    }
}
