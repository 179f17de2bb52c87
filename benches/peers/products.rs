//! Single products, and attention by itself.

use crate::values::{Case, Home, Result};
use lea::device::AttentionIndex;
use lea::ops::matmul::matmul;
use lea::ops::{ForestAttention, Op};
use lea::tensor::Tensor;
use std::sync::Arc;

const HEADS: usize = 8;
const HEAD_DIM: usize = 64;

/// `a·b` of square matrices.
pub struct Product(Tensor, Tensor);

impl Product {
    pub fn new(home: &Home, size: usize) -> Result<Self> {
        let tensor = |name| home.tensor(name, &[size, size], |x| x);
        Ok(Product(tensor("a")?, tensor("b")?))
    }
}

impl Case for Product {
    fn run(&mut self) -> Result<Tensor> {
        Ok(matmul(&self.0, &self.1, false, false)?)
    }
}

/// Causal attention of one sequence.
pub struct Attention {
    op: ForestAttention,
    /// Each `[rows, HEADS · HEAD_DIM]`.
    inputs: [Tensor; 3],
}

impl Attention {
    pub fn new(home: &Home, rows: usize) -> Result<Self> {
        let index = Arc::new(AttentionIndex::causal(&[rows])?);
        let scale = 1.0 / (HEAD_DIM as f64).sqrt();
        let tensor = |name| home.tensor(name, &[rows, HEADS * HEAD_DIM], |x| x);
        let inputs = [tensor("q")?, tensor("k")?, tensor("v")?];
        Ok(Attention { op: ForestAttention::new(index, HEADS, HEADS, HEAD_DIM, scale), inputs })
    }
}

impl Case for Attention {
    fn run(&mut self) -> Result<Tensor> {
        let [q, k, v] = &self.inputs;
        Ok(self.op.forward(&[q, k, v], false)?)
    }
}
