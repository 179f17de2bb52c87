//! AdamW (Loshchilov and Hutter, arXiv 1711.05101, algorithm 2) on tensors, and squared norms for clipping. About
//! 14 FLOPs an element; bytes of parameter, both moments (read and written) and gradient.

use super::clip_norm::GradScale;
use super::{Cost, bytes_of, expect_alike, expect_float, expect_shape, float_type};
use crate::device::adamw::Update;
use crate::device::{DType, Device, cpu, cuda, profile, webgpu};
use crate::tensor::Tensor;
use crate::{Error, Result};

/// Constants of one update.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamWStep {
    /// Learning rate.
    pub lr: f64,
    /// Decay of the first moment.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// Added to the root of the second moment.
    pub eps: f64,
    /// Decoupled weight decay: the parameter shrinks by lr · weight_decay.
    pub weight_decay: f64,
    /// Number of this update, from 1, for the bias corrections.
    pub step: u64,
}

impl AdamWStep {
    /// The bias correction of a moment that decays by `beta`.
    fn correction(&self, beta: f64) -> f64 {
        1.0 - beta.powf(self.step as f64)
    }

    /// The constants of the update, each rounded once.
    fn update(&self) -> Update {
        Update {
            beta1: self.beta1 as f32,
            beta1_rest: (1.0 - self.beta1) as f32,
            beta2: self.beta2 as f32,
            beta2_rest: (1.0 - self.beta2) as f32,
            rate: (self.lr / self.correction(self.beta1)) as f32,
            second_scale: (1.0 / self.correction(self.beta2)) as f32,
            eps: self.eps as f32,
            keep: (1.0 - self.lr * self.weight_decay) as f32,
        }
    }
}

/// A tensor that is updated in place, its moments and its gradient, all of one shape; and the constants of its update.
#[derive(Debug)]
pub struct AdamWUpdate<'a> {
    /// What is updated.
    pub param: &'a mut Tensor,
    /// First moment.
    pub m: &'a mut Tensor,
    /// Second moment.
    pub v: &'a mut Tensor,
    /// Gradient.
    pub grad: &'a Tensor,
    /// Its constants.
    pub step: AdamWStep,
}

/// One update in place of `param`, its moments `m` and `v`, from `grad` times `scale`; all of one shape.
pub fn adamw_step(
    param: &mut Tensor,
    m: &mut Tensor,
    v: &mut Tensor,
    grad: &Tensor,
    step: &AdamWStep,
    scale: GradScale,
) -> Result<()> {
    adamw_steps(&mut [AdamWUpdate { param, m, v, grad, step: *step }], scale)
}

/// The same of several tensors on one device, with the same bits; on CUDA in one launch for many of them. Their constants are the same but
/// for learning rate and weight decay.
pub fn adamw_steps(updates: &mut [AdamWUpdate], scale: GradScale) -> Result<()> {
    let Some(AdamWUpdate { grad: first, step: common, .. }) = updates.first() else { return Ok(()) };
    let (device, common) = (first.device().clone(), *common);
    // Where the factor is on the device, 1 is what it multiplies.
    let (factor, scale) = match scale {
        GradScale::Host(factor) => (factor, None),
        GradScale::Device(scale) => (1.0, Some(scale)),
    };
    let mut work = Cost::default();
    for AdamWUpdate { param, m, v, grad, step } in updates.iter() {
        expect_alike("adamw", &[first, param, m, v, grad])?;
        for (what, tensor) in
            [("the first moment", &**m), ("the second moment", &**v), ("the gradient", grad)]
        {
            expect_shape("adamw", what, tensor, param.shape())?;
        }
        if (AdamWStep { lr: common.lr, weight_decay: common.weight_decay, ..*step }) != common {
            let problem = format!("one launch for updates of different constants, {common:?} and {step:?}");
            return Err(Error::shape("adamw", problem));
        }
        let own = cost(grad.len(), grad.dtype().size());
        work = Cost { flops: work.flops + own.flops, bytes: work.bytes + own.bytes };
    }
    scale.map_or(Ok(()), |scale| expect_alike("adamw", &[first, scale]))?;
    let _range = profile::op(&device, "adamw", || work);
    match &device {
        Device::Cuda(_) => {
            expect_float("adamw", first)?;
            let mut views = Vec::with_capacity(updates.len());
            for AdamWUpdate { param, m, v, grad, step } in updates.iter_mut() {
                views.push((step.update(), param.cuda_mut()?, [m.cuda_mut()?, v.cuda_mut()?], grad.cuda()));
            }
            cuda::adamw::steps(&views, (factor as f32, scale.map(Tensor::cuda)))
        }
        _ => updates.iter_mut().try_for_each(|update| step_of(update, (factor, scale))),
    }
}

