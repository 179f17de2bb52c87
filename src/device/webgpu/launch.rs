//! Launches: pipelines and bind groups made once and kept, dispatches recorded into one command buffer.

use super::buffer::{View, ViewMut};
use super::context::Gpu;
use super::shader::{Dialect, Shader};
use crate::{Error, Result};
use std::collections::HashMap;
use std::sync::atomic::Ordering;

/// Most dispatches of a recording.
const MOST_DISPATCHES: usize = 256;
/// When a recording is handed over: the adapter gets work early, and none of it lasts long.
struct Most {
    /// Floating-point operations of its dispatches together, about. The last may do more by itself: only products and
    /// attention are cut by work, see there.
    work: u64,
    /// What a byte of a dispatch's bindings counts as, in such operations: about as many as are done while one is moved.
    of_a_byte: u64,
}

const MOST: Most = Most { work: 1 << 32, of_a_byte: 1 };
/// The same of hardware: 1 GiB where all is moved and nothing computed.
const MOST_OF_HARDWARE: Most = Most { work: 1 << 34, of_a_byte: 16 };
/// Most workgroups in one direction of a grid that every adapter takes.
const MOST_GROUPS: u32 = 65_535;
/// Bind groups kept before all are made anew.
const MOST_BIND_GROUPS: usize = 16_384;

/// One dispatch of a kernel. The kernel's binding 0 is a uniform struct of the `params`, words in order; bindings 1 and
/// on are `reads`, then `writes`.
#[derive(Debug)]
pub struct Launch<'a> {
    /// The file.
    pub shader: &'static Shader,
    /// The function in it.
    pub entry: &'static str,
    /// Values of the file's constants where they are not its defaults.
    pub defines: &'a [(&'static str, u32)],
    /// Words of the uniform struct; f32 by their bits.
    pub params: &'a [u32],
    /// Storage that is read only.
    pub reads: &'a [View<'a>],
    /// Storage that is written.
    pub writes: &'a [ViewMut<'a>],
    /// Workgroups in each direction. See [`grid`].
    pub groups: [u32; 3],
    /// Floating-point operations, about.
    pub work: u64,
}

impl Launch<'_> {
    /// Bytes of all bindings: no fewer than are moved once.
    fn bytes(&self) -> u64 {
        self.reads.iter().chain(self.writes.iter().map(|w| &w.0)).map(|view| view.bytes().1).sum()
    }
}

/// A grid of at least `groups` workgroups along one line, folded where a direction has too few: a kernel finds its number
/// as y · (workgroups in x) + x, and leaves where that is past the end.
pub fn grid(groups: usize) -> [u32; 3] {
    let groups = groups as u64;
    if groups <= u64::from(MOST_GROUPS) {
        return [groups as u32, 1, 1];
    }
    let rows = groups.div_ceil(u64::from(MOST_GROUPS));
    [groups.div_ceil(rows) as u32, rows as u32, 1]
}

/// What was launched since the device was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Kernels launched.
    pub dispatches: u64,
    /// Command buffers handed over.
    pub submits: u64,
    /// Times that the host waited for results.
    pub read_backs: u64,
    /// Bind groups that had to be made.
    pub bind_groups: u64,
}

impl Counters {
    /// What was launched since `before` was read.
    pub fn since(self, before: Counters) -> Counters {
        Counters {
            dispatches: self.dispatches - before.dispatches,
            submits: self.submits - before.submits,
            read_backs: self.read_backs - before.read_backs,
            bind_groups: self.bind_groups - before.bind_groups,
        }
    }
}

/// Bytes of one launch's parameters; the alignment of dynamic uniform offsets everywhere.
const SLOT: usize = 256;

pub(super) struct Recorder {
    uniforms: wgpu::Buffer,
    // The pass refers to the encoder and must end first.
    pass: Option<wgpu::ComputePass<'static>>,
    encoder: Option<wgpu::CommandEncoder>,
    params: Vec<u8>,
    work: u64,
    pub counters: Counters,
}

impl Recorder {
    pub(super) fn new(device: &wgpu::Device) -> Self {
        let uniforms = device.create_buffer(&wgpu::BufferDescriptor {
            label: None,
            size: (MOST_DISPATCHES * SLOT) as u64,
            usage: wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::COPY_DST,
            mapped_at_creation: false,
        });
        Recorder {
            uniforms,
            pass: None,
            encoder: None,
            params: Vec::with_capacity(MOST_DISPATCHES * SLOT),
            work: 0,
            counters: Counters::default(),
        }
    }

