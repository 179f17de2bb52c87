//! `--device webgpu` as a user gives it: the whole method on an adapter beside the CPU, and names that mean none.

mod skip;
mod tiny_run;

use lea::device::webgpu::adapter;
use serde_json::Value;
use std::process::Command;
use tiny_run::{SETTINGS, expect_the_metrics_of_the_cpu, lea, succeed};

#[test]
fn the_whole_method_reaches_the_metrics_of_the_cpu_and_repeats_to_the_byte() {
    let adapters = adapter::list();
    if adapters.is_empty() {
        skip::skipped("there is no WebGPU adapter");
    }
    for adapter in adapters {
        let device = format!("webgpu:{}", adapter.index);
        let (told, record) = expect_the_metrics_of_the_cpu(SETTINGS, |folder, args| {
            lea(folder, &[args, &["--device", &device]].concat())
        });
        assert_eq!(told.contains("is a software adapter"), adapter.is_software(), "{told}");
        let of_device = record["device"].as_str().unwrap();
        assert!(of_device.starts_with(&format!("webgpu {}", adapter.info.name)), "{of_device}");
        assert_eq!(record["driver"], adapter.driver_told(), "{record}");
    }
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
    assert!(refuse("gpu").contains("name cpu, cuda, cuda:NUMBER, webgpu, webgpu:NUMBER"));
    let adapters = adapter::list();
    // Names of software adapters hold small numbers, such as their compiler's version.
    let past = format!("webgpu:{}", adapters.len());
    for device in ["webgpu:99", &past, "webgpu:no such adapter", "webgpu:", "webgpu: "] {
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
    assert_eq!(found["no_webgpu"].is_null(), !adapters.is_empty(), "{found}");
    for (told, is) in found["webgpu"].as_array().unwrap().iter().zip(&adapters) {
        assert_eq!(told["name"], is.info.name);
        assert_eq!(told["limits"]["binding_bytes"], is.limits.max_storage_buffer_binding_size);
        assert_eq!(told["tier"], is.tier().to_string());
        assert_eq!(told["unusable"].as_str().map(str::to_owned), is.unusable(), "{told}");
        // Every tier is in use, below the one in use, to be asked for, or told to be missing with what it needs.
        let has_halves = told["features"]["f16"] == true && told["features"]["subgroups"] == true;
        assert_eq!(told["tiers_on_request"].as_array().unwrap().iter().any(|tier| tier == "f16"), has_halves);
        let offered = told["cooperative_matrices"].as_array().unwrap();
        assert_eq!(offered.is_empty(), told["features"]["cooperative_matrix"] == false, "{told}");
        assert!(offered.iter().all(|one| one.as_str().unwrap().contains(", sums ")), "{told}");
        let missing = told["missing_tiers"].as_array().unwrap();
        let halves = missing.iter().find(|tier| tier["tier"] == "f16");
        assert_eq!(halves.is_none(), has_halves, "{told}");
        if told["features"]["f16"] == false {
            assert!(halves.unwrap()["reason"].as_str().unwrap().contains("no f16 in shaders"), "{told}");
        }
    }
    if found["cuda"].as_array().unwrap().is_empty() && adapters.iter().all(adapter::Description::is_software)
    {
        assert_eq!(found["auto"], "cpu", "software is never taken by itself");
    }
    let best = adapter::best(&adapters).map(|found| format!("webgpu:{}", found.index));
    assert_eq!(found["best_webgpu"].as_str().map(str::to_owned), best, "{found}");
    let text = String::from_utf8(lea(folder.path(), &["doctor"]).stdout).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("--device webgpu takes "));
    assert_eq!(line.map(str::to_owned), best, "{text}");
    if cfg!(target_os = "linux") {
        let doctor_with = |files: &str, args: &[&str]| {
            let mut command = Command::new(env!("CARGO_BIN_EXE_lea"));
            for name in ["VK_DRIVER_FILES", "VK_ICD_FILENAMES"] {
                command.env(name, files);
            }
            let output = command.arg("doctor").args(args).output().unwrap();
            assert!(output.status.success(), "{output:?}");
            String::from_utf8(output.stdout).unwrap()
        };
        // Some loaders take an empty list for none at all.
        let empty = doctor_with("", &[]);
        if let Some(line) = empty.lines().find(|line| line.starts_with("webgpu     no adapter: ")) {
            assert!(
                line.contains("no adapter: VK_DRIVER_FILES is empty, so that Vulkan loads nothing"),
                "{line}"
            );
        }
        let doctor = |args: &[&str]| doctor_with("/nowhere.json", args);
        let text = doctor(&[]);
        let line = text.lines().find_map(|line| line.strip_prefix("webgpu     no adapter: ")).unwrap();
        assert!(line.contains("/nowhere.json"), "{text}");
        let none: Value = serde_json::from_str(&doctor(&["--json"])).unwrap();
        assert_eq!(none["no_webgpu"], line, "{none}");
        assert_eq!(none["webgpu"], serde_json::json!([]));
        if found["cuda"].as_array().unwrap().is_empty() {
            assert!(text.contains("--device auto takes cpu"), "{text}");
        }
    }
}

