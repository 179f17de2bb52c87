//! `scripts/gpu_check/run` with stand-ins for the programs of a pack: the table and the records come whatever the steps do, and the
//! exit status tells what failed. Its steps on an emulated device are in `tests/cuda/checked.rs`.
#![cfg(target_os = "linux")]

use serde_json::Value;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// A folder like a pack, programs on the way of the shell ahead of this machine's, and where results go.
struct Pack(TempDir);

const RECORD: &str = r#"{"bench":"label","settings":{"shape":"tiny","layers":1,"history":4,"actions":3,"users":2},"median_seconds":0.002,"gflops":5,"share_of_ceiling":0.25,"labels_per_s":1234,"device_mb":56}"#;
const ROW: &str = r#"{"name":"7B down: 64 x 32 x 16","dtype":"bf16","ms":2.5,"tflops":7.25,"gb_per_s":3,"share_percent":61,"bound":"arithmetic","waits":true}"#;

impl Pack {
    /// One in which every step succeeds, on a machine without PyTorch and sanitizer.
    fn new() -> Self {
        let pack = Pack(tempfile::tempdir().unwrap());
        for folder in ["pack", "bin"] {
            std::fs::create_dir(pack.path(folder)).unwrap();
        }
        let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/gpu_check");
        for script in ["run", "each_test", "table", "torch_table.py"] {
            symlink(scripts.join(script), pack.path("pack").join(script)).unwrap();
        }
        std::fs::write(pack.path("pack/REVISION"), "abc\n").unwrap();
        pack.program("pack/lea", &format!("case \"$*\" in *json*) echo '{RECORD}' ;; *) echo lea ;; esac"));
        pack.program(
            "pack/bench-cuda",
            &format!("echo 'ceiling of memory: 9 GB/s'; echo '{ROW}' >\"${{@: -1}}\""),
        );
        for tests in ["pack/tests-cuda", "pack/tests-webgpu"] {
            pack.program(tests, "[ \"$1\" != --list ] || printf 'one: test\\ntwo: test\\n'");
        }
        pack.program("bin/nvidia-smi", "echo a GPU");
        pack.program("bin/python3", "exit 1");
        pack
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Puts a shell script in place of a program.
    fn program(&self, name: &str, script: &str) {
        std::fs::write(self.path(name), format!("#!/usr/bin/env bash\n{script}\n")).unwrap();
        std::fs::set_permissions(self.path(name), std::fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn command(&self, environment: &[(&str, &str)]) -> Command {
        let mut run = Command::new(self.path("pack/run"));
        run.arg(self.path("out")).envs(environment.iter().copied());
        run.env("PATH", format!("{}:/usr/bin:/bin", self.path("bin").display()));
        run
    }

    /// Runs it: its exit status and what it printed.
    fn run(&self, environment: &[(&str, &str)]) -> (i32, String) {
        self.ended(self.command(environment).output().unwrap())
    }

    /// What came of it. In any case there are a table, which was printed last, and records that are whole.
    fn ended(&self, output: Output) -> (i32, String) {
        let printed = String::from_utf8(output.stdout).unwrap();
        let table = std::fs::read_to_string(self.path("out/table.txt")).unwrap();
        assert!(printed.ends_with(&table), "{printed}\n{table}");
        assert_eq!(String::from_utf8_lossy(&output.stderr), "");
        (output.status.code().unwrap(), table)
    }

    fn results(&self) -> Value {
        serde_json::from_str(&std::fs::read_to_string(self.path("out/results.json")).unwrap()).unwrap()
    }

    /// State and note of a step.
    fn step(&self, name: &str) -> (String, String) {
        let results = self.results();
        let found = results["steps"].as_array().unwrap().iter().find(|step| step["step"] == name);
        let text = |key: &str| {
            found.unwrap_or_else(|| panic!("no {name} in {results}"))[key].as_str().unwrap().to_owned()
        };
        (text("state"), text("note"))
    }
}

fn state(pack: &Pack, name: &str) -> String {
    pack.step(name).0
}

#[test]
fn a_whole_run_tells_every_step_and_row() {
    let pack = Pack::new();
    let (status, table) = pack.run(&[]);
    assert_eq!(status, 0, "{table}");
    for line in [
        "ceiling of memory: 9 GB/s",
        "7B down: 64 x 32 x 16",
        "2.500*",
        "61.0 % arithmetic",
        "label tiny, 1 layers, history 4",
        "1234 labels",
    ] {
        assert!(table.contains(line), "{line}: {table}");
    }
    let results = pack.results();
    assert_eq!(results["revision"], "abc");
    assert_eq!(results["steps"].as_array().unwrap().len(), 20, "{table}");
    assert_eq!(results["memory"].as_array().unwrap().len(), 2);
    assert_eq!(results["bench"][0]["tflops"], 7.25);
    assert_eq!(pack.step("memcheck"), ("skipped".into(), "this machine has no compute-sanitizer".into()));
    assert_eq!(pack.step("torch"), ("skipped".into(), "python3 has no PyTorch with CUDA".into()));
}

#[test]
fn the_exit_status_tells_wrong_results_from_missing_figures() {
    let pack = Pack::new();
    pack.program("pack/bench-cuda", "echo 'the \"device\" is lost'; exit 1");
    let (status, table) = pack.run(&[]);
    assert_eq!(status, 3, "{table}");
    assert_eq!(
        pack.step("bench"),
        ("failed".into(), "exit status 1, see bench.log: the device is lost".into())
    );
    assert_eq!(pack.step("torch").1, "bench has no rows to put beside");
    assert_eq!(state(&pack, "webgpu"), "ok");

    pack.program(
        "pack/tests-cuda",
        "[ \"$1\" = --list ] && printf 'one: test\\ntwo: test\\n' || [ \"$2\" = one ]",
    );
    let (status, table) = pack.run(&[("GPU_CHECK_STEPS", "parity")]);
    assert_eq!(status, 1, "{table}");
    assert!(pack.step("parity").1.ends_with("1 passed; 1 failed; 0 not run to their end"), "{table}");
    assert_eq!(pack.results()["steps"].as_array().unwrap().len(), 1, "{table}");
}

#[test]
fn a_sanitizer_tells_of_wrong_results_by_its_own_status_alone() {
    let pack = Pack::new();
    let sanitized = |status: i32| {
        let of_tool = |tool| {
            pack.program(
                "bin/compute-sanitizer",
                &format!("[ \"$2\" != {tool} ] || {{ echo hazard; exit {status}; }}"),
            );
            pack.run(&[("GPU_CHECK_STEPS", "memcheck racecheck")])
        };
        ["memcheck", "racecheck"].map(|tool| (of_tool(tool).0, state(&pack, tool)))
    };
    // Its own; one of a tool that could not start.
    for (status, of_memcheck) in [(9, 1), (1, 3)] {
        assert_eq!(sanitized(status), [(of_memcheck, "failed".into()), (3, "failed".into())], "{status}");
    }
}

#[test]
fn files_of_others_stay() {
    let pack = Pack::new();
    std::fs::create_dir(pack.path("out")).unwrap();
    for name in ["mine.log", "mine.json", "mine.jsonl", "fit.log", "fit.jsonl"] {
        std::fs::write(pack.path("out").join(name), "before\n").unwrap();
    }
    let (status, table) = pack.run(&[("GPU_CHECK_STEPS", "devices")]);
    assert_eq!(status, 0, "{table}");
    let there = |name: &str| pack.path("out").join(name).exists();
    assert_eq!(
        ["mine.log", "mine.json", "mine.jsonl", "fit.log", "fit.jsonl"].map(there),
        [true, true, true, false, false]
    );
}

#[test]
fn without_a_device_nothing_is_called_right() {
    let pack = Pack::new();
    pack.program("pack/lea", "echo there is no CUDA device; exit 1");
    let (status, table) = pack.run(&[]);
    assert_eq!(status, 1, "{table}");
    assert!(pack.step("device").1.contains("there is no CUDA device"));
    for name in ["parity", "bench", "fit", "memory-7b", "webgpu"] {
        assert_eq!(pack.step(name), ("skipped".into(), "CUDA does not work here".into()));
    }
}

/// Processes that sleep for so many seconds.
fn sleepers(seconds: u32) -> String {
    let found = Command::new("pgrep").args(["-f", &format!("^sleep {seconds}$")]).output();
    found.map(|found| String::from_utf8(found.stdout).unwrap()).unwrap_or_default()
}

#[test]
fn a_step_that_hangs_ends_with_the_time_and_the_rest_is_told() {
    let pack = Pack::new();
    pack.program("pack/tests-cuda", "echo began; sleep 7771 & trap '' TERM; sleep 7772; sleep 7773");
    let (status, table) =
        pack.run(&[("GPU_CHECK_SECONDS", "5"), ("GPU_CHECK_STEPS", "batch-invariance bench webgpu")]);
    assert_eq!(status, 3, "{table}");
    let (state, note) = pack.step("batch-invariance");
    assert_eq!(state, "cut", "{table}");
    assert!(note.contains("s for all were over"), "{note}");
    assert!(pack.step("bench").1.contains("it may take 100 s, and 0 of 5 s were left"), "{table}");
    for seconds in [7771, 7772, 7773] {
        assert_eq!(sleepers(seconds), "", "{seconds}");
    }
}

#[test]
fn tests_that_are_stopped_tell_what_has_ended() {
    let pack = Pack::new();
    let list = "[ \"$1\" != --list ] || { printf 'one: test\\ntwo: test\\n'; exit; }; [ \"$2\" = one ] || sleep 7774";
    pack.program("pack/tests-cuda", list);
    let mut stopped = Command::new("timeout");
    stopped.args(["-k", "5", "2"]).args([pack.path("pack/each_test"), pack.path("pack/tests-cuda")]);
    let output = stopped.output().unwrap();
    let told = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(124), "{told}");
    assert!(told.contains("1 passed; 0 failed; 1 not run to their end"), "{told}");
    assert_eq!(sleepers(7774), "");
}

#[test]
fn an_interrupt_still_writes_the_table_of_what_came() {
    let pack = Pack::new();
    let said = pack.path("started");
    pack.program(
        "pack/lea",
        &format!(
            "case \"$*\" in *train*) touch {}; sleep 60 ;; *json*) echo '{RECORD}' ;; esac",
            said.display()
        ),
    );
    let run = pack.command(&[]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let start = Instant::now();
    while !said.exists() {
        assert!(start.elapsed() < Duration::from_secs(60), "it never came to the step");
        std::thread::sleep(Duration::from_millis(20));
    }
    let sent = Command::new("bash").args(["-c", &format!("kill -INT {}", run.id())]).status().unwrap();
    assert!(sent.success());
    let (status, table) = pack.ended(run.wait_with_output().unwrap());
    assert_eq!(status, 130, "{table}");
    assert!(start.elapsed() < Duration::from_secs(50));
    assert_eq!(state(&pack, "train"), "interrupted");
    assert_eq!(state(&pack, "fit"), "ok");
    assert!(table.contains("7B down: 64 x 32 x 16") && table.contains("1234 labels"), "{table}");
    assert_eq!(pack.results()["memory"].as_array().unwrap().len(), 0);
}

#[test]
fn steps_that_do_not_exist_are_refused() {
    let pack = Pack::new();
    let output = pack.command(&[("GPU_CHECK_STEPS", "parity bnech")]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(told.contains("no step is called bnech, but: driver device"), "{told}");
}
