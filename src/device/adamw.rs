//! What an AdamW update of a device is given.

/// Constants of one update.
#[derive(Clone, Copy, Debug)]
pub struct Update {
    /// Decay of the first moment.
    pub beta1: f32,
    /// 1 − beta1, rounded once.
    pub beta1_rest: f32,
    /// Decay of the second moment.
    pub beta2: f32,
    /// 1 − beta2, rounded once.
    pub beta2_rest: f32,
    /// Learning rate over the first moment's bias correction.
    pub rate: f32,
    /// 1 / (the second moment's bias correction).
    pub second_scale: f32,
    /// Added to the root of the second moment.
    pub eps: f32,
    /// 1 − learning rate · weight decay.
    pub keep: f32,
}
