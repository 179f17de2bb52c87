//! Ranges as a tool of NVIDIA's sees them: a library of our own is put into the program in the way that such a tool is.

use std::path::{Path, PathBuf};
use std::process::Command;

/// The tool, compiled; `None`, with the reason told, where there is no compiler.
fn tool(folder: &Path) -> Option<PathBuf> {
    let library = folder.join("libtool.so");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/nvtx_tool/tool.cpp");
    let compiled = Command::new("g++").args(["-shared", "-fPIC", "-o"]).arg(&library).arg(source).status();
    match compiled {
        Ok(status) => {
            assert!(status.success(), "tests/nvtx_tool/tool.cpp does not compile");
            Some(library)
        }
        Err(error) => {
            eprintln!("skipped: g++ cannot be run ({error})");
            None
        }
    }
}

/// `lea bench label` on two layers, with the variables set; its JSON's rewards do not depend on who listens.
fn label(variables: &[(&str, &Path)]) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lea"));
    command.args(["bench", "label", "--shape", "tiny", "--layers", "2", "--history", "2", "--actions", "2"]);
    command.args(["--samples", "1", "--warm-up", "0", "--sample-ms", "0", "--ceiling", "16", "--json"]);
    let output = command.envs(variables.iter().copied()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn stages_layers_and_ops_nest_in_a_tools_timeline() {
    let folder = tempfile::tempdir().unwrap();
    let Some(library) = tool(folder.path()) else { return };
    let log = folder.path().join("log");
    label(&[("NVTX_INJECTION64_PATH", &library), ("NVTX_TOOL_LOG", &log)]);
    let (mut open, mut seen) = (Vec::new(), Vec::new());
    for line in std::fs::read_to_string(&log).unwrap().lines() {
        match line.strip_prefix("push ") {
            Some(name) => {
                open.push(name.to_string());
                seen.push(open.join(" / "));
            }
            None => {
                assert_eq!(line, "pop");
                open.pop().expect("a range ended that had not begun");
            }
        }
    }
    assert!(open.is_empty(), "ranges never ended: {open:?}");
    for stage in ["trunks", "leaves"] {
        for layer in 0..2 {
            for op in ["linear", "forest_attention", "rms_norm"] {
                let wanted = format!("{stage} / layer {layer} / {op}");
                assert!(seen.contains(&wanted), "{wanted} is not among {seen:?}");
            }
        }
    }
}

#[test]
fn a_tool_that_cannot_be_loaded_or_does_not_attach_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    label(&[("NVTX_INJECTION64_PATH", &folder.path().join("no-such-library.so"))]);
    let Some(library) = tool(folder.path()) else { return };
    let log = folder.path().join("log");
    label(&[
        ("NVTX_INJECTION64_PATH", &library),
        ("NVTX_TOOL_LOG", &log),
        ("NVTX_TOOL_REFUSE", Path::new("1")),
    ]);
    assert!(!log.exists());
}
