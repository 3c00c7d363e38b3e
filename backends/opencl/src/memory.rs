//! Device memory, pooled per context: making a buffer costs a driver call and, on the first touch, page faults.
//!
//! Blocks have one of eight sizes per power of two, and go back to a free list of their size when they are dropped. The list
//! keeps at most a given number of bytes, and forgets the sizes that were not used for the longest time first. A block
//! remembers the last launch that used it, so that transfers, which have a queue of their own, wait for that alone.

use crate::{context::Shared, launch::Launch};
use isograd_core::{Error, Result};
use opencl3::{
    error_codes::ClError,
    memory::{Buffer as Memory, CL_MEM_ALLOC_HOST_PTR, CL_MEM_READ_WRITE},
};
use std::{
    collections::BTreeMap,
    fmt, ptr,
    sync::{Arc, Mutex, MutexGuard},
};

/// What a pool keeps at most, unless told otherwise.
const DEFAULT_LIMIT: usize = 1 << 30;

/// The smallest block.
const SMALLEST: usize = 256;

pub(crate) struct Block {
    pub memory: Memory<u8>,
    size: usize,
    /// The last launch that read or wrote it.
    pub last: Mutex<Option<Arc<Launch>>>,
}

#[derive(Default)]
struct Class {
    blocks: Vec<Block>,
    /// The pool's clock when a block of this class was last given or taken.
    used: u64,
}

struct State {
    classes: BTreeMap<usize, Class>,
    /// Bytes in `classes`.
    kept: usize,
    /// Bytes of all blocks, kept or in use.
    total: usize,
    limit: usize,
    clock: u64,
}

/// The blocks of one context.
pub(crate) struct Pool(Mutex<State>);

impl Default for Pool {
    fn default() -> Pool {
        let classes = BTreeMap::new();
        Pool(Mutex::new(State { classes, kept: 0, total: 0, limit: DEFAULT_LIMIT, clock: 0 }))
    }
}

/// The size of the block for `bytes`: rounded up to an eighth of its power of two.
fn class_of(bytes: usize) -> Option<usize> {
    let step = (bytes.checked_next_power_of_two()? / 16).max(SMALLEST);
    bytes.checked_next_multiple_of(step)
}

impl State {
    fn take(&mut self, class: usize) -> Option<Block> {
        self.clock += 1;
        let list = self.classes.get_mut(&class)?;
        list.used = self.clock;
        let block = list.blocks.pop()?;
        self.kept -= class;
        Some(block)
    }

    /// Drops blocks until at most `bytes` are kept.
    fn shrink(&mut self, bytes: usize) {
        while self.kept > bytes {
            let oldest = self.classes.iter().min_by_key(|(_, c)| c.used).map(|(&size, _)| size);
            let Some(size) = oldest else { return };
            match self.classes.get_mut(&size).and_then(|c| c.blocks.pop()) {
                Some(_) => {
                    self.kept -= size;
                    self.total -= size;
                }
                None => {
                    self.classes.remove(&size);
                }
            }
        }
    }
}

impl Pool {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(|e| e.into_inner())
    }

    pub fn kept(&self) -> usize {
        self.state().kept
    }

    pub fn set_limit(&self, bytes: usize) {
        let mut state = self.state();
        state.limit = bytes;
        state.shrink(bytes);
    }

    pub fn trim(&self) {
        self.state().shrink(0);
    }

    fn give(&self, block: Block) {
        let mut state = self.state();
        state.clock += 1;
        let (clock, size) = (state.clock, block.size);
        let list = state.classes.entry(size).or_default();
        list.used = clock;
        list.blocks.push(block);
        state.kept += size;
        let limit = state.limit;
        state.shrink(limit);
    }
}

/// A buffer of `bytes` bytes, content unspecified.
///
/// # Errors
/// [`Error::OutOfMemory`], after giving back what was kept and trying again.
pub(crate) fn alloc(shared: &Arc<Shared>, bytes: usize) -> Result<Buffer> {
    let facts = &shared.facts;
    let out = |hint: String| Error::OutOfMemory { device: shared.name.clone(), bytes, hint };
    let class = match class_of(bytes) {
        Some(class) if bytes <= facts.max_buffer => class.min(facts.max_buffer.max(bytes)),
        _ => return Err(out(format!("its largest buffer has {} bytes; split the tensor", facts.max_buffer))),
    };
    let buffer = |block| Buffer { len: bytes, block: Some(block), shared: shared.clone() };
    if let Some(block) = shared.pool.state().take(class) {
        return Ok(buffer(block));
    }
    let hint = || "drop tensors that are not needed any more, or use smaller batches".to_string();
    if shared.pool.state().total.saturating_add(class) > facts.memory {
        shared.pool.trim();
        if shared.pool.state().total.saturating_add(class) > facts.memory {
            return Err(out(format!("the device has {} bytes; {}", facts.memory, hint())));
        }
    }
    let memory = match create(shared, class) {
        Ok(memory) => memory,
        Err(_) => {
            // Kernels in flight hold memory too.
            let _ = shared.queue.finish();
            shared.pool.trim();
            create(shared, class).map_err(|e| out(format!("{e}; {}", hint())))?
        }
    };
    shared.pool.state().total += class;
    Ok(buffer(Block { memory, size: class, last: Mutex::new(None) }))
}

fn create(shared: &Shared, size: usize) -> Result<Memory<u8>, ClError> {
    #[cfg(test)]
    shared.faults.check(crate::faults::Point::Alloc)?;
    let flags = CL_MEM_READ_WRITE | if shared.facts.unified { CL_MEM_ALLOC_HOST_PTR } else { 0 };
    // SAFETY: the flags take no host pointer, and none is given.
    unsafe { Memory::create(&shared.context, flags, size, ptr::null_mut()) }
}

/// Device memory: bytes with a length.
pub struct Buffer {
    len: usize,
    /// Taken by `drop` alone.
    block: Option<Block>,
    shared: Arc<Shared>,
}

impl Buffer {
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn block(&self) -> &Block {
        self.block.as_ref().expect("only drop takes the block")
    }

    pub(crate) fn memory_mut(&mut self) -> &mut Memory<u8> {
        &mut self.block.as_mut().expect("only drop takes the block").memory
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        if let Some(block) = self.block.take() {
            self.shared.pool.give(block);
        }
    }
}

impl fmt::Debug for Buffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Buffer({} bytes on {})", self.len, self.shared.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_wastes_at_most_an_eighth() {
        for bytes in (1..1 << 16).step_by(97).chain([123_456_789, 1 << 33]) {
            let class = class_of(bytes).unwrap();
            assert!(class >= bytes && class - bytes <= bytes / 8 + SMALLEST, "{bytes}: {class}");
        }
        assert_eq!(class_of(usize::MAX), None);
    }
}
