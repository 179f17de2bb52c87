//! The k best of every row, see `shaders/top_k.wgsl`.

use super::shader::Shader;
use super::{Buffer, Launch, View, ViewMut, grid};
use crate::Result;
use crate::device::DType;

/// Invocations of a workgroup; the histogram has as many counters.
const LANES: usize = 256;
/// Most pairs that a workgroup sorts.
const MOST_SORTED: usize = 1024;
/// Pairs sorted at a time in global memory: 64 MiB.
const PAIRS: usize = 1 << 23;

pub(super) static SHADER: Shader =
    Shader::new("top_k", include_str!("../../../shaders/top_k.wgsl")).defining(&[("LANES", LANES as u32)]);

/// A run of rows, and the step of a merge.
#[derive(Clone, Copy)]
struct Step {
    rows: usize,
    m: usize,
    k: usize,
    width: usize,
    row: usize,
    run: usize,
    distance: usize,
}

impl Step {
    fn params(&self) -> [u32; 7] {
        let &Step { rows, m, k, width, row, run, distance } = self;
        [rows, m, k, width, row, run, distance].map(|word| word as u32)
    }
}

/// `values, ids: [n, k]` of `scores: [n, m]`, best first; where a row has fewer than k numbers the rest is −∞ and
/// `u32::MAX`. Rows that do not fit a binding come in parts.
pub fn top_k(scores: View, m: usize, k: usize, values: ViewMut, ids: ViewMut) -> Result<()> {
    let gpu = scores.gpu();
    let n = values.len() / k;
    let part = gpu.rows_per_buffer(n, m.max(k))?.min(gpu.rows_at_once(m));
    for first in (0..n).step_by(part) {
        let rows = part.min(n - first);
        let mut found = Found::new(&values, &ids, first, rows, k)?;
        let scores = scores.part_anywhere(first * m, rows * m)?;
        let (values, ids) = found.views();
        select(scores.view(), m, k, values, ids)?;
        found.store()?;
    }
    Ok(())
}

/// Where the results of some rows go: straight to their place, or first to buffers of their own where a binding cannot
/// start at that place.
pub(super) struct Found<'a> {
    values: &'a ViewMut<'a>,
    ids: &'a ViewMut<'a>,
    /// First element, and how many.
    range: (usize, usize),
    own: Option<(Buffer, Buffer)>,
}

impl<'a> Found<'a> {
    /// For `rows` rows from `first` on of `values, ids: [n, k]`.
    pub fn new(values: &'a ViewMut, ids: &'a ViewMut, first: usize, rows: usize, k: usize) -> Result<Self> {
        let range = (first * k, rows * k);
        let direct = values.0.starts_at(range.0) && ids.0.starts_at(range.0);
        let scratch = |dtype| Buffer::scratch(values.gpu(), dtype, range.1);
        let own = match direct {
            true => None,
            false => Some((scratch(DType::F32)?, scratch(DType::U32)?)),
        };
        Ok(Found { values, ids, range, own })
    }

    /// Values and ids to be written.
    pub fn views(&mut self) -> (ViewMut<'_>, ViewMut<'_>) {
        let (first, len) = self.range;
        match &self.own {
            None => (self.values.part(first, len), self.ids.part(first, len)),
            Some((values, ids)) => (ViewMut(values.view(0, len)), ViewMut(ids.view(0, len))),
        }
    }

    /// Brings them to their place.
    pub fn store(self) -> Result<()> {
        let (first, len) = self.range;
        if let Some((values, ids)) = &self.own {
            self.values.0.copy_from(values, first, len)?;
            self.ids.0.copy_from(ids, first, len)?;
        }
        Ok(())
    }
}

/// The same of rows that fit bindings.
pub(super) fn select(scores: View, m: usize, k: usize, values: ViewMut, ids: ViewMut) -> Result<()> {
    let rows = values.len() / k;
    let wanted = k.min(m);
    let width = wanted.next_power_of_two();
    let step = Step { rows, m, k, width, row: 0, run: 0, distance: 0 };
    if width <= MOST_SORTED {
        return launch(&step, "select_best", &[scores], &[values, ids], rows);
    }
    let gpu = scores.gpu();
    let at_once = gpu.rows_per_buffer(rows, 2 * width)?.min((PAIRS / width).max(1));
    for row in (0..rows).step_by(at_once) {
        let step = Step { rows: at_once.min(rows - row), row, ..step };
        let pairs = Buffer::scratch(gpu, DType::U32, 2 * step.rows * width)?;
        let written = || ViewMut(pairs.view(0, pairs.len()));
        launch(&step, "collect", &[scores], &[written()], step.rows)?;
        let blocks = step.rows * width / MOST_SORTED;
        launch(&step, "sort_block", &[], &[written()], blocks)?;
        let mut run = 2 * MOST_SORTED;
        while run <= width {
            let mut distance = run / 2;
            while distance >= MOST_SORTED {
                let pairs = (step.rows * width / 2).div_ceil(LANES);
                launch(&Step { run, distance, ..step }, "merge_far", &[], &[written()], pairs)?;
                distance /= 2;
            }
            launch(&Step { run, ..step }, "merge_near", &[], &[written()], blocks)?;
            run *= 2;
        }
        let results = (step.rows * k).div_ceil(LANES);
        let outputs = [values.part(0, values.len()), ids.part(0, ids.len())];
        launch(&step, "unpack", &[pairs.view(0, pairs.len())], &outputs, results)?;
    }
    Ok(())
}

fn launch(step: &Step, entry: &'static str, reads: &[View], writes: &[ViewMut], groups: usize) -> Result<()> {
    writes[0].gpu().launch(&Launch {
        shader: &SHADER,
        entry,
        defines: &[],
        params: &step.params(),
        reads,
        writes,
        groups: grid(groups),
        work: (step.rows * (step.m + step.width)) as u64,
    })
}
