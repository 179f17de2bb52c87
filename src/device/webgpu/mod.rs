//! Any WebGPU adapter through wgpu: Vulkan, Metal, Direct3D 12, and the software drivers that run without a GPU.
//!
//! Kernels are the WGSL files under `shaders/`, one op a file; the file of the same name here gives an op's launch its
//! parameters and grid. Launches are recorded into one command buffer and handed over many at a time, see [`Gpu`].
//! Everything is computed in f32.

pub mod adapter;
mod buffer;
mod context;
mod fault;
pub mod forest_attention;
mod launch;
pub mod matmul;
pub mod norm_score;
pub mod rms_norm;
pub mod rope;
mod shader;
mod tier;
mod trace;

pub use buffer::{Buffer, View, ViewMut};
pub use context::Gpu;
pub use launch::{Counters, Launch, grid};
pub use shader::{Dialect, Part, SHADERS, Shader};
pub use tier::{TIERS, Tier, force_tier, forced_tier};
pub use trace::Traced;
