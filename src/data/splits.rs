//! Which steps of which users are trained, validated and tested.
//!
//! Step t of a user predicts `events[t + 1]` from `events[..=t]`; a user with n events has the steps `0..n - 1`.
//!
//! | protocol | training | validation | test |
//! | --- | --- | --- | --- |
//! | `sqn` | all steps of 8 in 10 users | all steps of 1 in 10 | all steps of 1 in 10 |
//! | `leave-one-out` | of every user, the steps before | the last but one step | the last step |
//!
//! Under leave-one-out a user with fewer than three events only trains. The LE's users are a share of those that
//! train. They never include its held-out users, on which its labels are judged: the validation users under `sqn`,
//! a tenth of all users, set apart, under leave-one-out.

use super::dataset::{Dataset, Event};
use crate::{Error, Result, files};
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};
use std::ops::Range;
use std::path::Path;

const FORMAT: &str = "lea-split-1";

/// How a data set is split.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Protocol {
    /// Users split 8:1:1, every step of a test user predicted (Xin et al., arXiv 2006.05779).
    Sqn,
    /// The last event of every user is tested, the last but one validated.
    LeaveOneOut,
}

impl Protocol {
    /// The name in files and flags.
    pub fn name(self) -> &'static str {
        match self {
            Protocol::Sqn => "sqn",
            Protocol::LeaveOneOut => "leave-one-out",
        }
    }
}

impl std::str::FromStr for Protocol {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        match name {
            "sqn" => Ok(Protocol::Sqn),
            "leave-one-out" => Ok(Protocol::LeaveOneOut),
            _ => {
                Err(Error::setting(format!("no protocol is called {name:?}"), "choose sqn or leave-one-out"))
            }
        }
    }
}

/// What a step is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Part {
    /// Training.
    Train,
    /// Early stopping and choice of settings.
    Validation,
    /// The figures that are reported.
    Test,
}

/// The LE's users.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LeShare {
    /// Share of the training users that are not held out, in (0, 1].
    pub share: f64,
    /// Users that train the LE, ascending.
    pub users: Vec<u32>,
    /// Users that judge it, ascending.
    pub held_out: Vec<u32>,
}

/// A split of one data set.
#[derive(Debug, Clone, PartialEq)]
pub struct Split {
    /// The protocol.
    pub protocol: Protocol,
    /// Seed of the users' order.
    pub seed: u64,
    /// [`Dataset::interactions_hash`] of the data set.
    pub data: String,
    /// The LE's users.
    pub le: LeShare,
    /// Part of every user under `sqn`; empty under leave-one-out.
    parts: Vec<Part>,
}

/// The stored form.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    format: String,
    protocol: Protocol,
    seed: u64,
    data: String,
    users: usize,
    validation: Vec<u32>,
    test: Vec<u32>,
    le: LeShare,
    hash: String,
}

/// What a stored split says, apart from who is in which part.
#[derive(Debug, Clone, PartialEq)]
pub struct SplitSurvey {
    /// The protocol.
    pub protocol: Protocol,
    /// Seed of the users' order.
    pub seed: u64,
    /// [`Dataset::interactions_hash`] of the data set.
    pub data: String,
    /// Users of training, validation and test; `None` under leave-one-out, where each is in every part.
    pub users: Option<[usize; 3]>,
    /// The LE's users.
    pub le: LeShare,
}

/// What to do about a file that is not as it was written.
const REMEDY: &str = "make the split again for this data";
const CHANGED: &str = "the file was changed after it was written";

impl Stored {
    fn read(path: &Path) -> Result<Self> {
        let stored: Stored = serde_json::from_str(&files::read_text(path)?)
            .map_err(|e| Error::invalid(path, format!("line {}", e.line()), e.to_string(), REMEDY))?;
        if stored.format != FORMAT {
            let problem = format!("{:?} where {FORMAT:?} is expected", stored.format);
            return Err(Error::invalid(path, "format", problem, REMEDY));
        }
        Ok(stored)
    }
}

impl Split {
    /// Splits `dataset` by `protocol`; the same seed gives the same split. `le_share`, in (0, 1], is the LE's share.
    ///
    /// # Errors
    /// A share outside (0, 1], and fewer than three users.
    pub fn new(dataset: &Dataset, protocol: Protocol, seed: u64, le_share: f64) -> Result<Self> {
        if !(le_share > 0.0 && le_share <= 1.0) {
            let problem = format!("the LE's share of users is {le_share}");
            return Err(Error::setting(problem, "choose one above 0 and at most 1"));
        }
        let users = dataset.users.len();
        if users < 3 {
            let problem = format!("{} has {users} users", dataset.name);
            return Err(Error::setting(
                problem,
                "give at least three, so that training, validation and test have one each",
            ));
        }
        let mut order: Vec<u32> = (0..users as u32).collect();
        order.shuffle(&mut ChaCha8Rng::seed_from_u64(seed));
        let tenth = ((users + 5) / 10).max(1);
        let (mut parts, rest) = match protocol {
            Protocol::Sqn => (vec![Part::Train; users], 2 * tenth),
            Protocol::LeaveOneOut => (Vec::new(), tenth),
        };
        let held_out = &order[..tenth];
        if protocol == Protocol::Sqn {
            held_out.iter().for_each(|&user| parts[user as usize] = Part::Validation);
            order[tenth..rest].iter().for_each(|&user| parts[user as usize] = Part::Test);
        }
        let count = (((users - rest) as f64 * le_share).round() as usize).max(1);
        let le_users = sorted(&order[rest..rest + count]);
        let le = LeShare { share: le_share, users: le_users, held_out: sorted(held_out) };
        Ok(Split { protocol, seed, data: dataset.interactions_hash(), le, parts })
    }

