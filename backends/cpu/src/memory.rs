//! Host memory for tensors: aligned, and pooled, because a fresh 40 MB result costs more in page faults than the
//! arithmetic that fills it.
//!
//! Up to 64 bytes lie in the buffer itself. Up to [`SMALL`] bytes come straight from the allocator, which is faster than any lock. Larger blocks have one of a few
//! sizes per power of two (so that at most an eighth is wasted), and go back to a free list of their size. The list keeps
//! at most a given number of bytes, and forgets the sizes that were not used for the longest time first.

use isograd_core::{Error, Result};
use std::{
    alloc::{Layout, alloc, alloc_zeroed, dealloc},
    collections::BTreeMap,
    fmt,
    ptr::NonNull,
    sync::{
        Mutex, MutexGuard,
        atomic::{AtomicUsize, Ordering},
    },
};

/// Blocks up to this many bytes are not pooled.
pub const SMALL: usize = 4096;

/// Buffers up to this many bytes need no block.
const INLINE: usize = 64;

/// Alignment of pooled blocks: a cache line, and the widest vector register.
pub const ALIGN: usize = 64;

/// What small blocks are aligned to; the allocator gives this without a detour.
const SMALL_ALIGN: usize = 16;

/// What the pool of the process keeps at most, unless told otherwise.
const DEFAULT_LIMIT: usize = 1 << 30;

/// The pool of the process. Memory of the host is one resource, whatever context asks for it.
pub(crate) static POOL: Pool = Pool::new(DEFAULT_LIMIT);

/// A block from the system: `raw` as the allocator gave it, and how many bytes into it the aligned part begins.
struct Block {
    raw: NonNull<u8>,
    shift: usize,
}

// SAFETY: a block owns its memory, and nothing else points to it.
unsafe impl Send for Block {}

/// Free blocks of one size.
#[derive(Default)]
struct Class {
    blocks: Vec<Block>,
    /// The pool's clock when a block of this class was last given or taken.
    used: u64,
}

#[derive(Default)]
struct Free {
    classes: BTreeMap<usize, Class>,
    bytes: usize,
    clock: u64,
}

/// A pool of memory blocks.
pub struct Pool {
    free: Mutex<Free>,
    limit: AtomicUsize,
}

/// The size of the block for `bytes`: rounded up to an eighth of its power of two, `None` if no address space has it.
fn class_of(bytes: usize) -> Option<usize> {
    let step = (bytes.checked_next_power_of_two()? / 16).max(ALIGN);
    let size = bytes.checked_next_multiple_of(step)?;
    (size <= isize::MAX as usize - 2 * ALIGN).then_some(size)
}

fn system_layout(class: usize) -> Layout {
    Layout::from_size_align(class + ALIGN, SMALL_ALIGN).expect("class_of bounds the size")
}

fn small_layout(bytes: usize) -> Layout {
    Layout::from_size_align(bytes, SMALL_ALIGN).expect("small")
}

/// A zeroed block from the system. Fresh pages are zero already, so this touches none of them.
fn from_system(class: usize) -> Option<Block> {
    // SAFETY: the layout's size is at least ALIGN, hence not 0.
    let raw = NonNull::new(unsafe { alloc_zeroed(system_layout(class)) })?;
    let shift = raw.as_ptr().align_offset(ALIGN);
    Some(Block { raw, shift })
}

fn to_system(class: usize, block: Block) {
    // SAFETY: `raw` came from `from_system` with the same class, and the block is gone after this.
    unsafe { dealloc(block.raw.as_ptr(), system_layout(class)) }
}

impl Pool {
    /// An empty pool that keeps at most `limit` bytes of free blocks.
    pub const fn new(limit: usize) -> Pool {
        Pool { free: Mutex::new(Free { classes: BTreeMap::new(), bytes: 0, clock: 0 }), limit: AtomicUsize::new(limit) }
    }

    fn free(&self) -> MutexGuard<'_, Free> {
        self.free.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// Bytes that wait to be used again.
    pub fn kept(&self) -> usize {
        self.free().bytes
    }

    /// Changes how many bytes are kept at most, giving back what is beyond.
    pub fn set_limit(&self, bytes: usize) {
        self.limit.store(bytes, Ordering::Relaxed);
        let mut free = self.free();
        free.shrink(bytes);
    }

