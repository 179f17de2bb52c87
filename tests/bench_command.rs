//! `lea bench` as a user runs it: what it records of tiny shapes, and what `lea bench compare` makes of two records.

use serde_json::Value;
use std::path::Path;
use std::process::{Command, Output};

/// Flags that keep a debug build's run short.
const SHORT: [&str; 7] = ["--samples", "6", "--sample-ms", "0", "--ceiling", "48", "--json"];

fn lea(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_lea")).args(args).output().unwrap()
}

fn bench(name: &str, args: &[&str]) -> Vec<Value> {
    let output = lea(&[&["bench", name], args, &SHORT].concat());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn refused(args: &[&str]) -> String {
    let output = lea(args);
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && !told.contains("panicked"), "{told}");
    told
}

fn number(record: &Value, name: &str) -> f64 {
    record[name].as_f64().unwrap_or_else(|| panic!("{name} of {record}"))
}

#[test]
fn a_product_counts_its_flops_and_its_order_statistics_are_those_of_its_samples() {
    let records = bench("matmul", &["--m", "24", "--n", "40", "--k", "16"]);
    let [record] = &records[..] else { panic!("{records:?}") };
    assert_eq!(record["flops"], 2 * 24 * 40 * 16);
    assert_eq!(record["bytes"], 4 * (24 * 40 + 24 * 16 + 40 * 16));
    let mut seconds: Vec<f64> =
        record["seconds"].as_array().unwrap().iter().map(|s| s.as_f64().unwrap()).collect();
    assert_eq!(seconds.len(), 6);
    seconds.sort_by(f64::total_cmp);
    let middle = (seconds[2] + seconds[3]) / 2.0;
    assert!((number(record, "median_seconds") - middle).abs() < 1e-12);
    assert!((number(record, "p10_seconds") - (seconds[0] + seconds[1]) / 2.0).abs() < 1e-12);
    let rate = f64::from(2 * 24 * 40 * 16) / middle / 1e9;
    assert!((number(record, "gflops") / rate - 1.0).abs() < 1e-9);
    let share = number(record, "gflops") / number(record, "ceiling_gflops");
    let memory = number(record, "gb_per_s") / number(record, "ceiling_gb_per_s");
    assert!((number(record, "share_of_ceiling") / share.max(memory) - 1.0).abs() < 1e-9);
    assert!(number(record, "ceiling_gflops") >= number(record, "ceiling_product_gflops"));
    let nearest = if share >= memory { "compute" } else { "memory" };
    assert_eq!(record["nearest_ceiling"], nearest);
    assert_eq!(record["bound"], if share.max(memory) < 0.25 { "neither" } else { nearest });
    assert_eq!(record["inputs"], "uniform in [-1, 1)");
    for name in ["device", "version", "unit", "bound"] {
        assert!(record[name].as_str().is_some_and(|text| !text.is_empty()), "{name}");
    }
    assert!(record["threads"].as_u64() > Some(0) && record["repetitions"] == 1 && record["warm_up"] == 2);
}

#[test]
fn the_table_tells_inputs_runs_revision_and_load_in_narrow_lines() {
    let small = ["--layers", "1", "--history", "4", "--actions", "3", "--users", "1"];
    let output = lea(&[&["bench", "label"], &small[..], &SHORT[..6]].concat());
    let told = String::from_utf8(output.stdout).unwrap();
    for said in [
        " 1  label: shape tiny, layers 1",
        "inputs items and actions uniform over a catalogue of 1000",
        "2 runs to warm up, 6 samples",
        "labels/s",
        "ceilings of 1: ",
        concat!("lea ", env!("CARGO_PKG_VERSION")),
    ] {
        assert!(told.contains(said), "{said}: {told}");
    }
    assert!(
        told.matches("threads").count() == 1 && told.lines().all(|line| line.chars().count() <= 120),
        "{told}"
    );
}

#[test]
fn products_in_bf16_stand_beside_a_ceiling_of_their_own() {
    let output = lea(&[&["--cpu-dtype", "bf16", "bench", "matmul", "--frozen"], &SHORT[..]].concat());
    let record: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&record["ceiling_dtype"], &record["half_flops"]), (&"bf16".into(), &record["flops"]));
    assert!(number(&record, "ceiling_f32_gflops") > 0.0);
    let share = number(&record, "gflops") / number(&record, "ceiling_gflops");
    let memory = number(&record, "gb_per_s") / number(&record, "ceiling_gb_per_s");
    assert!((number(&record, "share_of_ceiling") / share.max(memory) - 1.0).abs() < 1e-9);
}

