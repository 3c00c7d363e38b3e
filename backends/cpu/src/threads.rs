//! Work over threads. Callers cut work into pieces, in a way that no result depends on; here pieces are handed out.
//!
//! A kernel holds locks on the memory of tensors, and its thread has a mode of recording. So its thread must never run
//! anything but the kernel's pieces while it waits, which threads of a library that steals tasks would. Threads here take
//! pieces of kernels alone, and the thread that calls takes pieces of its own call alone, then sleeps until those that
//! others took are done. It needs no other thread to come to an end, hence calls from any number of threads, also from
//! pieces, cannot wait for one another in a circle.

use isograd_core::{Error, Result};
use std::{
    any::Any,
    num::NonZero,
    panic::{self, AssertUnwindSafe},
    process,
    sync::{
        Arc, Condvar, LazyLock, Mutex, MutexGuard,
        atomic::{AtomicUsize, Ordering},
    },
    thread::{self, JoinHandle},
};

/// A pointer to the first of some elements, of which every piece of work writes its own.
pub(crate) struct Shared<T>(*mut T);

impl<T> Clone for Shared<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Shared<T> {}

// SAFETY: pieces of work write disjoint elements, and the memory is borrowed exclusively until all are done.
unsafe impl<T: Send> Send for Shared<T> {}
// SAFETY: as above.
unsafe impl<T: Send> Sync for Shared<T> {}

impl<T> Shared<T> {
    /// Of the elements of `all`.
    pub fn new(all: &mut [T]) -> Shared<T> {
        Shared(all.as_mut_ptr())
    }

    /// Where an element is.
    pub fn at(self, element: usize) -> *mut T {
        self.0.wrapping_add(element)
    }
}

/// The most threads of one context.
const MOST: usize = 4096;

/// Threads that help with kernels.
pub(crate) struct Threads {
    queue: Arc<Queue>,
    helpers: Vec<JoinHandle<()>>,
    /// The process whose threads they are: one made by `fork` has none of them.
    process: u32,
}

// A panic leaves no job behind.
impl panic::RefUnwindSafe for Threads {}

/// The threads of the process, started by the first kernel with several pieces: `ISOGRAD_THREADS` of them with the one that
/// calls, or one per core.
static OF_PROCESS: LazyLock<Threads> = LazyLock::new(|| {
    let mut threads = Threads::none();
    // With fewer threads than wanted work takes longer, and is done.
    let _ = threads.start(count(wanted(std::env::var("ISOGRAD_THREADS").ok())).min(MOST) - 1);
    threads
});

/// The threads that the environment wants; 0 where it says nothing, or no number.
fn wanted(variable: Option<String>) -> usize {
    variable.and_then(|n| n.trim().parse().ok()).unwrap_or(0)
}

/// `threads`, or one per core for 0.
fn count(threads: usize) -> usize {
    if threads == 0 { thread::available_parallelism().map_or(1, NonZero::get) } else { threads }
}

impl Threads {
    /// `threads` threads with the one that calls, or one per core for 0.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for more than any machine has, [`Error::Backend`] when the system gives no threads.
    pub fn new(threads: usize) -> Result<Threads> {
        let threads = count(threads);
        if threads > MOST {
            let why = format!("{threads} threads are asked for; at most {MOST} can be had (0: one per core)");
            return Err(Error::invalid("Cpu::with_threads", why));
        }
        let mut started = Threads::none();
        started.start(threads - 1).map_err(|e| Error::backend("cpu", "starting threads", e))?;
        Ok(started)
    }

    fn none() -> Threads {
        Threads { queue: Arc::default(), helpers: Vec::new(), process: process::id() }
    }

    fn start(&mut self, helpers: usize) -> std::io::Result<()> {
        for _ in 0..helpers {
            let queue = self.queue.clone();
            let helper = thread::Builder::new().name("isograd-cpu".into()).spawn(move || queue.help())?;
            self.helpers.push(helper);
        }
        Ok(())
    }

    /// How many threads work, with the one that calls.
    pub fn count(&self) -> usize {
        self.helpers.len() + 1
    }

    /// Calls `run` with every number below `count`, on this thread and helpers.
    fn share(&self, count: usize, run: &(dyn Fn(usize) + Sync)) {
        if self.helpers.is_empty() || self.process != process::id() {
            return (0..count).for_each(run);
        }
        let job = Job { run, count, next: AtomicUsize::new(0), panic: Mutex::new(None) };
        let entry = (&raw const job).cast::<Job<'static>>();
        self.queue.state().jobs.push(Entry { job: entry, helpers: 0 });
        for _ in 0..self.helpers.len().min(count - 1) {
            self.queue.work.notify_one();
        }
        job.work();
        // No helper takes up a job of which nothing is left, so none has it once those at work are done.
        let mut state = self.queue.state();
        while state.entry(entry).helpers > 0 {
            state = self.queue.done.wait(state).unwrap_or_else(|e| e.into_inner());
        }
        state.jobs.retain(|e| e.job != entry);
        drop(state);
        if let Some(panic) = job.panic.into_inner().unwrap_or_else(|e| e.into_inner()) {
            panic::resume_unwind(panic);
        }
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        let helpers = std::mem::take(&mut self.helpers);
        if self.process != process::id() {
            // There is nobody to wait for, and the queue may have been locked when the process was copied.
            return std::mem::forget(helpers);
        }
        self.queue.state().closed = true;
        self.queue.work.notify_all();
        for helper in helpers {
            let _ = helper.join();
        }
    }
}

