//! `--device cuda` as a user gives it, on the stand-in for NVIDIA's driver: the whole method beside the CPU, a device that is
//! lost or short of memory, and what the doctor says in each case in which there is none.
#![cfg(target_os = "linux")]

#[allow(dead_code, reason = "the program loads the stand-in by itself")]
mod cuda_host;
mod label_run;
mod skip;
mod tiny_run;

use label_run::{Workshop, expect_smaller_packs, labels, lose_until_done};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use tiny_run::{SETTINGS, expect_the_metrics_of_the_cpu};

/// The stand-in's folder; tells why where there is none.
fn stand_in(test: &str) -> Option<PathBuf> {
    cuda_host::folder().map_err(|why| skip::skipped(format_args!("{test}: {why}"))).ok()
}

/// The program with the driver library of a folder, whatever drivers the machine has.
fn with_driver(driver: &Path, args: &[&str]) -> Command {
    let mut command = label_run::lea(args);
    under(&mut command, driver);
    command
}

fn under(command: &mut Command, driver: &Path) {
    command.env("LD_LIBRARY_PATH", driver);
}

/// What it printed, once it has ended well.
fn printed(command: &mut Command) -> String {
    label_run::succeed(&command.output().unwrap())
}

fn refused(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && !told.contains("panicked"), "{told}");
    told
}

#[test]
fn the_whole_method_reaches_the_metrics_of_the_cpu_and_repeats_to_the_byte() {
    let Some(driver) = stand_in("the whole method on CUDA") else { return };
    let run = |folder: &Path, args: &[&str]| -> Output {
        let args = [args, &["--device", "cuda"]].concat();
        with_driver(&driver, &args).current_dir(folder).output().unwrap()
    };
    // Half the training: what runs on a GPU runs on the CPU here.
    let settings = SETTINGS.replace("width = 16\nepochs = 2", "width = 16\nepochs = 1");
    assert_ne!(settings, SETTINGS);
    let (_, record) = expect_the_metrics_of_the_cpu(&settings, run);
    let told = record["device"].as_str().unwrap();
    let driver = told.strip_prefix("cuda CPU emulation sm_80 bf16, driver ");
    // Where the machine has a driver of its own, its version stands before.
    assert!(driver.is_some_and(|driver| driver.ends_with("for CUDA 13.0")), "{told}");
}

#[test]
fn the_products_of_cublaslt_are_used_where_they_are_wanted_and_there() {
    let Some(driver) = stand_in("--gemm cublaslt") else { return };
    let args = ["--gemm", "cublaslt", "bench", "matmul", "--m", "9", "--n", "16", "--k", "24", "--frozen"];
    let short = [
        "--samples",
        "1",
        "--warm-up",
        "0",
        "--sample-ms",
        "0",
        "--ceiling",
        "16",
        "--json",
        "--device",
        "cuda",
    ];
    let args = [&args[..], &short].concat();
    let told = refused(&mut with_driver(&driver, &args));
    assert!(told.contains("there is no libcublasLt") && told.contains("leave --gemm out"), "{told}");
    let mut command = with_driver(&driver, &args);
    command.env("LD_LIBRARY_PATH", std::env::join_paths([driver.clone(), driver.join("cublaslt")]).unwrap());
    let record: Value = serde_json::from_str(printed(&mut command).lines().next().unwrap()).unwrap();
    assert!(record["device"].as_str().unwrap().contains("cuBLASLt 130001"), "{record}");
    let told = refused(&mut with_driver(&driver, &["--gemm", "mkl", "doctor"]));
    assert!(told.contains("lea or cublaslt"), "{told}");
}

#[test]
fn labelling_that_loses_its_device_goes_on_to_the_same_bytes() {
    let Some(driver) = stand_in("labelling that loses its device") else { return };
    let workshop = Workshop::new(60);
    let on = ["--device", "cuda:0", "--files", "2"];
    let whole = workshop.label("whole", &on);
    printed(with_driver(&driver, &whole).current_dir(workshop.path("")));
    let lost = lose_until_done(&workshop, &workshop.label("lost", &on), |command| {
        under(command, &driver);
        command.env("CUDA_HOST_LOSE_AFTER", "120");
    });
    assert!(lost > 1, "the device was lost {lost} times only");
    assert!(labels(&workshop.path("lost")) == labels(&workshop.path("whole")), "other bytes");
}

