//! The program as a user runs it: the whole method twice with one seed, then each step by itself on the former's files.

mod tiny_run;

use std::path::Path;
use std::process::Output;
use tiny_run::SETTINGS;

fn lea(args: &[&str]) -> Output {
    tiny_run::lea(".", args)
}

fn succeed(args: &[&str]) -> String {
    tiny_run::succeed(".", args).0
}

fn text(path: impl AsRef<Path>) -> &'static str {
    Box::leak(path.as_ref().to_string_lossy().into_owned().into_boxed_str())
}

#[test]
fn the_whole_method_runs_and_repeats_to_the_byte_and_each_step_reads_the_formers_files() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| text(dir.path().join(name));
    std::fs::write(at("c.toml"), SETTINGS).unwrap();
    succeed(&["data", "synth", "--items", "60", "--users", "100", "--mean-length", "7", "--out", at("data")]);
    for out in ["a", "b"] {
        let table = succeed(&["run", "--config", at("c.toml"), "--data", at("data"), "--out", at(out)]);
        assert!(
            table.contains("sasrec") && table.contains("gru4rec") && table.contains("session-knn"),
            "{table}"
        );
    }
    let metrics = |run: &str| std::fs::read(dir.path().join(run).join("metrics.json")).unwrap();
    assert_eq!(metrics("a"), metrics("b"), "one seed, two results");
    let page = std::fs::read_to_string(dir.path().join("a/report.html")).unwrap();
    assert!(page.contains("<svg") && !page.contains("href=\"http") && !page.contains("<script"));

    // Each step by itself gives the bits of the whole run.
    let (data, decoder, config) = (at("data"), at("decoder"), at("c.toml"));
    succeed(&["pretrain", "--config", config, "--data", data, "--seed", "3", "--out", decoder]);
    let step = |command: &'static str, more: &[&'static str], out: &str| {
        let mut args =
            vec![command, "--config", config, "--data", data, "--decoder", decoder, "--out", at(out)];
        args.extend(more);
        succeed(&args)
    };
    step("items", &[], "items");
    let quality = step("fit", &["--item-tokens", at("items")], "le");
    assert!(quality.contains("pair accuracy"), "{quality}");
    let told = step("label", &["--le", at("le")], "labels");
    assert!(told.contains(quality.split("written to").next().unwrap()), "{told} is not {quality}");
    for file in ["labels-00000-of-00003.safetensors", "labels-00002-of-00003.safetensors"] {
        let read = |run: &str| std::fs::read(dir.path().join(run).join(file)).unwrap();
        let (whole, stepwise) = (read("a/labels"), read("labels"));
        // The headers name the hash of the LE, whose record tells the folder of the decoder; the tensors are equal.
        let tensors =
            |file: &[u8]| file[8 + u64::from_le_bytes(file[..8].try_into().unwrap()) as usize..].to_vec();
        assert!(tensors(&whole) == tensors(&stepwise), "{file}");
    }
    // Adapters that are taken as they are make an LE that can label, with the tokens of step 1.
    let adopt = ["--item-tokens", at("items"), "--adapter", at("le"), "--epochs", "0"];
    step("fit", &[&adopt[..], &["--item-learning-rate", "0"]].concat(), "adopted");
    let bytes = |file: &str| std::fs::read(dir.path().join(file)).unwrap();
    assert_eq!(bytes("adopted/adapter_model.safetensors"), bytes("le/adapter_model.safetensors"));
    assert_eq!(bytes("adopted/item_tokens.safetensors"), bytes("items/item_tokens.safetensors"));
    step("label", &["--le", at("adopted")], "adopted_labels");

    let (labels, out) = (at("labels"), at("rec"));
    let train =
        ["train", "--config", config, "--data", data, "--labels", labels, "--variant", "lea", "--out", out];
    let trained = succeed(&train);
    let model = text(dir.path().join("rec/recommender.safetensors"));
    let ranked = succeed(&["eval", "--data", data, "--model", model, "--baseline", "popularity"]);
    let row = |table: &str| table.lines().find(|l| l.starts_with("sasrec")).map(str::to_string);
    assert!(row(&ranked).is_some() && row(&trained).is_some(), "{ranked}");
    succeed(&["report", at("a")]);
    let told = succeed(&["inspect", at("a"), "--config", config]);
    for part in [
        "data set in",
        "decoder in",
        "LE in",
        "labels in",
        "recommender in",
        "evaluation in",
        "family             llama",
        "memory with 60 items",
    ] {
        assert!(told.contains(part), "{part} is missing: {told}");
    }

    // What is told of memory names the type that frozen projections are stored in.
    let halved = succeed(&["inspect", at("a"), "--config", config, "--cpu-dtype", "bf16"]);
    assert!(told.contains("fit and label: f32 on cpu") && halved.contains("fit and label: bf16 on cpu"));

    // One page of the single steps shows what the page of the whole run shows.
    let eval = ["eval", "--data", data, "--model", model, "--baseline", "popularity", "--out", at("eval")];
    succeed(&eval);
    let page = at("all.html");
    let table = succeed(&["report", at("le"), at("labels"), out, at("eval"), "--out", page]);
    assert!(row(&table) == row(&ranked) && table.contains("popularity"), "{table}");
    let page = std::fs::read_to_string(page).unwrap();
    for part in ["Rewards on held-out users", "LE training", "Validation ranking", "separate prompts"] {
        assert!(page.contains(part), "{part} is missing");
    }

    // Labels bring their split; another one is refused, and the record tells what was used.
    let message = |args: &[&str]| String::from_utf8_lossy(&lea(args).stderr).into_owned();
    let again = ["train", "--data", data, "--labels", labels, "--split-seed", "4", "--out", at("refused")];
    assert!(message(&again).contains("trained on another split"), "{}", message(&again));
    std::fs::write(at("d.toml"), format!("{SETTINGS}\n[split]\nseed = 4\n")).unwrap();
    let run = |config, out| ["run", "--config", config, "--data", data, "--labels", labels, "--out", out];
    let refusal = message(&run(at("d.toml"), at("refused")));
    assert!(refusal.contains("the labels were made on Sqn, seed 0"), "{refusal}");
    assert!(!dir.path().join("refused").exists());
    succeed(&run(config, at("compared")));
    let record = std::fs::read_to_string(dir.path().join("compared/run.json")).unwrap();
    let record: serde_json::Value = serde_json::from_str(&record).unwrap();
    assert!(record["configuration"]["labels"]["manifest"].is_string(), "{record}");
    assert!(record["configuration"]["le"].is_null(), "the LE's settings are those of the labels");
}

