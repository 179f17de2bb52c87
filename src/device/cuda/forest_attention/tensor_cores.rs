//! Forward in bf16 on tensor cores, see `kernels/forest_attention_bf16.cu`, and on Hopper `kernels/forest_attention_bf16_sm90.cu`.

use super::tiles::Tiles;
use super::{Inputs, all};
use crate::device::cpu::forest_attention::Heads;
use crate::device::cuda::tensor_map::{self, TensorMap};
use crate::device::cuda::{Arg, Buffer, Launch, View, ViewMut, each::each};
use crate::device::{AttentionIndex, DType};
use crate::{Error, Result};

const FILE: &str = "forest_attention_bf16";

/// Elements behind a row in shared memory; `PAD` of the file.
const PAD: usize = 8;

/// A kernel and the products that it makes.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Kernel {
    name: &'static str,
    /// Elements of a head in bf16.
    width: usize,
    /// Rows of a product, of a row of the index and a head each; `TILE` of the file.
    rows: usize,
    hopper: bool,
}

impl Kernel {
    /// The kernel for `keys` rows of keys on a device of that compute capability; whether tensors are `aligned` to 8 bytes.
    fn of(
        capability: (u32, u32),
        keys: usize,
        Heads { kv_heads, head_dim, .. }: Heads,
        aligned: bool,
    ) -> Result<Self> {
        let hopper = [
            ("lea_forest_attention_bf16_sm90_forward_64", 64),
            ("lea_forest_attention_bf16_sm90_forward_128", 128),
        ];
        let others = [
            ("lea_forest_attention_bf16_forward_32", 32),
            ("lea_forest_attention_bf16_forward_64", 64),
            ("lea_forest_attention_bf16_forward_96", 96),
            ("lea_forest_attention_bf16_forward_128", 128),
            ("lea_forest_attention_bf16_forward_256", 256),
        ];
        if capability == (9, 0)
            && aligned
            && tensor_map::takes(keys, kv_heads * head_dim)
            && let Some((name, width)) = hopper.into_iter().find(|(_, width)| head_dim == *width)
        {
            return Ok(Kernel { name, width, rows: 128, hopper: true });
        }
        match others.into_iter().find(|(_, width)| head_dim <= *width) {
            Some((name, width)) => Ok(Kernel { name, width, rows: 64, hopper: false }),
            None => {
                let problem = format!("heads {head_dim} wide: CUDA's kernels take at most 256");
                Err(Error::shape("forest_attention", problem))
            }
        }
    }
}

/// Shared keys or values as bf16, each head `width` wide.
fn rounded(x: View, tiles: &Tiles, Heads { kv_heads, head_dim, .. }: Heads, width: usize) -> Result<Buffer> {
    let to = Buffer::scratch(x.cuda(), DType::BF16, tiles.shared.len() * kv_heads * width)?;
    let extents: [Arg; 3] = [kv_heads, head_dim, width].map(|extent| (extent as u32).into());
    let tensors = [all(&tiles.shared), x.into(), all(&to)];
    each(
        x.cuda(),
        FILE,
        "lea_forest_attention_bf16_round",
        to.len() / 2,
        &[&extents[..], &tensors].concat(),
    )?;
    Ok(to)
}

/// [`super::forward`] with q, k, v and the weights of the values rounded to bf16; sums, softmax and results in f32.
pub fn forward(inputs: Inputs, index: &AttentionIndex, out: ViewMut, lse: ViewMut) -> Result<()> {
    let cuda = inputs.q.cuda();
    let Heads { heads, kv_heads, .. } = inputs.heads;
    let group = inputs.heads.group();
    debug_assert_eq!(heads, kv_heads * group);
    let read = [inputs.q, inputs.k, inputs.v].iter().all(|x| x.address().is_multiple_of(8));
    let aligned = read && out.0.address().is_multiple_of(8);
    let kernel = Kernel::of(cuda.description().capability, index.keys(), inputs.heads, aligned)?;
    let tiles = index.on_cuda(cuda).tiles.get(index, cuda, (kernel.rows / group).max(1))?;
    let k = rounded(inputs.k, &tiles, inputs.heads, kernel.width)?;
    let v = rounded(inputs.v, &tiles, inputs.heads, kernel.width)?;
    let parts = group.div_ceil(kernel.rows);
    let of_index = [all(&tiles.tiles), all(&tiles.rows)];
    let as_they_are: [Arg; 3] = [inputs.q.into(), inputs.k.into(), inputs.v.into()];
    let results: [Arg; 2] = [(&out).into(), (&lse).into()];
    if kernel.hopper {
        let args = [&of_index[..], &as_they_are, &results].concat();
        return forward_on_hopper(kernel, inputs, [&k, &v], tiles.count * kv_heads * parts, &args);
    }
    cuda.launch(&Launch {
        file: FILE,
        kernel: kernel.name,
        grid: [tiles.count, kv_heads, parts],
        threads: 128,
        shared: (3 * kernel.rows * (kernel.width + PAD) * DType::BF16.size()) as u32,
        args: &[&inputs.shape()[..], &of_index, &as_they_are, &[all(&k), all(&v)], &results].concat(),
    })
}

/// The launch where every block has a processor to itself and takes its share of the `items`.
fn forward_on_hopper(
    kernel: Kernel,
    inputs: Inputs,
    keys_and_values: [&Buffer; 2],
    items: usize,
    args: &[Arg],
) -> Result<()> {
    // `SLOTS`, `CHUNK` and `UNIT` of the file.
    const SLOTS: usize = 8;
    const CHUNK: usize = 64;
    const UNIT: usize = 16;
    let cuda = inputs.q.cuda();
    let Heads { heads, kv_heads, .. } = inputs.heads;
    let columns = kv_heads * kernel.width;
    let map = |x: &Buffer| TensorMap::of_rows(x.view(0, x.len()), [x.len() / columns, columns], UNIT);
    let maps = [map(keys_and_values[0])?.into(), map(keys_and_values[1])?.into()];
    let shape: [Arg; 4] =
        [items.into(), (heads as u32).into(), (inputs.heads.group() as u32).into(), inputs.scale.into()];
    // Slots begin at a multiple of 1024, behind them two barriers of 8 bytes each.
    let shared = 1024 + SLOTS * (CHUNK * kernel.width * DType::BF16.size() + 2 * 8);
    cuda.launch(&Launch {
        file: "forest_attention_bf16_sm90",
        kernel: kernel.name,
        grid: [items.min(cuda.description().processors as usize), 1, 1],
        threads: 384,
        shared: shared as u32,
        args: &[&maps[..], &shape, args].concat(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hopper_takes_its_own_kernel_for_the_widths_that_it_has() {
        let of = |capability, keys, kv_heads, head_dim| {
            let kernel =
                Kernel::of(capability, keys, Heads { heads: kv_heads, kv_heads, head_dim }, true).unwrap();
            (kernel.hopper, kernel.width)
        };
        assert_eq!(of((9, 0), 5, 2, 64), (true, 64));
        assert_eq!(of((9, 0), 5, 2, 128), (true, 128));
        assert_eq!(of((9, 0), 5, 2, 63), (false, 64));
        assert_eq!(of((9, 0), 5, 2, 80), (false, 96));
        // There is no tensor map of no keys, and other devices do not take the code.
        assert_eq!(of((9, 0), 0, 2, 64), (false, 64));
        assert_eq!([(8, 0), (8, 9), (10, 0)].map(|c| of(c, 5, 2, 128)), [(false, 128); 3]);
    }
}
