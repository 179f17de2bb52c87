//! How often the host waits for the GPU. Each test has a device of its own, whose counter counts it alone.

use super::devices;
use super::ops::optimiser::expect_training;
use lea::device::{Device, cuda};

#[test]
fn training_gives_the_losses_of_the_cpu_and_waits_in_one_step_of_sixteen() {
    for device in devices("training_waits_seldom") {
        let Device::Cuda(shared) = &device else { panic!("{device} is no GPU") };
        // With the pool of a program, where memory is used again at once.
        let own = cuda::Cuda::open(shared.description().clone(), false, None).unwrap();
        expect_training(&Device::Cuda(own.clone()), || own.read_backs());
    }
}
