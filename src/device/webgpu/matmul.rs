//! Products of matrices, see `shaders/matmul.wgsl`.

use super::cooperative::Fragments;
use super::shader::{Defines, EIGHT, Part, Shader};
use super::tier::Tier;
use super::{Gpu, Launch, View, ViewMut};
use crate::Result;
use crate::device::DType;
use std::ops::Range;

const DEFINES: &[(&str, u32)] = &[
    ("TRANSPOSE_A", 0),
    ("TRANSPOSE_B", 0),
    ("HALF_B", 0),
    ("ACCUMULATE", 0),
    ("BIAS", 0),
    ("RESIDUAL", 0),
    ("GATE", 0),
];

/// What products of projections, forward and backward, set together. Parts of a sum that is cut accumulate.
const SETS: &[&Defines] = &[
    &[("TRANSPOSE_B", 1), ("BIAS", 1)],
    &[("TRANSPOSE_B", 1), ("BIAS", 1), ("RESIDUAL", 1)],
    &[("TRANSPOSE_B", 1), ("GATE", 1)],
    &[("TRANSPOSE_B", 1), ("GATE", 1), ("ACCUMULATE", 1)],
    &[("TRANSPOSE_B", 1), ("BIAS", 1), ("RESIDUAL", 1), ("ACCUMULATE", 1)],
    &[("TRANSPOSE_B", 1), ("HALF_B", 1)],
    &[("TRANSPOSE_B", 1), ("HALF_B", 1), ("BIAS", 1), ("RESIDUAL", 1), ("ACCUMULATE", 1)],
    &[("TRANSPOSE_B", 1), ("HALF_B", 1), ("GATE", 1), ("ACCUMULATE", 1)],
    &[("HALF_B", 1), ("ACCUMULATE", 1)],
    &[("TRANSPOSE_A", 1), ("ACCUMULATE", 1)],
];

/// The same of products by cooperative matrices, with every extent of a matrix and of a workgroup.
const COOPERATIVE_SETS: &[&Defines] = &[
    &[("BIAS", 1), ("RESIDUAL", 1), ("ACCUMULATE", 1)],
    &[("GATE", 1), ("ACCUMULATE", 1)],
    &[("INVOCATIONS", 16)],
    &[("INVOCATIONS", 32)],
    &[("INVOCATIONS", 256)],
    &[(EIGHT, 1), ("INVOCATIONS", 16)],
    &[(EIGHT, 1), ("INVOCATIONS", 32)],
    &[(EIGHT, 1), ("INVOCATIONS", 256)],
    &[(EIGHT, 1), ("INVOCATIONS", 32), ("BIAS", 1), ("RESIDUAL", 1), ("ACCUMULATE", 1)],
    &[(EIGHT, 1), ("INVOCATIONS", 256), ("GATE", 1), ("ACCUMULATE", 1)],
];

pub(super) static SHADER: Shader = Shader::new("matmul", include_str!("../../../shaders/matmul.wgsl"))
    .with(&[Part::Math, Part::Product])
    .defining(DEFINES)
    .set_together(SETS)
    .storing(&[("StoredB", "HALF_B")]);

pub(super) static LARGE_SHADER: Shader =
    Shader::new("matmul_large", include_str!("../../../shaders/matmul_large.wgsl"))
        .with(&[Part::Math, Part::Product])
        .defining(DEFINES)
        .set_together(SETS)
        .storing(&[("StoredB", "HALF_B")]);

pub(super) static SUBGROUP_SHADER: Shader =
    Shader::new("matmul_subgroups", include_str!("../../../shaders/matmul_subgroups.wgsl"))
        .with(&[Part::Math, Part::Product])
        .defining(DEFINES)
        .set_together(SETS)
        .storing(&[("StoredB", "HALF_B")])
        .from(Tier::Subgroups);

