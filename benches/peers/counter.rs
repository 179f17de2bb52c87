//! Inputs that every side computes for itself: elements of named streams, by a counter. Depends on nothing, so that each
//! package of this folder includes it.

/// The bits of element `i` of the stream `name`: FNV-1a of the name, counted up and mixed as in SplitMix64.
pub fn bits(name: &str, i: usize) -> u64 {
    let hash = name
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325, |h: u64, byte| (h ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3));
    let mut z = hash.wrapping_add((i as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// A whole number below `bound`.
pub fn number(name: &str, i: usize, bound: usize) -> u32 {
    (bits(name, i) % bound as u64) as u32
}

/// Uniform in [−1, 1), exact in f32.
pub fn value(name: &str, i: usize) -> f64 {
    (bits(name, i) >> 40) as f64 / f64::from(1 << 23) - 1.0
}
