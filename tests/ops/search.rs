//! The best of rows of scores, and the best table rows by dot product.

use super::{devices, limited_devices, random, to};
use lea::device::{DType, Device};
use lea::ops::standing::standings;
use lea::ops::{retrieve, top_k};
use lea::tensor::Tensor;

type Found = (Vec<f32>, Vec<u32>);

fn host((values, ids): (Tensor, Tensor)) -> Found {
    (values.to_vec().unwrap(), ids.to_vec().unwrap())
}

/// f32 on `device`, every number a multiple of 1/`steps`: products of small ones are exact in any order, and many tie.
fn stepped(device: &Device, shape: &[usize], seed: u64, steps: f64) -> Tensor {
    let data = random(shape, seed).to_f64_vec().unwrap();
    let data: Vec<f32> = data.iter().map(|x| ((x * steps).round() / steps) as f32).collect();
    Tensor::from_slice(device, &data, shape).unwrap()
}

/// Distinct scores and tied ones; workgroups sort up to 1,024 results, above that they pass through global memory.
#[test]
fn top_k_is_that_of_the_cpu() {
    for (rows, m, k) in [
        (1, 1, 1),
        (3, 50, 7),
        (2, 1000, 3),
        (0, 4, 2),
        (70, 300, 20),
        (2, 333, 333),
        (2, 5000, 1025),
        (3, 4100, 4100),
    ] {
        for steps in [3.0, 1e6] {
            let want = host(top_k(&stepped(&Device::Cpu, &[rows, m], 1, steps), k).unwrap());
            for device in devices("top_k") {
                let found = host(top_k(&stepped(&device, &[rows, m], 1, steps), k).unwrap());
                assert!(found == want, "{rows} {m} {k}, steps of 1/{steps} on {}", device.describe());
            }
        }
    }
}

#[test]
fn top_k_of_rows_beyond_a_binding() {
    for (rows, m, k) in [(300, 13, 5), (20, 301, 9), (3, 1024, 1)] {
        let want = host(top_k(&stepped(&Device::Cpu, &[rows, m], 1, 1e6), k).unwrap());
        for device in limited_devices("top_k of rows beyond a binding") {
            let found = host(top_k(&stepped(&device, &[rows, m], 1, 1e6), k).unwrap());
            assert!(found == want, "{rows} {m} {k} on {}", device.describe());
        }
    }
}

#[test]
fn nan_is_never_found_and_infinities_are_ordered() {
    let data = [f32::NAN, f32::NEG_INFINITY, 1.0, f32::INFINITY, -f32::NAN, -0.0, 0.0, 1e-42, -1e-42, 2e-42];
    for device in devices("nan is never found") {
        let scores = Tensor::from_slice(&device, &data, &[1, 10]).unwrap();
        for k in [1, 4, 10] {
            let (values, ids) = host(top_k(&scores, k).unwrap());
            let want = [3, 2, 9, 7, 5, 6, 8, 1, u32::MAX, u32::MAX];
            assert_eq!(ids, want[..k], "{}", device.describe());
            let low = f32::NEG_INFINITY;
            let best = [f32::INFINITY, 1.0, 2e-42, 1e-42, 0.0, 0.0, -1e-42, low, low, low];
            assert_eq!(values, best[..k], "{}", device.describe());
        }
    }
}

fn search(device: &Device, [n, v, d, k]: [usize; 4], bias: bool, exclude: &[Vec<u32>]) -> Found {
    let (x, table) = (stepped(device, &[n, d], 1, 8.0), stepped(device, &[v, d], 2, 8.0));
    let bias = bias.then(|| stepped(device, &[v], 3, 8.0));
    host(retrieve(&x, &table, bias.as_ref(), k, exclude).unwrap())
}

