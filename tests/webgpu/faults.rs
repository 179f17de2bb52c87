//! A device that is lost or out of memory ends in an error that says so, and never in a wrong number.

use super::le_fixture::{catalogue, environment_on, works};
use super::{random, skip, to};
use lea::Error;
use lea::autograd::backward;
use lea::data::{NegativeKind, NegativeSampler};
use lea::decoder::DecoderConfig;
use lea::device::webgpu::Gpu;
use lea::device::webgpu::adapter::{self, Pretence};
use lea::device::{DType, Device};
use lea::le::{Environment, FitBatch, FitConfig, LabelBlock, LabelConfig, Labeller, Work, losses};
use lea::nn::{AdamW, AdamWConfig};
use lea::ops::Op;
use lea::tensor::Tensor;
use std::collections::BTreeMap;

/// A device of its own on every adapter.
fn own_devices(test: &str) -> Vec<Gpu> {
    let adapters = adapter::list();
    if adapters.is_empty() {
        skip::skipped(format_args!("{test}: there is no WebGPU adapter"));
    }
    adapters.into_iter().map(|found| adapter::open_tier(found.index, found.tier()).unwrap()).collect()
}

fn twice(x: &Tensor) -> lea::Result<Tensor> {
    lea::ops::add::Add.forward(&[x, x], false)
}

fn expect_lost<T: std::fmt::Debug>(found: lea::Result<T>) {
    match found {
        Err(Error::DeviceLost { .. }) => {}
        other => panic!("expected a lost device, found {other:?}"),
    }
}

#[test]
fn a_lost_device_says_so_for_good_and_its_adapter_opens_again() {
    for found in adapter::list() {
        let open = || adapter::open(Some(&found.index.to_string())).unwrap();
        let gpu = open();
        assert!(gpu == open(), "opened once");
        let device = Device::WebGpu(gpu.clone());
        let x = to(&device, DType::F32, &random(&[300, 7], 1));
        let want = twice(&x).unwrap().to_vec::<f32>().unwrap();
        gpu.lose_after(2);
        twice(&x).unwrap();
        let y = twice(&x).unwrap();
        // What is recorded is lost with it, and nothing after the loss works or panics.
        expect_lost(y.to_vec::<f32>());
        assert!(gpu.is_lost());
        expect_lost(x.to_vec::<f32>());
        expect_lost(twice(&x));
        expect_lost(Tensor::from_slice(&device, &[1f32], &[1]));
        expect_lost(Tensor::zeros(&device, DType::F32, &[1 << 20]));
        expect_lost(device.synchronize());
        let message = device.synchronize().unwrap_err().to_string();
        assert!(message.contains("was lost") && !message.contains("()"), "{message}");

        let again = open();
        assert!(again != gpu && again == open(), "opened again once");
        let device = Device::WebGpu(again);
        let anew = to(&device, DType::F32, &random(&[300, 7], 1));
        assert_eq!(twice(&anew).unwrap().to_vec::<f32>().unwrap(), want);
        let mixed = lea::ops::add::Add.forward(&[&x, &anew], false).unwrap_err();
        assert!(matches!(mixed, Error::Shape { .. }), "{mixed}");
    }
}

fn expect_out_of_memory_for_good<T: std::fmt::Debug>(found: lea::Result<T>) {
    match found {
        Err(error @ Error::DeviceLost { .. }) => {
            let message = error.to_string();
            assert!(message.contains("ran out of memory") && message.contains("--pack-tokens"), "{message}");
        }
        other => panic!("expected a lost device, found {other:?}"),
    }
}

/// `work` of a thread of its own.
fn elsewhere<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| scope.spawn(work).join().unwrap())
}