#[test]
fn every_bench_runs_at_small_shapes_and_tells_its_rate() {
    let records = bench("all", &["--quick"]);
    let names: Vec<&str> = records.iter().map(|record| record["bench"].as_str().unwrap()).collect();
    let products = ["matmul"; 3];
    assert_eq!(
        names,
        [&products[..], &["attention", "attention", "label", "fit", "train", "train", "eval"]].concat()
    );
    for record in &records {
        assert!(number(record, "flops") > 0.0 && number(record, "bytes") > 0.0, "{record}");
        assert!(number(record, "p10_seconds") <= number(record, "p90_seconds"));
    }
    for (at, rate, units) in
        [(5, "labels_per_s", 4.0 * 3.0), (6, "steps_per_s", 1.0), (9, "users_per_s", 8.0)]
    {
        let told = number(&records[at], rate) * number(&records[at], "median_seconds");
        assert!((told / units - 1.0).abs() < 1e-9, "{rate}: {told}");
    }
    // A step trains backward too: more than twice the products of its forward pass, which alone is what ranking does.
    assert_eq!(records[6]["settings"]["layers"], 1);
}

#[test]
fn labelling_takes_as_many_users_as_a_pack_has_rows_for() {
    let small = ["--layers", "1", "--history", "4", "--actions", "3", "--separator", "0", "--closing", "0"];
    for (given, users) in
        [(&["--pack-tokens", "40"][..], 3), (&["--pack-tokens", "5"], 1), (&["--users", "2"], 2)]
    {
        let records = bench("label", &[&small[..], given].concat());
        let [record] = &records[..] else { panic!("{records:?}") };
        assert_eq!(
            (&record["settings"]["users"], &record["unit"]),
            (&users.into(), &"pack".into()),
            "{given:?}"
        );
        let rate = f64::from(users * 4 * 3) / number(record, "median_seconds");
        assert!((number(record, "labels_per_s") / rate - 1.0).abs() < 1e-9, "{given:?}");
        // Leaves, the users' items, and the prompt, which all share.
        let rows = f64::from(users * (4 * 3 + 4) + 8) / f64::from(users * 12);
        assert!((number(record, "tokens_per_label") - rows).abs() < 1e-9, "{given:?}: {record}");
    }
}

#[test]
fn attention_counts_the_keys_that_each_row_sees() {
    let [record] =
        &bench("attention", &["--history", "5", "--actions", "3", "--heads", "2", "--head-dim", "8"])[..]
    else {
        panic!("one record")
    };
    // Leaf i of step t sees t + 1 trunk rows and itself; a product with keys and one with values, two FLOPs each.
    let seen: u64 = (0..5).map(|t| 3 * (t + 1 + 1)).sum();
    assert_eq!(record["flops"], 2 * 2 * seen * 2 * 8);
}

/// Writes the records with all times multiplied by `factor`.
fn write(path: &Path, records: &[Value], factor: f64) {
    let scaled = |record: &Value| {
        let mut record = record.clone();
        for name in ["median_seconds", "p10_seconds", "p90_seconds"] {
            record[name] = (record[name].as_f64().unwrap() * factor).into();
        }
        for second in record["seconds"].as_array_mut().unwrap() {
            *second = (second.as_f64().unwrap() * factor).into();
        }
        record.to_string() + "\n"
    };
    std::fs::write(path, records.iter().map(scaled).collect::<String>()).unwrap();
}

#[test]
fn compare_finds_a_slowdown_and_is_quiet_about_the_same_run() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let text = |name: &str| path(name).to_str().unwrap().to_string();
    let mut records = bench("matmul", &["--m", "8", "--n", "8", "--k", "8"]);
    // Times of this machine vary as they like: these are what a quiet one gives.
    let seconds: Vec<Value> = [1.0, 1.01, 1.02, 1.03, 1.04, 1.05].map(|s| (s * 1e-3).into()).to_vec();
    records[0]["seconds"] = seconds.into();
    for (name, ms) in [("median_seconds", 1.025), ("p10_seconds", 1.005), ("p90_seconds", 1.045)] {
        records[0][name] = (ms * 1e-3).into();
    }
    write(&path("a.json"), &records, 1.0);
    for (name, factor) in [("slower.json", 1.2), ("noise.json", 1.02), ("faster.json", 0.8)] {
        write(&path(name), &records, factor);
    }
    let compare =
        |b: &str, more: &[&str]| lea(&[&["bench", "compare", &text("a.json"), &text(b)], more].concat());
    let verdict = |b: &str| -> String {
        let output = compare(b, &["--json"]);
        let line: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(output.status.code(), Some(i32::from(line["verdict"] == "slower")));
        line["verdict"].as_str().unwrap().into()
    };
    assert_eq!(
        ["a.json", "slower.json", "noise.json", "faster.json"].map(verdict),
        ["same", "slower", "same", "faster"]
    );
    let output = compare("slower.json", &[]);
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(told.contains("matmul: m 8") && told.contains("1.200") && told.contains("slower"), "{told}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("1 of 1 got slower beyond noise"));
    assert!(compare("slower.json", &["--threshold", "25"]).status.success());
    // A machine that was slower as well leaves doubt, but not of what is slower by far.
    let product = number(&records[0], "ceiling_product_gflops");
    records[0]["ceiling_product_gflops"] = (product / 1.3).into();
    write(&path("doubtful.json"), &records, 1.55);
    write(&path("far.json"), &records, 1.8);
    assert_eq!(["doubtful.json", "far.json"].map(verdict), ["uncertain", "slower"]);
    records[0]["ceiling_product_gflops"] = product.into();
    // A record from before there were other ceilings than products.
    let mut old = records.clone();
    old[0]["ceiling_gflops"] = product.into();
    for name in ["ceiling_product_gflops", "ceiling_f32_gflops", "nearest_ceiling", "half_flops"] {
        old[0].as_object_mut().unwrap().remove(name);
    }
    write(&path("old.json"), &old, 1.2);
    assert_eq!(verdict("old.json"), "slower");
    // Among many comparisons chance has many goes: six samples a side do not do for five.
    let many: Vec<Value> = (8..13)
        .map(|m| {
            let mut record = records[0].clone();
            record["settings"]["m"] = m.into();
            record
        })
        .collect();
    write(&path("many.json"), &many, 1.0);
    write(&path("many-slower.json"), &many, 1.2);
    let output = lea(&["bench", "compare", &text("many.json"), &text("many-slower.json")]);
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success() && told.matches("too few samples").count() == 5, "{told}");
    // Of three samples a side any order comes about by chance too often.
    records[0]["seconds"] = vec![Value::from(1e-3); 3].into();
    write(&path("few.json"), &records, 1.5);
    write(&path("a.json"), &records, 1.0);
    assert_eq!(verdict("few.json"), "too few samples");
}

