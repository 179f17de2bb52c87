//! WebGPU kernels on every adapter of this machine, in every tier it has, against references on the host.

#[path = "../le_fixture/mod.rs"]
#[allow(dead_code)]
mod le_fixture;
#[path = "../ops/mod.rs"]
mod ops;
#[path = "../parity/mod.rs"]
mod parity;
#[path = "../skip/mod.rs"]
mod skip;

mod attention_cuts;
mod cooperative;
mod cooperative_large;
mod faults;
mod files;
mod halves;
mod parts;
mod read_backs;

use lea::device::Device;
use lea::device::webgpu::adapter::{self, Pretence};
use lea::ops::Op;
use lea::tensor::Tensor;
use parity::{error, expect_near, parity_on, random, run, to};
use std::sync::OnceLock;

/// Every adapter in every exact tier it has; tells why where there is none.
fn devices(test: &str) -> Vec<Device> {
    static DEVICES: OnceLock<Vec<Device>> = OnceLock::new();
    let devices = DEVICES.get_or_init(open_all);
    if devices.is_empty() {
        skip::skipped(format_args!(
            "{test}: there is no WebGPU adapter; mesa-vulkan-drivers has one that needs no GPU"
        ));
    }
    devices.clone()
}

/// Every adapter with bindings so small that tensors of a few thousand elements come in parts, with its own kernels and
/// with those of hardware.
fn limited_devices(test: &str) -> Vec<Device> {
    static DEVICES: OnceLock<Vec<Device>> = OnceLock::new();
    let devices = DEVICES.get_or_init(|| {
        let open = |found: &adapter::Description, hardware| {
            let pretence = Pretence { binding_bytes: Some(4096), ..strict(hardware) };
            Device::WebGpu(adapter::open_as(found.index, found.tier(), pretence).unwrap())
        };
        let both = |found: adapter::Description| [open(&found, false), open(&found, true)];
        adapter::list().into_iter().flat_map(both).collect()
    });
    if devices.is_empty() {
        skip::skipped(format_args!("{test}: there is no WebGPU adapter"));
    }
    devices.clone()
}

/// No more than every adapter allows, and NaN in all that a kernel leaves unwritten.
fn strict(hardware: bool) -> Pretence {
    Pretence { hardware, baseline: true, nan_scratch: true, ..Pretence::default() }
}

fn open_all() -> Vec<Device> {
    let mut devices = Vec::new();
    for found in adapter::list() {
        if found.is_software() {
            let gpu = adapter::open_as(found.index, found.tier(), strict(true)).unwrap();
            devices.push(Device::WebGpu(gpu));
        }
        // The others run these tiers' kernels but for what tests of their own check.
        for tier in lea::device::webgpu::TIERS.into_iter().filter(|tier| tier.is_exact()) {
            if tier.missing(&found).is_none() {
                let gpu = adapter::open_as(found.index, tier, strict(false)).unwrap();
                devices.push(Device::WebGpu(gpu));
            }
        }
    }
    devices
}

/// Forward and backward of `make(device)` on every device against the CPU.
fn parity<O: Op>(test: &str, make: impl Fn(&Device) -> O, inputs: &[Tensor]) {
    parity_on(&devices(test), test, make, inputs);
}

/// Kernels that need more invocations or buffers than every adapter allows fail on these devices, whatever those of this machine
/// allow; workgroup memory is counted in the files.
#[test]
fn kernels_are_tested_within_the_limits_that_the_documentation_tells() {
    for device in devices("limits of kernels") {
        let Device::WebGpu(gpu) = &device else { panic!("{device} is no adapter") };
        let limits = &gpu.description().limits;
        assert_eq!(limits.max_compute_invocations_per_workgroup, 256);
        assert_eq!(limits.max_compute_workgroup_storage_size, 16 << 10);
        assert_eq!(limits.max_storage_buffers_per_shader_stage, 8);
        // What no kernel has written is seen: new memory holds no zeros.
        let scratch = lea::device::webgpu::Buffer::scratch(gpu, lea::device::DType::F32, 100).unwrap();
        assert!(scratch.read::<f32>(0, 100).unwrap().iter().all(|x| x.is_nan()));
    }
}
