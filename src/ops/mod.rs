//! One file an op: shape checks, FLOP and byte counts, forward and backward, dispatch to the devices.
//!
//! A differentiable op is a struct with its attributes that implements [`Op`]; `autograd::apply` runs it. What has
//! no gradient (top-k, optimiser steps) is a plain function on tensors. An op never copies to another device: where
//! the device has no kernel, it returns [`Error::Unsupported`](crate::Error).

pub mod activation;
pub mod adamw;
pub mod adapted_linear;
pub mod add;
pub mod attention_inputs;
pub mod clip_norm;
pub mod concat_rows;
pub mod cross_entropy;
pub mod dropout;
pub mod embedding;
pub mod feed_forward;
pub mod forest_attention;
pub mod gated_linear;
pub mod gather_dot;
pub mod gru;
pub mod info_nce;
pub mod l2_normalize;
pub mod layer_norm;
pub mod linear;
pub mod linear_cross_entropy;
pub mod log_sigmoid;
pub mod matmul;
pub mod mean_rows;
pub mod mul;
pub mod norm_score;
pub mod read_together;
pub mod reduce;
pub mod reshape;
pub mod retrieve;
pub mod rms_norm;
pub mod rope;
pub mod scale;
pub mod sequence_layout;
pub mod standing;
pub mod sub_row;
pub mod swiglu;
pub mod td_loss;
pub mod td_targets;
pub mod top_k;

pub use activation::Activation;
pub use adapted_linear::AdaptedLinear;
pub use attention_inputs::AttentionInputs;
pub use concat_rows::ConcatRows;
pub use cross_entropy::CrossEntropy;
pub use dropout::Dropout;
pub use embedding::Embedding;
pub use feed_forward::FeedForward;
pub use forest_attention::ForestAttention;
pub use gated_linear::GatedLinear;
pub use gather_dot::GatherDot;
pub use gru::Gru;
pub use info_nce::InfoNce;
pub use l2_normalize::L2Normalize;
pub use layer_norm::LayerNorm;
pub use linear::Linear;
pub use linear_cross_entropy::LinearCrossEntropy;
pub use log_sigmoid::PairLogSigmoid;
pub use matmul::Matmul;
pub use mean_rows::MeanRows;
pub use mul::Mul;
pub use norm_score::NormScore;
pub use read_together::read_together;
pub use reduce::{DotWeights, Mean, Sum};
pub use reshape::Reshape;
pub use retrieve::retrieve;
pub use rms_norm::RmsNorm;
pub use rope::{Rope, RopeTable};
pub use scale::Scale;
pub use sequence_layout::SequenceLayout;
pub use sub_row::SubRow;
pub use swiglu::SwiGlu;
pub use td_loss::TdLoss;
pub use td_targets::td_targets;
pub use top_k::top_k;

pub use crate::device::Cost;
use crate::device::{DType, Device};
use crate::tensor::Tensor;
use crate::{Error, Result};

/// A differentiable operation with one output.
pub trait Op: Send + Sync {
    /// The op's name: its file's.
    fn name(&self) -> &'static str;

    /// Runs it. `record` says that [`Op::backward`] will follow, so that intermediate values are worth keeping.
    fn forward(&mut self, inputs: &[&Tensor], record: bool) -> Result<Tensor>;

    /// Gradients with respect to those inputs that `saved.needs` asks for; `None` for the others.
    fn backward(&self, saved: &Saved, grad: &Tensor) -> Result<Vec<Option<Tensor>>>;

    /// The same, each gradient added to what is in `sums` for its input, if anything is: what other ops have sent there before.
    fn backward_onto(
        &self,
        saved: &Saved,
        grad: &Tensor,
        sums: Vec<Option<Tensor>>,
    ) -> Result<Vec<Option<Tensor>>> {
        add_to(sums, self.backward(saved, grad)?)
    }

    /// Work of one forward call.
    fn cost(&self, inputs: &[&Tensor]) -> Cost;

    /// Type of the factors of the products that are most of a forward call's work, as they are stored.
    fn factors(&self, _inputs: &[&Tensor]) -> DType {
        DType::F32
    }

    /// Whether a forward call consists of other ops that tell a profile their own parts of this work.
    fn tells_by_parts(&self, _inputs: &[&Tensor]) -> bool {
        false
    }

    /// Work of one backward call, approximately as in [`Op::cost`]. Zero where it is that of other ops, which tell their
    /// own, and where nothing is computed or moved.
    fn backward_cost(&self, _saved: &Saved, _grad: &Tensor) -> Cost {
        Cost::default()
    }

    /// Whether backward reads input `index`, given which inputs need a gradient. What is not kept is freed.
    fn keeps_input(&self, _index: usize, _needs: &[bool]) -> bool {
        true
    }

    /// Whether backward reads the output.
    fn keeps_output(&self) -> bool {
        false
    }
}

/// What backward gets back from forward.
pub struct Saved<'a> {
    inputs: &'a [Option<Tensor>],
    output: Option<&'a Tensor>,
    /// Which inputs need a gradient.
    pub needs: &'a [bool],
}

impl<'a> Saved<'a> {
    /// Collects what was kept.
    pub fn new(inputs: &'a [Option<Tensor>], output: Option<&'a Tensor>, needs: &'a [bool]) -> Self {
        Saved { inputs, output, needs }
    }

