//! Gradients against central finite differences in f64: the test that every op passes.

use super::{Var, apply, backward};
use crate::Result;
use crate::device::{DType, Device};
use crate::ops::{Matmul, Op, Reshape};
use crate::tensor::Tensor;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Step of the differences, and the error allowed relative to 1 + |gradient|.
const STEP: f64 = 1e-5;
const TOLERANCE: f64 = 2e-6;

/// A CPU f64 tensor of `shape`, uniform in ±1, never within 0.05 of 0 (away from the kinks of ReLU and the like).
pub fn random(shape: &[usize], seed: u64) -> Tensor {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let draw = |_| {
        let magnitude: f64 = rng.random_range(0.05..1.0);
        if rng.random_bool(0.5) { magnitude } else { -magnitude }
    };
    let data: Vec<f64> = (0..shape.iter().product()).map(draw).collect();
    Tensor::from_slice(&Device::Cpu, &data, shape).expect("the length fits the shape")
}

/// Checks the gradients of one op with respect to every f64 input; panics with the place where they differ.
pub fn op<O: Op + 'static>(make: impl Fn() -> O, inputs: &[Tensor]) {
    function(|vars| apply(make(), &vars.iter().collect::<Vec<_>>()), inputs);
}

/// Checks the gradients of `f`, of any output shape, with respect to every input. Panics where they differ.
pub fn function(f: impl Fn(&[Var]) -> Result<Var>, inputs: &[Tensor]) {
    assert!(inputs.iter().all(|t| t.dtype() == DType::F64), "gradients are checked in f64");
    let leaves: Vec<Var> = inputs.iter().cloned().map(Var::leaf).collect();
    let loss = project(&f(&leaves).expect("forward"));
    let grads = backward(&loss).expect("backward");
    for (i, input) in inputs.iter().enumerate() {
        let zeros = || Tensor::zeros(&Device::Cpu, DType::F64, input.shape()).expect("zeros");
        let grad = grads.of(&leaves[i]).cloned().unwrap_or_else(zeros);
        assert_eq!(grad.shape(), input.shape(), "shape of the gradient of input {i}");
        let grad = grad.to_f64_vec().expect("f64");
        for (j, &analytic) in grad.iter().enumerate() {
            let at = |delta: f64| loss_at(&f, inputs, (i, j, delta));
            let numeric = (at(STEP) - at(-STEP)) / (2.0 * STEP);
            let error = (analytic - numeric).abs();
            // Written so that NaN fails.
            let close = error <= TOLERANCE * (1.0 + numeric.abs());
            assert!(close, "input {i} element {j}: backward {analytic}, differences {numeric}");
        }
    }
}

fn loss_at(f: &impl Fn(&[Var]) -> Result<Var>, inputs: &[Tensor], (i, j, delta): (usize, usize, f64)) -> f64 {
    let mut moved = inputs.to_vec();
    moved[i].host_mut::<f64>()[j] += delta;
    let vars: Vec<Var> = moved.into_iter().map(Var::constant).collect();
    project(&f(&vars).expect("forward")).value().item().expect("one element")
}

/// A random linear functional of the output, so that every element's gradient counts.
fn project(output: &Var) -> Var {
    let len = output.value().len();
    let flat = apply(Reshape::new(&[1, len]), &[output]).expect("flatten");
    let weights = Var::constant(random(&[len, 1], 77));
    apply(Matmul::default(), &[&flat, &weights]).expect("matmul")
}
