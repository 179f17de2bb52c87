//! Chosen columns of every row: yᵢⱼ = xᵢ\[idsᵢⱼ\]. Q-values of actions taken, where all are at hand. No FLOPs; bytes of
//! the choice.

use super::{Cost, Op, Saved, expect_ids, float_type};
use crate::device::{Device, cpu};
use crate::tensor::Tensor;
use crate::{Error, Result};

/// Input: x `[n, m]`; output `[n, k]`.
#[derive(Clone, Debug)]
pub struct GatherColumns {
    ids: Tensor,
    /// m, for backward.
    columns: usize,
}

impl GatherColumns {
    /// The chosen columns, u32 `[n, k]`.
    pub fn new(ids: Tensor) -> Self {
        GatherColumns { ids, columns: 0 }
    }
}

impl Op for GatherColumns {
    fn name(&self) -> &'static str {
        "gather_columns"
    }

    fn forward(&mut self, inputs: &[&Tensor], _record: bool) -> Result<Tensor> {
        let x = inputs[0];
        let (n, columns) = x.dims2("gather_columns")?;
        let (rows, k) = self.ids.dims2("gather_columns")?;
        if rows != n || k == 0 {
            let problem =
                format!("x {:?} and ids {:?}, expected [n, m] and [n, k]", x.shape(), self.ids.shape());
            return Err(Error::shape("gather_columns", problem));
        }
        expect_ids("gather_columns", &self.ids, x, columns)?;
        self.columns = columns;
        let mut y = Tensor::scratch(x.device(), x.dtype(), &[n, k])?;
        match x.device() {
            Device::Cpu => float_type!("gather_columns", x, T => {
                cpu::gather_columns::forward(x.host::<T>(), columns.max(1), self.ids.host(), k, y.host_mut());
                Ok(y)
            }),
        }
    }

    fn backward(&self, _saved: &Saved, grad: &Tensor) -> Result<Vec<Option<Tensor>>> {
        let (n, k) = grad.dims2("gather_columns")?;
        let mut dx = Tensor::scratch(grad.device(), grad.dtype(), &[n, self.columns])?;
        match grad.device() {
            Device::Cpu => float_type!("gather_columns", grad, T => {
                let (grad, ids) = (grad.host::<T>(), self.ids.host());
                cpu::gather_columns::backward(grad, ids, k, self.columns.max(1), dx.host_mut());
                Ok(())
            })?,
        }
        Ok(vec![Some(dx)])
    }

    fn cost(&self, inputs: &[&Tensor]) -> Cost {
        let bytes = self.ids.len() * (2 * inputs[0].dtype().size() + size_of::<u32>());
        Cost { flops: 0, bytes: bytes as u64 }
    }

    fn keeps_input(&self, _index: usize, _needs: &[bool]) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::autograd::gradcheck;

    fn ids(ids: &[u32], shape: &[usize]) -> Tensor {
        Tensor::from_slice(&Device::Cpu, ids, shape).unwrap()
    }

    #[test]
    fn gradients_match_finite_differences() {
        let cases: [(&[u32], [usize; 2], usize); 4] =
            [(&[0, 4, 2, 2], [2, 2], 5), (&[1, 0, 2], [3, 1], 3), (&[0, 0, 0], [1, 3], 1), (&[], [0, 2], 4)];
        for (list, shape, m) in cases {
            gradcheck::op(|| GatherColumns::new(ids(list, &shape)), &[gradcheck::random(&[shape[0], m], 1)]);
        }
    }

    #[test]
    fn values_are_those_of_the_columns() {
        let x = Tensor::from_slice(&Device::Cpu, &[1f32, 2.0, 3.0, 4.0, 5.0, 6.0], &[2, 3]).unwrap();
        let y = GatherColumns::new(ids(&[2, 0, 1, 1], &[2, 2])).forward(&[&x], false).unwrap();
        assert_eq!(y.to_vec::<f32>().unwrap(), [3.0, 1.0, 5.0, 5.0]);
    }

    #[test]
    fn a_column_out_of_range_is_an_error() {
        let x = gradcheck::random(&[1, 3], 1);
        let error = GatherColumns::new(ids(&[3], &[1, 1])).forward(&[&x], false).unwrap_err().to_string();
        assert!(error.contains("id 3"), "{error}");
        assert!(GatherColumns::new(ids(&[0, 0], &[2, 1])).forward(&[&x], false).is_err());
    }
}
