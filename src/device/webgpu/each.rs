//! Launches of kernels that compute each element from those at its own place.

use super::shader::{LANES, Shader};
use super::{Launch, View, ViewMut, grid};
use crate::Result;

/// A kernel with one invocation an element, see `shaders/common/each.wgsl`. Its uniform struct starts with `len`, the
/// elements of this launch, and the number of the first of their rows.
pub(super) struct Each<'a> {
    pub shader: &'static Shader,
    pub entry: &'static str,
    pub defines: &'a [(&'static str, u32)],
    /// Words of the uniform struct after the first two.
    pub params: &'a [u32],
    /// What every element may read: bound whole, before the others.
    pub whole: &'a [View<'a>],
    /// Read at the element's place.
    pub reads: &'a [View<'a>],
    /// Written at the element's place; at least one. All have the length of the first.
    pub writes: &'a [ViewMut<'a>],
    /// Elements that must stay together.
    pub row: usize,
    /// Floating-point operations an element.
    pub work: u64,
}

impl Each<'_> {
    /// A kernel without operands yet.
    pub const fn of(shader: &'static Shader, entry: &'static str) -> Self {
        Each {
            shader,
            entry,
            defines: &[],
            params: &[],
            whole: &[],
            reads: &[],
            writes: &[],
            row: 1,
            work: 1,
        }
    }

    /// Records it, in as many parts as bindings need.
    pub fn launch(&self) -> Result<()> {
        let (gpu, len, row) = (self.writes[0].gpu(), self.writes[0].len(), self.row.max(1));
        let part = gpu.rows_per_part(len.div_ceil(row), row)? * row;
        for first in (0..len).step_by(part) {
            let len = part.min(len - first);
            let mut params = vec![len as u32, (first / row) as u32];
            params.extend_from_slice(self.params);
            let reads = self.reads.iter().map(|read| read.part(first, len));
            let writes: Vec<ViewMut> = self.writes.iter().map(|write| write.part(first, len)).collect();
            gpu.launch(&Launch {
                shader: self.shader,
                entry: self.entry,
                defines: self.defines,
                params: &params,
                reads: &self.whole.iter().copied().chain(reads).collect::<Vec<_>>(),
                writes: &writes,
                groups: grid(len.div_ceil(LANES.1 as usize)),
                work: self.work * len as u64,
            })?;
        }
        Ok(())
    }
}
