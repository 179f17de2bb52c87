//! Products with a factor stored in bf16, on tensor cores, see `kernels/matmul_bf16.cu`.

use super::matmul::{Epilogue, Matrix, Pair, optional};
use super::{Arg, Buffer, Cuda, Launch, View, ViewMut, cublaslt, matmul_bf16_sm90};
use crate::device::DType;
use crate::{Error, Result};

const FILE: &str = "matmul_bf16";
/// Elements in 16 bytes: what the kernel copies at once, so the rows of its factors are multiples of it.
pub const CHUNK: usize = 8;
/// Of k, what a stage of shared memory holds.
const SLICE: usize = 32;
/// Stages of shared memory.
const STAGES: usize = 4;

/// A block's tile of c.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Tile {
    /// Kernels for b as stored `[k, n]`, and for `[n, k]`; then the same for products of two pairs of factors.
    kernels: [&'static str; 4],
    /// Rows.
    rows: usize,
    /// Columns.
    columns: usize,
    threads: u32,
    /// Elements per unit of time, beside the largest tile's: less is reused. Estimated, not measured.
    speed: f64,
}

/// The tiles that there are kernels for, smallest first.
const TILES: [Tile; 3] = [
    Tile {
        kernels: [
            "lea_matmul_bf16_nn",
            "lea_matmul_bf16_nt",
            "lea_matmul_bf16_paired_nn",
            "lea_matmul_bf16_paired_nt",
        ],
        rows: 64,
        columns: 64,
        threads: 128,
        speed: 0.5,
    },
    Tile {
        kernels: [
            "lea_matmul_bf16_middle_nn",
            "lea_matmul_bf16_middle_nt",
            "lea_matmul_bf16_paired_middle_nn",
            "lea_matmul_bf16_paired_middle_nt",
        ],
        rows: 128,
        columns: 128,
        threads: 128,
        speed: 0.85,
    },
    Tile {
        kernels: [
            "lea_matmul_bf16_large_nn",
            "lea_matmul_bf16_large_nt",
            "lea_matmul_bf16_paired_large_nn",
            "lea_matmul_bf16_paired_large_nt",
        ],
        rows: 128,
        columns: 256,
        threads: 256,
        speed: 1.0,
    },
];

impl Tile {
    fn count(&self, m: usize, n: usize) -> usize {
        m.div_ceil(self.rows) * n.div_ceil(self.columns)
    }

    /// Time of an m×n product of a given k: that of the processor with the most tiles.
    fn time(&self, m: usize, n: usize, processors: usize) -> f64 {
        let rounds = self.count(m, n).div_ceil(processors.max(1));
        (rounds * self.rows * self.columns) as f64 / self.speed
    }
}

/// What is multiplied.
pub(super) struct Factors<'a> {
    /// a `[m, padded]` in bf16, with zeros from k on.
    pub a: View<'a>,
    pub padded: usize,
    pub b: Matrix<'a>,
}

/// c = a·b and the epilogue; `a: [m, k]` in bf16, or in f32 and rounded to it; `b: [k, n]` in bf16, its stored rows a multiple of
/// [`CHUNK`] long; `c: [m, n]` in f32, or in bf16 and then without what it holds. Every tile gives the same bits. On Hopper (compute capability 9.0) other kernels do it, whose
/// bits may differ from those of all other GPUs; which ones does not depend on m.
pub fn matmul(a: View, b: Matrix, c: ViewMut, extents: [usize; 3], epilogue: Epilogue) -> Result<()> {
    let [m, n, k] = extents;
    expect_aligned(&b, [n, k])?;
    // The kernels count what is left of k in an int, and look a slice beyond its end.
    let depth = epilogue.pair.map_or(0, |pair| pair.depth);
    if k.saturating_add(depth) > i32::MAX as usize - (STAGES + 1) * SLICE {
        return Err(Error::shape(FILE, format!("an inner extent of {k} is more than a product takes")));
    }
    let exclusive = epilogue.gate.is_some() || c.dtype() == DType::BF16;
    assert!(!(epilogue.accumulate && exclusive), "sums onto a gate's product or onto bf16");
    assert!(epilogue.residual.is_none() || epilogue.gate.is_none(), "a residual beside a gate");
    assert!(epilogue.pair.is_none() || !exclusive, "a pair beside a gate, or into bf16");
    assert!(epilogue.pair.is_none_or(|pair| fits(&pair, [m, n])), "{:?} beside [{m}, {n}]", epilogue.pair);
    let cuda = c.cuda();
    let rounded = rounded(a, [m, k])?;
    let (a, padded) = as_factor(a, &rounded, [m, k]);
    let factors = Factors { a, padded, b };
    if cublaslt::matmul(&factors, &c, extents, &epilogue)? {
        return Ok(());
    }
    if matmul_bf16_sm90::takes(cuda, [n, k], b.transposed) {
        return matmul_bf16_sm90::matmul(&factors, c, extents, epilogue);
    }
    let processors = cuda.description().processors as usize;
    matmul_in(TILES[fastest(m, n, processors)], &factors, c, extents, epilogue)
}

/// c = silu(a·gateᵀ)·(a·upᵀ) by one kernel, and true, where there is one: on Hopper, with our own products. `a: [m, k]` in bf16 or f32, both
/// weights `[n, k]` in bf16, `c: [m, n]` in f32 or bf16. The bits of two products, the second with the first as its gate.
pub fn gated(a: View, weights: [View; 2], c: ViewMut, [m, n, k]: [usize; 3]) -> Result<bool> {
    let cuda = c.cuda();
    if cublaslt::is_used(cuda) || !matmul_bf16_sm90::takes(cuda, [n, k], true) {
        return Ok(false);
    }
    for data in weights {
        expect_aligned(&Matrix { data, transposed: true }, [n, k])?;
    }
    let rounded = rounded(a, [m, k])?;
    matmul_bf16_sm90::gated(as_factor(a, &rounded, [m, k]), weights, c, [m, n, k])?;
    Ok(true)
}

