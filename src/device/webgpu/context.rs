//! An opened adapter: its queue, its pool of buffers, and the recording that launches go into.

use super::adapter::{Description, Pretence};
use super::buffer::{Buffer, Raw, View};
use super::cooperative::Fragments;
use super::fault::Fault;
use super::launch::{Pipelines, Recorder};
use super::shader::{LANES, SUBGROUP};
use super::tier::{EXPERIMENTAL, TIERS, Tier, forced_tier};
use super::trace::Trace;
use crate::device::DType;
use crate::device::pool::Pool;
use crate::{Error, Result};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};

/// An opened WebGPU adapter. Cheap to clone; clones are the same device.
///
/// Launches are recorded and handed to the driver many at a time: when a recording is full, or when the host reads.
#[derive(Clone)]
pub struct Gpu(pub(super) Arc<Context>);

pub(super) struct Context {
    pub device: wgpu::Device,
    pub queue: wgpu::Queue,
    pub description: Description,
    pub pretence: Pretence,
    tier: OnceLock<Tier>,
    pub fault: Arc<Fault>,
    pool: Mutex<Pool<Raw>>,
    pub next_id: AtomicU64,
    pub recorder: Mutex<Recorder>,
    pub pipelines: Mutex<Pipelines>,
    /// Number of the recording under way; the recorder's own, readable without its lock.
    pub recording: AtomicU64,
    pub trace: Trace,
    /// Bind groups may hold buffers that nobody else has any more.
    pub stale: AtomicBool,
    /// Bytes uploaded since the driver was last told to go on: it keeps a copy of them until then.
    uploaded: AtomicU64,
}

/// Most bytes of uploads that the driver may keep copies of.
const UPLOAD_BYTES: usize = 64 << 20;

impl std::fmt::Debug for Gpu {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Gpu({self})")
    }
}

impl std::fmt::Display for Gpu {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "webgpu:{}", self.0.description.index)
    }
}

impl PartialEq for Gpu {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Gpu {}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// Opens an adapter with the features of all tiers that it has: any may be forced later.
fn request(
    adapter: &wgpu::Adapter,
    description: &Description,
) -> std::result::Result<(wgpu::Device, wgpu::Queue), wgpu::RequestDeviceError> {
    let has = TIERS.into_iter().filter(|tier| tier.missing(description).is_none());
    let required_features = has.fold(wgpu::Features::empty(), |all, tier| all | tier.features());
    pollster::block_on(adapter.request_device(&wgpu::DeviceDescriptor {
        label: None,
        required_features,
        required_limits: description.limits.clone(),
        experimental_features: match required_features.intersects(EXPERIMENTAL) {
            // SAFETY: only a tier that has to be asked for uses what may be wrong there, and tests run its kernel.
            true => unsafe { wgpu::ExperimentalFeatures::enabled() },
            false => wgpu::ExperimentalFeatures::disabled(),
        },
        ..Default::default()
    }))
}

impl Gpu {
    pub(super) fn open(
        adapter: &wgpu::Adapter,
        mut description: Description,
        pretence: Pretence,
    ) -> Result<Self> {
        let name = format!("webgpu:{}", description.index);
        description.expect_usable()?;
        let opened = request(adapter, &description).or_else(|error| {
            if !description.features.intersects(EXPERIMENTAL) {
                return Err(error);
            }
            // Who did not ask for what is experimental must not lose the adapter by it.
            description.features.remove(EXPERIMENTAL);
            request(adapter, &description)
        });
        let (device, queue) = opened.map_err(|error| {
            Error::setting(
                format!("{name} ({}) cannot be opened: {error}", description.info.name),
                "pass another --device; `lea doctor` lists them",
            )
        })?;
        let fault = Arc::new(Fault::default());
        let of_errors = fault.clone();
        device.on_uncaptured_error(Arc::new(move |error: wgpu::Error| of_errors.error(&error)));
        let of_loss = fault.clone();
        device.set_device_lost_callback(move |_, why| of_loss.lost(why));
        let recorder = Recorder::new(&device);
        Ok(Gpu(Arc::new(Context {
            device,
            queue,
            description,
            pretence,
            tier: OnceLock::new(),
            fault,
            pool: Mutex::default(),
            next_id: AtomicU64::new(0),
            recorder: Mutex::new(recorder),
            pipelines: Mutex::default(),
            recording: AtomicU64::new(1),
            trace: Trace::default(),
            stale: AtomicBool::new(false),
            uploaded: AtomicU64::new(0),
        })))
    }

