//! The files of a labels folder, spoilt in every way: refused with a message, in bounded memory, or read.

mod label_sample;
mod mutate;

use label_sample::{append_from, begin, block, dataset, header, rich, split, write, writer};
use lea::data::Split;
use lea::le::{SPLIT, merge, read_labels};
use mutate::Kind;
use mutate::trial::{self, Bound, Outcome};
use std::path::Path;

const MUTATIONS: u64 = 10_000;
/// A few buffers of 64 KiB, and labels as vectors beside the mapped file.
const BOUND: Bound = Bound { factor: 40, constant: 400_000 };

/// In memory where the system has such a place: every mutation is a file.
fn folder() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

fn trial(name: &str, kind: Kind, path: &Path, mut read: impl FnMut() -> lea::Result<()>) -> Outcome {
    let good = std::fs::read(path).unwrap();
    let outcome = trial::run(name, kind, &good, MUTATIONS, BOUND, |mutation| {
        std::fs::write(path, mutation).unwrap();
        read()
    });
    std::fs::write(path, &good).unwrap();
    read().unwrap();
    assert!(outcome.read > 0 && outcome.refused > MUTATIONS as usize / 2, "{name}: {outcome:?}");
    outcome
}

#[test]
fn spoilt_label_files_and_manifests_are_refused_or_read_as_they_were() {
    let (data, dir) = (dataset(), folder());
    let header = header(&data, rich());
    write(dir.path(), &data, &header, 2);
    let whole = block(&data, &header, 0..6);
    let read = || {
        let found = read_labels(dir.path(), &data)?;
        assert_eq!(found.labels, whole, "other labels were read");
        Ok(())
    };
    trial("labels", Kind::Safetensors, &dir.path().join("labels-00001-of-00002.safetensors"), read);
    trial("manifest", Kind::Json, &dir.path().join("manifest.json"), read);
}

#[test]
fn spoilt_records_and_splits_are_refused_by_the_merge_or_give_the_same_labels() {
    let (data, dir) = (dataset(), folder());
    write(dir.path(), &data, &header(&data, rich()), 2);
    let read = || merge(dir.path()).map(drop);
    trial("record", Kind::Json, &dir.path().join("labels-00001-of-00002.json"), read);
    let path = dir.path().join(SPLIT);
    trial("split", Kind::Json, &path, || {
        let found = Split::read(&path, &data.interactions_hash(), data.users.len())?;
        assert!(found == split(&data), "another split was read");
        Ok(())
    });
}

#[test]
fn spoilt_parts_go_on_from_blocks_that_were_written() {
    let (data, dir) = (dataset(), folder());
    let header = header(&data, rich());
    let writer = writer(dir.path(), &header, 1);
    append_from(&mut begin(&writer, 0), &data, &header);
    let path = dir.path().join("labels-00000-of-00001.part");
    let good = std::fs::read(&path).unwrap();
    // Half of them behind the first line, which has a sum of its own kind: JSON.
    let head = good.iter().position(|&b| b == b'\n').unwrap() + 1;
    let mut lasts = std::collections::BTreeSet::new();
    for (name, kind, from) in [("part", Kind::Bytes, 0), ("blocks", Kind::Binary, head)] {
        trial::run(name, kind, &good[from..], MUTATIONS / 2, BOUND, |mutation| {
            std::fs::write(&path, [&good[..from], mutation].concat()).unwrap();
            let lea::le::Begun::Open(open) = writer.begin(0)? else { panic!("a part is no finished file") };
            lasts.insert(open.last());
            Ok(())
        });
    }
    let expected = [None, Some((0, 2)), Some((2, 1)), Some((5, 4))];
    assert_eq!(lasts.into_iter().collect::<Vec<_>>(), expected);
}
