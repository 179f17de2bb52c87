//! What the pages say of each file is what is written: the keys of JSON files, the tensors of recommenders.

mod label_run;

use label_run::Workshop;
use safetensors::SafeTensors;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

fn page(name: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs").join(name)).unwrap()
}

/// The rows of the table on the `page` whose first column is headed `head`, cell by cell.
fn table(page: &str, head: &str) -> Vec<Vec<String>> {
    let head = format!("| {head} |");
    let mut lines = page.lines().skip_while(|line| !line.starts_with(&head));
    assert!(lines.next().is_some(), "no page has a table {head}");
    let rows = lines.skip(1).take_while(|line| line.starts_with('|'));
    rows.map(|row| row.trim_matches('|').split(" | ").map(|cell| cell.trim().to_string()).collect()).collect()
}

/// What stands between backticks.
fn quoted(cell: &str) -> Vec<String> {
    cell.split('`').skip(1).step_by(2).map(String::from).collect()
}

/// The keys that the table of `file` lists.
fn keys_of(page: &str, file: &str) -> BTreeSet<String> {
    table(page, &format!("key of `{file}`")).iter().flat_map(|row| quoted(&row[0])).collect()
}

fn written(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn keys(value: &Value) -> BTreeSet<String> {
    value.as_object().unwrap().keys().cloned().collect()
}

fn strings<const N: usize>(list: [&str; N]) -> BTreeSet<String> {
    list.map(String::from).into()
}

#[test]
fn every_file_has_the_keys_and_tensors_that_its_page_lists_and_no_others() {
    let workshop = Workshop::new(30);
    workshop.run(&workshop.label("labels", &[]));
    let settings = "[rec]\nwidth = 8\nepochs = 1\nnegatives = 3\nhistory = 6\nblocks = 2\n";
    std::fs::write(workshop.path("t.toml"), settings).unwrap();
    let train = ["train", "--config", "t.toml", "--data", "data"];
    let recommenders =
        [("gru4rec", "lea", "snqn"), ("sasrec", "lea", "sqn"), ("gru4rec", "base", "supervised")].map(|of| {
            let (encoder, variant, framework) = of;
            let out = format!("{encoder}-{variant}");
            let flags = ["--encoder", encoder, "--variant", variant, "--framework", framework, "--out", &out];
            let labels: &[&str] = if variant == "lea" { &["--labels", "labels"] } else { &[] };
            workshop.run(&[&train[..], &flags, labels].concat());
            (encoder, workshop.path(&out).join("recommender.safetensors"))
        });
    let eval = ["eval", "--data", "data", "--baseline", "popularity", "--out", "eval"];
    workshop.run(&eval);

    let (files, data, resume) = (page("files.md"), page("data.md"), page("resume.md"));
    for (page, path, named, absent) in [
        (&files, "decoder/config.json", "config.json", strings([])),
        (&files, "decoder/tokenizer_config.json", "tokenizer_config.json", strings([])),
        (&files, "le/le.json", "le.json", strings([])),
        (&files, "le/adapter_config.json", "adapter_config.json", strings([])),
        (&files, "le/split.json", "split.json", strings([])),
        (&files, "labels/manifest.json", "manifest.json", strings([])),
        (&files, "labels/labels-00000-of-00001.json", "labels-00002-of-00016.json", strings([])),
        (&files, "labels/run.json", "run.json", strings([])),
        (&files, "eval/metrics.json", "metrics.json", strings([])),
        (&files, "labels/report.json", "report.json", strings(["metrics"])),
        (&data, "data/dataset.json", "dataset.json", strings([])),
        // A run that is finished.
        (&resume, "labels/resume.json", "resume.json", strings(["command_line"])),
    ] {
        let found = keys(&written(&workshop.path(path)));
        let listed: BTreeSet<String> = keys_of(page, named).difference(&absent).cloned().collect();
        assert_eq!(found, listed, "{path}");
    }
    let of = |path: &str, key: &str| keys(&written(&workshop.path(path))[key]);
    assert_eq!(of("le/split.json", "le"), strings(["held_out", "share", "users"]));
    assert_eq!(of("data/dataset.json", "synthetic"), strings(["items", "mean_length", "seed", "users"]));
    for (encoder, path) in recommenders {
        check_recommender(&files, encoder, &path);
    }
}

/// Compares metadata, names and shapes of a recommender with two layers or blocks.
fn check_recommender(page: &str, encoder: &str, path: &Path) {
    let bytes = std::fs::read(path).unwrap();
    let (_, header) = SafeTensors::read_metadata(&bytes).unwrap();
    let metadata = header.metadata().as_ref().unwrap();
    assert_eq!(metadata.keys().collect::<Vec<_>>(), ["recommender"]);
    let said: Value = serde_json::from_str(&metadata["recommender"]).unwrap();
    assert_eq!(keys(&said), keys_of(page, "recommender"));
    let config = &said["config"];
    let size = |value: &Value| value.as_u64().unwrap() as usize;
    let (n, w) = (size(&said["items"]), size(&config["width"]));
    let extents = BTreeMap::from([
        ("n", n),
        ("w", w),
        ("3w", 3 * w),
        ("H", size(&config["history"])),
        ("d", size(&said["state_dim"])),
    ]);
    let mut listed = BTreeMap::new();
    for row in
        [table(page, "tensor of a recommender"), table(page, &format!("tensor of `{encoder}`"))].concat()
    {
        let shapes: Vec<Vec<usize>> = (row[1].trim_matches(['[', ']']).split("], ["))
            .map(|shape| shape.split(", ").map(|extent| extents[extent]).collect())
            .collect();
        let names = quoted(&row[0]);
        assert_eq!(names.len(), shapes.len(), "{row:?}");
        for (name, shape) in names.into_iter().zip(shapes) {
            let count = if name.contains("{i}") { size(&config["blocks"]) } else { 1 };
            listed.extend((0..count).map(|i| (name.replace("{i}", &i.to_string()), shape.clone())));
        }
    }
    let without = |listed: &mut BTreeMap<String, Vec<usize>>, start: &str| {
        listed.retain(|name, _| !name.starts_with(start));
    };
    if config["tied"] == true {
        without(&mut listed, "head.weight");
    }
    if config["framework"] == "supervised" {
        without(&mut listed, "q.");
    }
    if config["state"] == false {
        without(&mut listed, "q.state.");
    }
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let found: BTreeMap<String, Vec<usize>> =
        tensors.iter().map(|(name, tensor)| (name.to_string(), tensor.shape().to_vec())).collect();
    assert_eq!(found, listed, "{}", path.display());
}
