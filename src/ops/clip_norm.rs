//! Clipping of gradients by their norm over all tensors (Pascanu et al., arXiv 1211.5063): g ← g·limit/‖g‖ where the norm is
//! above the limit. Two FLOPs an element; bytes of the gradients.

use super::adamw::{squared_norms, squares_on_device};
use super::read_together::read_together;
use crate::Result;
use crate::device::{DType, Device, cuda, webgpu};
use crate::tensor::Tensor;

/// The norm of some gradients, and the factor that clips them. Where they live on another device than the host, so does this:
/// the host waits only when it asks.
#[derive(Clone, Debug)]
pub struct Clip(Found);

#[derive(Clone, Debug)]
enum Found {
    OnHost(Norm),
    OnDevice {
        /// Squared norm of every gradient.
        squares: Tensor,
        /// `[2]`: the factor, −1 where nothing may be updated, and the norm.
        told: Tensor,
    },
}

/// What the host knows of a clipped norm.
#[derive(Clone, Debug, PartialEq)]
pub struct Norm {
    /// Norm over all gradients, before clipping.
    pub norm: f64,
    /// Factor on every gradient; `None` where the norm is no finite number, and nothing may be updated.
    pub factor: Option<f64>,
    /// Squared norm of every gradient; of another device than the host only where there is no factor.
    pub squares: Vec<f64>,
}

/// What an update multiplies a gradient by.
#[derive(Clone, Copy, Debug)]
pub enum GradScale<'a> {
    /// This number.
    Host(f64),
    /// The first element of this tensor on the device of the gradient; nothing is updated where that is negative.
    Device(&'a Tensor),
}

/// The norm of `grads`, which are on one device, and the factor that brings it down to `limit`, if one is given.
///
/// # Errors
/// Gradients on different devices.
pub fn clip_norm(grads: &[&Tensor], limit: Option<f64>) -> Result<Clip> {
    let device = grads.first().map_or(&Device::Cpu, |grad| grad.device());
    if *device == Device::Cpu {
        let squares = squared_norms(grads)?;
        let norm = squares.iter().sum::<f64>().sqrt();
        let factor = limit.filter(|&limit| norm > limit).map_or(1.0, |limit| limit / norm);
        return Ok(Clip(Found::OnHost(Norm { norm, factor: norm.is_finite().then_some(factor), squares })));
    }
    let squares = squares_on_device(grads)?;
    let mut told = Tensor::scratch(device, DType::F32, &[2])?;
    let limit = limit.map_or(f32::INFINITY, |limit| limit as f32);
    match device {
        Device::Cuda(_) => cuda::clip_norm::clip(squares.cuda(), limit, told.cuda_mut()?)?,
        _ => webgpu::clip_norm::clip(squares.gpu()?.view(), limit, told.gpu_mut()?)?,
    }
    Ok(Clip(Found::OnDevice { squares, told }))
}

impl Clip {
    /// The factor, for updates; `None` where the host knows that nothing may be updated.
    pub fn scale(&self) -> Option<GradScale<'_>> {
        match &self.0 {
            Found::OnHost(norm) => norm.factor.map(GradScale::Host),
            Found::OnDevice { told, .. } => Some(GradScale::Device(told)),
        }
    }

    /// The norm on the host: waits for the device.
    pub fn read(&self) -> Result<Norm> {
        Ok(Self::read_all(&[self])?.remove(0))
    }

    /// The norms of several, on one device: the host waits for it once.
    pub fn read_all(clips: &[&Self]) -> Result<Vec<Norm>> {
        let told = |clip: &&'_ Self| match &clip.0 {
            Found::OnHost(_) => None,
            Found::OnDevice { told, .. } => Some(told.clone()),
        };
        let told: Vec<Tensor> = clips.iter().filter_map(told).collect();
        let mut told = read_together(&told.iter().collect::<Vec<_>>())?.into_iter();
        clips.iter().map(|clip| clip.norm(&mut told)).collect()
    }

    /// The norm; where it is on a device, `told` gives its elements.
    fn norm(&self, told: &mut impl Iterator<Item = Vec<f64>>) -> Result<Norm> {
        match &self.0 {
            Found::OnHost(norm) => Ok(norm.clone()),
            Found::OnDevice { squares, .. } => {
                let told = told.next().expect("it was read");
                let factor = (told[0] >= 0.0).then_some(told[0]);
                let squares = if factor.is_none() { squares.to_f64_vec()? } else { Vec::new() };
                Ok(Norm { norm: told[1], factor, squares })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(values: &[f64], limit: Option<f64>) -> Norm {
        let grads: Vec<Tensor> =
            values.iter().map(|&v| Tensor::from_f64(&Device::Cpu, DType::F64, &[v], &[1]).unwrap()).collect();
        clip_norm(&grads.iter().collect::<Vec<_>>(), limit).unwrap().read().unwrap()
    }

    #[test]
    fn the_norm_is_brought_down_to_the_limit_and_left_below_it() {
        assert_eq!(
            of(&[3.0, 4.0], Some(2.0)),
            Norm { norm: 5.0, factor: Some(0.4), squares: vec![9.0, 16.0] }
        );
        assert_eq!(of(&[3.0, 4.0], Some(5.0)).factor, Some(1.0));
        assert_eq!(of(&[3.0, 4.0], None).factor, Some(1.0));
        assert_eq!(of(&[3.0, f64::NAN], Some(5.0)).factor, None);
        assert_eq!(of(&[], Some(5.0)), Norm { norm: 0.0, factor: Some(1.0), squares: vec![] });
    }
}
