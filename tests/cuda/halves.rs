//! Frozen weights in bf16: products on tensor cores against f64 references, the rule of what is stored so, a decoder that is
//! loaded with them, a whole training step.

use super::le_fixture::{environment_on, works};
use super::ops::products::{plain_product, stored};
use super::parity::{error, expect_near, random, run, to};
use super::{devices, generations, in_each_manner};
use half::bf16;
use lea::autograd::{Param, backward};
use lea::decoder::{Decoder, DecoderConfig, LoraConfig, Rows, weights::Weights};
use lea::device::{DType, Device};
use lea::le::{Environment, FitBatch, FitConfig, Work, losses};
use lea::ops::matmul::{matmul, matmul_accumulate};
use lea::ops::{Linear, Op};
use lea::tensor::Tensor;

/// The nearest values of bf16, as f64.
pub fn rounded(x: &Tensor) -> Tensor {
    let values: Vec<f64> =
        x.to_f64_vec().unwrap().into_iter().map(|x| f64::from(bf16::from_f32(x as f32))).collect();
    Tensor::from_f64(&Device::Cpu, DType::F64, &values, x.shape()).unwrap()
}

/// A frozen weight as `device` stores it.
pub fn frozen(device: &Device, x: &Tensor) -> Tensor {
    let values: Vec<f32> = x.to_f64_vec().unwrap().into_iter().map(|x| x as f32).collect();
    let weight = Tensor::frozen(device, &values, x.shape()).unwrap();
    assert_eq!(weight.dtype(), DType::BF16, "{:?}", x.shape());
    weight
}

/// m, n, k and whether b is stored transposed; its stored rows are multiples of 8 long. Of the stand-in's two processors: all
/// tiles, whole and cut, and inner extents within a step, over one, within and over the stages.
pub const SHAPES: [([usize; 3], bool); 16] = [
    ([3, 5, 0], true),
    ([3, 8, 0], false),
    ([1, 1, 8], true),
    ([1, 8, 1], false),
    ([3, 5, 24], true),
    ([5, 16, 3], false),
    ([65, 67, 40], true),
    ([67, 72, 33], false),
    ([128, 256, 32], true),
    ([127, 200, 136], true),
    ([127, 200, 131], false),
    ([256, 256, 64], true),
    ([211, 251, 168], true),
    ([211, 248, 95], false),
    ([2, 201, 1304], true),
    ([9, 136, 1301], false),
];

#[test]
fn products_are_as_near_as_plain_ones_of_rounded_factors() {
    let devices = generations("products_of_rounded_factors");
    for (extents, transposed) in SHAPES {
        let layout = [false, transposed];
        let [a, b] = stored(extents, layout);
        let (a, b) = (random(&a, 1), random(&b, 2));
        let want = matmul(&a, &b, false, transposed).unwrap();
        let plain = plain_product(&rounded(&a), &rounded(&b), extents, layout);
        in_each_manner(|| {
            for device in &devices {
                let (a, b) = (to(device, DType::F32, &a), frozen(device, &b));
                let found = matmul(&a, &b, false, transposed).unwrap();
                assert_eq!(found.dtype(), DType::F32);
                expect_near(&format!("{extents:?} on {}", device.describe()), &found, &plain, &want);
            }
        });
    }
}

/// Whole numbers from −8 to 8.
pub fn whole(shape: &[usize], seed: u64) -> Tensor {
    let values: Vec<f64> = random(shape, seed).to_f64_vec().unwrap();
    let values: Vec<f64> = values.into_iter().map(|x| (8.49 * x).round()).collect();
    Tensor::from_f64(&Device::Cpu, DType::F64, &values, shape).unwrap()
}

/// Products of whole numbers, added to others, come out as on the host.
fn expect_exact(devices: &[Device], (extents, transposed): ([usize; 3], bool)) {
    let [a, b] = stored(extents, [false, transposed]);
    let (a, b, start) = (whole(&a, 1), whole(&b, 2), whole(&extents[..2], 3));
    let mut want = start.clone();
    matmul_accumulate(&a, &b, false, transposed, &mut want).unwrap();
    in_each_manner(|| {
        for device in devices {
            let (a, b) = (to(device, DType::F32, &a), frozen(device, &b));
            let mut found = to(device, DType::F32, &start);
            matmul_accumulate(&a, &b, false, transposed, &mut found).unwrap();
            let place = format!("{extents:?} on {}", device.describe());
            assert!(found.to_f64_vec().unwrap() == want.to_f64_vec().unwrap(), "{place}");
        }
    });
}

#[test]
fn products_and_sums_of_small_whole_numbers_are_exact() {
    let devices = generations("products_of_small_whole_numbers");
    SHAPES.into_iter().for_each(|shape| expect_exact(&devices, shape));
}

/// Of Hopper's kernels on the stand-in's two processors: several tiles a block, more slices than stages, both tiles in both layouts.
const HOPPER_SHAPES: [([usize; 3], bool); 4] =
    [([130, 261, 520], true), ([200, 264, 405], false), ([385, 256, 328], true), ([385, 248, 267], false)];

