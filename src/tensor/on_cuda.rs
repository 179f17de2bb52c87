//! A tensor as a CUDA kernel sees it.

use super::Tensor;
use crate::Result;
use crate::device::Storage;
use crate::device::cuda::{Buffer, View, ViewMut};
use crate::device::known_ids::KnownIds;
use std::sync::Arc;

impl Tensor {
    fn cuda_buffer(&self) -> &Buffer {
        match &*self.storage {
            Storage::Cuda(buffer) => buffer,
            Storage::Cpu(_) | Storage::WebGpu(_) => unreachable!("a CUDA kernel was given {self:?}"),
        }
    }

    /// The elements of a tensor on a CUDA device, for its kernels: type and device have been checked before.
    pub(crate) fn cuda(&self) -> View<'_> {
        self.cuda_buffer().view(self.offset, self.len())
    }

    /// The same, to be written; copied first where another tensor shares the buffer.
    pub(crate) fn cuda_mut(&mut self) -> Result<ViewMut<'_>> {
        let len = self.len();
        if Arc::get_mut(&mut self.storage).is_none() {
            let copy = self.cuda_buffer().copy_part(self.offset, len)?;
            self.storage = Arc::new(Storage::Cuda(copy));
            self.offset = 0;
        }
        if let Some(Storage::Cuda(buffer)) = Arc::get_mut(&mut self.storage) {
            buffer.ids = KnownIds::default();
        }
        Ok(self.cuda_buffer().view_mut(self.offset, len))
    }
}
