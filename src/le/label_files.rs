//! Labels of a range of users, and reading the file that holds them.

use super::label_manifest::LabelHeader;
use crate::device::{DType, Device};
use crate::tensor::file::TensorFile;
use crate::{Error, Result};
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

/// A tensor of a label file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Column {
    /// Its name.
    pub name: &'static str,
    /// U32 or F32.
    pub dtype: DType,
    /// Elements a row.
    pub width: usize,
    /// Whether its shape is `[rows]` rather than `[rows, width]`.
    vector: bool,
}

impl Column {
    /// Its shape over `rows` rows.
    pub fn shape(&self, rows: usize) -> Vec<usize> {
        if self.vector { vec![rows] } else { vec![rows, self.width] }
    }

    /// Bytes of `rows` rows; `None` beyond what can be addressed.
    pub fn bytes(&self, rows: usize) -> Option<usize> {
        self.width.checked_mul(self.dtype.size())?.checked_mul(rows)
    }
}

/// The tensors of labels of this kind, ids first.
pub(super) fn columns(header: &LabelHeader) -> Vec<Column> {
    let (k, d) = (header.negatives, header.state_dim);
    let all = [
        ("user", DType::U32, 1, true, true),
        ("t", DType::U32, 1, true, true),
        ("action", DType::U32, 1, true, true),
        ("negatives", DType::U32, k, false, k > 0),
        ("augmented_action", DType::U32, 1, true, header.augmented),
        ("reward", DType::F32, 1, true, true),
        ("state", DType::F32, d, false, true),
        ("negative_rewards", DType::F32, k, false, k > 0),
        ("augmented_reward", DType::F32, 1, true, header.augmented),
        ("augmented_state", DType::F32, d, false, header.augmented_states),
    ];
    let there = all.into_iter().filter(|column| column.4);
    there.map(|(name, dtype, width, vector, _)| Column { name, dtype, width, vector }).collect()
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

    /// User and t of the first row.
    pub(super) fn first(&self) -> Option<(u32, u32)> {
        self.user.first().copied().zip(self.t.first().copied())
    }

    /// User and t of the last row.
    pub(super) fn last(&self) -> Option<(u32, u32)> {
        self.user.last().copied().zip(self.t.last().copied())
    }

    /// The little-endian bytes of the tensor `name`.
    pub(super) fn bytes_of(&self, name: &str) -> Vec<u8> {
        if let Some((_, ids)) = self.ids().into_iter().find(|(known, _)| *known == name) {
            return ids.iter().flat_map(|id| id.to_le_bytes()).collect();
        }
        let floats = self.floats().into_iter().find(|(known, _)| *known == name);
        floats.map_or_else(Vec::new, |(_, values)| values.iter().flat_map(|x| x.to_le_bytes()).collect())
    }

    /// Checks lengths, the order of the rows, items and numbers: (tensor, problem) of the first defect. `after` are
    /// user and t of the row ahead.
    pub(super) fn check(
        &self,
        header: &LabelHeader,
        after: Option<(u32, u32)>,
    ) -> Result<(), (&'static str, String)> {
        let rows = self.rows();
        let columns = columns(header);
        let ids = self.ids().map(|(name, values)| (name, values.len()));
        let floats = self.floats().map(|(name, values)| (name, values.len()));
        for (name, found) in ids.into_iter().chain(floats) {
            let width = columns.iter().find(|column| column.name == name).map_or(0, |column| column.width);
            let expected = width.checked_mul(rows);
            if expected != Some(found) {
                let expected = expected.map_or("too many".to_string(), |n| n.to_string());
                return Err((name, format!("{found} values, expected {expected} for {rows} rows")));
            }
        }
        self.check_order(after)?;
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

    fn check_order(&self, after: Option<(u32, u32)>) -> Result<(), (&'static str, String)> {
        let mut last = after;
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

    /// Reads and checks the file.
    pub(super) fn read(path: &Path, header: &LabelHeader) -> Result<Self> {
        let (file, users, rows) = open(path, header)?;
        let columns = columns(header);
        let shape = |name: &str| columns.iter().find(|c| c.name == name).map(|column| column.shape(rows));
        let ids = |name| shape(name).map_or(Ok(Vec::new()), |shape| file.read_ids(name, &shape));
        let floats = |name| match shape(name) {
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
        block.check(header, None).map_err(defect)?;
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
    let known = columns(header);
    if let Some(name) = file.names().into_iter().find(|name| !known.iter().any(|column| column.name == name))
    {
        return Err(Error::invalid(path, format!("tensor {name}"), "labels have no such tensor", AGAIN));
    }
    let rows = file.shape("user").and_then(|shape| shape.first().copied()).unwrap_or(0);
    Ok((file, users, rows))
}