#[test]
fn products_of_many_tiles_and_slices_are_exact_on_hopper() {
    let hopper =
        |device: &Device| matches!(device, Device::Cuda(cuda) if cuda.description().capability == (9, 0));
    let devices: Vec<Device> = generations("products_on_hopper").into_iter().filter(hopper).collect();
    HOPPER_SHAPES.into_iter().for_each(|shape| expect_exact(&devices, shape));
}

#[test]
fn a_row_has_the_same_bits_in_any_batch_and_tile() {
    for device in generations("a_row_has_the_same_bits_in_any_batch") {
        for (out, width) in [(256, 72), (251, 200)] {
            let (x, w) = (random(&[256, width], 1), frozen(&device, &random(&[out, width], 2)));
            let x = to(&device, DType::F32, &x);
            let bits = |x: &Tensor| {
                let y = matmul(x, &w, false, true).unwrap().to_vec::<f32>().unwrap();
                y.into_iter().map(f32::to_bits).collect::<Vec<_>>()
            };
            let together = bits(&x);
            for (from, to) in [(0, 1), (3, 40), (100, 228), (255, 256), (17, 217)] {
                let alone = bits(&x.rows(from..to).unwrap());
                assert!(alone == together[from * out..to * out], "rows {from} to {to}");
            }
        }
    }
}

#[test]
fn a_linear_layer_has_the_gradients_of_the_rounded_weight() {
    let devices = generations("a_linear_layer_with_a_weight_in_bf16");
    for (rows, width, out) in [(70, 48, 31), (130, 264, 257)] {
        let (x, w) = (random(&[rows, width], 1), rounded(&random(&[out, width], 2)));
        let (bias, residual) = (random(&[out], 3), random(&[rows, out], 4));
        let needs = [true, false, true, true];
        let on = |device: &Device, dtype, x: &Tensor| {
            let weight = if dtype == DType::F64 { w.clone() } else { to(device, dtype, &w) };
            let weight = if *device == Device::Cpu { weight } else { frozen(device, &w) };
            let [x, bias, residual] = [x, &bias, &residual].map(|x| to(device, dtype, x));
            run(
                &mut Linear { bias: true, residual: true, giving: None },
                &[x, weight, bias, residual],
                &needs,
            )
        };
        let want = on(&Device::Cpu, DType::F64, &x);
        let plain = on(&Device::Cpu, DType::F32, &rounded(&x));
        // That of the gradient of x, whose incoming gradient is rounded.
        let grad = rounded(&random(&[rows, out], 99));
        let plain_dx = plain_product(&grad, &w, [rows, width, out], [false, false]);
        in_each_manner(|| {
            for device in &devices {
                let found = on(device, DType::F32, &x);
                expect_near("output", &found.0, &plain.0, &want.0);
                expect_near(
                    "gradient of x",
                    found.1[0].as_ref().unwrap(),
                    &plain_dx,
                    want.1[0].as_ref().unwrap(),
                );
                assert!(found.1[1].is_none());
                for i in [2, 3] {
                    let [found, plain, want] =
                        [&found, &plain, &want].map(|(_, grads)| grads[i].clone().unwrap());
                    expect_near(&format!("gradient {i}"), &found, &plain, &want);
                }
            }
        });
    }
}

#[test]
fn weights_that_tensor_cores_do_not_take_stay_in_f32() {
    for device in devices("weights_that_stay_in_f32") {
        for (row, dtype) in [(8, DType::BF16), (24, DType::BF16), (1, DType::F32), (12, DType::F32)] {
            let weight = Tensor::frozen(&device, &vec![0.1; 3 * row], &[3, row]).unwrap();
            assert_eq!(weight.dtype(), dtype, "rows of {row}");
        }
        for (value, dtype) in [
            (3.3e38, DType::BF16),
            (f32::MAX, DType::F32),
            (f32::NEG_INFINITY, DType::F32),
            (f32::NAN, DType::F32),
        ] {
            let mut values = [0.5; 8];
            values[3] = value;
            let weight = Tensor::frozen(&device, &values, &[1, 8]).unwrap();
            assert_eq!(weight.dtype(), dtype, "{value}");
            let back = weight.widened().unwrap().to_vec::<f32>().unwrap();
            let kept = if dtype == DType::F32 { value } else { f32::from(bf16::from_f32(value)) };
            assert_eq!((back[3].to_bits(), back[7]), (kept.to_bits(), 0.5));
        }
    }
}

#[test]
fn factors_in_bf16_are_taken_by_products_alone_beside_frozen_ones() {
    for device in devices("factors_in_bf16") {
        let half = frozen(&device, &random(&[8, 8], 1));
        let single = to(&device, DType::F32, &random(&[8, 8], 1));
        for (a, b, transposed) in [(&half, &single, false), (&half, &half, true), (&single, &half, true)] {
            let message = matmul(a, b, transposed, false).unwrap_err().to_string();
            assert!(message.contains("bf16"), "{message}");
        }
        let cut = half.reshape(&[16, 4]).unwrap();
        let narrow = to(&device, DType::F32, &random(&[3, 4], 1));
        let message = matmul(&narrow, &cut, false, true).unwrap_err().to_string();
        assert!(message.contains("multiple of 8"), "{message}");
        let message = lea::ops::Mul.forward(&[&single, &half], false).unwrap_err().to_string();
        assert!(message.contains("bf16"), "{message}");
    }
}

