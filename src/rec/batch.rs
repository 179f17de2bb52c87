//! Training data and batches: whole users, packed without padding.
//!
//! A user's steps are cut into [`segments`]; each is a causal sequence of rows of its own, and the loss counts only on
//! the rows that own a step. All segments of a user stand in one batch, in time order, so the state that follows a
//! step is the next owned row.

use crate::data::{Dataset, Part, Split, segments};
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

/// The training steps of one user.
#[derive(Debug, Clone, PartialEq)]
pub struct UserSteps {
    /// Number of the user in the data set.
    pub user: u32,
    /// Items that training may see, oldest first; one more than steps.
    pub items: Vec<u32>,
    /// Reward that the data gives for reaching `items[t + 1]`, `[steps]`.
    pub rewards: Vec<f32>,
}

impl UserSteps {
    /// Number of steps.
    pub fn steps(&self) -> usize {
        self.rewards.len()
    }
}

/// The users that have training steps, in the order of the data set.
pub fn training_users(data: &Dataset, split: &Split) -> Vec<UserSteps> {
    let of_user = |(u, user): (usize, &crate::data::User)| {
        let events = split.train_events(u, &user.events);
        debug_assert_eq!(
            split.steps(Part::Train, u, user.events.len()).len(),
            events.len().saturating_sub(1)
        );
        let items = events.iter().map(|event| event.item).collect();
        let rewards = events.iter().skip(1).map(|event| event.kind.reward()).collect();
        UserSteps { user: u as u32, items, rewards }
    };
    data.users.iter().enumerate().map(of_user).filter(|user| user.steps() > 0).collect()
}

/// Packed rows of some users and the steps that they own.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Batch {
    /// Length of every sequence of rows.
    pub lengths: Vec<usize>,
    /// Input item of every row.
    pub items: Vec<u32>,
    /// Row of every owned step. Steps of a user follow one another in time order.
    pub rows: Vec<u32>,
    /// (user, t) of every owned step.
    pub places: Vec<(u32, u32)>,
    /// The item observed at every owned step.
    pub targets: Vec<u32>,
    /// The reward that the data gives.
    pub rewards: Vec<f32>,
    /// Whether it is the user's last; where it is not, the following owned step is the next state.
    pub terminal: Vec<bool>,
}

impl Batch {
    /// Number of owned steps.
    pub fn steps(&self) -> usize {
        self.rows.len()
    }

    /// Appends all steps of a user in segments of at most `history` items.
    pub fn push(&mut self, user: &UserSteps, history: usize) {
        for segment in segments(user.steps(), history) {
            let first_row = self.items.len();
            self.lengths.push(segment.reads.len());
            self.items.extend_from_slice(&user.items[segment.reads.clone()]);
            for t in segment.owns {
                self.rows.push((first_row + t - segment.reads.start) as u32);
                self.places.push((user.user, t as u32));
                self.targets.push(user.items[t + 1]);
                self.rewards.push(user.rewards[t]);
                self.terminal.push(t + 1 == user.steps());
            }
        }
    }
}

/// The batches of one epoch, as indices into `users`: shuffled, whole users up to `steps` steps; a user with more
/// makes a batch alone. The same seed and epoch give the same batches.
pub fn epoch_batches(users: &[UserSteps], steps: usize, seed: u64, epoch: u64) -> Vec<Vec<usize>> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(epoch);
    let mut order: Vec<usize> = (0..users.len()).collect();
    order.shuffle(&mut rng);
    let mut batches: Vec<Vec<usize>> = Vec::new();
    let mut filled = steps;
    for index in order {
        let more = users[index].steps();
        if filled + more > steps || batches.is_empty() {
            batches.push(Vec::new());
            filled = 0;
        }
        filled += more;
        if let Some(batch) = batches.last_mut() {
            batch.push(index);
        }
    }
    batches
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(user: u32, items: &[u32]) -> UserSteps {
        UserSteps { user, items: items.to_vec(), rewards: vec![1.0; items.len() - 1] }
    }

    #[test]
    fn every_step_is_owned_once_and_reads_the_items_before_it() {
        let long: Vec<u32> = (100..124).collect();
        let mut batch = Batch::default();
        batch.push(&user(7, &[1, 2, 3]), 10);
        batch.push(&user(8, &long), 10);
        assert_eq!(batch.lengths, [2, 10, 10, 10, 8]);
        assert_eq!(batch.steps(), 2 + 23);
        let expected: Vec<(u32, u32)> = [(7, 0), (7, 1)].into_iter().chain((0..23).map(|t| (8, t))).collect();
        assert_eq!(batch.places, expected);
        for (i, &(user, t)) in batch.places.iter().enumerate() {
            let input = batch.items[batch.rows[i] as usize];
            let base = if user == 7 { 1 } else { 100 };
            assert_eq!((input, batch.targets[i]), (base + t, base + t + 1));
            assert_eq!(batch.terminal[i], t == if user == 7 { 1 } else { 22 });
        }
        // Step 12 belongs to the segment that starts at step 5: row 2 + 10 + 7.
        assert_eq!(batch.rows[2 + 12], 19);
    }

    #[test]
    fn an_epoch_holds_every_user_once_within_the_budget() {
        let users: Vec<UserSteps> = (0..50)
            .map(|u| user(u, &vec![0; 2 + (u as usize * 7) % 13]))
            .chain([user(50, &[0; 40])])
            .collect();
        let batches = epoch_batches(&users, 20, 3, 1);
        let mut seen: Vec<usize> = batches.iter().flatten().copied().collect();
        seen.sort_unstable();
        assert_eq!(seen, (0..51).collect::<Vec<_>>());
        for batch in &batches {
            let steps: usize = batch.iter().map(|&i| users[i].steps()).sum();
            assert!(steps <= 20 || batch.len() == 1);
        }
        assert_eq!(batches, epoch_batches(&users, 20, 3, 1));
        assert_ne!(batches, epoch_batches(&users, 20, 3, 2));
        assert_ne!(batches, epoch_batches(&users, 20, 4, 1));
    }
}
