//! Full-ranking evaluation: every step is predicted from exactly the last H items before it.

use super::layout::Layout;
use super::metrics::{Ranking, rank_of};
use super::network::Network;
use super::noise::Noise;
use crate::autograd::{Var, no_grad};
use crate::data::{Dataset, Part, Split};
use crate::tensor::Tensor;
use crate::{Result, interrupt};

/// Rows that the encoder reads in one piece.
const ROWS: usize = 16_384;

/// Steps to predict, packed into sequences for a causal encoder.
///
/// The first H steps of a user share one sequence, whose rows see just the items before them; every later step has a
/// sequence of its own.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct EvalSteps {
    pieces: Vec<Piece>,
}

#[derive(Debug, Clone, Default, PartialEq)]
struct Piece {
    lengths: Vec<usize>,
    items: Vec<u32>,
    rows: Vec<u32>,
    targets: Vec<u32>,
}

impl EvalSteps {
    /// The steps of `part`, for an encoder that reads `history` items.
    pub fn new(data: &Dataset, split: &Split, part: Part, history: usize) -> Self {
        let mut steps = EvalSteps::default();
        for (u, user) in data.users.iter().enumerate() {
            let items: Vec<u32> = user.events.iter().map(|event| event.item).collect();
            steps.push(&items, split.steps(part, u, items.len()), history);
        }
        steps
    }

    /// Appends the `steps` of a user; step t predicts `items[t + 1]`.
    fn push(&mut self, items: &[u32], steps: std::ops::Range<usize>, history: usize) {
        let shared = steps.start..steps.end.min(history);
        if !shared.is_empty() {
            self.push_sequence(
                &items[..shared.end],
                shared.clone(),
                &items[shared.start + 1..shared.end + 1],
            );
        }
        for t in steps.start.max(history)..steps.end {
            let read = &items[t + 1 - history..=t];
            self.push_sequence(read, history - 1..history, &items[t + 1..t + 2]);
        }
    }

    fn push_sequence(&mut self, read: &[u32], rows: std::ops::Range<usize>, targets: &[u32]) {
        let piece = match self.pieces.last_mut() {
            Some(piece) if piece.items.len() + read.len() <= ROWS => piece,
            _ => {
                self.pieces.push(Piece::default());
                let last = self.pieces.len() - 1;
                &mut self.pieces[last]
            }
        };
        let first = piece.items.len();
        piece.lengths.push(read.len());
        piece.items.extend_from_slice(read);
        piece.rows.extend(rows.map(|row| (first + row) as u32));
        piece.targets.extend_from_slice(targets);
    }

    /// Number of steps.
    pub fn len(&self) -> usize {
        self.pieces.iter().map(|piece| piece.targets.len()).sum()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }
}

/// Ranks the targets of `steps` by the supervised head among all items.
///
/// # Errors
/// Items outside the network's catalogue; an interruption.
pub fn evaluate(network: &Network, steps: &EvalSteps) -> Result<Ranking> {
    let mut ranking = Ranking::default();
    for piece in &steps.pieces {
        interrupt::check("ranking")?;
        let hidden = hidden(network, &piece.lengths, &piece.items, &piece.rows)?;
        let targets = Tensor::from_ids(hidden.device(), &piece.targets)?;
        let standings = network.standings(&hidden, &targets)?;
        standings.into_iter().for_each(|standing| ranking.add_rank(rank_of(standing)));
    }
    Ok(ranking)
}

/// Hidden vectors `[rows, width]` at the chosen `rows` of packed sequences.
fn hidden(network: &Network, lengths: &[usize], items: &[u32], rows: &[u32]) -> Result<Tensor> {
    let (device, _) = network.home();
    no_grad(|| {
        let layout = Layout::new(&device, lengths)?.reading(rows)?;
        Ok(network.hidden(&Tensor::from_ids(&device, items)?, &layout, &Noise::none())?.into_value())
    })
}

/// Scores of all items `[rows, items]`.
fn scores(network: &Network, hidden: Tensor) -> Result<Vec<f32>> {
    no_grad(|| network.logits(&Var::constant(hidden))?.value().to_vec::<f32>())
}

