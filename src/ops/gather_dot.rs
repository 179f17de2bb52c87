//! Dot products with chosen rows of a table: yᵢⱼ = xᵢ·table\[idsᵢⱼ\] (+ bias\[idsᵢⱼ\]). Q-values of chosen actions and
//! similarities to sampled items, without the product with the complete table. FLOPs 2·n·k·d; bytes of the chosen rows.

use super::{Cost, Op, Saved, bytes_of, expect_alike, expect_ids, expect_shape, float_type};
use crate::device::destinations::Destinations;
use crate::device::{Device, cpu, cuda, webgpu};
use crate::tensor::Tensor;
use crate::{Error, Result};
use cpu::gather_dot::Choice;

/// Inputs: x `[n, d]`, table `[v, d]` and optionally a bias `[v]`; output `[n, k]`.
#[derive(Clone, Debug)]
pub struct GatherDot {
    ids: Tensor,
}

impl GatherDot {
    /// The chosen rows of the table, u32 `[n, k]`.
    pub fn new(ids: Tensor) -> Self {
        GatherDot { ids }
    }

    /// (n, k, v, d), checked.
    fn dims(&self, inputs: &[&Tensor]) -> Result<[usize; 4]> {
        let (n, d) = inputs[0].dims2("gather_dot")?;
        let (v, table_d) = inputs[1].dims2("gather_dot")?;
        let (ids_n, k) = self.ids.dims2("gather_dot")?;
        if table_d != d || ids_n != n {
            let problem = format!(
                "x {:?}, table {:?} and ids {:?} do not fit: expected [n, d], [v, d] and [n, k]",
                inputs[0].shape(),
                inputs[1].shape(),
                self.ids.shape()
            );
            return Err(Error::shape("gather_dot", problem));
        }
        Ok([n, k, v, d])
    }

    fn choice<'a, T: cpu::Float>(&'a self, x: &'a Tensor, table: &'a Tensor) -> Choice<'a, T> {
        let (d, k) = (x.shape()[1], self.ids.shape()[1]);
        Choice { x: x.host(), table: table.host(), ids: self.ids.host(), d, k }
    }
}

