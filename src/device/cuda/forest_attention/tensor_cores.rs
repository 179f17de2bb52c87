//! Forward in bf16 on tensor cores, see `kernels/forest_attention_bf16.cu`, and on Hopper `kernels/forest_attention_bf16_sm90.cu`.

use super::tiles::{Numbers, Tiles};
use super::{Inputs, all, too_wide};
use crate::Result;
use crate::device::cpu::forest_attention::Heads;
use crate::device::cuda::tensor_map::{self, TensorMap};
use crate::device::cuda::{Arg, Buffer, Launch, View, ViewMut, each::each};
use crate::device::{AttentionIndex, DType};

const FILE: &str = "forest_attention_bf16";

/// Elements behind a row in shared memory; `PAD` of the file.
pub(super) const PAD: usize = 8;

macro_rules! name {
    ($kernel:literal, $types:literal) => {
        concat!("lea_forest_attention_bf16_", $kernel, $types)
    };
}

/// Names of a width on Hopper, by the type of q, k and v and by that of the output: f32, bf16.
macro_rules! hopper {
    ($width:literal) => {
        [
            [name!($width, "_f32_f32"), name!($width, "_f32_bf16")],
            [name!($width, "_bf16_f32"), name!($width, "_bf16_bf16")],
        ]
    };
}

/// Names of a width elsewhere, by the type of q, k and v.
macro_rules! others {
    ($width:literal) => {
        [name!($width, "_f32"), name!($width, "_bf16")]
    };
}

const HOPPER: [([[&str; 2]; 2], usize); 2] =
    [(hopper!("sm90_forward_64"), 64), (hopper!("sm90_forward_128"), 128)];

const OTHERS: [([&str; 2], usize); 5] = [
    (others!("forward_32"), 32),
    (others!("forward_64"), 64),
    (others!("forward_96"), 96),
    (others!("forward_128"), 128),
    (others!("forward_256"), 256),
];

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
    /// The kernel for `keys` rows of keys on a device of that compute capability, of q, k and v and an output in these types; whether tensors
    /// are `aligned` as Hopper's asks.
    fn of(
        capability: (u32, u32),
        keys: usize,
        types: [DType; 2],
        Heads { kv_heads, head_dim, .. }: Heads,
        aligned: bool,
    ) -> Result<Self> {
        let [taken, given] = types.map(|dtype| usize::from(dtype == DType::BF16));
        if capability == (9, 0)
            && aligned
            && tensor_map::takes(keys, kv_heads * head_dim)
            && let Some((names, width)) = HOPPER.into_iter().find(|(_, width)| head_dim == *width)
        {
            return Ok(Kernel { name: names[taken][given], width, rows: 128, hopper: true });
        }
        match OTHERS.into_iter().find(|(_, width)| head_dim <= *width) {
            Some((names, width)) => Ok(Kernel { name: names[taken], width, rows: 64, hopper: false }),
            None => Err(too_wide(head_dim)),
        }
    }
}

/// Keys or values as tensor cores take them: `[rows, kv_heads, width]` in bf16.
struct Stored<'a> {
    /// A copy, where there is one.
    copy: Option<Buffer>,
    given: View<'a>,
    /// Elements of a head.
    width: usize,
}

impl<'a> Stored<'a> {
    /// As they are where they may be copied `directly`, or a copy of those that `tiles` share.
    fn of(given: View<'a>, directly: bool, tiles: &Tiles, heads: Heads, width: usize) -> Result<Self> {
        Ok(match directly {
            true => Stored { copy: None, given, width: heads.head_dim },
            false => Stored { copy: Some(rounded(given, tiles, heads, width)?), given, width },
        })
    }

    fn view(&self) -> View<'_> {
        self.copy.as_ref().map_or(self.given, |copy| copy.view(0, copy.len()))
    }
}

/// Whether keys of that type and address are copied from where they are: 16 bytes at a time.
fn is_direct(x: View, head_dim: usize) -> bool {
    x.dtype() == DType::BF16 && x.address().is_multiple_of(16) && head_dim.is_multiple_of(8)
}

/// Shared keys or values as bf16, each head `width` wide.
fn rounded(x: View, tiles: &Tiles, Heads { kv_heads, head_dim, .. }: Heads, width: usize) -> Result<Buffer> {
    let to = Buffer::scratch(x.cuda(), DType::BF16, tiles.shared.len() * kv_heads * width)?;
    let extents: [Arg; 3] = [kv_heads, head_dim, width].map(|extent| (extent as u32).into());
    let tensors = [all(&tiles.shared), x.into(), all(&to)];
    let kernel = match x.dtype() {
        DType::BF16 => "lea_forest_attention_bf16_round_bf16",
        _ => "lea_forest_attention_bf16_round_f32",
    };
    each(x.cuda(), FILE, kernel, to.len() / 2, &[&extents[..], &tensors].concat())?;
    Ok(to)
}

