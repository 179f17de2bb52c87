//! `--device webgpu` as a user gives it: the whole method on an adapter beside the CPU, and names that mean none.

mod skip;
mod tiny_run;

use lea::device::webgpu::adapter;
use serde_json::Value;
use std::path::Path;
use std::process::Command;
use tiny_run::{SETTINGS, lea, succeed};

fn data() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    succeed(
        folder.path(),
        &["data", "synth", "--items", "60", "--users", "120", "--seed", "2", "--out", "data"],
    );
    std::fs::write(folder.path().join("c.toml"), SETTINGS).unwrap();
    folder
}

fn json(path: impl AsRef<Path>) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// NDCG@10 of every row of a run's metrics.
fn ndcg(run: &Path) -> Vec<f64> {
    let metrics = json(run.join("metrics.json"));
    let of = |row: &Value| row["mean"]["ndcg@10"].as_f64().expect("a number");
    let found: Vec<f64> = metrics["rows"].as_array().unwrap().iter().map(of).collect();
    assert_eq!(found.len(), 9, "{metrics}");
    found
}

#[test]
fn the_whole_method_reaches_the_metrics_of_the_cpu_and_repeats_to_the_byte() {
    let Some(adapter) = adapter::list().into_iter().next_back() else {
        return skip::skipped("there is no WebGPU adapter");
    };
    let device = format!("webgpu:{}", adapter.index);
    let folder = data();
    let at = |name: &str| folder.path().join(name);
    let run = |out: &str, device: &str| {
        let args = ["run", "--config", "c.toml", "--data", "data", "--out", out, "--device", device];
        succeed(folder.path(), &args).1
    };
    run("cpu", "cpu");
    let told = run("gpu", &device);
    assert_eq!(told.contains("is a software adapter"), adapter.is_software(), "{told}");
    run("again", &device);
    for (cpu, gpu) in ndcg(&at("cpu")).iter().zip(ndcg(&at("gpu"))) {
        // Roundings differ, so a near tie may fall the other way: a few of 62 ranked lists at most.
        assert!((cpu - gpu).abs() < 0.03, "{cpu} on the CPU and {gpu} on the adapter");
    }
    for file in ["labels/labels-00000-of-00003.safetensors", "metrics.json", "le/adapter_model.safetensors"] {
        let [one, two] = ["gpu", "again"].map(|out| std::fs::read(at(out).join(file)).unwrap());
        assert!(one == two, "{file} differs between two runs on one adapter");
    }
    let record = json(at("gpu").join("run.json"));
    assert!(record["device"].as_str().unwrap().starts_with("webgpu "), "{}", record["device"]);
}

#[test]
fn names_that_mean_no_device_are_answered_with_those_there_are() {
    let folder = tempfile::tempdir().unwrap();
    let refuse = |device: &str| {
        let output = lea(folder.path(), &["demo", "--out", "x", "--device", device]);
        assert!(!output.status.success());
        assert!(!folder.path().join("x").exists(), "nothing is written before the device is known");
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    assert!(refuse("gpu").contains("name cpu, webgpu, webgpu:NUMBER"));
    let adapters = adapter::list();
    for device in ["webgpu:99", "webgpu:no such adapter", "webgpu:"] {
        let message = refuse(device);
        match adapters.first() {
            Some(first) => assert!(message.contains(&first.info.name), "{message}"),
            None => assert!(message.contains("no WebGPU adapter was found"), "{message}"),
        }
    }
}

#[test]
fn the_doctor_lists_adapters_and_has_a_clear_line_where_there_is_none() {
    let folder = tempfile::tempdir().unwrap();
    let found: Value = serde_json::from_slice(&lea(folder.path(), &["doctor", "--json"]).stdout).unwrap();
    assert!(found["cpu"].as_str().is_some_and(|name| !name.is_empty()));
    let adapters = adapter::list();
    assert_eq!(found["webgpu"].as_array().unwrap().len(), adapters.len());
    for (told, is) in found["webgpu"].as_array().unwrap().iter().zip(&adapters) {
        assert_eq!(told["name"], is.info.name);
        assert_eq!(told["limits"]["binding_bytes"], is.limits.max_storage_buffer_binding_size);
        assert_eq!(told["tier"], is.tier().to_string());
        // Every tier is in use, below the one in use, to be asked for, or told to be missing with what it needs.
        let has_halves = told["features"]["f16"] == true && told["features"]["subgroups"] == true;
        assert_eq!(told["tiers_on_request"].as_array().unwrap().iter().any(|tier| tier == "f16"), has_halves);
        let missing = told["missing_tiers"].as_array().unwrap();
        let halves = missing.iter().find(|tier| tier["tier"] == "f16");
        assert_eq!(halves.is_none(), has_halves, "{told}");
        if told["features"]["f16"] == false {
            assert!(halves.unwrap()["reason"].as_str().unwrap().contains("no f16 in shaders"), "{told}");
        }
    }
    if adapters.iter().all(adapter::Description::is_software) {
        assert_eq!(found["auto"], "cpu", "software is never taken by itself");
    }
    if cfg!(target_os = "linux") {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lea"));
        for name in ["VK_DRIVER_FILES", "VK_ICD_FILENAMES"] {
            command.env(name, "/nowhere.json");
        }
        let output = command.arg("doctor").output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && text.contains("webgpu     no adapter:"), "{text}");
        assert!(text.contains("/nowhere.json"), "{text}");
        assert!(text.contains("--device auto takes cpu"), "{text}");
    }
}
