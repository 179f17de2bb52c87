//! The ready job files under `scripts/` label in shards and merge to the labels of one run: with the engine itself where
//! it is at hand, else with what it would run.
#![cfg(unix)]

mod label_run;
mod skip;

use label_run::{Workshop, labels, succeed};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// What skipped scripts end with.
const SKIPPED: i32 = 77;

fn here(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn workshop() -> Workshop {
    let workshop = Workshop::new(30);
    workshop.run(&workshop.label("one", &["--files", "3"]));
    workshop
}

fn command(program: impl AsRef<std::ffi::OsStr>, workshop: &Workshop, out: &str) -> Command {
    let path = std::env::var("PATH").unwrap_or_default();
    let bin = Path::new(env!("CARGO_BIN_EXE_lea")).parent().unwrap().display();
    let mut command = Command::new(program);
    command.current_dir(workshop.path("")).env("PATH", format!("{bin}:{path}"));
    command.envs([("DATA", "data"), ("DECODER", "decoder"), ("LE", "le"), ("OUT", out)]);
    command.env("LEA_LABEL_FLAGS", "--config c.toml");
    command
}

/// Merges `out` and compares with the labels of one run.
fn merged(workshop: &Workshop, out: &str) {
    workshop.run(&["labels", "merge", out]);
    assert!(labels(&workshop.path(out)) == labels(&workshop.path("one")), "{out}");
}

#[test]
fn every_task_of_a_slurm_array_and_every_pod_of_an_indexed_job_labels_one_shard() {
    let workshop = workshop();
    // The last stands for a task that is submitted again alone: the number of shards stays.
    for (task, count) in [("1", "3"), ("2", "3"), ("3", "1")] {
        let mut task_run = command("bash", &workshop, "slurm");
        task_run.arg(here("scripts/slurm/label-array.sbatch"));
        task_run.env("SLURM_ARRAY_TASK_ID", task).env("SLURM_ARRAY_TASK_COUNT", count);
        if count != "3" {
            task_run.env("SHARDS", "3");
        }
        succeed(&task_run.output().unwrap());
    }
    let merge =
        command("bash", &workshop, "slurm").arg(here("scripts/slurm/label-merge.sbatch")).output().unwrap();
    succeed(&merge);
    merged(&workshop, "slurm");

    let yaml = std::fs::read_to_string(here("scripts/kubernetes/label-job.yaml")).unwrap();
    let script = folded(&yaml, "- >-");
    assert!(script.starts_with("exec lea label") && script.ends_with("--resume"), "{script}");
    for index in ["0", "1", "2"] {
        let mut pod = command("sh", &workshop, "pods");
        pod.args(["-c", &script]).env("JOB_COMPLETION_INDEX", index).env("SHARDS", "3");
        succeed(&pod.output().unwrap());
    }
    merged(&workshop, "pods");
}

#[test]
fn a_part_of_a_slurm_array_is_submitted_with_the_number_of_all_shards() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let sbatch = dir.path().join("sbatch");
    std::fs::write(&sbatch, "#!/bin/sh\necho \"${SHARDS-none}\"\n").unwrap();
    std::fs::set_permissions(&sbatch, std::fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:{}", dir.path().display(), std::env::var("PATH").unwrap_or_default());
    let submit = |shards: Option<&str>, flags: &[&str]| {
        let mut submit = Command::new("bash");
        submit.arg(here("scripts/slurm/submit.sh")).args(flags).env("PATH", &path).env_remove("SHARDS");
        submit.envs(shards.map(|shards| ("SHARDS", shards))).output().unwrap()
    };
    assert_eq!(succeed(&submit(None, &["--partition=gpu"])), "none none\n");
    assert_eq!(succeed(&submit(None, &["--array=1-64%8"])), "64 64\n");
    assert_eq!(succeed(&submit(Some("64"), &["--array=3,7"])), "64 64\n");
    assert_eq!(succeed(&submit(Some("64"), &["--array=1-2"])), "64 64\n");
    let refused = submit(None, &["--array=3,7"]);
    assert!(!refused.status.success() && String::from_utf8_lossy(&refused.stderr).contains("set SHARDS"));
}

/// The folded block of a YAML file that begins behind `mark`: its lines, as far as they are indented deeper.
fn folded(yaml: &str, mark: &str) -> String {
    let mut lines = yaml.lines().skip_while(|line| line.trim() != mark);
    let indent = |line: &str| line.len() - line.trim_start().len();
    let outer = indent(lines.next().expect("the mark is there"));
    lines.take_while(|line| indent(line) > outer).map(str::trim).collect::<Vec<_>>().join(" ")
}

/// Success, or `None` with the reason on standard error.
fn unless_skipped(output: &Output) -> Option<String> {
    if output.status.code() == Some(SKIPPED) {
        eprintln!("{}", String::from_utf8_lossy(&output.stderr));
        return None;
    }
    Some(succeed(output))
}

#[test]
fn a_slurm_cluster_of_one_node_labels_in_an_array_and_merges_behind_it() {
    let workshop = workshop();
    let mut cluster = command(here("tests/slurm/one_node.sh"), &workshop, "labels");
    cluster.arg(here("tests/slurm/label_and_merge.sh")).arg(here("scripts/slurm/submit.sh"));
    cluster.args(["--array=1-3", "--cpus-per-task=1"]);
    let Some(told) = unless_skipped(&cluster.output().unwrap()) else { return };
    assert!(told.contains("COMPLETED"), "{told}");
    assert!(workshop.path("labels/manifest.json").is_file());
    merged(&workshop, "labels");
}

#[test]
#[cfg(target_os = "linux")]
fn a_shard_ends_with_the_worker_that_ran_it() {
    use std::time::{Duration, Instant};
    let dir = tempfile::tempdir().unwrap();
    // The script without its engine: only how it runs a program.
    std::fs::write(dir.path().join("ray.py"), "").unwrap();
    let worker = "import label_shards; label_shards.run(['sh', '-c', 'echo $$ > pid; exec sleep 600'])";
    let worker = Command::new("python3")
        .args(["-c", worker])
        .env("PYTHONPATH", format!("{}:{}", dir.path().display(), here("scripts/ray").display()))
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .current_dir(dir.path())
        .spawn();
    let Ok(mut worker) = worker else {
        skip::skipped("there is no python3");
        return;
    };
    let patience = Instant::now();
    let wait = |what: &str, until: &dyn Fn() -> bool| {
        while !until() {
            assert!(patience.elapsed() < Duration::from_secs(60), "{what}");
            std::thread::sleep(Duration::from_millis(10));
        }
    };
    let pid = || std::fs::read_to_string(dir.path().join("pid")).unwrap_or_default().trim().to_string();
    wait("the shard did not begin", &|| !pid().is_empty());
    worker.kill().unwrap();
    worker.wait().unwrap();
    // Gone, or dead and not yet buried by whoever inherits it.
    let status = || std::fs::read_to_string(format!("/proc/{}/status", pid())).unwrap_or_default();
    wait("the shard outlived its worker", &|| status().is_empty() || status().contains("State:\tZ"));
}

#[test]
fn ray_labels_in_shards_and_merges() {
    let python = std::env::var("LEA_RAY_PYTHON").unwrap_or("python3".into());
    let has_ray = Command::new(&python).args(["-c", "import ray"]).output().is_ok_and(|o| o.status.success());
    if !has_ray {
        skip::skipped(format_args!("{python} has no ray; name one that has with LEA_RAY_PYTHON"));
        return;
    }
    let workshop = workshop();
    let mut script = command(python, &workshop, "");
    script.arg(here("scripts/ray/label_shards.py")).args(["--shards", "3", "--out", "ray"]);
    script.args(["--lea", env!("CARGO_BIN_EXE_lea"), "--"]).env("RAY_USAGE_STATS_ENABLED", "0");
    for (flag, name) in [("--data", "data"), ("--decoder", "decoder"), ("--le", "le"), ("--config", "c.toml")]
    {
        script.arg(flag).arg(workshop.path(name));
    }
    let told = succeed(&script.output().unwrap());
    assert!(told.contains("3 files, 30 users"), "{told}");
    merged(&workshop, "ray");
}
