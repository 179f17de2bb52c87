//! How a target's score stands among the scores of all columns of a linear head: counted a tile at a time, so that the
//! scores are never all there. Bound by the arithmetic of the product.

use super::linear_cross_entropy::Head;
use super::matmul::{Factor, Matrix, Terms, Threads, matmul, matmul_prepared};
use super::simd::{self, Kernel};
use super::{Buffer, Float};
use rayon::prelude::*;

/// Rows and columns in a tile of scores: 512 KiB of f32, about a core's own cache.
const ROWS: usize = 128;
const COLUMNS: usize = 1024;

/// Other columns that score higher than the target, and those that score the same. A target whose score is NaN stands
/// below all others, a NaN above none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// Higher.
    pub above: u32,
    /// The same.
    pub equal: u32,
}

struct Count<'a, T> {
    scores: &'a [T],
    own: T,
}

impl<T: Float> Kernel for Count<'_, T> {
    type Output = Standing;
    #[inline(always)]
    fn run<const FMA: bool>(self) -> Standing {
        let mut all = Standing::default();
        for &score in self.scores {
            all.above += u32::from(score > self.own);
            all.equal += u32::from(score == self.own);
        }
        all
    }
}

impl Standing {
    /// Of a target with the score `own` among some scores, without that at `target` if it is among them.
    pub fn among<T: Float>(scores: &[T], own: T, target: Option<usize>) -> Self {
        if own.is_nan() {
            let others = scores.len() - usize::from(target.is_some());
            return Standing { above: others as u32, equal: 0 };
        }
        let all = simd::dispatch(Count { scores, own });
        let itself = target.map_or(Standing::default(), |target| {
            simd::dispatch(Count { scores: &scores[target..=target], own })
        });
        Standing { above: all.above - itself.above, equal: all.equal - itself.equal }
    }

    fn add(&mut self, other: Standing) {
        self.above += other.above;
        self.equal += other.equal;
    }
}

/// Of every row's target; `standings: [rows]`.
pub fn standings<T: Float>(head: Head<T>, standings: &mut [Standing]) {
    let Head { h, weight, bias, targets } = head;
    let d = weight.len() / bias.len().max(1);
    let own = own_scores(head, d);
    standings.fill(Standing::default());
    let threads = Threads::of_tasks(standings.len().div_ceil(ROWS));
    for first in (0..bias.len()).step_by(COLUMNS) {
        let columns = COLUMNS.min(bias.len() - first);
        let part = Factor::new(Matrix::transposed(&weight[first * d..(first + columns) * d], d, columns));
        let terms = Terms { bias: Some(&bias[first..first + columns]), ..Terms::default() };
        let room = || Buffer::scratch(T::DTYPE, ROWS * columns);
        standings.par_chunks_mut(ROWS).enumerate().for_each_init(room, |scores, (tile, standings)| {
            let rows = tile * ROWS..tile * ROWS + standings.len();
            let scores = &mut scores.as_mut_slice::<T>()[..rows.len() * columns];
            let x = Matrix::new(&h[rows.start * d..rows.end * d], rows.len(), d);
            matmul_prepared(x, &part, scores, terms, threads);
            for ((row, standing), scores) in rows.zip(standings).zip(scores.chunks_exact(columns)) {
                let target = (targets[row] as usize).checked_sub(first).filter(|&target| target < columns);
                standing.add(Standing::among(scores, own[row], target));
            }
        });
    }
}

/// Scores of the targets: those on the diagonal of rows times their targets' weights, as the product of all would give them.
fn own_scores<T: Float>(head: Head<T>, d: usize) -> Vec<T> {
    let mut own = vec![T::ZERO; head.targets.len()];
    own.par_chunks_mut(ROWS).zip(head.targets.par_chunks(ROWS)).enumerate().for_each(
        |(tile, (own, targets))| {
            let rows = own.len();
            // Products of few columns sum in another order.
            let columns = rows.max(4);
            let weights: Vec<T> = (0..columns)
                .flat_map(|i| &head.weight[targets[i % rows] as usize * d..][..d])
                .copied()
                .collect();
            let mut scores = vec![T::ZERO; rows * columns];
            let x = Matrix::new(&head.h[tile * ROWS * d..][..rows * d], rows, d);
            matmul(x, Matrix::transposed(&weights, d, columns), &mut scores, false);
            for (i, own) in own.iter_mut().enumerate() {
                *own = scores[i * columns + i] + head.bias[targets[i] as usize];
            }
        },
    );
    own
}
