//! Labels of six users, some without steps, made up by a generator.
#![allow(dead_code, reason = "each test file uses a part")]

use lea::data::{Dataset, Event, Feedback, Item, Protocol, Split, TextSource, User};
use lea::le::{
    Begun, LabelBlock, LabelConfig, LabelHeader, LabelManifest, LabelPart, LabelWriter, OpenFile, SPLIT,
    merge,
};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::json;
use std::path::Path;

pub const ITEMS: usize = 11;
/// Events of every user; those with one event have no step.
const EVENTS: [usize; 6] = [4, 1, 3, 1, 1, 6];

pub fn dataset() -> Dataset {
    let item = |i| Item { id: format!("i{i}"), text: String::new(), fields: Vec::new() };
    let event = |item: usize| Event { item: (item % ITEMS) as u32, kind: Feedback::Other };
    let user = |(u, &n): (usize, &usize)| User {
        id: format!("u{u}"),
        events: (0..n).map(|i| event(5 * u + 3 * i)).collect(),
    };
    Dataset {
        name: "small".into(),
        columns: Vec::new(),
        text: TextSource { columns: Vec::new(), lists: Vec::new(), joiner: String::new() },
        items: (0..ITEMS).map(item).collect(),
        users: EVENTS.iter().enumerate().map(user).collect(),
    }
}

pub fn header(data: &Dataset, settings: LabelConfig) -> LabelHeader {
    LabelHeader {
        users: data.users.len(),
        items: data.items.len(),
        state_dim: 3,
        negatives: settings.negatives,
        augmented: settings.candidates > 0,
        augmented_states: settings.augmented_states,
        settings,
        seed: 7,
        data_hash: data.hash(),
        interactions_hash: data.interactions_hash(),
        le_hash: "le".into(),
        decoder_hash: "decoder".into(),
        made_by: "cpu avx2, lea 0.1.0".into(),
        split_hash: split(data).hash(),
    }
}

pub fn split(data: &Dataset) -> Split {
    Split::new(data, Protocol::LeaveOneOut, 1, 1.0).unwrap()
}

pub fn rich() -> LabelConfig {
    LabelConfig { negatives: 2, augmented_states: true, ..LabelConfig::default() }
}

pub fn block(data: &Dataset, header: &LabelHeader, users: std::ops::Range<u32>) -> LabelBlock {
    let mut block = LabelBlock::new(users.clone());
    for user in users {
        let mut rng = ChaCha8Rng::seed_from_u64(u64::from(user));
        let mut floats = |n: usize| (0..n).map(|_| rng.random_range(-2.0f32..2.0)).collect::<Vec<f32>>();
        for (t, event) in data.users[user as usize].events.iter().skip(1).enumerate() {
            block.user.push(user);
            block.t.push(t as u32);
            block.action.push(event.item);
            block.reward.extend(floats(1));
            block.state.extend(floats(header.state_dim));
            block.negatives.extend((0..header.negatives).map(|k| (t + k) as u32));
            block.negative_rewards.extend(floats(header.negatives));
            if header.augmented {
                block.augmented_action.push(9);
                block.augmented_reward.extend(floats(1));
            }
            if header.augmented_states {
                block.augmented_state.extend(floats(header.state_dim));
            }
        }
    }
    block
}

pub fn writer(dir: &Path, header: &LabelHeader, files: usize) -> LabelWriter {
    let part = LabelPart::new(header.users, &header.settings, Some(files), None).unwrap();
    LabelWriter::open(dir, header.clone(), part).unwrap()
}

pub fn begin(writer: &LabelWriter, file: usize) -> OpenFile<'_> {
    match writer.begin(file).unwrap() {
        Begun::Open(open) => *open,
        Begun::Finished(record) => panic!("{} is finished", record.file.file),
    }
}

pub fn write_file(writer: &LabelWriter, data: &Dataset, header: &LabelHeader, file: usize) {
    let mut open = begin(writer, file);
    open.append(&block(data, header, writer.part().users_of(file))).unwrap();
    open.finish(if file == 0 { json!({"pairs": 0.8}) } else { json!(null) }).unwrap();
}

/// Writes all labels into `dir`, last file first.
pub fn write(dir: &Path, data: &Dataset, header: &LabelHeader, files: usize) -> LabelManifest {
    let writer = writer(dir, header, files);
    split(data).save(&dir.join(SPLIT)).unwrap();
    (0..files).rev().for_each(|file| write_file(&writer, data, header, file));
    merge(dir).unwrap()
}

/// Labels of the users that are missing, one a time, as blocks that are appended one by one.
pub fn append_from(open: &mut OpenFile, data: &Dataset, header: &LabelHeader) {
    for (after, before) in open.gaps() {
        let users = after.map_or(0, |(user, _)| user + 1)..before.map_or(6, |(user, _)| user);
        users.for_each(|user| open.append(&block(data, header, user..user + 1)).unwrap());
    }
}
