//! `scripts/gpu_check/run` on the emulated device: its steps with the programs of a pack as they are here.

use super::{cuda_host, skip};
use serde_json::Value;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

/// Those that take no benchmark of the pack and end soon on a CPU.
const STEPS: &str = "device devices parity label-llama-1b train memory-7b";

#[test]
fn the_check_for_gpus_runs_its_steps_and_tells_what_they_found() {
    // Where a GPU is tested, it is that check which runs this test.
    if cuda_host::real() {
        return;
    }
    let folder = match cuda_host::folder() {
        Ok(folder) => folder,
        Err(why) => return skip::skipped(format_args!("the check for GPUs runs its steps: {why}")),
    };
    let pack = tempfile::tempdir().unwrap();
    let (pack, out) = (pack.path(), pack.path().join("out"));
    let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/gpu_check");
    for script in ["run", "each_test", "table", "torch_table.py"] {
        symlink(scripts.join(script), pack.join(script)).unwrap();
    }
    symlink(env!("CARGO_BIN_EXE_lea"), pack.join("lea")).unwrap();
    // One of the tests stands for all.
    let own = std::env::current_exe().unwrap();
    let script = format!(
        "#!/usr/bin/env bash\n[ \"$1\" != --list ] || set -- --list uploads::\nexec {} \"$@\"\n",
        own.display()
    );
    std::fs::write(pack.join("tests-cuda"), script).unwrap();
    std::fs::set_permissions(pack.join("tests-cuda"), std::fs::Permissions::from_mode(0o755)).unwrap();
    let output = Command::new(pack.join("run"))
        .arg(&out)
        .envs([("GPU_CHECK_STEPS", STEPS), ("GPU_CHECK_QUICK", "1"), ("CUDA_HOST_CAPABILITY", "9.0")])
        .env("LD_LIBRARY_PATH", &folder)
        .output()
        .unwrap();
    let printed = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{printed}{}", String::from_utf8_lossy(&output.stderr));
    let text = |file: &str| std::fs::read_to_string(out.join(file)).unwrap();
    let results: Value = serde_json::from_str(&text("results.json")).unwrap();
    let count = |of: &str| results[of].as_array().unwrap().len();
    let wanted = [("steps", 6), ("label", 1), ("fit", 0), ("train", 1), ("memory", 1)];
    assert_eq!(wanted.map(|(of, _)| count(of)), wanted.map(|(_, n)| n), "{printed}");
    assert!(results["steps"].as_array().unwrap().iter().all(|step| step["state"] == "ok"), "{printed}");
    assert!(results["memory"][0]["device_mb"].as_f64().unwrap() > 0.0);
    for name in ["label-llama-1b", "train"] {
        let trace: Value = serde_json::from_str(&text(&format!("{name}.trace.json"))).unwrap();
        assert!(trace["traceEvents"].as_array().is_some_and(|events| !events.is_empty()), "{name}");
    }
    let table = text("table.txt");
    for line in ["lea_adamw_step", "lea_forest_attention", "label tiny, 1 layers, history 4, 3 candidates"] {
        assert!(table.contains(line), "{line}: {table}");
    }
}
