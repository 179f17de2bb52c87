//! What a device can do at best, and which of its two limits bounds a piece of work (the roofline: Williams, Waterman and
//! Patterson, 2009).

use serde::{Deserialize, Serialize};

/// Rates of a device, measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Ceiling {
    /// 10⁹ floating-point operations a second, of a large product.
    pub gflops: f64,
    /// 10⁹ bytes a second, read and written by a long copy.
    pub gb_per_s: f64,
    /// Type of the product's factor that stands for weights.
    pub dtype: String,
    /// Extent of the square product.
    pub extent: usize,
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
}

impl Bound {
    /// As tables and records name it.
    pub fn name(self) -> &'static str {
        match self {
            Bound::Compute => "compute",
            Bound::Memory => "memory",
        }
    }
}

impl Ceiling {
    /// Shares of both ceilings that work of `flops` and `bytes` reaches in `seconds`: of compute and of memory. 0 where
    /// nothing is known of the work.
    pub fn shares(&self, flops: f64, bytes: f64, seconds: f64) -> [f64; 2] {
        let share = |work: f64, ceiling: f64| {
            let share = work / seconds / 1e9 / ceiling;
            if share.is_finite() { share } else { 0.0 }
        };
        [share(flops, self.gflops), share(bytes, self.gb_per_s)]
    }

    /// The limit that the work meets first, and the share of it that is reached.
    pub fn bound(&self, flops: f64, bytes: f64, seconds: f64) -> (Bound, f64) {
        let [compute, memory] = self.shares(flops, bytes, seconds);
        if compute >= memory { (Bound::Compute, compute) } else { (Bound::Memory, memory) }
    }

    /// FLOPs a byte at which both limits are met at once.
    pub fn ridge(&self) -> f64 {
        self.gflops / self.gb_per_s
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_is_bound_by_the_limit_that_takes_longer() {
        let ceiling = Ceiling { gflops: 100.0, gb_per_s: 10.0, dtype: "f32".into(), extent: 1, copied: 1 };
        assert_eq!(ceiling.ridge(), 10.0);
        let (bound, share) = ceiling.bound(50e9, 1e9, 1.0);
        assert_eq!((bound, share), (Bound::Compute, 0.5));
        let (bound, share) = ceiling.bound(5e9, 4e9, 1.0);
        assert_eq!((bound, share), (Bound::Memory, 0.4));
        assert_eq!(ceiling.bound(0.0, 0.0, 0.0).1, 0.0);
    }
}