#[test]
fn labelling_takes_smaller_packs_where_memory_is_short() {
    let Some(driver) = stand_in("labelling with little memory") else { return };
    let on = ["--device", "cuda"];
    let prepare = |command: &mut Command| under(command, &driver);
    let workshop = Workshop::new(60);
    let told = expect_smaller_packs(&workshop, &on, prepare, |command| {
        command.env("CUDA_HOST_MEMORY", "260000");
    });
    assert!(told.contains("of the device's 260 kB are free"), "{told}");
    std::fs::remove_dir_all(workshop.path("roomy")).unwrap();
    std::fs::remove_dir_all(workshop.path("tight")).unwrap();
    let told = expect_smaller_packs(&workshop, &on, prepare, |command| {
        command.args(["--device-memory", "0.26"]);
    });
    assert!(told.contains("260 kB are allowed"), "{told}");

    let none = workshop.label("none", &[&on[..], &["--device-memory", "0.01"]].concat());
    let told = refused(with_driver(&driver, &none).current_dir(workshop.path("")));
    assert!(told.contains("the decoder needs ") && told.contains("10.0 kB are allowed"), "{told}");
    assert!(!workshop.path("none").exists());
}

#[test]
fn a_gpu_with_too_little_shared_memory_for_a_kernel_says_so() {
    let Some(driver) = stand_in("little shared memory") else { return };
    let wide =
        ["bench", "attention", "--history", "4", "--actions", "2", "--heads", "1", "--head-dim", "256"];
    let timing =
        ["--device", "cuda", "--samples", "1", "--warm-up", "0", "--sample-ms", "0", "--ceiling", "8"];
    let args = [&wide[..], &timing].concat();
    // That of compute capability 8.6 and 8.9.
    let told = refused(with_driver(&driver, &args).env("CUDA_HOST_SHARED", "101376"));
    assert!(told.contains("shared memory a block") && told.contains("has 101376"), "{told}");
    assert!(told.contains("another --device"), "{told}");
    let told = printed(with_driver(&driver, &args).arg("--json"));
    let record: Value = serde_json::from_str(told.trim()).unwrap_or_else(|e| panic!("{e}: {told}"));
    // Its queries, keys, values and outputs at the least.
    assert!(record["device_mb"].as_f64() > record["bytes"].as_f64().map(|bytes| bytes / 1e6), "{record}");
}

/// The doctor's line on CUDA, and its JSON.
fn doctor(driver: &Path, environment: &[(&str, &str)]) -> (String, Value) {
    let text = printed(with_driver(driver, &["doctor"]).envs(environment.iter().copied()));
    let json = printed(with_driver(driver, &["doctor", "--json"]).envs(environment.iter().copied()));
    let lines: Vec<&str> = text.lines().skip_while(|line| !line.starts_with("cuda")).collect();
    (lines.join("\n"), serde_json::from_str(&json).unwrap())
}

#[test]
fn the_doctor_lists_devices_with_what_the_kernels_use_of_them() {
    let Some(driver) = stand_in("the doctor on CUDA") else { return };
    let (text, json) = doctor(&driver, &[("CUDA_HOST_DEVICES", "2"), ("CUDA_HOST_MEMORY", "1000000000")]);
    for line in [
        "cuda:0     CPU emulation (compute capability 8.0, 1.00 GB, 2 multiprocessors)",
        "cuda:1     CPU emulation",
        "for CUDA 13.0",
        "kernels as PTX for sm_80",
        "--device auto takes cuda:0",
    ] {
        assert!(text.contains(line), "{line}: {text}");
    }
    assert_eq!(json["auto"], "cuda:0");
    assert_eq!(json["no_cuda"], Value::Null);
    assert_eq!(json["cuda"][1]["device"], "cuda:1");
    assert_eq!(json["cuda"][0]["compute_capability"], "8.0");
    assert_eq!(json["cuda"][0]["memory_bytes"], 1_000_000_000);
    assert_eq!(json["cuda"][0]["driver_cuda"], "13.0");
    assert_eq!(json["cuda"][0]["ptx"], serde_json::json!(["sm_80"]));
    let (_, hopper) = doctor(&driver, &[("CUDA_HOST_CAPABILITY", "9.0")]);
    let any_for_hopper = lea::device::cuda::PTX.iter().any(|ptx| ptx.only && ptx.capability == 90);
    let told = hopper["cuda"][0]["ptx"].as_array().unwrap();
    assert_eq!(told.iter().any(|name| name == "sm_90a"), any_for_hopper, "{told:?}");

    let (text, json) = doctor(&driver, &[("CUDA_HOST_CAPABILITY", "7.5")]);
    assert!(text.contains("cannot be used: its compute capability 7.5 is below 8.0"), "{text}");
    assert!(json["cuda"][0]["unusable"].is_string() && json["auto"] != "cuda:0", "{json}");
}

