//! Exact search for the best table rows by dot product, as in candidates by similarity and the argmax of double
//! Q-learning (k = 1). No gradient. FLOPs 2·n·v·d; bytes of x, the table and the results: the scores `[n, v]` are
//! never stored.

use super::{Cost, bytes_of, expect_alike, expect_shape, float_type};
use crate::device::{DType, Device, cpu, cuda, profile, webgpu};
use crate::tensor::Tensor;
use crate::{Error, Result};

/// For every row of x `[n, d]` the `k` rows of `table` `[v, d]` with the largest product (plus `bias` `[v]`): values
/// `[n, k]` and u32 ids `[n, k]`, best first, of equal ones the smaller id first. NaN scores are never found.
///
/// `exclude` holds for every row of x the ids to leave out, ascending, or is empty. Where fewer than `k` are left,
/// the rest is −∞ and `u32::MAX`. A row's bits do not depend on the other rows of x.
pub fn retrieve(
    x: &Tensor,
    table: &Tensor,
    bias: Option<&Tensor>,
    k: usize,
    exclude: &[Vec<u32>],
) -> Result<(Tensor, Tensor)> {
    let (n, d) = x.dims2("retrieve")?;
    let (v, _) = table.dims2("retrieve")?;
    expect_alike("retrieve", &[x, table])?;
    expect_shape("retrieve", "the table", table, &[v, d])?;
    if let Some(bias) = bias {
        expect_alike("retrieve", &[x, bias])?;
        expect_shape("retrieve", "the bias", bias, &[v])?;
    }
    check_request(n, k, exclude)?;
    let _range = profile::op(x.device(), "retrieve", || cost(x, table, k));
    let mut values = Tensor::scratch(x.device(), x.dtype(), &[n, k])?;
    let mut ids = Tensor::scratch(x.device(), DType::U32, &[n, k])?;
    match x.device() {
        Device::Cuda(_) => {
            let (x, table, bias) = (x.cuda(), table.cuda(), bias.map(Tensor::cuda));
            let search = cuda::retrieve::Search { x, table, bias, exclude, dims: [n, d, v, k] };
            cuda::retrieve::retrieve(search, values.cuda_mut()?, ids.cuda_mut()?)?;
            // Where ids can run out, the host does not know whether they are in range. NaN scores can make a row run out
            // too: kernels that look up such an id give NaN again.
            if k + exclude.iter().map(Vec::len).max().unwrap_or(0) <= v {
                ids.set_id_bound(v);
            }
        }
        Device::WebGpu(_) => {
            let (x, table, bias) = (x.gpu()?, table.gpu()?, bias.map(|bias| bias.gpu()).transpose()?);
            let search = webgpu::retrieve::Search {
                x: x.view(),
                table: table.view(),
                bias: bias.as_ref().map(|bias| bias.view()),
                exclude,
                dims: [n, d, v, k],
            };
            webgpu::retrieve::retrieve(search, values.gpu_mut()?, ids.gpu_mut()?)?;
            // Where ids can run out, the host does not know whether they are in range. NaN scores can make a row run out
            // too: kernels that look up such an id give NaN again.
            if k + exclude.iter().map(Vec::len).max().unwrap_or(0) <= v {
                ids.set_id_bound(v);
            }
        }
        Device::Cpu => float_type!("retrieve", x, T => {
            let bias = bias.map(|b| b.host::<T>());
            let search = cpu::retrieve::Search { x: x.host::<T>(), table: table.host(), bias, exclude, d, v, k };
            cpu::retrieve::retrieve(search, values.host_mut(), ids.host_mut());
            Ok(())
        })?,
    }
    Ok((values, ids))
}

fn check_request(n: usize, k: usize, exclude: &[Vec<u32>]) -> Result<()> {
    if k == 0 {
        return Err(Error::shape("retrieve", "k is 0, expected at least 1"));
    }
    if !exclude.is_empty() && exclude.len() != n {
        let problem =
            format!("{} lists of excluded ids for {n} rows, expected one a row or none", exclude.len());
        return Err(Error::shape("retrieve", problem));
    }
    match exclude.iter().position(|list| !list.is_sorted()) {
        Some(row) => Err(Error::shape("retrieve", format!("the excluded ids of row {row} do not ascend"))),
        None => Ok(()),
    }
}

