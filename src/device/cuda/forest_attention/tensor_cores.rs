//! Forward in bf16 on tensor cores, see `kernels/forest_attention_bf16.cu`.

use super::{Inputs, all};
use crate::device::cpu::forest_attention::Heads;
use crate::device::cuda::{Arg, Buffer, Cuda, Launch, View, ViewMut, each::each};
use crate::device::{AttentionIndex, DType};
use crate::{Error, Result};
use std::sync::{Arc, Mutex, PoisonError};

/// Rows of a product, of a row of the index and a head each; `TILE` of the file.
const TILE: usize = 64;
/// Threads of a block.
const THREADS: u32 = 128;
/// Elements behind a row in shared memory; `PAD` of the file.
const PAD: usize = 8;

const FILE: &str = "forest_attention_bf16";

/// Tiles of an index for each size of a group of heads that it was used with.
#[derive(Default)]
pub(super) struct ByGroup(Mutex<Vec<(usize, Arc<Tiles>)>>);

/// See the kernel for the layouts.
struct Tiles {
    /// `[tiles, 8]`.
    tiles: Buffer,
    count: usize,
    /// `[rows, 4]`.
    rows: Buffer,
}

impl ByGroup {
    fn get(&self, index: &AttentionIndex, cuda: &Cuda, group: usize) -> Result<Arc<Tiles>> {
        let mut made = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, tiles)) = made.iter().find(|(other, _)| *other == group) {
            return Ok(tiles.clone());
        }
        let tiles = Arc::new(Tiles::new(index, cuda, (TILE / group).max(1))?);
        made.push((group, tiles.clone()));
        Ok(tiles)
    }
}

impl Tiles {
    /// Tiles of at most `most` rows that all begin with the same key: chunks are counted from there.
    fn new(index: &AttentionIndex, cuda: &Cuda, most: usize) -> Result<Self> {
        let (mut tiles, mut of_rows): (Vec<u32>, Vec<u32>) = Default::default();
        for tile in index.tiles() {
            let ranges = &index.ranges()[tile.rows.clone()];
            of_rows.extend(ranges.iter().flat_map(|r| [r.shared() as u32, r.0[3].0, r.0[3].1, 0]));
            let mut first = tile.rows.start;
            for alike in ranges.chunk_by(|a, b| tile.ahead(a) == tile.ahead(b)) {
                for rows in alike.chunks(most) {
                    let seen = rows.iter().map(|r| r.shared()).max().unwrap_or(0);
                    let from = tile.ahead(&rows[0]);
                    let shared = tile.cut(from, from + seen).shared;
                    tiles.extend([first as u32, rows.len() as u32]);
                    tiles.extend(shared.iter().map(|keys| keys.start as u32));
                    tiles.extend(shared.iter().map(|keys| keys.len() as u32));
                    first += rows.len();
                }
            }
        }
        let count = tiles.len() / 8;
        Ok(Tiles { tiles: Buffer::copy_of(cuda, &tiles)?, count, rows: Buffer::copy_of(cuda, &of_rows)? })
    }
}

/// The narrowest kernel for heads of `head_dim`, and its width.
fn kernel(head_dim: usize) -> Result<(&'static str, usize)> {
    let kernels = [
        ("lea_forest_attention_bf16_forward_32", 32),
        ("lea_forest_attention_bf16_forward_64", 64),
        ("lea_forest_attention_bf16_forward_96", 96),
        ("lea_forest_attention_bf16_forward_128", 128),
        ("lea_forest_attention_bf16_forward_256", 256),
    ];
    kernels.into_iter().find(|(_, width)| head_dim <= *width).ok_or_else(|| {
        let problem = format!("heads {head_dim} wide: CUDA's kernels take at most 256");
        Error::shape("forest_attention", problem)
    })
}

/// Keys or values as bf16, each head `width` wide.
fn rounded(x: View, rows: usize, head_dim: usize, width: usize) -> Result<Buffer> {
    let to = Buffer::scratch(x.cuda(), DType::BF16, rows * width)?;
    let args: [Arg; 4] = [(head_dim as u32).into(), (width as u32).into(), x.into(), all(&to)];
    each(x.cuda(), FILE, "lea_forest_attention_bf16_round", to.len() / 2, &args)?;
    Ok(to)
}

/// [`super::forward`] with q, k, v and the weights of the values rounded to bf16; sums, softmax and results in f32.
pub fn forward(inputs: Inputs, index: &AttentionIndex, out: ViewMut, lse: ViewMut) -> Result<()> {
    let cuda = inputs.q.cuda();
    let Heads { heads, kv_heads, head_dim } = inputs.heads;
    let group = inputs.heads.group();
    let (kernel, width) = kernel(head_dim)?;
    let tiles = index.on_cuda(cuda).by_group.get(index, cuda, group)?;
    let rows = index.keys() * kv_heads;
    let k = rounded(inputs.k, rows, head_dim, width)?;
    let v = rounded(inputs.v, rows, head_dim, width)?;
    debug_assert_eq!(heads, kv_heads * group);
    let of_index = [all(&tiles.tiles), all(&tiles.rows)];
    let tensors = [inputs.q.into(), all(&k), all(&v), (&out).into(), (&lse).into()];
    cuda.launch(&Launch {
        file: FILE,
        kernel,
        grid: [tiles.count, kv_heads, group.div_ceil(TILE)],
        threads: THREADS,
        shared: (3 * TILE * (width + PAD) * DType::BF16.size()) as u32,
        args: &[&inputs.shape()[..], &of_index, &tensors].concat(),
    })
}
