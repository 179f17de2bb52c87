//! Memory of a tensor on an adapter. Freed buffers wait in a pool of their device: a pass over packs asks for the same
//! sizes again and again, and a buffer that stays keeps its bind groups.

use super::context::Gpu;
use crate::Result;
use crate::device::known_ids::KnownIds;
use crate::device::size_class::size_class;
use crate::device::{DType, Element};

/// The pool of a software adapter, whose memory is the host's, keeps at most this many bytes.
const POOL_BYTES: u64 = 1 << 30;
/// That of hardware: what a pass over a pack frees and takes again. Where the adapter has no memory left, the pool is emptied.
const POOL_BYTES_OF_HARDWARE: u64 = 1 << 32;

/// A buffer of the adapter, and when it was used last.
#[derive(Clone, Debug)]
pub(super) struct Raw {
    pub buffer: wgpu::Buffer,
    /// Distinct among all buffers of the device.
    pub id: u64,
    /// Number of the last recording that uses it.
    pub used_in: u64,
}

/// A flat run of elements of one type on an adapter.
#[derive(Debug)]
pub struct Buffer {
    gpu: Gpu,
    raw: Option<Raw>,
    dtype: DType,
    len: usize,
    /// What the host knows of ids.
    pub(crate) ids: KnownIds,
}

impl Buffer {
    /// `len` elements of arbitrary content.
    pub fn scratch(gpu: &Gpu, dtype: DType, len: usize) -> Result<Self> {
        let buffer = Self::unused_since(gpu, dtype, len, u64::MAX)?;
        if gpu.0.pretence.nan_scratch {
            // All bits set are NaN in every type of floating point, and no id of a table.
            gpu.upload(buffer.raw(), &vec![0xff; buffer.raw().buffer.size() as usize])?;
        }
        Ok(buffer)
    }

    /// The same, of a buffer that no recording from number `recording` on uses.
    fn unused_since(gpu: &Gpu, dtype: DType, len: usize, recording: u64) -> Result<Self> {
        gpu.expect_type(dtype)?;
        let bytes = size_class((len * dtype.size()) as u64);
        // The lock is let go before a buffer is made: making one may have to empty the pool.
        let free = gpu.pool().take(bytes, |raw| raw.used_in < recording);
        let raw = match free {
            Some(raw) => raw,
            None => gpu.create_buffer(bytes)?,
        };
        Ok(Buffer { gpu: gpu.clone(), raw: Some(raw), dtype, len, ids: KnownIds::default() })
    }

    /// `len` zeros.
    pub fn zeros(gpu: &Gpu, dtype: DType, len: usize) -> Result<Self> {
        let buffer = Self::scratch(gpu, dtype, len)?;
        gpu.clear(&buffer.view(0, len))?;
        Ok(buffer)
    }

    /// A copy of `data`.
    pub fn copy_of<T: Element>(gpu: &Gpu, data: &[T]) -> Result<Self> {
        // An upload comes before all that is recorded: into a buffer that the recording uses it would have to hand that over.
        let mut buffer = Self::unused_since(gpu, T::DTYPE, data.len(), gpu.recording())?;
        if T::DTYPE == DType::U32 {
            buffer.ids = KnownIds::of(bytemuck::cast_slice(data));
        }
        gpu.upload(buffer.raw(), bytemuck::cast_slice(data))?;
        Ok(buffer)
    }

    /// A copy of `len` elements from `offset` on, made on the adapter.
    pub fn copy_part(&self, offset: usize, len: usize) -> Result<Self> {
        let mut copy = Self::scratch(&self.gpu, self.dtype, len)?;
        copy.ids = self.ids.part(offset, len);
        self.gpu.copy(self, offset, &copy, 0, len)?;
        Ok(copy)
    }

    /// The elements, on the host. Waits for all work recorded before.
    pub fn read<T: Element>(&self, offset: usize, len: usize) -> Result<Vec<T>> {
        assert_eq!(T::DTYPE, self.dtype, "a {} buffer was read as {}", self.dtype, T::DTYPE);
        let size = self.dtype.size();
        let bytes = self.gpu.read_back(self.raw(), (offset * size) as u64, (len * size) as u64)?;
        Ok(bytemuck::pod_collect_to_vec(&bytes[..len * size]))
    }

