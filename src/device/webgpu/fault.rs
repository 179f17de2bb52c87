//! What went wrong on the device since it was opened. Drivers tell of it through callbacks, at any time; the next
//! call that can fail returns it.

use super::Gpu;
use crate::device::pool::REMEDY;
use crate::{Error, Result};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard};

/// The first thing that went wrong.
#[derive(Clone, Debug)]
enum What {
    Lost(String),
    Memory,
    Refused(String),
}

/// Set once by the driver's callbacks, read by every launch and read-back.
#[derive(Debug)]
pub(super) struct Fault {
    place: Mutex<Option<What>>,
    /// Launches after which the device is given up, for tests.
    give_up_after: AtomicU64,
}

impl Default for Fault {
    fn default() -> Self {
        Fault { place: Mutex::default(), give_up_after: AtomicU64::new(u64::MAX) }
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

    fn is_lost(&self) -> bool {
        matches!(*self.place(), Some(What::Lost(_)))
    }

    pub(super) fn is_refused(&self) -> bool {
        matches!(*self.place(), Some(What::Refused(_)))
    }

    fn place(&self) -> MutexGuard<'_, Option<What>> {
        self.place.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    pub(super) fn error(&self, error: &wgpu::Error) {
        let what = match error {
            wgpu::Error::OutOfMemory { .. } => What::Memory,
            wgpu::Error::Validation { description, .. } | wgpu::Error::Internal { description, .. } => {
                What::Refused(description.clone())
            }
        };
        self.place().get_or_insert(what);
    }

    /// An error in the name of `device` if something went wrong.
    pub(super) fn check(&self, device: &str) -> Result<()> {
        let mut place = self.place();
        let what = place.clone();
        if let Some(What::Memory) = what {
            // Told once: smaller work may still fit.
            *place = None;
        }
        drop(place);
        let device = device.to_string();
        match what {
            None => Ok(()),
            Some(What::Lost(why)) => Err(Error::device_lost(device, why)),
            Some(What::Memory) => Err(Error::DeviceMemory {
                device,
                problem: "the driver has no more".into(),
                needed: None,
                limit: None,
                remedy: REMEDY.into(),
            }),
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

    /// What [`Self::lose_after`] asked for, given the launches so far.
    pub(super) fn lose_in_time(&self, launches: u64) {
        if launches >= self.0.fault.give_up_after.load(Ordering::Relaxed) {
            self.0.device.destroy();
        }
    }
}
