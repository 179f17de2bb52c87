//! Tier f16: products with weights stored in f16, against f64 references of the same, rounded weights; the rule of what
//! is stored so; a decoder that is loaded with them.

use super::ops::products::{BEYOND, LAYOUTS, plain_product, stored};
use super::{error, expect_near, random, run, skip, to};
use half::f16;
use lea::autograd::{Param, Var};
use lea::cli::config::RunConfig;
use lea::cli::inspect::memory;
use lea::decoder::{Decoder, DecoderConfig, LoraConfig, Rows};
use lea::device::webgpu::Tier;
use lea::device::webgpu::adapter::{self, Pretence};
use lea::device::{DType, Device};
use lea::ops::matmul::matmul;
use lea::ops::{Linear, Op};
use lea::tensor::Tensor;

/// Every adapter that has the tier, with its own kernels and with hardware's; with small bindings too if `limited`.
fn devices(test: &str, limited: bool) -> Vec<Device> {
    let mut devices = Vec::new();
    for found in adapter::list() {
        if let Some(why) = Tier::F16.missing(&found) {
            skip::skipped(format_args!("{test} on {}: {why}", found.info.name));
            continue;
        }
        for hardware in [false, true] {
            for binding_bytes in [None, Some(4096)].into_iter().take(if limited { 2 } else { 1 }) {
                let pretence = Pretence { hardware, binding_bytes, nan_scratch: true, ..Pretence::default() };
                devices.push(Device::WebGpu(adapter::open_as(found.index, Tier::F16, pretence).unwrap()));
            }
        }
    }
    devices
}

/// The nearest values of f16, as f64.
pub fn rounded(x: &Tensor) -> Tensor {
    let values: Vec<f64> = x.to_f64_vec().unwrap().into_iter().map(|x| f64::from(f16::from_f64(x))).collect();
    Tensor::from_f64(&Device::Cpu, DType::F64, &values, x.shape()).unwrap()
}

/// A frozen weight as `device` stores it.
pub fn frozen(device: &Device, x: &Tensor) -> Tensor {
    let values: Vec<f32> = x.to_f64_vec().unwrap().into_iter().map(|x| x as f32).collect();
    Tensor::frozen(device, &values, x.shape()).unwrap()
}

#[test]
fn products_with_a_factor_in_f16_are_as_near_as_those_in_f32() {
    let devices = devices("products_with_a_factor_in_f16", true);
    for extents in [[1, 1, 1], [8, 32, 16], [65, 67, 33], [2, 201, 301]].into_iter().chain(BEYOND) {
        for layout in LAYOUTS {
            let [a, b] = stored(extents, layout);
            let (a, b) = (random(&a, 1), rounded(&random(&b, 2)));
            let want = matmul(&a, &b, layout[0], layout[1]).unwrap();
            let plain = plain_product(&a, &b, extents, layout);
            for device in &devices {
                let (a, b) = (to(device, DType::F32, &a), frozen(device, &b));
                assert_eq!(b.dtype(), DType::F16);
                let found = matmul(&a, &b, layout[0], layout[1]).unwrap();
                assert_eq!(found.dtype(), DType::F32);
                let place = format!("{extents:?} {layout:?} on {}", device.describe());
                expect_near(&place, &found, &plain, &want);
            }
        }
    }
}

#[test]
fn a_linear_layer_with_a_weight_in_f16_has_the_gradients_of_the_rounded_weight() {
    let (rows, width, out) = (70, 47, 31);
    let (x, w) = (random(&[rows, width], 1), rounded(&random(&[out, width], 2)));
    let (bias, residual) = (random(&[out], 3), random(&[rows, out], 4));
    let needs = [true, false, true, true];
    let on = |device: &Device, dtype| {
        let weight = if dtype == DType::F64 { w.clone() } else { frozen(device, &w) };
        let [x, bias, residual] = [&x, &bias, &residual].map(|x| to(device, dtype, x));
        let mut op = Linear { bias: true, residual: true, giving: None };
        run(&mut op, &[x, weight, bias, residual], &needs)
    };
    let (want, plain) = (on(&Device::Cpu, DType::F64), on(&Device::Cpu, DType::F32));
    for device in devices("a_linear_layer_with_a_weight_in_f16", false) {
        let found = on(&device, DType::F32);
        expect_near(&format!("output on {}", device.describe()), &found.0, &plain.0, &want.0);
        for i in [0, 2, 3] {
            let [found, plain, want] = [&found, &plain, &want].map(|(_, grads)| grads[i].clone().unwrap());
            expect_near(&format!("gradient {i} on {}", device.describe()), &found, &plain, &want);
        }
    }
}

#[test]
fn a_weight_with_values_beyond_f16_stays_in_f32() {
    for device in devices("a_weight_with_values_beyond_f16", false) {
        for (value, dtype) in [
            (65_504.0, DType::F16),
            (-65_519.0, DType::F16),
            (65_520.0, DType::F32),
            (-1e30, DType::F32),
            (f32::INFINITY, DType::F32),
            (f32::NAN, DType::F32),
        ] {
            let weight = Tensor::frozen(&device, &[0.5, value, 1.0], &[1, 3]).unwrap();
            assert_eq!(weight.dtype(), dtype, "{value}");
            let back = weight.widened().unwrap().to_vec::<f32>().unwrap();
            assert_eq!((back[0], back[2]), (0.5, 1.0));
            let kept = if dtype == DType::F32 { value } else { 65_504f32.copysign(value) };
            assert_eq!(back[1].to_bits(), kept.to_bits(), "{value}");
        }
    }
}

