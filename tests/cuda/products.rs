//! Products in f32 in every tile and layout, in parts of k and not: exact in whole numbers, and with the same bits for a row whatever
//! stands beside it.

use super::cuda_host;
use super::halves::whole;
use super::ops::products::{LAYOUTS, stored};
use super::parity::{random, to};
use super::skip::skipped;
use super::{devices, in_each_manner};
use lea::device::{DType, Device};
use lea::ops::matmul::{matmul, matmul_accumulate};
use lea::ops::{Linear, Op};
use lea::tensor::Tensor;

/// m, n, k. Of the stand-in's two processors: every tile, whole and cut, with rows of whole vectors and not; several parts of k added in
/// the block, and added by another kernel; more than a band of tiles, nothing of k. `tiles_and_parts_suit_the_product` holds which is which.
const SHAPES: [[usize; 3]; 12] = [
    [132, 140, 40],
    [131, 141, 41],
    [256, 128, 20],
    [255, 127, 33],
    [200, 20, 36],
    [199, 19, 50],
    [20, 200, 36],
    [19, 199, 50],
    [1100, 72, 8],
    [8, 12, 2052],
    [5, 7, 2051],
    [3, 5, 0],
];

/// Beyond one part of k in the large tile.
const DEEP: [usize; 3] = [127, 250, 1030];

fn expect_exact(devices: &[Device], extents: [usize; 3]) {
    for [transpose_a, transpose_b] in LAYOUTS {
        let [a, b] = stored(extents, [transpose_a, transpose_b]);
        let (a, b, start) = (whole(&a, 1), whole(&b, 2), whole(&extents[..2], 3));
        let mut want = start.clone();
        matmul_accumulate(&a, &b, transpose_a, transpose_b, &mut want).unwrap();
        in_each_manner(|| {
            for device in devices {
                let [a, b, mut found] = [&a, &b, &start].map(|x| to(device, DType::F32, x));
                matmul_accumulate(&a, &b, transpose_a, transpose_b, &mut found).unwrap();
                let place = format!("{extents:?} {transpose_a} {transpose_b} on {}", device.describe());
                assert!(found.to_f64_vec().unwrap() == want.to_f64_vec().unwrap(), "{place}");
            }
        });
    }
}

#[test]
fn products_of_whole_numbers_are_exact_in_every_tile() {
    let devices = devices("products_of_whole_numbers_in_every_tile");
    SHAPES.into_iter().for_each(|extents| expect_exact(&devices, extents));
}

#[test]
fn products_of_whole_numbers_are_exact_in_several_parts_of_large_tiles() {
    let devices = devices("products_of_whole_numbers_in_several_parts");
    expect_exact(&devices, DEEP);
}

/// Tiles enough for every processor of a large GPU to have some of the largest, with one part of k and with several.
const FILLING: [[usize; 3]; 2] = [[2048, 2048, 40], [2043, 2045, 1030]];

#[test]
fn products_that_fill_a_gpu_are_exact() {
    if !cuda_host::real() {
        return skipped(
            "products that fill a GPU: the stand-in would take minutes, and has smaller ones in all tiles",
        );
    }
    let devices = devices("products_that_fill_a_gpu");
    FILLING.into_iter().for_each(|extents| expect_exact(&devices, extents));
}

#[test]
fn bias_and_residual_are_added_once_to_several_parts() {
    let devices = devices("bias_and_residual_of_several_parts");
    // By another kernel, and in the block; rows of whole vectors and not.
    for [rows, out, width] in [[8, 12, 2052], [5, 7, 2051], [70, 132, 600], [70, 131, 601]] {
        let inputs =
            [whole(&[rows, width], 1), whole(&[out, width], 2), whole(&[out], 3), whole(&[rows, out], 4)];
        let on = |device: &Device, dtype| {
            let inputs: Vec<Tensor> = inputs.iter().map(|x| to(device, dtype, x)).collect();
            let mut op = Linear { bias: true, residual: true, ..Linear::default() };
            op.forward(&inputs.iter().collect::<Vec<_>>(), false).unwrap().to_f64_vec().unwrap()
        };
        let want = on(&Device::Cpu, DType::F64);
        in_each_manner(|| {
            for device in &devices {
                assert!(on(device, DType::F32) == want, "{rows} {out} {width} on {}", device.describe());
            }
        });
    }
}

#[test]
fn a_row_has_the_same_bits_in_any_batch_tile_and_parts() {
    for device in devices("a_row_has_the_same_bits_in_any_batch_tile_and_parts") {
        for (out, width, transposed) in
            [(72, 2060, true), (7, 1037, true), (72, 1100, false), (130, 515, false)]
        {
            let stored = if transposed { [out, width] } else { [width, out] };
            let [x, w] = [random(&[256, width], 1), random(&stored, 2)].map(|x| to(&device, DType::F32, &x));
            let bits = |x: &Tensor| {
                let y = matmul(x, &w, false, transposed).unwrap().to_vec::<f32>().unwrap();
                y.into_iter().map(f32::to_bits).collect::<Vec<_>>()
            };
            let together = bits(&x);
            for (from, to) in [(0, 1), (3, 40), (100, 228), (255, 256)] {
                let alone = bits(&x.rows(from..to).unwrap());
                assert!(alone == together[from * out..to * out], "rows {from} to {to} of {out} x {width}");
            }
        }
    }
}
