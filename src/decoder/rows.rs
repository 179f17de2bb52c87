//! What a forward pass is told about its rows: where each stands, what it sees, which are read.

use crate::device::Device;
use crate::ops::forest_attention::{AttentionIndex, RowRanges};
use crate::tensor::Tensor;
use crate::{Error, Result};
use std::sync::Arc;

/// The rows of one forward pass. Built once a pack, used by all layers.
#[derive(Clone, Debug)]
pub struct Rows {
    pub(super) positions: Tensor,
    /// The largest position, to be checked against the decoder's context.
    pub(super) deepest: Option<u32>,
    pub(super) index: Arc<AttentionIndex>,
    pub(super) read: Option<Arc<ReadRows>>,
    pub(super) dropout_step: Option<u64>,
    host_positions: Vec<u32>,
}

/// The rows that leave the last layer.
#[derive(Debug)]
pub(super) struct ReadRows {
    pub rows: Tensor,
    pub positions: Tensor,
    pub index: Arc<AttentionIndex>,
}

impl Rows {
    /// Rows at `positions` (their depth), whose visible keys `index` tells: the pass's own rows, after resident
    /// ones if there are any.
    pub fn new(device: &Device, positions: &[u32], index: Arc<AttentionIndex>) -> Result<Self> {
        if positions.len() != index.rows() {
            let problem = format!("{} positions for the {} rows of the index", positions.len(), index.rows());
            return Err(Error::shape("rows", problem));
        }
        Ok(Rows {
            positions: Tensor::from_ids(device, positions)?,
            deepest: positions.iter().max().copied(),
            index,
            read: None,
            dropout_step: None,
            host_positions: positions.to_vec(),
        })
    }

    /// Packed causal texts of the given lengths.
    pub fn causal(device: &Device, lengths: &[usize]) -> Result<Self> {
        let positions: Vec<u32> = lengths.iter().flat_map(|&length| 0..length as u32).collect();
        Self::new(device, &positions, Arc::new(AttentionIndex::causal(lengths)?))
    }

    /// `length` more rows of one text whose first `resident` rows are in a cache.
    pub fn continuing(device: &Device, resident: usize, length: usize) -> Result<Self> {
        let positions: Vec<u32> = (resident..resident + length).map(|p| p as u32).collect();
        let seen = |&p: &u32| RowRanges([(0, 0), (0, p + 1), (0, 0), (0, 0)]);
        let ranges = positions.iter().map(seen).collect();
        Self::new(device, &positions, Arc::new(AttentionIndex::new(ranges, resident + length)?))
    }

    /// Only `rows`, in this order, leave the last layer: the output has one row for each.
    pub fn reading(mut self, rows: &[u32]) -> Result<Self> {
        let all = self.host_positions.len();
        if let Some(row) = rows.iter().find(|&&row| row as usize >= all) {
            return Err(Error::shape("rows", format!("row {row} is to be read, there are {all}")));
        }
        let device = self.positions.device();
        let positions: Vec<u32> = rows.iter().map(|&row| self.host_positions[row as usize]).collect();
        let ranges = rows.iter().map(|&row| self.index.ranges()[row as usize]).collect();
        self.read = Some(Arc::new(ReadRows {
            rows: Tensor::from_ids(device, rows)?,
            positions: Tensor::from_ids(device, &positions)?,
            index: Arc::new(AttentionIndex::new(ranges, self.index.keys())?),
        }));
        Ok(self)
    }

    /// The rows as a layer with a sliding window of `width` rows has them.
    ///
    /// # Errors
    /// A row that does not see all above it: which keys are near it is then unknown.
    pub(super) fn windowed(&self, width: usize) -> Result<Self> {
        let seen = self.index.ranges().iter().map(|ranges| ranges.len());
        if let Some(row) = seen.zip(&self.host_positions).position(|(seen, &p)| seen != p as usize + 1) {
            let problem = format!("row {row} does not see all above it, as a sliding window needs");
            return Err(Error::shape("rows", problem));
        }
        let index = self.index.windowed(width)?;
        let read = match &self.read {
            Some(read) => Some(Arc::new(ReadRows {
                index: Arc::new(read.index.windowed(width)?),
                rows: read.rows.clone(),
                positions: read.positions.clone(),
            })),
            None => None,
        };
        Ok(Rows { index: Arc::new(index), read, ..self.clone() })
    }

    /// A training pass: adapters drop inputs by the masks of step `step`.
    pub fn training(mut self, step: u64) -> Self {
        self.dropout_step = Some(step);
        self
    }

    /// Number of rows that enter.
    pub fn len(&self) -> usize {
        self.host_positions.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.host_positions.is_empty()
    }
}