/// One tensor's update, on a device that takes them one by one.
fn step_of(of: &mut AdamWUpdate, (factor, scale): (f64, Option<&Tensor>)) -> Result<()> {
    let AdamWUpdate { param, m, v, grad, step } = of;
    match grad.device() {
        Device::WebGpu(_) => {
            expect_float("adamw", grad)?;
            let moments = [m.gpu_mut()?, v.gpu_mut()?];
            let scale = scale.map(Tensor::gpu).transpose()?;
            let scale = (factor as f32, scale.as_ref().map(|scale| scale.view()));
            webgpu::adamw::step(step.update(), param.gpu_mut()?, moments, grad.gpu()?.view(), scale)
        }
        Device::Cuda(_) => unreachable!("CUDA takes all updates together"),
        Device::Cpu => float_type!("adamw", grad, T => {
            let factor = match scale.map(|scale| scale.host::<T>()[0]) {
                Some(scale) if scale < 0.0 => return Ok(()),
                Some(scale) => scale,
                None => factor as T,
            };
            let update = cpu::adamw::Update {
                grad_scale: factor,
                beta1: step.beta1 as T,
                beta2: step.beta2 as T,
                rate: (step.lr / step.correction(step.beta1)) as T,
                second_scale: (1.0 / step.correction(step.beta2)) as T,
                eps: step.eps as T,
                keep: (1.0 - step.lr * step.weight_decay) as T,
            };
            let (m, v) = (m.host_mut::<T>(), v.host_mut::<T>());
            cpu::adamw::step(update, param.host_mut::<T>(), m, v, grad.host::<T>());
            Ok(())
        }),
    }
}

/// Σ x², in an order that depends on the length alone; accumulated in f64 on the CPU, in f32 elsewhere.
pub fn squared_norm(x: &Tensor) -> Result<f64> {
    Ok(squared_norms(&[x])?[0])
}

/// [`squared_norm`] of each of the tensors, which are on one device; the host waits for it once.
pub fn squared_norms(tensors: &[&Tensor]) -> Result<Vec<f64>> {
    match tensors.first().map(|x| x.device()) {
        Some(Device::Cuda(_) | Device::WebGpu(_)) => squares_on_device(tensors)?.to_f64_vec(),
        Some(Device::Cpu) => {
            expect_one_device(tensors)?;
            let _range = profile::op(&Device::Cpu, "squared_norms", || squares_cost(tensors));
            let square = |x: &&Tensor| float_type!("squared_norm", x, T => Ok(cpu::adamw::squared_norm(x.host::<T>())));
            tensors.iter().map(square).collect()
        }
        None => Ok(Vec::new()),
    }
}

fn expect_one_device(tensors: &[&Tensor]) -> Result<()> {
    let Some(first) = tensors.first() else { return Ok(()) };
    if let Some(other) = tensors.iter().find(|x| x.device() != first.device()) {
        return Err(Error::shape(
            "squared_norm",
            format!("{first:?} and {other:?} are on different devices"),
        ));
    }
    Ok(())
}

