//! Tensors: a shape over a device's buffer. Always contiguous and row-major; reshapes and runs of rows share the
//! buffer. A tensor is cheap to clone, and writing to one that shares its buffer copies it first.

pub mod checkpoint;
pub mod file;
mod file_write;
mod frozen;
mod ids;
mod on_cuda;
mod on_gpu;

use crate::device::known_ids::KnownIds;
use crate::device::{DType, Device, Element, Storage, cpu, cuda, webgpu};
use crate::{Error, Result};
use std::ops::Range;
use std::sync::Arc;

/// A contiguous row-major array on a device.
#[derive(Clone)]
pub struct Tensor {
    storage: Arc<Storage>,
    /// First element inside the storage.
    offset: usize,
    shape: Vec<usize>,
    dtype: DType,
    device: Device,
}

impl std::fmt::Debug for Tensor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Tensor({:?}, {}, {})", self.shape, self.dtype, self.device)
    }
}

impl Tensor {
    /// A tensor of `shape` from host data; an error when the lengths differ.
    pub fn from_slice<T: Element>(device: &Device, data: &[T], shape: &[usize]) -> Result<Self> {
        if data.len() != count("from_slice", shape, T::DTYPE)? {
            return Err(Error::shape(
                "from_slice",
                format!("{} elements cannot have shape {shape:?}", data.len()),
            ));
        }
        let storage = match device {
            Device::Cpu => Storage::Cpu(cpu::Buffer::copy_of(data)),
            Device::Cuda(cuda) => Storage::Cuda(cuda::Buffer::copy_of(cuda, data)?),
            Device::WebGpu(gpu) => Storage::WebGpu(webgpu::Buffer::copy_of(gpu, data)?),
        };
        Ok(Self::of(storage, device, T::DTYPE, shape))
    }

    /// A tensor of `shape` that a mapped file holds; an error when the lengths differ.
    pub(crate) fn from_mapped(source: cpu::mapped::Mapped, shape: &[usize]) -> Result<Self> {
        if source.len() != count("from_mapped", shape, DType::F32)? {
            let problem = format!("{} elements cannot have shape {shape:?}", source.len());
            return Err(Error::shape("from_mapped", problem));
        }
        Ok(Self::of(Storage::Cpu(cpu::Buffer::mapped(source)), &Device::Cpu, DType::F32, shape))
    }

    /// Indices or ids, as a vector `[len]`.
    pub fn from_ids(device: &Device, ids: &[u32]) -> Result<Self> {
        Self::from_slice(device, ids, &[ids.len()])
    }

    /// All zeros.
    pub fn zeros(device: &Device, dtype: DType, shape: &[usize]) -> Result<Self> {
        let len = count("zeros", shape, dtype)?;
        let storage = match device {
            Device::Cpu => Storage::Cpu(cpu::Buffer::zeros(dtype, len)),
            Device::Cuda(cuda) => Storage::Cuda(cuda::Buffer::zeros(cuda, dtype, len)?),
            Device::WebGpu(gpu) => Storage::WebGpu(webgpu::Buffer::zeros(gpu, dtype, len)?),
        };
        Ok(Self::of(storage, device, dtype, shape))
    }

    /// Arbitrary content, for a kernel that writes every element.
    pub fn scratch(device: &Device, dtype: DType, shape: &[usize]) -> Result<Self> {
        let len = count("scratch", shape, dtype)?;
        let storage = match device {
            Device::Cpu => Storage::Cpu(cpu::Buffer::scratch(dtype, len)),
            Device::Cuda(cuda) => Storage::Cuda(cuda::Buffer::scratch(cuda, dtype, len)?),
            Device::WebGpu(gpu) => Storage::WebGpu(webgpu::Buffer::scratch(gpu, dtype, len)?),
        };
        Ok(Self::of(storage, device, dtype, shape))
    }

    /// Every element `value`; `dtype` a float type.
    pub fn full(device: &Device, dtype: DType, shape: &[usize], value: f64) -> Result<Self> {
        let len = count("full", shape, DType::F64)?;
        Self::from_f64(device, dtype, &vec![value; len], shape)
    }

