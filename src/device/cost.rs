//! The least work of a computation.

/// Work of one call: floating-point operations (a multiply-add counts two) and bytes that must cross memory
/// when every input is read once and every output written once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cost {
    /// Floating-point operations.
    pub flops: u64,
    /// Bytes moved at least.
    pub bytes: u64,
}
