//! Tier cooperative: activations times frozen weights by cooperative matrices, against f64 references and a plain implementation that rounds
//! activations to f16 too; what stays as in tier f16.

use super::halves::{frozen, rounded};
use super::ops::products::{BEYOND, LAYOUTS, plain_product, stored};
use super::{expect_near, random, run, skip, to};
use lea::device::webgpu::Tier;
use lea::device::webgpu::adapter::{self, Pretence};
use lea::device::{DType, Device};
use lea::ops::matmul::{matmul, matmul_accumulate};
use lea::ops::{GatedLinear, Linear, Op};
use lea::tensor::Tensor;

/// Every adapter that has the tier; with small bindings, and then with workgroups of more subgroups than have work, too if `all`.
pub fn devices(test: &str, all: bool) -> Vec<Device> {
    let mut devices = Vec::new();
    for found in adapter::list() {
        if let Some(why) = Tier::Cooperative.missing(&found) {
            skip::skipped(format_args!("{test} on {}: {why}", found.info.name));
            continue;
        }
        devices.push(open(found.index, Tier::Cooperative, Pretence::default()));
        if all {
            let limited = Pretence { binding_bytes: Some(4096), hardware: true, ..Pretence::default() };
            let idle = Pretence { widest_subgroup: Some(64), ..Pretence::default() };
            devices.extend([limited, idle].map(|pretence| open(found.index, Tier::Cooperative, pretence)));
        }
    }
    devices
}

fn open(index: usize, tier: Tier, pretence: Pretence) -> Device {
    let pretence = Pretence { baseline: true, nan_scratch: true, ..pretence };
    Device::WebGpu(adapter::open_as(index, tier, pretence).unwrap())
}

/// One in tier f16 of the same adapter.
fn in_halves(device: &Device) -> Device {
    let Device::WebGpu(gpu) = device else { panic!("{device} is no adapter") };
    open(gpu.description().index, Tier::F16, Pretence::default())
}

/// Whole numbers from −8 to 8.
pub fn whole(shape: &[usize], seed: u64) -> Tensor {
    let values = random(shape, seed).to_f64_vec().unwrap();
    let values: Vec<f64> = values.into_iter().map(|x| (8.49 * x).round()).collect();
    Tensor::from_f64(&Device::Cpu, DType::F64, &values, shape).unwrap()
}

fn bits(x: &Tensor) -> Vec<u32> {
    x.to_vec::<f32>().unwrap().into_iter().map(f32::to_bits).collect()
}

/// Extents of less than a fragment, of several tiles, and of both; with rows that are vectors of four and not.
const SHAPES: [[usize; 3]; 9] = [
    [1, 1, 1],
    [8, 8, 8],
    [16, 16, 16],
    [33, 65, 40],
    [65, 67, 33],
    [130, 140, 64],
    [1, 300, 52],
    [2, 201, 301],
    [70, 31, 0],
];

#[test]
fn activations_times_weights_are_as_near_as_plain_ones_of_activations_rounded_to_f16() {
    let devices = devices("activations_times_weights", true);
    for extents in SHAPES.into_iter().chain(BEYOND) {
        let layout = [false, true];
        let [a, b] = stored(extents, layout);
        let (a, b) = (random(&a, 1), rounded(&random(&b, 2)));
        let want = matmul(&a, &b, false, true).unwrap();
        let plain = plain_product(&rounded(&a), &b, extents, layout);
        for device in &devices {
            let found = matmul(&to(device, DType::F32, &a), &frozen(device, &b), false, true).unwrap();
            expect_near(&format!("{extents:?} on {}", device.describe()), &found, &plain, &want);
        }
    }
}

/// Adapters may cut the last bits of a sum: numbers that need none tell what is added to what.
#[test]
fn products_and_sums_of_small_whole_numbers_are_exact() {
    let devices = devices("products_and_sums_of_small_whole_numbers", true);
    for [m, n, k] in SHAPES.into_iter().chain(BEYOND) {
        let [a, b, start] = [([m, k], 1), ([n, k], 2), ([m, n], 3)].map(|(shape, seed)| whole(&shape, seed));
        let mut want = start.clone();
        matmul_accumulate(&a, &b, false, true, &mut want).unwrap();
        for device in &devices {
            let mut found = to(device, DType::F32, &start);
            matmul_accumulate(&to(device, DType::F32, &a), &frozen(device, &b), false, true, &mut found)
                .unwrap();
            let place = format!("{m} {n} {k} on {}", device.describe());
            assert!(found.to_f64_vec().unwrap() == want.to_f64_vec().unwrap(), "{place}");
        }
    }
}

