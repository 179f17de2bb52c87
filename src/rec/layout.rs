//! Packed rows as the encoders see them: causal sequences one after another, without padding.

use crate::Result;
use crate::device::{AttentionIndex, Device};
use crate::ops::SequenceLayout;
use crate::tensor::Tensor;
use std::sync::{Arc, OnceLock};

/// Rows of packed sequences. What only one kind of encoder needs is built when it asks.
pub struct Layout {
    lengths: Vec<usize>,
    positions: Tensor,
    attention: OnceLock<Arc<AttentionIndex>>,
    sequences: OnceLock<Arc<SequenceLayout>>,
}

impl Layout {
    /// Sequences of `lengths` rows each.
    pub fn new(device: &Device, lengths: &[usize]) -> Result<Self> {
        let positions: Vec<u32> = lengths.iter().flat_map(|&length| 0..length as u32).collect();
        Ok(Layout {
            lengths: lengths.to_vec(),
            positions: Tensor::from_ids(device, &positions)?,
            attention: OnceLock::new(),
            sequences: OnceLock::new(),
        })
    }

    /// Length of every sequence.
    pub fn lengths(&self) -> &[usize] {
        &self.lengths
    }

    /// Place of every row in its sequence, u32 `[rows]`.
    pub fn positions(&self) -> &Tensor {
        &self.positions
    }

    /// Causal attention inside every sequence.
    pub fn attention(&self) -> Result<Arc<AttentionIndex>> {
        if let Some(index) = self.attention.get() {
            return Ok(index.clone());
        }
        let index = Arc::new(AttentionIndex::causal(&self.lengths)?);
        Ok(self.attention.get_or_init(|| index).clone())
    }

    /// The sequences in the form of the recurrent op.
    pub fn sequences(&self) -> Result<Arc<SequenceLayout>> {
        if let Some(layout) = self.sequences.get() {
            return Ok(layout.clone());
        }
        let layout = Arc::new(SequenceLayout::new(&self.lengths)?);
        Ok(self.sequences.get_or_init(|| layout).clone())
    }
}
