//! The k best of a stream of scores, in memory of O(k): scores below the k-th best so far are passed over sixteen
//! at a time, the others collect until the buffer is full and is cut back to k.

use super::Float;
use super::simd::{Kernel, LANES};
use std::cmp::Ordering;

/// Scores seen so far that may be among the best. Larger is better, of equal ones the smaller id; NaN never is.
pub struct Best<T> {
    k: usize,
    entries: Vec<(T, u32)>,
    /// The k-th best when the buffer was last cut; only a larger score can still matter, for ids ascend.
    threshold: Option<T>,
}

fn order<T: Float>(a: &(T, u32), b: &(T, u32)) -> Ordering {
    b.0.partial_cmp(&a.0).unwrap_or(Ordering::Equal).then(a.1.cmp(&b.1))
}

impl<T: Float> Best<T> {
    /// Of `k` at least 1.
    pub fn new(k: usize) -> Self {
        Best { k, entries: Vec::new(), threshold: None }
    }

    /// Considers one score; ids must ascend from call to call.
    #[inline(always)]
    fn consider(&mut self, score: T, id: u32, exclude: &[u32]) {
        let matters = match self.threshold {
            Some(threshold) => score > threshold,
            None => !score.is_nan(),
        };
        if matters && exclude.binary_search(&id).is_err() {
            self.entries.push((score, id));
            if self.entries.len() >= 2 * self.k + LANES {
                self.cut();
            }
        }
    }

    #[cold]
    fn cut(&mut self) {
        let (_, kth, _) = self.entries.select_nth_unstable_by(self.k - 1, order);
        self.threshold = Some(kth.0);
        self.entries.truncate(self.k);
    }

    /// Writes the best in descending order; where there are fewer than k, −∞ and `u32::MAX`. Empties the stream.
    pub fn finish(&mut self, values: &mut [T], ids: &mut [u32]) {
        if self.entries.len() > self.k {
            self.cut();
        }
        self.entries.sort_unstable_by(order);
        values.fill(T::NEG_INFINITY);
        ids.fill(u32::MAX);
        for ((value, id), &(score, item)) in values.iter_mut().zip(ids).zip(&self.entries) {
            (*value, *id) = (score, item);
        }
        self.entries.clear();
        self.threshold = None;
    }
}

/// Considers `scores` of the ids `first..`, but those in `exclude`, which is sorted.
pub struct Consider<'a, T> {
    /// Where they go.
    pub best: &'a mut Best<T>,
    /// A run of scores.
    pub scores: &'a [T],
    /// Id of the first.
    pub first: u32,
    /// Ids to leave out, ascending.
    pub exclude: &'a [u32],
}

impl<T: Float> Kernel for Consider<'_, T> {
    type Output = ();
    #[inline(always)]
    fn run<const FMA: bool>(self) {
        let Consider { best, scores, first, exclude } = self;
        for (i, chunk) in scores.chunks(LANES).enumerate() {
            let passed_over = best.threshold.is_some_and(|t| chunk.len() == LANES && none_above(chunk, t));
            if !passed_over {
                for (j, &score) in chunk.iter().enumerate() {
                    best.consider(score, first + (i * LANES + j) as u32, exclude);
                }
            }
        }
    }
}

#[inline(always)]
fn none_above<T: Float>(chunk: &[T], threshold: T) -> bool {
    let mut any = false;
    for &score in chunk {
        any |= score > threshold;
    }
    !any
}
