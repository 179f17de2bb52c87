//! Rows times a factor each: yᵢ = wᵢ·xᵢ. One FLOP an element; bytes of x, w and y.

use super::{Cost, Op, Saved, bytes_of, expect_alike, expect_shape, float_type};
use crate::Result;
use crate::device::{Device, cpu};
use crate::tensor::Tensor;

/// Inputs: x `[n, d]`, w `[n]`; both get gradients.
#[derive(Clone, Copy, Debug, Default)]
pub struct ScaleRows;

fn scaled(x: &Tensor, w: &Tensor) -> Result<Tensor> {
    let mut y = Tensor::scratch(x.device(), x.dtype(), x.shape())?;
    match x.device() {
        Device::Cpu => float_type!("scale_rows", x, T => {
            cpu::scale_rows::scale_rows::<T>(x.host(), w.host(), y.host_mut());
            Ok(y)
        }),
    }
}

impl Op for ScaleRows {
    fn name(&self) -> &'static str {
        "scale_rows"
    }

    fn forward(&mut self, inputs: &[&Tensor], _record: bool) -> Result<Tensor> {
        let (x, w) = (inputs[0], inputs[1]);
        let (rows, _) = x.dims2("scale_rows")?;
        expect_alike("scale_rows", inputs)?;
        expect_shape("scale_rows", "the vector of factors", w, &[rows])?;
        scaled(x, w)
    }

    fn backward(&self, saved: &Saved, grad: &Tensor) -> Result<Vec<Option<Tensor>>> {
        let dx = if saved.needs[0] { Some(scaled(grad, saved.input(1))?) } else { None };
        if !saved.needs[1] {
            return Ok(vec![dx, None]);
        }
        let x = saved.input(0);
        let mut dw = Tensor::scratch(x.device(), x.dtype(), &x.shape()[..1])?;
        match x.device() {
            Device::Cpu => float_type!("scale_rows", x, T => {
                cpu::scale_rows::row_dots::<T>(x.host(), grad.host(), dw.host_mut());
                Ok(vec![dx, Some(dw)])
            }),
        }
    }

    fn cost(&self, inputs: &[&Tensor]) -> Cost {
        let output = bytes_of(&inputs[..1]);
        Cost { flops: inputs[0].len() as u64, bytes: bytes_of(inputs) + output }
    }

    fn keeps_input(&self, index: usize, needs: &[bool]) -> bool {
        needs[1 - index]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::autograd::gradcheck;

    #[test]
    fn gradients_match_finite_differences() {
        for (rows, d) in [(1, 1), (5, 19), (0, 4), (3, 0)] {
            gradcheck::op(|| ScaleRows, &[gradcheck::random(&[rows, d], 1), gradcheck::random(&[rows], 2)]);
        }
    }

    #[test]
    fn each_row_is_multiplied_by_its_own_factor() {
        let x = Tensor::from_slice(&Device::Cpu, &[1f32, 2.0, 3.0, 4.0], &[2, 2]).unwrap();
        let w = Tensor::from_slice(&Device::Cpu, &[10f32, -1.0], &[2]).unwrap();
        let y = ScaleRows.forward(&[&x, &w], false).unwrap();
        assert_eq!(y.to_vec::<f32>().unwrap(), [10.0, 20.0, -3.0, -4.0]);
    }

    #[test]
    fn a_factor_a_row_is_required() {
        let (x, w) = (gradcheck::random(&[2, 3], 1), gradcheck::random(&[3], 2));
        let error = ScaleRows.forward(&[&x, &w], false).unwrap_err().to_string();
        assert!(error.contains("the vector of factors has shape [3], expected [2]"), "{error}");
    }
}
