//! Forest attention, see `shaders/forest_attention.wgsl`.

mod index;

pub use index::DeviceIndex;

use super::shader::{Defines, Part, SUBGROUP, Shader};
use super::tier::Tier;
use super::{Buffer, Gpu, Launch, View, ViewMut, grid};
use crate::Result;
use crate::device::cpu::forest_attention::Heads;
use crate::device::{AttentionIndex, DType};
use std::ops::Range;

/// Query rows (or keys) of a workgroup.
const ROWS: usize = 32;
// The kernel by subgroups holds so many rows an invocation.
const _: () = assert!(ROWS == 4 * SUBGROUP);
/// Floating-point operations of one dispatch, about: each leaves the adapter free for others soon. A single job may do more:
/// a tile of query rows with all keys they see, in all heads. Work on keys comes in parts of a bounded number of rows.
const MOST_WORK: u64 = 1 << 30;
/// The same of hardware.
const MOST_WORK_OF_HARDWARE: u64 = 1 << 33;
/// Most blocks of keys whose parts stand in memory at a time.
const MOST_PARTS: usize = 4096;

/// Heads of 4, 32, 64, 128 and 256 elements.
const WIDTHS: &[&Defines] =
    &[&[("VECS", 1)], &[("VECS", 8)], &[("VECS", 16)], &[("VECS", 32)], &[("VECS", 64)]];

pub(super) static SHADER: Shader =
    Shader::new("forest_attention", include_str!("../../../../shaders/forest_attention.wgsl"))
        .with(&[Part::Forest])
        .defining(&[("ROWS", ROWS as u32), ("VECS", 12)])
        .set_together(WIDTHS);

pub(super) static SUBGROUP_SHADER: Shader = Shader::new(
    "forest_attention_subgroups",
    include_str!("../../../../shaders/forest_attention_subgroups.wgsl"),
)
.with(&[Part::Forest])
.defining(&[("SUBGROUP", SUBGROUP as u32), ("VECS", 12)])
.set_together(WIDTHS)
.from(Tier::Subgroups);

/// Inputs of one call: q `[rows, heads·head_dim]`, k and v `[keys, kv_heads·head_dim]`.
#[derive(Clone, Copy, Debug)]
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

/// What forward left, and the gradient of its output; `out, dout: [rows, heads·head_dim]`, `lse: [rows, heads]`.
#[derive(Clone, Copy, Debug)]
pub struct Outputs<'a> {
    /// Output of forward.
    pub out: View<'a>,
    /// Log-sum-exp of every row and head.
    pub lse: View<'a>,
    /// Gradient of the output.
    pub dout: View<'a>,
}

/// Gradients, all written in full; shapes of q, k, v.
#[derive(Debug)]
pub struct Grads<'a> {
    /// Of the queries.
    pub dq: ViewMut<'a>,
    /// Of the keys.
    pub dk: ViewMut<'a>,
    /// Of the values.
    pub dv: ViewMut<'a>,
}

/// Launch settings that all entry points of a call share.
#[derive(Clone, Copy)]
struct Call<'a> {
    gpu: &'a Gpu,
    heads: Heads,
    scale: f32,
    through_window: bool,
}

impl Call<'_> {
    /// Most operations of a dispatch of several jobs.
    fn most_work(&self) -> u64 {
        let most = if self.gpu.description().is_software() { MOST_WORK } else { MOST_WORK_OF_HARDWARE };
        self.gpu.0.pretence.attention_work.unwrap_or(most)
    }

    fn vecs(&self) -> usize {
        self.heads.head_dim.div_ceil(4)
    }

    /// Runs jobs `jobs` of an entry point, `groups` workgroups a job.
    fn launch(
        &self,
        entry: &'static str,
        jobs: Range<usize>,
        groups: usize,
        [at, more, ranges]: [usize; 3],
        (reads, writes): (&[View], &[ViewMut]),
        work: u64,
    ) -> Result<()> {
        let params = [
            jobs.start as u32,
            jobs.len() as u32,
            self.heads.heads as u32,
            self.heads.group() as u32,
            self.scale.to_bits(),
            at as u32,
            more as u32,
            ranges as u32,
        ];
        // By subgroups, the rows of a tile take the same key at a time.
        let subgroups = entry == "forward" && !self.through_window && self.gpu.works_by_subgroups()?;
        self.gpu.launch(&Launch {
            shader: if subgroups { &SUBGROUP_SHADER } else { &SHADER },
            entry,
            defines: &[("VECS", self.vecs() as u32)],
            params: &params,
            reads,
            writes,
            groups: grid(jobs.len() * groups),
            work,
        })
    }
}

