//! How often the host waits for the adapter. Each test has devices of its own, whose counters count it alone.

use super::ops::optimiser::expect_training;
use super::parity::{random, to};
use super::skip;
use lea::device::webgpu::{Gpu, adapter};
use lea::device::{DType, Device};
use lea::ops::adamw::squared_norms;
use lea::ops::{GatherDot, Op, retrieve};
use lea::tensor::Tensor;

fn own_devices(test: &str) -> Vec<(Gpu, Device)> {
    let open = |found: adapter::Description| {
        let gpu = adapter::open_tier(found.index, found.tier()).unwrap();
        (gpu.clone(), Device::WebGpu(gpu))
    };
    let devices: Vec<_> = adapter::list().into_iter().map(open).collect();
    if devices.is_empty() {
        skip::skipped(format_args!("{test}: there is no WebGPU adapter"));
    }
    devices
}

#[test]
fn squared_norms_are_read_back_once() {
    for (gpu, device) in own_devices("squared_norms_are_read_back_once") {
        let there: Vec<Tensor> =
            [0, 1, 65, 4097].iter().map(|&len| to(&device, DType::F32, &random(&[len], 1))).collect();
        let before = gpu.counters().read_backs;
        squared_norms(&there.iter().collect::<Vec<_>>()).unwrap();
        assert_eq!(gpu.counters().read_backs, before + 1, "{}", device.describe());
    }
}

#[test]
fn training_gives_the_losses_of_the_cpu_and_waits_in_one_step_of_sixteen() {
    for (gpu, device) in own_devices("training_waits_seldom") {
        expect_training(&device, || gpu.counters().read_backs);
    }
}

/// What a search finds is looked up without a word with the host; a row that found nothing gives NaN.
#[test]
fn ids_that_a_kernel_made_are_looked_up_and_missing_ones_give_nan() {
    for (gpu, device) in own_devices("ids that a kernel made") {
        let x = Tensor::from_slice(&device, &[1f32, f32::NAN], &[2, 1]).unwrap();
        let table = Tensor::from_slice(&device, &[1f32, 3.0, 2.0], &[3, 1]).unwrap();
        let (_, ids) = retrieve(&x, &table, None, 1, &[]).unwrap();
        let before = gpu.counters().read_backs;
        let y = GatherDot::new(ids).forward(&[&table.rows(0..2).unwrap(), &table], false).unwrap();
        assert_eq!(gpu.counters().read_backs, before, "{}", device.describe());
        let y = y.to_vec::<f32>().unwrap();
        assert!(y[0] == 3.0 && y[1].is_nan(), "{y:?} on {}", device.describe());
    }
}
