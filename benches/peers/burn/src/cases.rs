//! The cases.

use crate::Result;
use crate::stream::tensor;
use crate::sasrec::Training;
use burn::tensor::module::attention;
use burn::tensor::ops::AttentionModuleOptions;
use burn::tensor::{Device, Tensor};

const HEADS: usize = 8;
const HEAD_DIM: usize = 64;

/// One case, ready to run any number of times.
pub trait Case {
    /// Launches the work once. What it gives keeps the result.
    fn run(&mut self) -> Box<dyn std::any::Any>;
    /// What a check compares.
    fn check(&mut self) -> Vec<f32>;
}

/// The elements of `x` in order.
pub fn elements<const D: usize>(x: Tensor<D>) -> Vec<f32> {
    x.into_data().try_to_vec().expect("f32")
}

struct Product(Tensor<2>, Tensor<2>);

impl Product {
    fn product(&self) -> Tensor<2> {
        self.0.clone().matmul(self.1.clone())
    }
}

impl Case for Product {
    fn run(&mut self) -> Box<dyn std::any::Any> {
        Box::new(self.product())
    }

    fn check(&mut self) -> Vec<f32> {
        elements(self.product())
    }
}

/// q, k, v, each `[1, HEADS, rows, HEAD_DIM]`, burn's order.
struct Attention([Tensor<4>; 3]);

impl Attention {
    fn attention(&self) -> Tensor<4> {
        let [q, k, v] = self.0.clone();
        let options = AttentionModuleOptions { is_causal: true, ..Default::default() };
        attention(q, k, v, None, None, options)
    }
}

impl Case for Attention {
    fn run(&mut self) -> Box<dyn std::any::Any> {
        Box::new(self.attention())
    }

    fn check(&mut self) -> Vec<f32> {
        // [1, heads, rows, head_dim] → [rows, heads · head_dim], the order of the files.
        elements(self.attention().swap_dims(1, 2))
    }
}

pub fn case(device: &Device, name: &str) -> Result<Box<dyn Case>> {
    let (kind, size) = name.rsplit_once('-').ok_or("a case is KIND-SIZE")?;
    let size: usize = size.parse()?;
    Ok(match kind {
        "matmul" => {
            let factor = |name| tensor(device, name, [size, size], |x| x);
            Box::new(Product(factor("a"), factor("b")))
        }
        "attention" => {
            let heads = |name| {
                let rows = tensor(device, name, [1, size, HEADS, HEAD_DIM], |x| x);
                // Through the host: transposed in memory, not only in its strides.
                let data = rows.swap_dims(1, 2).into_data();
                Tensor::from_data(data, device)
            };
            Box::new(Attention([heads("q"), heads("k"), heads("v")]))
        }
        "train-sasrec-ce" => Box::new(Training::new(device, size)),
        _ => return Err(format!("no case {name}").into()),
    })
}
