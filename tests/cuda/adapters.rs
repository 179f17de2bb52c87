//! Layers with low-rank adapters beside frozen weights in bf16: the adapter's own products are as near as those in f32, in
//! every tile, on both generations of kernels.

use super::halves::{frozen, rounded, whole};
use super::parity::{error, expect_near, random, run, to};
use super::{devices, generations, in_each_manner};
use lea::device::{DType, Device};
use lea::ops::{AdaptedLinear, Op};
use lea::tensor::Tensor;

/// Rows, width of x, width of y, rank: within a tile and over several, whole and cut, ranks within a run of columns, of several runs, and
/// whose pieces do not fill a slice or fill more than one.
pub const SHAPES: [[usize; 4]; 8] = [
    [1, 8, 1, 1],
    [3, 24, 5, 3],
    [70, 48, 31, 8],
    [67, 136, 72, 11],
    [130, 264, 257, 8],
    [257, 40, 256, 17],
    [300, 520, 130, 5],
    [129, 16, 264, 64],
];

fn layer(bias: bool, residual: bool, apart: bool) -> AdaptedLinear {
    let mut layer = AdaptedLinear::new(0.75);
    (layer.bias, layer.residual, layer.apart) = (bias, residual, apart);
    layer
}

/// x, W, A, B, bias, residual.
fn inputs([rows, width, out, rank]: [usize; 4], make: impl Fn(&[usize], u64) -> Tensor) -> [Tensor; 6] {
    [
        make(&[rows, width], 1),
        make(&[out, width], 2),
        make(&[rank, width], 3),
        make(&[out, rank], 4),
        make(&[out], 5),
        make(&[rows, out], 6),
    ]
}

/// The inputs as the device has them: W in bf16 where it is not the host.
fn on(device: &Device, dtype: DType, inputs: &[Tensor]) -> Vec<Tensor> {
    let stored = |(i, x)| match (i, device) {
        (1, Device::Cuda(_)) => frozen(device, x),
        _ => to(device, dtype, x),
    };
    inputs.iter().enumerate().map(stored).collect()
}

#[test]
fn an_adapted_layer_is_as_near_as_a_plain_one_of_rounded_factors() {
    let devices = generations("an_adapted_layer_is_as_near");
    for shape in SHAPES {
        let [x, w, a, b, bias, residual] = inputs(shape, random);
        let w = rounded(&w);
        let grad = random(&[shape[0], shape[2]], 99);
        let all = [x.clone(), w.clone(), a.clone(), b.clone(), bias.clone(), residual.clone()];
        let needs = [true, false, true, true, true, true];
        let want = run(&mut layer(true, true, false), &on(&Device::Cpu, DType::F64, &all), &needs);
        // W multiplies x, and backward the gradient, rounded; the adapter multiplies what they are.
        let plain = |x: &Tensor, read: &Tensor| {
            let all = [x, &w, &a, &b, &bias, &residual, read].map(|x| to(&Device::Cpu, DType::F32, x));
            let needs = [true, false, true, true, true, true, true];
            run(&mut layer(true, true, true), &all, &needs)
        };
        let of = plain(&rounded(&x), &x);
        let through_w = lea::ops::matmul::matmul(&rounded(&grad), &w, false, false).unwrap();
        let plain_dx =
            lea::ops::add::add(&to(&Device::Cpu, DType::F32, &through_w), of.1[6].as_ref().unwrap()).unwrap();
        in_each_manner(|| {
            for device in &devices {
                let found = run(&mut layer(true, true, false), &on(device, DType::F32, &all), &needs);
                let place = |what: &str| format!("{what} of {shape:?} on {}", device.describe());
                expect_near(&place("output"), &found.0, &of.0, &want.0);
                for i in [0, 2, 3, 4, 5] {
                    let [found, want] = [&found, &want].map(|(_, grads)| grads[i].as_ref().unwrap());
                    let plain = if i == 0 { &plain_dx } else { of.1[i].as_ref().unwrap() };
                    expect_near(&place(&format!("gradient {i}")), found, plain, want);
                }
            }
        });
    }
}

/// As [`expect_near`], of sums over `depth` terms that tensor cores of a GPU made: they cut off what they add, a unit in the last place of
/// the sum every 16 terms.
fn expect_near_cut_off(what: &str, found: &Tensor, plain: &Tensor, want: &Tensor, depth: usize) {
    let [found, plain, want] = [found, plain, want].map(|t| t.to_f64_vec().unwrap());
    let largest = want.iter().fold(0.0f64, |most, x| most.max(x.abs()));
    let units = 8.0 + depth.div_ceil(16) as f64;
    let allowed = 2.0 * error(&plain, &want) + units * f64::from(f32::EPSILON) * largest;
    let error = error(&found, &want);
    assert!(error <= allowed, "{what}: error {error:e}, allowed {allowed:e}");
}