/// Products are exact, so ids and values are equal; up to the whole catalogue and beyond.
#[test]
fn retrieve_is_that_of_the_cpu() {
    let cases = [
        [1, 1, 1, 1],
        [3, 7, 4, 7],
        [130, 500, 5, 20],
        [5, 1100, 3, 1100],
        [2, 5, 2, 9],
        [0, 5, 2, 3],
        [4, 2100, 17, 1],
    ];
    for dims in cases {
        let [n, v, ..] = dims;
        // The last ids stand beyond the table, which is no error.
        let some: Vec<Vec<u32>> =
            (0..n).map(|i| (0..v as u32 + 3).skip(i % 3).step_by(4).collect()).collect();
        for (bias, exclude) in [(false, &[][..]), (true, &some)] {
            let want = search(&Device::Cpu, dims, bias, exclude);
            for device in devices("retrieve") {
                let found = search(&device, dims, bias, exclude);
                assert!(found == want, "{dims:?}, bias {bias} on {}", device.describe());
            }
        }
    }
}

#[test]
fn retrieve_of_tables_and_scores_beyond_a_binding() {
    let dims = [11, 300, 9, 7];
    let exclude: Vec<Vec<u32>> = (0..11).map(|i| vec![i, 100 + i]).collect();
    let want = search(&Device::Cpu, dims, true, &exclude);
    for device in limited_devices("retrieve of tables beyond a binding") {
        assert!(search(&device, dims, true, &exclude) == want, "{}", device.describe());
    }
}

#[test]
fn a_row_has_the_same_bits_whatever_rows_stand_beside_it() {
    for device in devices("a row of retrieve") {
        let put = |seed, shape: &[usize]| to(&device, DType::F32, &random(shape, seed));
        let (x, table) = (put(1, &[70, 48]), put(2, &[900, 48]));
        let (values, ids) = retrieve(&x, &table, None, 10, &[]).unwrap();
        for (from, to) in [(0, 1), (31, 33), (5, 70), (69, 70)] {
            let found = host(retrieve(&x.rows(from..to).unwrap(), &table, None, 10, &[]).unwrap());
            let want = host((values.rows(from..to).unwrap(), ids.rows(from..to).unwrap()));
            assert!(found == want, "rows {from}..{to} on {}", device.describe());
        }
    }
}

/// Ranks of targets: ties, targets whose score is NaN and others that are, more rows and columns than a block takes.
#[test]
fn standings_are_those_of_the_host() {
    for (rows, d, columns) in
        [(0, 3, 4), (1, 1, 1), (3, 5, 2), (400, 3, 7), (300, 6, 250), (70, 4, 5000), (2, 3, 70_000)]
    {
        let integers = |shape: &[usize], seed| -> Vec<f32> {
            let all = random(shape, seed).to_f64_vec().unwrap();
            all.iter().map(|x| (x * 3.0).round() as f32).collect()
        };
        let (mut h, w, mut b) =
            (integers(&[rows, d], 1), integers(&[columns, d], 2), integers(&[columns], 3));
        if rows > 2 {
            h[2 * d] = f32::NAN;
            b[columns - 1] = f32::NAN;
        }
        let targets: Vec<u32> = (0..rows as u32).map(|i| (i * 577 + 1) % columns as u32).collect();
        let on = |device: &Device| {
            let tensor = |x: &[f32], shape: &[usize]| Tensor::from_slice(device, x, shape).unwrap();
            let (h, w, b) = (tensor(&h, &[rows, d]), tensor(&w, &[columns, d]), tensor(&b, &[columns]));
            standings(&h, &w, &b, &Tensor::from_ids(device, &targets).unwrap()).unwrap()
        };
        let want = on(&Device::Cpu);
        // Bindings of few bytes show a part of the rows, if these are short.
        let limited = if columns < 10 { limited_devices("standings in parts") } else { Vec::new() };
        for device in devices("standings").into_iter().chain(limited) {
            let found = on(&device);
            let wrong = (0..rows).find(|&row| found[row] != want[row]);
            let told = wrong.map(|row| (row, found[row], want[row]));
            assert_eq!(told, None, "{rows}x{d}x{columns} on {device}");
        }
    }
}