#[test]
fn a_tier_that_an_adapter_lacks_is_refused_with_what_it_lacks() {
    let folder = tempfile::tempdir().unwrap();
    for found in adapter::list() {
        for (tier, why) in found.missing_tiers() {
            let (tier, device) = (tier.to_string(), format!("webgpu:{}", found.index));
            let args = ["demo", "--out", "x", "--webgpu-tier", &tier, "--device", &device];
            let output = lea(folder.path(), &args);
            let message = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(!output.status.success() && !folder.path().join("x").exists(), "{message}");
            assert!(message.contains(&format!("{device} cannot run tier {tier}: {why}")), "{message}");
            let told = String::from_utf8(lea(folder.path(), &["doctor"]).stdout).unwrap();
            assert!(told.contains(&format!("no tier {tier}: {why}")), "{told}");
        }
        // Which tier made a result is a part of its device's name, in the order in which flags come too.
        for tier in found.tiers_on_request() {
            let (tier, device) = (tier.to_string(), format!("webgpu:{}", found.index));
            let flags = ["--device", &device, "--webgpu-tier", &tier, "--m", "3", "--n", "5", "--k", "7"];
            let (told, _) =
                succeed(folder.path(), &[&["bench", "matmul", "--json", "--frozen"], &flags[..]].concat());
            let told: Value = serde_json::from_str(&told).unwrap();
            assert!(told["device"].as_str().unwrap().ends_with(&format!(" {tier}")), "{told}");
            assert_eq!(told["settings"]["dtype"], "f16");
            // One that is in use is not told to be there for the asking.
            let (told, _) = succeed(folder.path(), &["doctor", "--webgpu-tier", &tier]);
            assert!(told.contains(&format!("tier {tier}\n")), "{told}");
            assert!(!told.contains(&format!("--webgpu-tier {tier} asks for it")), "{told}");
        }
    }
}

#[test]
fn a_tier_is_told_to_have_no_effect_where_no_adapter_computes() {
    let folder = tempfile::tempdir().unwrap();
    let told = |device: &str| {
        let generate = ["generate", "--decoder", "nowhere", "a text", "--device", device];
        let output = lea(folder.path(), &[&generate[..], &["--webgpu-tier", "f16"]].concat());
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        told.lines().filter(|line| *line == "--webgpu-tier f16 has no effect on cpu").count()
    };
    assert_eq!(told("cpu"), 1);
    let found: Value = serde_json::from_slice(&lea(folder.path(), &["doctor", "--json"]).stdout).unwrap();
    if found["auto"] == "cpu" {
        assert_eq!(told("auto"), 1);
    }
    let (_, told) = succeed(folder.path(), &["doctor", "--webgpu-tier", "plain"]);
    assert!(!told.contains("no effect"), "{told}");
}

#[test]
fn auto_tells_in_one_line_what_it_took_and_what_it_passed_over() {
    let folder = tempfile::tempdir().unwrap();
    let args = ["generate", "--decoder", "nowhere", "a text", "--device", "auto"];
    let output = lea(folder.path(), &args);
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    let lines: Vec<&str> = told.lines().filter(|line| line.starts_with("--device auto takes ")).collect();
    assert_eq!(lines.len(), 1, "{told}");
    let adapters = adapter::list();
    let found: Value = serde_json::from_slice(&lea(folder.path(), &["doctor", "--json"]).stdout).unwrap();
    if found["cuda"].as_array().unwrap().is_empty() {
        assert!(lines[0].contains("passed over: cuda (") && !lines[0].contains("--device cpu"), "{told}");
        if adapters.iter().all(adapter::Description::is_software) {
            assert!(lines[0].starts_with("--device auto takes cpu"), "{told}");
            assert!(
                adapters.iter().all(|a| lines[0].contains(&format!("webgpu:{} (software)", a.index))),
                "{told}"
            );
        }
    }
}
