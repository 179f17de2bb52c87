//! The optimiser's update, clipping, and what a training step waits for.

use super::{devices, expect_near, random, to};
use lea::device::{DType, Device};
use lea::ops::adamw::{AdamWStep, AdamWUpdate, adamw_step, adamw_steps, squared_norm, squared_norms};
use lea::ops::clip_norm::{GradScale, clip_norm};
use lea::ops::{read_together, td_targets};
use lea::rec::{EncoderKind, Feed, Framework, Learners, RecConfig, StepLosses, UserSteps};
use lea::tensor::Tensor;

/// Lengths around those of workgroups and blocks.
const LENGTHS: [usize; 6] = [0, 1, 63, 65, 4097, 9_999];

/// Three updates of `len` elements, and the moments: with gradients scaled by a number, or by one on the device.
fn updated(device: &Device, dtype: DType, len: usize, scale: f64, on_device: bool) -> [Tensor; 3] {
    let step =
        |number| AdamWStep { lr: 0.1, beta1: 0.9, beta2: 0.99, eps: 1e-8, weight_decay: 0.3, step: number };
    let there = Tensor::from_f64(device, dtype, &[scale, 7.0], &[2]).unwrap();
    let scale = if on_device { GradScale::Device(&there) } else { GradScale::Host(scale) };
    let zeros = || Tensor::zeros(device, dtype, &[len]).unwrap();
    let mut param = to(device, dtype, &random(&[len], 1));
    let (mut m, mut v) = (zeros(), zeros());
    for number in 1..4 {
        let grad = to(device, dtype, &random(&[len], 10 + number));
        adamw_step(&mut param, &mut m, &mut v, &grad, &step(number), scale).unwrap();
    }
    [param, m, v]
}

#[test]
fn adamw() {
    for len in LENGTHS {
        let on = |device: &Device, dtype, on_device| updated(device, dtype, len, 0.5, on_device);
        let want = on(&Device::Cpu, DType::F64, false);
        for on_device in [false, true] {
            let plain = on(&Device::Cpu, DType::F32, on_device);
            for device in devices("adamw") {
                let found = on(&device, DType::F32, on_device);
                for ((found, plain), want) in found.iter().zip(&plain).zip(&want) {
                    expect_near(&format!("adamw of {len} on {device}"), found, plain, want);
                }
            }
        }
    }
}

/// Parameters, moments and gradients of several tensors, each with its learning rate and weight decay.
struct Tensors {
    tensors: Vec<[Tensor; 4]>,
    steps: Vec<AdamWStep>,
}

impl Tensors {
    /// More than a launch takes, short and long ones in turn.
    fn new(device: &Device) -> Self {
        let lengths = [1, 1025, 0, 64, 3_000, 1024, 7, 0];
        let of = |i: usize| {
            let len = lengths[i % lengths.len()];
            [1, 2, 3, 4].map(|which| {
                let x = random(&[len], 10 * i as u64 + which);
                // A second moment is a square.
                let x = if which == 3 {
                    x.to_f64_vec().unwrap().iter().map(|x| x * x).collect()
                } else {
                    x.to_f64_vec().unwrap()
                };
                Tensor::from_f64(device, DType::F32, &x, &[len]).unwrap()
            })
        };
        let step = |i: usize| AdamWStep {
            lr: 0.1 / (1 + i % 3) as f64,
            beta1: 0.9,
            beta2: 0.99,
            eps: 1e-8,
            weight_decay: 0.3 * (i % 2) as f64,
            step: 2,
        };
        Tensors { tensors: (0..150).map(of).collect(), steps: (0..150).map(step).collect() }
    }

    fn updates(&mut self) -> Vec<AdamWUpdate<'_>> {
        let all = self.tensors.iter_mut().zip(&self.steps);
        all.map(|([param, m, v, grad], &step)| AdamWUpdate { param, m, v, grad, step }).collect()
    }

    fn bits(&self) -> Vec<Vec<u32>> {
        let bits = |x: &Tensor| x.to_vec::<f32>().unwrap().iter().map(|x| x.to_bits()).collect();
        self.tensors.iter().flat_map(|of| of[..3].iter().map(bits)).collect()
    }
}

