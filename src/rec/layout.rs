//! Packed rows as the encoders see them: causal sequences one after another, without padding.

use crate::device::{AttentionIndex, Device};
use crate::ops::SequenceLayout;
use crate::tensor::Tensor;
use crate::{Error, Result};
use std::sync::{Arc, OnceLock};

/// Rows of packed sequences. What only one kind of encoder needs is built when it asks.
pub struct Layout {
    lengths: Vec<usize>,
    positions: Tensor,
    attention: OnceLock<Arc<AttentionIndex>>,
    sequences: OnceLock<Arc<SequenceLayout>>,
    read: Option<Read>,
}

/// Rows that leave an encoder.
pub struct Read {
    /// Their numbers, u32 `[read]`.
    pub rows: Tensor,
    on_host: Vec<u32>,
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
            read: None,
        })
    }

    /// Only `rows`, in this order, leave the encoder: the last layers need not run for others.
    ///
    /// # Errors
    /// A row beyond the last.
    pub fn reading(mut self, rows: &[u32]) -> Result<Self> {
        let all = self.positions.len();
        if let Some(row) = rows.iter().find(|&&row| row as usize >= all) {
            return Err(Error::shape("layout", format!("row {row} is to be read, there are {all}")));
        }
        // Where all leave as they are, there is nothing to choose.
        if !rows.iter().copied().eq(0..all as u32) {
            let on_device = Tensor::from_ids(self.positions.device(), rows)?;
            self.read = Some(Read { rows: on_device, on_host: rows.to_vec() });
        }
        Ok(self)
    }

    /// The rows that leave, unless all do.
    pub fn read(&self) -> Option<&Read> {
        self.read.as_ref()
    }

    /// Attention of the rows that leave to all that they see.
    pub fn attention_of_read(&self, read: &Read) -> Result<Arc<AttentionIndex>> {
        let all = self.attention()?;
        let ranges = read.on_host.iter().map(|&row| all.ranges()[row as usize]).collect();
        Ok(Arc::new(AttentionIndex::new(ranges, all.keys())?))
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
