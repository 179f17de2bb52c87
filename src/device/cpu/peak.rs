//! Multiply-adds that stay in registers, on all threads at once: what no product on this processor is faster than.
//!
//! Each instruction set that products use has a loop of its own, with as many chains of sums as hide the latency of one
//! multiply-add. Every product is of ones, so that the sums themselves tell how many there were.

use super::matmul_bf16;
use super::simd::{Level, level};
use crate::device::DType;
use std::hint::black_box;

/// Rounds of the loop at most: beyond, a sum in f32 counts no further.
pub const MOST_ROUNDS: u32 = 1 << 22;

/// Runs `rounds` rounds on every thread, with factors of `dtype` as products of such factors are computed: bf16 with its own
/// instructions where the processor has them, else all in f32. Returns the FLOPs of all threads, two a multiply-add.
pub fn multiply_adds(dtype: DType, rounds: u32) -> u64 {
    let rounds = rounds.min(MOST_ROUNDS);
    let pairs = dtype == DType::BF16 && matmul_bf16::has_instructions();
    2 * rayon::broadcast(|_| on_this_thread(level(), pairs, rounds)).into_iter().sum::<u64>()
}

#[cfg(target_arch = "x86_64")]
fn on_this_thread(level: Level, pairs: bool, rounds: u32) -> u64 {
    match level {
        // SAFETY: the processor has what `matmul_bf16::has_instructions` found.
        Level::Avx512 if pairs => unsafe { x86::avx512_bf16(rounds) },
        // SAFETY: the processor has what `level` found.
        Level::Avx512 => unsafe { x86::avx512(rounds) },
        // SAFETY: as above.
        Level::Avx2 => unsafe { x86::avx2(rounds) },
        Level::Portable => x86::sse2(rounds),
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn on_this_thread(_level: Level, _pairs: bool, rounds: u32) -> u64 {
    portable(rounds)
}

/// What every processor of the target has, as the compiler makes it of plain loops.
#[cfg(not(target_arch = "x86_64"))]
fn portable(rounds: u32) -> u64 {
    use super::Float;
    const FMA: bool = cfg!(target_arch = "aarch64");
    let (x, y) = black_box(([1f32; 4], [1f32; 4]));
    let mut sums = [[0f32; 4]; 16];
    for _ in 0..rounds {
        for sum in &mut sums {
            for lane in 0..4 {
                sum[lane] = Float::mul_add::<FMA>(x[lane], y[lane], sum[lane]);
            }
        }
    }
    total(sums.as_flattened())
}

fn total(sums: &[f32]) -> u64 {
    sums.iter().map(|&sum| sum as u64).sum()
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::{black_box, total};
    use std::arch::x86_64::*;

    /// Of 32 registers; a multiply-add takes four cycles, and two begin in one.
    const CHAINS: usize = 16;
    /// The same of 16 registers.
    const FEWER_CHAINS: usize = 12;

    #[target_feature(enable = "avx512f")]
    pub fn avx512(rounds: u32) -> u64 {
        let (x, y) = black_box((_mm512_set1_ps(1.0), _mm512_set1_ps(1.0)));
        let mut sums = [_mm512_setzero_ps(); CHAINS];
        for _ in 0..rounds {
            for sum in &mut sums {
                *sum = _mm512_fmadd_ps(x, y, *sum);
            }
        }
        sums.iter().map(|&sum| total(&lanes(sum))).sum()
    }

    /// Two products a lane, of pairs.
    #[target_feature(enable = "avx512f,avx512bf16")]
    pub fn avx512_bf16(rounds: u32) -> u64 {
        let one = _mm512_set1_ps(1.0);
        let (x, y) = black_box((_mm512_cvtne2ps_pbh(one, one), _mm512_cvtne2ps_pbh(one, one)));
        let mut sums = [_mm512_setzero_ps(); CHAINS];
        for _ in 0..rounds {
            for sum in &mut sums {
                *sum = _mm512_dpbf16_ps(*sum, x, y);
            }
        }
        sums.iter().map(|&sum| total(&lanes(sum))).sum()
    }

    #[target_feature(enable = "avx512f")]
    fn lanes(x: __m512) -> [f32; 16] {
        let mut lanes = [0.0; 16];
        // SAFETY: sixteen floats are written.
        unsafe { _mm512_storeu_ps(lanes.as_mut_ptr(), x) };
        lanes
    }

    /// What every x86-64 processor has. A product of the sum and a sum behind it: a product of other numbers would be made once,
    /// ahead of the loop.
    pub fn sse2(rounds: u32) -> u64 {
        let ones = || black_box([1f32; 4]);
        // SAFETY: every x86-64 processor has SSE2; four floats are read and written.
        unsafe {
            let (x, y) = (_mm_loadu_ps(ones().as_ptr()), _mm_loadu_ps(ones().as_ptr()));
            let mut sums = [_mm_setzero_ps(); FEWER_CHAINS];
            for _ in 0..rounds {
                for sum in &mut sums {
                    *sum = _mm_add_ps(_mm_mul_ps(*sum, y), x);
                }
            }
            let mut lanes = [[0.0; 4]; FEWER_CHAINS];
            lanes.iter_mut().zip(sums).for_each(|(lanes, sum)| _mm_storeu_ps(lanes.as_mut_ptr(), sum));
            total(lanes.as_flattened())
        }
    }

    #[target_feature(enable = "avx2,fma")]
    pub fn avx2(rounds: u32) -> u64 {
        let (x, y) = black_box((_mm256_set1_ps(1.0), _mm256_set1_ps(1.0)));
        let mut sums = [_mm256_setzero_ps(); FEWER_CHAINS];
        for _ in 0..rounds {
            for sum in &mut sums {
                *sum = _mm256_fmadd_ps(x, y, *sum);
            }
        }
        let mut lanes = [[0.0; 8]; FEWER_CHAINS];
        for (lanes, sum) in lanes.iter_mut().zip(sums) {
            // SAFETY: eight floats are written.
            unsafe { _mm256_storeu_ps(lanes.as_mut_ptr(), sum) };
        }
        total(lanes.as_flattened())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_round_is_a_multiply_add_of_each_lane_of_each_chain() {
        assert_eq!(on_this_thread(Level::Portable, false, 1000) % (1000 * 4), 0);
        let all = [(Level::Portable, false), (Level::Avx2, false), (Level::Avx512, false)];
        let there = match level() {
            Level::Portable => 1,
            Level::Avx2 => 2,
            Level::Avx512 => 3,
        };
        let pairs = matmul_bf16::has_instructions().then_some((Level::Avx512, true));
        for (level, pairs) in all.into_iter().take(there).chain(pairs) {
            let [few, many] = [3, 3000].map(|rounds| on_this_thread(level, pairs, rounds));
            assert!(few > 0 && many == 1000 * few, "{level}, pairs {pairs}: {few} {many}");
        }
    }

    #[test]
    fn all_threads_count_and_rounds_end_where_sums_do() {
        let threads = rayon::current_num_threads() as u64;
        let of_one = on_this_thread(level(), false, 8);
        assert_eq!(multiply_adds(DType::F32, 8), 2 * threads * of_one);
    }
}