#[test]
fn a_write_without_memory_is_an_error_to_every_thread_for_good() {
    for gpu in own_devices("a write without memory") {
        let device = Device::WebGpu(gpu.clone());
        let x = to(&device, DType::F32, &random(&[300, 7], 1));
        gpu.fail_write_after(1);
        Tensor::from_slice(&device, &[1f32], &[1]).unwrap();
        expect_out_of_memory_for_good(elsewhere(|| Tensor::from_slice(&device, &[1f32], &[1])));
        // Whichever thread hears of it first, and however often.
        for _ in 0..2 {
            expect_out_of_memory_for_good(twice(&x));
            expect_out_of_memory_for_good(elsewhere(|| device.synchronize()));
            expect_out_of_memory_for_good(x.to_vec::<f32>());
            expect_out_of_memory_for_good(elsewhere(|| Tensor::zeros(&device, DType::F32, &[7])));
        }
        assert!(gpu.is_lost(), "so that its adapter is opened again");
    }
}

#[test]
fn a_recording_without_its_parameters_is_not_handed_over() {
    for gpu in own_devices("a recording without its parameters") {
        let device = Device::WebGpu(gpu.clone());
        let x = to(&device, DType::F32, &random(&[300, 7], 1));
        twice(&x).unwrap().to_vec::<f32>().unwrap();
        let [own, others] = [twice(&x).unwrap(), elsewhere(|| twice(&x)).unwrap()];
        let before = gpu.counters();
        gpu.fail_write_after(0);
        expect_out_of_memory_for_good(elsewhere(|| others.to_vec::<f32>()));
        assert_eq!(gpu.counters().since(before).submits, 0, "{gpu}");
        expect_out_of_memory_for_good(own.to_vec::<f32>());
        expect_out_of_memory_for_good(others.to_vec::<f32>());
    }
}

#[test]
fn a_buffer_that_the_driver_has_no_memory_for_is_its_own_thread_s_error_and_the_device_goes_on() {
    for gpu in own_devices("a refused buffer") {
        let device = Device::WebGpu(gpu.clone());
        let x = to(&device, DType::F32, &random(&[300, 7], 1));
        let want = twice(&x).unwrap().to_vec::<f32>().unwrap();
        let held = gpu.memory_held();
        // One refusal empties the pool, and the next try gets the memory.
        gpu.refuse_buffers(1);
        drop(Tensor::zeros(&device, DType::F32, &[100_000]).unwrap());
        gpu.refuse_buffers(2);
        let error = elsewhere(|| Tensor::zeros(&device, DType::F32, &[900_000])).unwrap_err();
        assert!(matches!(error, Error::DeviceMemory { needed: Some(3_600_000..), .. }), "{error}");
        assert!(error.to_string().contains("the driver has no more"), "{error}");
        let y = twice(&x).unwrap();
        gpu.refuse_buffers(1);
        let error = elsewhere(|| y.to_vec::<f32>()).unwrap_err();
        assert!(matches!(error, Error::DeviceMemory { .. }), "{error}");
        assert!(error.to_string().contains("what the host reads needs 8.40 kB"), "{error}");
        assert_eq!(y.to_vec::<f32>().unwrap(), want);
        assert!(!gpu.is_lost() && gpu.memory_held() <= held + (1 << 20), "{gpu}");
    }
}

#[test]
fn what_is_larger_than_the_adapter_s_memory_is_refused_before_it_is_made() {
    for found in adapter::list() {
        if found.info.backend == wgpu::Backend::Vulkan {
            let bytes = found.memory.unwrap_or_default();
            assert!((100 << 20..1 << 44).contains(&bytes), "{}: {bytes} bytes", found.info.name);
        }
        let small = Pretence { hardware: true, memory: Some(1_000_000), ..Pretence::default() };
        let gpu = adapter::open_as(found.index, found.tier(), small).unwrap();
        let device = Device::WebGpu(gpu.clone());
        let x = Tensor::zeros(&device, DType::F32, &[50_000]).unwrap();
        gpu.expect_room("a decoder", 700_000).unwrap();
        let message = gpu.expect_room("a decoder", 900_000).unwrap_err().to_string();
        assert!(message.contains("a decoder needs 900 kB beside the "), "{message}");
        assert!(message.contains("the adapter has 1.00 MB in all"), "{message}");
        drop(x);
        gpu.expect_room("a decoder", 900_000).unwrap();
        // A limit that was asked for is told before what the driver tells.
        gpu.limit_memory(500_000);
        let message = gpu.expect_room("a decoder", 900_000).unwrap_err().to_string();
        assert!(message.contains("500 kB are allowed"), "{message}");
    }
}

