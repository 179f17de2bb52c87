//! NVIDIA's products in place of ours: the same results up to rounding, with every epilogue.

use super::activations::{expect_same, halves};
use super::adapters;
use super::cuda_host;
use super::halves::{SHAPES, frozen, whole};
use super::ops::products::stored;
use super::parity::{random, to};
use super::skip;
use lea::device::cuda::{self, Cuda, Gemm};
use lea::device::{DType, Device};
use lea::ops::matmul::{matmul, matmul_accumulate};
use lea::ops::{GatedLinear, Linear, Op, SwiGlu};

/// A device that was told to use cuBLASLt, or none with a reason told.
fn device(test: &str) -> Option<Device> {
    let opened = || -> Result<Device, String> {
        cuda_host::load()?;
        cuda_host::load_cublaslt()?;
        let first = cuda::list()?.into_iter().next().ok_or("there is no device")?;
        let cuda = Cuda::open(first, true, None).map_err(|e| e.to_string())?;
        cuda.set_gemm(Gemm::CublasLt).map_err(|e| e.to_string())?;
        Ok(Device::Cuda(cuda))
    };
    opened().map_err(|why| skip::skipped(format_args!("{test}: {why}"))).ok()
}

#[test]
fn products_with_every_epilogue_are_exact_in_small_whole_numbers() {
    let Some(device) = device("products by cuBLASLt") else { return };
    assert!(device.describe().contains("cuBLASLt"), "{}", device.describe());
    for (extents, transposed) in SHAPES {
        let [m, n, _] = extents;
        let [a, b] = stored(extents, [false, transposed]);
        let (a, b, start, bias) = (whole(&a, 1), whole(&b, 2), whole(&[m, n], 3), whole(&[n], 4));
        let [x, w] = [to(&device, DType::F32, &a), frozen(&device, &b)];
        let want = matmul(&a, &b, false, transposed).unwrap();
        let found = matmul(&x, &w, false, transposed).unwrap();
        assert!(found.to_f64_vec().unwrap() == want.to_f64_vec().unwrap(), "{extents:?}");

        let (mut want, mut found) = (start.clone(), to(&device, DType::F32, &start));
        matmul_accumulate(&a, &b, false, transposed, &mut want).unwrap();
        matmul_accumulate(&x, &w, false, transposed, &mut found).unwrap();
        assert!(found.to_f64_vec().unwrap() == want.to_f64_vec().unwrap(), "{extents:?}, accumulated");
        if !transposed {
            continue;
        }
        for (with_bias, residual) in [(true, false), (false, true), (true, true)] {
            let mut linear = Linear { bias: with_bias, residual, giving: None };
            let [on_host, on_device] = [
                (&a, &b, &bias, &start),
                (&x, &w, &to(&device, DType::F32, &bias), &to(&device, DType::F32, &start)),
            ]
            .map(|(x, w, bias, start)| {
                let mut inputs = vec![x, w];
                inputs.extend(with_bias.then_some(bias));
                inputs.extend(residual.then_some(start));
                linear.forward(&inputs, false).unwrap().to_f64_vec().unwrap()
            });
            assert!(on_host == on_device, "{extents:?}, bias {with_bias}, residual {residual}");
        }
    }
}

#[test]
fn gates_and_results_in_bf16_have_the_bits_of_its_sums_rounded() {
    let Some(device) = device("gates by cuBLASLt") else { return };
    for ([m, n, k], _) in SHAPES.into_iter().filter(|&(_, transposed)| transposed) {
        let x = to(&device, DType::F32, &random(&[m, k], 1));
        let (half, gate, up) =
            (halves(&x), frozen(&device, &random(&[n, k], 2)), frozen(&device, &random(&[n, k], 3)));
        let [g, u] = [&gate, &up].map(|w| matmul(&x, w, false, true).unwrap());
        let want = halves(&SwiGlu.forward(&[&g, &u], false).unwrap());
        expect_same("a gated layer", &GatedLinear.forward(&[&half, &gate, &up], false).unwrap(), &want);
        let [bias, residual] = [&[n][..], &[m, n]].map(|shape| to(&device, DType::F32, &whole(shape, 4)));
        for (with_bias, with_residual) in [(false, false), (true, true)] {
            let mut inputs = vec![&half, &up];
            inputs.extend(with_bias.then_some(&bias));
            inputs.extend(with_residual.then_some(&residual));
            let mut linear = Linear { bias: with_bias, residual: with_residual, giving: Some(DType::BF16) };
            let found = linear.forward(&inputs, false).unwrap();
            assert_eq!(found.dtype(), DType::BF16);
            // With terms it is our kernel that multiplies, whose sums may differ in the last bit.
            if !with_bias {
                expect_same("a linear layer", &found, &halves(&u));
            }
        }
    }
}

#[test]
fn adapted_layers_of_whole_numbers_are_exact() {
    let Some(device) = device("adapted layers by cuBLASLt") else { return };
    adapters::SHAPES.into_iter().for_each(|shape| adapters::expect_exact(&device, shape));
}

#[test]
fn a_device_goes_back_to_its_own_products() {
    let Some(device) = device("back from cuBLASLt") else { return };
    let Device::Cuda(cuda) = &device else { panic!("{device}") };
    cuda.set_gemm(Gemm::Lea).unwrap();
    assert!(!device.describe().contains("cuBLASLt"), "{}", device.describe());
    let (a, b) = (whole(&[33, 40], 1), whole(&[24, 40], 2));
    let found = matmul(&to(&device, DType::F32, &a), &frozen(&device, &b), false, true).unwrap();
    assert!(found.to_f64_vec().unwrap() == matmul(&a, &b, false, true).unwrap().to_f64_vec().unwrap());
}