    /// The steps of `user`, who has `events` events, that belong to `part`.
    pub fn steps(&self, part: Part, user: usize, events: usize) -> Range<usize> {
        let all = events.saturating_sub(1);
        match self.protocol {
            Protocol::Sqn if self.parts[user] == part => 0..all,
            Protocol::Sqn => 0..0,
            Protocol::LeaveOneOut if events < 3 => match part {
                Part::Train => 0..all,
                _ => 0..0,
            },
            Protocol::LeaveOneOut => match part {
                Part::Train => 0..all - 2,
                Part::Validation => all - 2..all - 1,
                Part::Test => all - 1..all,
            },
        }
    }

    /// The leading events of `user` that training may see: neither as history nor as target does it see more.
    pub fn train_events<'a>(&self, user: usize, events: &'a [Event]) -> &'a [Event] {
        match self.protocol {
            Protocol::Sqn if self.parts[user] == Part::Train => events,
            Protocol::Sqn => &[],
            Protocol::LeaveOneOut if events.len() < 3 => events,
            Protocol::LeaveOneOut => &events[..events.len() - 2],
        }
    }

    /// The leading events of a held-out user on which the LE is judged; none of them is ever a test target.
    pub fn held_out_events<'a>(&self, user: usize, events: &'a [Event]) -> &'a [Event] {
        match self.protocol {
            Protocol::Sqn => events,
            Protocol::LeaveOneOut => self.train_events(user, events),
        }
    }

    /// Hex SHA-256 of the stored form.
    pub fn hash(&self) -> String {
        let bytes = serde_json::to_vec(&self.stored(String::new())).expect("numbers and strings serialise");
        files::sha256(&bytes)
    }

    fn stored(&self, hash: String) -> Stored {
        let of =
            |part| (0u32..).zip(&self.parts).filter(|(_, p)| **p == part).map(|(user, _)| user).collect();
        Stored {
            format: FORMAT.into(),
            protocol: self.protocol,
            seed: self.seed,
            data: self.data.clone(),
            users: self.parts.len(),
            validation: of(Part::Validation),
            test: of(Part::Test),
            le: self.le.clone(),
            hash,
        }
    }

    /// Writes the split as JSON.
    pub fn save(&self, path: &Path) -> Result<()> {
        let stored = self.stored(self.hash());
        files::write_atomic(path, |out| {
            serde_json::to_writer(&mut *out, &stored)?;
            out.write_all(b"\n")
        })
    }

    /// Reads a split of `dataset`.
    ///
    /// # Errors
    /// A file that is no split, that was changed after it was written, or that splits other data.
    pub fn load(path: &Path, dataset: &Dataset) -> Result<Self> {
        Self::read(path, &dataset.interactions_hash(), dataset.users.len())
    }

    /// Reads a split whatever data it is of, to tell of it.
    ///
    /// # Errors
    /// A file that is no split, or that was changed after it was written.
    pub fn survey(path: &Path) -> Result<SplitSurvey> {
        let mut stored = Stored::read(path)?;
        let hash = std::mem::take(&mut stored.hash);
        if files::sha256(&serde_json::to_vec(&stored).expect("numbers and strings serialise")) != hash {
            return Err(Error::invalid(path, "hash", CHANGED, REMEDY));
        }
        let Stored { protocol, seed, data, users, validation, test, le, .. } = stored;
        let apart = validation.len() + test.len();
        let users =
            (protocol == Protocol::Sqn).then(|| [users.saturating_sub(apart), validation.len(), test.len()]);
        Ok(SplitSurvey { protocol, seed, data, users, le })
    }

    /// Reads a split of the data set of that [`Dataset::interactions_hash`], which has `users` users.
    ///
    /// # Errors
    /// As of [`Split::load`].
    pub fn read(path: &Path, interactions_hash: &str, users: usize) -> Result<Self> {
        let stored = Stored::read(path)?;
        if stored.data != interactions_hash {
            let problem = "the split was made for other data, or for other filters";
            return Err(Error::invalid(
                path,
                "data",
                problem,
                "give the data it was made for, or make the split again",
            ));
        }
        let named = [&stored.validation, &stored.test, &stored.le.users, &stored.le.held_out];
        let expected = if stored.protocol == Protocol::Sqn { users } else { 0 };
        if stored.users != expected || named.into_iter().flatten().any(|&user| user as usize >= users) {
            return Err(Error::invalid(
                path,
                "users",
                format!("they are not those of the {users} users"),
                REMEDY,
            ));
        }
        let mut parts = vec![Part::Train; stored.users];
        if stored.protocol == Protocol::Sqn {
            stored.validation.iter().for_each(|&user| parts[user as usize] = Part::Validation);
            stored.test.iter().for_each(|&user| parts[user as usize] = Part::Test);
        }
        let Stored { protocol, seed, data, le, .. } = stored;
        let split = Split { protocol, seed, data, le, parts };
        if split.hash() != stored.hash {
            return Err(Error::invalid(path, "hash", CHANGED, REMEDY));
        }
        Ok(split)
    }
}

