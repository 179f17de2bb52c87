//! Mean over the rows of a matrix. One FLOP an element; bytes of x.

use super::add::sum_rows;
use super::scale::scale;
use super::{Cost, Op, Saved, bytes_of, float_type};
use crate::device::{Device, cpu, cuda, webgpu};
use crate::tensor::Tensor;
use crate::{Error, Result};

/// Input: x `[n, d]`, n at least 1; output `[d]`.
#[derive(Clone, Copy, Debug, Default)]
pub struct MeanRows {
    /// n, kept for backward.
    rows: usize,
}

impl MeanRows {
    /// Of any matrix.
    pub fn new() -> Self {
        Self::default()
    }
}

impl Op for MeanRows {
    fn name(&self) -> &'static str {
        "mean_rows"
    }

    fn forward(&mut self, inputs: &[&Tensor], _record: bool) -> Result<Tensor> {
        let (rows, d) = inputs[0].dims2("mean_rows")?;
        if rows == 0 {
            return Err(Error::shape("mean_rows", format!("shape [0, {d}] has no rows to average")));
        }
        self.rows = rows;
        scale(&sum_rows(inputs[0])?, 1.0 / rows as f64)
    }

    fn backward(&self, _saved: &Saved, grad: &Tensor) -> Result<Vec<Option<Tensor>>> {
        let row = scale(grad, 1.0 / self.rows as f64)?;
        let mut dx = Tensor::scratch(grad.device(), grad.dtype(), &[self.rows, grad.len()])?;
        match grad.device() {
            Device::Cuda(_) => {
                cuda::mean_rows::backward(row.cuda(), dx.cuda_mut()?)?;
                Ok(vec![Some(dx)])
            }
            Device::WebGpu(_) => {
                webgpu::mean_rows::backward(row.gpu()?.view(), dx.gpu_mut()?)?;
                Ok(vec![Some(dx)])
            }
            Device::Cpu => float_type!("mean_rows", grad, T => {
                cpu::elementwise::repeat_row::<T>(dx.host_mut(), row.host());
                Ok(vec![Some(dx)])
            }),
        }
    }

    fn cost(&self, inputs: &[&Tensor]) -> Cost {
        Cost { flops: inputs[0].len() as u64, bytes: bytes_of(inputs) }
    }

    fn backward_cost(&self, _saved: &Saved, grad: &Tensor) -> Cost {
        Cost { flops: grad.len() as u64, bytes: (1 + self.rows as u64) * bytes_of(&[grad]) }
    }

    fn keeps_input(&self, _index: usize, _needs: &[bool]) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::autograd::gradcheck;

    #[test]
    fn gradients_match_finite_differences() {
        for shape in [[1, 3], [5, 17], [300, 2], [2, 0]] {
            gradcheck::op(MeanRows::new, &[gradcheck::random(&shape, 1)]);
        }
    }

    #[test]
    fn means_equal_a_plain_loop_for_any_number_of_rows() {
        for rows in [1, 256, 257, 1000] {
            let x = gradcheck::random(&[rows, 3], rows as u64);
            let y = MeanRows::new().forward(&[&x], false).unwrap().to_f64_vec().unwrap();
            let x = x.to_f64_vec().unwrap();
            for (j, y) in y.iter().enumerate() {
                let mean = x.iter().skip(j).step_by(3).sum::<f64>() / rows as f64;
                assert!((y - mean).abs() < 1e-13, "{rows} rows: {y} and {mean}");
            }
        }
    }

    #[test]
    fn no_rows_have_no_mean() {
        let error = MeanRows::new().forward(&[&gradcheck::random(&[0, 3], 1)], false).unwrap_err();
        assert!(error.to_string().contains("no rows"), "{error}");
    }
}
