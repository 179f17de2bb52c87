//! Times of launches by the device's own clock: an event in the stream before each launch and one behind it.
//!
//! Between two events lie the kernel and what the device needs to begin it, one or two microseconds.

use super::context::Cuda;
use super::driver;
use crate::Result;
use crate::device::profile::{self, Launched};
use cudarc::driver::sys::{self, CUevent};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Where launches are noted while somebody records a profile.
#[derive(Default)]
pub(super) struct Trace(Mutex<Option<Taken>>);

struct Taken {
    begin: Event,
    launches: Vec<Timed>,
}

struct Timed {
    kernel: &'static str,
    range: Option<usize>,
    before: Event,
    behind: Event,
}

/// A place in the stream.
struct Event {
    cuda: Cuda,
    handle: CUevent,
}

// SAFETY: the driver's handles may be used from any thread in whose context they are; every call sets it.
unsafe impl Send for Event {}

impl Event {
    /// Behind all that was asked of the device so far.
    fn now(cuda: &Cuda) -> Result<Self> {
        let mut handle = std::ptr::null_mut();
        // SAFETY: the place is ours; the driver makes an event of the current context.
        cuda.call(|_| unsafe { sys::cuEventCreate(&mut handle, 0) })?;
        let event = Event { cuda: cuda.clone(), handle };
        // SAFETY: event and stream are of the same context and live.
        cuda.call(|stream| unsafe { sys::cuEventRecord(handle, stream) })?;
        Ok(event)
    }

    /// Seconds from `earlier` to this one, both of which the device has passed.
    fn since(&self, earlier: &Event) -> Result<f64> {
        let mut milliseconds = 0.0f32;
        let (from, to) = (earlier.handle, self.handle);
        // SAFETY: both events were recorded, and the place is ours.
        self.cuda.call(|_| unsafe { driver::elapsed(&mut milliseconds, from, to) })?;
        Ok(f64::from(milliseconds) / 1e3)
    }
}

impl Drop for Event {
    fn drop(&mut self) {
        let handle = self.handle;
        // SAFETY: nobody else has the event; what a dying driver answers changes nothing.
        let _ = self.cuda.call(|_| unsafe { sys::cuEventDestroy_v2(handle) });
    }
}

impl Cuda {
    fn trace(&self) -> MutexGuard<'_, Option<Taken>> {
        self.0.trace.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes the launches from now on.
    pub(in crate::device) fn start_trace(&self) -> Result<()> {
        let begin = Event::now(self)?;
        *self.trace() = Some(Taken { begin, launches: Vec::new() });
        Ok(())
    }

    /// The launches since [`Self::start_trace`], once all are done.
    pub(in crate::device) fn end_trace(&self) -> Result<Vec<Launched>> {
        let taken = self.trace().take();
        self.synchronize()?;
        let Some(Taken { begin, launches }) = taken else { return Ok(Vec::new()) };
        // From event to event, since the driver tells times as f32: a long time would lose the short ones.
        let (mut earlier, mut place) = (&begin, 0.0);
        let mut found = Vec::with_capacity(launches.len());
        for Timed { kernel, range, before, behind } in &launches {
            let start = place + before.since(earlier)?;
            let seconds = behind.since(before)?;
            found.push(Launched { kernel: (*kernel).into(), range: *range, start, seconds });
            (earlier, place) = (behind, start + seconds);
        }
        Ok(found)
    }

    /// Runs `launch`, between two events while this thread records a profile.
    pub(super) fn timed(&self, kernel: &'static str, launch: impl FnOnce() -> Result<()>) -> Result<()> {
        if !profile::is_on() || self.trace().is_none() {
            return launch();
        }
        let before = Event::now(self)?;
        launch()?;
        let timed = Timed { kernel, range: profile::current(), before, behind: Event::now(self)? };
        if let Some(taken) = &mut *self.trace() {
            taken.launches.push(timed);
        }
        Ok(())
    }

    /// Runs `work`; what it gives, and the seconds that the device took from its first launch to the end of its last.
    pub fn seconds<T>(&self, work: impl FnOnce() -> Result<T>) -> Result<(T, f64)> {
        self.seconds_and_waits(work).map(|(result, seconds, _)| (result, seconds))
    }

    /// The same, and whether the device came to the first launch before the host had laid out the last one: then the time may hold waits
    /// for the host.
    pub fn seconds_and_waits<T>(&self, work: impl FnOnce() -> Result<T>) -> Result<(T, f64, bool)> {
        let before = Event::now(self)?;
        let result = work()?;
        let behind = Event::now(self)?;
        // SAFETY: the event was recorded and lives.
        let waits = unsafe { sys::cuEventQuery(before.handle) } == sys::CUresult::CUDA_SUCCESS;
        self.synchronize()?;
        Ok((result, behind.since(&before)?, waits))
    }
}