/// [`super::forward`] with q, k, v, all f32 or all bf16, and the weights of the values rounded to bf16; sums and softmax in f32. `out` in f32
/// or bf16, `lse` in f32.
pub fn forward(inputs: Inputs, index: &AttentionIndex, out: ViewMut, lse: ViewMut) -> Result<()> {
    let cuda = inputs.q.cuda();
    let Heads { heads, kv_heads, head_dim } = inputs.heads;
    if inputs.q.is_empty() {
        return Ok(());
    }
    let group = inputs.heads.group();
    debug_assert_eq!(heads, kv_heads * group);
    let (types, tensors) = ([inputs.q.dtype(), out.dtype()], [inputs.q, inputs.k, inputs.v, out.0]);
    // Pairs of f32; 16 bytes of bf16.
    let aligned = |x: &View| x.address().is_multiple_of(if x.dtype() == DType::BF16 { 16 } else { 8 });
    let aligned = tensors.iter().all(aligned);
    let kernel = Kernel::of(cuda.description().capability, index.keys(), types, inputs.heads, aligned)?;
    let direct = is_direct(inputs.k, head_dim) && is_direct(inputs.v, head_dim);
    let numbers = if direct { Numbers::All } else { Numbers::Shared };
    let tiles = index.on_cuda(cuda).tiles.get(index, cuda, (kernel.rows / group).max(1), numbers)?;
    let stored = |x| Stored::of(x, direct, &tiles, inputs.heads, kernel.width);
    let (k, v) = (stored(inputs.k)?, stored(inputs.v)?);
    let parts = group.div_ceil(kernel.rows);
    let of_index = [all(&tiles.tiles), all(&tiles.rows)];
    let as_they_are: [Arg; 3] = [inputs.q.into(), inputs.k.into(), inputs.v.into()];
    if kernel.hopper {
        let results: [Arg; 2] = [(&out).into(), (&lse).into()];
        let args = [&of_index[..], &as_they_are, &results].concat();
        let items = tiles.count * kv_heads * parts;
        return forward_on_hopper(kernel, inputs, [k.view(), v.view()], items, &args);
    }
    let keys: [Arg; 3] = [(k.width as u32).into(), k.view().into(), v.view().into()];
    let rounds_out: Arg = u32::from(out.dtype() == DType::BF16).into();
    let results: [Arg; 3] = [(&out).into(), rounds_out, (&lse).into()];
    cuda.launch(&Launch {
        file: FILE,
        kernel: kernel.name,
        grid: [tiles.count, kv_heads, parts],
        threads: 128,
        shared: (3 * kernel.rows * (kernel.width + PAD) * DType::BF16.size()) as u32,
        args: &[&inputs.shape()[..], &of_index, &as_they_are, &keys, &results].concat(),
    })
}

/// The launch where every block has a processor to itself and takes its share of the `items`.
fn forward_on_hopper(
    kernel: Kernel,
    inputs: Inputs,
    keys_and_values: [View; 2],
    items: usize,
    args: &[Arg],
) -> Result<()> {
    // `SLOTS`, `CHUNK` and `UNIT` of the file.
    const SLOTS: usize = 12;
    const CHUNK: usize = 64;
    const UNIT: usize = 16;
    let (cuda, q) = (inputs.q.cuda(), inputs.q);
    let Heads { heads, kv_heads, .. } = inputs.heads;
    let (group, columns) = (inputs.heads.group(), kv_heads * kernel.width);
    let map = |x: View| TensorMap::of_rows(x, [x.len() / columns, columns], UNIT);
    let [keys, values] = [map(keys_and_values[0])?, map(keys_and_values[1])?];
    let row = kernel.width * DType::BF16.size();
    // In bf16 queries come by the copy engine too, a product's rows at a time; with them 12 bytes of each row, 48 of the tile, two barriers.
    let (queries, own) = if q.dtype() == DType::BF16 {
        let together = group.min(kernel.rows);
        let shape = [q.len() / (heads * kernel.width), heads, kernel.width];
        let queries = TensorMap::of_heads(q, shape, [kernel.rows / together, together])?;
        (queries, kernel.rows * (row + 12) + 48 + 2 * 8)
    } else {
        (keys, 0) // Not looked at.
    };
    // Slots begin at a multiple of 1024; two barriers of 8 bytes each. Of the widest heads in bf16 256 bytes less than a block may have.
    let shared = 1024 + SLOTS * (CHUNK * row + 2 * 8) + own;
    let maps = [queries.into(), keys.into(), values.into()];
    let shape: [Arg; 4] = [items.into(), (heads as u32).into(), (group as u32).into(), inputs.scale.into()];
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
            let heads = Heads { heads: kv_heads, kv_heads, head_dim };
            let kernel = Kernel::of(capability, keys, [DType::BF16; 2], heads, true).unwrap();
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
