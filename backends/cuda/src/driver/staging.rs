//! Pinned memory: what the device reads and writes by itself while host and kernels work.
//!
//! An upload is copied to pinned memory by the host, and is then the driver's business. A small one goes to its
//! destination on the queue of the kernels: one call. A large one must not wait behind kernels, nor may it be written to
//! its destination before those that use that memory are done. So it is cut into pieces, each of which goes to a landing
//! place of its own, on a queue of its own, and from there to its destination on the queue of the kernels, once it has
//! arrived.

use super::{
    failure::{Failure, checked},
    queue::{Event, Queue},
};
use cust::sys;
use std::{ffi::c_void, ptr};

/// Uploads up to this size go by the queue of the kernels.
const SMALL: usize = 64 << 10;
/// Pieces of larger ones: the host copies one while the device fetches the one before.
const PIECE: usize = 1 << 20;
/// Large uploads that may be on their way at once.
const LARGE_CHUNKS: usize = 8;
const LARGE_CHUNK: usize = 4 << 20;
/// Small ones.
const SMALL_CHUNKS: usize = 4;
const SMALL_CHUNK: usize = 256 << 10;

/// Where pieces begin.
const ALIGNED: usize = 256;

/// Host memory that the device can reach.
#[derive(Debug)]
pub(super) struct Pinned {
    memory: *mut u8,
    bytes: usize,
}

// SAFETY: it is memory like any other; the driver may free it on any thread that has a context.
unsafe impl Send for Pinned {}

impl Pinned {
    /// `bytes` bytes; the context is current.
    pub fn new(bytes: usize) -> Result<Pinned, Failure> {
        let mut memory = ptr::null_mut();
        // SAFETY: the pointer is valid for writing.
        checked(unsafe { sys::cuMemHostAlloc(&mut memory, bytes, 0) })?;
        Ok(Pinned { memory: memory.cast(), bytes })
    }

    pub fn len(&self) -> usize {
        self.bytes
    }

    pub fn address(&self) -> *mut u8 {
        self.memory
    }

    /// Copies `from` to `at`.
    ///
    /// # Safety
    /// The device neither reads nor writes there.
    unsafe fn fill(&mut self, at: usize, from: &[u8]) -> *const c_void {
        assert!(at + from.len() <= self.bytes, "what is staged is within the memory for it");
        // SAFETY: within the memory, by the line above; nobody else uses it, by this function's contract.
        unsafe {
            let place = self.memory.add(at);
            ptr::copy_nonoverlapping(from.as_ptr(), place, from.len());
            place.cast::<c_void>()
        }
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        // SAFETY: the memory is this value's, and the device is done with it: `Device` waits before it drops it.
        unsafe { sys::cuMemFreeHost(self.memory.cast()) };
    }
}

/// Chunks that are filled one after another, each of which the device must have read before it is filled again.
#[derive(Debug)]
struct Ring {
    pinned: Pinned,
    chunk_bytes: usize,
    /// For each chunk: what was queued when it was left.
    left: Vec<Event>,
    chunk: usize,
    used: usize,
}

impl Ring {
    fn new(chunks: usize, chunk_bytes: usize) -> Result<Ring, Failure> {
        let left = (0..chunks).map(|_| Event::new()).collect::<Result<_, _>>()?;
        Ok(Ring { pinned: Pinned::new(chunks * chunk_bytes)?, chunk_bytes, left, chunk: 0, used: 0 })
    }

    /// Copies `piece` to where the device does not read any more, and gives the place. What uses it is queued on `queue`
    /// before the next call.
    fn stage(&mut self, piece: &[u8], queue: &Queue) -> Result<(usize, *const c_void), Failure> {
        if self.used + piece.len() > self.chunk_bytes {
            let next = (self.chunk + 1) % self.left.len();
            self.left[self.chunk].record(queue)?;
            self.left[next].synchronize()?;
            (self.chunk, self.used) = (next, 0);
        }
        let at = self.chunk * self.chunk_bytes + self.used;
        self.used = (self.used + piece.len()).next_multiple_of(ALIGNED);
        // SAFETY: of this chunk, what lies before `used` was given away since it was entered, the rest is free: when
        // it was left, `left` was recorded behind all that used it, and that was waited for.
        Ok((at, unsafe { self.pinned.fill(at, piece) }))
    }
}

