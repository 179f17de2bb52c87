//! The stand-in's tensor cores, copies and barriers by themselves: `tests/cuda_host/*_check.cpp`.

use super::skip;
use std::process::Command;

/// Compiles a check with these parts of the stand-in, and runs it.
fn passes(check: &str, parts: &[&str]) {
    if Command::new("g++").arg("--version").output().is_err() {
        return skip::skipped(format_args!("{check}: there is no g++"));
    }
    if !std::path::Path::new("tests/cuda_host").exists() {
        return skip::skipped(format_args!("{check}: the folder tests/cuda_host of the source is not here"));
    }
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("check");
    let compiled = Command::new("g++")
        .args(["-std=c++17", "-O1", "-pthread", "-ffp-contract=fast", "-Wall", "-Wno-unknown-pragmas"])
        .args(["-Wno-psabi", "-DLEA_HOST", "-Itests/cuda_host", "-Ikernels/common", "-o"])
        .arg(&program)
        .args(std::iter::once(&check).chain(parts).map(|name| format!("tests/cuda_host/{name}.cpp")))
        .arg("-ldl")
        .output()
        .unwrap();
    assert!(compiled.status.success(), "{}", String::from_utf8_lossy(&compiled.stderr));
    let run = Command::new(program).output().unwrap();
    let [told, reported] = [&run.stdout, &run.stderr].map(|text| String::from_utf8_lossy(text));
    assert!(run.status.success(), "{:?} {told}\n{reported}", run.status);
}

#[test]
fn emulated_fragments_and_copies_are_those_of_the_ptx_isa() {
    passes("tensor_core_check", &["engine", "hopper", "wgmma"]);
}

#[test]
fn emulated_tensor_maps_mbarriers_and_wgmma_are_those_of_the_ptx_isa_and_mistakes_in_their_use_show() {
    passes("hopper_check", &["engine", "hopper", "wgmma", "tensor_map"]);
}

#[test]
fn what_stays_unproven_without_a_gpu_is_told() {
    let Ok(notes) = std::fs::read_to_string("kernels/NOTES.md") else {
        return skip::skipped("what stays unproven: the file kernels/NOTES.md of the source is not here");
    };
    let (_, section) =
        notes.split_once("## What stays unproven without a GPU").expect("a section of that name");
    let open: Vec<&str> = section.split("\n- ").skip(1).collect();
    assert!(open.len() > 3, "{section}");
    if !super::cuda_host::real() {
        for what in open {
            skip::skipped(format_args!(
                "on a GPU alone: {}",
                what.split_whitespace().collect::<Vec<_>>().join(" ")
            ));
        }
    }
}
