//! Softmax cross-entropy against one target a row: lossᵢ = log Σⱼ exp(xᵢⱼ) − xᵢₜ. No probabilities are stored:
//! backward recomputes them from the log sums. About 10 FLOPs an element; bytes of the logits.

use super::{Cost, Op, Saved, bytes_of, expect_ids, expect_shape, float_type};
use crate::Result;
use crate::device::{Device, cpu, cuda, webgpu};
use crate::tensor::Tensor;
use cpu::cross_entropy::Logits;

/// FLOPs of one exponential and its sum, for cost formulas.
pub(super) const FLOPS_PER_LOGIT: u64 = 10;

/// Input: logits `[rows, columns]`; output: losses `[rows]`, neither summed nor weighted.
#[derive(Clone, Debug)]
pub struct CrossEntropy {
    targets: Tensor,
    /// log Σ exp of every row, kept for backward.
    log_sums: Option<Tensor>,
}

impl CrossEntropy {
    /// Target columns, u32 `[rows]`.
    pub fn new(targets: Tensor) -> Self {
        CrossEntropy { targets, log_sums: None }
    }

    fn rows(&self) -> Rows<'_> {
        Rows { op: "cross_entropy", targets: &self.targets, mask: None, scale: 1.0 }
    }
}

impl Op for CrossEntropy {
    fn name(&self) -> &'static str {
        "cross_entropy"
    }

    fn forward(&mut self, inputs: &[&Tensor], record: bool) -> Result<Tensor> {
        let (losses, log_sums) = self.rows().forward(inputs[0])?;
        self.log_sums = record.then_some(log_sums);
        Ok(losses)
    }

    fn backward(&self, saved: &Saved, grad: &Tensor) -> Result<Vec<Option<Tensor>>> {
        let log_sums = self.log_sums.as_ref().expect("forward was recorded");
        Ok(vec![Some(self.rows().backward(saved.input(0), log_sums, grad)?)])
    }

    fn cost(&self, inputs: &[&Tensor]) -> Cost {
        self.rows().cost(inputs[0], 1)
    }

    fn backward_cost(&self, saved: &Saved, _grad: &Tensor) -> Cost {
        self.rows().cost(saved.input(0), 2)
    }
}

/// Cross-entropy of the rows of `scale · x` over the columns that `mask` leaves; what [`CrossEntropy`] and
/// `InfoNce` share.
pub(super) struct Rows<'a> {
    /// Name for errors.
    pub op: &'static str,
    /// u32 `[rows]`.
    pub targets: &'a Tensor,
    /// u32 `[rows, columns]`, 0 where a column does not count.
    pub mask: Option<&'a Tensor>,
    /// Factor on x.
    pub scale: f64,
}

