//! `lea inspect` on what a user may point it at.

mod label_run;

use flate2::{Compression, write::GzEncoder};
use label_run::Workshop;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

fn inspect(path: &Path) -> (bool, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_lea")).arg("inspect").arg(path).output().unwrap();
    let told = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&told).into_owned())
}

/// What is told of `path`, without an error.
fn told(path: &Path) -> String {
    let (success, told) = inspect(path);
    assert!(success, "{told}");
    told
}

fn holds(told: &str, parts: &[&str]) {
    for part in parts {
        assert!(told.contains(part), "{part} is missing: {told}");
    }
}

fn gzip(text: &str) -> Vec<u8> {
    let mut out = GzEncoder::new(Vec::new(), Compression::fast());
    out.write_all(text.as_bytes()).unwrap();
    out.finish().unwrap()
}

#[test]
fn raw_data_is_told_as_an_import_would_find_it() {
    let csv = "user_id,item_id,time\na,p,1\na,q,2\nb,q,3\n";
    let tsv = csv.replace(',', "\t");
    let review = |user: &str, item: &str, time: u32| {
        format!("{{\"reviewerID\": \"{user}\", \"asin\": \"{item}\", \"unixReviewTime\": {time}}}\n")
    };
    let reviews = [review("a", "p", 1), review("a", "q", 2), review("b", "q", 3)].concat();
    let atomic = "user_id:token\titem_id:token\ttimestamp:float\na\tp\t1\na\tq\t2\nb\tq\t3\n";
    let hetrec = "userID\tartistID\ttagID\ttimestamp\n1\t7\t3\t1\n1\t8\t3\t2\n2\t8\t3\t3\n";
    for (name, content) in [
        ("x.inter", atomic.as_bytes()),
        ("events.csv", csv.as_bytes()),
        ("events.csv.gz", &gzip(csv)),
        ("log.tsv", tsv.as_bytes()),
        ("user_taggedartists-timestamps.dat", hetrec.as_bytes()),
        ("reviews.json.gz", &gzip(&reviews)),
        ("Pets.jsonl", reviews.replace("reviewerID", "user_id").as_bytes()),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(name);
        std::fs::write(&path, content).unwrap();
        // A log of this program is no second file of reviews.
        std::fs::write(dir.path().join("metrics.jsonl"), "{\"step\": \"fit\", \"loss\": 0.5}\n").unwrap();
        let places = if name == "log.tsv" { vec![path] } else { vec![path, dir.path().to_path_buf()] };
        for place in places {
            holds(&told(&place), &["users              2", "items              2,", name]);
        }
    }
}

#[test]
fn what_is_half_written_or_nothing_is_told_as_such() {
    let dir = tempfile::tempdir().unwrap();
    let (success, nothing) = inspect(&dir.path().join("nowhere"));
    assert!(!success && nothing.contains("nowhere"), "{nothing}");
    std::fs::write(dir.path().join("metrics.jsonl"), "{\"step\": \"fit\"}\n").unwrap();
    let (success, nothing) = inspect(dir.path());
    assert!(!success && nothing.contains("holds nothing") && nothing.contains("manifest.json"), "{nothing}");
    std::fs::write(dir.path().join("le.json.123.tmp"), "{").unwrap();
    holds(&told(dir.path()), &["le.json.123.tmp"]);
    std::fs::write(dir.path().join("labels-00001-of-00003.part"), "").unwrap();
    for place in [dir.path().to_path_buf(), dir.path().join("labels-00001-of-00003.part")] {
        holds(&told(&place), &["0 of 3 finished", "missing            0, 2", "begun              1"]);
    }
}

#[test]
fn a_broken_part_is_told_among_the_others() {
    let dir = tempfile::tempdir().unwrap();
    let part = |name: &str| {
        let part = dir.path().join(name);
        std::fs::create_dir(&part).unwrap();
        part
    };
    std::fs::write(part("data").join("events.csv"), "user_id,item_id,time\na,p,1\nb,p,2\n").unwrap();
    std::fs::write(part("rec").join("x.safetensors"), "no tensors").unwrap();
    std::fs::write(part("le").join("resume.json"), "{").unwrap();
    std::fs::write(part("labels").join("manifest.json"), "{").unwrap();
    std::fs::write(dir.path().join("metrics.json"), "[]").unwrap();
    let (success, told) = inspect(dir.path());
    assert!(!success && told.matches("  broken ").count() == 4, "{told}");
    holds(&told, &["users              2", "x.safetensors", "le/resume.json", "4 parts are broken"]);
}

