//! Forest attention on the CPU.
//!
//! softmax(scale·q·Kᵀ)·V where a query row sees four ranges of keys. Query rows of a tile share their root, trunk and
//! stem keys: these are transposed once a tile and key head, so that scores of four rows by sixteen keys are made in
//! registers; a row's own leaf keys follow by dot products. A row's keys have one position in its list whatever else
//! the tile or pack holds, and every sum runs in the order of those positions: a row's bits depend on its own keys
//! alone. Scores of a row fit the cache (histories are short), so the softmax is the plain one.
//! Bound by arithmetic from about 16 rows a tile on.

#[cfg(target_arch = "x86_64")]
mod avx512;
mod backward;
mod forward;
mod forward_bf16;
mod tile;

pub use backward::{Outputs, backward};
pub use forward::forward;
pub use forward_bf16::forward_bf16;

use super::Float;
use half::bf16;

/// Query and key/value heads: query head h reads key head h / (heads / kv_heads).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heads {
    /// Query heads.
    pub heads: usize,
    /// Key and value heads.
    pub kv_heads: usize,
    /// Width of a head.
    pub head_dim: usize,
}

impl Heads {
    /// Width of a query row.
    pub fn q_width(&self) -> usize {
        self.heads * self.head_dim
    }

    /// Width of a key or value row.
    pub fn kv_width(&self) -> usize {
        self.kv_heads * self.head_dim
    }

    /// Query heads a key head.
    pub fn group(&self) -> usize {
        self.heads / self.kv_heads
    }
}

/// Inputs of one call: q `[rows, heads·head_dim]`, k and v `[keys, kv_heads·head_dim]`.
#[derive(Clone, Copy)]
pub struct Inputs<'a, T: Float> {
    /// Queries.
    pub q: &'a [T],
    /// Keys.
    pub k: &'a [T],
    /// Values.
    pub v: &'a [T],
    /// Head layout.
    pub heads: Heads,
    /// Factor of the scores, usually 1/√head_dim.
    pub scale: T,
}

/// The same in bf16.
#[derive(Clone, Copy)]
pub struct HalfInputs<'a> {
    /// Queries.
    pub q: &'a [bf16],
    /// Keys.
    pub k: &'a [bf16],
    /// Values.
    pub v: &'a [bf16],
    /// Head layout.
    pub heads: Heads,
    /// Factor of the scores, usually 1/√head_dim.
    pub scale: f32,
}

#[cfg(target_arch = "x86_64")]
impl<'a, T: Float> Inputs<'a, T> {
    /// The same inputs, which are of f32.
    fn as_f32(&self) -> Inputs<'a, f32> {
        let [q, k, v] = [self.q, self.k, self.v].map(bytemuck::cast_slice);
        Inputs { q, k, v, heads: self.heads, scale: self.scale.to_f64() as f32 }
    }
}
