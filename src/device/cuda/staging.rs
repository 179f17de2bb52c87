//! Uploads by way of pinned memory. From memory of any other kind the driver copies more than a few kilobytes only once the
//! stream is empty: the host would wait for all work asked for before, in every upload.

use super::context::{Cuda, lock};
use crate::Result;
use crate::device::size_class::size_class;
use cudarc::driver::sys::{self, CUevent};
use std::collections::VecDeque;

/// Bytes from which on an upload is staged: the driver takes a copy of less without waiting.
const LEAST: usize = 32 << 10;
/// Most bytes of a staged upload; what is larger (weights) is read once, and waits.
const MOST: usize = 8 << 20;
/// Pinned memory that a device may have together. The host waits where all of it is under way.
const LIMIT: u64 = 64 << 20;

/// Pinned memory, in the order in which it was last used.
#[derive(Default)]
pub(super) struct Staging {
    blocks: VecDeque<Block>,
    /// Bytes of all blocks.
    bytes: u64,
}

struct Block {
    /// Its address in host memory, which the device sees too.
    host: *mut u8,
    bytes: u64,
    /// Behind the copy from it.
    copied: CUevent,
}

// SAFETY: the memory is the block's own, and the driver's handles may be used from any thread in whose context they are.
unsafe impl Send for Block {}

impl Staging {
    /// Returns all of it to the driver. Nothing that runs may read it.
    pub(super) fn empty(&mut self) {
        for block in self.blocks.drain(..) {
            block.free();
        }
        self.bytes = 0;
    }

    /// A block of at least `bytes`, and at most twice as much, that no copy reads any more; `None` where the driver gives no pinned memory.
    fn take(&mut self, cuda: &Cuda, bytes: u64) -> Result<Option<Block>> {
        let oldest = self.blocks.iter().position(|block| (bytes..=2 * bytes).contains(&block.bytes));
        if let Some(at) = oldest {
            let is_free = self.blocks[at].is_free(cuda)?;
            if is_free || self.bytes + bytes > LIMIT {
                let block = self.blocks.remove(at).expect("it was found there");
                let event = block.copied;
                if !is_free {
                    // SAFETY: the event lives as long as its block.
                    cuda.call(|_| unsafe { sys::cuEventSynchronize(event) })?;
                }
                self.bytes -= block.bytes;
                return Ok(Some(block));
            }
        }
        if self.bytes + bytes > LIMIT {
            // Of other sizes than are asked for today.
            cuda.synchronize()?;
            self.empty();
        }
        Block::new(cuda, bytes)
    }
}

impl Block {
    fn new(cuda: &Cuda, bytes: u64) -> Result<Option<Self>> {
        let (mut host, mut copied) = (std::ptr::null_mut(), std::ptr::null_mut());
        // SAFETY: the places are ours. Without CU_EVENT_DEFAULT's times an event costs less.
        unsafe {
            if cuda.call(|_| sys::cuMemHostAlloc(&mut host, bytes as usize, 0)).is_err() {
                return Ok(None);
            }
            let untimed = sys::CUevent_flags::CU_EVENT_DISABLE_TIMING as u32;
            if let Err(error) = cuda.call(|_| sys::cuEventCreate(&mut copied, untimed)) {
                sys::cuMemFreeHost(host);
                return Err(error);
            }
        }
        Ok(Some(Block { host: host.cast(), bytes, copied }))
    }

    /// Whether the copy from it is done.
    fn is_free(&self, cuda: &Cuda) -> Result<bool> {
        let mut done = true;
        cuda.call(|_| {
            // SAFETY: the event lives as long as the block.
            let answer = unsafe { sys::cuEventQuery(self.copied) };
            done = answer != sys::CUresult::CUDA_ERROR_NOT_READY;
            if done { answer } else { sys::CUresult::CUDA_SUCCESS }
        })?;
        Ok(done)
    }

    fn free(self) {
        // SAFETY: both are of the driver, and no copy reads the memory. A dying driver's answer changes nothing.
        unsafe {
            sys::cuEventDestroy_v2(self.copied);
            sys::cuMemFreeHost(self.host.cast());
        }
    }
}

impl Cuda {
    /// Asks for a copy of `data` to `address` on the device, which has that many bytes. The data may change when this returns.
    pub(super) fn upload(&self, address: u64, data: &[u8]) -> Result<()> {
        let copy = |from: *const u8| {
            // SAFETY: both sides have that many bytes; `from` is pinned memory that stays until its event has passed, or memory of
            // which the driver takes a copy before it returns.
            self.call(|stream| unsafe { sys::cuMemcpyHtoDAsync_v2(address, from.cast(), data.len(), stream) })
        };
        if !(LEAST..=MOST).contains(&data.len()) {
            return if data.is_empty() { Ok(()) } else { copy(data.as_ptr()) };
        }
        let mut staging = lock(&self.0.staging);
        let Some(block) = staging.take(self, size_class(data.len() as u64))? else {
            return copy(data.as_ptr());
        };
        // SAFETY: the block has at least that many bytes, and nobody else reads or writes it now.
        unsafe { std::ptr::copy_nonoverlapping(data.as_ptr(), block.host, data.len()) };
        // SAFETY: event and stream are of one context and live.
        let asked = copy(block.host)
            .and_then(|()| self.call(|stream| unsafe { sys::cuEventRecord(block.copied, stream) }));
        staging.bytes += block.bytes;
        staging.blocks.push_back(block);
        asked
    }
}
