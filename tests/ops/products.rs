//! Products of matrices.

use super::{devices, expect_near, limited_devices, parity, parity_on, random, to};
use lea::device::{DType, Device};
use lea::ops::matmul::{matmul, matmul_accumulate};
use lea::ops::{AdaptedLinear, GatedLinear, Linear, Matmul, Op, SwiGlu};
use lea::tensor::Tensor;

#[test]
fn matmul_in_all_layouts() {
    for (m, n, k) in [
        (1, 1, 1),
        (3, 5, 2),
        (8, 32, 16),
        (65, 67, 33),
        (130, 70, 129),
        (2, 200, 300),
        (36, 44, 520),
        (20, 33, 64),
    ] {
        for (transpose_a, transpose_b) in [(false, false), (false, true), (true, false), (true, true)] {
            let a = random(&if transpose_a { [k, m] } else { [m, k] }, 1);
            let b = random(&if transpose_b { [n, k] } else { [k, n] }, 2);
            parity("matmul", |_| Matmul { transpose_a, transpose_b }, &[a, b]);
        }
    }
}

#[test]
fn linear_with_bias_and_residual() {
    for (rows, width, out) in [(1, 1, 1), (7, 33, 65), (70, 48, 31), (20, 64, 36), (140, 40, 130)] {
        let (x, w) = (random(&[rows, width], 1), random(&[out, width], 2));
        let (bias, residual) = (random(&[out], 3), random(&[rows, out], 4));
        parity("linear", |_| Linear::default(), &[x.clone(), w.clone()]);
        let with = |bias, residual| move |_: &lea::device::Device| Linear { bias, residual, giving: None };
        parity("linear", with(false, true), &[x.clone(), w.clone(), residual.clone()]);
        parity("linear", with(true, false), &[x.clone(), w.clone(), bias.clone()]);
        parity("linear", with(true, true), &[x, w, bias, residual]);
    }
}

#[test]
fn linear_with_an_adapter() {
    for [rows, width, out, rank] in [[1, 1, 1, 1], [7, 33, 65, 2], [70, 48, 31, 9], [20, 64, 36, 4]] {
        let [x, w] = [random(&[rows, width], 1), random(&[out, width], 2)];
        let [a, b] = [random(&[rank, width], 3), random(&[out, rank], 4)];
        let (bias, residual, apart) = (random(&[out], 5), random(&[rows, out], 6), random(&[rows, width], 7));
        parity("adapted_linear", |_| AdaptedLinear::new(2.0), &[x.clone(), w.clone(), a.clone(), b.clone()]);
        let all = |_: &Device| {
            let mut layer = AdaptedLinear::new(0.75);
            (layer.bias, layer.residual, layer.apart) = (true, true, true);
            layer
        };
        parity("adapted_linear", all, &[x, w, a, b, bias, residual, apart]);
    }
}

/// Stored shapes of the factors of an m×n×k product.
pub fn stored([m, n, k]: [usize; 3], [transpose_a, transpose_b]: [bool; 2]) -> [[usize; 2]; 2] {
    [if transpose_a { [k, m] } else { [m, k] }, if transpose_b { [n, k] } else { [k, n] }]
}

/// Whether either factor is stored transposed.
pub const LAYOUTS: [[bool; 2]; 4] = [[false, false], [false, true], [true, false], [true, true]];

/// Shapes with every extent, and every row of a matrix, within and beyond a binding of 1,024 elements.
pub const BEYOND: [[usize; 3]; 6] =
    [[67, 33, 131], [1, 7, 2_111], [2_111, 3, 5], [5, 2_111, 3], [3, 2, 4_999], [70, 1_031, 9]];

/// The product in f32, one term after the other: the plain implementation. The CPU's sums over so long rows are better.
pub fn plain_product(
    a: &Tensor,
    b: &Tensor,
    [m, n, k]: [usize; 3],
    [transpose_a, transpose_b]: [bool; 2],
) -> Tensor {
    let [a, b] = [a, b].map(|x| x.to_f64_vec().unwrap().into_iter().map(|x| x as f32).collect::<Vec<_>>());
    let a = |row, i| a[if transpose_a { i * m + row } else { row * k + i }];
    let b = |i, column| b[if transpose_b { column * k + i } else { i * n + column }];
    let sum = |at: usize| (0..k).fold(0.0, |sum: f32, i| sum + a(at / n, i) * b(i, at % n));
    Tensor::from_slice(&Device::Cpu, &(0..m * n).map(sum).collect::<Vec<_>>(), &[m, n]).unwrap()
}

