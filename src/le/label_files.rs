//! Labels of a range of users, and the file that holds them.

use super::label_manifest::{FORMAT, LabelHeader};
use crate::device::{DType, Device};
use crate::tensor::Tensor;
use crate::tensor::file::{self, TensorFile};
use crate::{Error, Result};
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;

const AGAIN: &str = "label the data again";

/// Labels of consecutive users, one row a step, by user and t ascending. A user has the steps 0, 1, 2 … without a
/// gap, or none.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LabelBlock {
    /// The users, those without steps too.
    pub users: Range<u32>,
    /// User of each row `[rows]`.
    pub user: Vec<u32>,
    /// t `[rows]`.
    pub t: Vec<u32>,
    /// The observed action, the item of event t + 1 `[rows]`.
    pub action: Vec<u32>,
    /// r(s_t, a⁺) `[rows]`.
    pub reward: Vec<f32>,
    /// s_t `[rows, d]`.
    pub state: Vec<f32>,
    /// Sampled negatives `[rows, K]`.
    pub negatives: Vec<u32>,
    /// Their rewards `[rows, K]`.
    pub negative_rewards: Vec<f32>,
    /// a_t^e `[rows]`; empty where none was chosen.
    pub augmented_action: Vec<u32>,
    /// r(s_t, a_t^e) `[rows]`; empty likewise.
    pub augmented_reward: Vec<f32>,
    /// Hidden vectors at the leaves of a_t^e `[rows, d]`; empty where they were not kept.
    pub augmented_state: Vec<f32>,
}

/// The shape of the tensor `name` over `rows` rows; `None` where labels of this kind have no such tensor.
fn shape(header: &LabelHeader, name: &str, rows: usize) -> Option<Vec<usize>> {
    let some = |there: bool, shape: &[usize]| there.then(|| shape.to_vec());
    match name {
        "state" => some(true, &[rows, header.state_dim]),
        "negatives" | "negative_rewards" => some(header.negatives > 0, &[rows, header.negatives]),
        "augmented_action" | "augmented_reward" => some(header.augmented, &[rows]),
        "augmented_state" => some(header.augmented_states, &[rows, header.state_dim]),
        _ => some(true, &[rows]),
    }
}

impl LabelBlock {
    /// No labels yet, for `users`.
    pub fn new(users: Range<u32>) -> Self {
        LabelBlock { users, ..LabelBlock::default() }
    }

    /// Number of labelled steps.
    pub fn rows(&self) -> usize {
        self.user.len()
    }