/// Hidden rows of three sequences.
fn hidden(decoder: &Decoder) -> Vec<f64> {
    let rows = Rows::causal(&decoder.device(), &[5, 1, 9]).unwrap();
    let tokens: Vec<u32> = (0..15).map(|i| i * 7 % decoder.config.vocab_size as u32).collect();
    let hidden = decoder.forward(&decoder.embed_tokens(&tokens).unwrap(), &rows).unwrap();
    hidden.into_value().to_f64_vec().unwrap()
}

/// Largest difference beside the largest value.
fn apart(found: &[f64], want: &[f64]) -> f64 {
    error(found, want) / want.iter().fold(0.0f64, |most, x| most.max(x.abs()))
}

#[test]
fn a_decoder_loads_its_projections_in_bf16_and_merges_adapters_into_them() {
    let folder = tempfile::tempdir().unwrap();
    let of = |device: &Device, dtype| Decoder::load(folder.path(), device, dtype).unwrap();
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
    // Weights that bf16 has: those that are loaded are then the same everywhere.
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
    let reference = of(&Device::Cpu, DType::F64);
    let want = hidden(&reference);
    let want_adapted = hidden(&adapted(reference));
    for device in devices("a_decoder_loads_its_projections_in_bf16") {
        let decoder = of(&device, DType::F32);
        assert_eq!(decoder.dtype(), DType::F32);
        for param in decoder.params() {
            let half = param.name().ends_with("_proj.weight");
            let dtype = if half { DType::BF16 } else { DType::F32 };
            assert_eq!(param.value().dtype(), dtype, "{}", param.name());
        }
        let held: usize = decoder.params().iter().map(|p| p.value().len() * p.value().dtype().size()).sum();
        assert_eq!(decoder.config.bytes_on(&device, DType::F32), held as u64);
        // A file in bf16 gives the same bits as one in f32.
        let other = tempfile::tempdir().unwrap();
        decoder.save(other.path()).unwrap();
        assert_eq!(Weights::open(other.path()).unwrap().types(), ["BF16", "F32"]);
        let again = Decoder::load(other.path(), &device, DType::F32).unwrap();
        for (again, first) in again.params().iter().zip(decoder.params()) {
            let [again, first] = [again.value(), first.value()].map(|x| (x.dtype(), x.to_f64_vec().unwrap()));
            assert!(again == first, "{:?}", again.0);
        }
        // Each product rounds its input by up to 2^-9 of its size.
        let off = apart(&hidden(&decoder), &want);
        assert!(off > 1e-5 && off < 8e-3, "{off:e}");
        let merged = adapted(decoder).merged().unwrap();
        assert_eq!(merged.layers[0].q.weight.value().dtype(), DType::BF16);
        let off = apart(&hidden(&merged), &want_adapted);
        assert!(off < 2e-2, "merged: {off:e}");
    }
}

fn trained(env: &Environment) -> Vec<Param> {
    let mut params = env.decoder.lora_params();
    params.extend([env.items.clone(), env.head.clone()]);
    params
}

#[test]
fn a_training_step_through_frozen_bf16_has_the_gradients_of_the_rounded_weights() {
    let config = FitConfig::default();
    let step = |device: &Device, dtype| {
        let mut env = environment_on(device, DecoderConfig::default(), dtype, (3, 2, 1), 1);
        for param in env.decoder.params().iter().filter(|param| param.name().ends_with("_proj.weight")) {
            param.set(to(device, dtype, &rounded(&param.value())));
        }
        env.decoder = env.decoder.as_loaded().unwrap();
        let stored = env.decoder.layers[1].down.weight.value().dtype();
        let works = works(&env, 5);
        let steps: usize = works.iter().map(Work::steps).sum();
        let negatives = (0..steps as u32).map(|s| vec![s % 12, (s * 5 + 3) % 12]).collect();
        let batch =
            FitBatch { works: &works, negatives, shared_negatives: (0..12).collect(), dropout_step: None };
        let losses = losses(&env, &config, &batch).unwrap();
        let grads = backward(&losses.total).unwrap();
        let of = |param: &Param| grads.of_param(param).unwrap().to_f64_vec().unwrap();
        (stored, losses.total.value().item().unwrap(), trained(&env).iter().map(of).collect::<Vec<_>>())
    };
    let (_, want_loss, want) = step(&Device::Cpu, DType::F64);
    for device in devices("a_training_step_through_frozen_bf16") {
        let (stored, loss, found) = step(&device, DType::F32);
        assert_eq!(stored, DType::BF16);
        assert!((loss - want_loss).abs() < 5e-3 * want_loss.abs(), "{loss}, not {want_loss}");
        assert_eq!(found.len(), want.len());
        for (i, (found, want)) in found.iter().zip(&want).enumerate() {
            let off = apart(found, want);
            assert!(off < 3e-2, "gradient of parameter {i} is {off:e} off");
        }
    }
}
