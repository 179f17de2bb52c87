//! A tensor as a WebGPU kernel sees it.

use super::Tensor;
use crate::Result;
use crate::device::Storage;
use crate::device::known_ids::KnownIds;
use crate::device::webgpu::{Aligned, Buffer, ViewMut};
use std::sync::Arc;

impl Tensor {
    fn gpu_buffer(&self) -> &Buffer {
        match &*self.storage {
            Storage::WebGpu(buffer) => buffer,
            Storage::Cpu(_) | Storage::Cuda(_) => unreachable!("a WebGPU kernel was given {self:?}"),
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
            buffer.ids = KnownIds::default();
        }
        Ok(ViewMut(self.gpu_buffer().view(self.offset, len)))
    }
}