/// Cuts jobs into runs of at most `most_work` operations (or of one job), and of at most `most` jobs.
fn runs(work: impl Iterator<Item = u64>, most_work: u64, most: usize) -> Vec<(Range<usize>, u64)> {
    let mut runs: Vec<(Range<usize>, u64)> = Vec::new();
    for (job, own) in work.enumerate() {
        match runs.last_mut() {
            Some((jobs, sum)) if *sum + own <= most_work && jobs.len() < most => {
                jobs.end = job + 1;
                *sum += own;
            }
            _ => runs.push((job..job + 1, own)),
        }
    }
    runs
}

/// Copies heads of width `from` to width `to`.
fn set_width(call: Call, x: View, y: ViewMut, from: usize, to: usize) -> Result<()> {
    let heads = y.len() / to;
    let part = call.gpu.rows_per_part(heads, from.max(to))?;
    for first in (0..heads).step_by(part) {
        let heads = part.min(heads - first);
        call.gpu.launch(&Launch {
            shader: &SHADER,
            entry: "set_width",
            defines: &[],
            params: &[from as u32, heads as u32, 0, 0, 0, 0, to as u32, 0],
            reads: &[x.part(first * from, heads * from)],
            writes: &[y.part(first * to, heads * to)],
            groups: grid((heads * to).div_ceil(ROWS)),
            work: (heads * to) as u64,
        })?;
    }
    Ok(())
}

/// Heads of a width that is no multiple of four, with zeros behind.
fn widened(call: Call, x: View) -> Result<Buffer> {
    let (from, to) = (call.heads.head_dim, 4 * call.vecs());
    let wide = Buffer::scratch(call.gpu, DType::F32, x.len() / from * to)?;
    set_width(call, x, ViewMut(wide.view(0, wide.len())), from, to)?;
    Ok(wide)
}

fn all(buffer: &Buffer) -> View<'_> {
    buffer.view(0, buffer.len())
}

/// An error unless queries and keys fit their bindings: with fewer rows a pack they do.
fn expect_bound(gpu: &Gpu, heads: Heads, index: &AttentionIndex) -> Result<()> {
    let wide = heads.head_dim.next_multiple_of(4);
    gpu.expect_bound("forest_attention", index.rows(), heads.heads * wide)?;
    gpu.expect_bound("forest_attention", index.keys(), heads.kv_heads * wide)
}

/// Forward. `out: [rows, heads·head_dim]`, `lse: [rows, heads]` the log-sum-exp of every row's scaled scores.
pub fn forward(inputs: Inputs, index: &AttentionIndex, out: ViewMut, lse: ViewMut) -> Result<()> {
    let Inputs { q, k, v, heads, scale } = inputs;
    let call = Call { gpu: q.gpu(), heads, scale, through_window: index.through_window() };
    let hd = heads.head_dim;
    expect_bound(call.gpu, heads, index)?;
    if index.rows() == 0 {
        return Ok(());
    }
    if !hd.is_multiple_of(4) {
        let [wide_q, wide_k, wide_v] = [widened(call, q)?, widened(call, k)?, widened(call, v)?];
        let wide_out = Buffer::scratch(call.gpu, DType::F32, wide_q.len())?;
        let inputs = Inputs { q: all(&wide_q), k: all(&wide_k), v: all(&wide_v), ..inputs };
        forward_whole(call, inputs, index, &ViewMut(all(&wide_out)), &lse)?;
        return set_width(call, all(&wide_out), out, 4 * call.vecs(), hd);
    }
    forward_whole(call, inputs, index, &out, &lse)
}

