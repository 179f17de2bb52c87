//! The CPU: pooled host buffers, run-time choice of the instruction set, and one kernel file an op.
//!
//! Kernels are generic over [`Float`] (f32 for work, f64 for references), take plain slices, split rows over
//! rayon, and keep one order of every sum whatever the number of threads or rows.

pub mod activation;
pub mod adamw;
pub mod attention_inputs;
#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
pub mod best;
mod buffer;
pub mod column_sums;
pub mod concat;
pub mod cross_entropy;
pub mod dropout;
pub mod elementwise;
pub mod embedding;
pub mod feed_forward;
mod float;
pub mod forest_attention;
mod frozen;
pub mod gated_linear;
pub mod gather_dot;
pub mod gru;
#[cfg(target_arch = "x86_64")]
pub mod kept;
pub mod l2_normalize;
pub mod layer_norm;
pub mod linear_cross_entropy;
pub mod log_sigmoid;
pub mod map;
pub mod mapped;
pub mod matmul;
pub mod matmul_bf16;
pub mod norm_score;
#[cfg(target_arch = "x86_64")]
mod outer;
#[cfg(target_arch = "x86_64")]
mod packed;
pub mod peak;
mod pool;
pub mod reduce;
pub mod retrieve;
pub mod rms_norm;
pub mod rope;
pub mod scale;
pub mod simd;
pub mod standing;
pub mod swiglu;
pub mod td_loss;
pub mod top_k;

pub use buffer::{Buffer, release_free_buffers};
pub use float::{Float, Stores};
pub use frozen::{force_frozen_type, frozen_type};

/// Rows handed to one rayon task, so that a task moves at least some 16 Ki elements.
pub(crate) fn rows_per_task(width: usize) -> usize {
    (16 * 1024 / width.max(1)).max(1)
}

/// Name of the instruction set in use.
pub fn instruction_set() -> String {
    simd::level().to_string()
}

/// Processor name and instruction set in use.
pub fn describe() -> String {
    let model = std::fs::read_to_string("/proc/cpuinfo").ok().and_then(|text| {
        let line = text.lines().find(|l| l.starts_with("model name"))?;
        Some(line.split_once(':')?.1.trim().to_string())
    });
    let model = model.unwrap_or_else(|| std::env::consts::ARCH.to_string());
    let frozen = match frozen_type() {
        crate::device::FrozenType::F32 => "",
        crate::device::FrozenType::Bf16 => ", frozen weights in bf16",
    };
    format!("{model}, {} threads, {}{frozen}", rayon::current_num_threads(), simd::level())
}
