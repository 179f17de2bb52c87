//! How often the host waits for the GPU, and what an update asks of it. Each test has a device of its own, whose counter counts it alone.

use super::devices;
use super::ops::optimiser::expect_training;
use super::parity::{random, to};
use lea::device::profile::record;
use lea::device::{DType, Device, cuda};
use lea::ops::adamw::{AdamWStep, AdamWUpdate, adamw_steps};
use lea::ops::clip_norm::clip_norm;
use lea::tensor::Tensor;

#[test]
fn training_gives_the_losses_of_the_cpu_and_waits_in_one_step_of_sixteen() {
    for device in devices("training_waits_seldom") {
        let Device::Cuda(shared) = &device else { panic!("{device} is no GPU") };
        // With the pool of a program, where memory is used again at once.
        let own = cuda::Cuda::open(shared.description().clone(), false, None).unwrap();
        expect_training(&Device::Cuda(own.clone()), || own.read_backs());
    }
}

/// 39 tensors are those of a SASRec of two blocks: an update of each alone would be as many launches, and as many norms.
#[test]
fn an_update_of_many_tensors_takes_four_launches() {
    for device in devices("launches of an update") {
        let of = |seed| -> Vec<Tensor> {
            (0..39).map(|i| to(&device, DType::F32, &random(&[1 + 130 * i], seed + i as u64))).collect()
        };
        let (mut params, mut m, mut v, grads) = (of(1), of(100), of(200), of(300));
        let step = AdamWStep { lr: 0.1, beta1: 0.9, beta2: 0.99, eps: 1e-8, weight_decay: 0.0, step: 1 };
        let ((), recorded) = record(&device, || {
            let clip = clip_norm(&grads.iter().collect::<Vec<_>>(), Some(1.0))?;
            let tensors = params.iter_mut().zip(&mut m).zip(&mut v).zip(&grads);
            let mut updates: Vec<AdamWUpdate> =
                tensors.map(|(((param, m), v), grad)| AdamWUpdate { param, m, v, grad, step }).collect();
            adamw_steps(&mut updates, clip.scale().expect("its factor is on the device"))
        })
        .unwrap();
        let mut found: Vec<&str> = recorded.launches.iter().map(|launch| &*launch.kernel).collect();
        found.sort();
        let wanted =
            ["lea_adamw_step", "lea_clip_norm", "lea_reduce_squares", "lea_reduce_squares_of_tensors"];
        assert_eq!(found, wanted, "{device}");
    }
}
