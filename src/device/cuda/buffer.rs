//! Memory of a tensor on a CUDA device. Freed memory waits in a pool of its device: a pass over packs asks for the same
//! sizes again and again. Everything runs in one stream, so memory may be reused as soon as it is freed.

use super::context::Cuda;
use crate::device::known_ids::KnownIds;
use crate::device::size_class::size_class;
use crate::device::{DType, Element};
use crate::error::told_bytes;
use crate::{Error, Result};
use cudarc::driver::sys;
use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

/// The pool keeps at most this share of the device's memory.
const POOL_SHARE: u64 = 2;

/// Device memory: its address and its bytes.
#[derive(Clone, Copy, Debug)]
struct Memory {
    address: u64,
    bytes: u64,
}

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
        let memory = allocate(cuda, (len * dtype.size()) as u64)?;
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
        let bytes: &[u8] = bytemuck::cast_slice(data);
        let address = buffer.memory.address;
        if !bytes.is_empty() {
            // SAFETY: the memory has that many bytes. Of memory that is not pinned the driver takes a copy before it returns.
            cuda.call(|stream| unsafe {
                sys::cuMemcpyHtoDAsync_v2(address, bytes.as_ptr().cast(), bytes.len(), stream)
            })?;
        }
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
        let cuda = self.cuda.clone();
        if cuda.0.exact {
            let _ = cuda.synchronize();
            self.memory.free();
        } else if self.memory.bytes > 0 {
            let most = cuda.description().memory / POOL_SHARE;
            let _ = cuda.call(|_| sys::CUresult::CUDA_SUCCESS);
            cuda.pool().give(self.memory, most, || cuda.synchronize().is_ok());
        }
    }
}

impl Memory {
    fn free(self) {
        if self.bytes > 0 {
            // SAFETY: it was allocated by the driver, and nothing that runs uses it. A dying driver's answer changes nothing.
            unsafe { sys::cuMemFree_v2(self.address) };
        }
    }
}

/// Memory of at least `bytes`: from the pool, else from the driver, else from the driver once the pool is empty.
fn allocate(cuda: &Cuda, bytes: u64) -> Result<Memory> {
    let wanted = if cuda.0.exact { bytes } else { size_class(bytes) };
    if wanted == 0 {
        return Ok(Memory { address: 0, bytes: 0 });
    }
    if let Some(found) = cuda.pool().take(wanted) {
        return Ok(found);
    }
    let mut address = 0;
    // SAFETY: the place is ours.
    let mut ask = || cuda.call(|_| unsafe { sys::cuMemAlloc_v2(&mut address, wanted as usize) });
    let mut answer = ask();
    if matches!(answer, Err(Error::DeviceMemory { .. })) {
        cuda.synchronize()?;
        cuda.pool().clear();
        answer = ask();
    }
    match answer {
        Ok(()) => Ok(Memory { address, bytes: wanted }),
        Err(Error::DeviceMemory { .. }) => {
            Err(cuda.too_little(&format!("{} more", told_bytes(wanted)), wanted))
        }
        Err(other) => Err(other),
    }
}

/// Free memory by size.
#[derive(Debug, Default)]
pub(super) struct Pool {
    free: BTreeMap<u64, Vec<Memory>>,
    bytes: u64,
}

impl Pool {
    /// The smallest free memory of at least that size, but none of more than twice as much.
    fn take(&mut self, bytes: u64) -> Option<Memory> {
        let found = self.free.range_mut(bytes..=2 * bytes).find_map(|(_, free)| free.pop())?;
        self.bytes -= found.bytes;
        Some(found)
    }

    /// Takes memory back. Where there is more than `most`, all that was there before goes to the driver, once `idle` has
    /// waited for what may still use it.
    fn give(&mut self, memory: Memory, most: u64, idle: impl FnOnce() -> bool) {
        if self.bytes + memory.bytes > most && idle() {
            self.clear();
        }
        self.bytes += memory.bytes;
        self.free.entry(memory.bytes).or_default().push(memory);
    }

    /// Returns all free memory to the driver. Nothing that runs may use it.
    pub(super) fn clear(&mut self) {
        for memory in std::mem::take(self).free.into_values().flatten() {
            memory.free();
        }
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