impl Rows<'_> {
    /// Of a pass over `x` that reads it, and with 2 `passes` writes as much.
    pub fn cost(&self, x: &Tensor, passes: u64) -> Cost {
        let rows = (self.targets.len() * x.dtype().size()) as u64;
        let mask = self.mask.map_or(0, |mask| bytes_of(&[mask]));
        Cost { flops: FLOPS_PER_LOGIT * x.len() as u64, bytes: passes * bytes_of(&[x]) + rows + mask }
    }

    /// Losses and log sums, both `[rows]`.
    pub fn forward(&self, x: &Tensor) -> Result<(Tensor, Tensor)> {
        let (rows, columns) = x.dims2(self.op)?;
        expect_shape(self.op, "the targets tensor", self.targets, &[rows])?;
        expect_ids(self.op, self.targets, x, columns)?;
        let mut losses = Tensor::scratch(x.device(), x.dtype(), &[rows])?;
        let mut log_sums = Tensor::scratch(x.device(), x.dtype(), &[rows])?;
        match x.device() {
            Device::Cuda(_) => {
                cuda::cross_entropy::forward(self.on_cuda(x), losses.cuda_mut()?, log_sums.cuda_mut()?)?;
            }
            Device::WebGpu(_) => self.on_gpu(x, |logits| {
                webgpu::cross_entropy::forward(logits, losses.gpu_mut()?, log_sums.gpu_mut()?)
            })?,
            Device::Cpu => float_type!(self.op, x, T => {
                let (targets, losses) = (self.targets.host(), losses.host_mut::<T>());
                cpu::cross_entropy::forward(self.logits::<T>(x), targets, losses, log_sums.host_mut());
                Ok(())
            })?,
        }
        Ok((losses, log_sums))
    }

    /// Gradient of x.
    pub fn backward(&self, x: &Tensor, log_sums: &Tensor, grad: &Tensor) -> Result<Tensor> {
        let mut dx = Tensor::scratch(x.device(), x.dtype(), x.shape())?;
        match x.device() {
            Device::Cuda(_) => {
                let (log_sums, grad) = (log_sums.cuda(), grad.cuda());
                cuda::cross_entropy::backward(self.on_cuda(x), log_sums, grad, dx.cuda_mut()?)?;
            }
            Device::WebGpu(_) => self.on_gpu(x, |logits| {
                let (log_sums, grad) = (log_sums.gpu()?, grad.gpu()?);
                webgpu::cross_entropy::backward(logits, log_sums.view(), grad.view(), dx.gpu_mut()?)
            })?,
            Device::Cpu => float_type!(self.op, x, T => {
                let (targets, log_sums, grad) = (self.targets.host(), log_sums.host::<T>(), grad.host::<T>());
                cpu::cross_entropy::backward(self.logits::<T>(x), targets, log_sums, grad, dx.host_mut());
                Ok(())
            })?,
        }
        Ok(dx)
    }

    /// Logits on a CUDA device.
    fn on_cuda<'b>(&'b self, x: &'b Tensor) -> cuda::cross_entropy::Logits<'b> {
        cuda::cross_entropy::Logits {
            x: x.cuda(),
            mask: self.mask.map(Tensor::cuda),
            targets: self.targets.cuda(),
            scale: self.scale as f32,
            columns: x.shape()[1],
        }
    }

    /// Runs a kernel on logits of an adapter.
    fn on_gpu(
        &self,
        x: &Tensor,
        kernel: impl FnOnce(webgpu::cross_entropy::Logits) -> Result<()>,
    ) -> Result<()> {
        let columns = x.shape()[1];
        let (x, targets) = (x.gpu()?, self.targets.gpu()?);
        let mask = self.mask.map(|mask| mask.gpu()).transpose()?;
        kernel(webgpu::cross_entropy::Logits {
            x: x.view(),
            mask: mask.as_ref().map(|mask| mask.view()),
            targets: targets.view(),
            scale: self.scale as f32,
            columns,
        })
    }

    fn logits<'a, T: cpu::Float>(&'a self, x: &'a Tensor) -> Logits<'a, T> {
        let mask = self.mask.map(|m| m.host::<u32>());
        Logits { x: x.host(), mask, scale: T::of(self.scale), columns: x.shape()[1] }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::autograd::gradcheck;

    fn ids(ids: &[u32]) -> Tensor {
        Tensor::from_ids(&Device::Cpu, ids).unwrap()
    }

    #[test]
    fn gradients_match_finite_differences() {
        for (rows, columns, targets) in
            [(1, 1, vec![0]), (3, 5, vec![4, 0, 2]), (2, 131, vec![130, 17]), (0, 4, vec![])]
        {
            let x = gradcheck::random(&[rows, columns], 1);
            gradcheck::op(|| CrossEntropy::new(ids(&targets)), &[x]);
        }
    }

    #[test]
    fn losses_equal_the_plain_formula() {
        let (rows, columns) = (7, 300);
        let x: Vec<f32> = gradcheck::random(&[rows, columns], 2)
            .to_f64_vec()
            .unwrap()
            .iter()
            .map(|v| (v * 40.0) as f32)
            .collect();
        let targets: Vec<u32> = (0..rows as u32).map(|i| i * 41).collect();
        let x32 = Tensor::from_slice(&Device::Cpu, &x, &[rows, columns]).unwrap();
        let losses = CrossEntropy::new(ids(&targets)).forward(&[&x32], false).unwrap().to_f64_vec().unwrap();
        for (i, row) in x.chunks(columns).enumerate() {
            let sum: f64 = row.iter().map(|&v| f64::from(v).exp()).sum();
            let want = sum.ln() - f64::from(row[targets[i] as usize]);
            assert!((losses[i] - want).abs() <= 1e-5 * (1.0 + want), "row {i}: {} {want}", losses[i]);
        }
    }

    #[test]
    fn logits_of_any_size_give_finite_losses() {
        let x = Tensor::from_slice(&Device::Cpu, &[3e38f32, -3e38, 0.0, 1e4], &[2, 2]).unwrap();
        let losses = CrossEntropy::new(ids(&[0, 0])).forward(&[&x], false).unwrap().to_vec::<f32>().unwrap();
        assert_eq!(losses, [0.0, 1e4]);
    }

    #[test]
    fn a_target_outside_the_columns_is_an_error() {
        let x = gradcheck::random(&[2, 3], 1);
        let error = CrossEntropy::new(ids(&[0, 3])).forward(&[&x], false).unwrap_err().to_string();
        assert!(error.contains("id 3 at position 1"), "{error}");
        assert!(CrossEntropy::new(ids(&[0])).forward(&[&x], false).is_err());
    }
}
