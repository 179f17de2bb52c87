//! `lea profile` as a user runs it: the step's files are those of the step alone, and what is told of it adds up.

mod label_run;

use label_run::{Workshop, labels, lea, succeed};
use serde_json::Value;
use std::path::Path;

/// Ceilings that a debug build measures in no time.
const SHORT: [&str; 2] = ["--ceiling", "48"];

fn read(path: &Path) -> Value {
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn number(of: &Value, name: &str) -> f64 {
    of[name].as_f64().unwrap_or_else(|| panic!("{name} of {of}"))
}

/// Times, shares and rates of a profile fit together.
fn expect_it_adds_up(profile: &Value, step: &str) {
    assert_eq!(profile["step"], step);
    let kernels = profile["kernels"].as_array().unwrap();
    assert!(!kernels.is_empty());
    let near = |a: f64, b: f64| assert!((a - b).abs() <= 1e-9 * a.abs().max(b.abs()).max(1e-9), "{a} {b}");
    let sum = |name: &str| kernels.iter().map(|kernel| number(kernel, name)).sum::<f64>();
    near(sum("share"), 1.0);
    near(sum("seconds"), number(profile, "kernel_seconds"));
    near(number(profile, "kernel_seconds") + number(profile, "outside_seconds"), number(profile, "seconds"));
    let ceiling = &profile["ceiling"];
    let limit = &ceiling["compute"][0];
    assert_eq!((&limit["extent"], &limit["dtype"]), (&48.into(), &"f32".into()));
    assert!(number(limit, "gflops") >= number(limit, "product_gflops"));
    for kernel in kernels {
        let (seconds, compute, memory) = (
            number(kernel, "seconds"),
            number(kernel, "share_of_compute"),
            number(kernel, "share_of_memory"),
        );
        near(number(kernel, "flops") / seconds / 1e9, number(kernel, "gflops"));
        near(number(kernel, "gflops") / number(limit, "gflops"), compute);
        near(number(kernel, "bytes") / seconds / 1e9 / number(ceiling, "gb_per_s"), memory);
        let bound = match compute.max(memory) {
            none if none <= 0.0 => Value::Null,
            far if far < 0.25 => "neither".into(),
            _ if compute >= memory => "compute".into(),
            _ => "memory".into(),
        };
        assert_eq!(kernel["bound"], bound, "{kernel}");
    }
    assert!(sum("flops") > 0.0 && sum("bytes") > 0.0);
    // No part of a stage takes longer than the stage itself.
    let stages = profile["stages"].as_array().unwrap();
    let path = |stage: &Value| serde_json::from_value::<Vec<String>>(stage["path"].clone()).unwrap();
    for stage in stages {
        let own = path(stage);
        let inside = |part: &&Value| path(part).len() == own.len() + 1 && path(part)[..own.len()] == own;
        let parts: f64 = stages.iter().filter(inside).map(|part| number(part, "seconds")).sum();
        assert!(parts <= number(stage, "seconds") + 1e-6, "{own:?}");
        assert!(number(stage, "kernel_seconds") <= number(stage, "seconds") + 1e-6, "{own:?}");
    }
}

#[test]
fn a_profiled_labelling_writes_the_same_labels_and_tells_where_the_time_went() {
    let workshop = Workshop::new(20);
    let plain = workshop.label("plain", &[]);
    succeed(&lea(&plain).current_dir(workshop.path("")).output().unwrap());
    let profiled = workshop.label("profiled", &[]);
    let written = ["--trace", "trace.json", "--html", "page.html", "--json", "profile.json"];
    let args = [&["profile"], &profiled[..], &SHORT, &written].concat();
    let told = succeed(&lea(&args).current_dir(workshop.path("")).output().unwrap());
    assert!(labels(&workshop.path("profiled")) == labels(&workshop.path("plain")), "other bytes");
    for said in ["forest_attention", "outside kernels", "of compute", "48 x 48 x 48 in f32", "label / leaves"]
    {
        assert!(told.contains(said), "{said}: {told}");
    }
    let profile = read(&workshop.path("profile.json"));
    expect_it_adds_up(&profile, "label");
    assert_eq!((&profile["stopped"], &profile["by_device"]), (&Value::Null, &Value::from(false)));

    let trace = read(&workshop.path("trace.json"));
    let events = trace["traceEvents"].as_array().unwrap();
    let on = |track: u64| events.iter().filter(move |e| e["ph"] == "X" && e["tid"] == track);
    let launches: u64 =
        profile["kernels"].as_array().unwrap().iter().map(|k| k["calls"].as_u64().unwrap()).sum();
    assert_eq!(on(3).count() as u64, launches);
    assert!(on(3).any(|e| {
        e["args"]["in"].as_str().is_some_and(|place| place.starts_with("label / leaves / layer 0 / "))
    }));
    // The work of every op that is part of no other, as the trace has it.
    let spans: Vec<(f64, f64, f64)> = on(1)
        .filter(|e| e["args"]["flops"].is_u64())
        .map(|e| (number(e, "ts"), number(e, "ts") + number(e, "dur"), number(&e["args"], "flops")))
        .collect();
    let mut end = f64::NEG_INFINITY;
    let outermost = spans.iter().filter(|(from, to, _)| {
        let outside = *from >= end;
        end = if outside { *to } else { end };
        outside
    });
    let traced: f64 = outermost.map(|(_, _, flops)| flops).sum();
    let counted: f64 = profile["kernels"].as_array().unwrap().iter().map(|k| number(k, "flops")).sum();
    assert!((traced / counted - 1.0).abs() < 1e-9, "{traced} {counted}");

    let page = std::fs::read_to_string(workshop.path("page.html")).unwrap();
    assert_eq!(page.matches("<svg").count(), 2);
    assert!(
        !page.contains("http://www.w3.org/1999/xlink")
            && !page.contains("<script")
            && page.contains("Roofline")
    );
}

#[test]
fn every_step_can_be_profiled() {
    let workshop = Workshop::new(12);
    let decoder = ["--decoder", "decoder"];
    let steps: [(&str, &[&str], &[&str]); 4] = [
        ("pretrain", &["--config", "c.toml"], &["forward", "backward", "optimiser"]),
        ("items", &["--config", "c.toml", "--epochs", "1", decoder[0], decoder[1]], &["forward", "backward"]),
        (
            "fit",
            &["--config", "c.toml", "--item-tokens", "items", decoder[0], decoder[1]],
            &["negatives", "forward", "backward"],
        ),
        (
            "train",
            &["--epochs", "1", "--width", "8", "--history", "4"],
            &["batch", "forward", "backward", "validate"],
        ),
    ];
    for (step, own, parts) in steps {
        let (out, json) = (format!("of-{step}"), format!("{step}.json"));
        let shared = ["--data", "data", "--out", &out, "--json", &json];
        let args = [&["profile", step], own, &shared, &SHORT].concat();
        succeed(&lea(&args).current_dir(workshop.path("")).output().unwrap());
        let profile = read(&workshop.path(&json));
        expect_it_adds_up(&profile, step);
        let paths: Vec<&Value> =
            profile["stages"].as_array().unwrap().iter().map(|stage| &stage["path"]).collect();
        for part in parts {
            assert!(paths.contains(&&serde_json::json!([step, part])), "{step} / {part}: {paths:?}");
        }
        // A backward pass has the work of the products inside it.
        let kernels = profile["kernels"].as_array().unwrap();
        let products = kernels.iter().find(|kernel| kernel["kernel"] == "linear, backward");
        assert!(products.is_some_and(|kernel| number(kernel, "flops") > 0.0), "{step}");
        expect_every_op_tells_its_work(&profile);
    }
}

/// Every row has work but those that only name the same elements anew.
fn expect_every_op_tells_its_work(profile: &Value) {
    for kernel in profile["kernels"].as_array().unwrap() {
        let moves_nothing = ["add, backward", "concat_rows, backward", "reshape", "reshape, backward"];
        let named = moves_nothing.contains(&kernel["kernel"].as_str().unwrap());
        assert!(named || number(kernel, "bytes") > 0.0, "{kernel}");
    }
}

#[test]
fn every_op_of_a_recommenders_training_tells_its_work() {
    let workshop = Workshop::new(12);
    for encoder in ["sasrec", "gru4rec"] {
        for framework in ["supervised", "snqn", "sa2c"] {
            let out = format!("{encoder}-{framework}");
            let json = format!("{out}.json");
            let args =
                ["profile", "train", "--data", "data", "--out", &out, "--json", &json, "--epochs", "1"];
            // So short a training has no advantages otherwise.
            let warm_up = if framework == "sa2c" { &["--advantage-warmup", "0"][..] } else { &[] };
            let model = ["--width", "8", "--history", "4", "--encoder", encoder, "--framework", framework];
            let args = [&args[..], &model, warm_up, &SHORT].concat();
            succeed(&lea(&args).current_dir(workshop.path("")).output().unwrap());
            let profile = read(&workshop.path(&json));
            expect_every_op_tells_its_work(&profile);
            let kernels = profile["kernels"].as_array().unwrap();
            let head = kernels.iter().filter(|kernel| {
                kernel["kernel"].as_str().is_some_and(|name| name.starts_with("linear_cross_entropy"))
            });
            assert!(head.map(|kernel| number(kernel, "flops")).sum::<f64>() > 0.0, "{out}");
        }
    }
}

#[test]
fn a_limit_of_time_stops_the_step_where_it_can_go_on() {
    let workshop = Workshop::new(20);
    let whole = workshop.label("whole", &[]);
    succeed(&lea(&whole).current_dir(workshop.path("")).output().unwrap());
    let cut = workshop.label("cut", &[]);
    let limit = ["--limit-seconds", "0", "--json", "cut.json"];
    let told = succeed(
        &lea(&[&["profile"], &cut[..], &SHORT, &limit].concat())
            .current_dir(workshop.path(""))
            .output()
            .unwrap(),
    );
    assert!(told.contains("stopped before its end") && told.contains("lea label --resume goes on"), "{told}");
    assert!(read(&workshop.path("cut.json"))["stopped"].is_string());
    assert!(!workshop.path("cut/manifest.json").exists());
    succeed(&lea(&[&cut[..], &["--resume"]].concat()).current_dir(workshop.path("")).output().unwrap());
    assert!(labels(&workshop.path("cut")) == labels(&workshop.path("whole")), "other bytes");
}

#[test]
fn an_error_of_the_step_is_the_commands_own() {
    let folder = tempfile::tempdir().unwrap();
    let refused = |args: &[&str]| {
        let output = lea(args).current_dir(folder.path()).output().unwrap();
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && !told.contains("panicked"), "{told}");
        told
    };
    let train = ["profile", "train", "--data", "nowhere", "--out", "out", "--json", "profile.json"];
    assert!(refused(&[&train[..], &SHORT].concat()).contains("nowhere"));
    assert!(!folder.path().join("profile.json").exists());
    assert!(refused(&[&train[..], &["--limit-seconds", "-1"]].concat()).contains("limit-seconds"));
    assert!(refused(&["profile", "eval"]).contains("unrecognized subcommand"));
}
