//! What a device can do at best, and which of its two limits bounds a piece of work (the roofline: Williams, Waterman and
//! Patterson, 2009).

use crate::device::profile::Work;
use serde::{Deserialize, Serialize};

/// Share of a limit below which it does not bound: latency, the start of each launch and waiting then take most of the time.
pub const BOUNDS_FROM: f64 = 0.25;

/// The most arithmetic that a device does with factors of one type.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ComputeLimit {
    /// Type of the factor that stands for weights, as it is stored.
    pub dtype: String,
    /// 10⁹ floating-point operations a second: on the CPU of multiply-adds that stay in registers, elsewhere of the product.
    pub gflops: f64,
    /// The same of a large square product.
    pub product_gflops: f64,
    /// Extent of that product.
    pub extent: usize,
}

/// Rates of a device, each the best of some measurements.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Ceiling {
    /// Of f32, and behind it that of frozen weights where they are stored in another type.
    pub compute: Vec<ComputeLimit>,
    /// 10⁹ bytes a second, read and written by a long copy.
    pub gb_per_s: f64,
    /// Bytes that the copy reads and writes.
    pub copied: u64,
}

/// A limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Bound {
    /// Of arithmetic.
    Compute,
    /// Of memory's bandwidth.
    Memory,
    /// Both are far off.
    Neither,
}

impl Bound {
    /// As tables and records name it.
    pub fn name(self) -> &'static str {
        match self {
            Bound::Compute => "compute",
            Bound::Memory => "memory",
            Bound::Neither => "neither",
        }
    }
}

impl Ceiling {
    /// The limit of arithmetic in f32.
    pub fn single(&self) -> &ComputeLimit {
        self.compute.first().expect("there is one of f32")
    }

    /// That with frozen weights as the device stores them.
    pub fn frozen(&self) -> &ComputeLimit {
        self.compute.last().expect("there is one of f32")
    }

    /// The better of two measurements of the same limits.
    #[must_use]
    pub fn or_better(self, other: Ceiling) -> Self {
        let better = |(a, b): (ComputeLimit, ComputeLimit)| {
            // The extent is that of the product which was better.
            let of_product = if a.product_gflops >= b.product_gflops { &a } else { &b };
            ComputeLimit { gflops: a.gflops.max(b.gflops), ..of_product.clone() }
        };
        Ceiling {
            compute: self.compute.into_iter().zip(other.compute).map(better).collect(),
            gb_per_s: self.gb_per_s.max(other.gb_per_s),
            copied: self.copied,
        }
    }

    /// Shares of both limits that `work` reaches in `seconds`: of compute and of memory. What it computes in different types
    /// stands beside the limit of each. 0 where nothing is known of the work.
    pub fn shares(&self, work: Work, seconds: f64) -> [f64; 2] {
        let known = |share: f64| if share.is_finite() { share } else { 0.0 };
        let single = (work.flops - work.half_flops) / self.single().gflops;
        let compute = (single + work.half_flops / self.frozen().gflops) / 1e9;
        [known(compute / seconds), known(work.bytes / seconds / 1e9 / self.gb_per_s)]
    }

    /// The limit that `shares` are nearer to, and how near.
    pub fn nearest([compute, memory]: [f64; 2]) -> (Bound, f64) {
        if compute >= memory { (Bound::Compute, compute) } else { (Bound::Memory, memory) }
    }

    /// The limit that bounds work which reaches those shares.
    pub fn bound(shares: [f64; 2]) -> Bound {
        match Self::nearest(shares) {
            (_, share) if share < BOUNDS_FROM => Bound::Neither,
            (bound, _) => bound,
        }
    }

    /// In words.
    pub fn line(&self) -> String {
        let compute: Vec<String> = self.compute.iter().map(ComputeLimit::line).collect();
        let copied = self.copied / 1_000_000;
        format!("{}, {:.1} GB/s (a copy of {copied} MB)", compute.join(", "), self.gb_per_s)
    }
}

impl ComputeLimit {
    /// Whether it was measured by multiply-adds in registers, and is not the product itself.
    pub fn is_above_the_product(&self) -> bool {
        self.gflops > self.product_gflops
    }

    fn line(&self) -> String {
        let product = format!("{0} x {0} x {0} in {1}", self.extent, self.dtype);
        match self.is_above_the_product() {
            true => format!(
                "{:.1} GFLOP/s in {} (in registers; {product}: {:.1})",
                self.gflops, self.dtype, self.product_gflops
            ),
            false => format!("{:.1} GFLOP/s ({product})", self.gflops),
        }
    }

    /// FLOPs a byte at which this limit and one of `gb_per_s` are met at once.
    pub fn ridge(&self, gb_per_s: f64) -> f64 {
        self.gflops / gb_per_s
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limit(dtype: &str, gflops: f64) -> ComputeLimit {
        ComputeLimit { dtype: dtype.into(), gflops, product_gflops: 0.9 * gflops, extent: 1 }
    }

    fn work(flops: f64, half_flops: f64, bytes: f64) -> Work {
        Work { flops, half_flops, bytes }
    }

    #[test]
    fn work_is_bound_by_the_limit_that_takes_longer_and_by_neither_far_from_both() {
        let ceiling = Ceiling { compute: vec![limit("f32", 100.0)], gb_per_s: 10.0, copied: 1 };
        assert_eq!(ceiling.single().ridge(ceiling.gb_per_s), 10.0);
        for (flops, bytes, shares, bound) in [
            (50e9, 1e9, [0.5, 0.1], Bound::Compute),
            (5e9, 4e9, [0.05, 0.4], Bound::Memory),
            (17e9, 1e9, [0.17, 0.1], Bound::Neither),
        ] {
            let found = ceiling.shares(work(flops, 0.0, bytes), 1.0);
            assert!(found.iter().zip(shares).all(|(a, b)| (a - b).abs() < 1e-12), "{found:?}");
            assert_eq!(Ceiling::bound(found), bound);
        }
        assert_eq!(ceiling.shares(work(0.0, 0.0, 0.0), 0.0), [0.0, 0.0]);
    }

    #[test]
    fn each_type_stands_beside_its_own_limit() {
        let compute = vec![limit("f32", 100.0), limit("bf16", 400.0)];
        let ceiling = Ceiling { compute, gb_per_s: 10.0, copied: 1 };
        let share = |flops, half_flops| ceiling.shares(work(flops, half_flops, 0.0), 1.0)[0];
        assert!((share(50e9, 0.0) - 0.5).abs() < 1e-12);
        assert!((share(200e9, 200e9) - 0.5).abs() < 1e-12);
        assert!((share(250e9, 200e9) - 1.0).abs() < 1e-12);
        assert!(ceiling.line().contains("100.0 GFLOP/s in f32 (in registers; 1 x 1 x 1 in f32: 90.0)"));
    }
}