    /// A tensor of float type `dtype` from f64 host data, rounded to nearest.
    pub fn from_f64(device: &Device, dtype: DType, data: &[f64], shape: &[usize]) -> Result<Self> {
        match dtype {
            DType::F64 => Self::from_slice(device, data, shape),
            DType::F32 => {
                let data: Vec<f32> = data.iter().map(|&x| x as f32).collect();
                Self::from_slice(device, &data, shape)
            }
            other => Err(Error::shape("from_f64", format!("{other} is no type to compute in"))),
        }
    }

    fn of(storage: Storage, device: &Device, dtype: DType, shape: &[usize]) -> Self {
        Tensor { storage: Arc::new(storage), offset: 0, shape: shape.to_vec(), dtype, device: device.clone() }
    }

    /// Extents, outermost first.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether there are no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Element type.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// Where it lives.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// The two extents of a matrix; an error in the name of `op` otherwise.
    pub fn dims2(&self, op: &'static str) -> Result<(usize, usize)> {
        match self.shape[..] {
            [rows, columns] => Ok((rows, columns)),
            _ => Err(Error::shape(op, format!("expected a matrix, found shape {:?}", self.shape))),
        }
    }

    /// The extent of a vector; an error in the name of `op` otherwise.
    pub fn dims1(&self, op: &'static str) -> Result<usize> {
        match self.shape[..] {
            [len] => Ok(len),
            _ => Err(Error::shape(op, format!("expected a vector, found shape {:?}", self.shape))),
        }
    }

    /// The same elements under another shape; an error when their number differs.
    pub fn reshape(&self, shape: &[usize]) -> Result<Self> {
        if count("reshape", shape, self.dtype)? != self.len() {
            return Err(Error::shape("reshape", format!("{:?} cannot become {shape:?}", self.shape)));
        }
        Ok(Tensor { shape: shape.to_vec(), ..self.clone() })
    }

    /// Rows `range` of the outermost extent, sharing the buffer.
    pub fn rows(&self, range: Range<usize>) -> Result<Self> {
        let outer = self.shape.first().copied().unwrap_or(0);
        if range.start > range.end || range.end > outer {
            return Err(Error::shape("rows", format!("rows {range:?} of shape {:?}", self.shape)));
        }
        let width: usize = self.shape[1..].iter().product();
        let mut shape = self.shape.clone();
        shape[0] = range.len();
        Ok(Tensor { offset: self.offset + range.start * width, shape, ..self.clone() })
    }

    /// A copy of the elements on the host.
    pub fn to_vec<T: Element>(&self) -> Result<Vec<T>> {
        if T::DTYPE != self.dtype {
            return Err(Error::shape("to_vec", format!("a {} tensor was read as {}", self.dtype, T::DTYPE)));
        }
        match &*self.storage {
            Storage::Cpu(_) => Ok(self.host::<T>().to_vec()),
            Storage::Cuda(buffer) => buffer.read(self.offset, self.len()),
            Storage::WebGpu(buffer) => buffer.read(self.offset, self.len()),
        }
    }

    /// The elements as f64 on the host, from any float type.
    pub fn to_f64_vec(&self) -> Result<Vec<f64>> {
        Ok(match self.dtype {
            DType::F64 => self.to_vec::<f64>()?,
            DType::F32 => self.to_vec::<f32>()?.into_iter().map(f64::from).collect(),
            DType::F16 => self.to_vec::<half::f16>()?.into_iter().map(f64::from).collect(),
            DType::BF16 => self.to_vec::<half::bf16>()?.into_iter().map(f64::from).collect(),
            DType::U32 => self.to_vec::<u32>()?.into_iter().map(f64::from).collect(),
        })
    }

    /// The only element of a one-element float tensor.
    pub fn item(&self) -> Result<f64> {
        match self.to_f64_vec()?[..] {
            [value] => Ok(value),
            _ => Err(Error::shape("item", format!("expected one element, found shape {:?}", self.shape))),
        }
    }

    /// The elements of a tensor in host memory. For CPU kernels: type and device have been checked before.
    pub(crate) fn host<T: Element>(&self) -> &[T] {
        match &*self.storage {
            Storage::Cpu(buffer) => &buffer.as_slice::<T>()[self.offset..self.offset + self.len()],
            Storage::Cuda(_) | Storage::WebGpu(_) => unreachable!("a CPU kernel was given {self:?}"),
        }
    }

