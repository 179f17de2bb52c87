//! The largest elements of every row. No gradient. No FLOPs, about one comparison an element; bytes of the scores
//! and the results.

use super::{Cost, bytes_of, float_type};
use crate::device::{DType, Device, cpu, cuda, profile, webgpu};
use crate::tensor::Tensor;
use crate::{Error, Result};

/// The `k` largest of every row of `scores` `[n, m]`, 1 ≤ k ≤ m: values `[n, k]` and u32 columns `[n, k]`, largest
/// first, of equal ones the smaller column first. NaN is never among them: where a row has fewer than `k` numbers,
/// the rest is −∞ and `u32::MAX`.
pub fn top_k(scores: &Tensor, k: usize) -> Result<(Tensor, Tensor)> {
    let (n, m) = scores.dims2("top_k")?;
    if k == 0 || k > m {
        return Err(Error::shape("top_k", format!("k {k} of rows of {m}, expected 1 to {m}")));
    }
    let _range = profile::op(scores.device(), "top_k", || cost(scores, k));
    let mut values = Tensor::scratch(scores.device(), scores.dtype(), &[n, k])?;
    let mut ids = Tensor::scratch(scores.device(), DType::U32, &[n, k])?;
    match scores.device() {
        Device::Cuda(_) => {
            cuda::top_k::top_k(scores.cuda(), m, k, values.cuda_mut()?, ids.cuda_mut()?)?;
            ids.set_id_bound(m);
        }
        Device::WebGpu(_) => {
            webgpu::top_k::top_k(scores.gpu()?.view(), m, k, values.gpu_mut()?, ids.gpu_mut()?)?;
            ids.set_id_bound(m);
        }
        Device::Cpu => float_type!("top_k", scores, T => {
            cpu::top_k::top_k::<T>(scores.host(), m, k, values.host_mut(), ids.host_mut());
            Ok(())
        })?,
    }
    Ok((values, ids))
}

/// Work of one call.
pub fn cost(scores: &Tensor, k: usize) -> Cost {
    let rows = scores.shape().first().copied().unwrap_or(0);
    let results = rows * k * (scores.dtype().size() + size_of::<u32>());
    Cost { flops: 0, bytes: bytes_of(&[scores]) + results as u64 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::autograd::gradcheck;

    /// Integers from −3 to 3: many ties.
    fn tied(rows: usize, m: usize) -> Vec<f64> {
        let x = gradcheck::random(&[rows * m], m as u64).to_f64_vec().unwrap();
        x.into_iter().map(|v| (v * 3.0).round()).collect()
    }

    #[test]
    fn results_equal_those_of_a_full_sort_with_ties_by_column() {
        for (rows, m, k) in [(1, 1, 1), (3, 50, 7), (2, 1000, 3), (2, 333, 333), (70, 300, 20), (0, 4, 2)] {
            let data = tied(rows, m);
            let scores = Tensor::from_slice(&Device::Cpu, &data, &[rows, m]).unwrap();
            let (values, ids) = top_k(&scores, k).unwrap();
            let (values, ids) = (values.to_vec::<f64>().unwrap(), ids.to_vec::<u32>().unwrap());
            for (row, x) in data.chunks(m).enumerate() {
                let mut order: Vec<u32> = (0..m as u32).collect();
                let value = |id: u32| x[id as usize];
                order.sort_by(|&a, &b| value(b).partial_cmp(&value(a)).unwrap().then(a.cmp(&b)));
                assert_eq!(ids[row * k..(row + 1) * k], order[..k], "{rows} {m} {k}");
                let best: Vec<f64> = order[..k].iter().map(|&id| x[id as usize]).collect();
                assert_eq!(values[row * k..(row + 1) * k], best);
            }
        }
    }

    #[test]
    fn nan_is_never_found_and_infinities_are_ordered() {
        let data = [f32::NAN, f32::NEG_INFINITY, 1.0, f32::INFINITY];
        let (values, ids) = top_k(&Tensor::from_slice(&Device::Cpu, &data, &[1, 4]).unwrap(), 4).unwrap();
        assert_eq!(ids.to_vec::<u32>().unwrap(), [3, 2, 1, u32::MAX]);
        let values = values.to_vec::<f32>().unwrap();
        assert_eq!(values, [f32::INFINITY, 1.0, f32::NEG_INFINITY, f32::NEG_INFINITY]);
    }

    #[test]
    fn more_than_a_row_holds_and_none_are_errors() {
        let scores = gradcheck::random(&[2, 3], 1);
        for k in [0, 4] {
            assert!(top_k(&scores, k).unwrap_err().to_string().contains("expected 1 to 3"));
        }
    }
}