    /// Gives everything back to the system.
    pub fn trim(&self) {
        self.free().shrink(0);
    }

    /// A buffer of `bytes` bytes, content unspecified.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`], after giving back what was kept and trying again.
    pub fn alloc(&'static self, bytes: usize) -> Result<Buffer> {
        if bytes <= INLINE {
            return Ok(Buffer { len: bytes, store: Store::Inline([0; INLINE / 8]) });
        }
        if bytes <= SMALL {
            // SAFETY: the size is not 0.
            let Some(start) = NonNull::new(unsafe { alloc(small_layout(bytes)) }) else {
                return Err(out_of_memory(bytes));
            };
            // They are given a value since slices must not be uninitialized: one and not zero, because alloc and zeroing
            // become calloc, which glibc serves without its cache per thread, at twice the price.
            // SAFETY: the block has that many bytes.
            unsafe { start.write_bytes(1, bytes) };
            return Ok(Buffer { len: bytes, store: Store::Block { start, shift: 0, class: 0, pool: self } });
        }
        let class = class_of(bytes).ok_or_else(|| out_of_memory(bytes))?;
        let kept = self.free().take(class);
        let block = match kept.or_else(|| from_system(class)) {
            Some(block) => block,
            None => {
                self.trim();
                from_system(class).ok_or_else(|| out_of_memory(bytes))?
            }
        };
        // SAFETY: the system's block is ALIGN bytes longer than the class, so the aligned start lies within it.
        let start = unsafe { block.raw.add(block.shift) };
        Ok(Buffer { len: bytes, store: Store::Block { start, shift: block.shift as u8, class, pool: self } })
    }

    fn give(&self, class: usize, block: Block) {
        let limit = self.limit.load(Ordering::Relaxed);
        if class > limit {
            return to_system(class, block);
        }
        let mut free = self.free();
        free.shrink(limit - class);
        free.put(class, block);
    }
}

impl Free {
    fn take(&mut self, class: usize) -> Option<Block> {
        self.clock += 1;
        let list = self.classes.get_mut(&class)?;
        list.used = self.clock;
        let block = list.blocks.pop()?;
        self.bytes -= class;
        Some(block)
    }

    fn put(&mut self, class: usize, block: Block) {
        self.clock += 1;
        let list = self.classes.entry(class).or_default();
        list.used = self.clock;
        list.blocks.push(block);
        self.bytes += class;
    }

    /// Gives blocks back until at most `bytes` are left.
    fn shrink(&mut self, bytes: usize) {
        while self.bytes > bytes {
            let oldest = self.classes.iter().min_by_key(|(_, c)| c.used).map(|(&size, _)| size);
            let Some(size) = oldest else { return };
            match self.classes.get_mut(&size).and_then(|c| c.blocks.pop()) {
                Some(block) => {
                    self.bytes -= size;
                    to_system(size, block);
                }
                None => {
                    self.classes.remove(&size);
                }
            }
        }
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").field("kept", &self.kept()).finish_non_exhaustive()
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.trim();
    }
}

fn out_of_memory(bytes: usize) -> Error {
    Error::OutOfMemory {
        device: "cpu".into(),
        bytes,
        hint: "drop tensors that are not needed any more, or use smaller batches".into(),
    }
}

/// Host memory: bytes with a length. Buffers of more than 4096 bytes are aligned to 64, others to 16 or, when they hold
/// only a few numbers, to 8.
pub struct Buffer {
    len: usize,
    store: Store,
}

/// Where the bytes of a buffer are.
enum Store {
    /// In the buffer itself: a scalar or a short vector costs no allocation.
    Inline([u64; INLINE / 8]),
    /// In a block.
    Block {
        start: NonNull<u8>,
        /// The size of the pooled block, 0 for a small one.
        class: usize,
        /// Bytes between the block's start and `start`.
        shift: u8,
        pool: &'static Pool,
    },
}

// SAFETY: a buffer owns its memory; shared access only reads, writing needs `&mut`.
unsafe impl Send for Buffer {}
// SAFETY: as above.
unsafe impl Sync for Buffer {}

impl Buffer {
    /// The bytes.
    #[inline]
    pub fn bytes(&self) -> &[u8] {
        match &self.store {
            Store::Inline(words) => &bytemuck::cast_slice(words)[..self.len],
            // SAFETY: `start` is the start of at least `len` initialized bytes that this buffer owns.
            Store::Block { start, .. } => unsafe { std::slice::from_raw_parts(start.as_ptr(), self.len) },
        }
    }

