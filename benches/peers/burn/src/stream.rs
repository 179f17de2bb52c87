//! Tensors of the streams that every side computes for itself.

use crate::counter::value;
use burn::tensor::{Device, Tensor, TensorData};

/// A tensor of the stream `name`, each value through `map`.
pub fn tensor<const D: usize>(
    device: &Device,
    name: &str,
    shape: [usize; D],
    map: impl Fn(f64) -> f64,
) -> Tensor<D> {
    let data: Vec<f32> = (0..shape.iter().product()).map(|i| map(value(name, i)) as f32).collect();
    Tensor::from_data(TensorData::new(data, shape), device)
}
