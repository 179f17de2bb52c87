//! A labels folder gives back the bits that were written, and nothing else.

mod label_sample;

use label_sample::{
    ITEMS, append_from, begin, block, dataset, header, rich, split, write, write_file, writer,
};
use lea::data::{Dataset, Part};
use lea::le::{
    LabelBlock, LabelConfig, LabelHeader, LabelPart, LabelWriter, SPLIT, merge, read_labels, read_manifest,
};
use serde_json::json;
use std::path::Path;

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
        // Cut into six, some files hold a user without steps.
        for files in [1, 2, 3, 6] {
            let dir = dir.path().join(format!("{}-{files}", header.negatives));
            let manifest = write(&dir, &data, &header, files);
            let read = read_labels(&dir, &data).unwrap();
            assert_eq!(read.manifest, manifest);
            assert_eq!(read.labels, whole);
            assert_eq!(read.offsets, [0, 3, 3, 5, 5, 5, 10]);
            let labels = lea::rec::Labels::from(read);
            labels.validate(ITEMS).unwrap();
            assert_eq!(labels.of_user(5, 5).unwrap(), 5..10);
            assert_eq!(labels.augmented_rewards, whole.augmented_reward);
            // A label file and a record each, the split, the manifest.
            assert_eq!(std::fs::read_dir(&dir).unwrap().count(), 2 * files + 2);
        }
    }
}

#[test]
fn reward_statistics_cover_the_training_steps_and_not_the_cut() {
    let (data, dir) = (dataset(), tempfile::tempdir().unwrap());
    let header = header(&data, rich());
    let (whole, split) = (block(&data, &header, 0..6), split(&data));
    let trains = |row: &usize| {
        let (user, t) = (whole.user[*row] as usize, whole.t[*row] as usize);
        split.steps(Part::Train, user, data.users[user].events.len()).contains(&t)
    };
    let rewards: Vec<f64> =
        (0..whole.rows()).filter(trains).map(|row| f64::from(whole.reward[row])).collect();
    let mean = rewards.iter().sum::<f64>() / rewards.len() as f64;
    let variance = rewards.iter().map(|r| (r - mean).powi(2)).sum::<f64>() / rewards.len() as f64;
    let one = write(&dir.path().join("one"), &data, &header, 1).rewards;
    assert_eq!(one.steps, 4);
    approx::assert_relative_eq!(one.mean, mean, max_relative = 1e-12);
    approx::assert_relative_eq!(one.deviation, variance.sqrt(), max_relative = 1e-12);
    assert_eq!(write(&dir.path().join("four"), &data, &header, 4).rewards, one);
}