pub(super) static COOPERATIVE_SHADER: Shader =
    Shader::new("matmul_cooperative", include_str!("../../../shaders/matmul_cooperative.wgsl"))
        .with(&[Part::Math, Part::Product])
        .defining(&[
            (EIGHT, 0),
            ("INVOCATIONS", 128),
            ("ACCUMULATE", 0),
            ("BIAS", 0),
            ("RESIDUAL", 0),
            ("GATE", 0),
        ])
        .set_together(COOPERATIVE_SETS)
        .from(Tier::Cooperative);

/// Most floating-point operations of one dispatch, whatever the shape: some tenths of a second on the slowest software
/// adapters.
const MOST_WORK: usize = 1 << 31;
/// The same of hardware: 86 ms at 200 GFLOP/s, 0.9 ms at 20 TFLOP/s.
const MOST_WORK_OF_HARDWARE: usize = 1 << 34;
/// Large tiles that keep a GPU busy, and those of tests, which see them nowhere else.
const MANY_TILES: [usize; 2] = [128, 2];
/// Most workgroups in one direction.
const MOST_GROUPS: usize = 65_535;

/// What is added to the product.
#[derive(Clone, Copy, Debug, Default)]
pub struct Epilogue<'a> {
    /// What the output holds: the sums go on from it.
    pub accumulate: bool,
    /// A bias `[n]`.
    pub bias: Option<View<'a>>,
    /// A residual `[m, n]`.
    pub residual: Option<View<'a>>,
    /// In place of a residual: g `[m, n]`, of which c = g·σ(g)·(a·b), a SwiGLU.
    pub gate: Option<View<'a>>,
}

/// A matrix as it is stored: `[rows, columns]`, or the transpose.
#[derive(Clone, Copy, Debug)]
pub struct Matrix<'a> {
    /// Its elements.
    pub data: View<'a>,
    /// Whether it is stored transposed.
    pub transposed: bool,
}

/// c = a·b plus the epilogue; `a: [m, k]`, `b: [k, n]` (f32 or f16), `c: [m, n]`. Matrices beyond a binding and products of much work take
/// several dispatches; a sum that is cut along k goes on from what the part before left in c, so cuts change no bit.
pub fn matmul(a: Matrix, b: Matrix, c: ViewMut, extents: [usize; 3], epilogue: Epilogue) -> Result<()> {
    let gpu = c.gpu();
    let kernel = Kernel::of(gpu, &a, &b, extents)?;
    let [m, n, k] = extents;
    let most = gpu.elements_anywhere();
    let [height, width, depth] = cut(extents, [a.transposed, b.transposed], most, kernel);
    for rows in parts(m, height) {
        for columns in parts(n, width) {
            let c = Block::of(c.0, n, &rows, &columns);
            let beside = epilogue.residual.or(epilogue.gate).map(|r| Block::of(r, n, &rows, &columns));
            let bias = epilogue.bias.map(|bias| Block::of(bias, n, &(0..1), &columns));
            // A sum of nothing is a part too.
            for inner in parts(k.max(1), depth) {
                let inner = inner.start..inner.end.min(k);
                let is_last = inner.end == k;
                kernel.launch(&Product {
                    gpu,
                    a: a.block(&rows, &inner, [m, k]),
                    b: b.block(&inner, &columns, [k, n]),
                    c: &c,
                    bias: bias.as_ref().filter(|_| is_last),
                    beside: beside.as_ref().filter(|_| is_last),
                    is_gate: epilogue.gate.is_some(),
                    accumulate: epilogue.accumulate || inner.start > 0,
                    transposed: [a.transposed, b.transposed],
                    extents: [rows.len(), columns.len(), inner.len()],
                })?;
            }
        }
    }
    Ok(())
}

fn parts(len: usize, most: usize) -> impl Iterator<Item = Range<usize>> {
    (0..len).step_by(most.max(1)).map(move |first| first..len.min(first + most))
}