/// The same of tensors on another device than the host, left there: `[tensors]`.
pub(super) fn squares_on_device(tensors: &[&Tensor]) -> Result<Tensor> {
    expect_one_device(tensors)?;
    let device = tensors.first().map_or(&Device::Cpu, |x| x.device());
    let _range = profile::op(device, "squared_norms", || squares_cost(tensors));
    let mut squares = Tensor::scratch(device, DType::F32, &[tensors.len()])?;
    tensors.iter().try_for_each(|x| expect_float("squared_norm", x))?;
    match device {
        Device::Cuda(_) => {
            let views: Vec<_> = tensors.iter().map(|x| x.cuda()).collect();
            cuda::reduce::squares(&views, squares.cuda_mut()?)?;
        }
        Device::WebGpu(_) => {
            for (i, x) in tensors.iter().enumerate() {
                webgpu::reduce::squares(x.gpu()?.view(), squares.gpu_mut()?, i)?;
            }
        }
        Device::Cpu => unreachable!("squares of tensors in host memory are computed there"),
    }
    Ok(squares)
}

fn squares_cost(tensors: &[&Tensor]) -> Cost {
    Cost { flops: tensors.iter().map(|x| 2 * x.len() as u64).sum(), bytes: bytes_of(tensors) }
}

/// Work of one update of `len` elements of `element` bytes.
pub fn cost(len: usize, element: usize) -> Cost {
    Cost { flops: 14 * len as u64, bytes: (7 * len * element) as u64 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::autograd::gradcheck;

    const STEP: AdamWStep =
        AdamWStep { lr: 0.1, beta1: 0.9, beta2: 0.99, eps: 1e-8, weight_decay: 0.3, step: 1 };

    #[test]
    fn three_updates_equal_the_plain_algorithm() {
        let shape = [7, 5];
        let mut param = gradcheck::random(&shape, 1);
        let mut want = param.to_f64_vec().unwrap();
        let zeros = || Tensor::zeros(&Device::Cpu, DType::F64, &shape).unwrap();
        let (mut m, mut v) = (zeros(), zeros());
        let (mut want_m, mut want_v) = (vec![0.0; 35], vec![0.0; 35]);
        for t in 1..=3 {
            let grad = gradcheck::random(&shape, 10 + t);
            adamw_step(
                &mut param,
                &mut m,
                &mut v,
                &grad,
                &AdamWStep { step: t, ..STEP },
                GradScale::Host(0.5),
            )
            .unwrap();
            for (i, g) in grad.to_f64_vec().unwrap().into_iter().map(|g| 0.5 * g).enumerate() {
                want_m[i] = 0.9 * want_m[i] + 0.1 * g;
                want_v[i] = 0.99 * want_v[i] + 0.01 * g * g;
                let m_hat = want_m[i] / (1.0 - 0.9f64.powi(t as i32));
                let v_hat = want_v[i] / (1.0 - 0.99f64.powi(t as i32));
                want[i] -= 0.1 * (m_hat / (v_hat.sqrt() + 1e-8) + 0.3 * want[i]);
            }
        }
        for (found, want) in param.to_f64_vec().unwrap().iter().zip(want) {
            assert!((found - want).abs() < 1e-12, "{found} {want}");
        }
    }

    #[test]
    fn squared_norms_sum_every_element() {
        let data: Vec<f32> = (0..50_001).map(|i| (i % 7) as f32).collect();
        let x = Tensor::from_slice(&Device::Cpu, &data, &[50_001]).unwrap();
        let want: f64 = data.iter().map(|&v| f64::from(v * v)).sum();
        assert_eq!(squared_norm(&x).unwrap(), want);
    }

    #[test]
    fn a_gradient_of_another_shape_is_an_error() {
        let (mut p, g) = (gradcheck::random(&[3], 1), gradcheck::random(&[4], 2));
        let (mut m, mut v) = (gradcheck::random(&[3], 3), gradcheck::random(&[3], 4));
        assert!(
            adamw_step(&mut p, &mut m, &mut v, &g, &STEP, GradScale::Host(1.0))
                .unwrap_err()
                .to_string()
                .contains("gradient")
        );
    }
}