/// Pieces that are handed out by number.
struct Job<'a> {
    run: &'a (dyn Fn(usize) + Sync),
    count: usize,
    /// The first piece that nobody took.
    next: AtomicUsize,
    /// What the last piece that panicked gave.
    panic: Mutex<Option<Box<dyn Any + Send>>>,
}

impl Job<'_> {
    /// Whether a piece is left.
    fn is_open(&self) -> bool {
        self.next.load(Ordering::Relaxed) < self.count
    }

    /// Runs pieces as long as some are left.
    fn work(&self) {
        loop {
            let piece = self.next.fetch_add(1, Ordering::Relaxed);
            if piece >= self.count {
                return;
            }
            if let Err(panic) = panic::catch_unwind(AssertUnwindSafe(|| (self.run)(piece))) {
                *self.panic.lock().unwrap_or_else(|e| e.into_inner()) = Some(panic);
                self.next.store(self.count, Ordering::Relaxed);
            }
        }
    }
}

/// A job, and how many helpers are at it. It stays in the queue until its caller takes it out.
struct Entry {
    job: *const Job<'static>,
    helpers: usize,
}

// SAFETY: a job may be used by any thread, since `run` is Sync and its other fields are.
unsafe impl Send for Entry {}

#[derive(Default)]
struct State {
    jobs: Vec<Entry>,
    /// Whether helpers are to go.
    closed: bool,
}

impl State {
    fn entry(&mut self, job: *const Job<'static>) -> &mut Entry {
        self.jobs.iter_mut().find(|e| e.job == job).expect("only a job's caller takes it out")
    }
}

/// The jobs under way.
#[derive(Default)]
struct Queue {
    state: Mutex<State>,
    /// There may be work.
    work: Condvar,
    /// A job may be done.
    done: Condvar,
}

impl Queue {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// What a helper does in its life.
    fn help(&self) {
        let mut state = self.state();
        while !state.closed {
            // SAFETY: a job in the queue is alive: its caller takes it out, under the lock that is held here, before it ends.
            let Some(entry) = state.jobs.iter_mut().find(|e| unsafe { &*e.job }.is_open()) else {
                state = self.work.wait(state).unwrap_or_else(|e| e.into_inner());
                continue;
            };
            entry.helpers += 1;
            let job = entry.job;
            drop(state);
            // SAFETY: the caller waits until no helper is at the job.
            unsafe { &*job }.work();
            state = self.state();
            let entry = state.entry(job);
            entry.helpers -= 1;
            if entry.helpers == 0 {
                self.done.notify_all();
            }
        }
    }
}

/// How many threads [`each`] runs on.
pub(crate) fn available(threads: Option<&Threads>) -> usize {
    threads.unwrap_or(&OF_PROCESS).count()
}

/// Calls `f` with every item, on several threads if there are several items: those of `threads`, or of the process.
pub(crate) fn each<T: Send>(threads: Option<&Threads>, items: &mut [T], f: &(impl Fn(&mut T) + Sync)) {
    match items {
        [] => {}
        [one] => f(one),
        items => {
            let (count, items) = (items.len(), Shared::new(items));
            // SAFETY: a number below the count is an item's, and is handed out once, so nobody else has the item.
            threads.unwrap_or(&OF_PROCESS).share(count, &|i| f(unsafe { &mut *items.at(i) }));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_item_is_visited_once() {
        for threads in [1, 2, 3] {
            let threads = Threads::new(threads).unwrap();
            for n in [0, 1, 2, 7, 1000] {
                let mut items = vec![0; n];
                each(Some(&threads), &mut items, &|i| *i += 1);
                assert_eq!(items, vec![1; n]);
            }
        }
    }

    #[test]
    fn calls_from_many_threads_and_from_pieces_end() {
        let threads = Threads::new(3).unwrap();
        let sum = AtomicUsize::new(0);
        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..200 {
                        each(Some(&threads), &mut [1; 5], &|_| {
                            each(Some(&threads), &mut [1; 3], &|v| {
                                sum.fetch_add(*v, Ordering::Relaxed);
                            });
                        });
                    }
                });
            }
        });
        assert_eq!(sum.into_inner(), 8 * 200 * 15);
    }

    #[test]
    fn a_panic_reaches_the_caller_and_the_threads_live_on() {
        let threads = Threads::new(2).unwrap();
        for _ in 0..20 {
            let run = || each(Some(&threads), &mut [0; 50], &|_| panic!("a piece"));
            let panic = panic::catch_unwind(AssertUnwindSafe(run)).unwrap_err();
            assert_eq!(panic.downcast_ref::<&str>(), Some(&"a piece"));
        }
        let mut items = [0; 50];
        each(Some(&threads), &mut items, &|i| *i += 1);
        assert_eq!(items, [1; 50]);
        assert_eq!(threads.queue.state().jobs.len(), 0);
    }

    #[test]
    fn absurd_numbers_of_threads_are_an_error() {
        for n in [MOST + 1, usize::MAX] {
            assert!(Threads::new(n).is_err_and(|e| e.to_string().contains("4096")), "{n}");
        }
        assert_eq!(Threads::new(3).unwrap().count(), 3);
    }

    #[test]
    fn the_environment_says_how_many_threads() {
        for (variable, expected) in [(None, 0), (Some(""), 0), (Some("many"), 0), (Some("-1"), 0), (Some(" 3 "), 3)] {
            assert_eq!(wanted(variable.map(String::from)), expected);
        }
        assert!(count(0) >= 1 && count(3) == 3);
    }
}
