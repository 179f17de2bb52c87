//! How the target of every row stands among all columns of a linear head, as full-ranking evaluation asks. No gradient.
//! FLOPs 2·rows·d·columns; bytes of h, W, b and the results.

use super::matmul::{self, Terms};
use super::{Cost, bytes_of, expect_alike, expect_float, expect_ids, expect_shape, float_type};
pub use crate::device::cpu::standing::Standing;
use crate::device::cpu::{linear_cross_entropy::Head, standing as kernel};
use crate::device::{DType, Device, cuda, profile, webgpu};
use crate::tensor::Tensor;
use crate::{Error, Result};

/// Scores that a device other than the host holds at a time, or those of one row.
const SCORES: usize = 1 << 23;

/// Scores are h·Wᵀ + b: h `[rows, d]`, W `[columns, d]`, b `[columns]`; `targets` a column for every row, u32 `[rows]`.
///
/// # Errors
/// Shapes that do not fit, and targets that are no columns.
pub fn standings(h: &Tensor, weight: &Tensor, bias: &Tensor, targets: &Tensor) -> Result<Vec<Standing>> {
    let op = "standings";
    expect_alike(op, &[h, weight, bias])?;
    let ((rows, d), (columns, _)) = (h.dims2(op)?, weight.dims2(op)?);
    expect_shape(op, "the weight", weight, &[columns, d])?;
    expect_shape(op, "the bias", bias, &[columns])?;
    expect_shape(op, "the targets tensor", targets, &[rows])?;
    expect_ids(op, targets, h, columns)?;
    let cost = || Cost { flops: 2 * (rows * d * columns) as u64, bytes: bytes_of(&[h, weight, bias]) };
    let _range = profile::op(h.device(), op, cost);
    let mut standings = vec![Standing::default(); rows];
    match h.device() {
        Device::Cpu => float_type!(op, h, T => {
            let (weight, bias, targets) = (weight.host(), bias.host(), targets.host());
            kernel::standings::<T>(Head { h: h.host(), weight, bias, targets }, &mut standings);
            Ok(())
        })?,
        Device::Cuda(_) | Device::WebGpu(_) => {
            let found = on_device(h, weight, bias, targets)?.to_vec::<u32>()?;
            let pairs = standings.iter_mut().zip(found.chunks_exact(2));
            pairs.for_each(|(standing, pair)| *standing = Standing { above: pair[0], equal: pair[1] });
        }
    }
    Ok(standings)
}

