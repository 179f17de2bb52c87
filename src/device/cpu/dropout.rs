//! Dropout with the mask computed from the element's place: Philox 4×32-10 (Salmon et al., "Parallel random numbers:
//! as easy as 1, 2, 3", SC 2011). Bound by arithmetic: some 20 integer multiplications for 4 elements.

use super::simd::{self, Kernel};
use super::{Float, rows_per_task};
use rayon::prelude::*;

/// Blocks of the generator that are computed side by side, one a vector lane.
const BLOCKS: usize = 16;
/// Elements that one such group serves: element j takes word j / `BLOCKS` of block j % `BLOCKS`, so that words are
/// used as the vectors hold them. The mask depends on this layout.
const GROUP: usize = 4 * BLOCKS;

/// Which elements are dropped.
#[derive(Clone, Copy, Debug)]
pub struct Mask {
    /// Key of the generator.
    pub seed: u64,
    /// Upper half of the generator's counter: one value a call.
    pub counter: u64,
    /// An element is dropped when its 32-bit word is below: p·2³².
    pub threshold: u32,
}

/// Ten rounds on `BLOCKS` counters at once.
#[inline(always)]
fn philox(mut block: [[u32; BLOCKS]; 4], mut key: [u32; 2]) -> [[u32; BLOCKS]; 4] {
    for _ in 0..10 {
        let [a, b, c, d] = block;
        for i in 0..BLOCKS {
            let (p, q) = (u64::from(a[i]) * 0xd251_1f53, u64::from(c[i]) * 0xcd9e_8d57);
            block[0][i] = (q >> 32) as u32 ^ b[i] ^ key[0];
            block[1][i] = q as u32;
            block[2][i] = (p >> 32) as u32 ^ d[i] ^ key[1];
            block[3][i] = p as u32;
        }
        key = [key[0].wrapping_add(0x9e37_79b9), key[1].wrapping_add(0xbb67_ae85)];
    }
    block
}

impl Mask {
    #[inline(always)]
    fn words(self, group: u64) -> [[u32; BLOCKS]; 4] {
        // The first index is a multiple of `BLOCKS`: the group shares its upper half.
        let first = group * BLOCKS as u64;
        let mut block =
            [first as u32, (first >> 32) as u32, self.counter as u32, (self.counter >> 32) as u32]
                .map(|word| [word; BLOCKS]);
        for (i, word) in block[0].iter_mut().enumerate() {
            *word += i as u32;
        }
        philox(block, [self.seed as u32, (self.seed >> 32) as u32])
    }
}

struct Dropout<'a, T> {
    x: &'a [T],
    first_group: u64,
    mask: Mask,
    scale: T,
    y: &'a mut [T],
}

impl<T: Float> Kernel for Dropout<'_, T> {
    type Output = ();
    #[inline(always)]
    fn run<const FMA: bool>(self) {
        for (i, (x, y)) in self.x.chunks(GROUP).zip(self.y.chunks_mut(GROUP)).enumerate() {
            let words = self.mask.words(self.first_group + i as u64);
            let rows = x.chunks(BLOCKS).zip(y.chunks_mut(BLOCKS));
            for (words, (x, y)) in words.iter().zip(rows) {
                for ((y, &x), &word) in y.iter_mut().zip(x).zip(words) {
                    *y = if word < self.mask.threshold { T::ZERO } else { x * self.scale };
                }
            }
        }
    }
}

/// yᵢ = 0 where the mask drops i, else scale·xᵢ.
pub fn dropout<T: Float>(x: &[T], mask: Mask, scale: T, y: &mut [T]) {
    let chunk = rows_per_task(1).next_multiple_of(GROUP);
    y.par_chunks_mut(chunk).zip(x.par_chunks(chunk)).enumerate().for_each(|(task, (y, x))| {
        let first_group = (task * chunk / GROUP) as u64;
        simd::dispatch(Dropout { x, first_group, mask, scale, y });
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The known answers that the generator's authors publish.
    #[test]
    fn philox_gives_the_published_words() {
        let cases = [
            ([0; 4], [0; 2], [0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8]),
            ([u32::MAX; 4], [u32::MAX; 2], [0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd]),
            (
                [0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344],
                [0xa4093822, 0x299f31d0],
                [0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1],
            ),
        ];
        for (counter, key, expected) in cases {
            let words = philox(counter.map(|word| [word; BLOCKS]), key);
            assert_eq!(words, expected.map(|word: u32| [word; BLOCKS]));
        }
    }
}
