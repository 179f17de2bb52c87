//! Gated recurrent unit over packed sequences, one launch a step, see `shaders/gru.wgsl`.

use super::matmul::{Epilogue, Matrix, matmul};
use super::shader::{Part, Shader};
use super::{Buffer, Gpu, Launch, View, ViewMut, embedding, grid};
use crate::device::DType;
use crate::{Error, Result};

pub(super) static SHADER: Shader =
    Shader::new("gru", include_str!("../../../shaders/gru.wgsl")).with(&[Part::Math]);

/// Visits and units of a workgroup.
const TILE: usize = 16;

/// What is kept of a cell for backward: r, z, n and the hidden part of n before r gates it.
const KEPT: usize = 4;

/// The recurrence: weights and order of visits.
pub struct Recurrence<'a> {
    gpu: Gpu,
    /// `[3h, h]`, the gates r, z, n below each other.
    w: View<'a>,
    h: usize,
    /// Where each step's visits begin, and the number of visits.
    steps: &'a [usize],
    /// Row of each visit.
    rows: Buffer,
}

/// Buffers in the order of visits that forward leaves for backward.
#[derive(Clone, Copy)]
pub struct Trace<'a> {
    /// `[visits, h]`.
    pub history: View<'a>,
    /// `[visits, 4h]`.
    pub kept: View<'a>,
}

impl<'a> Recurrence<'a> {
    /// With hidden weights `w: [3h, h]`; `steps` and `rows` as `SequenceLayout` has them. An error where a batch is
    /// larger than a binding.
    pub fn new(w: View<'a>, h: usize, steps: &'a [usize], rows: &[u32]) -> Result<Self> {
        let gpu = w.gpu().clone();
        let bytes = (4 * KEPT * h * rows.len()) as u64;
        if bytes > gpu.binding_bytes() {
            let problem = format!(
                "the cells of {} rows take {bytes} bytes, a binding of {gpu} shows {}: train with smaller batches",
                rows.len(),
                gpu.binding_bytes()
            );
            return Err(Error::shape("gru", problem));
        }
        Ok(Recurrence { rows: Buffer::copy_of(&gpu, rows)?, gpu, w, h, steps })
    }

    fn rows(&self) -> View<'_> {
        self.rows.view(0, self.rows.len())
    }

    /// Visits of step `t`: the first and how many.
    fn visits(&self, t: usize) -> (usize, usize) {
        match self.steps.get(t..t + 2) {
            Some(&[from, to]) => (from, to - from),
            _ => (0, 0),
        }
    }

    fn launch(
        &self,
        entry: &'static str,
        t: usize,
        [other, later]: [usize; 2],
        reads: &[View],
        writes: &[ViewMut],
    ) -> Result<()> {
        let (first, active) = self.visits(t);
        let previous = if t > 0 { self.visits(t - 1).0 } else { 0 };
        let words = [self.h, first, active, previous, usize::from(t > 0), other, later];
        self.gpu.launch(&Launch {
            shader: &SHADER,
            entry,
            defines: &[],
            params: &words.map(|word| word as u32),
            reads,
            writes,
            groups: [self.h.div_ceil(TILE) as u32, active.div_ceil(TILE) as u32, 1],
            work: (6 * active * self.h * self.h) as u64,
        })
    }

    /// `gates: [rows, 3h]` is the input's part (with its bias), `bias: [3h]`. Fills `history: [visits, h]` and
    /// `kept: [visits, 4h]`, both in the order of visits, and `y: [rows, h]`. `kept` may be as short as the first step's
    /// part where no backward follows.
    pub fn forward(
        &self,
        gates: View,
        bias: View,
        history: ViewMut,
        kept: ViewMut,
        y: ViewMut,
    ) -> Result<()> {
        let keep_all = kept.len() == self.rows.len() * KEPT * self.h;
        let writes = [history, kept, y];
        for t in 0..self.steps.len() - 1 {
            let kept_first = if keep_all { self.visits(t).0 } else { 0 };
            self.launch("forward", t, [kept_first, 0], &[self.w, self.rows(), bias, gates], &writes)?;
        }
        Ok(())
    }

    /// Gradients in the order of visits: `dhidden: [visits, 3h]` of W·previous + bias, and `dn: [visits, h]` of the
    /// input's part of n. Those of the input's r and z are the first two thirds of `dhidden`.
    pub fn backward(&self, trace: Trace, dy: View, dhidden: ViewMut, dn: ViewMut) -> Result<()> {
        let carry = Buffer::scratch(&self.gpu, DType::F32, self.visits(0).1 * self.h)?;
        let writes = [dhidden, dn, ViewMut(carry.view(0, carry.len()))];
        for t in (0..self.steps.len() - 1).rev() {
            let (later, count) = self.visits(t + 1);
            let reads = [self.w, self.rows(), trace.history, trace.kept, dy];
            self.launch("backward", t, [later, count], &reads, &writes)?;
        }
        Ok(())
    }

    /// Gradient of the input's part, `dgates: [rows, 3h]`, from what [`Self::backward`] gave.
    pub fn input_gradient(&self, dhidden: View, dn: View, dgates: ViewMut) -> Result<()> {
        let (visits, h) = (self.rows.len(), self.h);
        let part = self.gpu.rows_per_part(visits, 3 * h)?;
        for first in (0..visits).step_by(part) {
            let visits = part.min(visits - first);
            self.gpu.launch(&Launch {
                shader: &SHADER,
                entry: "input_gradient",
                defines: &[],
                params: &[h, 0, visits, 0, 0, 0, 0].map(|word| word as u32),
                reads: &[
                    self.rows().part(first, visits),
                    dhidden.part(first * 3 * h, visits * 3 * h),
                    dn.part(first * h, visits * h),
                ],
                // Rows lie anywhere among those of all sequences.
                writes: &[dgates.part(0, dgates.len())],
                groups: grid((3 * visits * h).div_ceil(64)),
                work: (3 * visits * h) as u64,
            })?;
        }
        Ok(())
    }

    /// dW = Σ dhiddenᵀ·previous over all visits but the first step's, whose previous state is 0; `dw: [3h, h]`.
    pub fn backward_weight(&self, history: View, dhidden: View, dw: ViewMut) -> Result<()> {
        let h = self.h;
        let (_, first) = self.visits(0);
        let before = |t: usize| self.visits(t - 1).0..self.visits(t - 1).0 + self.visits(t).1;
        let visits: Vec<u32> =
            (1..self.steps.len().max(2) - 1).flat_map(before).map(|visit| visit as u32).collect();
        let ids = Buffer::copy_of(&self.gpu, &visits)?;
        let previous = Buffer::scratch(&self.gpu, DType::F32, visits.len() * h)?;
        fn all(buffer: &Buffer) -> View<'_> {
            buffer.view(0, buffer.len())
        }
        embedding::gather(all(&ids), &[history], h, ViewMut(all(&previous)))?;
        let dhidden = dhidden.part_anywhere(first * 3 * h, visits.len() * 3 * h)?;
        let dhidden = Matrix { data: dhidden.view(), transposed: true };
        let previous = Matrix { data: all(&previous), transposed: false };
        matmul(dhidden, previous, dw, [3 * h, h, visits.len()], Epilogue::default())
    }
}