/// The same on another device than the host, whose scores are counted there: u32 `[rows, 2]`, above and equal.
fn on_device(h: &Tensor, weight: &Tensor, bias: &Tensor, targets: &Tensor) -> Result<Tensor> {
    expect_float("standings", h)?;
    // A column that a search did not find has no score to be looked up.
    if targets.strict_id_bound()? as usize > bias.len() {
        return Err(Error::shape("standings", "a target is missing: the search that made it found none"));
    }
    let (device, rows, columns) = (h.device(), targets.len(), bias.len());
    let mut standings = Tensor::scratch(device, DType::U32, &[rows, 2])?;
    let together = (SCORES / columns.max(1)).max(1);
    for first in (0..rows).step_by(together) {
        let part = first..(first + together).min(rows);
        let h = h.rows(part.clone())?;
        let mut scores = Tensor::scratch(device, h.dtype(), &[part.len(), columns])?;
        matmul::run(&h, weight, false, true, &mut scores, Terms { bias: Some(bias), ..Terms::default() })?;
        match device {
            Device::Cuda(_) => {
                let targets = targets.cuda().part(first, part.len());
                let standings = standings.cuda_mut()?.part(2 * first, 2 * part.len());
                cuda::standing::count(scores.cuda(), columns, targets, standings)?;
            }
            Device::WebGpu(_) => {
                let (scores, targets) = (scores.gpu()?, targets.gpu()?);
                let standings = standings.gpu_mut()?;
                webgpu::standing::count(scores.view(), columns, targets.view(), first, standings)?;
            }
            Device::Cpu => unreachable!("the host counts by tiles"),
        }
    }
    Ok(standings)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::autograd::gradcheck;

    #[test]
    fn standings_are_those_counted_over_all_scores() {
        for (rows, d, columns) in [(1, 1, 1), (3, 5, 2), (300, 6, 2500), (5, 16, 1024), (0, 3, 4)] {
            // Small integers: ties are many, and every order of summation gives the same.
            let integers = |shape: &[usize], seed| -> Vec<f64> {
                let all = gradcheck::random(shape, seed).to_f64_vec().unwrap();
                all.iter().map(|x| (x * 3.0).round()).collect()
            };
            let (h, w, b) = (integers(&[rows, d], 1), integers(&[columns, d], 2), integers(&[columns], 3));
            let targets: Vec<u32> = (0..rows as u32).map(|i| i * 577 % columns as u32).collect();
            for dtype in [DType::F32, DType::F64] {
                let tensor =
                    |x: &[f64], shape: &[usize]| Tensor::from_f64(&Device::Cpu, dtype, x, shape).unwrap();
                let [h_in, w_in, b_in] =
                    [tensor(&h, &[rows, d]), tensor(&w, &[columns, d]), tensor(&b, &[columns])];
                let ids = Tensor::from_ids(&Device::Cpu, &targets).unwrap();
                let found = standings(&h_in, &w_in, &b_in, &ids).unwrap();
                for (row, found) in found.iter().enumerate() {
                    let score = |j: usize| b[j] + (0..d).map(|k| h[row * d + k] * w[j * d + k]).sum::<f64>();
                    let target = targets[row] as usize;
                    let others = (0..columns).filter(|&j| j != target);
                    let above = others.clone().filter(|&j| score(j) > score(target)).count() as u32;
                    let equal = others.filter(|&j| score(j) == score(target)).count() as u32;
                    assert_eq!(*found, Standing { above, equal }, "row {row} of {rows}x{d}x{columns}");
                }
            }
        }
    }

    #[test]
    fn a_target_stands_among_random_scores_where_its_own_score_puts_it_and_one_without_a_number_last() {
        let (rows, d, columns) = (140, 64, 3001);
        let cast = |x: Tensor| {
            let x: Vec<f32> = x.to_f64_vec().unwrap().iter().map(|&x| x as f32).collect();
            x
        };
        let (mut h, w) = (cast(gradcheck::random(&[rows, d], 1)), cast(gradcheck::random(&[columns, d], 2)));
        h[7 * d] = f32::NAN;
        let tensor = |x: &[f32], shape: &[usize]| Tensor::from_slice(&Device::Cpu, x, shape).unwrap();
        let targets: Vec<u32> = (0..rows as u32).map(|i| i * 577 % columns as u32).collect();
        let ids = Tensor::from_ids(&Device::Cpu, &targets).unwrap();
        let (h, w, b) =
            (tensor(&h, &[rows, d]), tensor(&w, &[columns, d]), tensor(&vec![0.5; columns], &[columns]));
        let found = standings(&h, &w, &b, &ids).unwrap();
        let mut scores = Tensor::scratch(&Device::Cpu, DType::F32, &[rows, columns]).unwrap();
        let terms = Terms { bias: Some(&b), ..Terms::default() };
        matmul::run(&h, &w, false, true, &mut scores, terms).unwrap();
        let scores = scores.to_vec::<f32>().unwrap();
        let standing = |(scores, &target): (&[f32], &u32)| {
            Standing::among(scores, scores[target as usize], Some(target as usize))
        };
        let want: Vec<Standing> = scores.chunks_exact(columns).zip(&targets).map(standing).collect();
        assert_eq!(found, want);
        assert_eq!(found[7], Standing { above: columns as u32 - 1, equal: 0 });
        assert!(found[8].above > 0 && found[8].above < columns as u32 - 1 && found[8].equal == 0);
    }
}
