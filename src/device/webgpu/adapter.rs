//! Which adapters there are, and which one a name means.

use super::Gpu;
use super::cooperative;
use super::memory::device_memory;
use super::tier::{EXPERIMENTAL, TIERS, Tier};
use crate::{Error, Result};
use std::sync::{Mutex, OnceLock};

/// One instance a process: drivers are loaded once.
fn instance() -> &'static wgpu::Instance {
    static INSTANCE: OnceLock<wgpu::Instance> = OnceLock::new();
    INSTANCE.get_or_init(|| {
        let mut description = wgpu::InstanceDescriptor::new_without_display_handle();
        description.backends = wgpu::Backends::PRIMARY;
        // Validation layers and debug names cost time and change no result.
        description.flags = wgpu::InstanceFlags::empty();
        wgpu::Instance::new(description)
    })
}

/// What is known of an adapter before it is opened.
#[derive(Clone, Debug)]
pub struct Description {
    /// Its number, as in `webgpu:1`.
    pub index: usize,
    /// Name, driver and kind.
    pub info: wgpu::AdapterInfo,
    /// Sizes and counts that it allows.
    pub limits: wgpu::Limits,
    /// What kernels may use.
    pub features: wgpu::Features,
    /// Bytes of memory that its driver tells of, in use or not; `None` where it does not.
    pub memory: Option<u64>,
    /// The cooperative matrices that it offers.
    pub cooperative: Vec<wgpu::CooperativeMatrixProperties>,
}

impl Description {
    /// Whether the host's processor does its work.
    pub fn is_software(&self) -> bool {
        self.info.device_type == wgpu::DeviceType::Cpu
    }

    /// The driver and its version, as it names them: "llvmpipe Mesa 22.3.6 (LLVM 15.0.6)".
    pub fn driver_told(&self) -> String {
        format!("{} {}", self.info.driver, self.info.driver_info).trim().to_string()
    }

    /// Why no kernel may be run on it: it allows less than some of them need.
    pub fn unusable(&self) -> Option<String> {
        let limits = &self.limits;
        [
            ("invocations a workgroup", limits.max_compute_invocations_per_workgroup, 256),
            ("invocations of a workgroup in one direction", limits.max_compute_workgroup_size_x, 256),
            ("bytes of workgroup memory", limits.max_compute_workgroup_storage_size, 16 << 10),
            ("storage buffers a kernel", limits.max_storage_buffers_per_shader_stage, 8),
        ]
        .into_iter()
        .find(|(_, has, needed)| has < needed)
        .map(|(what, has, needed)| format!("it allows {has} {what}, and kernels need {needed}"))
    }

    /// The same as an error.
    pub(super) fn expect_usable(&self) -> Result<()> {
        match self.unusable() {
            None => Ok(()),
            Some(why) => Err(Error::setting(
                format!("webgpu:{} ({}) cannot be used: {why}", self.index, self.info.name),
                "pass another --device; `lea doctor` lists them",
            )),
        }
    }

    /// The tier that is used unless another is forced.
    pub fn tier(&self) -> Tier {
        Tier::best(self.features)
    }

    /// The tiers that it has and that nobody gets who does not force them.
    pub fn tiers_on_request(&self) -> Vec<Tier> {
        TIERS.into_iter().filter(|tier| !tier.is_exact() && tier.missing(self).is_none()).collect()
    }

    /// The cooperative matrices that it offers, in words.
    pub fn cooperative_told(&self) -> Vec<String> {
        self.cooperative.iter().map(cooperative::told).collect()
    }

    /// The tiers it cannot have, with the reason.
    pub fn missing_tiers(&self) -> Vec<(Tier, String)> {
        TIERS.into_iter().filter_map(|tier| Some((tier, tier.missing(self)?))).collect()
    }
}

