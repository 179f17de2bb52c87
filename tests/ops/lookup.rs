//! Ops that look rows up by id, and losses over rows of scores.

use super::{devices, limited_devices, parity, parity_on, random, to};
use lea::device::{DType, Device};
use lea::ops::{
    CrossEntropy, Embedding, GatherDot, InfoNce, LinearCrossEntropy, Op, Rope, RopeTable, Saved, retrieve,
    top_k,
};
use lea::tensor::Tensor;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::sync::Arc;

fn ids(n: usize, below: u32, seed: u64) -> Vec<u32> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    (0..n).map(|_| rng.random_range(0..below)).collect()
}

fn put(device: &Device, ids: &[u32], shape: &[usize]) -> Tensor {
    Tensor::from_slice(device, ids, shape).unwrap()
}

#[test]
fn embedding() {
    for (tables, n, d) in
        [(&[5][..], 7, 3), (&[1], 1, 1), (&[4, 3], 0, 2), (&[700, 2, 31], 333, 65), (&[3, 40, 1], 90, 16)]
    {
        let list = ids(n, tables.iter().sum::<usize>() as u32, 3);
        let inputs: Vec<Tensor> = tables.iter().map(|&v| random(&[v, d], v as u64)).collect();
        parity("embedding", |device| Embedding::new(put(device, &list, &[n])), &inputs);
    }
}

#[test]
fn embedding_of_tables_beyond_a_binding() {
    // Tables of 9 columns come in parts of 64 rows, and so do 300 looked up rows.
    let list = ids(300, 211, 4);
    let inputs = [random(&[200, 9], 1), random(&[11, 9], 2)];
    let devices = limited_devices("embedding of tables beyond a binding");
    parity_on(&devices, "embedding in parts", |device| Embedding::new(put(device, &list, &[300])), &inputs);
}

#[test]
fn gather_dot() {
    for (n, k, v, d) in [(1, 1, 1, 1), (3, 2, 5, 4), (7, 33, 90, 37), (0, 2, 3, 4), (4, 1, 3, 300)] {
        let list = ids(n * k, v as u32, 5);
        let make = |device: &Device| GatherDot::new(put(device, &list, &[n, k]));
        let (x, table) = (random(&[n, d], 1), random(&[v, d], 2));
        parity("gather_dot", make, &[x.clone(), table.clone()]);
        parity("gather_dot with a bias", make, &[x, table, random(&[v], 3)]);
    }
}

#[test]
fn gather_dot_with_tables_and_rows_beyond_a_binding() {
    let (n, k, v, d) = (150, 3, 200, 11);
    let list = ids(n * k, v as u32, 6);
    let make = |device: &Device| GatherDot::new(put(device, &list, &[n, k]));
    let inputs = [random(&[n, d], 1), random(&[v, d], 2), random(&[v], 3)];
    let devices = limited_devices("gather_dot with tables and rows beyond a binding");
    parity_on(&devices, "gather_dot in parts", make, &inputs);
}

#[test]
fn cross_entropy() {
    for (rows, columns) in [(1, 1), (3, 5), (70, 131), (0, 4), (2, 1025), (3, 5000)] {
        let targets = ids(rows, columns as u32, 7);
        let make = |device: &Device| CrossEntropy::new(put(device, &targets, &[rows]));
        parity("cross_entropy", make, &[random(&[rows, columns], 1)]);
    }
}

#[test]
fn linear_cross_entropy() {
    for (rows, d, columns) in [(1, 1, 1), (3, 5, 7), (70, 24, 131), (0, 4, 3), (2, 33, 1025)] {
        let targets = ids(rows, columns as u32, 7);
        let make = |device: &Device| LinearCrossEntropy::new(put(device, &targets, &[rows]));
        let inputs = [random(&[rows, d], 1), random(&[columns, d], 2), random(&[columns], 3)];
        parity("linear_cross_entropy", make, &inputs);
    }
}

#[test]
fn cross_entropy_of_rows_beyond_a_binding() {
    let targets = ids(150, 13, 8);
    let devices = limited_devices("cross_entropy of rows beyond a binding");
    let make = |device: &Device| CrossEntropy::new(put(device, &targets, &[150]));
    parity_on(&devices, "cross_entropy in parts", make, &[random(&[150, 13], 1)]);
}

#[test]
fn logits_of_any_size_give_finite_losses() {
    for device in devices("logits of any size") {
        let x = Tensor::from_slice(&device, &[3e38f32, -3e38, 0.0, 1e4], &[2, 2]).unwrap();
        let losses = CrossEntropy::new(put(&device, &[0, 0], &[2])).forward(&[&x], false).unwrap();
        assert_eq!(losses.to_vec::<f32>().unwrap(), [0.0, 1e4], "{}", device.describe());
    }
}