impl Op for GatherDot {
    fn name(&self) -> &'static str {
        "gather_dot"
    }

    fn forward(&mut self, inputs: &[&Tensor], _record: bool) -> Result<Tensor> {
        let [n, k, v, d] = self.dims(inputs)?;
        let (x, table) = (inputs[0], inputs[1]);
        expect_alike("gather_dot", inputs)?;
        expect_ids("gather_dot", &self.ids, x, v)?;
        if let Some(bias) = inputs.get(2) {
            expect_shape("gather_dot", "the bias", bias, &[v])?;
        }
        let mut y = Tensor::scratch(x.device(), x.dtype(), &[n, k])?;
        match x.device() {
            Device::Cuda(_) => {
                let (x, table, ids) = (x.cuda(), table.cuda(), self.ids.cuda());
                let bias = inputs.get(2).map(|bias| bias.cuda());
                let choice = cuda::gather_dot::Choice { x, table, ids, dims: [n, d, k, v] };
                cuda::gather_dot::forward(choice, bias, y.cuda_mut()?)?;
            }
            Device::WebGpu(_) => {
                let (x, table, ids) = (x.gpu()?, table.gpu()?, self.ids.gpu()?);
                let bias = inputs.get(2).map(|bias| bias.gpu()).transpose()?;
                let choice = webgpu::gather_dot::Choice {
                    x: x.view(),
                    table: table.view(),
                    ids: ids.view(),
                    dims: [n, d, k, v],
                };
                webgpu::gather_dot::forward(choice, bias.as_ref().map(|bias| bias.view()), y.gpu_mut()?)?;
            }
            Device::Cpu => float_type!("gather_dot", x, T => {
                let bias = inputs.get(2).map(|b| b.host::<T>());
                cpu::gather_dot::forward(self.choice(x, table), bias, y.host_mut::<T>());
                Ok(())
            })?,
        }
        Ok(y)
    }

    fn backward(&self, saved: &Saved, grad: &Tensor) -> Result<Vec<Option<Tensor>>> {
        let (x, table) = (saved.input(0), saved.input(1));
        let needs_bias = saved.needs.get(2) == Some(&true);
        let v = table.shape()[0];
        let mut dx = Tensor::scratch(x.device(), x.dtype(), x.shape())?;
        let mut dtable = Tensor::scratch(x.device(), x.dtype(), table.shape())?;
        let mut dbias = Tensor::scratch(x.device(), x.dtype(), &[v])?;
        let destinations = match saved.needs[1] || needs_bias {
            true => Some(Destinations::new("gather_dot", &self.ids.ids_on_host()?, v)?),
            false => None,
        };
        match x.device() {
            Device::Cuda(cuda) => {
                let [n, k, v, d] = self.dims(&[x, table])?;
                let (x, table, ids, grad) = (x.cuda(), table.cuda(), self.ids.cuda(), grad.cuda());
                let dims = [n, d, k, v];
                let of = cuda::gather_dot::Choice { x, table, ids, dims };
                if saved.needs[0] {
                    cuda::gather_dot::backward_x(of, grad, dx.cuda_mut()?)?;
                }
                if let Some(destinations) = &destinations {
                    let places = cuda::destinations::Uploaded::new(cuda, destinations)?;
                    if saved.needs[1] {
                        cuda::gather_dot::backward_table(of, grad, &places, dtable.cuda_mut()?)?;
                    }
                    if needs_bias {
                        cuda::gather_dot::backward_bias(of, grad, &places, dbias.cuda_mut()?)?;
                    }
                }
            }
            Device::WebGpu(gpu) => {
                let [n, k, v, d] = self.dims(&[x, table])?;
                let (x, table, ids, grad) = (x.gpu()?, table.gpu()?, self.ids.gpu()?, grad.gpu()?);
                let dims = [n, d, k, v];
                let of =
                    webgpu::gather_dot::Choice { x: x.view(), table: table.view(), ids: ids.view(), dims };
                if saved.needs[0] {
                    webgpu::gather_dot::backward_x(of, grad.view(), dx.gpu_mut()?)?;
                }
                if let Some(destinations) = &destinations {
                    let places = webgpu::destinations::Uploaded::new(gpu, destinations)?;
                    if saved.needs[1] {
                        webgpu::gather_dot::backward_table(of, grad.view(), &places, dtable.gpu_mut()?)?;
                    }
                    if needs_bias {
                        webgpu::gather_dot::backward_bias(of, grad.view(), &places, dbias.gpu_mut()?)?;
                    }
                }
            }
            Device::Cpu => float_type!("gather_dot", x, T => {
                let (of, grad) = (self.choice::<T>(x, table), grad.host::<T>());
                if saved.needs[0] {
                    cpu::gather_dot::backward_x(of, grad, dx.host_mut());
                }
                if let Some(destinations) = &destinations {
                    if saved.needs[1] {
                        cpu::gather_dot::backward_table(of, grad, destinations, dtable.host_mut());
                    }
                    if needs_bias {
                        cpu::gather_dot::backward_bias(grad, destinations, dbias.host_mut());
                    }
                }
                Ok(())
            })?,
        }
        let grads = [(saved.needs[0], dx), (saved.needs[1], dtable), (needs_bias, dbias)];
        Ok(grads.into_iter().take(saved.needs.len()).map(|(needed, g)| needed.then_some(g)).collect())
    }

    fn cost(&self, inputs: &[&Tensor]) -> Cost {
        let (d, size) = (inputs[0].shape()[1], inputs[0].dtype().size());
        let chosen = self.ids.len();
        let bytes = (chosen * d + inputs[0].len() + chosen) * size + chosen * size_of::<u32>();
        Cost { flops: 2 * (chosen * d) as u64, bytes: bytes as u64 }
    }

    fn backward_cost(&self, saved: &Saved, grad: &Tensor) -> Cost {
        let (x, table) = (saved.input(0), saved.input(1));
        let chosen = grad.len() * x.shape()[1];
        let each = saved.needs[..2].iter().filter(|needed| **needed).count();
        let read = (each * chosen * grad.dtype().size()) as u64;
        let written =
            bytes_of(&[x]) * u64::from(saved.needs[0]) + bytes_of(&[table]) * u64::from(saved.needs[1]);
        Cost { flops: (2 * each * chosen) as u64, bytes: read + bytes_of(&[grad]) + written }
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
        let cases: [(&[u32], [usize; 2], usize, usize); 4] = [
            (&[0, 3, 3, 1, 0, 3], [3, 2], 5, 4),
            (&[2], [1, 1], 1, 3),
            (&[1, 1, 0, 1], [1, 4], 37, 2),
            (&[], [0, 2], 3, 2),
        ];
        for (list, shape, d, v) in cases {
            let (x, table) = (gradcheck::random(&[shape[0], d], 1), gradcheck::random(&[v, d], 2));
            let make = || GatherDot::new(ids(list, &shape));
            gradcheck::op(make, &[x.clone(), table.clone()]);
            gradcheck::op(make, &[x, table, gradcheck::random(&[v], 3)]);
        }
    }

    #[test]
    fn values_equal_plain_dot_products() {
        let (x, table) = (gradcheck::random(&[3, 19], 1), gradcheck::random(&[6, 19], 2));
        let bias = gradcheck::random(&[6], 3);
        let list = [5u32, 0, 2, 2, 4, 1];
        let y = GatherDot::new(ids(&list, &[3, 2])).forward(&[&x, &table, &bias], false).unwrap();
        let [x, table, bias, y] = [x, table, bias, y].map(|t| t.to_f64_vec().unwrap());
        for (place, &id) in list.iter().enumerate() {
            let (row, id) = (place / 2, id as usize);
            let dot: f64 = (0..19).map(|c| x[row * 19 + c] * table[id * 19 + c]).sum();
            assert!((y[place] - dot - bias[id]).abs() < 1e-12);
        }
    }

    #[test]
    fn an_id_beyond_the_table_is_an_error() {
        let (x, table) = (gradcheck::random(&[1, 3], 1), gradcheck::random(&[4, 3], 2));
        let error = GatherDot::new(ids(&[4], &[1, 1])).forward(&[&x, &table], false).unwrap_err().to_string();
        assert!(error.contains("id 4 at position 0") && error.contains("below 4"), "{error}");
        assert!(GatherDot::new(ids(&[0, 1], &[2, 1])).forward(&[&x, &table], false).is_err());
    }
}