    /// What is known of the adapter.
    pub fn description(&self) -> &Description {
        &self.0.description
    }

    /// The tier in use: the best one, unless another is forced. One that the adapter lacks is an error.
    pub fn tier(&self) -> Result<Tier> {
        if let Some(tier) = self.0.tier.get() {
            return Ok(*tier);
        }
        self.set_tier(forced_tier().unwrap_or(self.0.description.tier()))
    }

    /// Sets the tier before anything ran, and returns the one in use. One that the adapter lacks is an error.
    pub(super) fn set_tier(&self, tier: Tier) -> Result<Tier> {
        if let Some(why) = tier.missing(&self.0.description) {
            return Err(Error::setting(
                format!("{self} cannot run tier {tier}: {why}"),
                format!("pass --webgpu-tier {} or leave the flag out", self.0.description.tier()),
            ));
        }
        Ok(*self.0.tier.get_or_init(|| tier))
    }

    /// What the bits of its results depend on.
    pub fn arithmetic(&self) -> String {
        let info = &self.0.description.info;
        let tier = self.tier().unwrap_or(self.0.description.tier());
        format!("webgpu {} {} {} {tier}", info.name, info.driver, info.driver_info)
    }

    /// Whether frozen weights are stored in f16.
    pub fn stores_halves(&self) -> bool {
        self.tier().is_ok_and(|tier| tier >= Tier::F16)
    }

    /// The cooperative matrices that products with such weights work with, if any.
    pub(super) fn fragments(&self) -> Result<Option<Fragments>> {
        let uses = self.tier()? >= Tier::Cooperative;
        Ok(Fragments::of(&self.0.description).ok().filter(|_| uses))
    }

    /// Whether kernels are taken that are written for software adapters with subgroups of `SUBGROUP` invocations: loads and
    /// barriers are what costs there, and what one invocation loads, the others get from its registers.
    pub(super) fn works_by_subgroups(&self) -> Result<bool> {
        let info = &self.0.description.info;
        let fits = [info.subgroup_min_size, info.subgroup_max_size] == [SUBGROUP as u32; 2];
        Ok(fits && self.0.description.is_software() && self.tier()? >= Tier::Subgroups)
    }

    /// The constant `LANES` of kernels of a workgroup a row: `elsewhere`, or one subgroup where subgroups must not meet.
    pub(super) fn row_lanes(&self, elsewhere: u32) -> Result<(&'static str, u32)> {
        Ok((LANES.0, if self.works_by_subgroups()? { SUBGROUP as u32 } else { elsewhere }))
    }

    /// An error for types that no kernel reads.
    pub(super) fn expect_type(&self, dtype: DType) -> Result<()> {
        match dtype {
            DType::F32 | DType::U32 => Ok(()),
            DType::F16 if self.stores_halves() => Ok(()),
            other => {
                Err(Error::Unsupported { op: "tensor", device: self.to_string(), detail: other.to_string() })
            }
        }
    }

    pub(super) fn pool(&self) -> MutexGuard<'_, Pool<Raw>> {
        lock(&self.0.pool)
    }

    /// Says that buffers went back to the adapter which bind groups may still hold.
    pub(super) fn bind_groups_are_stale(&self) {
        self.0.stale.store(true, Ordering::Relaxed);
    }

    /// Number of the recording under way.
    pub(super) fn recording(&self) -> u64 {
        self.0.recording.load(Ordering::Relaxed)
    }

    /// An error if the device was lost or refused something since it was opened.
    pub(super) fn check(&self) -> Result<()> {
        if self.0.fault.is_refused() {
            // A lost device refuses everything: its driver is asked whether it is that.
            self.ask(wgpu::PollType::wait_indefinitely());
        }
        self.0.fault.check(&self.to_string())
    }

    /// Drops the bind groups, which hold buffers.
    pub(super) fn forget_bind_groups(&self) {
        lock(&self.0.pipelines).forget_bind_groups();
    }

