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
            let pretence = Pretence { hardware, binding_bytes: Some(4096) };
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

fn open_all() -> Vec<Device> {
    let mut devices = Vec::new();
    for found in adapter::list() {
        if found.is_software() {
            let hardware = Pretence { hardware: true, ..Pretence::default() };
            devices.push(Device::WebGpu(adapter::open_as(found.index, found.tier(), hardware).unwrap()));
        }
        // The others run these tiers' kernels but for what tests of their own check.
        for tier in lea::device::webgpu::TIERS.into_iter().filter(|tier| tier.is_exact()) {
            if tier.missing(found.features).is_none() {
                let gpu = adapter::open_tier(found.index, tier).unwrap();
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
