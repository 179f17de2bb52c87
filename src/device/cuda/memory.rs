//! Memory of a CUDA device: how much its tensors hold, how much they may, and what is done where there is no more.

use super::context::Cuda;
use crate::device::pool::Pool;
use crate::device::size_class::size_class;
use crate::error::told_bytes;
use crate::{Error, Result};
use cudarc::driver::sys;
use std::sync::MutexGuard;

/// The pool keeps at most this share of the device's memory.
const POOL_SHARE: u64 = 2;

/// Device memory: its address and its bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Memory {
    pub address: u64,
    pub bytes: u64,
}

impl Memory {
    fn free(self) {
        // SAFETY: it was allocated by the driver, and nothing that runs uses it. A dying driver's answer changes nothing.
        unsafe { sys::cuMemFree_v2(self.address) };
    }
}

/// Returns all that waits in the pool to the driver. Nothing that runs may use it.
pub(super) fn empty(pool: &mut Pool<Memory>) {
    pool.empty().into_iter().for_each(Memory::free);
}

impl Cuda {
    /// Allows its tensors `bytes` together, those that wait for reuse included. More than that is
    /// [`Error::DeviceMemory`], as it is where the driver has no more. What the driver and kernels need themselves is not
    /// counted.
    pub fn limit_memory(&self, bytes: u64) {
        self.pool().set_limit(bytes);
    }

    /// Bytes of its tensors: those in use, and those that wait for reuse.
    pub fn memory_held(&self) -> u64 {
        self.pool().held()
    }

    /// An error in the name of `what` where there is no room for `bytes` more beside what is in use.
    pub fn expect_room(&self, what: &str, bytes: u64) -> Result<()> {
        let free = self.free_memory()?.0;
        let pool = self.pool();
        let enough = free.saturating_add(pool.waiting()) >= bytes && !pool.forbids(bytes);
        drop(pool);
        if enough { Ok(()) } else { Err(self.shortage(what, bytes)) }
    }

    /// Bytes that the driver still has, and all there are.
    fn free_memory(&self) -> Result<(u64, u64)> {
        let (mut free, mut all) = (0, 0);
        // SAFETY: the places are ours.
        self.call(|_| unsafe { sys::cuMemGetInfo_v2(&mut free, &mut all) })?;
        Ok((free as u64, all as u64))
    }

    /// `what` needs `bytes` that are not to be had.
    fn shortage(&self, what: &str, bytes: u64) -> Error {
        let driver = match self.free_memory() {
            Ok((free, all)) => format!("{} of the device's {} are free", told_bytes(free), told_bytes(all)),
            Err(_) => "the driver has no more".into(),
        };
        self.pool().shortage(self, what, bytes, &driver)
    }

    /// Memory of at least `bytes`: from the pool, else from the driver, else from the driver once the pool is empty.
    pub(super) fn allocate(&self, bytes: u64) -> Result<Memory> {
        let bytes = if self.0.exact { bytes } else { size_class(bytes) };
        if bytes == 0 {
            return Ok(Memory { address: 0, bytes: 0 });
        }
        // The lock is let go before more is made.
        let free = self.pool().take(bytes, |_| true);
        if let Some(found) = free {
            return Ok(found);
        }
        if let Some(made) = self.make(bytes)? {
            return Ok(made);
        }
        self.synchronize()?;
        empty(&mut self.pool());
        self.make(bytes)?.ok_or_else(|| self.shortage("a tensor", bytes))
    }

    /// New memory, unless the driver has no more or no more is allowed.
    fn make(&self, bytes: u64) -> Result<Option<Memory>> {
        if !self.pool().reserve(bytes) {
            return Ok(None);
        }
        let mut address = 0;
        // SAFETY: the place is ours.
        let answer = self.call(|_| unsafe { sys::cuMemAlloc_v2(&mut address, bytes as usize) });
        if answer.is_err() {
            self.pool().release(bytes);
        }
        match answer {
            Ok(()) => Ok(Some(Memory { address, bytes })),
            Err(Error::DeviceMemory { .. }) => Ok(None),
            Err(other) => Err(other),
        }
    }

    /// Takes memory back, for reuse. Where too much waits, all that waited before goes to the driver, so that the sizes of
    /// today replace those of yesterday.
    pub(super) fn give_back(&self, memory: Memory) {
        if memory.bytes == 0 {
            return;
        }
        if self.0.exact {
            let _ = self.synchronize();
            memory.free();
            self.pool().release(memory.bytes);
            return;
        }
        let most = self.description().memory / POOL_SHARE;
        let mut pool: MutexGuard<Pool<Memory>> = self.pool();
        if pool.is_full(memory.bytes, most) && self.synchronize().is_ok() {
            empty(&mut pool);
        }
        pool.give(memory.bytes, memory.address, memory);
    }
}