#[test]
fn what_an_adapter_adds_is_as_near_as_in_f32() {
    let devices = generations("what_an_adapter_adds");
    for shape in SHAPES {
        let [x, w, a, b, ..] = inputs(shape, random);
        let w = Tensor::zeros(&Device::Cpu, DType::F64, w.shape()).unwrap();
        let all = [x, w, a, b];
        let needs = [true, false, true, true];
        let on_host = |dtype| run(&mut layer(false, false, false), &on(&Device::Cpu, dtype, &all), &needs);
        let (want, plain) = (on_host(DType::F64), on_host(DType::F32));
        for device in &devices {
            let found = run(&mut layer(false, false, false), &on(device, DType::F32, &all), &needs);
            let place = |what: &str| format!("{what} of {shape:?} on {}", device.describe());
            let depth = 6 * shape[3];
            expect_near_cut_off(&place("output"), &found.0, &plain.0, &want.0, depth);
            for i in [0, 2, 3] {
                let [found, plain, want] = [&found, &plain, &want].map(|x| x.1[i].as_ref().unwrap());
                let name = place(&format!("gradient {i}"));
                match i {
                    0 => expect_near_cut_off(&name, found, plain, want, depth),
                    _ => expect_near(&name, found, plain, want),
                }
            }
        }
    }
}

/// Whole numbers come out as on the host: nothing is lost or counted twice, at any end of a tile, a slice or a row.
pub fn expect_exact(device: &Device, shape: [usize; 4]) {
    let mut inputs = inputs(shape, whole).to_vec();
    inputs.push(whole(&[shape[0], shape[1]], 7));
    for (apart, count) in [(false, 6), (true, 7)] {
        let values = &inputs[..count];
        let needs: Vec<bool> = (0..count).map(|i| i != 1).collect();
        let run = |device: &Device, dtype| {
            let mut layer = AdaptedLinear::new(1.0);
            (layer.bias, layer.residual, layer.apart) = (true, true, apart);
            let inputs = on(device, dtype, values);
            let y = layer.forward(&inputs.iter().collect::<Vec<_>>(), true).unwrap();
            let kept: Vec<Option<Tensor>> = inputs.into_iter().map(Some).collect();
            let grad = to(device, dtype, &whole(y.shape(), 9));
            // What was sent to x and to A before.
            let sent =
                |i: usize| [0, 2].contains(&i).then(|| to(device, dtype, &whole(values[i].shape(), 10)));
            let saved = lea::ops::Saved::new(&kept, Some(&y), &needs);
            let grads = layer.backward_onto(&saved, &grad, (0..count).map(sent).collect()).unwrap();
            let grads = grads.into_iter().map(|grad| grad.map(|grad| grad.to_f64_vec().unwrap()));
            (y.to_f64_vec().unwrap(), grads.collect::<Vec<_>>())
        };
        let (want, found) = (run(&Device::Cpu, DType::F64), run(device, DType::F32));
        let place = format!("{shape:?} apart {apart} on {}", device.describe());
        assert!(found.0 == want.0, "output of {place}");
        for (i, (found, want)) in found.1.iter().zip(&want.1).enumerate() {
            assert!(found == want, "gradient {i} of {place}");
        }
    }
}

#[test]
fn adapted_layers_of_whole_numbers_are_exact() {
    let devices = generations("adapted_layers_of_whole_numbers");
    in_each_manner(|| {
        for device in &devices {
            SHAPES.into_iter().for_each(|shape| expect_exact(device, shape));
        }
    });
}

#[test]
fn a_row_of_an_adapted_layer_has_the_same_bits_in_any_batch_and_tile() {
    for device in generations("a_row_of_an_adapted_layer") {
        let [x, w, a, b, ..] = inputs([256, 200, 248, 9], random);
        let grad = to(&device, DType::F32, &random(&[256, 248], 8));
        let inputs = on(&device, DType::F32, &[x, w, a, b]);
        let bits = |x: &Tensor| x.to_vec::<f32>().unwrap().into_iter().map(f32::to_bits).collect::<Vec<_>>();
        let run = |rows: std::ops::Range<usize>| {
            let mut of = inputs.clone();
            of[0] = inputs[0].rows(rows.clone()).unwrap();
            let mut op = layer(false, false, false);
            let y = op.forward(&of.iter().collect::<Vec<_>>(), true).unwrap();
            let kept: Vec<Option<Tensor>> = of.into_iter().map(Some).collect();
            let saved = lea::ops::Saved::new(&kept, Some(&y), &[true, false, false, false]);
            let grads = op.backward(&saved, &grad.rows(rows).unwrap()).unwrap();
            (bits(&y), bits(grads[0].as_ref().unwrap()))
        };
        let together = run(0..256);
        for (from, to) in [(0, 1), (3, 40), (100, 228), (255, 256), (17, 217)] {
            let alone = run(from..to);
            assert!(alone.0 == together.0[from * 248..to * 248], "rows {from} to {to}");
            assert!(alone.1 == together.1[from * 200..to * 200], "gradient of rows {from} to {to}");
        }
    }
}

#[test]
fn a_weight_in_f32_takes_an_adapter_too() {
    let devices = devices("a_weight_in_f32_takes_an_adapter");
    for shape in SHAPES {
        let inputs = inputs(shape, random);
        super::parity_on(&devices, "adapted_linear", |_| layer(true, true, false), &inputs);
    }
}
