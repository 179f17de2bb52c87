//! Gradients in bf16 on tensor cores, see `kernels/forest_attention_bf16_backward.cu`.

use super::parts::BLOCK;
use super::tensor_cores::PAD;
use super::tiles::{Numbers, Tiles};
use super::{Grads, Inputs, Outputs, all, too_wide};
use crate::Result;
use crate::device::cpu::forest_attention::Heads;
use crate::device::cuda::each::each_by_warp;
use crate::device::cuda::{Arg, Buffer, Launch};
use crate::device::{AttentionIndex, DType};

/// The kernels of a width of heads.
struct Kernels {
    q: &'static str,
    kv: &'static str,
    keys: &'static str,
    /// Elements of a head in bf16.
    width: usize,
}

macro_rules! kernels {
    ($width:literal) => {
        Kernels {
            q: concat!("lea_forest_attention_bf16_backward_q_", $width),
            kv: concat!("lea_forest_attention_bf16_backward_kv_", $width),
            keys: concat!("lea_forest_attention_bf16_backward_keys_", $width),
            width: $width,
        }
    };
}

const KERNELS: [Kernels; 5] = [kernels!(32), kernels!(64), kernels!(96), kernels!(128), kernels!(256)];

/// What stands around the products.
const AROUND: &str = "forest_attention_bf16_keys";
/// The products.
const PRODUCTS: &str = "forest_attention_bf16_backward";

impl Kernels {
    fn of(head_dim: usize) -> Result<&'static Self> {
        KERNELS.iter().find(|kernels| head_dim <= kernels.width).ok_or_else(|| too_wide(head_dim))
    }

    /// Columns of sums that a block makes; `SUMS` of the file.
    fn sums(&self) -> usize {
        self.width.min(128)
    }

    /// Rows that a block takes at a time, and how many such there is room for; `COLUMNS` and `STAGES` of the file.
    fn stages(&self) -> (usize, usize) {
        if self.width <= 128 { (32, 2) } else { (16, 1) }
    }

    /// Bytes of shared memory: two matrices of 64 rows, and as many of each stage, with `bytes` beside each of its rows.
    fn shared(&self, bytes: usize) -> u32 {
        let ((columns, stages), row) = (self.stages(), 2 * (self.width + PAD) * DType::BF16.size());
        (BLOCK * row + stages * columns * (row + bytes)) as u32
    }
}

/// Queries and gradients of outputs `[rows, heads, width]`, shared keys and values `[shared keys, kv_heads, width]` in bf16, and delta
/// `[rows, heads]`.
struct Prepared {
    q: Buffer,
    dout: Buffer,
    k: Buffer,
    v: Buffer,
    delta: Buffer,
}

impl Prepared {
    fn of(inputs: Inputs, outputs: Outputs, tiles: &Tiles, width: usize) -> Result<Self> {
        let cuda = inputs.q.cuda();
        let Heads { kv_heads, head_dim, .. } = inputs.heads;
        let (len, keys) = (outputs.lse.len(), tiles.shared.len() * kv_heads);
        let half = |len: usize| Buffer::scratch(cuda, DType::BF16, len * width);
        let delta = Buffer::scratch(cuda, DType::F32, len)?;
        let made = Prepared { q: half(len)?, dout: half(len)?, k: half(keys)?, v: half(keys)?, delta };
        let extents: [Arg; 4] =
            [len.into(), (kv_heads as u32).into(), (head_dim as u32).into(), (width as u32).into()];
        let of_rows: [Arg; 3] = [inputs.q.into(), outputs.out.into(), outputs.dout.into()];
        let of_keys: [Arg; 3] = [all(&tiles.shared), inputs.k.into(), inputs.v.into()];
        let given = [&made.q, &made.dout, &made.delta, &made.k, &made.v].map(all);
        let args = [&extents[..], &of_rows, &of_keys, &given].concat();
        each_by_warp(cuda, AROUND, "lea_forest_attention_bf16_backward_prepare", len + keys, &args)?;
        Ok(made)
    }
}

/// Gradients of [`super::tensor_cores::forward`] from and into f32: products of q, k, v, dout, weights and slopes rounded to bf16, sums and
/// exponentials in f32.
pub fn backward(inputs: Inputs, outputs: Outputs, index: &AttentionIndex, grads: Grads) -> Result<()> {
    let cuda = inputs.q.cuda();
    let Heads { kv_heads, head_dim, .. } = inputs.heads;
    let group = inputs.heads.group();
    let kernels = Kernels::of(head_dim)?;
    let width = kernels.width;
    let tiles = index.on_cuda(cuda).tiles.get(index, cuda, (BLOCK / group).max(1), Numbers::Shared)?;
    let parts = tiles.parts(index, cuda)?;
    let prepared = Prepared::of(inputs, outputs, &tiles, width)?;
    let of_rows = [all(&prepared.q), all(&prepared.dout)];
    let as_they_are: [Arg; 2] = [inputs.k.into(), inputs.v.into()];
    let of_keys = [all(&prepared.k), all(&prepared.v)];
    let statistics: [Arg; 2] = [outputs.lse.into(), all(&prepared.delta)];
    let of_tiles = [all(&tiles.tiles), all(&tiles.rows)];
    cuda.launch(&Launch {
        file: PRODUCTS,
        kernel: kernels.q,
        grid: [tiles.count, kv_heads, group.div_ceil(BLOCK)],
        threads: 128,
        shared: kernels.shared(0),
        args: &[
            &inputs.shape()[..],
            &of_tiles,
            &of_rows,
            &as_they_are,
            &of_keys,
            &statistics,
            &[(&grads.dq).into()],
        ]
        .concat(),
    })?;
    let sums = || Buffer::scratch(cuda, DType::F32, parts.count * BLOCK * kv_heads * width);
    let (part_k, part_v) = (sums()?, sums()?);
    let sums = [all(&part_k), all(&part_v)];
    let lists = [all(&parts.parts), all(&parts.seen)];
    cuda.launch(&Launch {
        file: PRODUCTS,
        kernel: kernels.kv,
        grid: [parts.count, kv_heads, width / kernels.sums()],
        threads: 128,
        // The bits of a row, its log-sum-exp and delta; and places of two rounds.
        shared: kernels.shared(16 + 2 * DType::F32.size())
            + (2 * kernels.stages().0 * size_of::<u64>()) as u32,
        args: &[&inputs.shape()[..], &lists, &of_rows, &of_keys, &statistics, &sums].concat(),
    })?;
    let lists = [all(&parts.of_keys), all(&parts.leaf_rows)];
    let into: [Arg; 2] = [(&grads.dk).into(), (&grads.dv).into()];
    let args = [&inputs.shape()[..], &lists, &of_rows, &as_they_are, &statistics, &sums, &into].concat();
    each_by_warp(cuda, AROUND, kernels.keys, index.keys() * kv_heads, &args)
}