#[test]
fn factors_in_f16_are_taken_by_products_alone_and_on_their_right() {
    for device in devices("factors_in_f16_are_taken_by_products_alone", false) {
        let half = Tensor::frozen(&device, &[1.0; 4], &[2, 2]).unwrap();
        let single = to(&device, DType::F32, &random(&[2, 2], 1));
        for (a, b) in [(&half, &single), (&half, &half)] {
            let message = matmul(a, b, false, false).unwrap_err().to_string();
            assert!(message.contains("f16"), "{message}");
        }
        let message = lea::ops::Mul.forward(&[&single, &half], false).unwrap_err().to_string();
        assert!(message.contains("f16"), "{message}");
    }
}

/// Hidden rows of three sequences.
fn hidden(decoder: &Decoder) -> Tensor {
    let rows = Rows::causal(&decoder.device(), &[5, 1, 9]).unwrap();
    let tokens: Vec<u32> = (0..15).map(|i| i * 7 % decoder.config.vocab_size as u32).collect();
    decoder.forward(&decoder.embed_tokens(&tokens).unwrap(), &rows).map(Var::into_value).unwrap()
}

#[test]
fn a_decoder_loads_its_projections_in_f16_and_merges_adapters_into_them() {
    let folder = tempfile::tempdir().unwrap();
    let of = |device: &Device, dtype| Decoder::load(folder.path(), device, dtype).unwrap();
    // Weights that f16 has: those that are loaded are then the same everywhere.
    let config = DecoderConfig {
        hidden_size: 24,
        intermediate_size: 40,
        num_hidden_layers: 2,
        num_attention_heads: 4,
        num_key_value_heads: 2,
        head_dim: 6,
        vocab_size: 31,
        ..DecoderConfig::default()
    };
    let decoder = Decoder::random(config, 1, &Device::Cpu, DType::F32, false).unwrap();
    for param in decoder.params() {
        param.set(to(&Device::Cpu, DType::F32, &rounded(&param.value())));
    }
    decoder.save(folder.path()).unwrap();
    let adapted = |mut decoder: Decoder| {
        decoder.add_lora(&LoraConfig::default(), 3).unwrap();
        for (i, param) in decoder.lora_params().into_iter().enumerate() {
            let value = param.value();
            assert_eq!(value.dtype(), decoder.dtype());
            param.set(to(value.device(), value.dtype(), &random(value.shape(), i as u64)));
        }
        decoder
    };
    let [want, plain] = [DType::F64, DType::F32].map(|dtype| hidden(&of(&Device::Cpu, dtype)));
    let want_adapted = hidden(&adapted(of(&Device::Cpu, DType::F64))).to_f64_vec().unwrap();
    for device in devices("a_decoder_loads_its_projections_in_f16", false) {
        let decoder = of(&device, DType::F32);
        let made = Decoder::random(decoder.config.clone(), 5, &device, DType::F32, true).unwrap();
        let other = tempfile::tempdir().unwrap();
        made.save(other.path()).unwrap();
        let loaded = Decoder::load(other.path(), &device, DType::F32).unwrap();
        let drawn = Decoder::random_as_loaded(decoder.config.clone(), 5, &device).unwrap();
        let made = made.as_loaded().unwrap();
        for ((loaded, made), drawn) in loaded.params().iter().zip(made.params()).zip(drawn.params()) {
            let [loaded, made, drawn] =
                [loaded, &made, &drawn].map(|x| (x.value().dtype(), x.value().to_f64_vec().unwrap()));
            assert!(loaded == made && loaded == drawn);
        }
        for param in decoder.params() {
            let half = param.name().ends_with("_proj.weight");
            let dtype = if half { DType::F16 } else { DType::F32 };
            assert_eq!(param.value().dtype(), dtype, "{}", param.name());
        }
        expect_near(&device.describe(), &hidden(&decoder), &plain, &want);
        // What `lea inspect` tells of the weights, on this device and on one that stores f32.
        let held = |decoder: &Decoder| {
            let bytes = |param: Param| (param.value().len() * param.value().dtype().size()) as u64;
            decoder.params().into_iter().map(bytes).sum::<u64>()
        };
        let settings = RunConfig::default();
        let (config, embedding) = (&decoder.config, 8 * 31 * 24);
        let [here, there] = [&device, &Device::Cpu].map(|device| {
            let label = memory::label(config, &settings, 9, device).weights;
            let fit = memory::fit(config, &settings, 9, device).weights;
            assert_eq!(memory::items(config, &settings, 9, device).weights, fit + embedding);
            (fit, label - fit)
        });
        assert_eq!([here.0, there.0], [&decoder, &of(&Device::Cpu, DType::F32)].map(held));
        assert!(here.1 > 0 && 2 * here.1 == there.1, "{here:?} {there:?}");
        let merged = adapted(decoder).merged().unwrap();
        assert_eq!(merged.layers[0].q.weight.value().dtype(), DType::F16);
        let found = hidden(&merged).to_f64_vec().unwrap();
        let largest = want_adapted.iter().fold(0.0f64, |most, x| most.max(x.abs()));
        // Rounding the merged weights moves each by up to 2^-12 of its size.
        let apart = error(&found, &want_adapted) / largest;
        assert!(apart < 2e-3, "{}: {apart:e}", device.describe());
    }
}
