//! Parity of a device's ops with references on the host.
//!
//! A kernel is right when its error against the f64 reference is at most twice that of the plain implementation in f32,
//! the CPU's; a few units in the last place of the largest value are added, since the CPU's error can be 0 by luck, and since it
//! fuses multiplication and addition where some adapters round twice. Where the exact result is 0 everywhere (a norm of one
//! element), terms of the inputs' size, 1, cancel: eight units in the last place of that may be left.

use lea::device::{DType, Device};
use lea::ops::{Op, Saved};
use lea::tensor::Tensor;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Uniform in [−1, 1).
pub fn random(shape: &[usize], seed: u64) -> Tensor {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let data: Vec<f64> = (0..shape.iter().product()).map(|_| rng.random_range(-1.0..1.0)).collect();
    // Rounded to f32 first, so that all devices get the same numbers.
    let data: Vec<f64> = data.into_iter().map(|x| f64::from(x as f32)).collect();
    Tensor::from_f64(&Device::Cpu, DType::F64, &data, shape).unwrap()
}
pub fn to(device: &Device, dtype: DType, x: &Tensor) -> Tensor {
    Tensor::from_f64(device, dtype, &x.to_f64_vec().unwrap(), x.shape()).unwrap()
}

/// Largest difference; anything that is not a number is infinitely wrong.
pub fn error(found: &[f64], want: &[f64]) -> f64 {
    assert_eq!(found.len(), want.len());
    let differences = found.iter().zip(want).map(|(f, w)| (f - w).abs());
    differences.fold(0.0, |most: f64, d| if d.is_nan() { f64::INFINITY } else { most.max(d) })
}

/// An error unless `found` is as near to `want` as the rule says, `plain` being the f32 result of the CPU.
pub fn expect_near(what: &str, found: &Tensor, plain: &Tensor, want: &Tensor) {
    assert_eq!(found.shape(), want.shape(), "{what}");
    let [found, plain, want] = [found, plain, want].map(|t| t.to_f64_vec().unwrap());
    let largest = want.iter().fold(0.0f64, |most, x| most.max(x.abs()));
    let unit = f64::from(f32::EPSILON);
    let cancelled = if largest == 0.0 { 8.0 * unit } else { 0.0 };
    let allowed = 2.0 * error(&plain, &want) + 8.0 * unit * largest + cancelled;
    let error = error(&found, &want);
    assert!(error <= allowed, "{what}: error {error:e}, allowed {allowed:e}");
}

/// Output and gradients of one op for a random gradient of its output.
pub fn run(op: &mut dyn Op, inputs: &[Tensor], needs: &[bool]) -> (Tensor, Vec<Option<Tensor>>) {
    let refs: Vec<&Tensor> = inputs.iter().collect();
    let y = op.forward(&refs, true).unwrap();
    let grad = to(y.device(), y.dtype(), &random(y.shape(), 99));
    let kept: Vec<Option<Tensor>> = inputs.iter().cloned().map(Some).collect();
    let grads = op.backward(&Saved::new(&kept, Some(&y), needs), &grad).unwrap();
    (y, grads)
}

/// The same on `devices`.
pub fn parity_on<O: Op>(devices: &[Device], test: &str, make: impl Fn(&Device) -> O, inputs: &[Tensor]) {
    let needs = vec![true; inputs.len()];
    let on = |device: &Device, dtype| {
        let inputs: Vec<Tensor> = inputs.iter().map(|x| to(device, dtype, x)).collect();
        run(&mut make(device), &inputs, &needs)
    };
    let (want, want_grads) = on(&Device::Cpu, DType::F64);
    let (plain, plain_grads) = on(&Device::Cpu, DType::F32);
    for device in devices {
        let (found, grads) = on(device, DType::F32);
        let place = format!("{test} on {} with {:?}", device.describe(), inputs);
        expect_near(&format!("{place}: output"), &found, &plain, &want);
        assert_eq!(grads.len(), want_grads.len(), "{place}");
        for (i, ((found, plain), want)) in grads.iter().zip(&plain_grads).zip(&want_grads).enumerate() {
            match (found, plain, want) {
                (Some(found), Some(plain), Some(want)) => {
                    expect_near(&format!("{place}: gradient {i}"), found, plain, want);
                }
                (None, None, None) => {}
                _ => panic!("{place}: gradient {i} is there on one device only"),
            }
        }
    }
}
