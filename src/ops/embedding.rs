//! Rows of tables by id: yᵢ = table\[idᵢ\]; backward adds the rows of dy up by id. No FLOPs forward; bytes of the
//! ids, of the rows read and of y.

use super::{Cost, Op, Saved, bytes_of, expect_alike, expect_ids, expect_words, float_type, stored_type};
use crate::device::destinations::Destinations;
use crate::device::{Device, cpu, cuda, webgpu};
use crate::tensor::Tensor;
use crate::{Error, Result};

/// Inputs: 1 to 3 tables `[v_i, d]`, of which an id indexes the rows laid one after another; output `[n, d]`.
///
/// With the tables (words, item tokens) a decoder reads both kinds of token, and only the tables that are trained
/// get a gradient.
#[derive(Clone, Debug)]
pub struct Embedding {
    ids: Tensor,
    /// Rows of every table, kept for backward.
    rows: Vec<usize>,
}

impl Embedding {
    /// `ids: [n]` u32. Ids beyond the tables are an error of the forward call.
    pub fn new(ids: Tensor) -> Self {
        Embedding { ids, rows: Vec::new() }
    }
}

/// Rows `ids: [n]` of `table: [v, d]` → `[n, d]`, without autograd; with it, see [`Embedding`].
pub fn gather_rows(table: &Tensor, ids: &Tensor) -> Result<Tensor> {
    Embedding::new(ids.clone()).forward(&[table], false)
}