#[test]
fn products_of_matrices_beyond_a_binding() {
    let devices = limited_devices("products_of_matrices_beyond_a_binding");
    for extents in BEYOND {
        for layout in LAYOUTS {
            let [a, b] = stored(extents, layout);
            let (a, b) = (random(&a, 1), random(&b, 2));
            let want = matmul(&a, &b, layout[0], layout[1]).unwrap();
            let plain = plain_product(&a, &b, extents, layout);
            for device in &devices {
                let [a, b] = [&a, &b].map(|x| to(device, DType::F32, x));
                let found = matmul(&a, &b, layout[0], layout[1]).unwrap();
                expect_near(
                    &format!("{extents:?} {layout:?} on {}", device.describe()),
                    &found,
                    &plain,
                    &want,
                );
            }
        }
    }
}

#[test]
fn bias_and_residual_are_added_once_to_a_product_in_parts() {
    let devices = limited_devices("bias_and_residual_are_added_once");
    let inputs = |[rows, out, width]: [usize; 3]| {
        [random(&[rows, width], 1), random(&[out, width], 2), random(&[out], 3), random(&[rows, out], 4)]
    };
    for extents in [[67, 33, 131], [70, 901, 9], [3, 5, 1_031]] {
        let with = |_: &Device| Linear { bias: true, residual: true, giving: None };
        parity_on(&devices, "linear in parts", with, &inputs(extents));
    }
    // A bias and rows of the residual that are longer than a binding.
    let inputs = inputs([5, 2_111, 3]);
    let on = |device: &Device, dtype| {
        let inputs: Vec<Tensor> = inputs.iter().map(|x| to(device, dtype, x)).collect();
        Linear { bias: true, residual: true, giving: None }
            .forward(&inputs.iter().collect::<Vec<_>>(), false)
            .unwrap()
    };
    let (want, plain) = (on(&Device::Cpu, DType::F64), on(&Device::Cpu, DType::F32));
    for device in &devices {
        expect_near(&format!("long rows on {}", device.describe()), &on(device, DType::F32), &plain, &want);
    }
}

#[test]
fn cuts_change_no_bit_of_a_product() {
    let (whole, cut) = (devices("cuts_change_no_bit"), limited_devices("cuts_change_no_bit"));
    for cut in &cut {
        // The device of the same adapter, kernels and tier that is not limited.
        let Some(whole) = whole.iter().find(|whole| whole.describe() == cut.describe() && alike(whole, cut))
        else {
            panic!("{} has no device without limits", cut.describe());
        };
        for extents in [BEYOND[0], BEYOND[1], BEYOND[3], [68, 36, 1_036]] {
            for [transpose_a, transpose_b] in LAYOUTS {
                let [a, b] = stored(extents, [transpose_a, transpose_b]);
                let (a, b, start) = (random(&a, 1), random(&b, 2), random(&extents[..2], 3));
                let run = |device| {
                    let [a, b, mut c] = [&a, &b, &start].map(|x| to(device, DType::F32, x));
                    let product = matmul(&a, &b, transpose_a, transpose_b).unwrap();
                    matmul_accumulate(&a, &b, transpose_a, transpose_b, &mut c).unwrap();
                    [product, c]
                        .map(|x| x.to_vec::<f32>().unwrap().into_iter().map(f32::to_bits).collect::<Vec<_>>())
                };
                assert!(
                    run(cut) == run(whole),
                    "{extents:?} {transpose_a} {transpose_b} on {}",
                    cut.describe()
                );
            }
        }
    }
}

