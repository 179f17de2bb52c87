//! What dropout of a device is given.

/// Which elements are dropped: those of the CPU's mask.
#[derive(Clone, Copy, Debug)]
pub struct Mask {
    /// Key of the generator.
    pub seed: u64,
    /// Upper half of the generator's counter: one value a call.
    pub counter: u64,
    /// An element is dropped when its 32-bit word is below: p·2³².
    pub threshold: u32,
}
