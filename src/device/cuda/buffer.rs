//! Memory of a tensor on a CUDA device. Freed memory waits in a pool of its device: a pass over packs asks for the same
//! sizes again and again. Everything runs in one stream, so memory may be reused as soon as it is freed.

use super::context::Cuda;
use super::memory::Memory;
use crate::Result;
use crate::device::known_ids::KnownIds;
use crate::device::{DType, Element};
use cudarc::driver::sys;
use std::sync::atomic::Ordering;

/// A flat run of elements of one type on a CUDA device.
#[derive(Debug)]
pub struct Buffer {
    cuda: Cuda,
    memory: Memory,
    dtype: DType,
    len: usize,
    /// What the host knows of ids.
    pub(crate) ids: KnownIds,
}

impl Buffer {
    /// `len` elements of arbitrary content.
    pub fn scratch(cuda: &Cuda, dtype: DType, len: usize) -> Result<Self> {
        cuda.expect_type(dtype)?;
        let memory = cuda.allocate((len * dtype.size()) as u64)?;
        Ok(Buffer { cuda: cuda.clone(), memory, dtype, len, ids: KnownIds::default() })
    }

    /// `len` zeros.
    pub fn zeros(cuda: &Cuda, dtype: DType, len: usize) -> Result<Self> {
        let buffer = Self::scratch(cuda, dtype, len)?;
        let (address, bytes) = (buffer.memory.address, len * dtype.size());
        // SAFETY: the memory has that many bytes.
        cuda.call(|stream| unsafe { sys::cuMemsetD8Async(address, 0, bytes, stream) })?;
        Ok(buffer)
    }

    /// A copy of `data`.
    pub fn copy_of<T: Element>(cuda: &Cuda, data: &[T]) -> Result<Self> {
        let mut buffer = Self::scratch(cuda, T::DTYPE, data.len())?;
        if T::DTYPE == DType::U32 {
            buffer.ids = KnownIds::of(bytemuck::cast_slice(data));
        }
        cuda.upload(buffer.memory.address, bytemuck::cast_slice(data))?;
        Ok(buffer)
    }

    /// A copy of `len` elements from `offset` on, made on the device.
    pub fn copy_part(&self, offset: usize, len: usize) -> Result<Self> {
        let mut copy = Self::scratch(&self.cuda, self.dtype, len)?;
        copy.ids = self.ids.part(offset, len);
        ViewMut(copy.view(0, len)).copy_from(self.view(offset, len))?;
        Ok(copy)
    }

    /// The elements, on the host. Waits for all work asked for before.
    pub fn read<T: Element>(&self, offset: usize, len: usize) -> Result<Vec<T>> {
        assert_eq!(T::DTYPE, self.dtype, "a {} buffer was read as {}", self.dtype, T::DTYPE);
        let mut data = vec![T::zeroed(); len];
        let address = self.view(offset, len).address();
        let bytes: &mut [u8] = bytemuck::cast_slice_mut(&mut data);
        if !bytes.is_empty() {
            // SAFETY: both sides have that many bytes, and the host waits before anybody looks.
            self.cuda.call(|stream| unsafe {
                sys::cuMemcpyDtoHAsync_v2(bytes.as_mut_ptr().cast(), address, bytes.len(), stream)
            })?;
        }
        self.cuda.0.read_backs.fetch_add(1, Ordering::Relaxed);
        self.cuda.synchronize()?;
        Ok(data)
    }

    /// Elements `offset..offset + len`, for a kernel.
    pub fn view(&self, offset: usize, len: usize) -> View<'_> {
        assert!(offset + len <= self.len, "{offset} + {len} of {} elements", self.len);
        View { buffer: self, offset, len }
    }

    /// Elements `offset..offset + len`, for a kernel that writes them; nobody else may look at them meanwhile.
    pub(crate) fn view_mut(&self, offset: usize, len: usize) -> ViewMut<'_> {
        ViewMut(self.view(offset, len))
    }

    /// Where it lives.
    pub fn cuda(&self) -> &Cuda {
        &self.cuda
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are no elements.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        self.cuda.give_back(self.memory);
    }
}

/// A part of a buffer that a kernel reads.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    buffer: &'a Buffer,
    offset: usize,
    len: usize,
}

/// A part of a buffer that a kernel writes (and may read).
#[derive(Debug)]
pub struct ViewMut<'a>(pub(super) View<'a>);

impl<'a> View<'a> {
    /// Number of elements.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are no elements.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Element type.
    pub fn dtype(&self) -> DType {
        self.buffer.dtype
    }

    /// The device.
    pub fn cuda(&self) -> &'a Cuda {
        &self.buffer.cuda
    }

    /// Elements `start..start + len` of it.
    pub fn part(&self, start: usize, len: usize) -> View<'a> {
        assert!(start + len <= self.len, "{start} + {len} of {} elements", self.len);
        View { buffer: self.buffer, offset: self.offset + start, len }
    }

    /// Address of its first element on the device; of an empty buffer, none: 0.
    pub fn address(&self) -> u64 {
        match self.buffer.memory.bytes {
            0 => 0,
            _ => self.buffer.memory.address + (self.offset * self.buffer.dtype.size()) as u64,
        }
    }
}

impl<'a> ViewMut<'a> {
    /// Number of elements.
    pub fn len(&self) -> usize {
        self.0.len
    }

    /// Whether there are no elements.
    pub fn is_empty(&self) -> bool {
        self.0.len == 0
    }

    /// Element type.
    pub fn dtype(&self) -> DType {
        self.0.dtype()
    }

    /// The device.
    pub fn cuda(&self) -> &'a Cuda {
        self.0.cuda()
    }

    /// Elements `start..start + len` of it.
    pub fn part(&self, start: usize, len: usize) -> ViewMut<'a> {
        ViewMut(self.0.part(start, len))
    }

    /// Overwrites it with `from`, of the same length and type.
    pub fn copy_from(&self, from: View) -> Result<()> {
        assert!(from.len == self.len() && from.dtype() == self.dtype(), "{from:?} into {self:?}");
        let bytes = from.len * from.dtype().size();
        if bytes == 0 {
            return Ok(());
        }
        let (to, from) = (self.0.address(), from.address());
        // SAFETY: both views have that many bytes.
        self.cuda().call(|stream| unsafe { sys::cuMemcpyDtoDAsync_v2(to, from, bytes, stream) })
    }
}
