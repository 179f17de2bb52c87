//! The same elements under another shape. No FLOPs, no bytes: the buffer is shared.

use super::{Cost, Op, Saved};
use crate::Result;
use crate::tensor::Tensor;

/// One input of any shape; the output has the given one.
#[derive(Clone, Debug)]
pub struct Reshape {
    to: Vec<usize>,
    from: Vec<usize>,
}

impl Reshape {
    /// To shape `to`, of as many elements as the input has.
    pub fn new(to: &[usize]) -> Self {
        Reshape { to: to.to_vec(), from: Vec::new() }
    }
}

impl Op for Reshape {
    fn name(&self) -> &'static str {
        "reshape"
    }

    fn forward(&mut self, inputs: &[&Tensor], _record: bool) -> Result<Tensor> {
        self.from = inputs[0].shape().to_vec();
        inputs[0].reshape(&self.to)
    }

    fn backward(&self, _saved: &Saved, grad: &Tensor) -> Result<Vec<Option<Tensor>>> {
        Ok(vec![Some(grad.reshape(&self.from)?)])
    }

    fn cost(&self, _inputs: &[&Tensor]) -> Cost {
        Cost::default()
    }

    fn keeps_input(&self, _index: usize, _needs: &[bool]) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::autograd::gradcheck;

    #[test]
    fn gradients_match_finite_differences() {
        gradcheck::op(|| Reshape::new(&[4, 3]), &[gradcheck::random(&[2, 6], 1)]);
    }
}
