//! Launches with all that they read, for replaying them elsewhere: in a browser, in a profiler, in a report of a defect.

use super::context::Gpu;
use super::launch::Launch;
use super::shader::Dialect;
use crate::Result;
use serde::Serialize;
use std::sync::{Mutex, PoisonError};

/// One launch. Storage is in words of 4 bytes, as it was before the launch.
#[derive(Clone, Debug, Serialize)]
pub struct Traced {
    /// The file's name.
    pub shader: &'static str,
    /// The text that browsers compile.
    pub text: String,
    /// The function in it.
    pub entry: &'static str,
    /// Words of the uniform struct.
    pub params: Vec<u32>,
    /// Workgroups in each direction.
    pub groups: [u32; 3],
    /// Storage that is read, binding by binding.
    pub reads: Vec<Vec<u32>>,
    /// Storage that is written, behind `reads`.
    pub writes: Vec<Vec<u32>>,
}

/// Where launches are noted while somebody traces.
#[derive(Debug, Default)]
pub(super) struct Trace(Mutex<Option<Vec<Traced>>>);

impl Gpu {
    /// Runs `work` and returns all its launches. Slow: every launch waits for those before it, and is read back whole.
    pub fn traced<T>(&self, work: impl FnOnce() -> Result<T>) -> Result<(T, Vec<Traced>)> {
        let place = || self.0.trace.0.lock().unwrap_or_else(PoisonError::into_inner);
        *place() = Some(Vec::new());
        let result = work();
        let launches = place().take().unwrap_or_default();
        Ok((result?, launches))
    }

    /// Notes a launch that is about to be recorded, if somebody traces.
    pub(super) fn trace(&self, launch: &Launch) -> Result<()> {
        if self.0.trace.0.lock().unwrap_or_else(PoisonError::into_inner).is_none() {
            return Ok(());
        }
        let words = |view: &super::View| {
            let (offset, bytes) = view.bytes();
            let bytes = self.read_back(view.buffer.raw(), offset, bytes)?;
            Ok(bytemuck::pod_collect_to_vec::<u8, u32>(&bytes))
        };
        let traced = Traced {
            shader: launch.shader.name,
            text: launch.shader.text(self.tier()?, launch.defines, Dialect::Browser),
            entry: launch.entry,
            params: launch.params.to_vec(),
            groups: launch.groups,
            reads: launch.reads.iter().map(words).collect::<Result<_>>()?,
            writes: launch.writes.iter().map(|w| words(&w.0)).collect::<Result<_>>()?,
        };
        if let Some(launches) = &mut *self.0.trace.0.lock().unwrap_or_else(PoisonError::into_inner) {
            launches.push(traced);
        }
        Ok(())
    }
}
