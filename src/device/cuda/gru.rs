//! Gated recurrent unit over packed sequences, one launch a step, see `kernels/gru.cu`.

use super::each::each;
use super::matmul::{Epilogue, Matrix, matmul};
use super::{Arg, Buffer, Cuda, Launch, View, ViewMut, embedding};
use crate::Result;
use crate::device::DType;

/// Visits and units of a block.
const TILE: usize = 16;

/// What is kept of a cell for backward: r, z, n and the hidden part of n before r gates it.
const KEPT: usize = 4;

/// The recurrence: weights and order of visits.
pub struct Recurrence<'a> {
    cuda: Cuda,
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
    /// With hidden weights `w: [3h, h]`; `steps` and `rows` as `SequenceLayout` has them.
    pub fn new(w: View<'a>, h: usize, steps: &'a [usize], rows: &[u32]) -> Result<Self> {
        let cuda = w.cuda().clone();
        Ok(Recurrence { rows: Buffer::copy_of(&cuda, rows)?, cuda, w, h, steps })
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

    fn launch(&self, kernel: &'static str, t: usize, others: &[usize], tensors: &[Arg]) -> Result<()> {
        let (first, active) = self.visits(t);
        let previous = if t > 0 { self.visits(t - 1).0 } else { 0 };
        let step = [self.h.into(), first.into(), active.into(), previous.into(), u32::from(t > 0).into()];
        let others: Vec<Arg> = others.iter().map(|&other| other.into()).collect();
        let weights = [self.w.into(), self.rows().into()];
        self.cuda.launch(&Launch {
            file: "gru",
            kernel,
            grid: [self.h.div_ceil(TILE), active.div_ceil(TILE), 1],
            threads: (TILE * TILE) as u32,
            shared: 0,
            args: &[&step[..], &others, &weights, tensors].concat(),
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
        let tensors = [bias.into(), gates.into(), (&history).into(), (&kept).into(), (&y).into()];
        for t in 0..self.steps.len() - 1 {
            let kept_first = if keep_all { self.visits(t).0 } else { 0 };
            self.launch("lea_gru_forward", t, &[kept_first], &tensors)?;
        }
        Ok(())
    }

    /// Gradients in the order of visits: `dhidden: [visits, 3h]` of W·previous + bias, and `dn: [visits, h]` of the
    /// input's part of n. Those of the input's r and z are the first two thirds of `dhidden`.
    pub fn backward(&self, trace: Trace, dy: View, dhidden: ViewMut, dn: ViewMut) -> Result<()> {
        let carry = Buffer::scratch(&self.cuda, DType::F32, self.visits(0).1 * self.h)?;
        let carry = carry.view(0, carry.len()).into();
        let kept = [trace.history.into(), trace.kept.into(), dy.into()];
        let tensors = [&kept[..], &[(&dhidden).into(), (&dn).into(), carry]].concat();
        for t in (0..self.steps.len() - 1).rev() {
            let (later, count) = self.visits(t + 1);
            self.launch("lea_gru_backward", t, &[later, count], &tensors)?;
        }
        Ok(())
    }

    /// Gradient of the input's part, `dgates: [rows, 3h]`, from what [`Self::backward`] gave.
    pub fn input_gradient(&self, dhidden: View, dn: View, dgates: ViewMut) -> Result<()> {
        let args = [self.h.into(), self.rows().into(), dhidden.into(), dn.into(), (&dgates).into()];
        each(&self.cuda, "gru", "lea_gru_input_gradient", dgates.len(), &args)
    }

    /// dW = Σ dhiddenᵀ·previous over all visits but the first step's, whose previous state is 0; `dw: [3h, h]`.
    pub fn backward_weight(&self, history: View, dhidden: View, dw: ViewMut) -> Result<()> {
        let h = self.h;
        let (_, first) = self.visits(0);
        let before = |t: usize| self.visits(t - 1).0..self.visits(t - 1).0 + self.visits(t).1;
        let visits: Vec<u32> =
            (1..self.steps.len().max(2) - 1).flat_map(before).map(|visit| visit as u32).collect();
        let ids = Buffer::copy_of(&self.cuda, &visits)?;
        let previous = Buffer::scratch(&self.cuda, DType::F32, visits.len() * h)?;
        fn all(buffer: &Buffer) -> View<'_> {
            buffer.view(0, buffer.len())
        }
        embedding::gather(all(&ids), &[history], h, previous.view_mut(0, previous.len()))?;
        let dhidden = dhidden.part(first * 3 * h, visits.len() * 3 * h);
        let dhidden = Matrix { data: dhidden, transposed: true };
        let previous = Matrix { data: all(&previous), transposed: false };
        matmul(dhidden, previous, dw, [3 * h, h, visits.len()], Epilogue::default())
    }
}