#[test]
fn a_gated_linear_layer_has_the_bits_of_its_parts() {
    for (rows, width, out) in [(1, 1, 1), (7, 33, 65), (20, 64, 36), (140, 40, 130)] {
        let inputs = [random(&[rows, width], 1), random(&[out, width], 2), random(&[out, width], 3)];
        parity("gated_linear", |_| GatedLinear, &inputs);
        for device in
            devices("a_gated_linear_layer").into_iter().chain(limited_devices("a_gated_linear_layer"))
        {
            let [x, gate, up] = inputs.each_ref().map(|x| to(&device, DType::F32, x));
            let bits = |x: Tensor| -> Vec<u32> {
                x.to_vec::<f32>().unwrap().into_iter().map(f32::to_bits).collect()
            };
            let found = bits(GatedLinear.forward(&[&x, &gate, &up], false).unwrap());
            let [g, u] = [&gate, &up].map(|w| matmul(&x, w, false, true).unwrap());
            let want = bits(SwiGlu.forward(&[&g, &u], false).unwrap());
            assert!(found == want, "{rows} x {out} x {width} on {}", device.describe());
        }
    }
}

#[test]
fn a_row_of_a_product_has_the_same_bits_whatever_rows_stand_beside_it() {
    let [m, n, k] = [300, 140, 70];
    for device in devices("a_row_of_a_product") {
        let bits =
            |x: &Tensor| -> Vec<u32> { x.to_vec::<f32>().unwrap().into_iter().map(f32::to_bits).collect() };
        for transpose_b in [false, true] {
            let a = to(&device, DType::F32, &random(&[m, k], 1));
            let b = to(&device, DType::F32, &random(&if transpose_b { [n, k] } else { [k, n] }, 2));
            let all = bits(&matmul(&a, &b, false, transpose_b).unwrap());
            for rows in [0..1, 17..18, 128..300, 20..250] {
                let some = bits(&matmul(&a.rows(rows.clone()).unwrap(), &b, false, transpose_b).unwrap());
                assert!(some == all[rows.start * n..rows.end * n], "rows {rows:?} on {}", device.describe());
            }
        }
    }
}

#[test]
fn a_product_has_the_same_bits_whether_its_rows_are_whole_vectors_or_not() {
    let [m, n, k] = [20, 36, 64];
    let value =
        |name: usize, i: usize, j: usize| ((name * 7919 + i * 131 + j * 37) % 1009) as f64 / 1009.0 - 0.4;
    for device in devices("a_product_has_the_same_bits") {
        for [transpose_a, transpose_b] in LAYOUTS {
            // Of the same product, with zeros past the end of k, and without the last rows and columns.
            let product = |[m, n, k_stored]: [usize; 3]| {
                let matrix = |name, [rows, columns]: [usize; 2], is_transposed: bool, is_left: bool| {
                    let element = |at: usize| {
                        let (i, j) = (at / columns, at % columns);
                        let (i, j) = if is_transposed { (j, i) } else { (i, j) };
                        if (if is_left { j } else { i }) < k { value(name, i, j) } else { 0.0 }
                    };
                    let data: Vec<f64> = (0..rows * columns).map(element).collect();
                    Tensor::from_f64(&device, DType::F32, &data, &[rows, columns]).unwrap()
                };
                let [a, b] = stored([m, n, k_stored], [transpose_a, transpose_b]);
                let (a, b) = (matrix(1, a, transpose_a, true), matrix(2, b, transpose_b, false));
                matmul(&a, &b, transpose_a, transpose_b).unwrap().to_vec::<f32>().unwrap()
            };
            let whole = product([m, n, k]);
            for [m, n, k] in [[m, n, k + 1], [m, n - 1, k], [m - 1, n, k], [m - 3, n - 2, k + 3]] {
                let part = product([m, n, k]);
                for at in 0..m * n {
                    let same = whole[at / n * 36 + at % n];
                    assert_eq!(
                        part[at].to_bits(),
                        same.to_bits(),
                        "{m} {n} {k} {transpose_a} {transpose_b} {at}"
                    );
                }
            }
        }
    }
}

/// Whether both run the kernels of software, or both those of hardware.
fn alike(one: &Device, other: &Device) -> bool {
    let software = |device: &Device| matches!(device, Device::WebGpu(gpu) if gpu.description().is_software());
    software(one) == software(other)
}
