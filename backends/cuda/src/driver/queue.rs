//! Streams and events of the current context. Without one, the driver says so.

use super::failure::{Failure, checked};
use cust::sys::{self, CUevent, CUstream};
use std::ptr;

/// A stream that neither waits for the default one nor keeps it waiting; those that `cust` makes do.
#[derive(Debug)]
pub(super) struct Queue(CUstream);

impl Queue {
    pub fn new() -> Result<Queue, Failure> {
        let flags = sys::CUstream_flags_enum::CU_STREAM_NON_BLOCKING as u32;
        let mut stream = ptr::null_mut();
        // SAFETY: the pointer is valid for writing.
        checked(unsafe { sys::cuStreamCreateWithPriority(&mut stream, flags, 0) })?;
        Ok(Queue(stream))
    }

    pub fn raw(&self) -> CUstream {
        self.0
    }

    /// Waits until it is done.
    pub fn synchronize(&self) -> Result<(), Failure> {
        // SAFETY: the stream is this value's.
        checked(unsafe { sys::cuStreamSynchronize(self.0) })
    }

    /// Does what comes next after what the event was last recorded behind.
    pub fn wait_for(&self, event: &Event) -> Result<(), Failure> {
        // SAFETY: stream and event are those values'.
        checked(unsafe { sys::cuStreamWaitEvent(self.0, event.0, 0) })
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        // SAFETY: the stream is this value's; the driver does what is queued first.
        unsafe { sys::cuStreamDestroy_v2(self.0) };
    }
}

/// A mark in a queue: reached once everything before it is done.
#[derive(Debug)]
pub(super) struct Event(CUevent);

impl Event {
    pub fn new() -> Result<Event, Failure> {
        let flags = sys::CUevent_flags_enum::CU_EVENT_DISABLE_TIMING as u32;
        let mut event = ptr::null_mut();
        // SAFETY: the pointer is valid for writing.
        checked(unsafe { sys::cuEventCreate(&mut event, flags) })?;
        Ok(Event(event))
    }

    /// Marks the end of what `queue` was given so far. Who waits for the mark before goes on waiting for that.
    pub fn record(&self, queue: &Queue) -> Result<(), Failure> {
        // SAFETY: stream and event are those values'.
        checked(unsafe { sys::cuEventRecord(self.0, queue.0) })
    }

    /// Waits until the mark is reached, if there is one.
    pub fn synchronize(&self) -> Result<(), Failure> {
        // SAFETY: the event is this value's.
        checked(unsafe { sys::cuEventSynchronize(self.0) })
    }

    /// The end of what a stream was given so far.
    ///
    /// # Safety
    /// The stream is of the current context.
    pub unsafe fn of(stream: CUstream) -> Result<Event, Failure> {
        let event = Event::new()?;
        // SAFETY: by this function's contract; the event is of the same context.
        checked(unsafe { sys::cuEventRecord(event.0, stream) })?;
        Ok(event)
    }

    pub fn raw(&self) -> CUevent {
        self.0
    }
}

impl Drop for Event {
    fn drop(&mut self) {
        // SAFETY: the event is this value's; who waits for it goes on doing so.
        unsafe { sys::cuEventDestroy_v2(self.0) };
    }
}
