//! InfoNCE (van den Oord et al., arXiv 1807.03748, equation 4) over similarities: lossᵢ = −log softmax(simᵢ/τ)ₜ over
//! the columns that count. In-batch and sampled negatives are columns; the mask takes out accidental hits. About
//! 10 FLOPs an element; bytes of similarities and mask.

use super::cross_entropy::Rows;
use super::{Cost, Op, Saved, expect_shape};
use crate::device::DType;
use crate::tensor::Tensor;
use crate::{Error, Result};

/// Input: similarities `[n, m]`; output: losses `[n]`, neither summed nor weighted.
#[derive(Clone, Debug)]
pub struct InfoNce {
    targets: Tensor,
    temperature: f64,
    mask: Option<Tensor>,
    /// log Σ exp of every row, kept for backward.
    log_sums: Option<Tensor>,
}

impl InfoNce {
    /// `targets`: the positive's column, u32 `[n]`; `temperature` above 0; `mask`: u32 `[n, m]`, 0 where a column is
    /// no negative of the row (its target must not be 0).
    pub fn new(targets: Tensor, temperature: f64, mask: Option<Tensor>) -> Self {
        InfoNce { targets, temperature, mask, log_sums: None }
    }

    fn rows(&self) -> Rows<'_> {
        Rows {
            op: "info_nce",
            targets: &self.targets,
            mask: self.mask.as_ref(),
            scale: 1.0 / self.temperature,
        }
    }

    /// An error unless the temperature is above 0 and the mask fits and leaves every target.
    fn check(&self, x: &Tensor) -> Result<()> {
        if !(self.temperature > 0.0 && self.temperature.is_finite()) {
            return Err(Error::setting(
                format!("the temperature of the state loss is {}", self.temperature),
                "set it above 0, for example 0.1",
            ));
        }
        let (_, columns) = x.dims2("info_nce")?;
        let Some(mask) = &self.mask else { return Ok(()) };
        expect_shape("info_nce", "the mask", mask, x.shape())?;
        if mask.dtype() != DType::U32 || mask.device() != x.device() || self.targets.dtype() != DType::U32 {
            return Err(Error::shape("info_nce", format!("mask {mask:?} and targets must be u32, beside x")));
        }
        // Where a kernel made the mask or the targets, the loss's kernel tells by NaN: a read-back would cost more.
        let (Some(mask), Some(targets)) = (mask.known_ids(), self.targets.known_ids()) else { return Ok(()) };
        let gone = |(row, &t): (usize, &u32)| mask.get(row * columns + t as usize) == Some(&0);
        let masked = targets.iter().enumerate().position(gone);
        match masked {
            None => Ok(()),
            Some(row) => Err(Error::shape("info_nce", format!("the mask excludes the target of row {row}"))),
        }
    }
}

impl Op for InfoNce {
    fn name(&self) -> &'static str {
        "info_nce"
    }

    fn forward(&mut self, inputs: &[&Tensor], record: bool) -> Result<Tensor> {
        self.check(inputs[0])?;
        let (losses, log_sums) = self.rows().forward(inputs[0])?;
        self.log_sums = record.then_some(log_sums);
        Ok(losses)
    }

    fn backward(&self, saved: &Saved, grad: &Tensor) -> Result<Vec<Option<Tensor>>> {
        let log_sums = self.log_sums.as_ref().expect("forward was recorded");
        Ok(vec![Some(self.rows().backward(saved.input(0), log_sums, grad)?)])
    }

    fn cost(&self, inputs: &[&Tensor]) -> Cost {
        self.rows().cost(inputs[0], 1)
    }

    fn backward_cost(&self, saved: &Saved, _grad: &Tensor) -> Cost {
        self.rows().cost(saved.input(0), 2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::autograd::gradcheck;
    use crate::device::Device;

    fn ids(ids: &[u32], shape: &[usize]) -> Tensor {
        Tensor::from_slice(&Device::Cpu, ids, shape).unwrap()
    }

    #[test]
    fn gradients_match_finite_differences() {
        for (n, m) in [(1, 1), (3, 5), (2, 150)] {
            let targets: Vec<u32> = (0..n).map(|i| ((i * 2 + 1) % m) as u32).collect();
            let mask: Vec<u32> =
                (0..n * m).map(|p| u32::from(p % 3 != 0 || targets[p / m] as usize == p % m)).collect();
            let sims = gradcheck::random(&[n, m], 1);
            let make = |mask| InfoNce::new(ids(&targets, &[n]), 0.3, mask);
            gradcheck::op(|| make(None), std::slice::from_ref(&sims));
            gradcheck::op(|| make(Some(ids(&mask, &[n, m]))), &[sims]);
        }
    }

    #[test]
    fn excluded_columns_do_not_count() {
        let sims = Tensor::from_slice(&Device::Cpu, &[0.5f64, 0.9, -0.2], &[1, 3]).unwrap();
        let mask = ids(&[1, 0, 1], &[1, 3]);
        let loss = InfoNce::new(ids(&[0], &[1]), 0.1, Some(mask)).forward(&[&sims], false).unwrap();
        let want = (1.0 + (-7f64).exp()).ln();
        assert!((loss.item().unwrap() - want).abs() < 1e-12);
    }

    #[test]
    fn senseless_temperatures_masks_and_targets_are_errors() {
        let sims = gradcheck::random(&[1, 3], 1);
        let message = |target: u32, temperature: f64, mask: Option<Tensor>| {
            InfoNce::new(ids(&[target], &[1]), temperature, mask)
                .forward(&[&sims], false)
                .unwrap_err()
                .to_string()
        };
        assert!(message(0, 0.0, None).contains("temperature"));
        assert!(message(0, 0.1, Some(ids(&[0, 1, 1], &[1, 3]))).contains("target of row 0"));
        assert!(message(0, 0.1, Some(ids(&[1, 1], &[1, 2]))).contains("mask"));
        assert!(message(3, 0.1, None).contains("id 3"));
    }
}
