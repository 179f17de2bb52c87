//! Rows of tables by id and the transpose, see `kernels/embedding.cu`.

use super::destinations::Uploaded;
use super::each::each;
use super::{View, ViewMut};
use crate::Result;

/// yᵢ = row idᵢ of the tables laid one after another; `ids: [n]`, `tables: [v, d]` each, `y: [n, d]`, in f32, or in bf16 with an even d.
/// An id beyond them, which only another kernel can have made, gives NaN.
pub fn gather(ids: View, tables: &[View], d: usize, y: ViewMut) -> Result<()> {
    let total = tables.iter().map(View::len).sum::<usize>() / d.max(1);
    let row = d * y.dtype().size();
    let addresses = tables.iter().map(View::address).chain([y.0.address()]);
    let alike =
        |bytes: usize| row.is_multiple_of(bytes) && addresses.clone().all(|at| at % bytes as u64 == 0);
    let (kernel, word) =
        if alike(16) { ("lea_embedding_gather_wide", 16) } else { ("lea_embedding_gather", 4) };
    assert!(alike(word), "rows of {d} elements of {}", y.dtype());
    let words = row / word;
    let mut first = 0;
    for &table in tables {
        let count = table.len() / d.max(1);
        let args =
            [words.into(), first.into(), count.into(), total.into(), ids.into(), table.into(), (&y).into()];
        each(ids.cuda(), "embedding", kernel, y.len() / d.max(1) * words, &args)?;
        first += count;
    }
    Ok(())
}

/// Row r of `dtable: [v, d]` = Σ of those rows of `dy: [n, d]` whose id is `first` + r, in row order.
pub fn scatter_add(destinations: &Uploaded, first: usize, dy: View, d: usize, dtable: ViewMut) -> Result<()> {
    let (starts, positions) = (destinations.starts().into(), destinations.positions().into());
    let args = [d.into(), first.into(), starts, positions, dy.into(), (&dtable).into()];
    each(dy.cuda(), "embedding", "lea_embedding_scatter", dtable.len(), &args)
}