#[test]
fn the_doctor_says_in_one_line_why_there_is_no_cuda() {
    let Some(driver) = stand_in("the doctor without CUDA") else { return };
    let folder = tempfile::tempdir().unwrap();
    let empty = folder.path().join("libcuda.so.1");
    let compiled = Command::new("g++").args(["-shared", "-x", "c++", "/dev/null", "-o"]).arg(&empty).status();
    assert!(compiled.unwrap().success());
    std::fs::copy(&empty, folder.path().join("libcuda.so")).unwrap();
    let mut cases = vec![
        (
            driver.as_path(),
            ("CUDA_HOST_DRIVER", "12010"),
            "for CUDA 12.1; version 535 (CUDA 12.2) or later is needed",
        ),
        (&driver, ("CUDA_HOST_DEVICES", "0"), "the NVIDIA driver finds no GPU"),
        (folder.path(), ("", ""), "the NVIDIA driver's library lacks cuInit"),
    ];
    let nowhere = folder.path().join("nowhere");
    // The machine's own driver cannot be hidden from the program.
    // SAFETY: nothing is called, and a library that is no driver has no initialisers that matter.
    if unsafe { libloading::Library::new("libcuda.so.1").or_else(|_| libloading::Library::new("libcuda.so")) }
        .is_err()
    {
        cases.push((&nowhere, ("", ""), "there is no NVIDIA driver (libcuda)"));
    }
    for (driver, (name, value), why) in cases {
        let environment = if name.is_empty() { vec![] } else { vec![(name, value)] };
        let (text, json) = doctor(driver, &environment);
        let first = text.lines().next().unwrap();
        assert!(first.starts_with("cuda       none: ") && first.contains(why), "{why}: {text}");
        assert_eq!(json["cuda"], serde_json::json!([]), "{why}");
        assert!(json["no_cuda"].as_str().unwrap().contains(why), "{json}");
        assert!(!json["auto"].as_str().unwrap().starts_with("cuda"), "{json}");
        let mut asked = with_driver(driver, &["demo", "--quick", "--out", "x", "--device", "cuda"]);
        let told = refused(asked.envs(environment).current_dir(folder.path()));
        assert!(told.contains(why) && told.contains("lea doctor"), "{told}");
        assert!(!folder.path().join("x").exists(), "nothing is written before the device is known");
    }
}

#[test]
fn names_that_mean_no_device_are_answered_with_those_there_are() {
    let Some(driver) = stand_in("names of CUDA devices") else { return };
    let folder = tempfile::tempdir().unwrap();
    let refuse = |device: &str, capability: &str| {
        let mut command = with_driver(&driver, &["demo", "--quick", "--out", "x", "--device", device]);
        command.env("CUDA_HOST_DEVICES", "2").env("CUDA_HOST_CAPABILITY", capability);
        let told = refused(command.current_dir(folder.path()));
        assert!(!folder.path().join("x").exists(), "nothing is written before the device is known");
        told
    };
    for device in ["cuda:2", "cuda:first", "cuda:"] {
        let told = refuse(device, "8.0");
        assert!(told.contains("there are cuda:0 (CPU emulation), cuda:1 (CPU emulation)"), "{told}");
    }
    let mut busy = with_driver(&driver, &["demo", "--quick", "--out", "x", "--device", "cuda"]);
    // CUDA_ERROR_DEVICE_UNAVAILABLE
    let told = refused(busy.env("CUDA_HOST_OPENS", "46").current_dir(folder.path()));
    assert!(told.contains("cuda:0 cannot be opened: ") && told.contains("nvidia-smi"), "{told}");
    for device in ["cuda", "cuda:1"] {
        let told = refuse(device, "7.5");
        assert!(told.contains("its compute capability 7.5 is below 8.0"), "{told}");
    }
}

#[test]
fn auto_takes_cuda_before_the_others() {
    let Some(driver) = stand_in("--device auto") else { return };
    let workshop = Workshop::new(20);
    let args = workshop.label("labels", &["--device", "auto"]);
    printed(with_driver(&driver, &args).current_dir(workshop.path("")));
    let record = tiny_run::json(workshop.path("labels/run.json"));
    assert!(record["device"].as_str().unwrap().starts_with("cuda "), "{record}");
    assert!(record["driver"].as_str().unwrap().starts_with("NVIDIA driver for CUDA 1"), "{record}");
    let inspected = printed(with_driver(&driver, &["inspect", "labels"]).current_dir(workshop.path("")));
    for row in ["made by            cuda CPU emulation", "device             cuda CPU emulation"] {
        assert!(inspected.contains(row), "{inspected}");
    }
}
