//! Device memory that several handles share, with a count of the writes to it.

use super::exchange::bytes_of;
use crate::{Backend, DType, Result, Shape};
use smallvec::SmallVec;
use std::sync::{
    Arc, RwLock, RwLockReadGuard, RwLockWriteGuard,
    atomic::{AtomicU64, Ordering},
};

/// A buffer of context `B`, shared by a tensor and its views.
#[derive(Debug)]
pub(crate) struct Memory<B: Backend> {
    buffer: RwLock<B::Buffer>,
    version: AtomicU64,
}

impl<B: Backend> Memory<B> {
    pub fn new(buffer: B::Buffer) -> Arc<Memory<B>> {
        Arc::new(Memory { buffer: RwLock::new(buffer), version: AtomicU64::new(0) })
    }

    /// Memory for `shape` elements of `dtype`; never asks the backend for none, nor for more than its largest buffer.
    pub fn alloc(ctx: &B, shape: &Shape, dtype: DType) -> Result<B::Buffer> {
        ctx.alloc(bytes_of(ctx, shape, dtype)?.max(1))
    }

    /// How often this memory was written in place.
    pub fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    pub fn read(&self) -> RwLockReadGuard<'_, B::Buffer> {
        self.buffer.read().unwrap_or_else(|e| e.into_inner())
    }

    /// For in-place writing: counts a version.
    pub fn write(&self) -> RwLockWriteGuard<'_, B::Buffer> {
        let guard = self.buffer.write().unwrap_or_else(|e| e.into_inner());
        self.version.fetch_add(1, Ordering::AcqRel);
        guard
    }
}

type Guard<'a, B> = (*const Memory<B>, RwLockReadGuard<'a, <B as Backend>::Buffer>);

/// Read guards of several memories. Each memory is locked once, in the order of addresses, so that threads that also write
/// cannot wait for each other in a circle.
pub(crate) struct Reading<'a, B: Backend> {
    guards: SmallVec<[Guard<'a, B>; 4]>,
}

impl<'a, B: Backend> Reading<'a, B> {
    pub fn of(memories: impl IntoIterator<Item = &'a Arc<Memory<B>>>) -> Reading<'a, B> {
        let mut order: SmallVec<[&'a Arc<Memory<B>>; 4]> = SmallVec::new();
        for memory in memories {
            // Entries are few, and kept sorted and distinct.
            let key = Arc::as_ptr(memory);
            match order.iter().position(|m| Arc::as_ptr(m) >= key) {
                None => order.push(memory),
                Some(at) if Arc::as_ptr(order[at]) == key => {}
                Some(at) => order.insert(at, memory),
            }
        }
        let mut guards = SmallVec::new();
        for memory in &order {
            guards.push((Arc::as_ptr(memory), memory.read()));
        }
        Reading { guards }
    }

    pub fn buffer(&self, memory: &Arc<Memory<B>>) -> &B::Buffer {
        let key = Arc::as_ptr(memory);
        &self.guards.iter().find(|(k, _)| *k == key).expect("every operand was locked").1
    }
}