fn all() -> Vec<(wgpu::Adapter, Description)> {
    let adapters = pollster::block_on(instance().enumerate_adapters(wgpu::Backends::PRIMARY));
    let described = |(index, adapter): (usize, wgpu::Adapter)| {
        let (info, limits, features) = (adapter.get_info(), adapter.limits(), adapter.features());
        let memory = device_memory(&adapter);
        let offers = features.contains(EXPERIMENTAL);
        let cooperative = if offers { adapter.cooperative_matrix_properties() } else { Vec::new() };
        (adapter, Description { index, info, limits, features, memory, cooperative })
    };
    adapters.into_iter().enumerate().map(described).collect()
}

/// All adapters of the machine; empty where no driver is installed.
pub fn list() -> Vec<Description> {
    all().into_iter().map(|(_, description)| description).collect()
}

/// What is to be expected of an adapter, most first: whether kernels run at all, its kind, then, among equals, f16 in shaders, wide subgroups (0 without
/// any) and how much one binding, one workgroup and one buffer hold.
fn rank(found: &Description) -> impl Ord + use<> {
    let kind = match found.info.device_type {
        wgpu::DeviceType::DiscreteGpu => 4,
        wgpu::DeviceType::IntegratedGpu => 3,
        wgpu::DeviceType::VirtualGpu => 2,
        wgpu::DeviceType::Other => 1,
        wgpu::DeviceType::Cpu => 0,
    };
    let subgroups = found.features.contains(wgpu::Features::SUBGROUP);
    (
        found.unusable().is_none(),
        kind,
        found.features.contains(wgpu::Features::SHADER_F16),
        if subgroups { found.info.subgroup_max_size } else { 0 },
        found.limits.max_storage_buffer_binding_size,
        found.limits.max_compute_invocations_per_workgroup,
        found.limits.max_buffer_size,
    )
}

/// The best first; of equals the one that is listed first.
fn best_first<'a>(adapters: impl Iterator<Item = &'a Description>) -> Vec<&'a Description> {
    let mut sorted: Vec<_> = adapters.collect();
    sorted.sort_by_key(|found| std::cmp::Reverse(rank(found)));
    sorted
}

static OPEN: Mutex<Vec<(usize, Gpu)>> = Mutex::new(Vec::new());

/// Opens the adapter that `which` means: nothing for the best one, digits for its number in [`list`], else a part of a name;
/// blanks around it do not count. An adapter is opened once a process, and again where the device that it gave was lost.
pub fn open(which: Option<&str>) -> Result<Gpu> {
    let mut open = OPEN.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let adapters = all();
    let chosen = choose(&adapters.iter().map(|(_, d)| d.clone()).collect::<Vec<_>>(), which)?;
    open.retain(|(_, gpu)| !gpu.is_lost());
    if let Some((_, gpu)) = open.iter().find(|(index, _)| *index == chosen) {
        return Ok(gpu.clone());
    }
    let (adapter, description) = adapters.into_iter().nth(chosen).expect("chosen among them");
    let gpu = Gpu::open(&adapter, description, Pretence::default())?;
    open.push((chosen, gpu.clone()));
    Ok(gpu)
}

/// A device of its own on adapter `index` of [`list`] that runs `tier`.
pub fn open_tier(index: usize, tier: Tier) -> Result<Gpu> {
    open_as(index, tier, Pretence::default())
}

/// What a test has an adapter pass for.
#[derive(Clone, Copy, Debug, Default)]
pub struct Pretence {
    /// It is hardware, and gets hardware's kernels: those that no test would run otherwise.
    pub hardware: bool,
    /// Its bindings hold at most so many bytes: so small tensors are cut as large ones are.
    pub binding_bytes: Option<u64>,
    /// One dispatch of attention does about so many floating-point operations at most: so small forests are cut as large
    /// ones are.
    pub attention_work: Option<u64>,
    /// One dispatch of other ops visits about so many elements at most.
    pub dispatch_elements: Option<u64>,
    /// Its subgroups may have up to so many invocations, more than they have: so kernels see subgroups that they have no work for.
    pub widest_subgroup: Option<u32>,
    /// It has WebGPU's default limits and no more, so that a kernel that needs more fails.
    pub baseline: bool,
    /// Its driver tells of so much memory.
    pub memory: Option<u64>,
    /// New buffers hold NaN where wgpu would have zeros, so that elements that no kernel wrote are seen.
    pub nan_scratch: bool,
}