const PROMPT: (usize, usize, usize) = (3, 2, 1);

fn environment(gpu: &Gpu) -> Environment {
    let device = Device::WebGpu(gpu.clone());
    environment_on(&device, DecoderConfig::default(), DType::F32, PROMPT, 1)
}

/// Losses of four training steps; `lose` is called before the first.
fn train(gpu: &Gpu, lose: impl Fn(&Gpu)) -> (Vec<f64>, lea::Result<()>) {
    let env = environment(gpu);
    let works = works(&env, 5);
    let steps: usize = works.iter().map(|work| work.steps()).sum();
    let mut params = env.decoder.lora_params();
    params.extend([env.items.clone(), env.head.clone()]);
    let mut optimiser = AdamW::new(params, AdamWConfig::default()).unwrap();
    let negatives: Vec<Vec<u32>> = (0..steps as u32).map(|s| vec![s % 12, (s * 5 + 3) % 12]).collect();
    let mut found = Vec::new();
    lose(gpu);
    let mut step = || {
        for _ in 0..4 {
            let (negatives, shared_negatives) = (negatives.clone(), (0..12).collect());
            let batch = FitBatch { works: &works, negatives, shared_negatives, dropout_step: None };
            let losses = losses(&env, &FitConfig::default(), &batch)?;
            optimiser.step(backward(&losses.total)?, 1.0)?;
            found.push(losses.total.value().item()?);
        }
        Ok(())
    };
    let ended = step();
    (found, ended)
}

#[test]
fn a_training_step_that_loses_the_device_gives_no_wrong_loss() {
    for gpu in own_devices("a training step that loses the device") {
        let before = gpu.counters().dispatches;
        let (whole, ended) = train(&gpu, |_| ());
        ended.unwrap();
        let launches = gpu.counters().dispatches - before;
        let index = gpu.description().index;
        for part in [0, 1, 3, 5, 7] {
            let gpu = adapter::open_tier(index, gpu.tier().unwrap()).unwrap();
            let (losses, ended) = train(&gpu, |gpu| gpu.lose_after(launches * part / 8));
            expect_lost(ended);
            assert!(losses[..] == whole[..losses.len()] && losses.len() < 4, "{losses:?}, not {whole:?}");
        }
    }
}

/// Actions, and bits of rewards and states, of every step (user, t).
type Rows = BTreeMap<(u32, u32), (Vec<u32>, Vec<u32>)>;

/// The labels of five users, and how many packs were begun.
fn label(gpu: &Gpu, limit: Option<u64>) -> lea::Result<(Rows, usize)> {
    let env = environment(gpu);
    let config = LabelConfig {
        pack_tokens: 4096,
        negatives: 2,
        candidates: 5,
        augmented_states: true,
        ..LabelConfig::default()
    };
    let negatives = NegativeSampler::new(NegativeKind::Uniform, &vec![1; catalogue()], 3);
    let met = |_: u32| Ok(Vec::new());
    let labeller = Labeller::new(&env, &config, 0.1, negatives, &met)?;
    limit.into_iter().for_each(|bytes| gpu.limit_memory(bytes));
    let (mut labels, mut packs) = (BTreeMap::new(), 0);
    let mut begin = |_: &[Work]| {
        packs += 1;
        Ok(())
    };
    let mut sink = |block: &LabelBlock| {
        for row in 0..block.rows() {
            let bits = |column: &[f32]| {
                let width = column.len() / block.rows();
                column[row * width..(row + 1) * width].iter().map(|v| v.to_bits()).collect::<Vec<_>>()
            };
            let floats = [
                &block.reward,
                &block.state,
                &block.negative_rewards,
                &block.augmented_reward,
                &block.augmented_state,
            ];
            let actions = vec![block.action[row], block.augmented_action[row]];
            let step = (block.user[row], block.t[row]);
            assert!(labels.last_key_value().is_none_or(|(last, _)| *last < step), "{step:?} comes again");
            labels.insert(step, (actions, floats.into_iter().flat_map(|column| bits(column)).collect()));
        }
        Ok(())
    };
    labeller.label_all(works(&env, 5).into_iter(), &|_| Ok(Vec::new()), &mut begin, &mut sink)?;
    Ok((labels, packs))
}

