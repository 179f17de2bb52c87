//! Sizes that devices allocate in.

/// Smallest allocation in bytes; on devices that bind buffers, empty tensors have one too.
const LEAST: u64 = 16;

/// Rounds up to one of eight steps a power of two, so that packs of slightly different length share memory.
pub(super) fn size_class(bytes: u64) -> u64 {
    let bytes = bytes.max(LEAST);
    bytes.next_multiple_of((bytes.next_power_of_two() / 16).max(LEAST))
}