fn sorted(users: &[u32]) -> Vec<u32> {
    let mut users = users.to_vec();
    users.sort_unstable();
    users
}

#[cfg(test)]
mod tests {
    use super::super::dataset::tests::small;
    use super::*;

    const PARTS: [Part; 3] = [Part::Train, Part::Validation, Part::Test];

    fn data(users: usize) -> Dataset {
        let sequences: Vec<Vec<u32>> = (0..users).map(|u| (0..(u % 7 + 1) as u32).collect()).collect();
        small(8, &sequences.iter().map(Vec::as_slice).collect::<Vec<_>>())
    }

    #[test]
    fn sqn_gives_every_user_one_part_in_the_ratio_8_1_1() {
        let dataset = data(103);
        let split = Split::new(&dataset, Protocol::Sqn, 7, 0.5).unwrap();
        let users =
            |part| -> Vec<usize> { (0..103).filter(|&u| !split.steps(part, u, 9).is_empty()).collect() };
        assert_eq!(PARTS.map(|part| users(part).len()), [83, 10, 10]);
        for user in 0..103 {
            let steps: usize = PARTS.map(|part| split.steps(part, user, 9).len()).iter().sum();
            assert_eq!(steps, 8);
            assert!(PARTS.iter().all(|&part| split.steps(part, user, 1).is_empty()));
        }
        assert_eq!(
            split.le.held_out.iter().map(|&u| u as usize).collect::<Vec<_>>(),
            users(Part::Validation)
        );
        assert_eq!(split.le.users.len(), 42);
        assert!(split.le.users.iter().all(|&u| users(Part::Train).contains(&(u as usize))));
        assert_ne!(split.parts, Split::new(&dataset, Protocol::Sqn, 8, 0.5).unwrap().parts);
    }

    #[test]
    fn leave_one_out_never_trains_on_the_last_two_events() {
        let dataset = data(20);
        let split = Split::new(&dataset, Protocol::LeaveOneOut, 0, 1.0).unwrap();
        let steps = |events| PARTS.map(|part| split.steps(part, 0, events));
        assert_eq!(steps(5), [0..2, 2..3, 3..4]);
        assert_eq!(steps(3), [0..0, 0..1, 1..2]);
        assert_eq!(steps(2), [0..1, 0..0, 0..0]);
        assert_eq!(steps(1), [0..0, 0..0, 0..0]);
        for (user, of) in dataset.users.iter().enumerate() {
            let seen = split.train_events(user, &of.events).len();
            let last = split.steps(Part::Train, user, of.events.len()).last();
            assert_eq!(last.map_or(seen.min(1), |t| t + 2), seen);
        }
        assert_eq!((split.le.users.len(), split.le.held_out.len()), (18, 2));
        assert!(split.le.held_out.iter().all(|user| !split.le.users.contains(user)));
    }

    #[test]
    fn a_split_reads_back_and_fits_its_own_data_only() {
        let (dataset, dir) = (data(40), tempfile::tempdir().unwrap());
        let path = dir.path().join("split.json");
        for protocol in [Protocol::Sqn, Protocol::LeaveOneOut] {
            let split = Split::new(&dataset, protocol, 3, 0.25).unwrap();
            split.save(&path).unwrap();
            assert_eq!(Split::load(&path, &dataset).unwrap(), split);
            let mut other = dataset.clone();
            other.users[5].events.reverse();
            assert!(Split::load(&path, &other).unwrap_err().to_string().contains("made for other data"));
            let text = std::fs::read_to_string(&path).unwrap();
            std::fs::write(&path, text.replace("\"seed\":3", "\"seed\":4")).unwrap();
            assert!(
                Split::load(&path, &dataset)
                    .unwrap_err()
                    .to_string()
                    .contains("changed after it was written")
            );
            std::fs::write(&path, "[]").unwrap();
            assert!(Split::load(&path, &dataset).is_err());
        }
    }

    #[test]
    fn senseless_shares_and_too_few_users_are_refused() {
        for share in [0.0, -0.5, 1.1, f64::NAN] {
            assert!(
                Split::new(&data(20), Protocol::Sqn, 0, share).unwrap_err().to_string().contains("share")
            );
        }
        assert!(
            Split::new(&data(2), Protocol::Sqn, 0, 1.0).unwrap_err().to_string().contains("at least three")
        );
    }
}
