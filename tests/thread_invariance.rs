//! The same bits for any number of threads: values and gradients of the ops whose sums a careless split over threads
//! would reorder.

use lea::autograd::gradcheck;
use lea::device::{DType, Device};
use lea::ops::adamw::squared_norm;
use lea::ops::{CrossEntropy, GatherDot, Gru, LinearCrossEntropy, Op, Saved, SequenceLayout, retrieve};
use lea::tensor::Tensor;
use std::sync::Arc;

fn random(shape: &[usize], seed: u64) -> Tensor {
    let data = gradcheck::random(shape, seed).to_f64_vec().unwrap();
    Tensor::from_f64(&Device::Cpu, DType::F32, &data, shape).unwrap()
}

fn ids(count: usize, limit: usize, shape: &[usize]) -> Tensor {
    let ids: Vec<u32> = (0..count).map(|i| (i * 7919 % limit) as u32).collect();
    Tensor::from_slice(&Device::Cpu, &ids, shape).unwrap()
}

/// Bits of the output and of all gradients.
fn bits(mut op: impl Op, inputs: Vec<Tensor>) -> Vec<Vec<u32>> {
    let y = op.forward(&inputs.iter().collect::<Vec<_>>(), true).unwrap();
    let needs = vec![true; inputs.len()];
    let kept: Vec<Option<Tensor>> = inputs.into_iter().map(Some).collect();
    let grads = op.backward(&Saved::new(&kept, Some(&y), &needs), &random(y.shape(), 99)).unwrap();
    let bits = |t: &Tensor| t.to_vec::<f32>().unwrap().iter().map(|v| v.to_bits()).collect();
    std::iter::once(&y).chain(grads.iter().flatten()).map(bits).collect()
}

fn all_bits() -> Vec<Vec<u32>> {
    let (rows, items, width) = (333, 1207, 24);
    let lengths: Vec<usize> = (0..150).map(|i| 1 + i * 5 % 9).collect();
    let layout = Arc::new(SequenceLayout::new(&lengths).unwrap());
    let (x, table) = (random(&[rows, width], 1), random(&[items, width], 2));
    let gates = random(&[layout.rows(), 3 * width], 3);
    let mut all = bits(CrossEntropy::new(ids(rows, items, &[rows])), vec![random(&[rows, items], 4)]);
    let head = vec![x.clone(), table.clone(), random(&[items], 9)];
    all.extend(bits(LinearCrossEntropy::new(ids(rows, items, &[rows])), head));
    let choice = GatherDot::new(ids(rows * 40, items, &[rows, 40]));
    all.extend(bits(choice, vec![x.clone(), table.clone(), random(&[items], 5)]));
    let recurrent = vec![gates, random(&[3 * width, width], 6), random(&[3 * width], 7)];
    all.extend(bits(Gru::new(layout), recurrent));
    let (values, found) = retrieve(&x, &table, None, 50, &[]).unwrap();
    all.push(values.to_vec::<f32>().unwrap().iter().map(|v| v.to_bits()).collect());
    all.push(found.to_vec::<u32>().unwrap());
    let norm = squared_norm(&random(&[100_003], 8)).unwrap().to_bits();
    all.push(vec![(norm >> 32) as u32, norm as u32]);
    all
}

#[test]
fn values_and_gradients_have_the_same_bits_for_any_number_of_threads() {
    let with = |threads: usize| {
        rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(all_bits)
    };
    let one = with(1);
    assert!(one.iter().all(|part| part.iter().any(|&b| b != part[0])), "every part holds something");
    for threads in [2, 5] {
        for (i, (alone, shared)) in one.iter().zip(with(threads)).enumerate() {
            assert!(*alone == shared, "part {i} differs with {threads} threads");
        }
    }
}