/// As [`open_tier`], of an adapter that passes for another.
pub fn open_as(index: usize, tier: Tier, pretence: Pretence) -> Result<Gpu> {
    let (adapter, mut description) = chosen(&index.to_string())?;
    if pretence.hardware {
        description.info.device_type = wgpu::DeviceType::Other;
    }
    if pretence.baseline {
        description.limits = wgpu::Limits::default();
    }
    if let Some(invocations) = pretence.widest_subgroup {
        description.info.subgroup_max_size = invocations;
    }
    if let Some(bytes) = pretence.binding_bytes {
        description.limits.max_storage_buffer_binding_size = bytes;
    }
    description.memory = pretence.memory.or(description.memory);
    let gpu = Gpu::open(&adapter, description, pretence)?;
    gpu.set_tier(tier)?;
    Ok(gpu)
}

fn chosen(which: &str) -> Result<(wgpu::Adapter, Description)> {
    let adapters = all();
    let chosen = choose(&adapters.iter().map(|(_, d)| d.clone()).collect::<Vec<_>>(), Some(which))?;
    Ok(adapters.into_iter().nth(chosen).expect("chosen among them"))
}

/// Those of `adapters` that are no software, the best first.
pub fn hardware(adapters: &[Description]) -> Vec<&Description> {
    best_first(adapters.iter().filter(|found| !found.is_software()))
}

/// The one of `adapters` that is taken where none is named.
pub fn best(adapters: &[Description]) -> Option<&Description> {
    best_first(adapters.iter()).into_iter().next()
}

/// The adapters that this process has opened.
pub fn opened() -> Vec<Gpu> {
    let open = OPEN.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    open.iter().map(|(_, gpu)| gpu.clone()).collect()
}

/// Why there may be no adapter at all.
pub fn why_none() -> String {
    let only = ["VK_DRIVER_FILES", "VK_ICD_FILENAMES"].into_iter().find_map(|name| {
        let files = std::env::var(name).ok()?;
        Some(match files.trim() {
            "" => format!("{name} is empty, so that Vulkan loads nothing: unset it, or name a driver's file"),
            files => format!("Vulkan is told by {name} to load nothing but {files}"),
        })
    });
    only.unwrap_or_else(|| "no Vulkan, Metal or Direct3D 12 driver is installed".into())
}

