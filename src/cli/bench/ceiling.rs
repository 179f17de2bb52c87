//! What the machine can do: the rate of a large matrix product, and the memory that the process has held.

use crate::Result;
use crate::device::Device;
use crate::ops::matmul::matmul;
use crate::tensor::Tensor;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::time::Instant;

/// Extent of the square product.
const EXTENT: usize = 2048;

/// A square product with a factor as the device stores frozen weights, whose rate is the ceiling, measured anew at each call.
pub struct Ceiling {
    a: Tensor,
    b: Tensor,
    rates: Vec<f64>,
}

impl Ceiling {
    /// Random matrices on `device`; the first product warms up and is not counted.
    pub fn new(device: &Device) -> Result<Self> {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let mut random =
            || (0..EXTENT * EXTENT).map(|_| rng.random_range(-1.0f32..1.0)).collect::<Vec<f32>>();
        let shape = [EXTENT, EXTENT];
        let a = Tensor::from_slice(device, &random(), &shape)?;
        let b = Tensor::frozen(device, &random(), &shape)?;
        matmul(&a, &b, false, true)?;
        device.synchronize()?;
        Ok(Ceiling { a, b, rates: Vec::new() })
    }

    /// Takes one more measurement.
    pub fn measure(&mut self) -> Result<()> {
        let start = Instant::now();
        matmul(&self.a, &self.b, false, true)?;
        self.a.device().synchronize()?;
        self.rates.push(2.0 * (EXTENT as f64).powi(3) / start.elapsed().as_secs_f64() / 1e9);
        Ok(())
    }

    /// Median rate in GFLOP/s.
    pub fn gflops(&self) -> f64 {
        median(&self.rates)
    }
}

/// Middle of the values; 0 where there are none.
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => 0.0,
        n => (sorted[(n - 1) / 2] + sorted[n / 2]) / 2.0,
    }
}

/// Largest resident memory of this process so far in MB (10⁶ bytes); `None` where the system does not tell.
pub fn peak_rss_mb() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|l| l.starts_with("VmHWM:"))?;
    let kib: f64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib * 1024.0 / 1e6)
}