fn forward_whole(
    call: Call,
    inputs: Inputs,
    index: &AttentionIndex,
    out: &ViewMut,
    lse: &ViewMut,
) -> Result<()> {
    let Inputs { q, k, v, heads, .. } = inputs;
    let (rows, uploaded) = (out.len(), index.on_webgpu(call.gpu));
    let tiles = uploaded.queries(index, call.gpu)?;
    let per_pair = 4 * (heads.heads * heads.head_dim) as u64;
    for (jobs, work) in runs(tiles.pairs.iter().map(|pairs| pairs * per_pair), call.most_work(), usize::MAX) {
        let writes = [out.part(0, rows), lse.part(0, lse.len())];
        let bindings: (&[View], &[ViewMut]) = (&[all(&tiles.index), q, k, v], &writes);
        call.launch("forward", jobs, heads.heads, [0, tiles.rows_at, 0], bindings, work)?;
    }
    Ok(())
}

/// Backward.
pub fn backward(inputs: Inputs, outputs: Outputs, index: &AttentionIndex, grads: Grads) -> Result<()> {
    let Inputs { q, k, v, heads, scale } = inputs;
    let call = Call { gpu: q.gpu(), heads, scale, through_window: index.through_window() };
    let hd = heads.head_dim;
    expect_bound(call.gpu, heads, index)?;
    if index.rows() == 0 {
        call.gpu.clear(&grads.dk.0)?;
        return call.gpu.clear(&grads.dv.0);
    }
    if hd.is_multiple_of(4) {
        return backward_whole(call, inputs, outputs, index, grads);
    }
    let wide = |x| widened(call, x);
    let [wide_q, wide_k, wide_v, out, dout] =
        [wide(q)?, wide(k)?, wide(v)?, wide(outputs.out)?, wide(outputs.dout)?];
    let like = |x: &Buffer| Buffer::scratch(call.gpu, DType::F32, x.len());
    let [dq, dk, dv] = [like(&wide_q)?, like(&wide_k)?, like(&wide_v)?];
    let inputs = Inputs { q: all(&wide_q), k: all(&wide_k), v: all(&wide_v), ..inputs };
    let outputs = Outputs { out: all(&out), dout: all(&dout), ..outputs };
    let [wide_dq, wide_dk, wide_dv] = [&dq, &dk, &dv].map(|x| ViewMut(all(x)));
    backward_whole(call, inputs, outputs, index, Grads { dq: wide_dq, dk: wide_dk, dv: wide_dv })?;
    set_width(call, all(&dq), grads.dq, 4 * call.vecs(), hd)?;
    set_width(call, all(&dk), grads.dk, 4 * call.vecs(), hd)?;
    set_width(call, all(&dv), grads.dv, 4 * call.vecs(), hd)
}

fn backward_whole(
    call: Call,
    inputs: Inputs,
    outputs: Outputs,
    index: &AttentionIndex,
    grads: Grads,
) -> Result<()> {
    let Inputs { q, k, v, heads, .. } = inputs;
    let Outputs { lse, dout, .. } = outputs;
    let uploaded = index.on_webgpu(call.gpu);
    let stats = Buffer::scratch(call.gpu, DType::F32, 2 * lse.len())?;
    fill_stats(call, outputs, ViewMut(all(&stats)))?;
    let tiles = uploaded.queries(index, call.gpu)?;
    let per_pair = 6 * (heads.heads * heads.head_dim) as u64;
    for (jobs, work) in runs(tiles.pairs.iter().map(|pairs| pairs * per_pair), call.most_work(), usize::MAX) {
        let reads = [all(&tiles.index), q, k, v, dout, all(&stats)];
        let writes = [grads.dq.part(0, grads.dq.len())];
        call.launch("backward_queries", jobs, heads.heads, [0, tiles.rows_at, 0], (&reads, &writes), work)?;
    }
    key_grads(call, inputs, (dout, all(&stats)), uploaded.keys(index, call.gpu)?, grads)
}

