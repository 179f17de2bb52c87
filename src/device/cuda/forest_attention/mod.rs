//! Forest attention, see `kernels/forest_attention.cu`.

pub mod backward;
mod index;
mod parts;
pub mod tensor_cores;
mod tiles;

pub use index::DeviceIndex;

use super::each::each_by_warp;
use super::{Arg, Buffer, Launch, View, ViewMut};
use crate::device::cpu::forest_attention::Heads;
use crate::device::{AttentionIndex, DType};
use crate::{Error, Result};

/// Query rows of a tile, and keys of a block; `ROWS` of the file.
const ROWS: usize = 32;
/// Shared keys that a tile takes at a time; `KEYS` of the file.
const KEYS: usize = 32;
/// Threads of a block.
const THREADS: u32 = 128;

/// Inputs of one call: q `[rows, heads·head_dim]`, k and v `[keys, kv_heads·head_dim]`.
#[derive(Clone, Copy)]
pub struct Inputs<'a> {
    /// Queries.
    pub q: View<'a>,
    /// Keys.
    pub k: View<'a>,
    /// Values.
    pub v: View<'a>,
    /// Head layout.
    pub heads: Heads,
    /// Factor of the scores, usually 1/√head_dim.
    pub scale: f32,
}

/// What forward gave, and the gradient of its output.
#[derive(Clone, Copy)]
pub struct Outputs<'a> {
    /// `[rows, heads·head_dim]`.
    pub out: View<'a>,
    /// `[rows, heads]`.
    pub lse: View<'a>,
    /// Like `out`.
    pub dout: View<'a>,
}

/// Where the gradients go.
pub struct Grads<'a> {
    /// Like q.
    pub dq: ViewMut<'a>,
    /// Like k.
    pub dk: ViewMut<'a>,
    /// Like v.
    pub dv: ViewMut<'a>,
}

/// The kernels of a width of heads, and their shared memory for `rows` matrices of 32 rows and `pairs` of 32 by 32.
struct Variant {
    names: [&'static str; 3],
    head_dim: usize,
}

/// That no kernel takes heads so wide.
fn too_wide(head_dim: usize) -> Error {
    let problem = format!("heads {head_dim} wide: CUDA's kernels take at most 256");
    Error::shape("forest_attention", problem)
}

impl Variant {
    fn of(head_dim: usize) -> Result<Self> {
        let names = match head_dim {
            0..=32 => [
                "lea_forest_attention_forward_32",
                "lea_forest_attention_backward_q_32",
                "lea_forest_attention_backward_kv_32",
            ],
            33..=64 => [
                "lea_forest_attention_forward_64",
                "lea_forest_attention_backward_q_64",
                "lea_forest_attention_backward_kv_64",
            ],
            65..=128 => [
                "lea_forest_attention_forward_128",
                "lea_forest_attention_backward_q_128",
                "lea_forest_attention_backward_kv_128",
            ],
            129..=256 => [
                "lea_forest_attention_forward_256",
                "lea_forest_attention_backward_q_256",
                "lea_forest_attention_backward_kv_256",
            ],
            _ => return Err(too_wide(head_dim)),
        };
        Ok(Variant { names, head_dim })
    }

    fn shared(&self, matrices: usize, pairs: usize) -> u32 {
        let pitch = self.head_dim.next_multiple_of(4) + 4;
        (4 * (matrices * ROWS * pitch + pairs * ROWS * (ROWS + 1))) as u32
    }
}

impl Inputs<'_> {
    fn shape(&self) -> [Arg<'static>; 4] {
        let Heads { heads, head_dim, .. } = self.heads;
        [
            (heads as u32).into(),
            (self.heads.group() as u32).into(),
            (head_dim as u32).into(),
            self.scale.into(),
        ]
    }
}

fn all(buffer: &Buffer) -> Arg<'static> {
    buffer.view(0, buffer.len()).into()
}

/// out = softmax(scale·q·Kᵀ)·V over the keys that each row sees, and `lse: [rows, heads]`, the log-sum-exp of its scores.
pub fn forward(inputs: Inputs, index: &AttentionIndex, out: ViewMut, lse: ViewMut) -> Result<()> {
    let cuda = inputs.q.cuda();
    let variant = Variant::of(inputs.heads.head_dim)?;
    let on_device = index.on_cuda(cuda);
    let queries = on_device.queries(index, cuda)?;
    let index = [all(&queries.tiles), all(&queries.rows)];
    let tensors = [inputs.q.into(), inputs.k.into(), inputs.v.into(), (&out).into(), (&lse).into()];
    cuda.launch(&Launch {
        file: "forest_attention",
        kernel: variant.names[0],
        grid: [queries.count, inputs.heads.heads, 1],
        threads: THREADS,
        shared: variant.shared(3, 1),
        args: &[&inputs.shape()[..], &index, &tensors].concat(),
    })
}

/// Gradients of [`forward`].
pub fn backward(inputs: Inputs, outputs: Outputs, index: &AttentionIndex, grads: Grads) -> Result<()> {
    let cuda = inputs.q.cuda();
    let Heads { heads, kv_heads, head_dim } = inputs.heads;
    let variant = Variant::of(head_dim)?;
    let on_device = index.on_cuda(cuda);
    let (queries, keys) = (on_device.queries(index, cuda)?, on_device.keys(index, cuda)?);
    let delta = Buffer::scratch(cuda, DType::F32, outputs.lse.len())?;
    let args = [head_dim.into(), outputs.out.into(), outputs.dout.into(), all(&delta)];
    each_by_warp(cuda, "forest_attention", "lea_forest_attention_delta", delta.len(), &args)?;
    let tensors: [Arg; 6] = [
        inputs.q.into(),
        inputs.k.into(),
        inputs.v.into(),
        outputs.dout.into(),
        outputs.lse.into(),
        all(&delta),
    ];
    let of_queries = [all(&queries.tiles), all(&queries.rows)];
    cuda.launch(&Launch {
        file: "forest_attention",
        kernel: variant.names[1],
        grid: [queries.count, heads, 1],
        threads: THREADS,
        shared: variant.shared(4, 1),
        args: &[&inputs.shape()[..], &of_queries, &tensors, &[(&grads.dq).into()]].concat(),
    })?;
    let of_keys = [index.keys().into(), all(&keys.ranges), all(&keys.seen_from), all(&keys.seen)];
    cuda.launch(&Launch {
        file: "forest_attention",
        kernel: variant.names[2],
        grid: [index.keys().div_ceil(ROWS), kv_heads, 1],
        threads: THREADS,
        shared: variant.shared(4, 2),
        args: &[&inputs.shape()[..], &of_keys, &tensors, &[(&grads.dk).into(), (&grads.dv).into()]].concat(),
    })
}
