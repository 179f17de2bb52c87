//! The backward pass.

use super::{Kind, Node, Param, Var};
use crate::device::profile;
use crate::ops::{Saved, add::add_assign};
use crate::tensor::Tensor;
use crate::{Error, Result};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// Gradients of leaves and parameters.
#[derive(Default)]
pub struct Gradients(HashMap<u64, Tensor>);

impl Gradients {
    /// Gradient of a [`Var::leaf`]; `None` when the loss does not depend on it.
    pub fn of(&self, leaf: &Var) -> Option<&Tensor> {
        self.0.get(&leaf.node.as_ref()?.id)
    }

    /// Gradient of a parameter; `None` when it is frozen or the loss does not depend on it.
    pub fn of_param(&self, param: &Param) -> Option<&Tensor> {
        self.0.get(&param.id()?)
    }

    /// Takes a parameter's gradient out.
    pub fn take_param(&mut self, param: &Param) -> Option<Tensor> {
        self.0.remove(&param.id()?)
    }

    /// Adds the gradients of another pass: accumulation over micro-batches.
    pub fn accumulate(&mut self, other: Gradients) -> Result<()> {
        for (id, grad) in other.0 {
            self.add(id, grad)?;
        }
        Ok(())
    }

    fn add(&mut self, id: u64, grad: Tensor) -> Result<()> {
        match self.0.get_mut(&id) {
            Some(sum) => add_assign(sum, &grad),
            None => {
                self.0.insert(id, grad);
                Ok(())
            }
        }
    }

    pub(super) fn take(&mut self, leaf: &Var) -> Option<Tensor> {
        self.0.remove(&leaf.node.as_ref()?.id)
    }
}

/// Gradients of the one-element `loss` with respect to every leaf and trainable parameter it depends on.
pub fn backward(loss: &Var) -> Result<Gradients> {
    if loss.value.len() != 1 {
        return Err(Error::shape(
            "backward",
            format!("the loss has shape {:?}, not one element", loss.value.shape()),
        ));
    }
    let _range = profile::range(|| "backward".into());
    let mut grads = Gradients::default();
    let one = Tensor::full(loss.value.device(), loss.value.dtype(), loss.value.shape(), 1.0)?;
    propagate(loss, one, &mut grads)?;
    Ok(grads)
}

/// Sends `grad` of `from` down to the leaves, adding to `grads`.
pub(super) fn propagate(from: &Var, grad: Tensor, grads: &mut Gradients) -> Result<()> {
    let Some(root) = &from.node else { return Ok(()) };
    // Pending nodes by id: the largest has no unvisited consumer left.
    let mut pending: BTreeMap<u64, (Arc<Node>, Tensor)> = BTreeMap::new();
    pending.insert(root.id, (root.clone(), grad));
    while let Some((id, (node, grad))) = pending.pop_last() {
        let (parents, parent_grads) = match &node.kind {
            Kind::Leaf => {
                grads.add(id, grad)?;
                continue;
            }
            Kind::Applied(applied) => {
                let needs: Vec<bool> = applied.parents.iter().map(Option::is_some).collect();
                let saved = Saved::new(&applied.inputs, applied.output.as_ref(), &needs);
                let cost = || applied.op.backward_cost(&saved, &grad);
                let _range = profile::backward(grad.device(), applied.op.name(), cost);
                // What other ops have sent to its inputs so far: a product adds to it where it writes.
                let sent = |parent: &Option<Arc<Node>>| Some(pending.remove(&parent.as_ref()?.id)?.1);
                let sums = applied.parents.iter().map(sent).collect();
                (&applied.parents, applied.op.backward_onto(&saved, &grad, sums)?)
            }
            Kind::Checkpoint(section) => (&section.parents, section.backward(grad, grads)?),
        };
        for (parent, grad) in parents.iter().zip(parent_grads) {
            let (Some(parent), Some(grad)) = (parent, grad) else { continue };
            match pending.get_mut(&parent.id) {
                Some((_, sum)) => add_assign(sum, &grad)?,
                None => {
                    pending.insert(parent.id, (parent.clone(), grad));
                }
            }
        }
    }
    Ok(())
}
