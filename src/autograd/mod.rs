//! Reverse-mode differentiation: a tape of [`Op`]s that grows as they are applied and is freed by reference count.
//!
//! Only what leads to a trainable parameter is recorded; a frozen parameter costs neither a gradient nor the
//! memory to make one. [`checkpoint`] trades the activations of a section for running it again.

mod backward;
mod checkpoint;
pub mod counter;
pub mod gradcheck;
mod param;

pub use backward::{Gradients, backward};
pub use checkpoint::checkpoint;
pub use param::Param;

use crate::Result;
use crate::device::{Device, profile};
use crate::ops::{Cost, Op};
use crate::tensor::Tensor;
use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A tensor, and how it was computed where a gradient may be asked for.
#[derive(Clone, Debug)]
pub struct Var {
    value: Tensor,
    node: Option<Arc<Node>>,
}

/// One recorded step. Ids grow in the order of recording, so descending ids are a topological order.
pub(crate) struct Node {
    id: u64,
    kind: Kind,
}

enum Kind {
    Leaf,
    Applied(Applied),
    Checkpoint(checkpoint::Section),
}

struct Applied {
    op: Box<dyn Op>,
    parents: Vec<Option<Arc<Node>>>,
    inputs: Vec<Option<Tensor>>,
    output: Option<Tensor>,
}

impl std::fmt::Debug for Node {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let kind = match &self.kind {
            Kind::Leaf => "leaf",
            Kind::Applied(applied) => applied.op.name(),
            Kind::Checkpoint(_) => "checkpoint",
        };
        write!(f, "{kind}#{}", self.id)
    }
}

impl Node {
    fn new(kind: Kind) -> Arc<Self> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Arc::new(Node { id: NEXT.fetch_add(1, Ordering::Relaxed), kind })
    }

    pub(crate) fn leaf() -> Arc<Self> {
        Self::new(Kind::Leaf)
    }
}

impl Var {
    /// A value without a gradient.
    pub fn constant(value: Tensor) -> Self {
        Var { value, node: None }
    }

    /// A value whose gradient [`Gradients::of`] will tell.
    pub fn leaf(value: Tensor) -> Self {
        Var { value, node: Some(Node::leaf()) }
    }

    /// The tensor.
    pub fn value(&self) -> &Tensor {
        &self.value
    }

    /// The tensor, dropping this handle's share of the tape.
    pub fn into_value(self) -> Tensor {
        self.value
    }

    /// Whether a gradient can flow into it.
    pub fn requires_grad(&self) -> bool {
        self.node.is_some()
    }

    /// The same value, cut off from the tape.
    pub fn detach(&self) -> Self {
        Var::constant(self.value.clone())
    }
}

thread_local! {
    static RECORDING: Cell<bool> = const { Cell::new(true) };
}

/// Runs `f` without recording on this thread: no gradient will be asked for.
pub fn no_grad<R>(f: impl FnOnce() -> R) -> R {
    with_recording(false, f)
}

fn with_recording<R>(on: bool, f: impl FnOnce() -> R) -> R {
    struct Restore(bool);
    impl Drop for Restore {
        fn drop(&mut self) {
            RECORDING.set(self.0);
        }
    }
    let _restore = Restore(RECORDING.replace(on));
    f()
}

/// Whether what is applied to `inputs` here is recorded.
pub fn is_recorded(inputs: &[&Var]) -> bool {
    RECORDING.get() && inputs.iter().any(|v| v.requires_grad())
}

/// Runs `op` on `inputs` and records it when one of them requires a gradient.
pub fn apply(mut op: impl Op + 'static, inputs: &[&Var]) -> Result<Var> {
    let needs: Vec<bool> = inputs.iter().map(|v| v.requires_grad()).collect();
    let record = is_recorded(inputs);
    let values: Vec<&Tensor> = inputs.iter().map(|v| &v.value).collect();
    let device = values.first().map_or(Device::Cpu, |x| x.device().clone());
    let cost = || if op.tells_by_parts(&values) { Cost::default() } else { op.cost(&values) };
    let range = profile::products(&device, op.name(), || (cost(), op.factors(&values)));
    let value = op.forward(&values, record)?;
    drop(range);
    counter::add(|| op.cost(&values));
    if !record {
        return Ok(Var::constant(value));
    }
    let kept = |i: usize, v: &Var| op.keeps_input(i, &needs).then(|| v.value.clone());
    let node = Node::new(Kind::Applied(Applied {
        inputs: inputs.iter().enumerate().map(|(i, v)| kept(i, v)).collect(),
        parents: inputs.iter().map(|v| v.node.clone()).collect(),
        output: op.keeps_output().then(|| value.clone()),
        op: Box::new(op),
    }));
    Ok(Var { value, node: Some(node) })
}
