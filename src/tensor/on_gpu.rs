//! A tensor as a WebGPU kernel sees it.

use super::Tensor;
use crate::Result;
use crate::device::Storage;
use crate::device::webgpu::{Aligned, Buffer, ViewMut};
use std::borrow::Cow;
use std::sync::Arc;

impl Tensor {
    fn gpu_buffer(&self) -> &Buffer {
        match &*self.storage {
            Storage::WebGpu(buffer) => buffer,
            Storage::Cpu(_) => unreachable!("a WebGPU kernel was given {self:?}"),
        }
    }

    /// The elements of a tensor on an adapter, for its kernels: type and device have been checked before.
    pub(crate) fn gpu(&self) -> Result<Aligned<'_>> {
        self.gpu_buffer().view(0, 0).part_anywhere(self.offset, self.len())
    }

    /// The same, to be written; copied first where another tensor shares the buffer.
    pub(crate) fn gpu_mut(&mut self) -> Result<ViewMut<'_>> {
        let len = self.len();
        let aligned = self.gpu_buffer().is_aligned(self.offset);
        if Arc::get_mut(&mut self.storage).is_none() || !aligned {
            let copy = self.gpu_buffer().copy_part(self.offset, len)?;
            self.storage = Arc::new(Storage::WebGpu(copy));
            self.offset = 0;
        }
        if let Some(Storage::WebGpu(buffer)) = Arc::get_mut(&mut self.storage) {
            buffer.forget_ids();
        }
        Ok(ViewMut(self.gpu_buffer().view(self.offset, len)))
    }

    /// A number that all ids of this tensor stay below, but for missing ones of a search, `u32::MAX`, which kernels must
    /// define: what the host knows of it, else what it reads.
    pub(crate) fn id_bound(&self) -> Result<u32> {
        self.gpu_buffer().bound().map_or_else(|| self.strict_id_bound(), Ok)
    }

    /// A number that all ids of this tensor stay below, missing ones too. Ids that a kernel made are read back.
    pub(crate) fn strict_id_bound(&self) -> Result<u32> {
        match (self.gpu_buffer().bound(), self.known_ids()) {
            (Some(bound), Some(_)) => Ok(bound),
            _ => Ok(self.to_vec::<u32>()?.iter().max().map_or(0, |id| id.saturating_add(1))),
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
        match &*self.storage {
            Storage::Cpu(_) => Some(self.host()),
            Storage::WebGpu(buffer) => Some(&buffer.host_ids()?[self.offset..self.offset + self.len()]),
        }
    }
}