    /// The encoder, outside of any pass.
    pub(super) fn encoder(&mut self, gpu: &Gpu) -> &mut wgpu::CommandEncoder {
        self.pass = None;
        self.encoder.get_or_insert_with(|| gpu.0.device.create_command_encoder(&Default::default()))
    }

    fn pass(&mut self, gpu: &Gpu) -> &mut wgpu::ComputePass<'static> {
        if self.pass.is_none() {
            let pass = self.encoder(gpu).begin_compute_pass(&Default::default()).forget_lifetime();
            self.pass = Some(pass);
        }
        self.pass.as_mut().expect("just begun")
    }

    pub(super) fn submit(&mut self, gpu: &Gpu) {
        self.pass = None;
        let Some(encoder) = self.encoder.take() else { return };
        if !self.params.is_empty() {
            gpu.write(&self.uniforms, 0, &self.params);
        }
        // Kernels must not run on the parameters of other launches: nothing else keeps them inside their bindings.
        if !gpu.0.fault.is_lost() {
            gpu.0.queue.submit([encoder.finish()]);
            self.counters.submits += 1;
        }
        self.params.clear();
        self.work = 0;
        gpu.0.recording.fetch_add(1, Ordering::Relaxed);
        // Frees what finished. A fault is told by the next call that checks.
        let _ = gpu.poll(wgpu::PollType::Poll);
    }

    fn is_full(&self, most_work: u64) -> bool {
        self.params.len() >= MOST_DISPATCHES * SLOT || self.work >= most_work
    }
}

#[derive(PartialEq, Eq, Hash)]
struct BindKey {
    pipeline: usize,
    /// Buffer, first byte and bytes of every binding.
    parts: Vec<(u64, u64, u64)>,
}

struct Pipeline {
    pipeline: wgpu::ComputePipeline,
    layout: wgpu::BindGroupLayout,
}

type PipelineKey = (&'static str, &'static str, Vec<(&'static str, u32)>, usize, usize);

/// Pipelines and bind groups made so far.
#[derive(Default)]
pub(super) struct Pipelines {
    made: Vec<Pipeline>,
    by_key: HashMap<PipelineKey, usize>,
    bind_groups: HashMap<BindKey, wgpu::BindGroup>,
}

impl Pipelines {
    /// Drops the bind groups, which hold buffers.
    pub(super) fn forget_bind_groups(&mut self) {
        self.bind_groups.clear();
    }

    fn pipeline(&mut self, gpu: &Gpu, launch: &Launch) -> Result<usize> {
        let (reads, writes) = (launch.reads.len(), launch.writes.len());
        let key = (launch.shader.name, launch.entry, launch.defines.to_vec(), reads, writes);
        if let Some(&found) = self.by_key.get(&key) {
            return Ok(found);
        }
        let device = &gpu.0.device;
        let text = launch.shader.text(gpu.tier()?, launch.defines, Dialect::Naga);
        let description = wgpu::ShaderModuleDescriptor {
            label: Some(launch.shader.name),
            source: wgpu::ShaderSource::Wgsl(text.into()),
        };
        // SAFETY: the files are our own. Every index they make stays inside the shapes that the ops have checked, ids
        // included, and their loops end; tests run each on bindings of exact size.
        let module = unsafe {
            device.create_shader_module_trusted(description, wgpu::ShaderRuntimeChecks::unchecked())
        };
        let storage = |i: usize| wgpu::BindGroupLayoutEntry {
            binding: i as u32 + 1,
            visibility: wgpu::ShaderStages::COMPUTE,
            ty: wgpu::BindingType::Buffer {
                ty: wgpu::BufferBindingType::Storage { read_only: i < reads },
                has_dynamic_offset: false,
                min_binding_size: None,
            },
            count: None,
        };
        let uniform = wgpu::BindGroupLayoutEntry {
            binding: 0,
            visibility: wgpu::ShaderStages::COMPUTE,
            ty: wgpu::BindingType::Buffer {
                ty: wgpu::BufferBindingType::Uniform,
                has_dynamic_offset: true,
                min_binding_size: None,
            },
            count: None,
        };
        let entries: Vec<_> = [uniform].into_iter().chain((0..reads + writes).map(storage)).collect();
        let layout = device
            .create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor { label: None, entries: &entries });
        let pipeline_layout = device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
            label: None,
            bind_group_layouts: &[Some(&layout)],
            immediate_size: 0,
        });
        let pipeline = device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label: Some(launch.shader.name),
            layout: Some(&pipeline_layout),
            module: &module,
            entry_point: Some(launch.entry),
            // Kernels write workgroup memory before they read it.
            compilation_options: wgpu::PipelineCompilationOptions {
                zero_initialize_workgroup_memory: false,
                ..Default::default()
            },
            cache: None,
        });
        gpu.check()?;
        self.made.push(Pipeline { pipeline, layout });
        self.by_key.insert(key, self.made.len() - 1);
        Ok(self.made.len() - 1)
    }
}

