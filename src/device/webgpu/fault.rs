//! What went wrong on the device since it was opened. Drivers tell of it through callbacks, at any time; the next
//! call that can fail returns it.

use crate::{Error, Result};
use std::sync::Mutex;

/// The first thing that went wrong.
#[derive(Clone, Debug)]
enum What {
    Lost(String),
    Memory,
    Refused(String),
}

/// Set once by the driver's callbacks, read by every launch and read-back.
#[derive(Debug, Default)]
pub(super) struct Fault(Mutex<Option<What>>);

impl Fault {
    pub(super) fn lost(&self, why: String) {
        // A lost device explains every other error.
        *self.0.lock().unwrap_or_else(|p| p.into_inner()) = Some(What::Lost(why));
    }

    pub(super) fn error(&self, error: &wgpu::Error) {
        let what = match error {
            wgpu::Error::OutOfMemory { .. } => What::Memory,
            wgpu::Error::Validation { description, .. } | wgpu::Error::Internal { description, .. } => {
                What::Refused(description.clone())
            }
        };
        self.0.lock().unwrap_or_else(|p| p.into_inner()).get_or_insert(what);
    }

    /// An error in the name of `device` if something went wrong.
    pub(super) fn check(&self, device: &str) -> Result<()> {
        let mut place = self.0.lock().unwrap_or_else(|p| p.into_inner());
        let what = place.clone();
        if let Some(What::Memory) = what {
            // Told once: smaller work may still fit.
            *place = None;
        }
        drop(place);
        let device = device.to_string();
        match what {
            None => Ok(()),
            Some(What::Lost(why)) => Err(Error::DeviceLost { device, why }),
            Some(What::Memory) => Err(Error::DeviceMemory { device, needed: None }),
            Some(What::Refused(why)) => Err(Error::DeviceRefused { device, why }),
        }
    }
}