/// Extents along m, n and k of the parts of a product: each matrix's part spans at most `most` elements, and no part is
/// more than [`Kernel::most_work`] or deeper than pays.
fn cut(
    [m, n, k]: [usize; 3],
    [transpose_a, transpose_b]: [bool; 2],
    most: usize,
    kernel: Kernel,
) -> [usize; 3] {
    let tile = kernel.tile();
    let (mut height, mut width, mut depth) = (m, n, k.min(kernel.depth()));
    // A part of a matrix of `stored` rows and columns: some of its rows, or some of a row that is longer than a binding.
    let fit = |rows: &mut usize, columns: &mut usize, stored: [usize; 2]| {
        if stored[0] * stored[1] > most {
            *rows = (*rows).min((most / stored[1]).max(1));
            *columns = (*columns).min(most);
        }
    };
    fit(&mut height, &mut width, [m, n]);
    match transpose_a {
        true => fit(&mut depth, &mut height, [k, m]),
        false => fit(&mut height, &mut depth, [m, k]),
    }
    match transpose_b {
        true => fit(&mut width, &mut depth, [n, k]),
        false => fit(&mut depth, &mut width, [k, n]),
    }
    // Parts begin where vectors of four do, and in k where the kernel's groups of terms do.
    for (part, extent, step) in [(&mut height, m, 4), (&mut width, n, 4), (&mut depth, k, kernel.step())] {
        if *part < extent && *part > step {
            *part -= *part % step;
        }
    }
    let one_deep = 2 * tile[0] * tile[1];
    depth = depth.clamp(1, kernel.most_work() / one_deep);
    let tiles = kernel.most_work() / (one_deep * depth);
    let across = width.div_ceil(tile[1]).clamp(1, tiles.min(MOST_GROUPS));
    let down = height.div_ceil(tile[0]).clamp(1, (tiles / across).clamp(1, MOST_GROUPS));
    [height.min(down * tile[0]), width.min(across * tile[1]), depth]
}

/// A part of a stored matrix: what is bound, where its first element is in that, and the elements from a row to the next.
struct Block<'a> {
    view: View<'a>,
    first: usize,
    stride: usize,
}

impl<'a> Block<'a> {
    /// Of a matrix with `width` columns.
    fn of(data: View<'a>, width: usize, rows: &Range<usize>, columns: &Range<usize>) -> Self {
        let len = (rows.len() * width + columns.len()).saturating_sub(width);
        let len = if rows.is_empty() { 0 } else { len };
        let (view, first) = data.around(rows.start * width + columns.start, len);
        Block { view, first, stride: width }
    }
}

impl Block<'_> {
    /// Whether its rows, of `columns` elements, are whole vectors of four.
    fn is_in_fours(&self, columns: usize) -> bool {
        [self.first, self.stride, columns].iter().all(|elements| elements % 4 == 0)
    }
}

impl<'a> Matrix<'a> {
    /// Some of its rows and columns; `extents` are those of all.
    fn block(&self, rows: &Range<usize>, columns: &Range<usize>, extents: [usize; 2]) -> Block<'a> {
        match self.transposed {
            true => Block::of(self.data, extents[0], columns, rows),
            false => Block::of(self.data, extents[1], rows, columns),
        }
    }
}

/// What one dispatch computes.
struct Product<'a> {
    gpu: &'a Gpu,
    a: Block<'a>,
    b: Block<'a>,
    c: &'a Block<'a>,
    bias: Option<&'a Block<'a>>,
    /// The residual, or the gate.
    beside: Option<&'a Block<'a>>,
    is_gate: bool,
    accumulate: bool,
    transposed: [bool; 2],
    extents: [usize; 3],
}

impl Product<'_> {
    /// Whether a, b and k are whole vectors of four, and so is each row of a and b as stored.
    fn reads_fours(&self) -> bool {
        let [m, n, k] = self.extents;
        let columns = [if self.transposed[0] { m } else { k }, if self.transposed[1] { k } else { n }];
        k % 4 == 0 && self.a.is_in_fours(columns[0]) && self.b.is_in_fours(columns[1])
    }

    /// Whether each row of what is written, and of what is added to it, is whole vectors of four.
    fn writes_fours(&self) -> bool {
        let added = [Some(self.c), self.bias, self.beside];
        added.into_iter().flatten().all(|block| block.is_in_fours(self.extents[1]))
    }
}