    /// The bytes, to be written.
    #[inline]
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        match &mut self.store {
            Store::Inline(words) => &mut bytemuck::cast_slice_mut(words)[..self.len],
            // SAFETY: as in `bytes`, and `self` is borrowed exclusively.
            Store::Block { start, .. } => unsafe { std::slice::from_raw_parts_mut(start.as_ptr(), self.len) },
        }
    }
}

impl Drop for Buffer {
    #[inline]
    fn drop(&mut self) {
        let Store::Block { start, class, shift, pool } = self.store else { return };
        if class == 0 {
            // SAFETY: a small buffer came from `alloc` with this layout.
            return unsafe { dealloc(start.as_ptr(), small_layout(self.len)) };
        }
        // SAFETY: `start` was made by adding `shift` to the block's start.
        let raw = unsafe { start.sub(shift as usize) };
        pool.give(class, Block { raw, shift: shift as usize });
    }
}

impl fmt::Debug for Buffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Buffer({} bytes)", self.len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool(limit: usize) -> &'static Pool {
        Box::leak(Box::new(Pool::new(limit)))
    }

    #[test]
    fn blocks_are_aligned_and_used_again() {
        let pool = pool(1 << 20);
        let mut a = pool.alloc(100_000).unwrap();
        assert_eq!(a.bytes().as_ptr().align_offset(ALIGN), 0);
        a.bytes_mut().fill(7);
        let at = a.bytes().as_ptr();
        drop(a);
        assert!((100_000..=112_500).contains(&pool.kept()));
        let b = pool.alloc(99_999).unwrap();
        assert_eq!((b.bytes().as_ptr(), b.bytes().len(), pool.kept()), (at, 99_999, 0));
        let c = pool.alloc(100_000).unwrap();
        assert_ne!(c.bytes().as_ptr(), at);
    }

    #[test]
    fn the_limit_holds_and_forgets_the_oldest_size() {
        let pool = pool(1 << 20);
        let (old, new) = (pool.alloc(600_000).unwrap(), pool.alloc(800_000).unwrap());
        drop(old);
        drop(new);
        assert!((800_000..=900_000).contains(&pool.kept()));
        drop(pool.alloc(2 << 20).unwrap());
        assert!(pool.kept() <= 1 << 20);
        pool.trim();
        assert_eq!(pool.kept(), 0);
        pool.set_limit(0);
        drop(pool.alloc(100_000).unwrap());
        assert_eq!(pool.kept(), 0);
    }

    #[test]
    fn small_and_empty_buffers_are_not_pooled() {
        let pool = pool(1 << 20);
        for n in [0, 1, 8, INLINE, INLINE + 1, SMALL] {
            let b = pool.alloc(n).unwrap();
            assert_eq!(b.bytes().len(), n);
            assert_eq!(b.bytes().as_ptr().align_offset(if n <= INLINE { 8 } else { SMALL_ALIGN }), 0);
        }
        assert_eq!(pool.kept(), 0);
    }

    #[test]
    fn absurd_sizes_are_an_error_and_the_pool_lives_on() {
        let pool = pool(1 << 20);
        drop(pool.alloc(100_000).unwrap());
        for n in [1 << 60, isize::MAX as usize, usize::MAX, usize::MAX / 2 + 2] {
            assert!(matches!(pool.alloc(n), Err(Error::OutOfMemory { bytes, .. }) if bytes == n));
        }
        assert_eq!(pool.alloc(100_000).unwrap().bytes().len(), 100_000);
    }

    #[test]
    fn ten_thousand_rounds_keep_no_more_than_one() {
        let pool = pool(1 << 30);
        for i in 0..10_000 {
            let a = pool.alloc(50_000 + i % 3).unwrap();
            let b = pool.alloc(200_000).unwrap();
            drop((a, b));
        }
        assert!(pool.kept() <= 270_000, "{}", pool.kept());
    }

    #[test]
    fn a_block_wastes_at_most_an_eighth() {
        for bytes in (SMALL + 1..1 << 16).step_by(97).chain([123_456_789, 1 << 33]) {
            let class = class_of(bytes).unwrap();
            assert!(class >= bytes && class - bytes <= bytes / 8 + ALIGN, "{bytes}: {class}");
        }
    }
}
