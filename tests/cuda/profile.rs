//! Times of launches by events in the stream.

use super::devices;
use super::le_fixture::{environment_on, works};
use super::parity::{random, to};
use lea::decoder::DecoderConfig;
use lea::device::profile::{Profile, record};
use lea::device::{DType, Device};
use lea::le::score::rewards;
use lea::le::trunk::Trunks;
use lea::ops::matmul::matmul;

/// A profile of labelling, and the layers of its decoder.
fn label(device: &Device) -> (Profile, usize) {
    let env = environment_on(device, DecoderConfig::default(), DType::F32, (3, 2, 1), 1);
    let works = works(&env, 3);
    let actions: Vec<(usize, u32)> = (0..6).map(|i| (0, i)).collect();
    let run = || rewards(&env, &Trunks::run(&env, &works)?, &actions, 64);
    let plain = run().unwrap();
    let (timed, profile) = record(device, run).unwrap();
    assert!(timed == plain, "a profile changed the rewards");
    (profile, env.decoder.layers.len())
}

#[test]
fn every_launch_is_timed_and_belongs_to_a_stage_and_a_layer() {
    for device in devices("profile") {
        let (profile, layers) = label(&device);
        let mut end = 0.0;
        for launch in &profile.launches {
            assert!(launch.kernel.starts_with("lea_"), "{launch:?}");
            assert!(launch.seconds > 0.0 && launch.start >= end, "{launch:?} after {end}");
            end = launch.start + launch.seconds;
        }
        assert!(end <= profile.seconds, "{end} of {}", profile.seconds);
        let chain = |index: Option<usize>| {
            let parents = std::iter::successors(index, |&i| profile.ranges[i].parent);
            parents.map(|i| profile.ranges[i].name.as_str()).collect::<Vec<_>>()
        };
        let of_attention: Vec<Vec<&str>> = profile
            .launches
            .iter()
            .filter(|launch| launch.kernel.contains("forest_attention"))
            .map(|launch| chain(launch.range))
            .collect();
        for stage in ["trunks", "leaves"] {
            for layer in 0..layers {
                let chain = ["forest_attention", &format!("layer {layer}"), stage];
                assert!(of_attention.iter().any(|found| *found == chain), "{chain:?}: {of_attention:?}");
            }
        }
    }
}

#[test]
fn a_products_kernel_has_its_work_and_nothing_is_noted_afterwards() {
    for device in devices("profile_work") {
        let [a, b] = [[33, 20], [20, 17]].map(|shape| to(&device, DType::F32, &random(&shape, 1)));
        let (_, profile) = record(&device, || matmul(&a, &b, false, false)).unwrap();
        let kernels = profile.kernels();
        assert_eq!(kernels.len(), 1);
        assert_eq!((kernels[0].calls, kernels[0].work.flops), (1, (2 * 33 * 20 * 17) as f64));
        matmul(&a, &b, false, false).unwrap();
        assert!(record(&device, || Ok(())).unwrap().1.launches.is_empty());
        let Device::Cuda(cuda) = &device else { panic!("{device} is not CUDA") };
        assert!(cuda.seconds(|| matmul(&a, &b, false, false)).unwrap().1 > 0.0);
    }
}
