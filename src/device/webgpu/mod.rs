//! Any WebGPU adapter through wgpu: Vulkan, Metal, Direct3D 12, and the software drivers that run without a GPU.
//!
//! Kernels are the WGSL files under `shaders/`, one op a file; the file of the same name here gives an op's launch its
//! parameters and grid. Launches are recorded into one command buffer and handed over many at a time, see [`Gpu`].
//! Everything is computed in f32; frozen weights may be stored in f16, and multiplied in it, see [`Tier`].

pub mod activation;
pub mod adamw;
pub mod adapter;
pub mod add;
mod buffer;
pub mod clip_norm;
mod column_sums;
pub mod concat_rows;
mod context;
mod cooperative;
pub mod cross_entropy;
pub mod destinations;
pub mod dropout;
mod each;
pub mod embedding;
mod fault;
pub mod forest_attention;
pub mod gather_dot;
pub mod gru;
pub mod l2_normalize;
mod launch;
pub mod layer_norm;
pub mod log_sigmoid;
pub mod matmul;
pub mod mean_rows;
mod memory;
pub mod mul;
pub mod norm_score;
mod parts;
pub mod reduce;
pub mod retrieve;
pub mod rms_norm;
pub mod rope;
pub mod scale;
mod shader;
pub mod standing;
pub mod sub_row;
pub mod sum_rows;
pub mod swiglu;
pub mod td_loss;
pub mod td_targets;
mod tier;
pub mod top_k;
mod trace;

pub use buffer::{Aligned, Buffer, View, ViewMut};
pub use context::Gpu;
pub use launch::{Counters, Launch, grid};
pub use shader::{Dialect, Part, SHADERS, Shader};
pub use tier::{TIERS, Tier, force_tier, forced_tier};
pub use trace::Traced;