#[test]
fn a_changed_truncated_or_missing_file_is_refused() {
    let (data, dir) = (dataset(), tempfile::tempdir().unwrap());
    write(dir.path(), &data, &header(&data, rich()), 2);
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
    write(dir.path(), &data, &header(&data, rich()), 1);
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
fn a_folder_that_is_not_finished_says_so_and_is_not_merged() {
    let (data, dir) = (dataset(), tempfile::tempdir().unwrap());
    let header = header(&data, rich());
    let refused = || merge(dir.path()).unwrap_err().to_string();
    assert!(refused().contains("holds no label files"));
    let writer = writer(dir.path(), &header, 3);
    write_file(&writer, &data, &header, 0);
    assert!(refusal(dir.path(), &data).contains("did not finish"));
    let missing = refused();
    assert!(
        missing.contains("2 of the 3 label files") && missing.contains("labels-00001-of-00003 is missing")
    );
    begin(&writer, 1).append(&block(&data, &header, 2..4)).unwrap();
    assert!(refused().contains("labels-00001-of-00003 is not finished"));
    let mut again = begin(&writer, 1);
    assert_eq!(again.last(), Some((2, 1)), "what was appended is lost");
    again.append(&block(&data, &header, 4..4)).unwrap();
    again.finish(json!(null)).unwrap();
    write_file(&writer, &data, &header, 2);
    assert!(refused().contains("split.json"));
    split(&data).save(&dir.path().join(SPLIT)).unwrap();
    merge(dir.path()).unwrap();
    assert_eq!(read_labels(dir.path(), &data).unwrap().labels, block(&data, &header, 0..6));
}

#[test]
fn files_of_two_labellings_do_not_mix() {
    let (data, dir) = (dataset(), tempfile::tempdir().unwrap());
    let first = header(&data, rich());
    let other = LabelHeader { seed: 8, ..first.clone() };
    let here = dir.path().join("here");
    write(&here, &data, &first, 2);
    let part = |files| LabelPart::new(6, &first.settings, Some(files), None).unwrap();
    let refused = LabelWriter::open(&here, other.clone(), part(2)).unwrap_err().to_string();
    assert!(
        refused.contains("labels-00000-of-00002.json") && refused.contains("seed is 7, expected 8"),
        "{refused}"
    );
    let refused = LabelWriter::open(&here, first.clone(), part(3)).unwrap_err().to_string();
    assert!(refused.contains("it is one of 2 files, this run makes 3"), "{refused}");
    // A file of another labelling, with its record and without.
    let there = dir.path().join("there");
    write(&there, &data, &other, 2);
    let copy = |name: &str| std::fs::copy(there.join(name), here.join(name)).unwrap();
    copy("labels-00001-of-00002.safetensors");
    let message = merge(&here).unwrap_err().to_string();
    assert!(message.contains("labels-00001-of-00002.safetensors: content: its SHA-256"), "{message}");
    copy("labels-00001-of-00002.json");
    let message = merge(&here).unwrap_err().to_string();
    assert!(message.contains("of another labelling: seed is 8, expected 7"), "{message}");
    // One of a machine with other arithmetic, whose labels differ in their last bits.
    let elsewhere = LabelHeader { made_by: "cpu avx512, lea 0.1.0".into(), ..first.clone() };
    let refused = LabelWriter::open(&here, elsewhere, part(2)).unwrap_err().to_string();
    assert!(refused.contains("made_by is \"cpu avx2, lea 0.1.0\""), "{refused}");
    // Packs and files of another size are the same labelling.
    let resized = LabelConfig { pack_tokens: 64, users_per_file: 1, ..rich() };
    let resized_dir = dir.path().join("resized");
    write(&resized_dir, &data, &header(&data, resized), 2);
    for name in ["labels-00001-of-00002.safetensors", "labels-00001-of-00002.json"] {
        std::fs::copy(resized_dir.join(name), here.join(name)).unwrap();
    }
    merge(&here).unwrap();
    assert_eq!(read_labels(&here, &data).unwrap().labels, block(&data, &first, 0..6));
}

#[test]
fn records_that_contradict_their_files_are_refused() {
    let (data, dir) = (dataset(), tempfile::tempdir().unwrap());
    let header = header(&data, rich());
    write(dir.path(), &data, &header, 2);
    let path = dir.path().join("labels-00001-of-00002.json");
    let good = std::fs::read_to_string(&path).unwrap();
    for (from, to, message) in [
        ("lea-labels-file-1", "lea-labels-file-9", "format: \"lea-labels-file-9\""),
        ("labels-00001", "../00001", "the record names"),
        ("\"first_user\": 3", "\"first_user\": 4", "users from 4 on, expected them from 3 on"),
        ("\"last_user\": 5", "\"last_user\": 4294967295", "its record says"),
        ("\"rows\": 5", "\"rows\": 18446744073709551615", "its record says 18446744073709551615"),
        ("\"bytes\"", "\"bites\"", "line"),
        ("\"items\": 11", "\"items\": 12", "items is 12, expected 11"),
    ] {
        assert!(good.contains(from), "{from}");
        std::fs::write(&path, good.replacen(from, to, 1)).unwrap();
        let error = merge(dir.path()).unwrap_err().to_string();
        assert!(error.contains(message), "{error}");
    }
    std::fs::write(&path, &good).unwrap();
    let file = path.with_extension("safetensors");
    let mut bytes = std::fs::read(&file).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&file, bytes).unwrap();
    assert!(merge(dir.path()).unwrap_err().to_string().contains("content: its SHA-256"));
    std::fs::remove_file(&file).unwrap();
    assert!(merge(dir.path()).unwrap_err().to_string().contains("labels-00001-of-00002 is missing"));
}

