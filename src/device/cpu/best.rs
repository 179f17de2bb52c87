//! The k best of a stream of scores, in memory of O(k): scores below the k-th best so far are passed over sixteen
//! at a time, the others collect until the buffer is full and is cut back to k.

use super::Float;
use super::simd::{Kernel, LANES};

/// A float whose order, together with an id, fits an integer: one comparison of integers ranks two scored ids.
pub trait Ranked: Float {
    /// The integer; larger is better.
    type Rank: Ord + Copy + Send + Sync;
    /// By score, of equal ones (0 and −0 are) the smaller id first. The score is not NaN.
    fn rank(self, id: u32) -> Self::Rank;
    /// Score and id.
    fn unrank(rank: Self::Rank) -> (Self, u32);
}

impl Ranked for f32 {
    type Rank = u64;

    #[inline(always)]
    fn rank(self, id: u32) -> u64 {
        // Adding 0 turns −0 into 0. Negative numbers order by falling magnitude, so all their bits are turned over.
        let bits = (self + 0.0).to_bits();
        let ordered = if bits >> 31 == 0 { bits | 1 << 31 } else { !bits };
        u64::from(ordered) << 32 | u64::from(!id)
    }

    fn unrank(rank: u64) -> (f32, u32) {
        let ordered = (rank >> 32) as u32;
        let bits = if ordered >> 31 == 1 { ordered & !(1 << 31) } else { !ordered };
        (f32::from_bits(bits), !(rank as u32))
    }
}

impl Ranked for f64 {
    type Rank = (u64, u32);

    #[inline(always)]
    fn rank(self, id: u32) -> (u64, u32) {
        let bits = (self + 0.0).to_bits();
        let ordered = if bits >> 63 == 0 { bits | 1 << 63 } else { !bits };
        (ordered, !id)
    }

    fn unrank((ordered, id): (u64, u32)) -> (f64, u32) {
        let bits = if ordered >> 63 == 1 { ordered & !(1 << 63) } else { !ordered };
        (f64::from_bits(bits), !id)
    }
}

/// Scores seen so far that may be among the best. Larger is better, of equal ones the smaller id; NaN never is.
pub struct Best<T: Ranked> {
    k: usize,
    /// Entries that are cut back to k. A single one is replaced at once, so that few scores need a look by themselves.
    room: usize,
    entries: Vec<T::Rank>,
    /// The k-th best when the buffer was last cut; only a larger score can still matter, for ids ascend.
    threshold: Option<T>,
}

impl<T: Ranked> Best<T> {
    /// Of `k` at least 1.
    pub fn new(k: usize) -> Self {
        let room = if k == 1 { 1 } else { 2 * k + LANES };
        Best { k, room, entries: Vec::new(), threshold: None }
    }

    /// Considers one score; ids must ascend from call to call.
    #[inline(always)]
    fn consider(&mut self, score: T, id: u32, exclude: &[u32]) {
        let matters = match self.threshold {
            Some(threshold) => score > threshold,
            None => !score.is_nan(),
        };
        if matters && exclude.binary_search(&id).is_err() {
            self.entries.push(score.rank(id));
            if self.entries.len() >= self.room {
                self.cut();
            }
        }
    }

    #[cold]
    fn cut(&mut self) {
        let (_, &mut kth, _) = self.entries.select_nth_unstable_by(self.k - 1, |a, b| b.cmp(a));
        self.threshold = Some(T::unrank(kth).0);
        self.entries.truncate(self.k);
    }

    /// Writes the best in descending order; where there are fewer than k, −∞ and `u32::MAX`. Empties the stream.
    pub fn finish(&mut self, values: &mut [T], ids: &mut [u32]) {
        if self.entries.len() > self.k {
            self.cut();
        }
        self.entries.sort_unstable_by(|a, b| b.cmp(a));
        values.fill(T::NEG_INFINITY);
        ids.fill(u32::MAX);
        for ((value, id), &rank) in values.iter_mut().zip(ids).zip(&self.entries) {
            (*value, *id) = T::unrank(rank);
        }
        self.entries.clear();
        self.threshold = None;
    }
}

/// Considers `scores` of the ids `first..`, but those in `exclude`, which is sorted.
pub struct Consider<'a, T: Ranked> {
    /// Where they go.
    pub best: &'a mut Best<T>,
    /// A run of scores.
    pub scores: &'a [T],
    /// Id of the first.
    pub first: u32,
    /// Ids to leave out, ascending.
    pub exclude: &'a [u32],
}

impl<T: Ranked> Kernel for Consider<'_, T> {
    type Output = ();
    #[inline(always)]
    fn run<const FMA: bool>(self) {
        let Consider { best, scores, first, exclude } = self;
        for (i, chunk) in scores.chunks(LANES).enumerate() {
            let passed_over = match (best.threshold, chunk.first_chunk::<LANES>()) {
                (Some(threshold), Some(chunk)) => none_above(chunk, threshold),
                _ => false,
            };
            if !passed_over {
                for (j, &score) in chunk.iter().enumerate() {
                    best.consider(score, first + (i * LANES + j) as u32, exclude);
                }
            }
        }
    }
}

#[inline(always)]
fn none_above<T: Float>(chunk: &[T; LANES], threshold: T) -> bool {
    let mut any = false;
    for &score in chunk {
        any |= score > threshold;
    }
    !any
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_order_as_scores_and_ids_do_and_give_them_back() {
        let scores = [f64::NEG_INFINITY, -3e38, -1.5, -1e-40, 0.0, 1e-40, 1.5, 3e38, f64::INFINITY];
        let ascending = scores.iter().flat_map(|&s| [(s, 7), (s, 0)]).collect::<Vec<_>>();
        for pair in ascending.windows(2) {
            let [(a, i), (b, j)] = [pair[0], pair[1]];
            assert!(a.rank(i) < b.rank(j) && (a as f32).rank(i) < (b as f32).rank(j), "{pair:?}");
        }
        for (score, id) in ascending {
            assert_eq!(f64::unrank(score.rank(id)), (score, id));
            assert_eq!(f32::unrank((score as f32).rank(id)), (score as f32, id));
        }
        assert_eq!((-0.0f32).rank(3), 0.0f32.rank(3));
    }
}