/// Whether tensor cores may read b's stored rows.
fn expect_aligned(b: &Matrix, [n, k]: [usize; 2]) -> Result<()> {
    let width = if b.transposed { k } else { n };
    if width.is_multiple_of(CHUNK) && b.data.address().is_multiple_of(16) {
        return Ok(());
    }
    let problem = format!(
        "rows of {width} elements of a bf16 tensor: tensor cores read them from multiples of 16 bytes on, \
         so a multiple of {CHUNK} is needed; keep it in f32"
    );
    Err(Error::shape(FILE, problem))
}

/// a `[m, k]` rounded and padded, where it cannot be a factor as it is.
fn rounded(a: View, [m, k]: [usize; 2]) -> Result<Option<Buffer>> {
    let padded = k.next_multiple_of(CHUNK);
    let as_stored = a.dtype() == DType::BF16 && padded == k && a.address().is_multiple_of(16);
    if as_stored { Ok(None) } else { round(a.cuda(), a, [m, k, padded]).map(Some) }
}

/// a or what [`rounded`] made of it, and the length of its rows.
fn as_factor<'a>(a: View<'a>, rounded: &'a Option<Buffer>, [m, k]: [usize; 2]) -> (View<'a>, usize) {
    let padded = k.next_multiple_of(CHUNK);
    (rounded.as_ref().map_or(a, |rounded| rounded.view(0, m * padded)), padded)
}

/// Whether a pair's factors are as long as it says, and may be read 16 bytes at a time.
fn fits(pair: &Pair, [m, n]: [usize; 2]) -> bool {
    let aligned = [pair.a, pair.b].iter().all(|x| x.dtype() == DType::BF16 && x.address().is_multiple_of(16));
    let lengths = (pair.a.len(), pair.b.len()) == (m * pair.depth, n * pair.depth);
    aligned && lengths && pair.depth.is_multiple_of(CHUNK) && pair.depth > 0
}

/// The tile of the least time.
fn fastest(m: usize, n: usize, processors: usize) -> usize {
    let times = TILES.map(|tile| tile.time(m, n, processors));
    (0..TILES.len()).min_by(|&i, &j| times[i].total_cmp(&times[j])).expect("there are tiles")
}

/// The same in a given tile.
fn matmul_in(
    tile: Tile,
    factors: &Factors,
    c: ViewMut,
    [m, n, k]: [usize; 3],
    epilogue: Epilogue,
) -> Result<()> {
    let Factors { a, padded, b } = factors;
    let mut args = vec![
        m.into(),
        n.into(),
        k.into(),
        (*padded).into(),
        mode(&epilogue, &c).into(),
        (*a).into(),
        b.data.into(),
        optional(epilogue.bias),
        optional(epilogue.residual.or(epilogue.gate)),
        (&c).into(),
    ];
    if let Some(pair) = epilogue.pair {
        args.extend::<[Arg; 3]>([pair.depth.into(), pair.a.into(), pair.b.into()]);
    }
    c.cuda().launch(&Launch {
        file: if epilogue.pair.is_some() { "matmul_bf16_paired" } else { FILE },
        kernel: tile.kernels[usize::from(epilogue.pair.is_some()) * 2 + usize::from(b.transposed)],
        grid: [tile.count(m, n), 1, 1],
        threads: tile.threads,
        shared: (STAGES * SLICE * (tile.rows + tile.columns) * DType::BF16.size()) as u32,
        args: &args,
    })
}

/// The epilogue and the type of c as bits, as kernels take them.
pub(super) fn mode(epilogue: &Epilogue, c: &ViewMut) -> u32 {
    epilogue.mode() | u32::from(c.dtype() == DType::BF16) << 4
}

/// The rows of x `[m, k]` in bf16, with zeros up to `padded` elements.
fn round(cuda: &Cuda, x: View, [m, k, padded]: [usize; 3]) -> Result<Buffer> {
    const THREADS: usize = 256;
    let rounded = Buffer::scratch(cuda, DType::BF16, m * padded)?;
    let (kernel, each) = match x.dtype() {
        DType::BF16 => ("lea_matmul_bf16_pad", 1),
        _ => ("lea_matmul_bf16_round", CHUNK),
    };
    cuda.launch(&Launch {
        file: FILE,
        kernel,
        grid: [(m * padded / each).div_ceil(THREADS), 1, 1],
        threads: THREADS as u32,
        shared: 0,
        args: &[m.into(), k.into(), padded.into(), x.into(), rounded.view(0, rounded.len()).into()],
    })?;
    Ok(rounded)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tiles_grow_with_the_product() {
        assert_eq!([(1, 2048), (64, 2048), (256, 2048)].map(|(m, n)| fastest(m, n, 132)), [0; 3]);
        assert_eq!(fastest(1024, 2048, 132), 1);
        assert_eq!([(16_384, 2048), (4096, 8192)].map(|(m, n)| fastest(m, n, 132)), [2; 2]);
        // What tests on two processors count on to see every tile.
        assert_eq!([(40, 256), (128, 256), (256, 256)].map(|(m, n)| fastest(m, n, 2)), [0, 1, 2]);
    }
}