/// Work of one call.
pub fn cost(x: &Tensor, table: &Tensor, k: usize) -> Cost {
    let rows = x.shape().first().copied().unwrap_or(0);
    let results = rows * k * (x.dtype().size() + size_of::<u32>());
    let flops = 2 * (x.len() * table.shape().first().copied().unwrap_or(0)) as u64;
    Cost { flops, bytes: bytes_of(&[x, table]) + results as u64 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::autograd::gradcheck;

    /// Small integers, so that products are exact and ties are many.
    fn integers(shape: &[usize], seed: u64) -> Tensor {
        let data = gradcheck::random(shape, seed).to_f64_vec().unwrap();
        let data: Vec<f32> = data.iter().map(|v| (v * 3.0).round() as f32).collect();
        Tensor::from_slice(&Device::Cpu, &data, shape).unwrap()
    }

    fn sorted_scores(x: &[f32], table: &[f32], d: usize, bias: &[f32], exclude: &[u32]) -> Vec<(f32, u32)> {
        let dot = |row: &[f32]| row.iter().zip(x).map(|(a, b)| a * b).sum::<f32>();
        let mut all: Vec<(f32, u32)> =
            table.chunks(d).enumerate().map(|(id, row)| (dot(row) + bias[id], id as u32)).collect();
        all.retain(|(_, id)| !exclude.contains(id));
        all.sort_by(|a, b| b.0.partial_cmp(&a.0).unwrap().then(a.1.cmp(&b.1)));
        all
    }

    #[test]
    fn results_equal_a_full_sort_with_ties_and_exclusions() {
        for (n, v, d, k) in [(1, 1, 1, 1), (3, 7, 4, 7), (200, 2500, 5, 20), (5, 1100, 3, 1100), (2, 5, 2, 9)]
        {
            let (x, table, bias) = (integers(&[n, d], 1), integers(&[v, d], 2), integers(&[v], 3));
            let exclude: Vec<Vec<u32>> =
                (0..n).map(|i| (0..v as u32).skip(i % 3).step_by(4).collect()).collect();
            let (values, ids) = retrieve(&x, &table, Some(&bias), k, &exclude).unwrap();
            let (values, ids) = (values.to_vec::<f32>().unwrap(), ids.to_vec::<u32>().unwrap());
            let [x, table, bias] = [&x, &table, &bias].map(|t| t.to_vec::<f32>().unwrap());
            for i in 0..n {
                let mut want = sorted_scores(&x[i * d..(i + 1) * d], &table, d, &bias, &exclude[i]);
                want.resize(want.len().max(k), (f32::NEG_INFINITY, u32::MAX));
                let found: Vec<(f32, u32)> =
                    (i * k..(i + 1) * k).map(|place| (values[place], ids[place])).collect();
                assert!(found == want[..k], "row {i} of n {n} v {v} d {d} k {k}");
            }
        }
    }

    #[test]
    fn a_row_has_the_same_bits_whatever_rows_stand_beside_it() {
        let to_f32 = |t: Tensor, shape: &[usize]| {
            Tensor::from_f64(&Device::Cpu, DType::F32, &t.to_f64_vec().unwrap(), shape).unwrap()
        };
        let x = to_f32(gradcheck::random(&[300, 48], 1), &[300, 48]);
        let table = to_f32(gradcheck::random(&[1500, 48], 2), &[1500, 48]);
        let (values, ids) = retrieve(&x, &table, None, 10, &[]).unwrap();
        for (from, to) in [(0, 1), (127, 129), (40, 290), (299, 300)] {
            let (part, part_ids) = retrieve(&x.rows(from..to).unwrap(), &table, None, 10, &[]).unwrap();
            let (want, want_ids) = (values.rows(from..to).unwrap(), ids.rows(from..to).unwrap());
            assert_eq!(part.to_vec::<f32>().unwrap(), want.to_vec::<f32>().unwrap());
            assert_eq!(part_ids.to_vec::<u32>().unwrap(), want_ids.to_vec::<u32>().unwrap());
        }
    }

    #[test]
    fn nan_scores_are_never_found() {
        let x = Tensor::from_slice(&Device::Cpu, &[1f32], &[1, 1]).unwrap();
        let table = Tensor::from_slice(&Device::Cpu, &[f32::NAN, 2.0, f32::NEG_INFINITY], &[3, 1]).unwrap();
        let (_, ids) = retrieve(&x, &table, None, 3, &[]).unwrap();
        assert_eq!(ids.to_vec::<u32>().unwrap(), [1, 2, u32::MAX]);
    }

    #[test]
    fn senseless_requests_are_errors() {
        let (x, table) = (integers(&[2, 3], 1), integers(&[4, 3], 2));
        assert!(retrieve(&x, &table, None, 0, &[]).is_err());
        assert!(retrieve(&x, &table, None, 1, &[vec![1]]).unwrap_err().to_string().contains("1 lists"));
        let unsorted = [vec![], vec![3, 1]];
        assert!(retrieve(&x, &table, None, 1, &unsorted).unwrap_err().to_string().contains("row 1"));
        assert!(retrieve(&x, &integers(&[4, 2], 1), None, 1, &[]).is_err());
    }
}
