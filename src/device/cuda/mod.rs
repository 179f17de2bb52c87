//! NVIDIA GPUs through the CUDA driver, which is all that must be installed: kernels are shipped as PTX.
//!
//! Kernels are the CUDA C++ files under `kernels/`, one op a file; the file of the same name here gives an op's launch its
//! parameters and grid.

pub mod activation;
pub mod adamw;
pub mod add;
mod buffer;
pub mod clip_norm;
mod column_sums;
pub mod concat_rows;
mod context;
pub mod cross_entropy;
mod cublaslt;
pub mod destinations;
mod driver;
pub mod dropout;
mod each;
pub mod embedding;
pub mod forest_attention;
mod frozen;
pub mod gather_dot;
pub mod gru;
pub mod l2_normalize;
mod launch;
pub mod layer_norm;
pub mod log_sigmoid;
pub mod low_rank;
pub mod matmul;
pub mod matmul_bf16;
mod matmul_bf16_sm90;
pub mod mean_rows;
mod memory;
pub mod mul;
pub mod norm_score;
mod open;
pub mod reduce;
pub mod retrieve;
pub mod rms_norm;
pub mod rope;
pub mod scale;
mod staging;
pub mod standing;
pub mod sub_row;
pub mod sum_rows;
pub mod swiglu;
mod table;
pub mod td_loss;
pub mod td_targets;
pub mod tensor_map;
pub mod top_k;
mod trace;

pub use buffer::{Buffer, View, ViewMut};
pub use context::Cuda;
pub use cublaslt::Gemm;
pub use driver::{Description, list, version as driver_version};
pub use frozen::force_frozen_type;
pub use launch::{Arg, Launch, PTX, Ptx};
pub use open::{best, open, opened};
