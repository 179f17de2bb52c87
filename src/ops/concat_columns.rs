//! Matrices laid side by side. No FLOPs; bytes of inputs and output.

use super::{Cost, Op, Saved, bytes_of, expect_alike, float_type};
use crate::device::{Device, cpu};
use crate::tensor::Tensor;
use crate::{Error, Result};

/// Inputs: `[n, d1]`, `[n, d2]`; output `[n, d1 + d2]`.
#[derive(Clone, Copy, Debug, Default)]
pub struct ConcatColumns {
    /// d1 and d2, kept for backward.
    widths: [usize; 2],
}

impl ConcatColumns {
    /// Of two inputs.
    pub fn new() -> Self {
        Self::default()
    }
}

impl Op for ConcatColumns {
    fn name(&self) -> &'static str {
        "concat_columns"
    }

    fn forward(&mut self, inputs: &[&Tensor], _record: bool) -> Result<Tensor> {
        let (a, b) = (inputs[0], inputs[1]);
        expect_alike("concat_columns", inputs)?;
        let ((rows, d1), (other, d2)) = (a.dims2("concat_columns")?, b.dims2("concat_columns")?);
        if rows != other {
            let problem = format!("shapes {:?} and {:?} differ in rows", a.shape(), b.shape());
            return Err(Error::shape("concat_columns", problem));
        }
        self.widths = [d1, d2];
        let mut y = Tensor::scratch(a.device(), a.dtype(), &[rows, d1 + d2])?;
        match a.device() {
            Device::Cpu => float_type!("concat_columns", a, T => {
                cpu::concat::columns::<T>([a.host(), b.host()], self.widths, y.host_mut());
                Ok(())
            })?,
        }
        Ok(y)
    }

    fn backward(&self, saved: &Saved, grad: &Tensor) -> Result<Vec<Option<Tensor>>> {
        let (rows, width) = grad.dims2("concat_columns")?;
        let mut grads = Vec::with_capacity(2);
        for (i, start) in [0, self.widths[0]].into_iter().enumerate() {
            if !saved.needs[i] {
                grads.push(None);
                continue;
            }
            let columns = start..start + self.widths[i];
            let mut part = Tensor::scratch(grad.device(), grad.dtype(), &[rows, columns.len()])?;
            match grad.device() {
                Device::Cpu => float_type!("concat_columns", grad, T => {
                    cpu::concat::take_columns::<T>(grad.host(), width, columns, part.host_mut());
                    Ok(())
                })?,
            }
            grads.push(Some(part));
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
        for (rows, d1, d2) in [(1, 2, 3), (5, 1, 4), (0, 2, 2), (3, 0, 2)] {
            let inputs = [gradcheck::random(&[rows, d1], 1), gradcheck::random(&[rows, d2], 2)];
            gradcheck::op(ConcatColumns::new, &inputs);
        }
    }

    #[test]
    fn rows_stand_side_by_side() {
        let a = Tensor::from_slice(&Device::Cpu, &[1f32, 2.0, 3.0, 4.0], &[2, 2]).unwrap();
        let b = Tensor::from_slice(&Device::Cpu, &[5f32, 6.0], &[2, 1]).unwrap();
        let y = ConcatColumns::new().forward(&[&a, &b], false).unwrap();
        assert_eq!(y.to_vec::<f32>().unwrap(), [1.0, 2.0, 5.0, 3.0, 4.0, 6.0]);
    }

    #[test]
    fn row_counts_must_agree() {
        let (a, b) = (gradcheck::random(&[2, 3], 1), gradcheck::random(&[3, 3], 2));
        assert!(ConcatColumns::new().forward(&[&a, &b], false).unwrap_err().to_string().contains("rows"));
    }
}
