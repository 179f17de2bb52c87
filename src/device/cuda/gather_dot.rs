//! Dot products with chosen rows of a table, see `kernels/gather_dot.cu`.

use super::destinations::Uploaded;
use super::each::{each, each_by_warp};
use super::{Arg, View, ViewMut};
use crate::Result;

/// x `[n, d]`, table `[v, d]` and the choice `[n, k]` of rows of the table.
#[derive(Clone, Copy)]
pub struct Choice<'a> {
    /// `[n, d]`.
    pub x: View<'a>,
    /// `[v, d]`.
    pub table: View<'a>,
    /// `[n, k]`. An id beyond the table, which only another kernel can have made, gives NaN.
    pub ids: View<'a>,
    /// `[n, d, k, v]`.
    pub dims: [usize; 4],
}

/// yᵢⱼ = xᵢ·table\[idsᵢⱼ\] (+ bias\[idsᵢⱼ\]); `y: [n, k]`, `bias: [v]`.
pub fn forward(of: Choice, bias: Option<View>, y: ViewMut) -> Result<()> {
    let [_, d, k, v] = of.dims;
    let bias = bias.map_or(Arg::Long(0), Arg::from);
    let args = [k.into(), d.into(), v.into(), of.x.into(), of.table.into(), bias, of.ids.into(), (&y).into()];
    each_by_warp(of.x.cuda(), "gather_dot", "lea_gather_dot_forward", y.len(), &args)
}

/// dxᵢ = Σⱼ dyᵢⱼ·table\[idsᵢⱼ\].
pub fn backward_x(of: Choice, dy: View, dx: ViewMut) -> Result<()> {
    let [_, d, k, v] = of.dims;
    let args = [k.into(), d.into(), v.into(), of.table.into(), of.ids.into(), dy.into(), (&dx).into()];
    each(of.x.cuda(), "gather_dot", "lea_gather_dot_backward_x", dx.len(), &args)
}

/// dtable\[r\] = Σ dyᵢⱼ·xᵢ over the places with idsᵢⱼ = r, in their order.
pub fn backward_table(of: Choice, dy: View, destinations: &Uploaded, dtable: ViewMut) -> Result<()> {
    let [_, d, k, _] = of.dims;
    let (starts, positions) = (destinations.starts().into(), destinations.positions().into());
    let args = [k.into(), d.into(), starts, positions, of.x.into(), dy.into(), (&dtable).into()];
    each(of.x.cuda(), "gather_dot", "lea_gather_dot_backward_table", dtable.len(), &args)
}

/// dbias\[r\] = Σ dyᵢⱼ over the places with idsᵢⱼ = r, in their order.
pub fn backward_bias(of: Choice, dy: View, destinations: &Uploaded, dbias: ViewMut) -> Result<()> {
    let (starts, positions) = (destinations.starts().into(), destinations.positions().into());
    let args = [starts, positions, dy.into(), (&dbias).into()];
    each(of.x.cuda(), "gather_dot", "lea_gather_dot_backward_bias", dbias.len(), &args)
}
