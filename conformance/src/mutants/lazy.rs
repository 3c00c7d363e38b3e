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
            // The device inside may be asynchronous itself, and tell later.
            let done = task(&self.inner);
            let told = self.inner.synchronize();
            match done.and(told) {
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
    bytes: usize,
    dtype: isograd_core::DType,
    layout: Layout,
}

impl<B: Backend> Owned<B> {
    fn new(buffer: &LazyBuffer<B>, dtype: isograd_core::DType, layout: &Layout) -> Owned<B> {
        Owned { memory: buffer.memory.clone(), bytes: buffer.bytes, dtype, layout: layout.clone() }
    }

    fn shares(&self, other: &Owned<B>) -> bool {
        Arc::ptr_eq(&self.memory, &other.memory)
    }

    fn copy(&self, inner: &B) -> Result<B::Buffer> {
        let mut bytes = vec![0; self.bytes];
        inner.download(&lock(&self.memory), 0, &mut bytes)?;
        let mut copy = inner.alloc(self.bytes)?;
        inner.upload(&bytes, &mut copy, 0)?;
        Ok(copy)
    }
}

fn owned<B: Backend>(o: &Operand<'_, Lazy<B>>) -> Owned<B> {
    Owned::new(o.buffer, o.dtype, o.layout)
}

fn owned_mut<B: Backend>(o: &OperandMut<'_, Lazy<B>>) -> Owned<B> {
    Owned::new(o.buffer, o.dtype, o.layout)
}

/// Memory that is locked, or a copy of it.
enum Held<'a, T> {
    Locked(MutexGuard<'a, T>),
    Copied(T),
}

impl<T> Held<'_, T> {
    fn get(&self) -> &T {
        match self {
            Held::Locked(guard) => guard,
            Held::Copied(copy) => copy,
        }
    }

    fn get_mut(&mut self) -> &mut T {
        match self {
            Held::Locked(guard) => guard,
            Held::Copied(copy) => copy,
        }
    }
}

/// Locks each memory once and calls `run` with operands of the inner backend. Where a fault has given memory out twice, an
/// output that shares it is locked, and what else shares it is a copy.
fn unlocked<B: Backend>(
    inner: &B,
    inputs: &[Owned<B>],
    outputs: &[Owned<B>],
    run: impl FnOnce(&[Operand<'_, B>], &mut [OperandMut<'_, B>]) -> Result<()>,
) -> Result<()> {
    let mut read: Vec<Held<'_, B::Buffer>> = Vec::new();
    let mut which = Vec::new();
    for (i, o) in inputs.iter().enumerate() {
        match inputs[..i].iter().position(|before| before.shares(o)) {
            Some(before) => which.push(which[before]),
            None => {
                which.push(read.len());
                let written = outputs.iter().any(|y| y.shares(o));
                read.push(if written { Held::Copied(o.copy(inner)?) } else { Held::Locked(lock(&o.memory)) });
            }
        }
    }
    let mut write: Vec<Held<'_, B::Buffer>> = Vec::new();
    for (i, o) in outputs.iter().enumerate() {
        // The first to share has the lock, so the copy is of fresh memory.
        let shared = outputs[..i].iter().any(|before| before.shares(o));
        write.push(if shared { Held::Copied(inner.alloc(o.bytes)?) } else { Held::Locked(lock(&o.memory)) });
    }
    let x: Vec<Operand<'_, B>> =
        inputs.iter().zip(&which).map(|(o, &at)| Operand::new(read[at].get(), o.dtype, &o.layout)).collect();
    let mut y: Vec<OperandMut<'_, B>> = write
        .iter_mut()
        .zip(outputs)
        .map(|(memory, o)| OperandMut::new(memory.get_mut(), o.dtype, &o.layout))
        .collect();
    run(&x, &mut y)
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
            unlocked(inner, &inputs, &outputs, |x, y| inner.map(&Kernel::new(&program, &scalars), x, y))
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
            unlocked(inner, &inputs, &[output], |x, y| inner.reduce(op, &Kernel::new(&program, &scalars), x, &mut y[0]))
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
            unlocked(inner, &inputs, &[output], |x, y| inner.gather(axis, &x[0], &x[1], &mut y[0]))
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
            unlocked(inner, &inputs, &[output], |x, y| inner.scatter_add(axis, &x[0], &x[1], &mut y[0]))
        })
    }
}
