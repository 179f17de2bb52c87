//! Labelling in shards, as several machines would do it.

mod label_run;

use label_run::{Workshop, labels, lea, succeed};
use std::path::Path;
use std::process::Stdio;

#[test]
fn any_number_of_shards_merged_is_the_folder_of_one_run_to_the_byte() {
    let workshop = Workshop::new(40);
    workshop.run(&workshop.label("one", &["--files", "16"]));
    let one = labels(&workshop.path("one"));
    assert_eq!(one.len(), 2 * 16 + 2);
    // The LE holds its prompt as tokens: no text is read, and the tokenizer is not missed.
    std::fs::remove_file(workshop.path("decoder/tokenizer.json")).unwrap();
    for shards in [1, 2, 5, 16] {
        let out = format!("of-{shards}");
        // The last first: no order of the shards matters.
        for number in (1..=shards).rev() {
            let shard = format!("{number}/{shards}");
            let told = workshop.run(&workshop.label(&out, &["--files", "16", "--shard", &shard]));
            assert!(told.contains(&format!("lea labels merge {out}")), "{told}");
        }
        let told = workshop.run(&["labels", "merge", &out]);
        assert!(told.contains("16 files, 40 users"), "{told}");
        assert!(labels(&workshop.path(&out)) == one, "{shards} shards");
    }
    // Without --files, each shard has one.
    (1..=3).for_each(|n| drop(workshop.run(&workshop.label("three", &["--shard", &format!("{n}/3")]))));
    workshop.run(&["labels", "merge", "three"]);
    assert_eq!(labels(&workshop.path("three")).len(), 2 * 3 + 2);
    // The manifest does not depend on the cut but for the list of files.
    let rewards = |dir: &str| {
        let manifest = std::fs::read_to_string(workshop.path(dir).join("manifest.json")).unwrap();
        let manifest: serde_json::Value = serde_json::from_str(&manifest).unwrap();
        (manifest["rewards"].clone(), manifest["quality"].clone(), manifest["steps"].clone())
    };
    assert_eq!(rewards("three"), rewards("one"));
    assert!(rewards("three").1.is_object());
}

#[test]
fn shards_write_to_one_folder_at_the_same_time_and_a_folder_that_is_not_whole_is_refused() {
    let workshop = Workshop::new(40);
    let start = |shard: &str| {
        let args = workshop.label("labels", &["--shard", shard]);
        lea(&args)
            .current_dir(workshop.path(""))
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    };
    let running: Vec<_> = ["1/4", "2/4", "4/4"].map(start).into();
    running.into_iter().for_each(|run| drop(succeed(&run.wait_with_output().unwrap())));
    let merge = ["labels", "merge", "labels"];
    {
        let lock =
            std::fs::File::options().write(true).open(workshop.path("labels").join(".lea-lock")).unwrap();
        lock.lock_shared().unwrap();
        let busy = workshop.refused(&merge);
        assert!(busy.contains("another run of lea is writing to labels now"), "{busy}");
    }
    // A name that no labelling gives is nobody's file.
    std::fs::write(workshop.path("labels").join("labels-00000-of-00000.json"), "{}").unwrap();
    let missing = workshop.refused(&merge);
    assert!(
        missing.contains("1 of the 4 label files") && missing.contains("labels-00002-of-00004 is missing")
    );
    let early = workshop.refused(&workshop.verify("labels", &[]));
    assert!(early.contains("did not finish") && early.contains("lea labels merge"), "{early}");
    // A shard of another configuration, and one of another number of shards.
    let other = workshop.refused(&workshop.label("labels", &["--shard", "3/4", "--candidates", "7"]));
    assert!(other.contains("settings.candidates is 8, expected 7"), "{other}");
    let other = workshop.refused(&workshop.label("labels", &["--shard", "3/5"]));
    assert!(other.contains("it is one of 4 files, this run makes 5"), "{other}");
    // One that was labelled elsewhere with another configuration, and copied here.
    workshop.run(&workshop.label("strange", &["--shard", "3/4", "--seed", "9"]));
    for ending in ["json", "safetensors"] {
        let name = format!("labels-00002-of-00004.{ending}");
        std::fs::copy(workshop.path("strange").join(&name), workshop.path("labels").join(&name)).unwrap();
    }
    let mixed = workshop.refused(&merge);
    assert!(
        mixed.contains("labels-00002-of-00004.json") && mixed.contains("seed is 9, expected 3"),
        "{mixed}"
    );
    let remove = |name: &str| std::fs::remove_file(workshop.path("labels").join(name)).unwrap();
    remove("labels-00002-of-00004.json");
    remove("labels-00002-of-00004.safetensors");
    workshop.run(&workshop.label("labels", &["--shard", "3/4"]));
    workshop.run(&merge);
    remove("labels-00000-of-00000.json");
    workshop.run(&workshop.label("one", &["--files", "4"]));
    assert!(labels(&workshop.path("labels")) == labels(&workshop.path("one")));
    changed_labels_are_found(&workshop, &workshop.path("one"));
}

/// `lea labels verify` accepts what was labelled, and finds a value that was changed even where its hash was too.
fn changed_labels_are_found(workshop: &Workshop, dir: &Path) {
    let told = workshop.run(&workshop.verify("one", &["--users", "40"]));
    assert!(told.contains("40 users labelled again"), "{told}");
    let other = workshop.refused(&workshop.verify("one", &["--min-length", "8"]));
    assert!(other.contains("split") || other.contains("data"), "{other}");
    let none = workshop.refused(&workshop.verify("one", &["--users", "0"]));
    assert!(none.contains("give at least one with --users"), "{none}");
    // What no drawn user stands in is looked at too: any file, and the split.
    let path = dir.join("labels-00001-of-00004.safetensors");
    for name in ["labels-00001-of-00004.safetensors", "labels-00003-of-00004.safetensors", "split.json"] {
        std::fs::rename(dir.join(name), dir.join("aside")).unwrap();
        let gone = workshop.refused(&workshop.verify("one", &["--users", "1"]));
        assert!(gone.contains(name), "{gone}");
        std::fs::rename(dir.join("aside"), dir.join(name)).unwrap();
    }
    let mut bytes = std::fs::read(&path).unwrap();
    let before = lea::files::sha256(&bytes);
    let header_end = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    // The lowest bit of the first action.
    bytes[header_end] ^= 1;
    std::fs::write(&path, &bytes).unwrap();
    let found = workshop.refused(&workshop.verify("one", &["--users", "40"]));
    assert!(found.contains("labels-00001-of-00004.safetensors: content: its SHA-256"), "{found}");
    let manifest = std::fs::read_to_string(dir.join("manifest.json")).unwrap();
    let forged = manifest.replace(&before, &lea::files::sha256(&bytes));
    std::fs::write(dir.join("manifest.json"), forged).unwrap();
    let found = workshop.refused(&workshop.verify("one", &["--users", "40"]));
    assert!(found.contains("tensor action: row 0 (user 10, step 0) holds"), "{found}");
}
