//! The decorator that does everything later: uploads, kernels and copies wait in a queue until someone asks for a result. As it
//! is, nobody can tell; with a fault, what asynchronous backends get wrong.

use isograd_core::{
    Backend, Capabilities, Error, Layout, Operand, OperandMut, ReduceOp, Result, Value,
    expr::{Kernel, Program},
};
use std::sync::{
    Arc, Mutex, MutexGuard,
    atomic::{AtomicU64, Ordering},
};

/// What is wrong with a queue.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Haste {
    /// An upload does not wait for the kernels before it.
    Upload,
    /// A download does not wait.
    Download,
    /// A copy between contexts does not wait.
    Copy,
    /// `synchronize` does not wait.
    Synchronize,
    /// `synchronize` loses the error.
    SynchronizeLosesErrors,
    /// A download loses the error.
    DownloadLosesErrors,
    /// A kernel that succeeds hides the one before it that failed.
    LastStatusOnly,
    /// An error is told at every wait.
    ErrorsStay,
    /// After an error nothing runs any more.
    ErrorsStop,
    /// Neighbouring kernels swap places.
    OutOfOrder,
    /// Memory is used again while kernels that read it wait.
    Recycles,
    /// Memory that lives is given out again.
    Shares,
}

type Task<B> = Box<dyn FnOnce(&B) -> Result<()> + Send>;
type Shared<B> = Arc<Mutex<<B as Backend>::Buffer>>;

struct Queue<B: Backend> {
    tasks: Vec<(Task<B>, Vec<u64>)>,
    error: Option<Error>,
    failed: bool,
    free: Vec<(usize, Shared<B>)>,
}

/// A backend that puts off its work.
pub struct Lazy<B: Backend> {
    inner: B,
    name: &'static str,
    haste: Option<Haste>,
    queue: Arc<Mutex<Queue<B>>>,
}

impl<B: Backend> Clone for Lazy<B> {
    fn clone(&self) -> Lazy<B> {
        Lazy { inner: self.inner.clone(), queue: self.queue.clone(), ..*self }
    }
}

impl<B: Backend> std::fmt::Debug for Lazy<B> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Lazy({:?}, {:?})", self.inner, self.haste)
    }
}

impl<B: Backend> PartialEq for Lazy<B> {
    fn eq(&self, other: &Lazy<B>) -> bool {
        self.inner == other.inner && Arc::ptr_eq(&self.queue, &other.queue)
    }
}

/// Memory that tasks share with its owner.
pub struct LazyBuffer<B: Backend> {
    memory: Shared<B>,
    bytes: usize,
    id: u64,
    queue: Arc<Mutex<Queue<B>>>,
    recycled: bool,
}

impl<B: Backend> std::fmt::Debug for LazyBuffer<B> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "LazyBuffer({} bytes)", self.bytes)
    }
}

impl<B: Backend> Drop for LazyBuffer<B> {
    fn drop(&mut self) {
        if self.recycled {
            lock(&self.queue).free.push((self.bytes, self.memory.clone()));
        }
    }
}

fn lock<T>(m: &Mutex<T>) -> MutexGuard<'_, T> {
    m.lock().unwrap_or_else(|e| e.into_inner())
}

impl<B: Backend> Lazy<B> {
    /// `inner`, later; `haste` says what is wrong, if anything.
    pub fn new(inner: B, name: &'static str, haste: Option<Haste>) -> Lazy<B> {
        let queue = Queue { tasks: vec![], error: None, failed: false, free: vec![] };
        Lazy { inner, name, haste, queue: Arc::new(Mutex::new(queue)) }
    }

    fn is(&self, haste: Haste) -> bool {
        self.haste == Some(haste)
    }

    fn later(&self, uses: Vec<u64>, task: impl FnOnce(&B) -> Result<()> + Send + 'static) -> Result<()> {
        let mut queue = lock(&self.queue);
        queue.tasks.push((Box::new(task), uses));
        // A queue has an end.
        if queue.tasks.len() >= 256 {
            self.drain(&mut queue);
        }
        Ok(())
    }