#[test]
fn what_is_wrong_is_told_before_anything_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| text(dir.path().join(name));
    std::fs::write(at("c.toml"), SETTINGS).unwrap();
    std::fs::write(at("broken.toml"), "[le]\nhistroy = 3\n").unwrap();
    succeed(&["data", "synth", "--items", "60", "--users", "20", "--mean-length", "7", "--out", at("data")]);
    let fails = |args: &[&str], told: &[&str]| {
        let output = lea(args);
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "lea {}: {errors}", args.join(" "));
        assert!(told.iter().all(|t| errors.contains(t)), "{errors}");
        assert!(!dir.path().join("out").exists(), "lea {} left files", args.join(" "));
    };
    let run = |config: &'static str, more: &[&'static str]| {
        let mut args = vec!["run", "--config", config, "--data", at("data"), "--out", at("out")];
        args.extend(more);
        args
    };
    fails(&run(at("broken.toml"), &[]), &["broken.toml", "line 2", "histroy"]);
    fails(&run(at("missing.toml"), &[]), &["missing.toml"]);
    fails(&run(at("c.toml"), &["--decoder", at("data")]), &["config.json"]);
    fails(&run(at("c.toml"), &["--labels", at("data")]), &["manifest.json"]);
    let output = lea(&["run", "--config", at("c.toml"), "--data", at("data"), "--out", at("data")]);
    assert!(String::from_utf8_lossy(&output.stderr).contains("not empty"));
}
