//! The inverse of a list of ids on an adapter, see [`Destinations`].

use super::{Buffer, Gpu, View};
use crate::Result;
use crate::device::destinations::Destinations;

/// Where the positions of every row begin, and the positions.
pub struct Uploaded {
    starts: Buffer,
    positions: Buffer,
}

impl Uploaded {
    /// Copies them to the adapter.
    pub fn new(gpu: &Gpu, destinations: &Destinations) -> Result<Self> {
        let (starts, positions) = destinations.parts();
        Ok(Uploaded { starts: Buffer::copy_of(gpu, starts)?, positions: Buffer::copy_of(gpu, positions)? })
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
