//! Gated recurrent unit over packed sequences, the recurrence of `torch.nn.GRU` (Cho et al., arXiv 1406.1078, with the
//! reset gate applied after the product):
//!
//! ```text
//! r = σ(xᵣ + Wᵣh + bᵣ)   z = σ(x_z + W_z h + b_z)   n = tanh(xₙ + r·(Wₙh + bₙ))   h' = (1 − z)·n + z·h
//! ```
//!
//! FLOPs 6·rows·h² and some 30·rows·h; bytes of gates, weights and states. Backward the same for the states, and
//! 6·rows·h² for the weights; bytes of what was kept, of the weights and of the gradients.

use super::add::sum_rows;
use super::sequence_layout::SequenceLayout;
use super::{Cost, Op, Saved, bytes_of, expect_alike, expect_shape, float_type};
use crate::device::{Device, cpu, cuda, webgpu};
use crate::tensor::Tensor;
use crate::{Error, Result};
use cpu::gru::{KEPT, Recurrence, Trace};
use std::sync::Arc;

/// Inputs: gates `[rows, 3h]` = x·W_ihᵀ + b_ih in the order r, z, n; W_hh `[3h, h]`; b_hh `[3h]`. Output: the state after
/// every row `[rows, h]`; a sequence starts at state 0.
#[derive(Clone, Debug)]
pub struct Gru {
    layout: Arc<SequenceLayout>,
    /// States `[rows, h]` and cells `[rows, 4h]` in the order of visits, kept for backward.
    kept: Option<(Tensor, Tensor)>,
}

impl Gru {
    /// Over sequences that lie in the rows as `layout` says.
    pub fn new(layout: Arc<SequenceLayout>) -> Self {
        Gru { layout, kept: None }
    }

    fn recurrence<'a, T: cpu::Float>(&'a self, w: &'a Tensor, bias: &'a [T]) -> Recurrence<'a, T> {
        let (steps, rows) = (self.layout.steps(), self.layout.rows_by_step());
        Recurrence { w: w.host(), bias, h: w.shape()[1], steps, rows }
    }

    /// (rows, h), checked.
    fn dims(&self, inputs: &[&Tensor]) -> Result<(usize, usize)> {
        let (rows, width) = inputs[0].dims2("gru")?;
        let (_, h) = inputs[1].dims2("gru")?;
        expect_alike("gru", inputs)?;
        if rows != self.layout.rows() || width != 3 * h || h == 0 {
            let problem = format!(
                "gates {:?} for {} rows of sequences and hidden width {h}, expected [rows, 3·width]",
                inputs[0].shape(),
                self.layout.rows()
            );
            return Err(Error::shape("gru", problem));
        }
        expect_shape("gru", "the hidden weight", inputs[1], &[3 * h, h])?;
        expect_shape("gru", "the hidden bias", inputs[2], &[3 * h])?;
        Ok((rows, h))
    }
}

