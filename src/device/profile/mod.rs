//! What ran when and for how long: named ranges (stages, layers, ops) and the launches of kernels inside them.
//!
//! Code names its ranges whether somebody records or not; outside of [`record`] that costs one look at a flag of the
//! thread. Where a device has clocks of its own, each launch is timed on it (CUDA: an event before it and one behind).
//! Elsewhere an op counts as one launch of its own name, by the host's clock from when the device had nothing left to do
//! until it has again. What is computed is the same.
//!
//! A tool of NVIDIA's that runs the program sees the same ranges by way of NVTX, recorded or not.

mod rows;

pub use rows::{KernelRow, Work};

use super::nvtx::NvtxRange;
use super::{Cost, DType, Device};
use crate::{Error, Result};
use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::time::Instant;

thread_local! {
    static ON: Cell<bool> = const { Cell::new(false) };
    static RECORDER: RefCell<Option<Recorder>> = const { RefCell::new(None) };
}

/// A named part of the work, by the host's clock. On a device that runs behind the host it ends before its launches do.
#[derive(Clone, Debug)]
pub struct Range {
    /// "layer 3" or "matmul".
    pub name: String,
    /// Index of the range that it is part of.
    pub parent: Option<usize>,
    /// Seconds from the beginning.
    pub start: f64,
    /// How long it took on the host.
    pub seconds: f64,
    /// Its least work; zero where none was told.
    pub cost: Cost,
    /// Type of the factors of its products as they are stored; f32 where it has none.
    pub factors: DType,
}

/// One launch.
#[derive(Clone, Debug, PartialEq)]
pub struct Launched {
    /// The kernel: its stable name, or an op's.
    pub kernel: Cow<'static, str>,
    /// Index of the range that it belongs to.
    pub range: Option<usize>,
    /// Seconds from the beginning, on the device.
    pub start: f64,
    /// Seconds on the device.
    pub seconds: f64,
}

/// All that [`record`] saw.
#[derive(Clone, Debug, Default)]
pub struct Profile {
    /// Ranges in the order of their beginnings: a parent is before its parts.
    pub ranges: Vec<Range>,
    /// Launches in order.
    pub launches: Vec<Launched>,
    /// Seconds from the beginning until the device had nothing left to do.
    pub seconds: f64,
    /// Whether launches were timed by the device's own clock, else ops by the host's.
    pub by_device: bool,
}

struct Recorder {
    begin: Instant,
    profile: Profile,
    open: Vec<usize>,
    /// Whether an op that is timed by the host is open: what it calls is part of its time.
    timing: bool,
}

