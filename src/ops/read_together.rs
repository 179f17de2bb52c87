//! The elements of many small tensors on the host, for one wait: losses and norms of several steps. No FLOPs.

use super::{ConcatRows, Op};
use crate::Result;
use crate::device::Device;
use crate::tensor::Tensor;

/// The elements of each of `tensors`, which are of one float type and on one device. A device other than the host is waited
/// for once.
///
/// # Errors
/// Tensors that differ in type or device.
pub fn read_together(tensors: &[&Tensor]) -> Result<Vec<Vec<f64>>> {
    match tensors.first().map(|x| x.device()) {
        None => Ok(Vec::new()),
        Some(Device::Cpu) => tensors.iter().map(|x| x.to_f64_vec()).collect(),
        Some(Device::Cuda(_) | Device::WebGpu(_)) => {
            let columns: Vec<Tensor> =
                tensors.iter().map(|x| x.reshape(&[x.len(), 1])).collect::<Result<_>>()?;
            let all = ConcatRows::new().forward(&columns.iter().collect::<Vec<_>>(), false)?.to_f64_vec()?;
            let mut all = all.into_iter();
            Ok(tensors.iter().map(|x| all.by_ref().take(x.len()).collect()).collect())
        }
    }
}