fn choose(adapters: &[Description], which: Option<&str>) -> Result<usize> {
    if adapters.is_empty() {
        return Err(Error::setting(
            format!("no WebGPU adapter was found: {}", why_none()),
            "install a driver (mesa-vulkan-drivers has one that needs no GPU), or pass --device cpu",
        ));
    }
    let which = which.map(str::trim);
    let found = match which {
        None => best(adapters).map(|found| found.index),
        // Names hold digits too: digits alone are never taken for a part of one.
        Some(which) if !which.is_empty() && which.bytes().all(|byte| byte.is_ascii_digit()) => {
            which.parse().ok().filter(|&number: &usize| number < adapters.len())
        }
        Some(which) => {
            let name = which.to_lowercase();
            let contains = |found: &&Description| found.info.name.to_lowercase().contains(&name);
            adapters.iter().filter(|_| !name.is_empty()).find(contains).map(|found| found.index)
        }
    };
    found.ok_or_else(|| {
        let names: Vec<String> =
            adapters.iter().map(|d| format!("webgpu:{} ({})", d.index, d.info.name)).collect();
        Error::setting(
            format!("no WebGPU adapter is {:?}", which.unwrap_or_default()),
            format!("there are {}", names.join(", ")),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn described(index: usize, name: &str, kind: wgpu::DeviceType) -> Description {
        let info =
            wgpu::AdapterInfo { name: name.into(), ..wgpu::AdapterInfo::new(kind, wgpu::Backend::Vulkan) };
        let (limits, features) = (wgpu::Limits::default(), wgpu::Features::empty());
        Description { index, info, limits, features, memory: None, cooperative: Vec::new() }
    }

    #[test]
    fn a_name_means_the_best_adapter_a_number_or_a_part_of_a_name() {
        use wgpu::DeviceType::{Cpu, DiscreteGpu, IntegratedGpu};
        let adapters = [
            described(0, "Software One", Cpu),
            described(1, "Maker X Iris", IntegratedGpu),
            described(2, "Maker Y 4090", DiscreteGpu),
            described(3, "Maker Y 3060", DiscreteGpu),
        ];
        for (which, index) in [
            (None, 2),
            (Some("0"), 0),
            (Some("y 3060"), 3),
            (Some("maker y"), 2),
            (Some(" SOFTWARE"), 0),
            (Some(" 1 "), 1),
        ] {
            assert_eq!(choose(&adapters, which).unwrap(), index, "{which:?}");
        }
        for which in ["77", "4", "3060", "99999999999999999999999", "+1", "radeon", ""] {
            let message = choose(&adapters, Some(which)).unwrap_err().to_string();
            assert!(message.contains(which) && message.contains("webgpu:1 (Maker X Iris)"), "{message}");
        }
        let order: Vec<_> = hardware(&adapters).iter().map(|found| found.index).collect();
        assert_eq!(order, [2, 3, 1], "the best first, of equals the first, and no software");
        assert_eq!(choose(&adapters[..1], None).unwrap(), 0);
        assert!(choose(&[], None).unwrap_err().to_string().contains("no WebGPU adapter"));
    }

    #[test]
    fn of_one_kind_the_adapter_that_can_do_more_is_better() {
        use wgpu::DeviceType::{Cpu, IntegratedGpu};
        let plain = described(0, "plain", Cpu);
        let mut wide = described(1, "wide", Cpu);
        wide.features = wgpu::Features::SUBGROUP;
        wide.info.subgroup_max_size = 4;
        let mut wider = Description { index: 2, ..wide.clone() };
        wider.info.subgroup_max_size = 8;
        let mut large = Description { index: 3, ..wider.clone() };
        large.limits.max_storage_buffer_binding_size *= 2;
        let mut halves = Description { index: 4, ..plain.clone() };
        halves.features = wgpu::Features::SHADER_F16;
        let hardware = described(5, "hardware", IntegratedGpu);
        let adapters = [plain, wide, wider, large, halves, hardware];
        for (at, expected) in (1..=6).zip([0, 1, 2, 3, 4, 5]) {
            assert_eq!(choose(&adapters[..at], None).unwrap(), expected, "of the first {at}");
        }
    }

    #[test]
    fn an_adapter_that_allows_less_than_kernels_need_is_told_and_comes_last() {
        use wgpu::DeviceType::{Cpu, DiscreteGpu};
        let enough = described(0, "enough", Cpu);
        assert_eq!(enough.unusable(), None);
        let mut small = described(1, "small", DiscreteGpu);
        small.limits.max_storage_buffers_per_shader_stage = 4;
        let why = small.unusable().unwrap();
        assert_eq!(why, "it allows 4 storage buffers a kernel, and kernels need 8");
        let refusal = small.expect_usable().unwrap_err().to_string();
        assert!(refusal.starts_with("webgpu:1 (small) cannot be used: it allows 4"), "{refusal}");
        assert_eq!(choose(&[enough, small], None).unwrap(), 0);
    }
}