#[test]
fn updates_of_many_tensors_together_have_the_bits_of_each_alone() {
    for device in [Device::Cpu].into_iter().chain(devices("adamw of many tensors")) {
        let scale = Tensor::from_f64(&device, DType::F32, &[0.5], &[1]).unwrap();
        let (mut alone, mut together) = (Tensors::new(&device), Tensors::new(&device));
        let before = together.bits();
        for AdamWUpdate { param, m, v, grad, step } in alone.updates() {
            adamw_step(param, m, v, grad, &step, GradScale::Device(&scale)).unwrap();
        }
        adamw_steps(&mut together.updates(), GradScale::Device(&scale)).unwrap();
        for (i, ((found, want), before)) in together.bits().iter().zip(&alone.bits()).zip(&before).enumerate()
        {
            assert_eq!(found, want, "tensor {i} on {device}");
            assert!(
                found.iter().zip(before).all(|(found, before)| found != before),
                "tensor {i} on {device}"
            );
        }
        together.steps[3].beta1 = 0.8;
        let error = adamw_steps(&mut together.updates(), GradScale::Host(1.0)).unwrap_err().to_string();
        assert!(error.contains("different constants"), "{error}");
    }
}

#[test]
fn a_negative_scale_updates_nothing() {
    let want = random(&[65], 1).to_f64_vec().unwrap();
    for device in [Device::Cpu].into_iter().chain(devices("adamw of a negative scale")) {
        let [param, m, v] = updated(&device, DType::F32, 65, -1.0, true).map(|x| x.to_f64_vec().unwrap());
        assert_eq!(param, want, "{device}");
        assert!(m.iter().chain(&v).all(|&x| x == 0.0), "{device}");
    }
}

#[test]
fn squared_norms_are_those_of_the_host() {
    let tensors: Vec<Tensor> = LENGTHS.iter().map(|&len| random(&[len], 1)).collect();
    for device in devices("squared_norms") {
        let there: Vec<Tensor> = tensors.iter().map(|x| to(&device, DType::F32, x)).collect();
        let found = squared_norms(&there.iter().collect::<Vec<_>>()).unwrap();
        for (x, found) in tensors.iter().zip(&found) {
            let want = squared_norm(x).unwrap();
            assert!((found - want).abs() <= 1e-6 * want, "{found}, not {want}, on {device}");
        }
    }
}

#[test]
fn norms_and_their_factors_are_those_of_the_host() {
    // More tensors than a block has threads.
    let mut tensors: Vec<Tensor> = LENGTHS.iter().map(|&len| random(&[len], 1)).collect();
    tensors.extend((0..300).map(|i| random(&[3], i)));
    for device in devices("clip_norm") {
        let there: Vec<Tensor> = tensors.iter().map(|x| to(&device, DType::F32, x)).collect();
        for limit in [None, Some(0.25), Some(1e6)] {
            let of = |x: &[Tensor]| clip_norm(&x.iter().collect::<Vec<_>>(), limit).unwrap().read().unwrap();
            let (found, want) = (of(&there), of(&tensors));
            let near = |found: f64, want: f64| (found - want).abs() <= 1e-6 * want;
            assert!(near(found.norm, want.norm), "{found:?} and {want:?} on {device}");
            assert!(near(found.factor.unwrap(), want.factor.unwrap()), "{found:?}, {want:?} on {device}");
        }
    }
}

#[test]
fn a_norm_that_is_no_finite_number_has_no_factor_and_names_its_tensor() {
    for device in devices("clip_norm of what is not finite") {
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let tensor = |x: &[f32]| Tensor::from_slice(&device, x, &[x.len()]).unwrap();
            let (good, bad) = (tensor(&[1.0, 2.0]), tensor(&[1.0, bad, 3.0]));
            let norm = clip_norm(&[&good, &bad], Some(1.0)).unwrap().read().unwrap();
            assert!(norm.factor.is_none() && !norm.norm.is_finite(), "{norm:?} on {device}");
            assert!(norm.squares[0] == 5.0 && !norm.squares[1].is_finite(), "{norm:?} on {device}");
        }
    }
}

