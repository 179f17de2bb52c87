//! How the target of every row stands among all columns of a linear head, as full-ranking evaluation asks. No gradient.
//! FLOPs 2·rows·d·columns; bytes of h, W, b and the results.

use super::matmul::{self, Terms};
use super::{Cost, bytes_of, expect_alike, expect_ids, expect_shape, float_type};
use crate::Result;
pub use crate::device::cpu::standing::Standing;
use crate::device::cpu::{linear_cross_entropy::Head, standing as kernel};
use crate::device::{Device, profile};
use crate::tensor::Tensor;

/// Scores that a device other than the host holds at a time, whatever the number of columns.
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
            let targets = targets.ids_on_host()?;
            let together = (SCORES / columns.max(1)).max(1);
            let parts = standings.chunks_mut(together).zip(targets.chunks(together));
            for (part, (standings, targets)) in parts.enumerate() {
                let first = part * together;
                let h = h.rows(first..first + targets.len())?;
                let mut scores = Tensor::scratch(h.device(), h.dtype(), &[targets.len(), columns])?;
                let terms = Terms { bias: Some(bias), ..Terms::default() };
                matmul::run(&h, weight, false, true, &mut scores, terms)?;
                kernel::counted(&scores.to_vec::<f32>()?, targets, standings);
            }
        }
    }
    Ok(standings)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::autograd::gradcheck;
    use crate::device::DType;

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
        let mut want = vec![Standing::default(); rows];
        kernel::counted(&scores.to_vec::<f32>().unwrap(), &targets, &mut want);
        assert_eq!(found, want);
        assert_eq!(found[7], Standing { above: columns as u32 - 1, equal: 0 });
        assert!(found[8].above > 0 && found[8].above < columns as u32 - 1 && found[8].equal == 0);
    }
}