/// `stats: [rows, heads, 2]`: of every row and head its log-sum-exp and dout·out.
fn fill_stats(call: Call, of: Outputs, stats: ViewMut) -> Result<()> {
    let (rows, width) = (of.lse.len(), 4 * call.vecs());
    let part = call.gpu.rows_per_part(rows, width)?;
    for first in (0..rows).step_by(part) {
        let rows = part.min(rows - first);
        let [out, dout] = [of.out, of.dout].map(|x| x.part(first * width, rows * width));
        call.gpu.launch(&Launch {
            shader: &SHADER,
            entry: "backward_stats",
            defines: &[("VECS", call.vecs() as u32)],
            params: &[0, rows as u32, 0, 0, 0, 0, 0, 0],
            reads: &[out, dout, of.lse.part(first, rows)],
            writes: &[stats.part(2 * first, 2 * rows)],
            groups: grid(rows.div_ceil(ROWS)),
            work: 2 * (rows * width) as u64,
        })?;
    }
    Ok(())
}

/// dk and dv. `of` is the gradient of the output and the statistics of its rows.
fn key_grads(call: Call, inputs: Inputs, of: (View, View), keys: &index::Keys, grads: Grads) -> Result<()> {
    let Inputs { q, k, v, heads, .. } = inputs;
    let reads = [all(&keys.index), q, k, v, of.0, of.1];
    let per_row = 8 * (ROWS * heads.heads * heads.head_dim) as u64;
    let width = heads.kv_heads * 4 * call.vecs();
    let block_work = |parts: &Range<usize>| keys.part_rows[parts.clone()].iter().sum::<u64>() * per_row;
    for (blocks, _) in runs(keys.blocks.iter().map(block_work), call.most_work(), MOST_PARTS) {
        let parts = keys.blocks[blocks.start].start..keys.blocks[blocks.end - 1].end;
        let sums = || Buffer::scratch(call.gpu, DType::F32, parts.len() * ROWS * width);
        let (dk, dv) = (sums()?, sums()?);
        // A single block of keys that all rows see may be more than a dispatch does: its parts are then made by several.
        let part_work = keys.part_rows[parts.clone()].iter().map(|rows| rows * per_row);
        for (run, work) in runs(part_work, call.most_work(), usize::MAX) {
            let (start, len) = (run.start * ROWS * width, run.len() * ROWS * width);
            let writes = [dk.view(start, len), dv.view(start, len)].map(ViewMut);
            let jobs = parts.start + run.start..parts.start + run.end;
            let places = [keys.parts_at, keys.spans_at, 0];
            call.launch("backward_shared_keys", jobs, heads.kv_heads, places, (&reads, &writes), work)?;
        }
        let writes = [grads.dk.part(0, grads.dk.len()), grads.dv.part(0, grads.dv.len())];
        let sums = [all(&keys.index), all(&dk), all(&dv)];
        let added = 2 * (parts.len() * ROWS * width) as u64;
        call.launch("sum_parts", blocks, 1, [keys.blocks_at, parts.start, 0], (&sums, &writes), added)?;
    }
    let work = keys.own_rows.iter().map(|rows| rows * 8 * (heads.heads * heads.head_dim) as u64);
    for (blocks, work) in runs(work, call.most_work(), usize::MAX) {
        let writes = [grads.dk.part(0, grads.dk.len()), grads.dv.part(0, grads.dv.len())];
        let places = [keys.own_at, keys.own_rows_at, 0];
        call.launch("backward_own_keys", blocks, heads.kv_heads, places, (&reads, &writes), work)?;
    }
    Ok(())
}
