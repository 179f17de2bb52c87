//! What went wrong on the device since it was opened. Drivers tell of it through callbacks, at any time; the next
//! call that can fail returns it.

use super::Gpu;
use super::context::Context;
use crate::{Error, Result};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard};

/// Why a device is lost that had no memory for a write or a recording.
const OUT_OF_MEMORY: &str =
    "its driver ran out of memory amid the work; with smaller packs (--pack-tokens) or batches it needs less";

/// The first thing that went wrong.
#[derive(Clone, Debug)]
enum What {
    Lost(String),
    Refused(String),
}

/// Set once by the driver's callbacks, read by every launch and read-back.
#[derive(Debug)]
pub(super) struct Fault {
    place: Mutex<Option<What>>,
    /// Launches after which the device is given up, for tests.
    give_up_after: AtomicU64,
    /// Writes to buffers after which the driver has no memory for one, for tests.
    writes_left: AtomicU64,
    /// New buffers that the driver has no memory for, for tests.
    refusals: AtomicU64,
}

impl Default for Fault {
    fn default() -> Self {
        let [give_up_after, writes_left] = [(); 2].map(|()| AtomicU64::new(u64::MAX));
        Fault { place: Mutex::default(), give_up_after, writes_left, refusals: AtomicU64::new(0) }
    }
}

impl Fault {
    pub(super) fn lost(&self, why: String) {
        // A lost device explains every other error.
        *self.place() = Some(What::Lost(why));
    }

    /// The same, where no callback has said it better.
    pub(super) fn lost_unless_known(&self, why: String) {
        let mut place = self.place();
        if !matches!(*place, Some(What::Lost(_))) {
            *place = Some(What::Lost(why));
        }
    }

    pub(super) fn is_lost(&self) -> bool {
        matches!(*self.place(), Some(What::Lost(_)))
    }

    pub(super) fn is_refused(&self) -> bool {
        matches!(*self.place(), Some(What::Refused(_)))
    }

    fn place(&self) -> MutexGuard<'_, Option<What>> {
        self.place.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    pub(super) fn error(&self, error: &wgpu::Error) {
        match error {
            // No thread's own: a write or a recording, which holds the launches of many threads, was not done. Whatever
            // any of them reads later may depend on it. New buffers have error scopes of their own.
            wgpu::Error::OutOfMemory { .. } => self.lost_unless_known(OUT_OF_MEMORY.into()),
            wgpu::Error::Validation { description, .. } | wgpu::Error::Internal { description, .. } => {
                self.place().get_or_insert(What::Refused(description.clone()));
            }
        }
    }

    /// An error in the name of `device` if something went wrong.
    pub(super) fn check(&self, device: &str) -> Result<()> {
        let device = device.to_string();
        match self.place().clone() {
            None => Ok(()),
            Some(What::Lost(why)) => Err(Error::device_lost(device, why)),
            Some(What::Refused(why)) => Err(Error::DeviceRefused { device, why }),
        }
    }
}

impl Gpu {
    /// Whether it is gone: nothing runs on it any more. Opening its adapter again gives another device.
    pub fn is_lost(&self) -> bool {
        self.0.fault.is_lost()
    }

    /// Loses the device, as a driver does that is reset, after so many launches more: so tests see what becomes of a run.
    #[doc(hidden)]
    pub fn lose_after(&self, launches: u64) {
        let at = self.counters().dispatches.saturating_add(launches);
        self.0.fault.give_up_after.store(at, Ordering::Relaxed);
    }

    /// After so many writes to buffers more, the driver has no memory for one: so tests see what becomes of other threads.
    #[doc(hidden)]
    pub fn fail_write_after(&self, writes: u64) {
        self.0.fault.writes_left.store(writes, Ordering::Relaxed);
    }

    /// The driver has no memory for so many new buffers, the next ones: so tests see that smaller work goes on.
    #[doc(hidden)]
    pub fn refuse_buffers(&self, count: u64) {
        self.0.fault.refusals.store(count, Ordering::Relaxed);
    }

    /// Writes `bytes` to a buffer. Where there is no memory for that, the device is lost for every thread.
    pub(super) fn write(&self, buffer: &wgpu::Buffer, offset: u64, bytes: &[u8]) {
        let Context { queue, fault, .. } = &*self.0;
        let left = fault.writes_left.load(Ordering::Relaxed);
        if left != u64::MAX {
            fault.writes_left.store(left.saturating_sub(1), Ordering::Relaxed);
            if left == 0 {
                return fault.error(&wgpu::Error::OutOfMemory { source: "asked for by a test".into() });
            }
        }
        queue.write_buffer(buffer, offset, bytes);
    }

    /// A new buffer, unless the driver has no memory for it: that is the caller's own trouble, and the device goes on.
    pub(super) fn driver_buffer(&self, size: u64, usage: wgpu::BufferUsages) -> Option<wgpu::Buffer> {
        let Context { device, fault, .. } = &*self.0;
        let refused = |left: u64| left.checked_sub(1);
        if fault.refusals.fetch_update(Ordering::Relaxed, Ordering::Relaxed, refused).is_ok() {
            return None;
        }
        // Scopes see the errors of their own thread alone.
        let scope = device.push_error_scope(wgpu::ErrorFilter::OutOfMemory);
        let description = wgpu::BufferDescriptor { label: None, size, usage, mapped_at_creation: false };
        let buffer = device.create_buffer(&description);
        pollster::block_on(scope.pop()).is_none().then_some(buffer)
    }

    /// What [`Self::lose_after`] asked for, given the launches so far.
    pub(super) fn lose_in_time(&self, launches: u64) {
        if launches >= self.0.fault.give_up_after.load(Ordering::Relaxed) {
            self.0.device.destroy();
        }
    }
}
