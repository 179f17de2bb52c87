//! AdamW updates, see `kernels/adamw.cu`.

use super::table::{Row, Tabled};
use super::{Arg, View, ViewMut};
use crate::Result;
use crate::device::adamw::Update;

const STEP: Tabled = Tabled { file: "adamw", kernel: "lea_adamw_step", rows: 70, block: 1024 };

/// One update of each `param` and its moments `[m, v]` from `grad` times the factor, which the first element of the view multiplies
/// where there is one: a negative one means no update. All tensors of one update have one length; rate and decay are its own, the other
/// constants those of the first.
pub fn steps(
    updates: &[(Update, ViewMut, [ViewMut; 2], View)],
    (factor, scale): (f32, Option<View>),
) -> Result<()> {
    let Some((u, _, _, grad)) = updates.first() else { return Ok(()) };
    let constants = [factor, u.beta1, u.beta1_rest, u.beta2, u.beta2_rest, u.second_scale, u.eps];
    let scale = scale.map_or(Arg::Long(0), Arg::from);
    let args: Vec<Arg> = constants.map(Into::into).into_iter().chain([scale]).collect();
    let row = |(u, param, [m, v], grad): &(Update, ViewMut, [ViewMut; 2], View)| -> Row<6> {
        let own = u64::from(u.rate.to_bits()) | u64::from(u.keep.to_bits()) << 32;
        let (len, [param, m, v]) = (grad.len(), [param, m, v].map(|tensor| tensor.0.address()));
        ([grad.address(), param, m, v, len as u64, own], len)
    };
    for updates in updates.chunks(STEP.rows) {
        let rows: Vec<_> = updates.iter().map(row).collect();
        STEP.launch(grad.cuda(), &STEP.table(&rows), STEP.blocks(&rows), &args)?;
    }
    Ok(())
}