impl Op for Gru {
    fn name(&self) -> &'static str {
        "gru"
    }

    fn forward(&mut self, inputs: &[&Tensor], record: bool) -> Result<Tensor> {
        let (rows, h) = self.dims(inputs)?;
        let gates = inputs[0];
        let kept_rows = if record { rows } else { self.layout.steps().get(1).copied().unwrap_or(0) };
        let scratch = |shape: &[usize]| Tensor::scratch(gates.device(), gates.dtype(), shape);
        let (mut y, mut history) = (scratch(&[rows, h])?, scratch(&[rows, h])?);
        let mut kept = scratch(&[kept_rows, KEPT * h])?;
        match gates.device() {
            Device::Cuda(_) => {
                let (gates, w, bias) = (gates.cuda(), inputs[1].cuda(), inputs[2].cuda());
                let (steps, rows) = (self.layout.steps(), self.layout.rows_by_step());
                cuda::gru::Recurrence::new(w, h, steps, rows)?.forward(
                    gates,
                    bias,
                    history.cuda_mut()?,
                    kept.cuda_mut()?,
                    y.cuda_mut()?,
                )?;
            }
            Device::WebGpu(_) => {
                let (gates, w, bias) = (gates.gpu()?, inputs[1].gpu()?, inputs[2].gpu()?);
                let (steps, rows) = (self.layout.steps(), self.layout.rows_by_step());
                webgpu::gru::Recurrence::new(w.view(), h, steps, rows)?.forward(
                    gates.view(),
                    bias.view(),
                    history.gpu_mut()?,
                    kept.gpu_mut()?,
                    y.gpu_mut()?,
                )?;
            }
            Device::Cpu => float_type!("gru", gates, T => {
                let of = self.recurrence::<T>(inputs[1], inputs[2].host());
                cpu::gru::forward(of, gates.host(), history.host_mut(), kept.host_mut(), y.host_mut());
                Ok(())
            })?,
        }
        self.kept = record.then_some((history, kept));
        Ok(y)
    }

    fn backward(&self, saved: &Saved, grad: &Tensor) -> Result<Vec<Option<Tensor>>> {
        let (rows, h) = grad.dims2("gru")?;
        let w = saved.input(1);
        let (history, kept) = self.kept.as_ref().expect("forward was recorded");
        let scratch = |shape: &[usize]| Tensor::scratch(grad.device(), grad.dtype(), shape);
        let (mut dhidden, mut dn) = (scratch(&[rows, 3 * h])?, scratch(&[rows, h])?);
        let (mut dgates, mut dw) = (scratch(&[rows, 3 * h])?, scratch(&[3 * h, h])?);
        match grad.device() {
            Device::Cuda(_) => {
                let (w, history, kept, dy) = (w.cuda(), history.cuda(), kept.cuda(), grad.cuda());
                let (steps, rows) = (self.layout.steps(), self.layout.rows_by_step());
                let of = cuda::gru::Recurrence::new(w, h, steps, rows)?;
                let trace = cuda::gru::Trace { history, kept };
                of.backward(trace, dy, dhidden.cuda_mut()?, dn.cuda_mut()?)?;
                let (dhidden, dn) = (dhidden.cuda(), dn.cuda());
                if saved.needs[0] {
                    of.input_gradient(dhidden, dn, dgates.cuda_mut()?)?;
                }
                if saved.needs[1] {
                    of.backward_weight(history, dhidden, dw.cuda_mut()?)?;
                }
            }
            Device::WebGpu(_) => {
                let (w, history, kept, dy) = (w.gpu()?, history.gpu()?, kept.gpu()?, grad.gpu()?);
                let (steps, rows) = (self.layout.steps(), self.layout.rows_by_step());
                let of = webgpu::gru::Recurrence::new(w.view(), h, steps, rows)?;
                let trace = webgpu::gru::Trace { history: history.view(), kept: kept.view() };
                of.backward(trace, dy.view(), dhidden.gpu_mut()?, dn.gpu_mut()?)?;
                let (dhidden, dn) = (dhidden.gpu()?, dn.gpu()?);
                if saved.needs[0] {
                    of.input_gradient(dhidden.view(), dn.view(), dgates.gpu_mut()?)?;
                }
                if saved.needs[1] {
                    of.backward_weight(history.view(), dhidden.view(), dw.gpu_mut()?)?;
                }
            }
            Device::Cpu => float_type!("gru", grad, T => {
                let of = self.recurrence::<T>(w, &[]);
                let trace = Trace { history: history.host::<T>(), kept: kept.host(), dy: grad.host() };
                cpu::gru::backward(of, trace, dhidden.host_mut(), dn.host_mut());
                if saved.needs[0] {
                    cpu::gru::input_gradient(of, dhidden.host(), dn.host(), dgates.host_mut());
                }
                if saved.needs[1] {
                    cpu::gru::backward_weight(of, trace.history, dhidden.host(), dw.host_mut());
                }
                Ok(())
            })?,
        }
        let dbias = if saved.needs[2] { Some(sum_rows(&dhidden)?) } else { None };
        Ok(vec![saved.needs[0].then_some(dgates), saved.needs[1].then_some(dw), dbias])
    }

    fn cost(&self, inputs: &[&Tensor]) -> Cost {
        let (rows, h) = (inputs[0].shape()[0], inputs[1].shape()[1]);
        let flops = 6 * rows * h * h + 30 * rows * h;
        Cost { flops: flops as u64, bytes: bytes_of(inputs) + (rows * h * inputs[0].dtype().size()) as u64 }
    }

    fn backward_cost(&self, saved: &Saved, grad: &Tensor) -> Cost {
        let (len, w) = (grad.len(), saved.input(1));
        let h = w.shape()[1];
        let products = 6 * len * h * (1 + usize::from(saved.needs[1]));
        let kept = self.kept.as_ref().map_or(0, |(history, kept)| bytes_of(&[history, kept]));
        let gates = if saved.needs[0] { 3 * bytes_of(&[grad]) } else { 0 };
        let dw = if saved.needs[1] { bytes_of(&[w]) } else { 0 };
        Cost { flops: (products + 30 * len) as u64, bytes: kept + bytes_of(&[grad, w]) + gates + dw }
    }

    fn keeps_input(&self, index: usize, _needs: &[bool]) -> bool {
        index == 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::autograd::gradcheck;

    fn layout(lengths: &[usize]) -> Arc<SequenceLayout> {
        Arc::new(SequenceLayout::new(lengths).unwrap())
    }

    fn inputs(rows: usize, h: usize) -> [Tensor; 3] {
        [
            gradcheck::random(&[rows, 3 * h], 1),
            gradcheck::random(&[3 * h, h], 2),
            gradcheck::random(&[3 * h], 3),
        ]
    }

    #[test]
    fn gradients_match_finite_differences() {
        for (lengths, h) in
            [(&[1][..], 1), (&[3, 0, 1, 4, 4], 3), (&[1, 1, 1], 2), (&[2, 5], 9), (&[0], 2), (&[], 2)]
        {
            let layout = layout(lengths);
            gradcheck::op(|| Gru::new(layout.clone()), &inputs(layout.rows(), h));
        }
    }

    /// The module's formula, one row at a time.
    fn plain(gates: &[f64], w: &[f64], bias: &[f64], lengths: &[usize], h: usize) -> Vec<f64> {
        let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
        let (mut states, mut row) = (Vec::new(), 0);
        for &length in lengths {
            let mut state = vec![0.0; h];
            for _ in 0..length {
                let x = &gates[row * 3 * h..];
                let hidden: Vec<f64> = (0..3 * h)
                    .map(|g| bias[g] + (0..h).map(|j| w[g * h + j] * state[j]).sum::<f64>())
                    .collect();
                for j in 0..h {
                    let r = sigmoid(x[j] + hidden[j]);
                    let z = sigmoid(x[h + j] + hidden[h + j]);
                    let n = (x[2 * h + j] + r * hidden[2 * h + j]).tanh();
                    state[j] = (1.0 - z) * n + z * state[j];
                }
                states.extend_from_slice(&state);
                row += 1;
            }
        }
        states
    }

    #[test]
    fn states_equal_the_plain_recurrence() {
        let (lengths, h) = ([3, 7, 0, 1, 7, 2], 5);
        let [gates, w, bias] = inputs(20, h);
        let found = Gru::new(layout(&lengths)).forward(&[&gates, &w, &bias], false).unwrap();
        let [gates, w, bias] = [gates, w, bias].map(|t| t.to_f64_vec().unwrap());
        let want = plain(&gates, &w, &bias, &lengths, h);
        for (i, (found, want)) in found.to_f64_vec().unwrap().iter().zip(want).enumerate() {
            assert!((found - want).abs() < 1e-12, "element {i}: {found} {want}");
        }
    }

    #[test]
    fn a_sequence_has_the_same_bits_whatever_sequences_stand_beside_it() {
        let h = 16;
        let lengths: Vec<usize> = (0..100).map(|i| 1 + i * 7 % 12).collect();
        let together = layout(&lengths);
        let to_f32 = |t: &Tensor| {
            let data: Vec<f32> = t.to_f64_vec().unwrap().iter().map(|&v| v as f32).collect();
            Tensor::from_slice(&Device::Cpu, &data, t.shape()).unwrap()
        };
        let [gates, w, bias] = inputs(together.rows(), h).map(|t| to_f32(&t));
        let all = Gru::new(together.clone()).forward(&[&gates, &w, &bias], false).unwrap();
        for sequence in [0, 11, 57, 99] {
            let range = together.range(sequence);
            let own = gates.rows(range.clone()).unwrap();
            let alone = Gru::new(layout(&[range.len()])).forward(&[&own, &w, &bias], true).unwrap();
            let want = all.rows(range).unwrap().to_vec::<f32>().unwrap();
            assert!(alone.to_vec::<f32>().unwrap() == want, "sequence {sequence}");
        }
    }

    #[test]
    fn rows_and_widths_must_fit_the_layout() {
        let [gates, w, bias] = inputs(4, 2);
        let error = Gru::new(layout(&[3])).forward(&[&gates, &w, &bias], false).unwrap_err().to_string();
        assert!(error.contains("3 rows of sequences"), "{error}");
        assert!(Gru::new(layout(&[4])).forward(&[&gates, &w, &gradcheck::random(&[5], 4)], false).is_err());
    }
}
