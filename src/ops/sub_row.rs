//! A row taken from every row of a matrix: yᵢ = xᵢ − row. One FLOP an element; bytes of x and y.

use super::add::sum_rows;
use super::scale::scale;
use super::{Cost, Op, Saved, bytes_of, expect_alike, expect_float, expect_shape, float_type};
use crate::Result;
use crate::device::{Device, cpu, cuda, webgpu};
use crate::tensor::Tensor;

/// Inputs: x `[n, d]`, row `[d]`; both get gradients.
#[derive(Clone, Copy, Debug, Default)]
pub struct SubRow;

impl Op for SubRow {
    fn name(&self) -> &'static str {
        "sub_row"
    }

    fn forward(&mut self, inputs: &[&Tensor], _record: bool) -> Result<Tensor> {
        let (x, row) = (inputs[0], inputs[1]);
        let (_, d) = x.dims2("sub_row")?;
        expect_alike("sub_row", inputs)?;
        expect_shape("sub_row", "the row", row, &[d])?;
        match x.device() {
            Device::Cuda(_) => {
                expect_float("sub_row", x)?;
                let mut y = Tensor::scratch(x.device(), x.dtype(), x.shape())?;
                cuda::sub_row::forward(x.cuda(), row.cuda(), y.cuda_mut()?)?;
                Ok(y)
            }
            Device::WebGpu(_) => {
                expect_float("sub_row", x)?;
                let mut y = Tensor::scratch(x.device(), x.dtype(), x.shape())?;
                webgpu::sub_row::forward(x.gpu()?.view(), row.gpu()?.view(), y.gpu_mut()?)?;
                Ok(y)
            }
            Device::Cpu => float_type!("sub_row", x, T => {
                let (mut y, negated) = (x.clone(), scale(row, -1.0)?);
                cpu::elementwise::add_row::<T>(y.host_mut(), negated.host());
                Ok(y)
            }),
        }
    }

    fn backward(&self, saved: &Saved, grad: &Tensor) -> Result<Vec<Option<Tensor>>> {
        let drow = if saved.needs[1] { Some(scale(&sum_rows(grad)?, -1.0)?) } else { None };
        Ok(vec![saved.needs[0].then(|| grad.clone()), drow])
    }

    fn cost(&self, inputs: &[&Tensor]) -> Cost {
        let output = bytes_of(&inputs[..1]);
        Cost { flops: inputs[0].len() as u64, bytes: bytes_of(inputs) + output }
    }

    fn keeps_input(&self, _index: usize, _needs: &[bool]) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::autograd::{gradcheck, gradcheck::random};
    use crate::ops::MeanRows;

    #[test]
    fn gradients_match_finite_differences() {
        for (rows, d) in [(1, 1), (5, 17), (0, 3), (2, 0)] {
            gradcheck::op(|| SubRow, &[random(&[rows, d], 1), random(&[d], 2)]);
        }
    }

    #[test]
    fn less_their_mean_rows_have_mean_zero() {
        let x = random(&[40, 7], 1);
        let mean = MeanRows::new().forward(&[&x], false).unwrap();
        let centred = SubRow.forward(&[&x, &mean], false).unwrap();
        let first = centred.to_f64_vec().unwrap()[0];
        assert_eq!(first, x.to_f64_vec().unwrap()[0] - mean.to_f64_vec().unwrap()[0]);
        let rest = MeanRows::new().forward(&[&centred], false).unwrap().to_f64_vec().unwrap();
        assert!(rest.iter().all(|m| m.abs() < 1e-15), "{rest:?}");
    }

    #[test]
    fn widths_must_agree() {
        let error = SubRow.forward(&[&random(&[2, 3], 1), &random(&[2], 2)], false).unwrap_err();
        assert!(error.to_string().contains("the row has shape [2], expected [3]"), "{error}");
    }
}