#[test]
fn an_adapter_of_peft_and_a_decoder_are_told_by_any_of_their_files() {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    for place in ["peft/all_linear", "peft/all_linear/adapter_config.json"] {
        holds(&told(&fixtures.join(place)), &["adapter of peft in", "lea fit --adapter"]);
    }
    let dir = tempfile::tempdir().unwrap();
    for file in ["config.json", "model.safetensors"] {
        std::fs::copy(fixtures.join("llama/untied").join(file), dir.path().join(file)).unwrap();
    }
    let (success, told) = inspect(&dir.path().join("config.json"));
    assert!(!success && told.contains("tokenizer.json") && told.contains("1 part is broken"), "{told}");
}

/// A copy of the adapter `name` with its configuration changed.
fn adapter(name: &str, change: impl Fn(&mut serde_json::Value)) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/peft").join(name);
    for file in ["adapter_config.json", "adapter_model.safetensors"] {
        std::fs::copy(fixture.join(file), dir.path().join(file)).unwrap();
    }
    let path = dir.path().join("adapter_config.json");
    let mut config = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    change(&mut config);
    std::fs::write(path, config.to_string()).unwrap();
    dir
}

#[test]
fn an_adapter_is_told_with_all_that_decides_what_it_does() {
    let patterns = adapter("paths_and_patterns", |_| {});
    holds(
        &told(patterns.path()),
        &[
            "rank, α            4, 6, output times α/rank",
            "rank pattern",
            "k_proj: 2",
            "α pattern",
            "layers.1.mlp.down_proj",
            "of one label",
            "lea fit --adapter starts from",
        ],
    );
    holds(&told(adapter("names_rslora", |_| {}).path()), &["output times α/√rank (rslora)"]);
}

#[test]
fn an_adapter_that_fit_refuses_is_broken_for_the_same_reason() {
    let refused = |dir: &Path, reason: &str| {
        let (success, told) = inspect(dir);
        assert!(!success && told.contains("broken") && told.contains(reason), "{reason}: {told}");
    };
    let set = |key: &'static str, value: serde_json::Value| {
        adapter("names_rslora", move |config| config[key] = value.clone())
    };
    for (key, value, reason) in [
        ("use_dora", true.into(), "use_dora: true is not supported"),
        ("bias", "all".into(), "bias: \"all\""),
        ("r", 7.into(), "the rank is "),
        ("modules_to_save", serde_json::Value::Null, "modules_to_save"),
        ("target_modules", serde_json::json!(["q_proj", "embed_tokens"]), "embed_tokens is not supported"),
    ] {
        refused(set(key, value).path(), reason);
    }
    // A head of two labels, and one that is no number.
    for (labels, value, reason) in [(2, 0.5f32, "expected [1, "), (1, f32::NAN, "is not a finite number")] {
        let dir = adapter("names_rslora", |_| {});
        let path = dir.path().join("adapter_model.safetensors");
        let bytes = std::fs::read(&path).unwrap();
        let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        let head = "base_model.model.score.weight";
        let shape = [labels, tensors.tensor(head).unwrap().shape()[1]];
        let values: Vec<u8> = (0..shape[0] * shape[1]).flat_map(|_| value.to_le_bytes()).collect();
        let changed = safetensors::tensor::TensorView::new(safetensors::Dtype::F32, shape.into(), &values);
        let mut all: Vec<_> = tensors.tensors().into_iter().filter(|(name, _)| name != head).collect();
        all.push((head.to_string(), changed.unwrap()));
        std::fs::write(&path, safetensors::serialize(all, None).unwrap()).unwrap();
        refused(dir.path(), reason);
    }
}