    /// Elements `offset..offset + len`, for a kernel. `offset` has been checked by [`Self::is_aligned`].
    pub fn view(&self, offset: usize, len: usize) -> View<'_> {
        View { buffer: self, offset, len }
    }

    /// Whether a kernel can be given a part that starts at this element.
    pub fn is_aligned(&self, offset: usize) -> bool {
        ((offset * self.dtype.size()) as u64).is_multiple_of(self.gpu.alignment())
    }

    /// Where it lives.
    pub fn gpu(&self) -> &Gpu {
        &self.gpu
    }

    /// Element type.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are no elements.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub(super) fn raw(&self) -> &Raw {
        self.raw.as_ref().expect("present until it is dropped")
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        if let Some(mut raw) = self.raw.take() {
            raw.used_in = self.gpu.recording();
            let (bytes, mut pool) = (raw.buffer.size(), self.gpu.pool());
            let is_software = self.gpu.description().is_software();
            let most = if is_software { POOL_BYTES } else { POOL_BYTES_OF_HARDWARE };
            // All those before it go to the adapter, so that the sizes of today replace those of yesterday.
            if pool.is_full(bytes, most) {
                pool.empty();
                self.gpu.bind_groups_are_stale();
            }
            pool.give(bytes, raw.id, raw);
        }
    }
}

/// A part of a buffer that a kernel reads.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    pub(super) buffer: &'a Buffer,
    pub(super) offset: usize,
    pub(super) len: usize,
}

/// A part of a buffer that a kernel writes (and may read).
#[derive(Debug)]
pub struct ViewMut<'a>(pub View<'a>);

/// What a kernel reads: elements where they are, or a copy where a binding cannot start at the first of them.
#[derive(Debug)]
pub enum Aligned<'a> {
    /// Where they are.
    Own(View<'a>),
    /// A copy.
    Copy(Buffer),
}

impl Aligned<'_> {
    /// The elements.
    pub fn view(&self) -> View<'_> {
        match self {
            Aligned::Own(view) => *view,
            Aligned::Copy(buffer) => buffer.view(0, buffer.len()),
        }
    }
}

impl<'a> View<'a> {
    /// Number of elements.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are no elements.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The device.
    pub fn gpu(&self) -> &'a Gpu {
        &self.buffer.gpu
    }

    /// Element type.
    pub fn dtype(&self) -> DType {
        self.buffer.dtype
    }

    /// Elements `start..start + len` of it; the start must be aligned, see [`Gpu::rows_per_part`].
    pub fn part(&self, start: usize, len: usize) -> View<'a> {
        View { buffer: self.buffer, offset: self.offset + start, len }
    }

    /// Whether a part may start at this element of it.
    pub(super) fn starts_at(&self, start: usize) -> bool {
        self.buffer.is_aligned(self.offset + start)
    }

    /// Elements `start..start + len` of it, wherever they start.
    pub fn part_anywhere(&self, start: usize, len: usize) -> Result<Aligned<'a>> {
        if self.starts_at(start) {
            return Ok(Aligned::Own(self.part(start, len)));
        }
        self.buffer.copy_part(self.offset + start, len).map(Aligned::Copy)
    }

    /// A part that a kernel can be given and that holds elements `start..start + len` of it, and the first one's place in that.
    pub(super) fn around(&self, start: usize, len: usize) -> (View<'a>, usize) {
        let wanted = self.offset + start;
        let step = (self.gpu().alignment() as usize / self.buffer.dtype.size()).max(1);
        let before = wanted % step;
        (View { buffer: self.buffer, offset: wanted - before, len: before + len }, before)
    }

    /// Writes the first `len` elements of `from` into it from element `start` on, which may be any.
    pub(super) fn copy_from(&self, from: &Buffer, start: usize, len: usize) -> Result<()> {
        self.buffer.gpu.copy(from, 0, self.buffer, self.offset + start, len)
    }

    /// First byte and number of bytes to bind.
    pub(super) fn bytes(&self) -> (u64, u64) {
        let size = self.buffer.dtype.size() as u64;
        let bytes = (self.len as u64 * size).next_multiple_of(4).max(4);
        (self.offset as u64 * size, bytes)
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

    /// The device.
    pub fn gpu(&self) -> &'a Gpu {
        self.0.gpu()
    }

    /// Elements `start..start + len` of it, see [`View::part`].
    pub fn part(&self, start: usize, len: usize) -> ViewMut<'a> {
        ViewMut(self.0.part(start, len))
    }
}