#[test]
fn two_programs_are_measured_in_turn() {
    let small = [
        "matmul",
        "--m",
        "8",
        "--n",
        "8",
        "--k",
        "8",
        "--samples",
        "2",
        "--sample-ms",
        "0",
        "--ceiling",
        "16",
    ];
    let own = env!("CARGO_BIN_EXE_lea");
    let against = |program: &str, bench: &[&str]| {
        lea(&[&["bench", "against", "--rounds", "3", "--json", program][..], bench].concat())
    };
    let output = against(own, &small);
    let line: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&line["bench"], &line["settings"]["m"]), (&"matmul".into(), &8.into()));
    assert_eq!(output.status.code(), Some(i32::from(line["verdict"] == "slower")));
    assert!(["same", "slower", "faster", "uncertain"].contains(&line["verdict"].as_str().unwrap()), "{line}");
    assert_eq!(String::from_utf8_lossy(&output.stderr).matches("round ").count(), 3);
    // Of two samples a run it takes all: of one run alone they would be too few.
    let alone = lea(&[&["bench", "against", "--rounds", "1", "--json", own][..], &small].concat());
    let line: Value = serde_json::from_slice(&alone.stdout).unwrap();
    assert_eq!(line["verdict"], "too few samples");
    for (program, bench, says) in
        [("nowhere/lea", &small[..], "nowhere/lea cannot be run"), (own, &["matmul", "--m", "0"], "failed")]
    {
        let told = String::from_utf8_lossy(&against(program, bench).stderr).into_owned();
        assert!(told.contains(says), "{says}: {told}");
    }
}

#[test]
fn what_is_no_record_is_refused_with_its_line() {
    let folder = tempfile::tempdir().unwrap();
    let good = folder.path().join("good.json");
    let records = bench("matmul", &["--m", "4", "--n", "4", "--k", "4"]);
    write(&good, &records, 1.0);
    let line = std::fs::read_to_string(&good).unwrap();
    let other = line.replace("\"m\":4", "\"m\":5");
    assert_ne!(other, line);
    for (text, says) in [
        (String::new(), "there is no record in it"),
        (line[..line.len() / 2].to_string(), "line 1: "),
        (format!("{line}{{}}\n"), "line 2: missing field"),
        (format!("{line}{line}"), "is there twice"),
        (line.replacen("\"median_seconds\":", "\"median_seconds\":-", 1), "are no times"),
        (other, "no work in common"),
    ] {
        let bad = folder.path().join("bad.json");
        std::fs::write(&bad, text).unwrap();
        let told = refused(&["bench", "compare", good.to_str().unwrap(), bad.to_str().unwrap()]);
        assert!(told.contains(says), "{says}: {told}");
    }
    assert!(refused(&["bench", "compare", good.to_str().unwrap(), "nowhere.json"]).contains("nowhere.json"));
}

#[test]
fn shapes_that_cannot_be_measured_are_refused() {
    for (args, says) in [
        (&["matmul", "--m", "0"][..], "choose at least 1 of each"),
        (&["attention", "--heads", "3", "--kv-heads", "2"], "query heads a multiple"),
        (&["label", "--actions", "0"], "at most 1000 actions"),
        (&["fit", "--layers", "0"], "layers 0"),
        (&["train", "--width", "7", "--heads", "2"], "divides the width"),
        (&["eval", "--users", "2"], "choose at least 3"),
        (&["matmul", "--samples", "0"], "--samples 0"),
        (&["matmul", "--ceiling", "0"], "extent 0"),
    ] {
        let told = refused(&[&["bench"], args].concat());
        assert!(told.contains(says), "{says}: {told}");
    }
}
