//! Devices, buffers and launches. [`cpu`] is the embedded default; every other device is a folder beside it.
//!
//! A buffer is a flat run of elements of one type on one device. What an op does with buffers is decided in
//! `ops`, which calls the device's kernels; no layer above `ops` tells devices apart.

pub mod adamw;
mod attention_index;
pub mod auto;
mod cost;
pub mod cpu;
pub mod cuda;
pub mod destinations;
pub mod dropout;
mod dtype;
mod frozen_type;
pub(crate) mod known_ids;
mod nvtx;
mod per_device;
mod pool;
pub mod profile;
mod size_class;
pub mod webgpu;

pub use attention_index::{AttentionIndex, RowRanges, Tile, Tree};
pub use cost::Cost;
pub use dtype::{DType, Element};
pub use frozen_type::FrozenType;

use crate::{Error, Result};
use std::str::FromStr;

/// Where a tensor lives and its ops run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Device {
    /// The host's processor, all threads of the global rayon pool.
    #[default]
    Cpu,
    /// An NVIDIA GPU.
    Cuda(cuda::Cuda),
    /// An adapter that WebGPU reaches.
    WebGpu(webgpu::Gpu),
}

impl std::fmt::Display for Device {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Device::Cpu => f.write_str("cpu"),
            Device::Cuda(cuda) => cuda.fmt(f),
            Device::WebGpu(gpu) => gpu.fmt(f),
        }
    }
}

impl FromStr for Device {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        let (kind, which) = match name.split_once(':') {
            Some((kind, which)) => (kind, Some(which)),
            None => (name, None),
        };
        match (kind, which) {
            ("cpu", None) => Ok(Device::Cpu),
            ("auto", None) => Ok(auto::open()),
            ("cuda", which) => cuda::open(which).map(Device::Cuda),
            ("webgpu", which) => webgpu::adapter::open(which).map(Device::WebGpu),
            _ => Err(Error::setting(
                format!("unknown device {name:?}"),
                "name cpu, cuda, cuda:NUMBER, webgpu, webgpu:NUMBER, webgpu:NAME or auto; `lea doctor` lists what there is",
            )),
        }
    }
}

impl Device {
    /// Rows of a decoder's pass that keep all of it busy; more make it no faster.
    pub fn busy_rows(&self) -> usize {
        match self {
            Device::Cuda(_) => 32_768,
            Device::Cpu | Device::WebGpu(_) => 8192,
        }
    }

    /// What the bits of a result depend on besides its inputs: the device and, of the CPU, the instruction set in use.
    pub fn arithmetic(&self) -> String {
        match self {
            Device::Cpu => match cpu::frozen_type() {
                FrozenType::F32 => format!("{self} {}", cpu::instruction_set()),
                // Whether the processor multiplies bf16 itself decides the order of sums.
                FrozenType::Bf16 if cpu::matmul_bf16::has_instructions() => {
                    format!("{self} {} with bf16", cpu::instruction_set())
                }
                FrozenType::Bf16 => format!("{self} {}, bf16 widened", cpu::instruction_set()),
            },
            Device::Cuda(cuda) => cuda.arithmetic(),
            Device::WebGpu(gpu) => gpu.arithmetic(),
        }
    }

    /// The type in which it stores frozen weights that were read for computing in f32.
    pub fn frozen_type(&self) -> DType {
        match self {
            Device::Cpu => cpu::frozen_type().dtype(),
            Device::Cuda(cuda) => cuda.frozen_type(),
            Device::WebGpu(gpu) if gpu.stores_halves() => DType::F16,
            _ => DType::F32,
        }
    }

    /// The same for weights of rows of `row` elements: for bf16 on CUDA that is no multiple of 8 they stay f32, since its cores
    /// read runs of 16 bytes.
    pub fn frozen_type_of(&self, row: usize) -> DType {
        match self.frozen_type() {
            DType::BF16
                if matches!(self, Device::Cuda(_)) && !row.is_multiple_of(cuda::matmul_bf16::CHUNK) =>
            {
                DType::F32
            }
            other => other,
        }
    }

    /// The type of rows that nothing but products with frozen weights of type `weight` reads: the one to which products round
    /// them, where ops can write it.
    pub fn factor_type(&self, weight: DType) -> DType {
        match (self, weight) {
            (Device::Cuda(_) | Device::Cpu, DType::BF16) => DType::BF16,
            _ => weight.computed(),
        }
    }

    /// Waits until everything asked of it is done, for measurements.
    pub fn synchronize(&self) -> Result<()> {
        match self {
            Device::Cpu => Ok(()),
            Device::Cuda(cuda) => cuda.synchronize(),
            Device::WebGpu(gpu) => gpu.flush().and_then(|()| gpu.wait()),
        }
    }

    /// An error in the name of `what` where it is known that the device lacks the room for `bytes` more.
    pub fn expect_room(&self, what: &str, bytes: u64) -> Result<()> {
        match self {
            Device::Cpu => Ok(()),
            Device::Cuda(cuda) => cuda.expect_room(what, bytes),
            Device::WebGpu(gpu) => gpu.expect_room(what, bytes),
        }
    }

    /// Bytes of its tensors, those that wait for reuse included; `None` where they are the process's own memory.
    pub fn memory_held(&self) -> Option<u64> {
        match self {
            Device::Cpu => None,
            Device::Cuda(cuda) => Some(cuda.memory_held()),
            Device::WebGpu(gpu) => Some(gpu.memory_held()),
        }
    }

    /// What was launched on it so far; `None` where kernels are plain calls.
    pub fn launches(&self) -> Option<webgpu::Counters> {
        match self {
            Device::Cpu | Device::Cuda(_) => None,
            Device::WebGpu(gpu) => Some(gpu.counters()),
        }
    }

    /// Make and instruction set of the device, for run records: "AMD EPYC (avx512)".
    pub fn describe(&self) -> String {
        match self {
            Device::Cpu => cpu::describe(),
            Device::Cuda(cuda) => cuda.arithmetic(),
            Device::WebGpu(gpu) => gpu.arithmetic(),
        }
    }

    /// Its driver with the version, as that names itself, for run records; `None` for the CPU.
    pub fn driver(&self) -> Option<String> {
        match self {
            Device::Cpu => None,
            Device::Cuda(cuda) => Some(cuda.description().driver_told()),
            Device::WebGpu(gpu) => Some(gpu.description().driver_told()),
        }
    }
}

/// A device's memory behind a tensor.
#[derive(Debug)]
pub enum Storage {
    /// Host memory.
    Cpu(cpu::Buffer),
    /// Memory of an NVIDIA GPU.
    Cuda(cuda::Buffer),
    /// Memory of a WebGPU adapter.
    WebGpu(webgpu::Buffer),
}
