//! `--cpu-dtype bf16` as a user gives it: the whole method beside f32.

mod tiny_run;

use tiny_run::{SETTINGS, expect_the_metrics_of_the_cpu, lea};

#[test]
fn the_whole_method_in_bf16_reaches_the_metrics_of_f32_and_repeats_to_the_byte() {
    let (_, record) = expect_the_metrics_of_the_cpu(SETTINGS, |folder, args| {
        lea(folder, &[args, &["--device", "cpu", "--cpu-dtype", "bf16"]].concat())
    });
    assert!(record["device"].as_str().unwrap().contains("bf16"), "{}", record["device"]);
}

#[test]
fn another_type_is_refused_with_those_there_are() {
    let folder = tempfile::tempdir().unwrap();
    let output = lea(folder.path(), &["demo", "--out", "x", "--cpu-dtype", "f16"]);
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("name bf16 or f32"));
}