#[test]
fn targets() {
    for (len, count) in [(0, 3), (1, 1), (65, 7), (9_999, 512)] {
        let rewards = random(&[len], 1).to_f64_vec().unwrap();
        let source = |i: usize| if i.is_multiple_of(5) { u32::MAX } else { (i * 577 % count) as u32 };
        let sources: Vec<u32> = (0..len).map(source).collect();
        let on = |device: &Device, dtype| {
            td_targets(&rewards, &sources, &to(device, dtype, &random(&[count], 2)), 0.7).unwrap()
        };
        let (want, plain) = (on(&Device::Cpu, DType::F64), on(&Device::Cpu, DType::F32));
        for device in devices("td_targets") {
            expect_near(&format!("{len} targets on {device}"), &on(&device, DType::F32), &plain, &want);
        }
    }
}

#[test]
fn what_is_read_together_is_what_each_holds() {
    let tensors: Vec<Tensor> = [2, 1, 0, 70].iter().map(|&len| random(&[len], len as u64)).collect();
    for device in devices("read_together") {
        let there: Vec<Tensor> = tensors.iter().map(|x| to(&device, DType::F32, x)).collect();
        let found = read_together(&there.iter().collect::<Vec<_>>()).unwrap();
        let want: Vec<Vec<f64>> = tensors.iter().map(|x| x.to_f64_vec().unwrap()).collect();
        assert_eq!(found, want, "{device}");
    }
}

/// Losses of 18 steps of a small recommender; `after` is told of every step, from 1.
fn train(
    device: &Device,
    (encoder, framework): (EncoderKind, Framework),
    mut after: impl FnMut(usize),
) -> Vec<StepLosses> {
    let items = 40;
    let config = RecConfig { encoder, framework, width: 8, heads: 2, history: 6, ..RecConfig::default() };
    let item = |user: usize, t: usize| ((user * 7 + t * t * 3) % items) as u32;
    let user = |user: usize| UserSteps {
        user: user as u32,
        items: (0..4 + user).map(|t| item(user, t)).collect(),
        rewards: vec![0.2; 3 + user],
    };
    let users: Vec<UserSteps> = (0..6).map(user).collect();
    let feed = Feed::new(&config, &users, items, None).unwrap();
    let mut learners = Learners::new(&config, items, 0, device).unwrap();
    for step in 0..18 {
        learners.step(&feed.step(&[step % 3, 3 + step % 2, 5], step as u32).unwrap()).unwrap();
        after(step + 1);
    }
    learners.losses().unwrap()
}

/// Training on `device` gives the losses of the CPU, and waits for the device (so often, as `read_backs` tells) in every 16th
/// step alone: for its losses and norms and those of all before it.
pub fn expect_training(device: &Device, read_backs: impl Fn() -> u64) {
    for of in [(EncoderKind::SasRec, Framework::Snqn), (EncoderKind::Gru4Rec, Framework::Sqn)] {
        let before = read_backs();
        let found = train(device, of, |step| {
            let waits = if step >= 16 { 2 } else { 0 };
            assert_eq!(read_backs() - before, waits, "after step {step} of {of:?} on {device}");
        });
        let want = train(&Device::Cpu, of, |_| ());
        assert_eq!((found.len(), want.len()), (18, 18));
        for (step, (found, want)) in found.iter().zip(&want).enumerate() {
            let near = |found: f64, want: f64| (found - want).abs() <= 1e-3 * want.abs();
            let fits = near(found.loss, want.loss)
                && near(found.supervised, want.supervised)
                && near(found.q, want.q);
            assert!(fits, "step {step} of {of:?} on {device}: {found:?}, not {want:?}");
        }
    }
}