impl Network {
    /// Scores of all items after each of the `histories` (oldest item first; the last H items are read), `[histories,
    /// items]`. An empty history scores nothing: it is an error.
    pub fn scores(&self, histories: &[&[u32]]) -> Result<Vec<f32>> {
        let history = self.config().history;
        if histories.iter().any(|items| items.is_empty()) {
            return Err(crate::Error::setting("a history is empty", "give at least one item"));
        }
        let read: Vec<&[u32]> = histories.iter().map(|h| &h[h.len().saturating_sub(history)..]).collect();
        let lengths: Vec<usize> = read.iter().map(|items| items.len()).collect();
        let ends = lengths.iter().scan(0, |end, &length| {
            *end += length as u32;
            Some(*end - 1)
        });
        scores(self, hidden(self, &lengths, &read.concat(), &ends.collect::<Vec<_>>())?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::{DType, Device};
    use crate::rec::config::{EncoderKind, RecConfig};

    #[test]
    fn every_step_reads_exactly_the_last_items() {
        let items: Vec<u32> = (50..65).collect();
        let mut steps = EvalSteps::default();
        steps.push(&items, 0..14, 10);
        steps.push(&items, 12..13, 10);
        steps.push(&items, 3..4, 10);
        assert_eq!(steps.len(), 14 + 1 + 1);
        let piece = &steps.pieces[0];
        assert_eq!(piece.lengths, [10, 10, 10, 10, 10, 10, 4]);
        let starts: Vec<usize> = (0..piece.lengths.len()).map(|i| piece.lengths[..i].iter().sum()).collect();
        let expected: Vec<u32> = (0..14).chain([12, 3]).collect();
        for (i, &t) in expected.iter().enumerate() {
            let row = piece.rows[i] as usize;
            assert_eq!(piece.targets[i], 50 + t + 1);
            assert_eq!(piece.items[row], 50 + t);
            let start = starts.iter().rev().find(|&&start| start <= row).unwrap();
            assert_eq!(row - start + 1, 10.min(t as usize + 1));
        }
    }

    #[test]
    fn rows_that_are_read_have_the_bits_that_they_have_among_all() {
        let lengths = [7, 1, 12, 40];
        let items: Vec<u32> = (0..60).map(|i| i * 7 % 30).collect();
        for encoder in [EncoderKind::SasRec, EncoderKind::Gru4Rec] {
            let config =
                RecConfig { encoder, width: 16, heads: 2, blocks: 2, history: 40, ..RecConfig::default() };
            let network = Network::new(&config, 30, 0, (&Device::Cpu, DType::F32), 3).unwrap();
            let ids = Tensor::from_ids(&Device::Cpu, &items).unwrap();
            let of = |rows: Option<&[u32]>| {
                let mut layout = Layout::new(&Device::Cpu, &lengths).unwrap();
                if let Some(rows) = rows {
                    layout = layout.reading(rows).unwrap();
                }
                let h = no_grad(|| network.hidden(&ids, &layout, &Noise::none())).unwrap();
                h.value().to_vec::<f32>().unwrap().into_iter().map(f32::to_bits).collect::<Vec<_>>()
            };
            let all = of(None);
            assert_eq!(of(Some(&(0..60).collect::<Vec<u32>>())), all);
            for rows in [&[6, 7, 19, 59][..], &[59, 0, 0, 8], &[20], &[]] {
                let want: Vec<u32> =
                    rows.iter().flat_map(|&row| &all[row as usize * 16..][..16]).copied().collect();
                assert_eq!(of(Some(rows)), want, "{encoder:?} {rows:?}");
            }
        }
        let layout = Layout::new(&Device::Cpu, &lengths).unwrap();
        assert!(
            layout.reading(&[60]).err().unwrap().to_string().contains("row 60 is to be read, there are 60")
        );
    }

    #[test]
    fn no_step_is_lost_between_pieces() {
        let items = vec![0; 31];
        let mut steps = EvalSteps::default();
        (0..200).for_each(|_| steps.push(&items, 0..30, 10));
        assert_eq!(steps.len(), 6000);
        assert!(steps.pieces.iter().all(|p| p.items.len() <= ROWS && p.rows.len() == p.targets.len()));
    }
}
