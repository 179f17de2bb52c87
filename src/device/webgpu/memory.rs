//! Memory of an adapter: how much its buffers hold, how much they may, and what is done where there is no more.

use super::Gpu;
use super::buffer::Raw;
use crate::device::pool::REMEDY;
use crate::error::told_bytes;
use crate::{Error, Result};
use std::sync::atomic::Ordering;

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

    /// An error in the name of `what` unless `bytes` more are allowed beside what is in use. Where no limit is set this
    /// says nothing: wgpu does not tell how much there is.
    pub fn expect_room(&self, what: &str, bytes: u64) -> Result<()> {
        let forbidden = self.pool().forbids(bytes);
        if forbidden { Err(self.shortage(what, bytes)) } else { Ok(()) }
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
        self.pool().shortage(self, what, bytes, "the driver has no more")
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