#[test]
fn info_nce() {
    for (n, m) in [(1, 1), (3, 5), (33, 150), (2, 1500)] {
        let targets = ids(n, m as u32, 9);
        let mask: Vec<u32> =
            (0..n * m).map(|p| u32::from(p % 3 != 0 || targets[p / m] as usize == p % m)).collect();
        let x = [random(&[n, m], 1)];
        let make = |device: &Device, mask| InfoNce::new(put(device, &targets, &[n]), 0.1, mask);
        parity("info_nce", |device| make(device, None), &x);
        parity("info_nce with a mask", |device| make(device, Some(put(device, &mask, &[n, m]))), &x);
    }
}

#[test]
fn ids_out_of_range_and_masked_targets_are_errors() {
    for device in devices("ids out of range") {
        let x = to(&device, DType::F32, &random(&[2, 3], 1));
        let message =
            |op: &mut dyn Op, inputs: &[&Tensor]| op.forward(inputs, false).unwrap_err().to_string();
        let embedding = message(&mut Embedding::new(put(&device, &[1, 2], &[2])), &[&x]);
        assert!(embedding.contains("an id is 2, ids must be below 2"), "{embedding}");
        let dot = message(&mut GatherDot::new(put(&device, &[0, 2], &[2, 1])), &[&x, &x]);
        assert!(dot.contains("below 2"), "{dot}");
        let entropy = message(&mut CrossEntropy::new(put(&device, &[0, 3], &[2])), &[&x]);
        assert!(entropy.contains("below 3"), "{entropy}");
        let mask = put(&device, &[1, 1, 1, 1, 1, 0], &[2, 3]);
        let masked = message(&mut InfoNce::new(put(&device, &[0, 2], &[2]), 0.1, Some(mask)), &[&x]);
        assert!(masked.contains("the mask excludes the target of row 1"), "{masked}");
    }
}

/// What a search leaves where it found nothing is never looked up: on the CPU an error, on an adapter NaN; and no gradient
/// goes there.
#[test]
fn missing_ids_of_a_search_are_errors_or_nan_and_take_no_gradient() {
    let all = devices("missing ids of a search").into_iter().chain([Device::Cpu]);
    for device in all {
        let on_host = device == Device::Cpu;
        let scores = Tensor::from_slice(&device, &[0f32, f32::NAN, f32::NAN, f32::NAN], &[2, 2]).unwrap();
        let table = to(&device, DType::F32, &random(&[2, 3], 1));
        // Of the first row one id is missing, of the second both; and of a whole catalogue that is excluded, all.
        let (_, of_nan) = top_k(&scores, 2).unwrap();
        let (_, of_all) = retrieve(&table, &table, None, 1, &[vec![0, 1], vec![0, 1]]).unwrap();
        for (ids, found) in [(of_nan, 1), (of_all, 0)] {
            let flat = ids.reshape(&[ids.len()]).unwrap();
            let mut ops: Vec<(Box<dyn Op>, Vec<&Tensor>)> = vec![
                (Box::new(Embedding::new(flat)), vec![&table]),
                (Box::new(GatherDot::new(ids.clone())), vec![&table, &table]),
            ];
            for (op, inputs) in &mut ops {
                let place = format!("{} on {}", op.name(), device.describe());
                let y = match op.forward(inputs, true) {
                    Ok(y) if !on_host => y,
                    Err(error) if on_host || found == 0 => {
                        assert!(error.to_string().contains("ids must be below 2"), "{place}: {error}");
                        continue;
                    }
                    other => panic!("{place}: {other:?}"),
                };
                let values = y.to_vec::<f32>().unwrap();
                let width = values.len() / ids.len();
                let (there, missing) = values.split_at(found * width);
                assert!(there.iter().all(|v| v.is_finite()), "{place}: {values:?}");
                assert!(missing.iter().all(|v| v.is_nan()), "{place}: {values:?}");
                let kept: Vec<Option<Tensor>> = inputs.iter().map(|&x| Some(x.clone())).collect();
                let needs = vec![true; inputs.len()];
                let error = op.backward(&Saved::new(&kept, Some(&y), &needs), &y).unwrap_err().to_string();
                assert!(
                    error.contains(op.name()) && error.contains("position 1 is missing"),
                    "{place}: {error}"
                );
            }
        }
        // Nothing that came before spoils the device.
        assert_eq!(table.to_vec::<f32>().unwrap().len(), 6);
    }
}

#[test]
fn a_missing_position_has_no_angle() {
    for device in devices("a missing position") {
        let scores = Tensor::from_slice(&device, &[0f32, f32::NAN], &[2, 1]).unwrap();
        let (_, positions) = top_k(&scores, 1).unwrap();
        let table = Arc::new(RopeTable::plain(10_000.0, 4).unwrap());
        let x = to(&device, DType::F32, &random(&[2, 4], 1));
        let mut rope = Rope::new(positions.reshape(&[2]).unwrap(), table, 1);
        let error = rope.forward(&[&x], false).unwrap_err().to_string();
        assert!(error.contains("rope") && error.contains("missing"), "{error}");
    }
}
