//! What the host knows of ids that live on another device.

use super::Tensor;
use crate::Result;
use crate::device::Storage;
use std::borrow::Cow;

impl Tensor {
    /// A number that all ids of this tensor stay below, but for missing ones of a search, `u32::MAX`, which kernels must
    /// define: what the host knows of it, else what it reads.
    pub(crate) fn id_bound(&self) -> Result<u32> {
        self.known_bound().map_or_else(|| self.strict_id_bound(), Ok)
    }

    /// A number that all ids of this tensor stay below, missing ones too. Ids that a kernel made are read back.
    pub(crate) fn strict_id_bound(&self) -> Result<u32> {
        match (self.known_bound(), self.known_ids()) {
            (Some(bound), Some(_)) => Ok(bound),
            _ => Ok(self.to_vec::<u32>()?.iter().max().map_or(0, |id| id.saturating_add(1))),
        }
    }

    fn known_bound(&self) -> Option<u32> {
        match &*self.storage {
            Storage::Cpu(_) => None,
            Storage::Cuda(buffer) => buffer.ids.bound(),
            Storage::WebGpu(buffer) => buffer.ids.bound(),
        }
    }

    /// The ids of this tensor on the host. Those that came from there need no read-back; those that a kernel made do.
    pub(crate) fn ids_on_host(&self) -> Result<Cow<'_, [u32]>> {
        match self.known_ids() {
            Some(ids) => Ok(Cow::Borrowed(ids)),
            None => self.to_vec().map(Cow::Owned),
        }
    }

    /// The ids of this tensor, where the host has them.
    pub(crate) fn known_ids(&self) -> Option<&[u32]> {
        let all = match &*self.storage {
            Storage::Cpu(_) => return Some(self.host()),
            Storage::Cuda(buffer) => buffer.ids.ids()?,
            Storage::WebGpu(buffer) => buffer.ids.ids()?,
        };
        Some(&all[self.offset..self.offset + self.len()])
    }
}
