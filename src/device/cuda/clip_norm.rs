//! The factor that clips gradients by their global norm, see `kernels/clip_norm.cu`.

use super::{Launch, View, ViewMut};
use crate::Result;

/// `told: [2]`: the factor (−1 where the norm is no finite number) and the norm; `squares` are those of single tensors.
pub fn clip(squares: View, limit: f32, told: ViewMut) -> Result<()> {
    let args = [squares.len().into(), limit.into(), squares.into(), (&told).into()];
    squares.cuda().launch(&Launch {
        file: "clip_norm",
        kernel: "lea_clip_norm",
        grid: [1, 1, 1],
        threads: 256,
        shared: 0,
        args: &args,
    })
}
