//! Gradient checkpointing (Chen et al., arXiv 1604.06174): a section keeps its inputs only and runs again backward.

use super::backward::{Gradients, propagate};
use super::{Kind, Node, RECORDING, Var, no_grad, with_recording};
use crate::Result;
use crate::tensor::Tensor;
use std::sync::Arc;

type Run = dyn Fn(&[Var]) -> Result<Var> + Send + Sync;

pub(super) struct Section {
    run: Box<Run>,
    inputs: Vec<Tensor>,
    pub(super) parents: Vec<Option<Arc<Node>>>,
}

/// Runs `run(inputs)` keeping none of its intermediate values; backward runs it once more. `run` may use parameters
/// of its own and must give the same result each time (dropout by counter does).
pub fn checkpoint(
    run: impl Fn(&[Var]) -> Result<Var> + Send + Sync + 'static,
    inputs: &[&Var],
) -> Result<Var> {
    let values: Vec<Tensor> = inputs.iter().map(|v| v.value.clone()).collect();
    let constants: Vec<Var> = values.iter().cloned().map(Var::constant).collect();
    if !RECORDING.get() {
        return run(&constants);
    }
    let value = no_grad(|| run(&constants))?.into_value();
    let parents = inputs.iter().map(|v| v.node.clone()).collect();
    let node = Node::new(Kind::Checkpoint(Section { run: Box::new(run), inputs: values, parents }));
    Ok(Var { value, node: Some(node) })
}

impl Section {
    /// Gradients of the inputs; those of parameters inside are added to `grads`.
    pub(super) fn backward(&self, grad: Tensor, grads: &mut Gradients) -> Result<Vec<Option<Tensor>>> {
        let input = |(value, parent): (&Tensor, &Option<Arc<Node>>)| match parent {
            Some(_) => Var::leaf(value.clone()),
            None => Var::constant(value.clone()),
        };
        let inputs: Vec<Var> = self.inputs.iter().zip(&self.parents).map(input).collect();
        let output = with_recording(true, || (self.run)(&inputs))?;
        propagate(&output, grad, grads)?;
        Ok(inputs.iter().map(|v| grads.take(v)).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::autograd::{Param, apply, backward, gradcheck};
    use crate::ops::{Linear, Matmul, RmsNorm};

    #[test]
    fn checkpointed_gradients_have_the_same_bits() {
        let w = Param::trainable("w", gradcheck::random(&[6, 6], 1));
        let frozen = Param::frozen("f", gradcheck::random(&[6], 2));
        let layer = {
            let (w, frozen) = (w.clone(), frozen.clone());
            move |x: &[Var]| -> Result<Var> {
                let y = apply(Linear { residual: true, ..Linear::default() }, &[&x[0], &w.var(), &x[0]])?;
                apply(RmsNorm::new(1e-6), &[&y, &frozen.var()])
            }
        };
        let run = |keep: bool| {
            let x = Var::leaf(gradcheck::random(&[4, 6], 3));
            let mut h = x.clone();
            for _ in 0..3 {
                h = if keep { layer(&[h]).unwrap() } else { checkpoint(layer.clone(), &[&h]).unwrap() };
            }
            let ones = Var::constant(gradcheck::random(&[6, 1], 4));
            let rows = Var::constant(gradcheck::random(&[1, 4], 5));
            let h = apply(Matmul::default(), &[&h, &ones]).unwrap();
            let loss = apply(Matmul::default(), &[&rows, &h]).unwrap();
            let grads = backward(&loss).unwrap();
            let of_x = grads.of(&x).unwrap().to_f64_vec().unwrap();
            assert!(grads.of_param(&frozen).is_none());
            (of_x, grads.of_param(&w).unwrap().to_f64_vec().unwrap())
        };
        let (kept, again) = (run(true), run(false));
        assert!(kept.0.iter().any(|g| g.abs() > 1e-6));
        assert_eq!(kept, again);
    }
}
