//! The PTX under `kernels/ptx` goes through NVIDIA's assembler for every architecture it is meant for, and what comes out is
//! looked at: registers that spill, local memory, instructions of tensor cores.
//!
//! The assembler comes with the compiler: `scripts/ptx --tools` installs both and prints where. Without it this is skipped.

#[path = "skip/mod.rs"]
mod skip;

use lea::device::cuda::{PTX, Ptx};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

/// What PTX for compute capability 8.0 must assemble for.
const ARCHITECTURES: [&str; 4] = ["sm_80", "sm_86", "sm_89", "sm_90"];
/// Files whose kernels must not spill a byte, and the instruction that does their work.
const HOT: [(&str, &str); 8] = [
    ("matmul", "FFMA"),
    ("matmul_bf16", "HMMA"),
    ("matmul_bf16_paired", "HMMA"),
    ("matmul_bf16_sm90", "HGMMA"),
    ("low_rank", "FFMA"),
    ("forest_attention_bf16", "HMMA"),
    ("forest_attention_bf16_backward", "HMMA"),
    ("forest_attention_bf16_sm90", "HGMMA"),
];
/// What the assembler says where it does not do as the kernel asks: products of wgmma one after the other, registers not handed over.
const REFUSALS: [&str; 2] = ["serialized", "setmaxnreg"];
/// Kernels of hot files without products of their own.
const HELPERS: [&str; 3] = ["round", "pad", "delta"];
/// Bytes that another kernel may spill: the assembler does so to fit one more block on a processor.
const FEW: u32 = 32;

/// What the oldest driver that is taken reads.
#[test]
fn the_ptx_says_a_version_that_old_drivers_take() {
    for ptx in PTX {
        assert!(ptx.text.contains("\n.version 8.0\n"), "{}: run scripts/ptx", ptx.name);
    }
}

fn tools() -> Option<PathBuf> {
    let given = std::env::var_os("CUDA_HOME").map(|home| PathBuf::from(home).join("bin"));
    let venv = std::env::var_os("LEA_NVCC_VENV").map_or(PathBuf::from("target/nvcc"), PathBuf::from);
    let python = std::fs::read_dir(venv.join("lib")).into_iter().flatten().flatten();
    let wheels = python.map(|entry| entry.path().join("site-packages/nvidia/cu13/bin"));
    given.into_iter().chain(wheels).find(|bin| bin.join("ptxas").exists() && bin.join("nvdisasm").exists())
}

/// Runs a program of the tools; its output and messages.
fn run(program: PathBuf, args: &[&std::ffi::OsStr]) -> String {
    let output = Command::new(&program).args(args).output().unwrap_or_else(|e| panic!("{program:?}: {e}"));
    let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success(), "{program:?} {args:?}: {text}");
    text
}

/// What is wrong with `ptx` assembled for `architecture`.
fn faults(bin: &Path, ptx: &Ptx, architecture: &str, folder: &Path) -> Vec<String> {
    let source = folder.join(format!("{}.{architecture}.ptx", ptx.name));
    let cubin = source.with_extension("cubin");
    std::fs::write(&source, ptx.text).unwrap();
    let arch = format!("-arch={architecture}");
    let args = ["-v".as_ref(), arch.as_ref(), source.as_os_str(), "-o".as_ref(), cubin.as_os_str()];
    let told = run(bin.join("ptxas"), &args);
    let hot = HOT.iter().find(|(name, _)| *name == ptx.name);
    let allowed = if hot.is_some() { 0 } else { FEW };
    let mut faults = Vec::new();
    let mut kernel = "";
    for line in told.lines() {
        if let Some((_, name)) = line.split_once("Function properties for ") {
            kernel = name;
        }
        if REFUSALS.iter().any(|refusal| line.contains(refusal)) {
            faults.push(format!("{architecture}: {line}"));
        }
        for part in line.split(',').filter(|part| part.contains("spill")) {
            let bytes: u32 = part.split_whitespace().next().and_then(|n| n.parse().ok()).unwrap_or(u32::MAX);
            if bytes > allowed {
                faults.push(format!("{architecture} {kernel}: {}", part.trim()));
            }
        }
    }
    let Some((_, instruction)) = hot else { return faults };
    let sass = run(bin.join("nvdisasm"), &["-c".as_ref(), cubin.as_os_str()]);
    for section in sass.split("\n.section").filter(|section| section.trim_start().starts_with(".text.")) {
        let kernel = section.trim_start().trim_start_matches(".text.").split(',').next().unwrap_or_default();
        if section.contains(" LDL") || section.contains(" STL") {
            faults.push(format!("{architecture} {kernel}: it uses local memory"));
        }
        if !HELPERS.iter().any(|helper| kernel.contains(helper)) && !section.contains(instruction) {
            faults.push(format!("{architecture} {kernel}: no {instruction}"));
        }
    }
    faults
}

#[test]
fn all_ptx_assembles_and_hot_kernels_keep_their_registers() {
    let Some(bin) = tools() else {
        skip::skipped(format_args!("the check of PTX: there is no ptxas; `scripts/ptx --tools` installs it"));
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let jobs: Vec<(&Ptx, String)> = PTX
        .iter()
        .flat_map(|ptx| match ptx.only {
            true => vec![(ptx, format!("sm_{}a", ptx.capability))],
            false => ARCHITECTURES.iter().map(|arch| (ptx, arch.to_string())).collect(),
        })
        .collect();
    let (next, found) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, |n| n.get()) {
            scope.spawn(|| {
                while let Some((ptx, arch)) = jobs.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let faults = faults(&bin, ptx, arch, folder.path());
                    found.lock().unwrap().extend(faults);
                }
            });
        }
    });
    let found = found.into_inner().unwrap();
    assert!(found.is_empty(), "{}", found.join("\n"));
}
