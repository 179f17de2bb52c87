//! Memory of an adapter: how much its buffers hold, how much they may, and what is done where there is no more.

use super::Gpu;
use super::buffer::Raw;
use crate::device::pool::REMEDY;
use crate::error::told_bytes;
use crate::{Error, Result};
use std::sync::atomic::Ordering;

/// Bytes of all heaps of an adapter's own memory, that of the host where it has none of its own: Vulkan's drivers tell it,
/// and wgpu passes on nothing of Metal's and Direct3D's that could be asked in the same way.
#[cfg(any(windows, target_os = "linux", target_os = "android", target_os = "freebsd"))]
pub(super) fn device_memory(adapter: &wgpu::Adapter) -> Option<u64> {
    // `VK_MEMORY_HEAP_DEVICE_LOCAL_BIT`.
    const OF_THE_DEVICE: u32 = 1;
    // SAFETY: the guard keeps the adapter, and with it the instance that it came from; nothing of either is destroyed.
    let adapter = unsafe { adapter.as_hal::<wgpu::hal::api::Vulkan>() }?;
    let instance = adapter.shared_instance().raw_instance();
    // SAFETY: the adapter is one of this instance.
    let told = unsafe { instance.get_physical_device_memory_properties(adapter.raw_physical_device()) };
    let heaps = &told.memory_heaps[..told.memory_heap_count as usize];
    let own = heaps.iter().filter(|heap| heap.flags.as_raw() & OF_THE_DEVICE != 0);
    Some(own.map(|heap| heap.size).sum()).filter(|&bytes| bytes > 0)
}

/// Not asked where there is no Vulkan.
#[cfg(not(any(windows, target_os = "linux", target_os = "android", target_os = "freebsd")))]
pub(super) fn device_memory(_: &wgpu::Adapter) -> Option<u64> {
    None
}

impl Gpu {
    /// Allows its buffers `bytes` together, those that wait for reuse included. More than that is
    /// [`Error::DeviceMemory`], as it is where the driver has no more. What drivers and kernels need themselves is not
    /// counted.
    pub fn limit_memory(&self, bytes: u64) {
        self.pool().set_limit(bytes);
    }

    /// Bytes of its buffers: those in use, and those that wait for reuse.
    pub fn memory_held(&self) -> u64 {
        self.pool().held()
    }

    /// An error in the name of `what` unless `bytes` more are allowed beside what is in use and the adapter has as many. Where
    /// no limit is set and the driver does not tell how much there is, this says nothing.
    pub fn expect_room(&self, what: &str, bytes: u64) -> Result<()> {
        let pool = self.pool();
        let enough = !pool.forbids(bytes) && self.memory().is_none_or(|all| pool.would_fit(bytes, all));
        drop(pool);
        if enough { Ok(()) } else { Err(self.shortage(what, bytes)) }
    }

    /// Bytes of memory that the driver tells of, used by whomever. What a software driver tells is a number of its own (2 GiB
    /// often): it takes of the host's memory what it is asked for.
    fn memory(&self) -> Option<u64> {
        self.0.description.memory.filter(|_| !self.0.description.is_software())
    }

    /// An error in the name of `what` unless `rows` rows of `width` elements of 4 bytes fit one binding, of the same kind
    /// as too little memory: with fewer rows both end.
    pub(super) fn expect_bound(&self, what: &str, rows: usize, width: usize) -> Result<()> {
        let (row, limit) = (4 * width.max(1) as u64, self.binding_bytes());
        let bytes = rows as u64 * row;
        if bytes <= limit {
            return Ok(());
        }
        let problem =
            format!("{what} has {rows} rows of {row} bytes, and a binding holds {} of them", limit / row);
        let (device, remedy) = (self.to_string(), REMEDY.into());
        Err(Error::DeviceMemory { device, problem, needed: Some(bytes), limit: Some(limit), remedy })
    }

    /// `what` needs `bytes` that are not to be had.
    pub(super) fn shortage(&self, what: &str, bytes: u64) -> Error {
        let pool = self.pool();
        let driver = match self.memory() {
            Some(all) if !pool.would_fit(bytes, all) => format!("the adapter has {} in all", told_bytes(all)),
            Some(all) => format!("the driver has no more of the adapter's {}", told_bytes(all)),
            None => "the driver has no more".into(),
        };
        pool.shortage(self, what, bytes, &driver)
    }

    /// A new buffer of the adapter. Where there is no memory for it, all that wait for reuse are given up first.
    pub(super) fn create_buffer(&self, bytes: u64) -> Result<Raw> {
        self.check()?;
        let most = self.0.description.limits.max_buffer_size;
        if bytes > most {
            let problem = format!(
                "a buffer of {} is needed, and one has at most {}",
                told_bytes(bytes),
                told_bytes(most)
            );
            let (device, remedy) = (self.to_string(), REMEDY.into());
            return Err(Error::DeviceMemory {
                device,
                problem,
                needed: Some(bytes),
                limit: Some(most),
                remedy,
            });
        }
        if let Some(raw) = self.try_buffer(bytes) {
            return Ok(raw);
        }
        // What waits goes back to the adapter together with the bind groups that hold it.
        self.flush()?;
        self.pool().empty();
        self.forget_bind_groups();
        self.wait()?;
        self.try_buffer(bytes).ok_or_else(|| self.shortage("a tensor", bytes))
    }

    fn try_buffer(&self, bytes: u64) -> Option<Raw> {
        if !self.pool().reserve(bytes) {
            return None;
        }
        let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_SRC | wgpu::BufferUsages::COPY_DST;
        let Some(buffer) = self.driver_buffer(bytes, usage) else {
            self.pool().release(bytes);
            return None;
        };
        let id = self.0.next_id.fetch_add(1, Ordering::Relaxed);
        Some(Raw { buffer, id, used_in: 0 })
    }
}
