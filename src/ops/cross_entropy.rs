//! Softmax cross-entropy against one target a row: lossᵢ = log Σⱼ exp(xᵢⱼ) − xᵢₜ. No probabilities are stored:
//! backward recomputes them from the log sums. About 10 FLOPs an element; bytes of the logits.

use super::{Cost, Op, Saved, bytes_of, expect_ids, expect_shape, float_type};
use crate::Result;
use crate::device::{Device, cpu};
use crate::tensor::Tensor;

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
}

impl Op for CrossEntropy {
    fn name(&self) -> &'static str {
        "cross_entropy"
    }

    fn forward(&mut self, inputs: &[&Tensor], record: bool) -> Result<Tensor> {
        let x = inputs[0];
        let (rows, columns) = x.dims2("cross_entropy")?;
        expect_shape("cross_entropy", "the targets tensor", &self.targets, &[rows])?;
        expect_ids("cross_entropy", &self.targets, x, columns)?;
        let mut losses = Tensor::scratch(x.device(), x.dtype(), &[rows])?;
        let mut log_sums = Tensor::scratch(x.device(), x.dtype(), &[rows])?;
        match x.device() {
            Device::Cpu => float_type!("cross_entropy", x, T => {
                let (targets, losses) = (self.targets.host(), losses.host_mut::<T>());
                cpu::cross_entropy::forward(logits::<T>(x, columns), targets, losses, log_sums.host_mut());
                Ok(())
            })?,
        }
        self.log_sums = record.then_some(log_sums);
        Ok(losses)
    }

    fn backward(&self, saved: &Saved, grad: &Tensor) -> Result<Vec<Option<Tensor>>> {
        let x = saved.input(0);
        let (_, columns) = x.dims2("cross_entropy")?;
        let log_sums = self.log_sums.as_ref().expect("forward was recorded");
        let mut dx = Tensor::scratch(x.device(), x.dtype(), x.shape())?;
        match x.device() {
            Device::Cpu => float_type!("cross_entropy", x, T => {
                let (targets, log_sums, grad) = (self.targets.host(), log_sums.host::<T>(), grad.host::<T>());
                cpu::cross_entropy::backward(logits::<T>(x, columns), targets, log_sums, grad, dx.host_mut());
                Ok(())
            })?,
        }
        Ok(vec![Some(dx)])
    }

    fn cost(&self, inputs: &[&Tensor]) -> Cost {
        let rows_bytes = (self.targets.len() * inputs[0].dtype().size()) as u64;
        Cost { flops: FLOPS_PER_LOGIT * inputs[0].len() as u64, bytes: bytes_of(inputs) + rows_bytes }
    }
}

/// All of `x`, as it is.
fn logits<T: cpu::Float>(x: &Tensor, columns: usize) -> cpu::cross_entropy::Logits<'_, T> {
    cpu::cross_entropy::Logits { x: x.host(), mask: None, scale: T::ONE, columns }
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
