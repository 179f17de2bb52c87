//! Rows of tables by id and the transpose, see `kernels/embedding.cu`.

use super::destinations::Uploaded;
use super::each::each;
use super::{View, ViewMut};
use crate::Result;

/// yᵢ = row idᵢ of the tables laid one after another; `ids: [n]`, `tables: [v, d]` each, `y: [n, d]`. An id beyond them,
/// which only another kernel can have made, gives NaN.
pub fn gather(ids: View, tables: &[View], d: usize, y: ViewMut) -> Result<()> {
    let total = tables.iter().map(View::len).sum::<usize>() / d.max(1);
    let mut first = 0;
    for &table in tables {
        let count = table.len() / d.max(1);
        let args =
            [d.into(), first.into(), count.into(), total.into(), ids.into(), table.into(), (&y).into()];
        each(ids.cuda(), "embedding", "lea_embedding_gather", y.len(), &args)?;
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