#[test]
fn labels_that_cannot_be_are_not_written() {
    let (data, dir) = (dataset(), tempfile::tempdir().unwrap());
    let header = header(&data, rich());
    let writer = writer(dir.path(), &header, 1);
    type Change = fn(&mut LabelBlock);
    let cases: [(Change, &str); 8] = [
        (|b| b.reward[3] = f32::NAN, "tensor reward: NaN in row 3 (user 2, step 0)"),
        (|b| b.state[14] = f32::INFINITY, "tensor state: inf in row 4 (user 2, step 1)"),
        (|b| b.negatives[3] = 11, "tensor negatives: item 11 of a catalogue of 11 in row 1"),
        (|b| b.augmented_action[0] = u32::MAX, "tensor augmented_action: item 4294967295"),
        (|b| b.t[2] = 3, "tensor t: row 2 is step 3 of user 0, expected step 2"),
        (|b| b.t[3] = 1, "tensor t: row 3 is step 1 of user 2, expected step 0"),
        (|b| b.user[4] = 0, "tensor user: row 4 is of user 0"),
        (|b| b.state.truncate(2), "tensor state: 2 values, expected 30 for 10 rows"),
    ];
    for (change, message) in cases {
        let mut broken = block(&data, &header, 0..6);
        change(&mut broken);
        let error = begin(&writer, 0).append(&broken).unwrap_err().to_string();
        assert!(error.contains(message), "{error}");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}

#[test]
fn a_manifest_that_contradicts_itself_is_refused() {
    let (data, dir) = (dataset(), tempfile::tempdir().unwrap());
    write(dir.path(), &data, &header(&data, rich()), 2);
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

#[test]
fn a_part_that_is_torn_or_damaged_anywhere_keeps_its_whole_blocks_and_comes_to_the_same_bytes() {
    let (data, dir) = (dataset(), tempfile::tempdir().unwrap());
    let header = header(&data, rich());
    let name = |ending: &str| dir.path().join(format!("labels-00000-of-00001{ending}"));
    let writer = writer(dir.path(), &header, 1);
    let mut open = begin(&writer, 0);
    append_from(&mut open, &data, &header);
    drop(open);
    let part = std::fs::read(name(".part")).unwrap();
    begin(&writer, 0).finish(json!(null)).unwrap();
    let whole = std::fs::read(name(".safetensors")).unwrap();
    assert!(!name(".part").exists());
    let head = part.iter().position(|&b| b == b'\n').unwrap() + 1;
    let mut kept = Vec::new();
    // Three users with 3, 2 and 5 steps have a block each, with 24 bytes besides those of the tensors.
    let row = (part.len() - head - 3 * 24) / 10;
    let starts = [head, head + 24 + 3 * row, head + 48 + 5 * row];
    // Cut after a byte, and with a bit of it turned over.
    let places = (0..head).step_by(101).chain((head..part.len()).step_by(5)).chain([part.len() - 1]);
    for at in places {
        for cut in [true, false] {
            if !cut && at < head {
                continue;
            }
            [".safetensors", ".json"].iter().for_each(|ending| std::fs::remove_file(name(ending)).unwrap());
            let mut torn = part.clone();
            if cut {
                torn.truncate(at);
            } else {
                torn[at] ^= 16;
            }
            std::fs::write(name(".part"), torn).unwrap();
            let mut open = begin(&writer, 0);
            kept.push((cut, open.last()));
            let lost = open.lost().unwrap_or_default().to_string();
            if cut {
                let whole = starts.contains(&at) || at <= head || at == part.len();
                assert_eq!(lost.contains("cut off a torn end"), !whole, "cut at byte {at}: {lost}");
            } else {
                let start = starts.into_iter().rfind(|&start| start <= at).unwrap();
                let named = lost.contains(&format!(".part: damaged at byte {start}, "));
                // Where the count of the last block says that there is more, it was cut off for all that is known.
                let torn = start == starts[2] && at < start + 8 && lost.contains("cut off a torn end");
                assert!((named || torn) && lost.contains("labelled again"), "byte {at}: {lost}");
                let others = 10 - [3, 2, 5][starts.iter().position(|&s| s == start).unwrap()];
                assert!(lost.contains(&format!("; {others} steps stand")), "byte {at}: {lost}");
            }
            if at % 3 == 0 {
                // What was mended is whole, and in order: opened once more, nothing is lost.
                drop(open);
                open = begin(&writer, 0);
                assert_eq!(open.lost(), None);
            }
            append_from(&mut open, &data, &header);
            if at % 2 == 0 {
                drop(open);
                open = begin(&writer, 0);
                assert!(open.lost().is_none() && open.last() == Some((5, 4)));
            }
            open.finish(json!(null)).unwrap();
            assert!(std::fs::read(name(".safetensors")).unwrap() == whole, "torn at byte {at}, cut {cut}");
        }
    }
    kept.sort();
    kept.dedup();
    let all = [Some((2, 1)), Some((5, 4))].map(|last| (false, last));
    assert_eq!(kept, [&all[..], &[None, Some((0, 2)), Some((2, 1))].map(|last| (true, last))].concat());
}

#[test]
fn labels_that_reach_into_others_are_not_written() {
    let (data, dir) = (dataset(), tempfile::tempdir().unwrap());
    let header = header(&data, rich());
    let writer = writer(dir.path(), &header, 1);
    let mut open = begin(&writer, 0);
    open.append(&block(&data, &header, 2..3)).unwrap();
    for users in [0..3, 2..3, 2..6] {
        let message = open.append(&block(&data, &header, users)).unwrap_err().to_string();
        assert!(message.contains("reach into those from step 0 of user 2"), "{message}");
    }
    assert_eq!(open.gaps(), [(None, Some((2, 0))), (Some((2, 1)), None)]);
}

#[test]
fn a_finished_file_that_was_damaged_or_its_record_is_made_again() {
    let (data, dir) = (dataset(), tempfile::tempdir().unwrap());
    let header = header(&data, rich());
    let written = |ending: &str| dir.path().join(format!("labels-00001-of-00002{ending}"));
    write_file(&writer(dir.path(), &header, 2), &data, &header, 1);
    let whole = [".safetensors", ".json"].map(|ending| std::fs::read(written(ending)).unwrap());
    for (ending, place) in [(".safetensors", "content: its SHA-256"), (".json", "line 1: ")] {
        let mut bytes = std::fs::read(written(ending)).unwrap();
        match ending {
            ".json" => bytes.truncate(1),
            _ => *bytes.last_mut().unwrap() ^= 1,
        }
        std::fs::write(written(ending), bytes).unwrap();
        let writer = writer(dir.path(), &header, 2);
        let mut open = begin(&writer, 1);
        let lost = open.lost().unwrap().to_string();
        let told = format!("labels-00001-of-00002{ending}: {place}");
        assert!(lost.contains(&told) && lost.ends_with("are labelled again"), "{lost}");
        assert!(!written(".json").exists(), "what is damaged is still vouched for");
        open.append(&block(&data, &header, 3..6)).unwrap();
        open.finish(json!(null)).unwrap();
        let again = [".safetensors", ".json"].map(|ending| std::fs::read(written(ending)).unwrap());
        assert!(again == whole, "{ending}");
    }
}

#[test]
fn a_part_of_another_labelling_or_of_nobody_is_refused() {
    let (data, dir) = (dataset(), tempfile::tempdir().unwrap());
    let header = header(&data, rich());
    let path = dir.path().join("labels-00000-of-00001.part");
    let first = writer(dir.path(), &header, 1);
    let mut open = begin(&first, 0);
    append_from(&mut open, &data, &header);
    let second = first.begin(0).unwrap_err().to_string();
    assert!(second.contains("another run of lea is writing"), "{second}");
    drop(open);
    let other = LabelHeader { le_hash: "other".into(), ..header.clone() };
    let refused = writer(dir.path(), &other, 1).begin(0).unwrap_err().to_string();
    assert!(refused.contains(".part: line 1: ") && refused.contains("le_hash is \"le\", expected \"other\""));
    for content in ["{}\n", "hello\n", &"x".repeat(2 << 20)] {
        std::fs::write(&path, content).unwrap();
        let refused = first.begin(0).unwrap_err().to_string();
        assert!(refused.contains("the file is no part of labels"), "{refused}");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), content, "a stranger's file was changed");
    }
}

#[test]
fn labels_of_users_that_belong_to_another_file_are_refused() {
    let (data, dir) = (dataset(), tempfile::tempdir().unwrap());
    let header = header(&data, rich());
    let writer = writer(dir.path(), &header, 2);
    let error = begin(&writer, 1).append(&block(&data, &header, 0..6)).unwrap_err().to_string();
    assert!(error.contains("tensor user: user 0, the file is for 3..6"), "{error}");
}
