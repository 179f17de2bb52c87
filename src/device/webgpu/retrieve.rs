//! The best k table rows by dot product for every row of x: products with the table, then a selection a row. Scores exist
//! for a run of rows at a time. See `shaders/retrieve.wgsl`, and `matmul` and `top_k`.

use super::matmul::{Epilogue, Matrix, matmul};
use super::shader::{LANES, Shader};
use super::top_k::{Found, select};
use super::{Buffer, Gpu, Launch, View, ViewMut, grid};
use crate::Result;
use crate::device::DType;

pub(super) static SHADER: Shader =
    Shader::new("retrieve", include_str!("../../../shaders/retrieve.wgsl")).defining(&[LANES]);

/// Scores that exist at a time: 64 MiB, or one row.
const SCORES: usize = 1 << 24;

/// What to search for, and where.
#[derive(Clone, Copy)]
pub struct Search<'a> {
    /// `[n, d]`.
    pub x: View<'a>,
    /// `[v, d]`.
    pub table: View<'a>,
    /// `[v]`, added to the products.
    pub bias: Option<View<'a>>,
    /// For every row of x the sorted ids to leave out; empty for none at all.
    pub exclude: &'a [Vec<u32>],
    /// `[n, d, v, k]`.
    pub dims: [usize; 4],
}

/// `values, ids: [n, k]`, best first, padded with −∞ and `u32::MAX`. A row's bits depend on no other row.
pub fn retrieve(search: Search, values: ViewMut, ids: ViewMut) -> Result<()> {
    let [n, d, v, k] = search.dims;
    let gpu = search.x.gpu();
    let part = gpu.rows_per_buffer(n, v.max(k).max(d))?.min((SCORES / v.max(1)).max(1));
    for first in (0..n).step_by(part) {
        let rows = part.min(n - first);
        let x = search.x.part_anywhere(first * d, rows * d)?;
        let scores = Buffer::scratch(gpu, DType::F32, rows * v)?;
        let epilogue = Epilogue { bias: search.bias, ..Epilogue::default() };
        let (x, table) =
            (Matrix { data: x.view(), transposed: false }, Matrix { data: search.table, transposed: true });
        matmul(x, table, ViewMut(scores.view(0, rows * v)), [rows, v, d], epilogue)?;
        if !search.exclude.is_empty() {
            exclude(gpu, &search.exclude[first..first + rows], v, &scores)?;
        }
        let mut found = Found::new(&values, &ids, first, rows, k)?;
        let (values, ids) = found.views();
        select(scores.view(0, rows * v), v, k, values, ids)?;
        found.store()?;
    }
    Ok(())
}

/// Takes the excluded ids of these rows out of their scores.
fn exclude(gpu: &Gpu, lists: &[Vec<u32>], v: usize, scores: &Buffer) -> Result<()> {
    let of_row = |(row, list): (usize, &Vec<u32>)| {
        let inside = list.partition_point(|&id| (id as usize) < v);
        list[..inside].iter().map(move |&id| (row * v) as u32 + id).collect::<Vec<_>>()
    };
    let places: Vec<u32> = lists.iter().enumerate().flat_map(of_row).collect();
    let uploaded = Buffer::copy_of(gpu, &places)?;
    gpu.launch(&Launch {
        shader: &SHADER,
        entry: "exclude",
        defines: &[],
        params: &[places.len() as u32, f32::NAN.to_bits()],
        reads: &[uploaded.view(0, places.len())],
        writes: &[ViewMut(scores.view(0, scores.len()))],
        groups: grid(places.len().div_ceil(LANES.1 as usize)),
        work: places.len() as u64,
    })
}
