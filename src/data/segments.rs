//! How a history that is longer than what a model reads at once is cut.
//!
//! Segments of H steps start every ⌊H/2⌋ steps. The first owns all its steps, a later one those of its second half, so
//! that every step is owned once and sees at least H/2 earlier items, or all there are.

use std::ops::Range;

/// One segment of a user's steps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segment {
    /// Steps that are read.
    pub reads: Range<usize>,
    /// Steps of which the result counts; the last ones of `reads`.
    pub owns: Range<usize>,
}

/// Cuts `steps` steps into segments of at most `history` (at least 1), in time order.
pub fn segments(steps: usize, history: usize) -> Vec<Segment> {
    let history = history.max(1);
    let stride = (history / 2).max(1);
    let first = Segment { reads: 0..steps.min(history), owns: 0..steps.min(history) };
    let mut segments = vec![first];
    let mut owned = history;
    while owned < steps {
        let end = (owned + stride).min(steps);
        segments.push(Segment { reads: owned + stride - history..end, owns: owned..end });
        owned += stride;
    }
    segments
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_history_is_cut_with_half_overlap() {
        let of = |reads, owns| Segment { reads, owns };
        let expected = [of(0..10, 0..10), of(5..15, 10..15), of(10..20, 15..20), of(15..23, 20..23)];
        assert_eq!(segments(23, 10), expected);
        assert_eq!(segments(10, 10), [of(0..10, 0..10)]);
        assert_eq!(segments(3, 10), [of(0..3, 0..3)]);
    }

    #[test]
    fn every_step_is_owned_once_and_sees_half_a_history() {
        for history in [1, 2, 3, 5, 10, 11] {
            for steps in 0..60 {
                let cut = segments(steps, history);
                let owned: Vec<usize> = cut.iter().flat_map(|s| s.owns.clone()).collect();
                assert_eq!(owned, (0..steps).collect::<Vec<_>>(), "history {history}");
                for segment in &cut {
                    assert!(segment.reads.len() <= history && segment.reads.end == segment.owns.end);
                    for step in segment.owns.clone() {
                        assert!(step - segment.reads.start >= step.min(history / 2));
                    }
                }
            }
        }
    }
}