    /// Runs what waits, keeping the first error.
    fn drain(&self, queue: &mut Queue<B>) {
        let mut tasks = std::mem::take(&mut queue.tasks);
        if self.is(Haste::OutOfOrder) {
            tasks.chunks_mut(2).for_each(|pair| pair.reverse());
        }
        for (task, _) in tasks {
            if queue.failed && self.is(Haste::ErrorsStop) {
                break;
            }
            match task(&self.inner) {
                Err(e) => {
                    queue.error.get_or_insert(e);
                    queue.failed = true;
                }
                Ok(()) if self.is(Haste::LastStatusOnly) => queue.error = None,
                Ok(()) => (),
            }
        }
    }

    /// Runs what waits; gives the first error.
    fn wait(&self) -> Result<()> {
        let mut queue = lock(&self.queue);
        self.drain(&mut queue);
        match queue.error.take() {
            Some(Error::IndexOutOfRange { op, index, axis, size, device }) => {
                let error = || Error::IndexOutOfRange { op, index, axis, size, device: device.clone() };
                if self.is(Haste::ErrorsStay) {
                    queue.error = Some(error());
                }
                Err(error())
            }
            Some(e) => Err(e),
            None => Ok(()),
        }
    }
}

/// An operand that owns what it refers to.
struct Owned<B: Backend> {
    memory: Shared<B>,
    dtype: isograd_core::DType,
    layout: Layout,
}

fn owned<B: Backend>(o: &Operand<'_, Lazy<B>>) -> Owned<B> {
    Owned { memory: o.buffer.memory.clone(), dtype: o.dtype, layout: o.layout.clone() }
}

fn owned_mut<B: Backend>(o: &OperandMut<'_, Lazy<B>>) -> Owned<B> {
    Owned { memory: o.buffer.memory.clone(), dtype: o.dtype, layout: o.layout.clone() }
}