#[test]
fn labels_have_the_same_bits_when_packs_shrink_to_the_memory_there_is() {
    for gpu in own_devices("packs shrink to the memory there is") {
        let (whole, packs) = label(&gpu, None).unwrap();
        assert_eq!((whole.len(), packs), (30, 1));
        let (index, tier) = (gpu.description().index, gpu.tier().unwrap());
        let weights = {
            let gpu = adapter::open_tier(index, tier).unwrap();
            let _env = environment(&gpu);
            gpu.memory_held()
        };
        let rest = gpu.memory_held() - weights;
        let mut most = packs;
        for tenths in [9, 5, 3, 2, 1] {
            let gpu = adapter::open_tier(index, tier).unwrap();
            let limit = weights + rest * tenths / 10;
            match label(&gpu, Some(limit)) {
                Ok((labels, packs)) => {
                    assert!(labels == whole, "{gpu} with {limit} bytes");
                    assert!(gpu.memory_held() <= limit);
                    most = most.max(packs);
                }
                Err(error @ Error::DeviceMemory { .. }) => {
                    assert!(error.to_string().contains("no pack is small enough"), "{error}");
                    assert!(most > 2, "{gpu}: packs never shrank before {limit} bytes were too few");
                }
                Err(error) => panic!("{error}"),
            }
        }
        assert!(most > 2, "{gpu}: packs never shrank");
    }
}

#[test]
fn labels_have_the_same_bits_when_packs_shrink_to_a_binding() {
    for gpu in own_devices("packs shrink to a binding") {
        let (whole, _) = label(&gpu, None).unwrap();
        let (index, tier) = (gpu.description().index, gpu.tier().unwrap());
        let mut most = 0;
        for bytes in [1 << 14, 1 << 13] {
            let pretence = adapter::Pretence { binding_bytes: Some(bytes), ..Default::default() };
            let gpu = adapter::open_as(index, tier, pretence).unwrap();
            let (labels, packs) = label(&gpu, None).unwrap();
            assert!(labels == whole, "{gpu} with bindings of {bytes} bytes");
            most = most.max(packs);
        }
        assert!(most > 1, "{gpu}: packs never shrank");
    }
}

#[test]
fn what_a_limit_does_not_allow_is_an_error_that_tells_needed_and_allowed() {
    for gpu in own_devices("a limit of memory") {
        gpu.limit_memory(10_000_000);
        let device = Device::WebGpu(gpu.clone());
        let kept = Tensor::zeros(&device, DType::F32, &[1_000_000]).unwrap();
        let message = match Tensor::zeros(&device, DType::F32, &[2_000_000]) {
            Err(
                error @ Error::DeviceMemory {
                    needed: Some(8_000_000..9_000_000),
                    limit: Some(10_000_000),
                    ..
                },
            ) => error.to_string(),
            other => panic!("{other:?}"),
        };
        assert!(message.contains("beside the 4.") && message.contains("10.0 MB are allowed"), "{message}");
        // Less still fits, also in the room of what waits for reuse.
        drop(Tensor::zeros(&device, DType::F32, &[1_200_000]).unwrap());
        let other = Tensor::from_slice(&device, &vec![1f32; 100_000], &[100_000]).unwrap();
        drop(Tensor::zeros(&device, DType::F32, &[1_250_000]).unwrap());
        assert_eq!(kept.to_vec::<f32>().unwrap(), vec![0.0; 1_000_000]);
        assert_eq!(other.to_vec::<f32>().unwrap(), vec![1.0; 100_000]);
        assert!(gpu.memory_held() <= 10_000_000);
        let beyond = gpu.description().limits.max_buffer_size / 4 + 1;
        let error = Tensor::zeros(&device, DType::F32, &[beyond as usize]).unwrap_err();
        assert!(error.to_string().contains("one has at most"), "{error}");
    }
}
