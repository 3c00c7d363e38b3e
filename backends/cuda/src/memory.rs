//! Device memory, pooled: what is dropped is kept for the next request of its size, because the driver's own
//! allocation waits for the device. One queue runs everything in order, so memory may be used again before the device
//! is done with it.

use crate::driver::Driver;
use isograd_core::{Error, Result};
use std::{
    collections::{BTreeMap, HashMap, HashSet},
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

/// The memory of one device.
#[derive(Debug)]
pub(crate) struct Memory {
    driver: Arc<dyn Driver>,
    state: Mutex<State>,
    /// Whether there is an arena.
    capturing: AtomicBool,
}

#[derive(Debug)]
struct State {
    /// Addresses by size.
    free: BTreeMap<usize, Vec<u64>>,
    /// Bytes in `free`.
    kept: usize,
    /// Bytes in buffers.
    used: usize,
    limit: usize,
    /// While a graph is captured.
    arena: Option<Arc<Arena>>,
    /// By the numbers of their arenas.
    graphs: HashMap<u64, Claims>,
    captured: u64,
}

/// What a graph uses of the memory that was there before it.
#[derive(Debug, Default)]
struct Claims {
    addresses: HashSet<u64>,
    /// Size and address of what was dropped since.
    dropped: Vec<(usize, u64)>,
}

/// The memory that a graph's kernels use: nothing else may, as long as the graph or a buffer in it lives.
#[derive(Debug)]
pub(crate) struct Arena {
    memory: Arc<Memory>,
    number: u64,
    /// Size and address of all of it, and of what may be used again while the graph is captured.
    all: Mutex<Vec<(usize, u64)>>,
    free: Mutex<Vec<(usize, u64)>>,
}

impl Drop for Arena {
    fn drop(&mut self) {
        let claims = self.memory.state().graphs.remove(&self.number).unwrap_or_default();
        let all = std::mem::take(&mut *locked(&self.all));
        all.into_iter().chain(claims.dropped).for_each(|(size, address)| self.memory.keep(size, address));
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The size that is asked of the driver: one of eight between powers of two, at least 512.
fn rounded(bytes: usize) -> usize {
    let step = (bytes.next_power_of_two() / 16).max(512);
    bytes.max(1).next_multiple_of(step)
}

impl Memory {
    pub fn new(driver: Arc<dyn Driver>) -> Arc<Memory> {
        let state = State {
            free: BTreeMap::new(),
            kept: 0,
            used: 0,
            limit: usize::MAX,
            arena: None,
            graphs: HashMap::new(),
            captured: 0,
        };
        Arc::new(Memory { driver, state: Mutex::new(state), capturing: AtomicBool::new(false) })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        locked(&self.state)
    }

    /// Puts unused memory where the next request finds it, unless a graph still uses it.
    fn keep(&self, size: usize, address: u64) {
        let mut state = self.state();
        if let Some(claims) = state.graphs.values_mut().find(|c| c.addresses.contains(&address)) {
            return claims.dropped.push((size, address));
        }
        state.used -= size;
        state.kept += size;
        state.free.entry(size).or_default().push(address);
        if state.used + state.kept > state.limit {
            self.give_back(&mut state);
        }
    }

    pub fn alloc(self: &Arc<Memory>, bytes: usize) -> Result<Buffer> {
        let size = if bytes > isize::MAX as usize / 2 { usize::MAX } else { rounded(bytes) };
        let mut state = self.state();
        let arena = state.arena.clone();
        if let Some(arena) = &arena {
            let mut free = locked(&arena.free);
            if let Some(i) = free.iter().position(|(s, _)| *s == size) {
                let (_, address) = free.swap_remove(i);
                drop(free);
                return Ok(Buffer { memory: self.clone(), arena: state.arena.clone(), address, size, bytes });
            }
        }
        let mut address = state.free.get_mut(&size).and_then(Vec::pop);
        if address.is_some() {
            state.kept -= size;
        } else if state.used.saturating_add(state.kept).saturating_add(size) > state.limit {
            self.give_back(&mut state);
        }
        if address.is_none() && size <= state.limit.saturating_sub(state.used) {
            address = self.driver.alloc(size)?;
            if address.is_none() && state.kept > 0 {
                self.give_back(&mut state);
                address = self.driver.alloc(size)?;
            }
        }
        let Some(address) = address else {
            let limit = if state.limit == usize::MAX { String::new() } else { format!(", of {} allowed", state.limit) };
            let hint = format!("{} bytes are in use{limit}; use smaller batches, or drop tensors", state.used);
            return Err(Error::OutOfMemory { device: self.driver.name(), bytes, hint });
        };
        state.used += size;
        if let Some(arena) = &arena {
            locked(&arena.all).push((size, address));
        }
        Ok(Buffer { memory: self.clone(), arena, address, size, bytes })
    }

    fn give_back(&self, state: &mut State) {
        for (_, addresses) in std::mem::take(&mut state.free) {
            // SAFETY: what is free came from the driver, and is forgotten here.
            addresses.into_iter().for_each(|address| unsafe { self.driver.free(address) });
        }
        state.kept = 0;
    }

    /// Bytes in buffers, and bytes kept for the next.
    pub fn usage(&self) -> (usize, usize) {
        let state = self.state();
        (state.used, state.kept)
    }

    pub fn set_limit(&self, bytes: usize) {
        let mut state = self.state();
        state.limit = bytes;
        if state.used + state.kept > bytes {
            self.give_back(&mut state);
        }
    }

    pub fn trim(&self) {
        let mut state = self.state();
        self.give_back(&mut state);
    }

    /// From now on, new memory belongs to an arena, which remembers what else is used.
    pub fn begin_arena(self: &Arc<Memory>) {
        let mut state = self.state();
        state.captured += 1;
        let number = state.captured;
        let arena = Arena { memory: self.clone(), number, all: Mutex::default(), free: Mutex::default() };
        state.graphs.insert(number, Claims::default());
        state.arena = Some(Arc::new(arena));
        self.capturing.store(true, Ordering::Relaxed);
    }

    /// Ends [`Memory::begin_arena`].
    pub fn end_arena(&self) -> Option<Arc<Arena>> {
        self.capturing.store(false, Ordering::Relaxed);
        self.state().arena.take()
    }

    /// Remembers that the graph being captured uses this memory.
    fn claim(&self, address: u64) {
        let mut state = self.state();
        if let Some(number) = state.arena.as_ref().map(|arena| arena.number) {
            state.graphs.entry(number).or_default().addresses.insert(address);
        }
    }

    /// Whether a graph is being captured.
    pub fn in_arena(&self) -> bool {
        self.capturing.load(Ordering::Relaxed)
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        self.trim();
    }
}

/// Memory of a device. Dropping it keeps it for the next request.
pub struct Buffer {
    memory: Arc<Memory>,
    arena: Option<Arc<Arena>>,
    address: u64,
    /// Bytes that it has, and bytes that were asked for.
    size: usize,
    bytes: usize,
}

impl Buffer {
    /// Where it lies on the device.
    pub fn address(&self) -> u64 {
        if self.memory.in_arena() {
            self.memory.claim(self.address);
        }
        self.address
    }

    /// How many bytes were asked for.
    pub fn len(&self) -> usize {
        self.bytes
    }

    /// Whether that is none.
    pub fn is_empty(&self) -> bool {
        self.bytes == 0
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        match self.arena.take() {
            Some(arena) => locked(&arena.free).push((self.size, self.address)),
            None => self.memory.keep(self.size, self.address),
        }
    }
}

impl fmt::Debug for Buffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Buffer({} bytes on {})", self.bytes, self.memory.driver.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_waste_little_and_repeat() {
        for bytes in [1, 511, 512, 513, 4097, 1_000_003, 40_000_000, 3 << 30] {
            let size = rounded(bytes);
            assert!(size >= bytes && size <= bytes + (bytes / 8).max(512), "{bytes}: {size}");
            assert_eq!(rounded(size), size);
        }
    }
}
