//! NCCL, where it is present: sums over several devices.

use crate::{
    Cuda,
    driver::Driver,
    library::{self, Library, table},
    operand::address,
};
use isograd_core::{DType, Error, OperandMut, Result};
use std::{
    collections::HashMap,
    ffi::{c_int, c_void},
    ptr,
    sync::{Mutex, OnceLock, PoisonError},
};

type Communicator = *mut c_void;
type Code = c_int;

table! {
    "NCCL 2":
    start = "ncclCommInitAll"(*mut Communicator, c_int, *const c_int);
    destroy = "ncclCommDestroy"(Communicator);
    group_start = "ncclGroupStart"();
    group_end = "ncclGroupEnd"();
    all_reduce = "ncclAllReduce"(*const c_void, *mut c_void, usize, c_int, c_int, Communicator, *mut c_void);
}

/// The library, and a communicator per device for each list of devices that has summed. `None` inside where there is no
/// library.
#[derive(Debug, Default)]
pub(crate) struct Nccl(OnceLock<Option<Mutex<Open>>>);

#[derive(Debug)]
struct Open {
    functions: Functions,
    communicators: HashMap<Vec<i32>, Vec<Communicator>>,
}

// SAFETY: communicators may be used on any thread, by one at a time; they are behind a lock.
unsafe impl Send for Open {}

impl Drop for Open {
    fn drop(&mut self) {
        for communicator in self.communicators.values().flatten() {
            // SAFETY: it was made by `start`, and nobody else has it.
            unsafe { (self.functions.destroy)(*communicator) };
        }
    }
}

impl Open {
    fn new(driver: &dyn Driver) -> Option<Mutex<Open>> {
        let functions = Functions::found(library::NCCL, driver)?;
        Some(Mutex::new(Open { functions, communicators: HashMap::new() }))
    }
}

/// See [`isograd_core::Backend::all_reduce`]. NCCL adds in an order of its own, which is of no matter to two devices; more that
/// are exact are left to core.
pub(crate) fn all_reduce(devices: &[&Cuda], parts: &mut [OperandMut<'_, Cuda>]) -> Result<bool> {
    let numbers: Option<Vec<i32>> = devices.iter().map(|d| d.context.driver.ordinal()).collect();
    let Some(numbers) = numbers else { return Ok(false) };
    let distinct = (1..numbers.len()).all(|i| !numbers[..i].contains(&numbers[i]));
    let in_order = devices.len() > 2 && devices.iter().any(|d| !d.is_fast());
    if devices.len() < 2 || in_order || !distinct || devices.iter().any(|d| d.context.memory.in_arena()) {
        return Ok(false);
    }
    // ncclDataType_t.
    let kind = match parts[0].dtype {
        DType::I8 => 0,
        DType::U8 => 1,
        DType::I32 => 2,
        DType::I64 => 4,
        DType::F16 => 6,
        DType::F32 => 7,
        DType::F64 => 8,
        DType::BF16 => 9,
        DType::Bool => return Ok(false),
    };
    let driver = &*devices[0].context.driver;
    let Some(open) = devices[0].context.nccl.0.get_or_init(|| Open::new(driver)) else { return Ok(false) };
    let open = &mut *open.lock().unwrap_or_else(PoisonError::into_inner);
    let checked = |code: Code| match code {
        0 => Ok(()),
        _ => Err(Error::backend(driver.name(), "all_reduce", format!("NCCL status {code}"))),
    };
    if !open.communicators.contains_key(&numbers) {
        let mut made = vec![ptr::null_mut(); numbers.len()];
        // SAFETY: both lists have as many entries as there are devices.
        checked(unsafe { (open.functions.start)(made.as_mut_ptr(), numbers.len() as c_int, numbers.as_ptr()) })?;
        open.communicators.insert(numbers.clone(), made);
    }
    let communicators = &open.communicators[&numbers];
    let mut calls = Vec::with_capacity(parts.len());
    for ((device, part), communicator) in devices.iter().zip(parts).zip(communicators) {
        let Some(stream) = device.context.driver.stream() else { return Ok(false) };
        calls.push((address(&part.as_operand()), part.layout.size(), *communicator, stream));
    }
    // SAFETY: every array has `count` elements of that type, and is its device's; a group ends what it began, also
    // after a failure within.
    unsafe {
        checked((open.functions.group_start)())?;
        let sum = 0;
        let done = calls.into_iter().try_for_each(|(array, count, communicator, stream)| {
            let (from, to) = (array as *const c_void, array as *mut c_void);
            checked((open.functions.all_reduce)(from, to, count, kind, sum, communicator, stream))
        });
        let ended = checked((open.functions.group_end)());
        done.and(ended)?;
    }
    Ok(true)
}
