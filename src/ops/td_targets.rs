//! Targets of temporal differences, r + γ·V: what a step of Q-learning moves its values to. No gradient. Two FLOPs an element;
//! bytes of rewards, sources, values read and targets.

use super::{Cost, expect_float, float_type};
use crate::device::{DType, Device, cpu, cuda, profile, webgpu};
use crate::tensor::Tensor;
use crate::{Error, Result};

/// The source of a target that is its reward alone: at the end of an episode.
pub const NO_SOURCE: u32 = u32::MAX;

/// targetᵢ = rewardsᵢ + `discount`·values\[sourcesᵢ\], the reward alone for [`NO_SOURCE`]: `[n]` of the type and on the device
/// of `values: [count]`. A value that is no number gives such targets.
///
/// # Errors
/// As many sources as rewards are expected, each a place among the values.
pub fn td_targets(rewards: &[f64], sources: &[u32], values: &Tensor, discount: f64) -> Result<Tensor> {
    let op = "td_targets";
    let count = values.dims1(op)?;
    if sources.len() != rewards.len() {
        return Err(Error::shape(op, format!("{} sources for {} rewards", sources.len(), rewards.len())));
    }
    if let Some(at) = sources.iter().position(|&source| source != NO_SOURCE && source as usize >= count) {
        let problem = format!("source {} at position {at}, and there are {count} values", sources[at]);
        return Err(Error::shape(op, problem));
    }
    let (device, shape) = (values.device(), [rewards.len()]);
    let _range = profile::op(device, op, || cost(rewards.len(), values.dtype().size()));
    let upload = || -> Result<_> {
        expect_float(op, values)?;
        let rewards = Tensor::from_f64(device, DType::F32, rewards, &shape)?;
        Ok((rewards, Tensor::from_ids(device, sources)?, Tensor::scratch(device, DType::F32, &shape)?))
    };
    match device {
        Device::Cuda(_) => {
            let (rewards, sources, mut targets) = upload()?;
            let (rewards, sources, values) = (rewards.cuda(), sources.cuda(), values.cuda());
            cuda::td_targets::forward(rewards, sources, values, discount as f32, targets.cuda_mut()?)?;
            Ok(targets)
        }
        Device::WebGpu(_) => {
            let (rewards, sources, mut targets) = upload()?;
            let (rewards, sources, values) = (rewards.gpu()?, sources.gpu()?, values.gpu()?);
            let (rewards, sources, values) = (rewards.view(), sources.view(), values.view());
            webgpu::td_targets::forward(rewards, sources, values, discount as f32, targets.gpu_mut()?)?;
            Ok(targets)
        }
        Device::Cpu => float_type!(op, values, T => {
            use cpu::Float;
            let values = values.host::<T>();
            let target = |(&reward, &source): (&f64, &u32)| match source {
                NO_SOURCE => reward as T,
                source => (reward + discount * values[source as usize].to_f64()) as T,
            };
            let targets: Vec<T> = rewards.iter().zip(sources).map(target).collect();
            Tensor::from_slice(device, &targets, &shape)
        }),
    }
}

/// Work of `n` targets of `element` bytes.
pub fn cost(n: usize, element: usize) -> Cost {
    Cost { flops: 2 * n as u64, bytes: (n * (3 * element + size_of::<u32>())) as u64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_rewards_and_discounted_values_and_an_episode_ends_with_its_reward() {
        for dtype in [DType::F64, DType::F32] {
            let values = Tensor::from_f64(&Device::Cpu, dtype, &[4.0, -2.0], &[2]).unwrap();
            let targets = td_targets(&[1.0, 0.25, 3.0], &[1, NO_SOURCE, 0], &values, 0.5).unwrap();
            assert_eq!((targets.to_f64_vec().unwrap(), targets.dtype()), (vec![0.0, 0.25, 5.0], dtype));
        }
    }

    #[test]
    fn sources_that_do_not_fit_are_errors() {
        let values = Tensor::from_f64(&Device::Cpu, DType::F32, &[4.0, -2.0], &[2]).unwrap();
        let error = |sources: &[u32]| td_targets(&[1.0], sources, &values, 0.5).unwrap_err().to_string();
        assert!(error(&[2]).contains("source 2 at position 0, and there are 2 values"));
        assert!(error(&[0, 1]).contains("2 sources for 1 rewards"));
    }
}
