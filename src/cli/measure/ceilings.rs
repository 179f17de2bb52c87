//! What the device can do, measured in the same run as what is compared with it: a large product, and a long copy.

use super::statistics::median;
use crate::device::{DType, Device};
use crate::ops::matmul::matmul;
use crate::ops::scale::scale;
use crate::report::Ceiling;
use crate::tensor::Tensor;
use crate::{Error, Result};
use std::time::{Duration, Instant};

/// Extent of the square product at most.
const LARGEST: usize = 16_384;
/// That which is tried first where none is given, and the last.
const EXTENTS: [usize; 2] = [2048, 8192];
/// Below it a product or a copy tells of the launch and the wait more than of the device.
const LONG_ENOUGH: Duration = Duration::from_millis(10);
/// Copies of one measurement at most.
const MOST_COPIES: f64 = 64.0;
/// Measurements where nothing else is measured between them.
const MEASUREMENTS: usize = 5;
/// Elements of the copy, beyond what caches hold; on an NVIDIA GPU more.
const COPIED: [usize; 2] = [1 << 24, 1 << 26];
/// Values before they begin again: gigabytes of random numbers would take longer than all else.
const BLOCK: usize = 65_521;

/// Both ceilings, measured anew at each call of [`Ceilings::measure`].
pub struct Ceilings {
    a: Tensor,
    b: Tensor,
    copied: Tensor,
    /// Copies of one measurement, one behind the other.
    repeated: u32,
    products: Vec<f64>,
    copies: Vec<f64>,
}

impl Ceilings {
    /// Prepares them on `device`: a product of `extent`, or of the least one that takes long enough. With `frozen` its
    /// second factor is as the device stores frozen weights. An extent that is given bounds the copy too.
    pub fn new(device: &Device, frozen: bool, extent: Option<usize>) -> Result<Self> {
        check(extent)?;
        let mut side = extent.unwrap_or(EXTENTS[0]);
        let [mut a, mut b] = factors(device, frozen, side)?;
        // The first product warms up.
        timed(device, || matmul(&a, &b, false, true))?;
        while extent.is_none()
            && side < EXTENTS[1]
            && timed(device, || matmul(&a, &b, false, true))? < LONG_ENOUGH
        {
            side *= 2;
            match factors(device, frozen, side) {
                Ok(larger) => [a, b] = larger,
                Err(Error::DeviceMemory { .. }) => break,
                Err(e) => return Err(e),
            }
            timed(device, || matmul(&a, &b, false, true))?;
        }
        let copied = copied(device, extent.unwrap_or(EXTENTS[1]))?;
        timed(device, || scale(&copied, 2.0))?;
        let one = timed(device, || scale(&copied, 2.0))?.as_secs_f64();
        let repeated = (LONG_ENOUGH.as_secs_f64() / one).ceil().clamp(1.0, MOST_COPIES) as u32;
        Ok(Ceilings { a, b, copied, repeated, products: Vec::new(), copies: Vec::new() })
    }

    /// Takes one more measurement of each.
    pub fn measure(&mut self) -> Result<()> {
        let device = self.a.device();
        self.products.push(timed(device, || matmul(&self.a, &self.b, false, true))?.as_secs_f64());
        let copies = timed(device, || {
            (1..self.repeated).try_for_each(|_| scale(&self.copied, 2.0).map(drop))?;
            scale(&self.copied, 2.0)
        })?;
        self.copies.push(copies.as_secs_f64() / f64::from(self.repeated));
        Ok(())
    }

    /// Median rates of the measurements so far.
    pub fn told(&self) -> Ceiling {
        let extent = self.a.shape()[0];
        let copied = 2 * 4 * self.copied.len() as u64;
        Ceiling {
            gflops: 2.0 * (extent as f64).powi(3) / median(&self.products) / 1e9,
            gb_per_s: copied as f64 / median(&self.copies) / 1e9,
            dtype: self.b.dtype().to_string(),
            extent,
            copied,
        }
    }
}

/// Refuses an extent that no ceiling can be measured with, ahead of everything else.
pub fn check(extent: Option<usize>) -> Result<()> {
    match extent.filter(|extent| !(1..=LARGEST).contains(extent)) {
        None => Ok(()),
        Some(extent) => Err(Error::setting(
            format!("a ceiling from a product of extent {extent}"),
            format!("choose 1 to {LARGEST}"),
        )),
    }
}

/// Both ceilings of `device` from some measurements, and nothing held any more; arguments as of [`Ceilings::new`].
pub fn measured(device: &Device, frozen: bool, extent: Option<usize>) -> Result<Ceiling> {
    let mut ceilings = Ceilings::new(device, frozen, extent)?;
    (0..MEASUREMENTS).try_for_each(|_| ceilings.measure())?;
    Ok(ceilings.told())
}

/// Time of `work` on the device, from when it has nothing else to do until it has again.
fn timed(device: &Device, work: impl FnOnce() -> Result<Tensor>) -> Result<Duration> {
    device.synchronize()?;
    let start = Instant::now();
    let kept = work()?;
    device.synchronize()?;
    let taken = start.elapsed();
    drop(kept);
    Ok(taken)
}

fn factors(device: &Device, frozen: bool, side: usize) -> Result<[Tensor; 2]> {
    let shape = [side, side];
    let (a, b) = (uniform(side * side, 1), uniform(side * side, 2));
    let b = match frozen {
        true => Tensor::frozen(device, &b, &shape)?,
        false => Tensor::from_slice(device, &b, &shape)?,
    };
    // As the work has it: rows that nothing but products read come in the type to which these round them.
    let a = match device.factor_type(b.dtype()) {
        DType::F32 => Tensor::from_slice(device, &a, &shape)?,
        _ => Tensor::frozen(device, &a, &shape)?,
    };
    Ok([a, b])
}

/// What is copied: as much as 16 factors of `extent` at most, and less where the device has no room for as much.
fn copied(device: &Device, extent: usize) -> Result<Tensor> {
    let mut len = COPIED[usize::from(matches!(device, Device::Cuda(_)))].min(16 * extent * extent);
    loop {
        let room =
            device.expect_room("the copy that measures memory", 3 * DType::F32.size() as u64 * len as u64);
        match room.and_then(|()| Tensor::from_slice(device, &uniform(len, 3), &[len])) {
            Err(Error::DeviceMemory { .. }) if len > BLOCK => len /= 2,
            other => return other,
        }
    }
}

/// Numbers uniform in [−1, 1), a block of them again and again.
pub fn uniform(len: usize, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1 << 23) as f32 - 1.0
    };
    let block: Vec<f32> = (0..len.min(BLOCK)).map(|_| next()).collect();
    block.iter().copied().cycle().take(len).collect()
}