    /// A frozen weight in bf16 in host memory, as products take it.
    pub(crate) fn host_weight(&self) -> cpu::matmul_bf16::Weight<'_> {
        #[allow(unused_mut)]
        let mut weight = cpu::matmul_bf16::Weight::new(self.host());
        #[cfg(target_arch = "x86_64")]
        if let Storage::Cpu(buffer) = &*self.storage
            && buffer.len() == self.len()
        {
            weight.kept = Some(buffer.kept());
        }
        weight
    }

    /// The elements of a tensor in host memory, to be written; copied first where another tensor shares them.
    pub(crate) fn host_mut<T: Element>(&mut self) -> &mut [T] {
        let len = self.len();
        if Arc::get_mut(&mut self.storage).is_none() {
            self.storage = Arc::new(Storage::Cpu(cpu::Buffer::copy_of(self.host::<T>())));
            self.offset = 0;
        }
        match Arc::get_mut(&mut self.storage) {
            Some(Storage::Cpu(buffer)) => &mut buffer.as_mut_slice::<T>()[self.offset..self.offset + len],
            _ => unreachable!("the storage was just made, in host memory"),
        }
    }

    /// Says that all ids of a tensor on another device than the host are below `bound` or missing, `u32::MAX`.
    pub(crate) fn set_id_bound(&mut self, bound: usize) {
        let bound = u32::try_from(bound).unwrap_or(u32::MAX);
        match Arc::get_mut(&mut self.storage) {
            Some(Storage::Cuda(buffer)) => buffer.ids = KnownIds::below(bound),
            Some(Storage::WebGpu(buffer)) => buffer.ids = KnownIds::below(bound),
            Some(Storage::Cpu(_)) | None => {}
        }
    }
}

/// Elements of a tensor of `shape`; in the name of `op`, an error where they, or their bytes, are more than memory
/// can address. Extents of 0 count as 1 here, so that the rows of an empty tensor have a width too.
pub(crate) fn count(op: &'static str, shape: &[usize], dtype: DType) -> Result<usize> {
    let bytes = shape.iter().try_fold(dtype.size(), |bytes, &extent| bytes.checked_mul(extent.max(1)));
    match bytes {
        Some(bytes) if bytes <= isize::MAX as usize => Ok(shape.iter().product()),
        _ => Err(Error::shape(op, format!("shape {shape:?} of {dtype} is more than memory can address"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writing_to_shared_rows_leaves_the_other_tensor_alone() {
        let a = Tensor::from_slice(&Device::Cpu, &[1f32, 2.0, 3.0, 4.0], &[2, 2]).unwrap();
        let mut b = a.rows(1..2).unwrap();
        b.host_mut::<f32>()[0] = 9.0;
        assert_eq!(a.to_vec::<f32>().unwrap(), [1.0, 2.0, 3.0, 4.0]);
        assert_eq!(b.to_vec::<f32>().unwrap(), [9.0, 4.0]);
    }

    #[test]
    fn wrong_shapes_and_types_are_errors() {
        let a = Tensor::from_slice(&Device::Cpu, &[1f32, 2.0], &[2]).unwrap();
        assert!(a.reshape(&[3]).is_err());
        assert!(a.rows(1..3).is_err());
        assert!(a.to_vec::<u32>().is_err());
        assert!(Tensor::from_slice(&Device::Cpu, &[1f32], &[2]).is_err());
    }

    #[test]
    fn a_shape_beyond_memory_is_an_error_and_never_wraps_to_a_small_one() {
        let cpu = Device::Cpu;
        // 2^32 · 2^32 wraps to 0 elements, 2^62 elements of 4 bytes to 0 bytes.
        for shape in [&[1 << 32, 1 << 32][..], &[1 << 62], &[0, 1 << 32, 1 << 32]] {
            let empty = Tensor::zeros(&cpu, DType::F32, &[0]).unwrap();
            for made in [
                Tensor::from_slice::<f32>(&cpu, &[], shape),
                Tensor::from_f64(&cpu, DType::F32, &[], shape),
                Tensor::zeros(&cpu, DType::F32, shape),
                Tensor::scratch(&cpu, DType::F32, shape),
                Tensor::full(&cpu, DType::F32, shape, 1.0),
                empty.reshape(shape),
            ] {
                let message = made.unwrap_err().to_string();
                assert!(message.contains("more than memory can address"), "{message}");
            }
        }
    }
}
