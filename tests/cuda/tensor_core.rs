//! The stand-in's tensor cores, loads of fragments and asynchronous copies by themselves: `tests/cuda_host/tensor_core_check.cpp`.

use super::skip;
use std::process::Command;

#[test]
fn emulated_fragments_and_copies_are_those_of_the_ptx_isa() {
    if Command::new("g++").arg("--version").output().is_err() {
        return skip::skipped(format_args!("emulated_fragments: there is no g++"));
    }
    if !std::path::Path::new("tests/cuda_host").exists() {
        return skip::skipped("emulated_fragments: the folder tests/cuda_host of the source is not here");
    }
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("check");
    let compiled = Command::new("g++")
        .args([
            "-std=c++17",
            "-O1",
            "-pthread",
            "-ffp-contract=fast",
            "-Wall",
            "-Wno-unknown-pragmas",
            "-DLEA_HOST",
        ])
        .args(["-Itests/cuda_host", "-Ikernels/common", "-o"])
        .arg(&program)
        .args(["tests/cuda_host/tensor_core_check.cpp", "tests/cuda_host/engine.cpp", "-ldl"])
        .output()
        .unwrap();
    assert!(compiled.status.success(), "{}", String::from_utf8_lossy(&compiled.stderr));
    let run = Command::new(program).output().unwrap();
    assert!(run.status.success(), "{:?} {}", run.status, String::from_utf8_lossy(&run.stdout));
}
