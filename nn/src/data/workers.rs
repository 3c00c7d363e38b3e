//! How the batches of an epoch are made: by whom it is asked for, or ahead of time by worker threads.
//!
//! Of `n` workers number `w` makes the batches w, w + n, w + 2n, ..., each into a channel of its own that holds a few of them.
//! The consumer takes from the channels in turn, so batches come in order without being sorted, and a worker that is ahead
//! waits. The end of a channel, or the flag, tells a worker that nobody wants more.

use super::{Batchify, Dataset, Generator, random};
use isograd_core::{Error, Result};
use std::{
    any::Any,
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread::{Builder, JoinHandle},
};

const OP: &str = "DataLoader";

/// All that determines the batches of an epoch.
pub(super) struct Epoch<D, F> {
    dataset: Arc<D>,
    batchify: Arc<F>,
    seed: u64,
    number: u64,
    batches: Vec<Vec<usize>>,
    /// The place in the epoch of the first sample of each batch.
    places: Vec<u64>,
}

impl<D, F> Epoch<D, F> {
    pub fn new(dataset: Arc<D>, batchify: Arc<F>, seed: u64, number: u64, batches: Vec<Vec<usize>>) -> Self {
        let first = |place: &mut u64, batch: &Vec<usize>| {
            let first = *place;
            *place += batch.len() as u64;
            Some(first)
        };
        let places = batches.iter().scan(0, first).collect();
        Epoch { dataset, batchify, seed, number, batches, places }
    }

    pub fn len(&self) -> usize {
        self.batches.len()
    }

    fn generator(&self, place: u64, index: usize) -> Generator {
        random::sample(self.seed, self.number, place, index as u64)
    }
}

impl<D: Dataset, F: Batchify<D::Item>> Epoch<D, F> {
    /// Batch number `k`.
    pub fn batch(&self, k: usize) -> Result<F::Batch> {
        self.watched(k, |_| true).unwrap_or_else(|| Err(Error::invalid(OP, "the batch was given up")))
    }

    /// Batch number `k`; before each sample `go_on` is told its number. `None` when it refuses.
    fn watched(&self, k: usize, mut go_on: impl FnMut(Option<usize>) -> bool) -> Option<Result<F::Batch>> {
        let indices = &self.batches[k];
        let mut samples = Vec::with_capacity(indices.len());
        for (place, &index) in (self.places[k]..).zip(indices) {
            if !go_on(Some(index)) {
                return None;
            }
            match self.dataset.get_with(index, &mut self.generator(place, index)) {
                Ok(sample) => samples.push(sample),
                Err(source) => return Some(Err(Error::Sample { index, source: Box::new(source) })),
            }
        }
        go_on(None).then(|| self.batchify.batch(samples))
    }

    /// What a worker does that begins with batch `first` and makes every one of `step`.
    fn work(&self, first: usize, step: usize, sender: &SyncSender<Result<F::Batch>>, stop: &AtomicBool) {
        for k in (first..self.len()).step_by(step) {
            let mut at = None;
            let go_on = |index| {
                at = index;
                !stop.load(Ordering::Relaxed)
            };
            let made = catch_unwind(AssertUnwindSafe(|| self.watched(k, go_on)));
            let batch = made.unwrap_or_else(|panic| Some(Err(panicked(at, &*panic))));
            let Some(batch) = batch else { return };
            if sender.send(batch).is_err() {
                return;
            }
        }
    }
}

fn panicked(sample: Option<usize>, panic: &(dyn Any + Send)) -> Error {
    let text = panic.downcast_ref::<&str>().map(|s| s.to_string());
    let message = text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or("no message".into());
    let error = Error::Panicked { op: OP, message };
    match sample {
        Some(index) => Error::Sample { index, source: Box::new(error) },
        None => error,
    }
}

/// The threads that make the batches of one epoch.
pub(super) struct Workers<T> {
    /// The number of the first batch.
    from: usize,
    receivers: Vec<Receiver<Result<T>>>,
    threads: Vec<JoinHandle<()>>,
    stop: Arc<AtomicBool>,
}

impl<T: Send + 'static> Workers<T> {
    /// `count` threads that make the batches from number `from` on and are about `prefetch` batches ahead together.
    pub fn start<D, F>(epoch: &Arc<Epoch<D, F>>, from: usize, count: usize, prefetch: usize) -> io::Result<Self>
    where
        D: Dataset,
        F: Batchify<D::Item, Batch = T>,
    {
        let mut workers = Workers { from, receivers: vec![], threads: vec![], stop: Arc::default() };
        for w in 0..count {
            // One more than the channel holds is in the hands of the worker.
            let (sender, receiver) = sync_channel(prefetch.div_ceil(count).saturating_sub(1));
            let (epoch, stop) = (epoch.clone(), workers.stop.clone());
            let work = move || epoch.work(from + w, count, &sender, &stop);
            workers.receivers.push(receiver);
            workers.threads.push(Builder::new().name(format!("{OP}-{w}")).spawn(work)?);
        }
        Ok(workers)
    }

    /// Batch number `k`. They are to be asked for in order.
    pub fn receive(&self, k: usize) -> Result<T> {
        let batch = self.receivers[(k - self.from) % self.receivers.len()].recv();
        batch.unwrap_or_else(|_| Err(Error::Panicked { op: OP, message: "it ended before its time".into() }))
    }
}

impl<T> Drop for Workers<T> {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.receivers.clear();
        for thread in self.threads.drain(..) {
            // A panic has been reported in the place of its batch.
            let _ = thread.join();
        }
    }
}