impl Op for Embedding {
    fn name(&self) -> &'static str {
        "embedding"
    }

    fn forward(&mut self, inputs: &[&Tensor], _record: bool) -> Result<Tensor> {
        if inputs.is_empty() || inputs.len() > 3 {
            return Err(Error::shape("embedding", format!("{} tables, expected 1 to 3", inputs.len())));
        }
        expect_alike("embedding", inputs)?;
        let n = self.ids.dims1("embedding")?;
        let (_, d) = inputs[0].dims2("embedding")?;
        self.rows.clear();
        for table in inputs {
            let (rows, width) = table.dims2("embedding")?;
            if width != d {
                let problem = format!("tables of width {d} and {width} cannot be one");
                return Err(Error::shape("embedding", problem));
            }
            self.rows.push(rows);
        }
        expect_ids("embedding", &self.ids, inputs[0], self.rows.iter().sum())?;
        let mut y = Tensor::scratch(inputs[0].device(), inputs[0].dtype(), &[n, d])?;
        match inputs[0].device() {
            Device::Cuda(_) => {
                expect_words("embedding", inputs[0], d)?;
                let tables: Vec<_> = inputs.iter().map(|t| t.cuda()).collect();
                cuda::embedding::gather(self.ids.cuda(), &tables, d, y.cuda_mut()?)?;
            }
            Device::WebGpu(_) => {
                let (ids, tables) =
                    (self.ids.gpu()?, inputs.iter().map(|t| t.gpu()).collect::<Result<Vec<_>>>()?);
                let tables: Vec<_> = tables.iter().map(|table| table.view()).collect();
                webgpu::embedding::gather(ids.view(), &tables, d, y.gpu_mut()?)?;
            }
            Device::Cpu => stored_type!("embedding", inputs[0], T => {
                let tables: Vec<&[T]> = inputs.iter().map(|t| t.host()).collect();
                cpu::embedding::gather(self.ids.host(), &tables, d, y.host_mut());
                Ok(())
            })?,
        }
        Ok(y)
    }

    fn backward(&self, saved: &Saved, grad: &Tensor) -> Result<Vec<Option<Tensor>>> {
        let (_, d) = grad.dims2("embedding")?;
        let mut grads = Vec::with_capacity(self.rows.len());
        for (&rows, &needed) in self.rows.iter().zip(saved.needs) {
            let table_grad = || Tensor::scratch(grad.device(), grad.dtype(), &[rows, d]);
            grads.push(if needed { Some(table_grad()?) } else { None });
        }
        if !grads.iter().any(Option::is_some) {
            return Ok(grads);
        }
        let destinations = Destinations::new("embedding", &self.ids.ids_on_host()?, self.rows.iter().sum())?;
        match grad.device() {
            Device::Cuda(cuda) => {
                let destinations = cuda::destinations::Uploaded::new(cuda, &destinations)?;
                let dy = grad.cuda();
                let mut first = 0;
                for (table_grad, &rows) in grads.iter_mut().zip(&self.rows) {
                    if let Some(sum) = table_grad {
                        cuda::embedding::scatter_add(&destinations, first, dy, d, sum.cuda_mut()?)?;
                    }
                    first += rows;
                }
                Ok(grads)
            }
            Device::WebGpu(gpu) => {
                let destinations = webgpu::destinations::Uploaded::new(gpu, &destinations)?;
                let dy = grad.gpu()?;
                let mut first = 0;
                for (table_grad, &rows) in grads.iter_mut().zip(&self.rows) {
                    if let Some(sum) = table_grad {
                        webgpu::embedding::scatter_add(&destinations, first, dy.view(), d, sum.gpu_mut()?)?;
                    }
                    first += rows;
                }
                Ok(grads)
            }
            Device::Cpu => float_type!("embedding", grad, T => {
                let mut first = 0;
                for (table_grad, &rows) in grads.iter_mut().zip(&self.rows) {
                    if let Some(sum) = table_grad {
                        let dy = grad.host::<T>();
                        cpu::embedding::scatter_add(&destinations, first, dy, d, sum.host_mut());
                    }
                    first += rows;
                }
                Ok(grads)
            }),
        }
    }

    fn cost(&self, inputs: &[&Tensor]) -> Cost {
        let width = inputs[0].shape().last().copied().unwrap_or(0);
        let moved = 2 * self.ids.len() * width * inputs[0].dtype().size();
        Cost { flops: 0, bytes: (moved + 4 * self.ids.len()) as u64 }
    }

    fn backward_cost(&self, saved: &Saved, grad: &Tensor) -> Cost {
        let width = grad.shape().last().copied().unwrap_or(0);
        let rows: usize =
            self.rows.iter().zip(saved.needs).filter(|(_, needed)| **needed).map(|(rows, _)| rows).sum();
        let tables = (rows * width * grad.dtype().size()) as u64;
        Cost { flops: grad.len() as u64, bytes: bytes_of(&[grad]) + tables }
    }

    fn keeps_input(&self, _index: usize, _needs: &[bool]) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::autograd::{Var, apply, backward, gradcheck};
    use crate::ops::Matmul;

    fn ids(ids: &[u32]) -> Tensor {
        Tensor::from_ids(&Device::Cpu, ids).unwrap()
    }

    #[test]
    fn gradients_match_finite_differences() {
        for ids_of in [&[2, 0, 2, 2, 1][..], &[6], &[]] {
            let tables: Vec<Tensor> =
                (1..4).map(|i| gradcheck::random(&[i as usize + 2, 3], 10 + i)).collect();
            gradcheck::op(|| Embedding::new(ids(ids_of)), &tables);
        }
        gradcheck::op(|| Embedding::new(ids(&[3, 3, 0])), &[gradcheck::random(&[5, 1], 1)]);
    }

    #[test]
    fn ids_index_the_tables_laid_one_after_another() {
        let (a, b) = (gradcheck::random(&[2, 3], 1), gradcheck::random(&[4, 3], 2));
        let y = Embedding::new(ids(&[5, 1, 2, 1])).forward(&[&a, &b], false).unwrap();
        let (a, b) = (a.to_f64_vec().unwrap(), b.to_f64_vec().unwrap());
        assert_eq!(y.to_f64_vec().unwrap(), [&b[9..12], &a[3..6], &b[0..3], &a[3..6]].concat());
    }

    #[test]
    fn a_frozen_table_gets_no_gradient() {
        let (frozen, trained) =
            (Var::constant(gradcheck::random(&[2, 3], 1)), Var::leaf(gradcheck::random(&[2, 3], 2)));
        let y = apply(Embedding::new(ids(&[0, 2, 1, 2])), &[&frozen, &trained]).unwrap();
        let weights = Var::constant(gradcheck::random(&[3, 1], 3));
        let y = apply(Matmul::default(), &[&y, &weights]).unwrap();
        let ones = Var::constant(Tensor::full(&Device::Cpu, y.value().dtype(), &[1, 4], 1.0).unwrap());
        let grads = backward(&apply(Matmul::default(), &[&ones, &y]).unwrap()).unwrap();
        let w = weights.value().to_f64_vec().unwrap();
        let expected = [2.0 * w[0], 2.0 * w[1], 2.0 * w[2], 0.0, 0.0, 0.0];
        assert_eq!(grads.of(&trained).unwrap().to_f64_vec().unwrap(), expected);
        assert!(grads.of(&frozen).is_none());
    }

    #[test]
    fn ids_beyond_the_tables_and_ids_of_another_type_are_errors() {
        let table = gradcheck::random(&[4, 3], 1);
        let error = gather_rows(&table, &ids(&[1, 4])).unwrap_err().to_string();
        assert!(error.contains("id 4 at position 1"), "{error}");
        assert!(gather_rows(&table, &gradcheck::random(&[2], 2)).is_err());
        let narrow = gradcheck::random(&[4, 2], 1);
        assert!(Embedding::new(ids(&[1])).forward(&[&table, &narrow], false).is_err());
    }
}