/// A range until it is dropped.
#[must_use = "a range ends where it is dropped"]
pub struct Open {
    index: Option<usize>,
    /// What is timed by the host: the device, the op, when it began.
    timed: Option<(Device, Cow<'static, str>, f64)>,
    /// The same range in the timeline of a tool of NVIDIA's.
    _nvtx: Option<NvtxRange>,
}

fn with<T>(f: impl FnOnce(&mut Recorder) -> T) -> Option<T> {
    ON.get().then(|| RECORDER.with_borrow_mut(|recorder| recorder.as_mut().map(f))).flatten()
}

/// Names the work until what it returns is dropped: a stage, a layer.
pub fn range(name: impl Fn() -> String) -> Open {
    let nvtx = NvtxRange::begin(&name);
    Open { index: open(name, || (Cost::default(), DType::F32)), timed: None, _nvtx: nvtx }
}

/// Names the work on `device` until what it returns is dropped as that of op `name`, in f32.
pub fn op(device: &Device, name: &'static str, cost: impl FnOnce() -> Cost) -> Open {
    open_op(device, || name.into(), || (cost(), DType::F32))
}

/// The same of an op whose products have a factor that is stored in the type which `work` tells beside its cost.
pub fn products(device: &Device, name: &'static str, work: impl FnOnce() -> (Cost, DType)) -> Open {
    open_op(device, || name.into(), work)
}

/// The same of its backward pass. Where its own `cost` is zero, it has that of the ops inside it.
pub fn backward(device: &Device, name: &'static str, cost: impl FnOnce() -> Cost) -> Open {
    open_op(device, || format!("{name}, backward").into(), || (cost(), DType::F32))
}

fn open_op(
    device: &Device,
    name: impl Fn() -> Cow<'static, str>,
    work: impl FnOnce() -> (Cost, DType),
) -> Open {
    let nvtx = NvtxRange::begin(|| name().into_owned());
    let index = open(|| name().into_owned(), work);
    let by_host = index.is_some() && !matches!(device, Device::Cuda(_));
    let timed = by_host && with(|recorder| !std::mem::replace(&mut recorder.timing, true)) == Some(true);
    let timed = timed.then(|| {
        // What went wrong here the op itself will meet and tell.
        let _ = device.synchronize();
        (device.clone(), name(), with(|recorder| recorder.now()).unwrap_or_default())
    });
    Open { index, timed, _nvtx: nvtx }
}

fn open(name: impl FnOnce() -> String, work: impl FnOnce() -> (Cost, DType)) -> Option<usize> {
    with(|recorder| {
        let ranges = &mut recorder.profile.ranges;
        let (parent, start) = (recorder.open.last().copied(), recorder.begin.elapsed().as_secs_f64());
        let (cost, factors) = work();
        ranges.push(Range { name: name(), parent, start, seconds: 0.0, cost, factors });
        recorder.open.push(ranges.len() - 1);
        ranges.len() - 1
    })
}

impl Drop for Open {
    fn drop(&mut self) {
        let Some(index) = self.index else { return };
        if let Some((device, ..)) = &self.timed {
            let _ = device.synchronize();
        }
        with(|recorder| {
            let now = recorder.now();
            if let Some((_, kernel, start)) = self.timed.take() {
                recorder.timing = false;
                let launch = Launched { kernel, range: Some(index), start, seconds: now - start };
                recorder.profile.launches.push(launch);
            }
            recorder.open.retain(|&open| open != index);
            let range = &mut recorder.profile.ranges[index];
            range.seconds = now - range.start;
        });
    }
}

impl Recorder {
    fn now(&self) -> f64 {
        self.begin.elapsed().as_secs_f64()
    }
}

/// Whether this thread records.
pub(super) fn is_on() -> bool {
    ON.get()
}

/// The innermost open range of this thread.
pub(super) fn current() -> Option<usize> {
    with(|recorder| recorder.open.last().copied()).flatten()
}

/// Runs `work` on this thread and tells what it did on `device`. Inside another recording it is an error.
pub fn record<T>(device: &Device, work: impl FnOnce() -> Result<T>) -> Result<(T, Profile)> {
    /// Ends the recording, also where `work` panics.
    struct End;
    impl Drop for End {
        fn drop(&mut self) {
            ON.set(false);
            RECORDER.take();
        }
    }
    if ON.get() {
        return Err(Error::setting("a profile inside a profile", "record only the outer one"));
    }
    device.synchronize()?;
    if let Device::Cuda(cuda) = device {
        cuda.start_trace()?;
    }
    let begin = Instant::now();
    RECORDER.set(Some(Recorder { begin, profile: Profile::default(), open: Vec::new(), timing: false }));
    ON.set(true);
    let end = End;
    let result = work();
    let on_device = match device {
        Device::Cuda(cuda) => cuda.end_trace(),
        Device::Cpu | Device::WebGpu(_) => device.synchronize().map(|()| Vec::new()),
    };
    let seconds = begin.elapsed().as_secs_f64();
    let recorder = RECORDER.take();
    drop(end);
    let result = result?;
    let mut profile = recorder.map(|recorder| recorder.profile).unwrap_or_default();
    profile.launches.extend(on_device?);
    profile.seconds = seconds;
    profile.by_device = matches!(device, Device::Cuda(_));
    Ok((result, profile))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cost(flops: u64) -> Cost {
        Cost { flops, bytes: 2 * flops }
    }

    #[test]
    fn ranges_nest_and_an_ops_parts_are_counted_once() {
        let work = || {
            let _stage = range(|| "stage".into());
            for layer in 0..2 {
                let _layer = range(|| format!("layer {layer}"));
                let _outer = op(&Device::Cpu, "linear", || cost(7));
                let _inner = op(&Device::Cpu, "matmul", || cost(5));
            }
            Ok(3)
        };
        let (result, profile) = record(&Device::Cpu, work).unwrap();
        assert_eq!(result, 3);
        let names: Vec<(&str, Option<usize>)> =
            profile.ranges.iter().map(|r| (r.name.as_str(), r.parent)).collect();
        let layer = |name, at: usize| [(name, Some(0)), ("linear", Some(at)), ("matmul", Some(at + 1))];
        assert_eq!(names, [&[("stage", None)][..], &layer("layer 0", 1), &layer("layer 1", 4)].concat());
        let rows = profile.kernels();
        assert_eq!(rows.len(), 1);
        assert_eq!((&*rows[0].kernel, rows[0].calls), ("linear", 2));
        assert!((rows[0].work.flops - 14.0).abs() < 1e-9 && rows[0].seconds <= profile.seconds);
    }

    #[test]
    fn ops_inside_a_backward_pass_give_it_their_work_once() {
        let work = || {
            let _backward = backward(&Device::Cpu, "linear", Cost::default);
            for _ in 0..2 {
                let _product = op(&Device::Cpu, "matmul", || cost(5));
                let _part = op(&Device::Cpu, "pack", || cost(3));
            }
            Ok(())
        };
        let rows = record(&Device::Cpu, work).unwrap().1.kernels();
        assert_eq!(rows.len(), 1);
        assert_eq!(
            (&*rows[0].kernel, rows[0].work.flops, rows[0].work.bytes),
            ("linear, backward", 10.0, 20.0)
        );
        // On a device with a clock of its own the products have launches, and what else the pass launches has no work.
        let range = |name: &str, parent, cost| Range {
            name: name.into(),
            parent,
            start: 0.0,
            seconds: 1.0,
            cost,
            factors: DType::F32,
        };
        let launch =
            |kernel: &'static str, range| Launched { kernel: kernel.into(), range, start: 0.0, seconds: 1.0 };
        let profile = Profile {
            ranges: vec![range("linear, backward", None, Cost::default()), range("matmul", Some(0), cost(5))],
            launches: vec![launch("sums", Some(0)), launch("product", Some(1)), launch("copy", None)],
            seconds: 3.0,
            by_device: true,
        };
        let flops: Vec<(String, f64)> =
            profile.kernels().iter().map(|row| (row.kernel.to_string(), row.work.flops)).collect();
        assert_eq!(flops, [("sums".into(), 0.0), ("product".into(), 5.0), ("copy".into(), 0.0)]);
    }

    #[test]
    fn nothing_is_kept_outside_of_a_recording_or_of_a_failed_one() {
        drop(op(&Device::Cpu, "matmul", || panic!("nobody asks")));
        let failed = record(&Device::Cpu, || -> Result<()> { Err(Error::setting("x", "y")) });
        assert!(failed.is_err() && current().is_none());
        let nested = record(&Device::Cpu, || record(&Device::Cpu, || Ok(())));
        assert!(nested.unwrap_err().to_string().contains("a profile inside a profile"));
        assert!(record(&Device::Cpu, || Ok(())).unwrap().1.ranges.is_empty());
    }
}