    /// Input `index`, which `keeps_input` asked for.
    pub fn input(&self, index: usize) -> &'a Tensor {
        self.inputs[index].as_ref().expect("keeps_input asked for this input")
    }

    /// The output, which `keeps_output` asked for.
    pub fn output(&self) -> &'a Tensor {
        self.output.expect("keeps_output asked for the output")
    }
}

/// What is in `sums`, plus `grads`.
pub(crate) fn add_to(sums: Vec<Option<Tensor>>, grads: Vec<Option<Tensor>>) -> Result<Vec<Option<Tensor>>> {
    let both = |(sum, grad): (Option<Tensor>, Option<Tensor>)| match (sum, grad) {
        (Some(mut sum), Some(grad)) => add::add_assign(&mut sum, &grad).map(|()| Some(sum)),
        (sum, grad) => Ok(sum.or(grad)),
    };
    sums.into_iter().zip(grads).map(both).collect()
}

/// Bytes of some tensors.
pub(crate) fn bytes_of(tensors: &[&Tensor]) -> u64 {
    tensors.iter().map(|t| (t.len() * t.dtype().size()) as u64).sum()
}

/// An error unless `found == expected`.
pub(crate) fn expect_shape(op: &'static str, what: &str, found: &Tensor, expected: &[usize]) -> Result<()> {
    if found.shape() != expected {
        return Err(Error::shape(op, format!("{what} has shape {:?}, expected {expected:?}", found.shape())));
    }
    Ok(())
}

/// An error unless all tensors have the type and the device of the first.
pub(crate) fn expect_alike(op: &'static str, tensors: &[&Tensor]) -> Result<()> {
    let Some((first, others)) = tensors.split_first() else { return Ok(()) };
    for other in others {
        if other.dtype() != first.dtype() || other.device() != first.device() {
            return Err(Error::shape(op, format!("{first:?} and {other:?} differ in type or device")));
        }
    }
    Ok(())
}

/// An error unless `ids` are u32 on the device of `beside` and all below `limit`.
pub(crate) fn expect_ids(op: &'static str, ids: &Tensor, beside: &Tensor, limit: usize) -> Result<()> {
    if ids.dtype() != DType::U32 || ids.device() != beside.device() {
        let problem = format!("ids must be u32 on device {}, found {ids:?}", beside.device());
        return Err(Error::shape(op, problem));
    }
    match ids.device() {
        Device::Cuda(_) | Device::WebGpu(_) if ids.id_bound()? as usize <= limit => Ok(()),
        Device::Cuda(_) | Device::WebGpu(_) => {
            let found = match ids.id_bound()? {
                u32::MAX => "is missing (a search found too few scores that are numbers)".to_string(),
                bound => format!("is {}", bound - 1),
            };
            Err(Error::shape(op, format!("an id {found}, ids must be below {limit}")))
        }
        Device::Cpu => match ids.host::<u32>().iter().enumerate().find(|&(_, &id)| id as usize >= limit) {
            None => Ok(()),
            Some((position, id)) => {
                let problem =
                    format!("id {id} at position {position} is out of range, ids must be below {limit}");
                Err(Error::shape(op, problem))
            }
        },
    }
}

/// An error for what is no f32 on an adapter, which computes in nothing else.
fn expect_float(op: &'static str, x: &Tensor) -> Result<()> {
    match x.dtype() {
        DType::F32 => Ok(()),
        other => Err(Error::Unsupported { op, device: x.device().to_string(), detail: other.to_string() }),
    }
}

/// An error unless an op of x can give that type: x's own, or on CUDA and the CPU, where nothing is recorded, bf16.
fn expect_output(op: &'static str, x: &Tensor, giving: DType, record: bool) -> Result<()> {
    let half = giving == DType::BF16 && x.dtype() == DType::F32 && !matches!(x.device(), Device::WebGpu(_));
    if giving == x.dtype() || (half && !record) {
        return Ok(());
    }
    let recorded = if record { ", recorded" } else { "" };
    let detail = format!("an output in {giving} of {}{recorded}", x.dtype());
    Err(Error::Unsupported { op, device: x.device().to_string(), detail })
}

/// An error for what is neither f32 nor, on CUDA and in rows of an even width, bf16: of ops that copy.
fn expect_words(op: &'static str, x: &Tensor, width: usize) -> Result<()> {
    match x.device() {
        Device::Cuda(_) if x.dtype() == DType::BF16 && width.is_multiple_of(2) => Ok(()),
        _ => expect_float(op, x),
    }
}

/// Runs `$body` with `$T` bound to the float type of `$dtype`; other types are `Error::Unsupported`.
macro_rules! float_type {
    ($op:expr, $tensor:expr, $T:ident => $body:expr) => {
        match $tensor.dtype() {
            $crate::device::DType::F32 => {
                type $T = f32;
                $body
            }
            $crate::device::DType::F64 => {
                type $T = f64;
                $body
            }
            other => Err($crate::Error::Unsupported {
                op: $op,
                device: $tensor.device().to_string(),
                detail: other.to_string(),
            }),
        }
    };
}
pub(crate) use float_type;

/// Runs `$body` with `$T` bound to `$tensor`'s type, f32, f64 or bf16: for ops that copy elements in host memory.
macro_rules! stored_type {
    ($op:expr, $tensor:expr, $T:ident => $body:expr) => {
        match $tensor.dtype() {
            $crate::device::DType::BF16 => {
                type $T = half::bf16;
                $body
            }
            _ => $crate::ops::float_type!($op, $tensor, $T => $body),
        }
    };
}
pub(crate) use stored_type;