    fn ids(&self) -> [(&'static str, &Vec<u32>); 5] {
        [
            ("user", &self.user),
            ("t", &self.t),
            ("action", &self.action),
            ("negatives", &self.negatives),
            ("augmented_action", &self.augmented_action),
        ]
    }

    fn floats(&self) -> [(&'static str, &Vec<f32>); 5] {
        [
            ("reward", &self.reward),
            ("state", &self.state),
            ("negative_rewards", &self.negative_rewards),
            ("augmented_reward", &self.augmented_reward),
            ("augmented_state", &self.augmented_state),
        ]
    }

    /// Appends the rows of `next`, whose users follow.
    pub(super) fn append(&mut self, next: LabelBlock) {
        self.users.end = next.users.end;
        self.user.extend(next.user);
        self.t.extend(next.t);
        self.action.extend(next.action);
        self.reward.extend(next.reward);
        self.state.extend(next.state);
        self.negatives.extend(next.negatives);
        self.negative_rewards.extend(next.negative_rewards);
        self.augmented_action.extend(next.augmented_action);
        self.augmented_reward.extend(next.augmented_reward);
        self.augmented_state.extend(next.augmented_state);
    }

    /// Checks lengths, the order of the rows, items and numbers: (tensor, problem) of the first defect.
    fn check(&self, header: &LabelHeader) -> Result<(), (&'static str, String)> {
        let rows = self.rows();
        let ids = self.ids().map(|(name, values)| (name, values.len()));
        let floats = self.floats().map(|(name, values)| (name, values.len()));
        for (name, found) in ids.into_iter().chain(floats) {
            let expected = shape(header, name, rows).map_or(0, |shape| shape.iter().product());
            if found != expected {
                return Err((name, format!("{found} values, expected {expected} for {rows} rows")));
            }
        }
        self.check_order()?;
        for (name, values) in self.ids().into_iter().filter(|(name, _)| !["user", "t"].contains(name)) {
            if let Some(at) = values.iter().position(|&item| item as usize >= header.items) {
                let place = self.place(at * rows / values.len());
                return Err((
                    name,
                    format!("item {} of a catalogue of {} {place}", values[at], header.items),
                ));
            }
        }
        for (name, values) in self.floats() {
            if let Some(at) = values.iter().position(|x| !x.is_finite()) {
                return Err((name, format!("{} {}", values[at], self.place(at * rows / values.len()))));
            }
        }
        Ok(())
    }

    fn check_order(&self) -> Result<(), (&'static str, String)> {
        let mut last: Option<(u32, u32)> = None;
        for (row, (&user, &t)) in self.user.iter().zip(&self.t).enumerate() {
            let earlier = last.is_some_and(|(before, _)| user < before);
            if !self.users.contains(&user) || earlier {
                let Range { start, end } = self.users;
                return Err((
                    "user",
                    format!("row {row} is of user {user}, expected {start}..{end} ascending"),
                ));
            }
            let expected = last.filter(|&(before, _)| before == user).map_or(0, |(_, t)| t + 1);
            if t != expected {
                return Err(("t", format!("row {row} is step {t} of user {user}, expected step {expected}")));
            }
            last = Some((user, t));
        }
        Ok(())
    }

    fn place(&self, row: usize) -> String {
        format!("in row {row} (user {}, step {})", self.user[row], self.t[row])
    }

    /// Writes the file, atomically.
    pub(super) fn write(&self, path: &Path, header: &LabelHeader) -> Result<()> {
        self.check(header).map_err(|(name, problem)| {
            let remedy = "nothing was written; if the LE's training diverged, lower fit.learning_rate and fit it again";
            Error::invalid(path, format!("tensor {name}"), problem, remedy)
        })?;
        let mut tensors = Vec::new();
        for (name, values) in self.ids() {
            if let Some(shape) = shape(header, name, self.rows()) {
                tensors.push((name.to_string(), Tensor::from_slice(&Device::Cpu, values, &shape)?));
            }
        }
        for (name, values) in self.floats() {
            if let Some(shape) = shape(header, name, self.rows()) {
                tensors.push((name.to_string(), Tensor::from_slice(&Device::Cpu, values, &shape)?));
            }
        }
        let metadata = [
            ("format", FORMAT.to_string()),
            ("labelling", header.identity()),
            ("first_user", self.users.start.to_string()),
            ("end_user", self.users.end.to_string()),
        ];
        let metadata = metadata.map(|(key, value)| (key.to_string(), value));
        file::write(path, &tensors, &BTreeMap::from(metadata))
    }

    /// Reads and checks the file.
    pub(super) fn read(path: &Path, header: &LabelHeader) -> Result<Self> {
        let (file, users, rows) = open(path, header)?;
        let ids = |name| match shape(header, name, rows) {
            Some(shape) => file.read_ids(name, &shape),
            None => Ok(Vec::new()),
        };
        let floats = |name| match shape(header, name, rows) {
            Some(shape) => file.read(name, &shape, &Device::Cpu, DType::F32)?.to_vec::<f32>(),
            None => Ok(Vec::new()),
        };
        let block = LabelBlock {
            users,
            user: ids("user")?,
            t: ids("t")?,
            action: ids("action")?,
            reward: floats("reward")?,
            state: floats("state")?,
            negatives: ids("negatives")?,
            negative_rewards: floats("negative_rewards")?,
            augmented_action: ids("augmented_action")?,
            augmented_reward: floats("augmented_reward")?,
            augmented_state: floats("augmented_state")?,
        };
        let defect = |(name, problem)| Error::invalid(path, format!("tensor {name}"), problem, AGAIN);
        block.check(header).map_err(defect)?;
        Ok(block)
    }
}

/// Opens a file of labels: its tensors, users and rows. A file of another labelling, or with tensors that labels do
/// not have, is an error.
pub(super) fn open(path: &Path, header: &LabelHeader) -> Result<(TensorFile, Range<u32>, usize)> {
    let file = TensorFile::open(path)?;
    if file.metadata("labelling") != Some(&header.identity()) {
        let problem = "the file was written by another labelling: other data, LE, settings or seed";
        return Err(Error::invalid(path, "metadata labelling", problem, AGAIN));
    }
    let user = |key: &str| {
        let number = file.metadata(key).and_then(|text| text.parse::<u32>().ok());
        number.ok_or_else(|| Error::invalid(path, format!("metadata {key}"), "expected a number", AGAIN))
    };
    let users = user("first_user")?..user("end_user")?;
    let known = LabelBlock::default();
    let known = || known.ids().map(|c| c.0).into_iter().chain(known.floats().map(|c| c.0));
    if let Some(name) = file.names().into_iter().find(|name| !known().any(|k| k == name)) {
        return Err(Error::invalid(path, format!("tensor {name}"), "labels have no such tensor", AGAIN));
    }
    let rows = file.shape("user").and_then(|shape| shape.first().copied()).unwrap_or(0);
    Ok((file, users, rows))
}