/// What large uploads take.
#[derive(Debug)]
struct Large {
    ring: Ring,
    queue: Queue,
    arrived: Event,
    /// On the device, as large as the ring's memory.
    landing: Landing,
}

#[derive(Debug)]
struct Landing(u64);

impl Landing {
    fn new(bytes: usize) -> Result<Landing, Failure> {
        let mut address = 0;
        // SAFETY: the address is valid for writing.
        checked(unsafe { sys::cuMemAlloc_v2(&mut address, bytes) })?;
        Ok(Landing(address))
    }
}

impl Drop for Landing {
    fn drop(&mut self) {
        // SAFETY: the memory is this value's, and the device is done with it: `Device` waits before it drops it.
        unsafe { sys::cuMemFree_v2(self.0) };
    }
}

impl Large {
    fn new() -> Result<Large, Failure> {
        // Where memory is short, this is what fails; the rest costs time.
        let landing = Landing::new(LARGE_CHUNKS * LARGE_CHUNK)?;
        Ok(Large { ring: Ring::new(LARGE_CHUNKS, LARGE_CHUNK)?, queue: Queue::new()?, arrived: Event::new()?, landing })
    }

    /// Copies a piece to `to` on the device, before what `kernels` does next.
    ///
    /// # Safety
    /// The bytes at `to` are the device's.
    unsafe fn upload(&mut self, piece: &[u8], to: u64, kernels: &Queue) -> Result<(), Failure> {
        let (at, from) = self.ring.stage(piece, kernels)?;
        let landing = self.landing.0 + at as u64;
        // SAFETY: the landing place is as long as the ring; `from` stays as it is until `kernels` has used it.
        checked(unsafe { sys::cuMemcpyHtoDAsync_v2(landing, from, piece.len(), self.queue.raw()) })?;
        self.arrived.record(&self.queue)?;
        kernels.wait_for(&self.arrived)?;
        // SAFETY: as above, and by this function's contract.
        checked(unsafe { sys::cuMemcpyDtoDAsync_v2(to, landing, piece.len(), kernels.raw()) })
    }
}

/// Uploads of one device.
#[derive(Debug)]
pub(super) struct Staging {
    small: Ring,
    /// Once there was a large upload.
    large: Option<Large>,
}

impl Staging {
    /// The context is current.
    pub fn new() -> Result<Staging, Failure> {
        Ok(Staging { small: Ring::new(SMALL_CHUNKS, SMALL_CHUNK)?, large: None })
    }

    /// Copies `from` to `to` on the device, before what `kernels` does next; `from` may change afterwards.
    ///
    /// # Safety
    /// The bytes at `to` are the device's, and `kernels` is the same at every call.
    pub unsafe fn upload(&mut self, from: &[u8], to: u64, kernels: &Queue) -> Result<(), Failure> {
        if from.len() > SMALL && self.large.is_none() {
            // Without memory for it, large uploads are small ones.
            self.large = Large::new().ok();
        }
        let addresses = |step: usize| (0..).map(move |i| to + (i * step) as u64);
        let Some(large) = self.large.as_mut().filter(|_| from.len() > SMALL) else {
            return from.chunks(SMALL_CHUNK).zip(addresses(SMALL_CHUNK)).try_for_each(|(piece, to)| {
                let (_, from) = self.small.stage(piece, kernels)?;
                // SAFETY: by this function's contract; `from` stays as it is until `kernels` has used it.
                checked(unsafe { sys::cuMemcpyHtoDAsync_v2(to, from, piece.len(), kernels.raw()) })
            });
        };
        let mut pieces = from.chunks(PIECE).zip(addresses(PIECE));
        // SAFETY: by this function's contract.
        let done = pieces.try_for_each(|(piece, to)| unsafe { large.upload(piece, to, kernels) });
        // A copy that `kernels` was not made to wait for must not read a chunk that is filled again.
        done.inspect_err(|_| {
            let _ = large.queue.synchronize();
        })
    }

    /// Waits for copies on their way.
    pub fn synchronize(&self) -> Result<(), Failure> {
        self.large.as_ref().map_or(Ok(()), |large| large.queue.synchronize())
    }
}