/// How products are made on an adapter, see the files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kernel {
    Tiled,
    Large,
    Direct,
    Subgroups,
    /// By cooperative matrices; whether the adapter is software.
    Cooperative(Fragments, bool),
}

impl Kernel {
    /// Cooperative matrices make what a frozen weight does to activations. Gradients through it stay in f32: small ones would
    /// vanish in f16. Which of the others makes c is not seen in its bits.
    fn of(gpu: &Gpu, a: &Matrix, b: &Matrix, [m, n, _]: [usize; 3]) -> Result<Self> {
        if let Some(fragments) = gpu.fragments()?
            && b.data.dtype() == DType::F16
            && [a.transposed, b.transposed] == [false, true]
        {
            return Ok(Kernel::Cooperative(fragments, gpu.description().is_software()));
        }
        let many = MANY_TILES[usize::from(gpu.0.pretence.hardware)];
        Ok(match gpu.description().is_software() {
            true if gpu.works_by_subgroups()? => Kernel::Subgroups,
            true => Kernel::Direct,
            false if Kernel::Large.tiles(m, n) >= many => Kernel::Large,
            false => Kernel::Tiled,
        })
    }

    /// Rows and columns of c that a workgroup makes.
    fn tile(self) -> [usize; 2] {
        match self {
            Kernel::Tiled => [64, 64],
            Kernel::Large => [128, 128],
            Kernel::Direct => [32, 64],
            Kernel::Subgroups => [16, 32],
            Kernel::Cooperative(fragments, _) => [4, 8].map(|many| many * fragments.size as usize),
        }
    }

    /// Terms of a sum that must not be parted: they are added in an order of their own.
    fn step(self) -> usize {
        match self {
            Kernel::Cooperative(fragments, _) => fragments.size as usize,
            _ => 4,
        }
    }

    fn tiles(self, m: usize, n: usize) -> usize {
        let [rows, columns] = self.tile();
        m.div_ceil(rows) * n.div_ceil(columns)
    }

    /// Most floating-point operations of a dispatch.
    fn most_work(self) -> usize {
        match self {
            Kernel::Tiled | Kernel::Large | Kernel::Cooperative(_, false) => MOST_WORK_OF_HARDWARE,
            Kernel::Direct | Kernel::Subgroups | Kernel::Cooperative(_, true) => MOST_WORK,
        }
    }

    /// The deepest part. On the processor the lines of a tile's factors, often a power of two apart, must fit its caches
    /// side by side.
    fn depth(self) -> usize {
        match self {
            Kernel::Tiled | Kernel::Large | Kernel::Direct | Kernel::Cooperative(..) => usize::MAX,
            Kernel::Subgroups => 512,
        }
    }

