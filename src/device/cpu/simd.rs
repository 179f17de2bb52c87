//! One kernel source, compiled for several instruction sets and chosen at run time.
//!
//! A kernel implements [`Kernel`] with an `#[inline(always)]` body of plain loops; [`dispatch`] runs the copy
//! that was compiled for the best instruction set of this processor. Sums use [`LANES`] partial sums in a fixed
//! order, so their bits depend on the data and the instruction set alone.

use super::Float;
use std::str::FromStr;
use std::sync::OnceLock;

/// Instruction sets that kernels are compiled for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// What every processor of the target has.
    Portable,
    /// x86-64 with AVX2 and FMA.
    Avx2,
    /// x86-64 with AVX-512 F, BW, DQ and VL.
    Avx512,
}

impl std::fmt::Display for Level {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Level::Portable => "portable",
            Level::Avx2 => "avx2",
            Level::Avx512 => "avx512",
        })
    }
}

impl FromStr for Level {
    type Err = String;
    fn from_str(name: &str) -> Result<Self, String> {
        [Level::Portable, Level::Avx2, Level::Avx512]
            .into_iter()
            .find(|level| level.to_string() == name)
            .ok_or_else(|| "one of portable, avx2, avx512".into())
    }
}

static CHOSEN: OnceLock<Level> = OnceLock::new();

/// The instruction set in use: the best of this processor unless another was chosen.
#[inline]
pub fn level() -> Level {
    *CHOSEN.get_or_init(best)
}

/// The best instruction set of this processor.
pub fn best() -> Level {
    detect()
}

/// Chooses `level` for the process, before any kernel ran.
///
/// # Errors
/// The processor lacks it, or kernels run on another already.
pub fn choose(level: Level) -> crate::Result<()> {
    if level > best() {
        let problem = format!("this processor has no {level}, {} at best", best());
        return Err(crate::Error::setting(problem, "leave out --cpu-set, or name a lower one"));
    }
    match *CHOSEN.get_or_init(|| level) {
        chosen if chosen == level => Ok(()),
        other => Err(crate::Error::setting(
            format!("kernels for {level} were asked for after some ran on {other}"),
            "choose the instruction set first",
        )),
    }
}

#[cfg(target_arch = "x86_64")]
fn detect() -> Level {
    let avx2 = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
    let avx512 = ["avx512f", "avx512bw", "avx512dq", "avx512vl"];
    let has = |name: &str| match name {
        "avx512f" => is_x86_feature_detected!("avx512f"),
        "avx512bw" => is_x86_feature_detected!("avx512bw"),
        "avx512dq" => is_x86_feature_detected!("avx512dq"),
        _ => is_x86_feature_detected!("avx512vl"),
    };
    match (avx2, avx512.iter().all(|n| has(n))) {
        (true, true) => Level::Avx512,
        (true, false) => Level::Avx2,
        _ => Level::Portable,
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn detect() -> Level {
    Level::Portable
}

/// A kernel's body over one task's share of the work.
pub trait Kernel {
    /// What it returns.
    type Output;
    /// Runs it; mark the implementation `#[inline(always)]`, or it is compiled for the portable set only.
    fn run<const FMA: bool>(self) -> Self::Output;
}

/// Runs `kernel` compiled for this processor.
#[inline]
pub fn dispatch<K: Kernel>(kernel: K) -> K::Output {
    #[cfg(target_arch = "x86_64")]
    match level() {
        // SAFETY: `level` found the features at run time.
        Level::Avx512 => return unsafe { avx512(kernel) },
        // SAFETY: as above.
        Level::Avx2 => return unsafe { avx2(kernel) },
        Level::Portable => {}
    }
    kernel.run::<{ cfg!(target_arch = "aarch64") }>()
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,bmi1,bmi2")]
fn avx512<K: Kernel>(kernel: K) -> K::Output {
    kernel.run::<true>()
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma,bmi1,bmi2")]
fn avx2<K: Kernel>(kernel: K) -> K::Output {
    kernel.run::<true>()
}

/// Partial sums of a reduction.
pub const LANES: usize = 16;

#[inline(always)]
fn fold<T: Float>(lanes: [T; LANES]) -> T {
    let mut lanes = lanes;
    let mut width = LANES / 2;
    while width > 0 {
        for i in 0..width {
            lanes[i] += lanes[i + width];
        }
        width /= 2;
    }
    lanes[0]
}

/// Σ aᵢ·bᵢ over the shorter of the two.
#[inline(always)]
pub fn dot<T: Float, const FMA: bool>(a: &[T], b: &[T]) -> T {
    let mut lanes = [T::ZERO; LANES];
    let (a_chunks, b_chunks) = (a.chunks_exact(LANES), b.chunks_exact(LANES));
    let tail = a_chunks.remainder().iter().zip(b_chunks.remainder());
    for (i, (&x, &y)) in tail.enumerate() {
        lanes[i] = x * y;
    }
    for (x, y) in a_chunks.zip(b_chunks) {
        for i in 0..LANES {
            lanes[i] = x[i].mul_add::<FMA>(y[i], lanes[i]);
        }
    }
    fold(lanes)
}

/// Σ f(xᵢ).
#[inline(always)]
pub fn sum_of<T: Float>(x: &[T], f: impl Fn(T) -> T) -> T {
    let mut lanes = [T::ZERO; LANES];
    let chunks = x.chunks_exact(LANES);
    for (i, &v) in chunks.remainder().iter().enumerate() {
        lanes[i] = f(v);
    }
    for chunk in chunks {
        for i in 0..LANES {
            lanes[i] += f(chunk[i]);
        }
    }
    fold(lanes)
}

/// Largest element; −∞ for an empty slice.
#[inline(always)]
pub fn max<T: Float>(x: &[T]) -> T {
    let mut lanes = [T::NEG_INFINITY; LANES];
    let chunks = x.chunks_exact(LANES);
    for (i, &v) in chunks.remainder().iter().enumerate() {
        lanes[i] = v;
    }
    for chunk in chunks {
        for i in 0..LANES {
            lanes[i] = if chunk[i] > lanes[i] { chunk[i] } else { lanes[i] };
        }
    }
    lanes.iter().fold(T::NEG_INFINITY, |a, &b| if b > a { b } else { a })
}

/// y += a·x.
#[inline(always)]
pub fn axpy<T: Float, const FMA: bool>(a: T, x: &[T], y: &mut [T]) {
    for (y, &x) in y.iter_mut().zip(x) {
        *y = a.mul_add::<FMA>(x, *y);
    }
}
