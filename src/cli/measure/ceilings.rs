//! What the device can do, measured in the same run as what is compared with it: a large product in each type that is
//! computed in, on the CPU multiply-adds in registers too, and a long copy. The best of several measurements counts: whatever
//! else the machine does can only make one slower.

use crate::device::{DType, Device, cpu::peak};
use crate::ops::matmul::matmul;
use crate::ops::scale::scale;
use crate::report::{Ceiling, ComputeLimit};
use crate::tensor::Tensor;
use crate::{Error, Result};
use std::time::{Duration, Instant};

/// Extent of the square product at most.
const LARGEST: usize = 16_384;
/// That which is tried first where none is given, and the last.
const EXTENTS: [usize; 2] = [2048, 8192];
/// Below it a product or a copy tells of the launch and the wait more than of the device.
const LONG_ENOUGH: Duration = Duration::from_millis(10);
/// The same of multiply-adds in registers. Short, so that some measurement has all threads at work throughout where others
/// want the processor too.
const LOOP_LONG_ENOUGH: Duration = Duration::from_millis(2);
/// Times that they run for every time of a product.
const LOOPS: usize = 4;
/// Copies of one measurement at most.
const MOST_COPIES: f64 = 64.0;
/// Measurements where nothing else is measured between them.
const MEASUREMENTS: usize = 5;
/// Elements of the copy, beyond what caches hold; on an NVIDIA GPU more.
const COPIED: [usize; 2] = [1 << 24, 1 << 26];
/// Values before they begin again: gigabytes of random numbers would take longer than all else.
const BLOCK: usize = 65_521;

/// All ceilings, measured anew at each call of [`Ceilings::measure`].
pub struct Ceilings {
    products: Vec<Product>,
    copied: Tensor,
    /// Copies of one measurement, one behind the other.
    repeated: u32,
    /// Seconds of the shortest copy.
    copy: f64,
}

/// A square product of factors of one type.
struct Product {
    a: Tensor,
    b: Tensor,
    /// Seconds of the shortest.
    seconds: f64,
    /// Rounds of the loop of multiply-adds in registers, where there is one.
    rounds: Option<u32>,
    /// FLOPs a second of the fastest such loop.
    in_registers: f64,
}

impl Product {
    /// Of `extent`, or of the least one that takes long enough. With `frozen` its second factor is as the device stores frozen
    /// weights.
    fn new(device: &Device, frozen: bool, extent: Option<usize>) -> Result<Self> {
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
        let rounds = (*device == Device::Cpu).then(|| rounds(b.dtype()));
        Ok(Product { a, b, seconds: f64::INFINITY, rounds, in_registers: 0.0 })
    }

    fn measure(&mut self) -> Result<()> {
        let taken = timed(self.a.device(), || matmul(&self.a, &self.b, false, true))?;
        self.seconds = self.seconds.min(taken.as_secs_f64());
        if let Some(rounds) = self.rounds {
            for _ in 0..LOOPS {
                let (flops, taken) = looped(self.b.dtype(), rounds);
                self.in_registers = self.in_registers.max(flops as f64 / taken.as_secs_f64());
            }
        }
        Ok(())
    }

    fn told(&self) -> ComputeLimit {
        let extent = self.a.shape()[0];
        let product_gflops = 2.0 * (extent as f64).powi(3) / self.seconds / 1e9;
        ComputeLimit {
            dtype: self.b.dtype().to_string(),
            gflops: product_gflops.max(self.in_registers / 1e9),
            product_gflops,
            extent,
        }
    }
}

impl Ceilings {
    /// Prepares them on `device`: of products of `extent`, or of the least one that takes long enough. With `frozen` there is one
    /// with a factor as the device stores frozen weights too. An extent that is given bounds the copy as well.
    pub fn new(device: &Device, frozen: bool, extent: Option<usize>) -> Result<Self> {
        check(extent)?;
        let mut products = vec![Product::new(device, false, extent)?];
        if frozen && device.frozen_type() != DType::F32 {
            products.push(Product::new(device, true, extent)?);
        }
        let copied = copied(device, extent.unwrap_or(EXTENTS[1]))?;
        timed(device, || scale(&copied, 2.0))?;
        let one = timed(device, || scale(&copied, 2.0))?.as_secs_f64();
        let repeated = (LONG_ENOUGH.as_secs_f64() / one).ceil().clamp(1.0, MOST_COPIES) as u32;
        Ok(Ceilings { products, copied, repeated, copy: f64::INFINITY })
    }

    /// Takes one more measurement of each.
    pub fn measure(&mut self) -> Result<()> {
        self.products.iter_mut().try_for_each(Product::measure)?;
        let copies = timed(self.copied.device(), || {
            (1..self.repeated).try_for_each(|_| scale(&self.copied, 2.0).map(drop))?;
            scale(&self.copied, 2.0)
        })?;
        self.copy = self.copy.min(copies.as_secs_f64() / f64::from(self.repeated));
        Ok(())
    }

    /// The best rates of the measurements so far.
    pub fn told(&self) -> Ceiling {
        let copied = 2 * 4 * self.copied.len() as u64;
        Ceiling {
            compute: self.products.iter().map(Product::told).collect(),
            gb_per_s: copied as f64 / self.copy / 1e9,
            copied,
        }
    }
}

/// Rounds of the loop of multiply-adds that take long enough.
fn rounds(dtype: DType) -> u32 {
    let mut rounds = 1 << 10;
    while rounds < peak::MOST_ROUNDS && looped(dtype, rounds).1 < LOOP_LONG_ENOUGH {
        rounds *= 2;
    }
    rounds
}

fn looped(dtype: DType, rounds: u32) -> (u64, Duration) {
    let start = Instant::now();
    let flops = peak::multiply_adds(dtype, rounds);
    (flops, start.elapsed())
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

/// The ceilings of `device` from some measurements, and nothing held any more; arguments as of [`Ceilings::new`].
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
