//! Named model parameters.

use super::{Node, Var};
use crate::tensor::Tensor;
use std::sync::{Arc, RwLock, RwLockReadGuard, RwLockWriteGuard};

/// A named tensor of a model, trainable or frozen. Clones share the value.
#[derive(Clone)]
pub struct Param(Arc<Inner>);

struct Inner {
    name: String,
    value: RwLock<Tensor>,
    node: Option<Arc<Node>>,
}

impl std::fmt::Debug for Param {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let kind = if self.is_trainable() { "trainable" } else { "frozen" };
        write!(f, "{} {:?} {kind}", self.0.name, self.value())
    }
}

impl Param {
    /// A parameter that an optimiser may change.
    pub fn trainable(name: impl Into<String>, value: Tensor) -> Self {
        Self::new(name.into(), value, Some(Node::leaf()))
    }

    /// A parameter that stays as it is: no gradient is computed for it.
    pub fn frozen(name: impl Into<String>, value: Tensor) -> Self {
        Self::new(name.into(), value, None)
    }

    /// A frozen parameter of the same name that shares the present value.
    pub fn to_frozen(&self) -> Self {
        Self::frozen(self.name(), self.value())
    }

    fn new(name: String, value: Tensor, node: Option<Arc<Node>>) -> Self {
        Param(Arc::new(Inner { name, value: RwLock::new(value), node }))
    }

    /// Its name, as in files: "model.layers.0.self_attn.q_proj.weight".
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// Whether gradients flow into it.
    pub fn is_trainable(&self) -> bool {
        self.0.node.is_some()
    }

    /// The current value.
    pub fn value(&self) -> Tensor {
        self.read().clone()
    }

    /// The current value as the start of a computation.
    pub fn var(&self) -> Var {
        Var { value: self.value(), node: self.0.node.clone() }
    }

    /// Replaces the value.
    pub fn set(&self, value: Tensor) {
        self.update(|current| *current = value);
    }

    /// Changes the value in place: no copy is made when no other tensor shares its buffer.
    pub fn update<R>(&self, f: impl FnOnce(&mut Tensor) -> R) -> R {
        f(&mut self.value_mut())
    }

    /// The same as long as the value is held. Nobody else can read it then, this thread neither.
    pub(crate) fn value_mut(&self) -> RwLockWriteGuard<'_, Tensor> {
        self.0.value.write().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    pub(super) fn id(&self) -> Option<u64> {
        self.0.node.as_ref().map(|n| n.id)
    }

    fn read(&self) -> RwLockReadGuard<'_, Tensor> {
        self.0.value.read().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}