#[test]
fn a_run_is_followed_from_its_kill_to_its_evaluation() {
    let workshop = Workshop::new(30);
    let fit = [
        ["fit", "--config", "c.toml", "--data", "data", "--decoder", "decoder"],
        ["--item-tokens", "items", "--epochs", "40", "--out", "an le", "--checkpoint-every"],
    ];
    let mut child = label_run::lea(&[&fit.concat()[..], &["0"]].concat())
        .current_dir(workshop.path(""))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let (dir, patience) = (workshop.path("an le"), Instant::now());
    let begun = || {
        let names = std::fs::read_dir(&dir).into_iter().flatten().flatten();
        names.map(|entry| entry.file_name()).any(|name| name.to_string_lossy().ends_with(".safetensors"))
    };
    while !begun() {
        assert!(patience.elapsed() < Duration::from_secs(60), "no checkpoint was written");
        std::thread::sleep(Duration::from_millis(5));
    }
    holds(&told(&dir), &["fit, running now", "checkpoint-fit.safetensors: "]);
    child.kill().unwrap();
    child.wait().unwrap();
    let stopped = told(&dir.join("resume.json"));
    holds(&stopped, &["fit, stopped before its end", "checkpoint-fit.safetensors: "]);
    let command = stopped.lines().find_map(|line| line.trim().strip_prefix("go on with")).unwrap().trim();
    #[cfg(unix)]
    {
        let resumed = Command::new("sh").args(["-c", command]).current_dir(workshop.path("")).output();
        label_run::succeed(&resumed.unwrap());
        holds(&told(&dir), &["LE in", "finished           lea fit"]);
    }

    for place in ["le", "le/split.json"] {
        holds(
            &told(&workshop.path(place)),
            &["split in", "sqn, seed", "24 for training, 3 for validation, 3 for test"],
        );
    }
    std::fs::create_dir(workshop.path("texts")).unwrap();
    for file in ["tokenizer.json", "tokenizer_config.json"] {
        std::fs::copy(workshop.path("decoder").join(file), workshop.path("texts").join(file)).unwrap();
    }
    for place in ["texts", "texts/tokenizer.json"] {
        let tokenizer = told(&workshop.path(place));
        holds(&tokenizer, &["tokenizer in", "vocabulary         280", "opens, ends with   0, 1"]);
        assert!(!tokenizer.contains("data set in"), "{tokenizer}");
    }
    std::fs::remove_file(workshop.path("texts/tokenizer.json")).unwrap();
    let (success, half) = inspect(&workshop.path("texts"));
    assert!(!success && half.contains("tokenizer in") && half.contains("tokenizer.json: No such"), "{half}");

    for shard in ["1/4", "4/4"] {
        workshop.run(&workshop.label("labels", &["--shard", shard]));
    }
    let some = told(&workshop.path("labels"));
    holds(&some, &["2 of 4 finished", "missing            1 to 2", "finished 1, 4", "not begun 2 to 3"]);
    for shard in ["2/4", "3/4"] {
        workshop.run(&workshop.label("labels", &["--shard", shard]));
    }
    holds(&told(&workshop.path("labels")), &["4 of 4 finished", "lea labels merge"]);
    workshop.run(&["labels", "merge", "labels"]);
    holds(&told(&workshop.path("labels/manifest.json")), &["labels in", "users, steps       30"]);
    // The folder of a run: its labels tell how much there is to train on.
    std::fs::create_dir(workshop.path("whole")).unwrap();
    for part in ["decoder", "labels"] {
        std::fs::create_dir(workshop.path("whole").join(part)).unwrap();
        for entry in std::fs::read_dir(workshop.path(part)).unwrap() {
            let path = entry.unwrap().path();
            std::fs::copy(&path, workshop.path("whole").join(part).join(path.file_name().unwrap())).unwrap();
        }
    }
    holds(&told(&workshop.path("whole")), &["60 items, 30 users and ", "  train "]);

    std::fs::write(workshop.path("t.toml"), "[rec]\nwidth = 8\nepochs = 1\nnegatives = 3\n").unwrap();
    let train = ["train", "--config", "t.toml", "--data", "data", "--labels", "labels", "--variant", "lea"];
    workshop.run(&[&train[..], &["--out", "rec"]].concat());
    holds(&told(&workshop.path("rec")), &["recommender in", "sasrec", "items              60"]);
    let model = "rec/recommender.safetensors";
    holds(&told(&workshop.path(model)), &["recommender in", "lea"]);
    workshop.run(&["eval", "--data", "data", "--model", model, "--baseline", "popularity", "--out", "eval"]);
    holds(&told(&workshop.path("eval")), &["evaluation in", "popularity none baseline", "of 2 recommenders"]);
}
