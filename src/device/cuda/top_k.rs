//! The k best of every row, see `kernels/top_k.cu`.

use super::each::each;
use super::{Arg, Buffer, Launch, View, ViewMut};
use crate::Result;
use crate::device::DType;

/// Threads of a block; the histogram has as many counters.
const THREADS: u32 = 256;
/// Most keys that a block sorts.
const MOST_SORTED: usize = 1024;
/// Keys sorted at a time in global memory: 64 MiB.
const KEYS: usize = 1 << 23;

/// `values, ids: [n, k]` of `scores: [n, m]`, best first; where a row has fewer than k numbers the rest is −∞ and
/// `u32::MAX`.
pub fn top_k(scores: View, m: usize, k: usize, values: ViewMut, ids: ViewMut) -> Result<()> {
    let rows = values.len() / k;
    let width = k.min(m).next_power_of_two();
    if width <= MOST_SORTED {
        let args = [m.into(), k.into(), width.into(), scores.into(), (&values).into(), (&ids).into()];
        return launch(scores, "lea_top_k_select_best", rows, &args);
    }
    let at_once = (KEYS / width).max(1);
    for first in (0..rows).step_by(at_once) {
        let rows = at_once.min(rows - first);
        let part = scores.part(first * m, rows * m);
        let (values, ids) = (values.part(first * k, rows * k), ids.part(first * k, rows * k));
        // Keys have eight bytes, and buffers of no type so wide.
        let keys = Buffer::scratch(scores.cuda(), DType::U32, 2 * rows * width)?;
        let keys = keys.view(0, keys.len()).into();
        launch(scores, "lea_top_k_collect", rows, &[m.into(), k.into(), width.into(), part.into(), keys])?;
        sort(scores, rows, width, keys)?;
        let args = [k.into(), width.into(), keys, (&values).into(), (&ids).into()];
        each(scores.cuda(), "top_k", "lea_top_k_unpack", rows * k, &args)?;
    }
    Ok(())
}

/// Sorts `rows` rows of `width` keys.
fn sort(scores: View, rows: usize, width: usize, keys: Arg) -> Result<()> {
    let blocks = rows * width / MOST_SORTED;
    launch(scores, "lea_top_k_sort_block", blocks, &[width.into(), 0usize.into(), keys])?;
    let mut run = 2 * MOST_SORTED;
    while run <= width {
        let mut distance = run / 2;
        while distance >= MOST_SORTED {
            let args = [width.into(), run.into(), distance.into(), keys];
            each(scores.cuda(), "top_k", "lea_top_k_merge_far", rows * width / 2, &args)?;
            distance /= 2;
        }
        launch(scores, "lea_top_k_sort_block", blocks, &[width.into(), run.into(), keys])?;
        run *= 2;
    }
    Ok(())
}

fn launch(scores: View, kernel: &'static str, blocks: usize, args: &[Arg]) -> Result<()> {
    scores.cuda().launch(&Launch {
        file: "top_k",
        kernel,
        grid: [blocks, 1, 1],
        threads: THREADS,
        shared: 0,
        args,
    })
}