    fn launch(self, of: &Product) -> Result<()> {
        let [m, n, k] = of.extents;
        // The kernel by subgroups begins with the first four of k.
        let kernel = if self == Kernel::Subgroups && k == 0 { Kernel::Direct } else { self };
        let (shader, entry) = match kernel {
            Kernel::Tiled => (&SHADER, "tiled"),
            Kernel::Large => (&LARGE_SHADER, "large"),
            Kernel::Direct => (&SHADER, "direct"),
            Kernel::Subgroups if !of.reads_fours() => (&SUBGROUP_SHADER, "narrow"),
            Kernel::Subgroups if !of.writes_fours() => (&SUBGROUP_SHADER, "wide_factors"),
            Kernel::Subgroups => (&SUBGROUP_SHADER, "wide"),
            Kernel::Cooperative(..) if of.reads_fours() && k > 0 => (&COOPERATIVE_SHADER, "wide"),
            Kernel::Cooperative(..) => (&COOPERATIVE_SHADER, "narrow"),
        };
        let tile = kernel.tile();
        let [down, across] = [m.div_ceil(tile[0]), n.div_ceil(tile[1])];
        // What is not added is not read: any view will do in its place.
        let (bias, residual) = (of.bias.unwrap_or(&of.a), of.beside.unwrap_or(&of.a));
        let strides = [of.a.stride, of.b.stride, of.c.stride];
        let firsts = [of.a.first, of.b.first, of.c.first, bias.first, residual.first];
        let words: Vec<u32> =
            [m, n, k].into_iter().chain(strides).chain(firsts).map(|word| word as u32).collect();
        let mut defines = vec![
            ("ACCUMULATE", u32::from(of.accumulate)),
            ("BIAS", u32::from(of.bias.is_some())),
            ("RESIDUAL", u32::from(of.beside.is_some() && !of.is_gate)),
            ("GATE", u32::from(of.beside.is_some() && of.is_gate)),
        ];
        match kernel {
            Kernel::Cooperative(Fragments { size, invocations }, _) => {
                defines.extend([(EIGHT, u32::from(size == 8)), ("INVOCATIONS", invocations)]);
            }
            _ => defines.extend([
                ("TRANSPOSE_A", u32::from(of.transposed[0])),
                ("TRANSPOSE_B", u32::from(of.transposed[1])),
                ("HALF_B", u32::from(of.b.view.dtype() == DType::F16)),
            ]),
        }
        of.gpu.launch(&Launch {
            shader,
            entry,
            defines: &defines,
            params: &words,
            reads: &[of.a.view, of.b.view, bias.view, residual.view],
            writes: &[ViewMut(of.c.view)],
            groups: [across as u32, down as u32, 1],
            work: 2 * (down * tile[0] * n * k) as u64,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_fit_bindings_and_do_bounded_work_whatever_the_shape() {
        let extents = [1, 7, 64, 1000, 40_000, 3_000_001, 50_000_000];
        let swap = |swap, [one, two]: [usize; 2]| if swap { [two, one] } else { [one, two] };
        // Elements from the first to the last of a part of a matrix of `width` columns.
        let span = |[rows, columns]: [usize; 2], [_, width]: [usize; 2]| (rows - 1) * width + columns;
        let fragments = |size, software| Kernel::Cooperative(Fragments { size, invocations: 128 }, software);
        let cooperative = [fragments(16, false), fragments(16, true), fragments(8, false)];
        let kernels = [Kernel::Tiled, Kernel::Large, Kernel::Direct, Kernel::Subgroups];
        let kernels = [&kernels[..], &cooperative].concat();
        for case in 0..7 * 7 * 7 * 8 * kernels.len() {
            let [m, n, k] = [case, case / 7, case / 49].map(|i| extents[i % 7]);
            let [ta, tb, small] = [1, 2, 4].map(|bit| (case / 343) & bit != 0);
            let kernel = kernels[case / (343 * 8)];
            let tile = kernel.tile();
            let most = if small { 100 } else { 33_554_368 };
            let [height, width, depth] = cut([m, n, k], [ta, tb], most, kernel);
            let place = format!(
                "{kernel:?}: {m} {n} {k}, transposed {ta} {tb}, at most {most}: {height} {width} {depth}"
            );
            assert!(depth <= kernel.depth(), "{place}");
            assert!(depth >= k || depth < kernel.step() || depth.is_multiple_of(kernel.step()), "{place}");
            assert!(height >= 1 && width >= 1 && depth >= 1, "{place}");
            assert!(span([height, width], [m, n]) <= most, "c of {place}");
            assert!(span(swap(ta, [height, depth]), swap(ta, [m, k])) <= most, "a of {place}");
            assert!(span(swap(tb, [depth, width]), swap(tb, [k, n])) <= most, "b of {place}");
            let [down, across] = [height.div_ceil(tile[0]), width.div_ceil(tile[1])];
            assert!(down.max(across) <= MOST_GROUPS, "{place}");
            assert!(2 * down * tile[0] * across * tile[1] * depth <= kernel.most_work(), "{place}");
        }
    }
}