#[test]
fn what_a_product_holds_a_bias_a_residual_and_a_gate_are_added_in_f32() {
    for (rows, width, out) in [(1, 3, 5), (70, 48, 31), (40, 67, 130)] {
        let (x, w) = (random(&[rows, width], 1), rounded(&random(&[out, width], 2)));
        let (bias, residual) = (random(&[out], 3), random(&[rows, out], 4));
        let on = |device: &Device, dtype| {
            // The plain implementation rounds x, and so does the device by itself.
            let is_plain = *device == Device::Cpu && dtype == DType::F32;
            let x = if is_plain { rounded(&x) } else { x.clone() };
            let weight = if dtype == DType::F64 { w.clone() } else { frozen(device, &w) };
            let [x, bias, residual] = [&x, &bias, &residual].map(|x| to(device, dtype, x));
            let linear = |bias, residual| Linear { bias, residual, giving: None };
            let mut held = to(device, dtype, &residual);
            matmul_accumulate(&x, &weight, false, true, &mut held).unwrap();
            [
                held,
                linear(true, true).forward(&[&x, &weight, &bias, &residual], false).unwrap(),
                linear(true, false).forward(&[&x, &weight, &bias], false).unwrap(),
                linear(false, true).forward(&[&x, &weight, &residual], false).unwrap(),
                GatedLinear.forward(&[&x, &weight, &weight], false).unwrap(),
            ]
        };
        let (want, plain) = (on(&Device::Cpu, DType::F64), on(&Device::Cpu, DType::F32));
        for device in devices("what_a_product_holds", true) {
            for (i, found) in on(&device, DType::F32).iter().enumerate() {
                let place = format!("{i} of {rows} {width} {out} on {}", device.describe());
                expect_near(&place, found, &plain[i], &want[i]);
            }
        }
    }
}

/// Gradients are small where activations are not: in f16 some would vanish.
#[test]
fn gradients_through_weights_have_the_bits_of_tier_f16() {
    let (rows, width, out) = (40, 47, 31);
    let (x, w, bias) = (random(&[rows, width], 1), random(&[out, width], 2), random(&[out], 3));
    let gradients = |device: &Device| {
        let inputs = [to(device, DType::F32, &x), frozen(device, &w), to(device, DType::F32, &bias)];
        let mut op = Linear { bias: true, residual: false, giving: None };
        let (_, grads) = run(&mut op, &inputs, &[true, false, true]);
        [0, 2].map(|i: usize| bits(grads[i].as_ref().unwrap()))
    };
    for device in devices("gradients_through_weights", false) {
        let halves = in_halves(&device);
        assert!(gradients(&device) == gradients(&halves));
        for layout in LAYOUTS.into_iter().filter(|layout| *layout != [false, true]) {
            let [a, b] = stored([20, 30, 40], layout).map(|shape| random(&shape, 5));
            let on = |device: &Device| {
                let (a, b) = (to(device, DType::F32, &a), frozen(device, &b));
                bits(&matmul(&a, &b, layout[0], layout[1]).unwrap())
            };
            assert!(on(&device) == on(&halves), "{layout:?}");
        }
    }
}

#[test]
fn a_row_has_the_same_bits_whatever_the_rows_beside_it_and_the_cuts() {
    let (rows, width, out) = (150, 200, 90);
    let (x, w) = (random(&[rows, width], 1), random(&[out, width], 2));
    let values = x.to_f64_vec().unwrap();
    let product = |device: &Device, rows: std::ops::Range<usize>| {
        let part = &values[rows.start * width..rows.end * width];
        let part = Tensor::from_f64(device, DType::F32, part, &[rows.len(), width]).unwrap();
        bits(&matmul(&part, &frozen(device, &w), false, true).unwrap())
    };
    for device in devices("a_row_has_the_same_bits", true) {
        let whole = product(&device, 0..rows);
        for part in [0..1, 3..20, 31..33, 63..130, 149..150] {
            assert!(product(&device, part.clone()) == whole[part.start * out..part.end * out], "{part:?}");
        }
        let Device::WebGpu(gpu) = &device else { panic!("{device} is no adapter") };
        let other = open(gpu.description().index, Tier::Cooperative, Pretence::default());
        assert!(product(&other, 0..rows) == whole, "{device:?}");
    }
}

#[test]
fn activations_beyond_f16_are_no_finite_numbers_in_their_own_row_alone() {
    let (rows, out) = (20, 20);
    let beyond = [(65_504.0, true), (65_520.0, false), (-1e6, false), (f64::NAN, false)];
    for device in devices("activations_beyond_f16", false) {
        // Rows that are read in fours, and rows that are not and whose last terms lie beside the next row's first.
        for (width, (value, is_finite)) in [24, 21].into_iter().flat_map(|width| beyond.map(|of| (width, of)))
        {
            let w = random(&[out, width], 2);
            let mut values = random(&[rows, width], 1).to_f64_vec().unwrap();
            values[7 * width] = value;
            let x = Tensor::from_f64(&device, DType::F32, &values, &[rows, width]).unwrap();
            let found = matmul(&x, &frozen(&device, &w), false, true).unwrap().to_vec::<f32>().unwrap();
            for (row, found) in found.chunks(out).enumerate() {
                let expected = is_finite || row != 7;
                assert!(
                    found.iter().all(|x| x.is_finite() == expected),
                    "{width} {value}, row {row}: {found:?}"
                );
            }
        }
    }
}

#[test]
fn an_adapter_without_usable_cooperative_matrices_says_what_it_lacks() {
    for found in adapter::list() {
        let Some(why) = Tier::Cooperative.missing(&found) else { continue };
        let refused = adapter::open_tier(found.index, Tier::Cooperative).unwrap_err().to_string();
        assert!(refused.contains("cannot run tier cooperative: the adapter has no "), "{refused}");
        assert!(refused.contains(&why) && refused.contains("--webgpu-tier"), "{refused}");
    }
}