/// Locks each memory once and calls `run` with operands of the inner backend.
fn unlocked<B: Backend>(inputs: &[Owned<B>], run: impl FnOnce(&[Operand<'_, B>]) -> Result<()>) -> Result<()> {
    let mut distinct: Vec<&Shared<B>> = Vec::new();
    let mut which = Vec::new();
    for o in inputs {
        let at = distinct.iter().position(|m| Arc::ptr_eq(m, &o.memory)).unwrap_or(distinct.len());
        if at == distinct.len() {
            distinct.push(&o.memory);
        }
        which.push(at);
    }
    let guards: Vec<MutexGuard<'_, B::Buffer>> = distinct.iter().map(|m| lock(m)).collect();
    let operands: Vec<Operand<'_, B>> =
        inputs.iter().zip(&which).map(|(o, &at)| Operand::new(&*guards[at], o.dtype, &o.layout)).collect();
    run(&operands)
}

fn again(program: &Program) -> Result<Arc<Program>> {
    Program::new(program.name(), program.roots(), program.inputs(), program.scalars())
}

static NEXT: AtomicU64 = AtomicU64::new(0);

impl<B: Backend> Backend for Lazy<B> {
    type Buffer = LazyBuffer<B>;

    fn name(&self) -> String {
        self.name.into()
    }

    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    fn alloc(&self, bytes: usize) -> Result<LazyBuffer<B>> {
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        let mut queue = lock(&self.queue);
        let found = queue.free.iter().position(|(n, _)| *n == bytes);
        let memory = match found {
            Some(at) if self.is(Haste::Shares) => queue.free[at].1.clone(),
            Some(at) => queue.free.swap_remove(at).1,
            None => Arc::new(Mutex::new(self.inner.alloc(bytes)?)),
        };
        if self.is(Haste::Shares) && id.is_multiple_of(8) {
            queue.free.push((bytes, memory.clone()));
        }
        // Memory beyond this is not worth keeping.
        let recycled = self.is(Haste::Recycles) && bytes < 1 << 20;
        Ok(LazyBuffer { memory, bytes, id, queue: self.queue.clone(), recycled })
    }

    fn upload(&self, bytes: &[u8], to: &mut LazyBuffer<B>, offset: usize) -> Result<()> {
        // Nothing that waits uses this handle, though something may use its memory.
        let unused = || !lock(&self.queue).tasks.iter().any(|(_, uses)| uses.contains(&to.id));
        if self.is(Haste::Upload) || (self.is(Haste::Recycles) && unused()) {
            return self.inner.upload(bytes, &mut lock(&to.memory), offset);
        }
        let (memory, bytes) = (to.memory.clone(), bytes.to_vec());
        self.later(vec![to.id], move |inner| inner.upload(&bytes, &mut lock(&memory), offset))
    }

    fn download(&self, from: &LazyBuffer<B>, offset: usize, bytes: &mut [u8]) -> Result<()> {
        if !self.is(Haste::Download) {
            let told = self.wait();
            if !self.is(Haste::DownloadLosesErrors) {
                told?;
            }
        }
        self.inner.download(&lock(&from.memory), offset, bytes)
    }

    fn copy_from(&self, source: &Self, from: &LazyBuffer<B>, to: &mut LazyBuffer<B>, bytes: usize) -> Result<()> {
        let mut host = vec![0; bytes];
        if !self.is(Haste::Copy) {
            source.wait()?;
        }
        source.inner.download(&lock(&from.memory), 0, &mut host)?;
        self.upload(&host, to, 0)
    }

    fn synchronize(&self) -> Result<()> {
        match self.haste {
            Some(Haste::Synchronize) => Ok(()),
            Some(Haste::SynchronizeLosesErrors) => self.wait().or(Ok(())),
            _ => self.wait(),
        }
    }

    fn map(
        &self,
        kernel: &Kernel<'_>,
        inputs: &[Operand<'_, Self>],
        outputs: &mut [OperandMut<'_, Self>],
    ) -> Result<()> {
        let (program, scalars): (_, Vec<Value>) = (again(kernel.program)?, kernel.scalars.to_vec());
        let uses = inputs.iter().map(|o| o.buffer.id).chain(outputs.iter().map(|o| o.buffer.id)).collect();
        let inputs: Vec<Owned<B>> = inputs.iter().map(owned).collect();
        let outputs: Vec<Owned<B>> = outputs.iter().map(owned_mut).collect();
        self.later(uses, move |inner| {
            unlocked(&inputs, |x| {
                let mut guards: Vec<_> = outputs.iter().map(|o| lock(&o.memory)).collect();
                let mut y: Vec<OperandMut<'_, B>> = guards
                    .iter_mut()
                    .zip(&outputs)
                    .map(|(g, o)| OperandMut::new(&mut **g, o.dtype, &o.layout))
                    .collect();
                inner.map(&Kernel::new(&program, &scalars), x, &mut y)
            })
        })
    }

    fn reduce(
        &self,
        op: ReduceOp,
        kernel: &Kernel<'_>,
        inputs: &[Operand<'_, Self>],
        output: &mut OperandMut<'_, Self>,
    ) -> Result<()> {
        let (program, scalars): (_, Vec<Value>) = (again(kernel.program)?, kernel.scalars.to_vec());
        let uses = inputs.iter().map(|o| o.buffer.id).chain([output.buffer.id]).collect();
        let inputs: Vec<Owned<B>> = inputs.iter().map(owned).collect();
        let output = owned_mut(output);
        self.later(uses, move |inner| {
            unlocked(&inputs, |x| {
                let mut y = lock(&output.memory);
                let mut y = OperandMut::new(&mut *y, output.dtype, &output.layout);
                inner.reduce(op, &Kernel::new(&program, &scalars), x, &mut y)
            })
        })
    }

    fn gather(
        &self,
        axis: usize,
        source: &Operand<'_, Self>,
        index: &Operand<'_, Self>,
        output: &mut OperandMut<'_, Self>,
    ) -> Result<()> {
        let uses = vec![source.buffer.id, index.buffer.id, output.buffer.id];
        let (inputs, output) = ([owned(source), owned(index)], owned_mut(output));
        self.later(uses, move |inner| {
            unlocked(&inputs, |x| {
                let mut y = lock(&output.memory);
                inner.gather(axis, &x[0], &x[1], &mut OperandMut::new(&mut *y, output.dtype, &output.layout))
            })
        })
    }

    fn scatter_add(
        &self,
        axis: usize,
        source: &Operand<'_, Self>,
        index: &Operand<'_, Self>,
        output: &mut OperandMut<'_, Self>,
    ) -> Result<()> {
        let uses = vec![source.buffer.id, index.buffer.id, output.buffer.id];
        let (inputs, output) = ([owned(source), owned(index)], owned_mut(output));
        self.later(uses, move |inner| {
            unlocked(&inputs, |x| {
                let mut y = lock(&output.memory);
                inner.scatter_add(axis, &x[0], &x[1], &mut OperandMut::new(&mut *y, output.dtype, &output.layout))
            })
        })
    }
}