impl Gpu {
    /// Records a launch. One with an empty grid does nothing.
    pub fn launch(&self, launch: &Launch) -> Result<()> {
        if launch.groups.contains(&0) {
            return Ok(());
        }
        self.check()?;
        self.expect_fits(launch)?;
        self.trace(launch)?;
        assert!(launch.params.len() * 4 <= SLOT, "{} has too many parameters", launch.shader.name);
        let context = &*self.0;
        let mut recorder = context.recorder.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let mut pipelines = context.pipelines.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if context.stale.swap(false, Ordering::Relaxed) {
            pipelines.forget_bind_groups();
        }
        let pipeline = pipelines.pipeline(self, launch)?;
        let group = self.bind_group(launch, pipeline, &mut recorder, &mut pipelines)?;
        let offset = recorder.params.len();
        recorder.params.extend_from_slice(bytemuck::cast_slice(launch.params));
        recorder.params.resize(offset + SLOT, 0);
        let most = if self.description().is_software() { &MOST } else { &MOST_OF_HARDWARE };
        recorder.work += launch.work.max(launch.bytes() * most.of_a_byte);
        recorder.counters.dispatches += 1;
        let [x, y, z] = launch.groups;
        let pass = recorder.pass(self);
        pass.set_pipeline(&pipelines.made[pipeline].pipeline);
        pass.set_bind_group(0, &group, &[offset as u32]);
        pass.dispatch_workgroups(x, y, z);
        self.lose_in_time(recorder.counters.dispatches);
        if recorder.is_full(most.work) {
            recorder.submit(self);
        }
        Ok(())
    }

    /// An error for what the adapter would refuse, and then refuse everything after it.
    fn expect_fits(&self, launch: &Launch) -> Result<()> {
        let most = self.binding_bytes();
        let views = launch.reads.iter().chain(launch.writes.iter().map(|w| &w.0));
        let longest = views.map(|view| view.bytes().1).max().unwrap_or(0);
        if longest > most {
            let problem =
                format!("a tensor of {longest} bytes does not fit a binding of {self}: {most} bytes");
            return Err(Error::shape(launch.shader.name, problem));
        }
        if launch.groups.iter().any(|&groups| groups > MOST_GROUPS) {
            let problem = format!("{:?} workgroups are more than {self} takes", launch.groups);
            return Err(Error::shape(launch.shader.name, problem));
        }
        Ok(())
    }

    fn bind_group(
        &self,
        launch: &Launch,
        pipeline: usize,
        recorder: &mut Recorder,
        pipelines: &mut Pipelines,
    ) -> Result<wgpu::BindGroup> {
        let views = || launch.reads.iter().chain(launch.writes.iter().map(|w| &w.0));
        let part = |view: &View| {
            let (offset, bytes) = view.bytes();
            (view.buffer.raw().id, offset, bytes)
        };
        let key = BindKey { pipeline, parts: views().map(part).collect() };
        if let Some(found) = pipelines.bind_groups.get(&key) {
            return Ok(found.clone());
        }
        if pipelines.bind_groups.len() >= MOST_BIND_GROUPS {
            pipelines.forget_bind_groups();
        }
        let binding = |buffer, offset, bytes| wgpu::BufferBinding {
            buffer,
            offset,
            size: std::num::NonZeroU64::new(bytes),
        };
        let storage = views().map(|view| {
            let (offset, bytes) = view.bytes();
            binding(&view.buffer.raw().buffer, offset, bytes)
        });
        let entries: Vec<_> = std::iter::once(binding(&recorder.uniforms, 0, SLOT as u64))
            .chain(storage)
            .enumerate()
            .map(|(i, binding)| wgpu::BindGroupEntry {
                binding: i as u32,
                resource: wgpu::BindingResource::Buffer(binding),
            })
            .collect();
        let group = self.0.device.create_bind_group(&wgpu::BindGroupDescriptor {
            label: None,
            layout: &pipelines.made[pipeline].layout,
            entries: &entries,
        });
        recorder.counters.bind_groups += 1;
        self.check()?;
        pipelines.bind_groups.insert(key, group.clone());
        Ok(group)
    }

    /// What was launched since the device was opened.
    pub fn counters(&self) -> Counters {
        self.0.recorder.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).counters
    }
}
