//! The best k table rows by dot product for every row of x: products with the table, then a selection a row. Scores exist
//! for a run of rows at a time. See `kernels/retrieve.cu`, and `matmul` and `top_k`.

use super::each::each;
use super::matmul::{Epilogue, Matrix, matmul};
use super::top_k::top_k;
use super::{Buffer, View, ViewMut};
use crate::Result;
use crate::device::DType;

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
    let part = (SCORES / v.max(1)).max(1);
    for first in (0..n).step_by(part) {
        let rows = part.min(n - first);
        let scores = Buffer::scratch(search.x.cuda(), DType::F32, rows * v)?;
        let epilogue = Epilogue { bias: search.bias, ..Epilogue::default() };
        let x = Matrix { data: search.x.part(first * d, rows * d), transposed: false };
        let table = Matrix { data: search.table, transposed: true };
        matmul(x, table, scores.view_mut(0, rows * v), [rows, v, d], epilogue)?;
        if !search.exclude.is_empty() {
            exclude(&search.exclude[first..first + rows], v, &scores)?;
        }
        let (values, ids) = (values.part(first * k, rows * k), ids.part(first * k, rows * k));
        top_k(scores.view(0, rows * v), v, k, values, ids)?;
    }
    Ok(())
}

/// Takes the excluded ids of these rows out of their scores.
fn exclude(lists: &[Vec<u32>], v: usize, scores: &Buffer) -> Result<()> {
    let of_row = |(row, list): (usize, &Vec<u32>)| {
        let inside = list.partition_point(|&id| (id as usize) < v);
        list[..inside].iter().map(move |&id| (row * v) as u32 + id).collect::<Vec<_>>()
    };
    let places: Vec<u32> = lists.iter().enumerate().flat_map(of_row).collect();
    let uploaded = Buffer::copy_of(scores.cuda(), &places)?;
    let args = [uploaded.view(0, places.len()).into(), scores.view(0, scores.len()).into()];
    each(scores.cuda(), "retrieve", "lea_retrieve_exclude", places.len(), &args)
}
