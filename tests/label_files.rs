//! A labels folder gives back the bits that were written, and nothing else.

use lea::data::{Dataset, Event, Feedback, Item, TextSource, User};
use lea::le::{LabelBlock, LabelConfig, LabelHeader, LabelManifest, LabelWriter, read_labels, read_manifest};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::json;
use std::path::Path;

const ITEMS: usize = 11;
/// Events of every user; those with one event have no step.
const EVENTS: [usize; 6] = [4, 1, 3, 1, 1, 6];

fn dataset() -> Dataset {
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

fn header(data: &Dataset, settings: LabelConfig) -> LabelHeader {
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
        split_hash: "split".into(),
    }
}

fn rich() -> LabelConfig {
    LabelConfig { negatives: 2, augmented_states: true, ..LabelConfig::default() }
}

fn block(data: &Dataset, header: &LabelHeader, users: std::ops::Range<u32>) -> LabelBlock {
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

fn write(dir: &Path, data: &Dataset, header: &LabelHeader, cuts: &[u32]) -> LabelManifest {
    let writer = LabelWriter::new(dir, header.clone(), true).unwrap();
    let files = cuts.len() - 1;
    for (i, ends) in cuts.windows(2).enumerate().rev() {
        writer.write_block(i, files, &block(data, header, ends[0]..ends[1])).unwrap();
    }
    writer.finish(files, |user, t| user != 2 && t != 1, json!({"pairs": 0.8})).unwrap()
}

fn refusal(dir: &Path, data: &Dataset) -> String {
    read_labels(dir, data).unwrap_err().to_string()
}

#[test]
fn labels_read_back_with_the_same_bits_however_they_were_cut_into_files() {
    let (data, dir) = (dataset(), tempfile::tempdir().unwrap());
    let plain = LabelConfig { negatives: 0, candidates: 0, ..LabelConfig::default() };
    for settings in [rich(), plain] {
        let header = header(&data, settings);
        let whole = block(&data, &header, 0..6);
        // The third cut has a file of users without steps.
        for cuts in [&[0, 6][..], &[0, 1, 2, 6], &[0, 3, 5, 6]] {
            let manifest = write(dir.path(), &data, &header, cuts);
            let read = read_labels(dir.path(), &data).unwrap();
            assert_eq!(read.manifest, manifest);
            assert_eq!(read.labels, whole);
            assert_eq!(read.offsets, [0, 3, 3, 5, 5, 5, 10]);
            let labels = lea::rec::Labels::from(read);
            labels.validate(ITEMS).unwrap();
            assert_eq!(labels.of_user(5, 5).unwrap(), 5..10);
            assert_eq!(labels.augmented_rewards, whole.augmented_reward);
            assert_eq!(
                std::fs::read_dir(dir.path()).unwrap().count(),
                cuts.len(),
                "files of earlier cuts stay"
            );
        }
    }
}

#[test]
fn reward_statistics_cover_the_training_steps_and_not_the_cut() {
    let (data, dir) = (dataset(), tempfile::tempdir().unwrap());
    let header = header(&data, rich());
    let whole = block(&data, &header, 0..6);
    let rows = (0..whole.rows()).filter(|&row| whole.user[row] != 2 && whole.t[row] != 1);
    let rewards: Vec<f64> = rows.map(|row| f64::from(whole.reward[row])).collect();
    let mean = rewards.iter().sum::<f64>() / rewards.len() as f64;
    let variance = rewards.iter().map(|r| (r - mean).powi(2)).sum::<f64>() / rewards.len() as f64;
    let one = write(dir.path(), &data, &header, &[0, 6]).rewards;
    assert_eq!(one.steps, 6);
    approx::assert_relative_eq!(one.mean, mean, max_relative = 1e-12);
    approx::assert_relative_eq!(one.deviation, variance.sqrt(), max_relative = 1e-12);
    assert_eq!(write(dir.path(), &data, &header, &[0, 1, 4, 6]).rewards, one);
}

#[test]
fn a_changed_truncated_or_missing_file_is_refused() {
    let (data, dir) = (dataset(), tempfile::tempdir().unwrap());
    write(dir.path(), &data, &header(&data, rich()), &[0, 3, 6]);
    let path = dir.path().join("labels-00001-of-00002.safetensors");
    let good = std::fs::read(&path).unwrap();
    let header_end = 8 + u64::from_le_bytes(good[..8].try_into().unwrap()) as usize;
    // Every byte of the numbers, in its lowest bit, so that most changes are still valid labels.
    for at in header_end..good.len() {
        let mut bytes = good.clone();
        bytes[at] ^= 1;
        std::fs::write(&path, bytes).unwrap();
        let message = refusal(dir.path(), &data);
        assert!(message.contains("labels-00001-of-00002.safetensors: "), "byte {at}: {message}");
    }
    for length in [0, 7, header_end, good.len() - 1] {
        std::fs::write(&path, &good[..length]).unwrap();
        assert!(refusal(dir.path(), &data).contains("00001-of-00002.safetensors: header"));
    }
    std::fs::remove_file(&path).unwrap();
    assert!(refusal(dir.path(), &data).contains("00001-of-00002.safetensors: No such file"));
    std::fs::write(&path, &good).unwrap();
    read_labels(dir.path(), &data).unwrap();
}

#[test]
fn labels_of_other_data_are_refused_and_other_texts_are_not() {
    let (data, dir) = (dataset(), tempfile::tempdir().unwrap());
    write(dir.path(), &data, &header(&data, rich()), &[0, 6]);
    let mut texts = data.clone();
    texts.items[0].text = "other".into();
    read_labels(dir.path(), &texts).unwrap();
    let mut swapped = data.clone();
    swapped.users[0].events.swap(1, 2);
    let mut fewer = data.clone();
    fewer.users.pop();
    for other in [swapped, fewer] {
        let message = refusal(dir.path(), &other);
        assert!(
            message.contains("manifest.json: interactions_hash: the labels are of other data"),
            "{message}"
        );
    }
}

#[test]
fn a_folder_without_a_manifest_says_that_labelling_did_not_finish() {
    let (data, dir) = (dataset(), tempfile::tempdir().unwrap());
    let header = header(&data, rich());
    let writer = LabelWriter::new(dir.path(), header.clone(), false).unwrap();
    writer.write_block(0, 2, &block(&data, &header, 0..3)).unwrap();
    assert!(refusal(dir.path(), &data).contains("did not finish"));
    let unfinished = writer.finish(2, |_, _| true, json!(null)).unwrap_err().to_string();
    assert!(unfinished.contains("labels-00001-of-00002.safetensors"), "{unfinished}");
    let again = LabelWriter::new(dir.path(), header, false).unwrap_err().to_string();
    assert!(again.contains("not empty"), "{again}");
}

#[test]
fn files_of_two_labellings_do_not_mix() {
    let (data, dir) = (dataset(), tempfile::tempdir().unwrap());
    let first = header(&data, rich());
    let other = LabelHeader { seed: 8, ..first.clone() };
    let writer = LabelWriter::new(dir.path(), first.clone(), true).unwrap();
    writer.write_block(0, 2, &block(&data, &first, 0..3)).unwrap();
    writer.write_block(1, 2, &block(&data, &first, 4..6)).unwrap();
    let gap = writer.finish(2, |_, _| true, json!(null)).unwrap_err().to_string();
    assert!(gap.contains("users 4..6, expected them from 3 on"), "{gap}");
    let short = writer.finish(1, |_, _| true, json!(null)).unwrap_err().to_string();
    assert!(short.contains("labels-00000-of-00001.safetensors"), "{short}");
    let stranger = tempfile::tempdir().unwrap();
    write(stranger.path(), &data, &other, &[0, 3, 6]);
    let name = "labels-00001-of-00002.safetensors";
    std::fs::copy(stranger.path().join(name), dir.path().join(name)).unwrap();
    let mixed = writer.finish(2, |_, _| true, json!(null)).unwrap_err().to_string();
    assert!(mixed.contains("written by another labelling"), "{mixed}");
    // Packs and files of another size are the same labelling.
    let resized = LabelConfig { pack_tokens: 64, users_per_file: 1, ..rich() };
    write(stranger.path(), &data, &header(&data, resized), &[0, 3, 6]);
    std::fs::copy(stranger.path().join(name), dir.path().join(name)).unwrap();
    writer.finish(2, |_, _| true, json!(null)).unwrap();
    assert_eq!(read_labels(dir.path(), &data).unwrap().labels, block(&data, &first, 0..6));
}

#[test]
fn labels_that_cannot_be_are_not_written() {
    let (data, dir) = (dataset(), tempfile::tempdir().unwrap());
    let header = header(&data, rich());
    let writer = LabelWriter::new(dir.path(), header.clone(), true).unwrap();
    type Change = fn(&mut LabelBlock);
    let cases: [(Change, &str); 9] = [
        (|b| b.reward[3] = f32::NAN, "tensor reward: NaN in row 3 (user 2, step 0)"),
        (|b| b.state[14] = f32::INFINITY, "tensor state: inf in row 4 (user 2, step 1)"),
        (|b| b.negatives[3] = 11, "tensor negatives: item 11 of a catalogue of 11 in row 1"),
        (|b| b.augmented_action[0] = u32::MAX, "tensor augmented_action: item 4294967295"),
        (|b| b.t[2] = 3, "tensor t: row 2 is step 3 of user 0, expected step 2"),
        (|b| b.t[3] = 1, "tensor t: row 3 is step 1 of user 2, expected step 0"),
        (|b| b.user[4] = 0, "tensor user: row 4 is of user 0"),
        (|b| b.users = 0..5, "tensor user: row 5 is of user 5, expected 0..5"),
        (|b| b.state.truncate(2), "tensor state: 2 values, expected 30 for 10 rows"),
    ];
    for (change, message) in cases {
        let mut broken = block(&data, &header, 0..6);
        change(&mut broken);
        let error = writer.write_block(0, 1, &broken).unwrap_err().to_string();
        assert!(error.contains(message), "{error}");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}

#[test]
fn a_manifest_that_contradicts_itself_is_refused() {
    let (data, dir) = (dataset(), tempfile::tempdir().unwrap());
    write(dir.path(), &data, &header(&data, rich()), &[0, 3, 6]);
    let path = dir.path().join("manifest.json");
    let good = std::fs::read_to_string(&path).unwrap();
    for (from, to, message) in [
        ("lea-labels-1", "lea-labels-9", "format: \"lea-labels-9\""),
        ("labels-00000-of-00002", "../00000-of-00002", "file 0 is named"),
        ("\"first_user\": 3", "\"first_user\": 4", "expected them from 3 on"),
        ("\"last_user\": 5", "\"last_user\": 4294967295", "users, the header names 6"),
        ("\"steps\": 10", "\"steps\": 11", "10 rows, the manifest names 11 steps"),
        ("\"rows\": 5", "\"rows\": 18446744073709551615", "rows, the manifest names 10 steps"),
        ("\"seed\"", "\"sead\"", "line"),
    ] {
        assert!(good.contains(from), "{from}");
        std::fs::write(&path, good.replacen(from, to, 1)).unwrap();
        let error = read_manifest(dir.path()).unwrap_err().to_string();
        assert!(error.contains(message), "{error}");
    }
    std::fs::write(&path, good.replacen("\"state_dim\": 3", "\"state_dim\": 18446744073709551615", 1))
        .unwrap();
    assert!(refusal(dir.path(), &data).contains("written by another labelling"));
}
