//! How sequences of different lengths lie in one matrix of rows: one after the other, each in the order of time.

use crate::{Error, Result};

/// Packed sequences, and the order in which a recurrence visits their rows: step by step, at each step all
/// sequences that are long enough, the longest first. So what is active at a step is a prefix of what was active
/// at the step before, and no padding is ever computed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SequenceLayout {
    /// First row of every sequence, and the number of rows at the end.
    starts: Vec<usize>,
    /// `rows_by_step[steps[t]..steps[t + 1]]` are the rows visited at step t.
    steps: Vec<usize>,
    rows_by_step: Vec<u32>,
}

impl SequenceLayout {
    /// Sequences of these lengths, in this order; a length may be 0. An error beyond 2³² rows.
    pub fn new(lengths: &[usize]) -> Result<Self> {
        let mut starts = vec![0];
        for &length in lengths {
            starts.push(starts[starts.len() - 1] + length);
        }
        let rows = starts[lengths.len()];
        if u32::try_from(rows).is_err() {
            return Err(Error::shape("sequence layout", format!("{rows} rows, at most {} fit", u32::MAX)));
        }
        let mut order: Vec<usize> = (0..lengths.len()).collect();
        order.sort_by_key(|&sequence| std::cmp::Reverse(lengths[sequence]));
        let mut steps = vec![0];
        let mut rows_by_step = Vec::with_capacity(rows);
        let mut active = order.len();
        for t in 0.. {
            while active > 0 && lengths[order[active - 1]] <= t {
                active -= 1;
            }
            if active == 0 {
                break;
            }
            rows_by_step.extend(order[..active].iter().map(|&sequence| (starts[sequence] + t) as u32));
            steps.push(rows_by_step.len());
        }
        Ok(SequenceLayout { starts, steps, rows_by_step })
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.rows_by_step.len()
    }

    /// Number of sequences.
    pub fn sequences(&self) -> usize {
        self.starts.len() - 1
    }

    /// Rows of sequence `sequence`.
    pub fn range(&self, sequence: usize) -> std::ops::Range<usize> {
        self.starts[sequence]..self.starts[sequence + 1]
    }

    /// Last row of every sequence that has rows, in the order of the sequences.
    pub fn ends(&self) -> Vec<u32> {
        let filled = self.starts.windows(2).filter(|pair| pair[0] < pair[1]);
        filled.map(|pair| pair[1] as u32 - 1).collect()
    }

    /// Time step of every row within its sequence, from 0: the position of a learned position embedding.
    pub fn positions(&self) -> Vec<u32> {
        (0..self.sequences()).flat_map(|sequence| 0..self.range(sequence).len() as u32).collect()
    }

    /// Where each step's rows begin in [`Self::rows_by_step`]; one more than there are steps.
    pub(crate) fn steps(&self) -> &[usize] {
        &self.steps
    }

    /// Rows in the order of their visit.
    pub(crate) fn rows_by_step(&self) -> &[u32] {
        &self.rows_by_step
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_visit_every_row_once_longest_sequence_first() {
        let layout = SequenceLayout::new(&[2, 0, 3, 1, 3]).unwrap();
        assert_eq!((layout.rows(), layout.sequences()), (9, 5));
        assert_eq!(layout.steps(), [0, 4, 7, 9]);
        assert_eq!(layout.rows_by_step(), [2, 6, 0, 5, 3, 7, 1, 4, 8]);
        assert_eq!(layout.ends(), [1, 4, 5, 8]);
        assert_eq!(layout.positions(), [0, 1, 0, 1, 2, 0, 0, 1, 2]);
        assert_eq!(layout.range(2), 2..5);
    }

    #[test]
    fn no_sequences_and_empty_ones_have_no_rows() {
        for lengths in [&[][..], &[0, 0]] {
            let layout = SequenceLayout::new(lengths).unwrap();
            assert_eq!((layout.rows(), layout.steps()), (0, &[0][..]));
            assert!(layout.ends().is_empty());
        }
    }
}