    /// Writes `bytes` to the beginning of a buffer.
    pub(super) fn upload(&self, to: &Raw, bytes: &[u8]) -> Result<()> {
        // A write is done before everything that is recorded and not yet handed over: a recording that still uses the
        // buffer must go first.
        if to.used_in == self.recording() {
            self.flush()?;
        }
        let whole = bytes.len() & !3;
        for (part, bytes) in bytes[..whole].chunks(UPLOAD_BYTES).enumerate() {
            self.write(&to.buffer, (part * UPLOAD_BYTES) as u64, bytes);
            let waiting =
                self.0.uploaded.fetch_add(bytes.len() as u64, Ordering::Relaxed) + bytes.len() as u64;
            if waiting >= UPLOAD_BYTES as u64 {
                self.0.uploaded.store(0, Ordering::Relaxed);
                self.0.queue.submit([]);
                self.wait()?;
            }
        }
        if whole < bytes.len() {
            let mut last = [0; 4];
            last[..bytes.len() - whole].copy_from_slice(&bytes[whole..]);
            self.write(&to.buffer, whole as u64, &last);
        }
        self.check()
    }

    /// Zeros in a part of a buffer.
    pub(super) fn clear(&self, view: &View) -> Result<()> {
        self.check()?;
        let (offset, bytes) = view.bytes();
        let mut recorder = lock(&self.0.recorder);
        recorder.encoder(self).clear_buffer(&view.buffer.raw().buffer, offset, Some(bytes));
        Ok(())
    }

    /// Copies `len` elements of 4 bytes from one buffer to another, on the adapter.
    pub fn copy(&self, from: &Buffer, start: usize, to: &Buffer, at: usize, len: usize) -> Result<()> {
        self.check()?;
        let size = from.dtype().size();
        let [start, at, bytes] =
            [start * size, at * size, (len * size).next_multiple_of(4)].map(|x| x as u64);
        if bytes > 0 {
            let mut recorder = lock(&self.0.recorder);
            let (from, to) = (&from.raw().buffer, &to.raw().buffer);
            recorder.encoder(self).copy_buffer_to_buffer(from, start, to, at, Some(bytes));
        }
        Ok(())
    }

    /// The bytes of a part of a buffer, after all that was recorded before.
    pub(super) fn read_back(&self, from: &Raw, offset: u64, bytes: u64) -> Result<Vec<u8>> {
        if bytes == 0 {
            return Ok(Vec::new());
        }
        // Copies start and end at multiples of 4.
        let (start, end) = (offset & !3, (offset + bytes).next_multiple_of(4));
        let usage = wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST;
        let staging = self
            .driver_buffer(end - start, usage)
            .ok_or_else(|| self.shortage("what the host reads", end - start))?;
        self.check()?;
        {
            let mut recorder = lock(&self.0.recorder);
            recorder.encoder(self).copy_buffer_to_buffer(&from.buffer, start, &staging, 0, Some(end - start));
            recorder.counters.read_backs += 1;
        }
        self.flush()?;
        let slice = staging.slice(..);
        slice.map_async(wgpu::MapMode::Read, |_| {});
        self.wait()?;
        let mapped = slice
            .get_mapped_range()
            .map_err(|error| Error::DeviceRefused { device: self.to_string(), why: error.to_string() })?;
        Ok(mapped[(offset - start) as usize..(offset - start + bytes) as usize].to_vec())
    }

    /// Hands over what is recorded.
    pub fn flush(&self) -> Result<()> {
        lock(&self.0.recorder).submit(self);
        self.check()
    }

    /// Waits for all work handed over.
    pub fn wait(&self) -> Result<()> {
        self.poll(wgpu::PollType::wait_indefinitely())
    }

    /// Lets the driver's callbacks run.
    pub(super) fn poll(&self, how: wgpu::PollType) -> Result<()> {
        self.ask(how);
        self.check()
    }

    fn ask(&self, how: wgpu::PollType) {
        let device = &self.0.device;
        // A device that is lost while it is waited for makes wgpu panic; it holds no lock then.
        let polled = catch_unwind(AssertUnwindSafe(|| device.poll(how).map_err(|error| error.to_string())));
        if let Err(why) = polled.unwrap_or_else(|_| Err("waiting for it failed".into())) {
            self.0.fault.lost_unless_known(why);
        }
    }
}
