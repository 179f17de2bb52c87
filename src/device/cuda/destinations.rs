//! The inverse of a list of ids on a CUDA device, see [`Destinations`].

use super::{Buffer, Cuda, View};
use crate::Result;
use crate::device::destinations::Destinations;

/// Where the positions of each row begin, and the positions.
pub struct Uploaded {
    starts: Buffer,
    positions: Buffer,
}

impl Uploaded {
    /// Brings them to the device.
    pub fn new(cuda: &Cuda, destinations: &Destinations) -> Result<Self> {
        let (starts, positions) = destinations.parts();
        Ok(Uploaded { starts: Buffer::copy_of(cuda, starts)?, positions: Buffer::copy_of(cuda, positions)? })
    }

    /// `[rows + 1]`.
    pub fn starts(&self) -> View<'_> {
        self.starts.view(0, self.starts.len())
    }

    /// `[ids]`.
    pub fn positions(&self) -> View<'_> {
        self.positions.view(0, self.positions.len())
    }
}
