//! a − b, element by element. One FLOP an element; bytes of a, b and the difference.

use super::scale::scale;
use super::{Cost, Op, Saved, bytes_of, expect_alike, expect_shape, float_type};
use crate::Result;
use crate::device::{Device, cpu};
use crate::tensor::Tensor;

/// Inputs: a and b of one shape.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sub;

impl Op for Sub {
    fn name(&self) -> &'static str {
        "sub"
    }

    fn forward(&mut self, inputs: &[&Tensor], _record: bool) -> Result<Tensor> {
        let (a, b) = (inputs[0], inputs[1]);
        expect_alike("sub", inputs)?;
        expect_shape("sub", "the second term", b, a.shape())?;
        let mut y = Tensor::scratch(a.device(), a.dtype(), a.shape())?;
        match a.device() {
            Device::Cpu => float_type!("sub", a, T => {
                let (a, b) = (a.host::<T>(), b.host::<T>());
                cpu::map::map(cpu::elementwise::Difference, [a, b], y.host_mut());
                Ok(y)
            }),
        }
    }

    fn backward(&self, saved: &Saved, grad: &Tensor) -> Result<Vec<Option<Tensor>>> {
        let db = if saved.needs[1] { Some(scale(grad, -1.0)?) } else { None };
        Ok(vec![saved.needs[0].then(|| grad.clone()), db])
    }

    fn cost(&self, inputs: &[&Tensor]) -> Cost {
        Cost { flops: inputs[0].len() as u64, bytes: bytes_of(inputs) / 2 * 3 }
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
        for shape in [[1, 1], [3, 17], [0, 4]] {
            gradcheck::op(|| Sub, &[gradcheck::random(&shape, 1), gradcheck::random(&shape, 2)]);
        }
    }

    #[test]
    fn values_are_differences_and_shapes_must_agree() {
        let (a, b) = (gradcheck::random(&[2, 19], 1), gradcheck::random(&[2, 19], 2));
        let y = Sub.forward(&[&a, &b], false).unwrap().to_f64_vec().unwrap();
        let values = (a.to_f64_vec().unwrap(), b.to_f64_vec().unwrap());
        assert!(values.0.iter().zip(&values.1).zip(&y).all(|((a, b), y)| a - b == *y));
        let error = Sub.forward(&[&a, &gradcheck::random(&[19, 2], 3)], false).unwrap_err();
        assert!(error.to_string().contains("second term has shape [19, 2]"), "{error}");
    }
}
