//! Matrices laid one below the other. No FLOPs; bytes of inputs and output.

use super::{Cost, Op, Saved, bytes_of, expect_alike, expect_float, expect_words, stored_type};
use crate::device::{Device, cpu, cuda, webgpu};
use crate::tensor::Tensor;
use crate::{Error, Result};

/// Inputs: matrices `[rows_i, d]`, at least one; output `[Σ rows_i, d]`.
#[derive(Clone, Debug, Default)]
pub struct ConcatRows {
    /// Rows of every input, kept for backward.
    rows: Vec<usize>,
}

impl ConcatRows {
    /// Of any number of inputs.
    pub fn new() -> Self {
        Self::default()
    }
}

impl Op for ConcatRows {
    fn name(&self) -> &'static str {
        "concat_rows"
    }

    fn forward(&mut self, inputs: &[&Tensor], _record: bool) -> Result<Tensor> {
        let Some(first) = inputs.first() else {
            return Err(Error::shape("concat_rows", "no inputs, expected at least one matrix"));
        };
        expect_alike("concat_rows", inputs)?;
        let (_, d) = first.dims2("concat_rows")?;
        self.rows.clear();
        for input in inputs {
            let (rows, width) = input.dims2("concat_rows")?;
            if width != d {
                let problem = format!("shapes {:?} and {:?} differ in width", first.shape(), input.shape());
                return Err(Error::shape("concat_rows", problem));
            }
            self.rows.push(rows);
        }
        let mut y = Tensor::scratch(first.device(), first.dtype(), &[self.rows.iter().sum(), d])?;
        match first.device() {
            Device::Cuda(_) => {
                expect_words("concat_rows", first, d)?;
                let parts: Vec<_> = inputs.iter().map(|t| t.cuda()).collect();
                cuda::concat_rows::forward(&parts, y.cuda_mut()?)?;
            }
            Device::WebGpu(_) => {
                expect_float("concat_rows", first)?;
                let parts: Vec<_> = inputs.iter().map(|t| t.gpu()).collect::<Result<_>>()?;
                let parts: Vec<_> = parts.iter().map(|part| part.view()).collect();
                webgpu::concat_rows::forward(&parts, y.gpu_mut()?)?;
            }
            Device::Cpu => stored_type!("concat_rows", first, T => {
                let parts: Vec<&[T]> = inputs.iter().map(|t| t.host()).collect();
                cpu::concat::rows(&parts, y.host_mut());
                Ok(())
            })?,
        }
        Ok(y)
    }

    fn backward(&self, saved: &Saved, grad: &Tensor) -> Result<Vec<Option<Tensor>>> {
        let mut start = 0;
        let mut grads = Vec::with_capacity(self.rows.len());
        for (&rows, &needed) in self.rows.iter().zip(saved.needs) {
            grads.push(if needed { Some(grad.rows(start..start + rows)?) } else { None });
            start += rows;
        }
        Ok(grads)
    }

    fn cost(&self, inputs: &[&Tensor]) -> Cost {
        Cost { flops: 0, bytes: 2 * bytes_of(inputs) }
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
        let part = |rows, seed| gradcheck::random(&[rows, 3], seed);
        gradcheck::op(ConcatRows::new, &[part(1, 1), part(4, 2), part(0, 3), part(2, 4)]);
        gradcheck::op(ConcatRows::new, &[part(2, 1)]);
    }

    #[test]
    fn inputs_follow_one_another() {
        let (a, b) = (gradcheck::random(&[2, 3], 1), gradcheck::random(&[1, 3], 2));
        let y = ConcatRows::new().forward(&[&a, &b], false).unwrap();
        assert_eq!(y.shape(), [3, 3]);
        assert_eq!(y.to_f64_vec().unwrap(), [a.to_f64_vec().unwrap(), b.to_f64_vec().unwrap()].concat());
    }

    #[test]
    fn widths_must_agree() {
        let (a, b) = (gradcheck::random(&[2, 3], 1), gradcheck::random(&[2, 4], 2));
        assert!(ConcatRows::new().forward(&[&a, &b], false).unwrap_err().to_string().contains("width"));
        assert!(ConcatRows::new().forward(&[], false).is_err());
    }
}
