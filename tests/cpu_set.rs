//! `--cpu-set` as a user gives it: the kernels of a lesser processor on this one.

mod tiny_run;

use lea::device::cpu::simd::{Level, best};
use tiny_run::{SETTINGS, expect_the_metrics_of_the_cpu, lea};

#[test]
fn the_whole_method_reaches_the_same_metrics_on_every_instruction_set_and_repeats_to_the_byte() {
    for set in [Level::Portable, Level::Avx2].into_iter().filter(|&set| set < best()) {
        let set = set.to_string();
        let (_, record) = expect_the_metrics_of_the_cpu(SETTINGS, |folder, args| {
            lea(folder, &[args, &["--device", "cpu", "--cpu-set", &set]].concat())
        });
        let device = record["device"].as_str().unwrap();
        assert!(device.contains(&set), "{device}");
    }
}

#[test]
fn a_set_that_there_is_not_is_refused_with_those_there_are() {
    let folder = tempfile::tempdir().unwrap();
    let refused = |set: &str| {
        let output = lea(folder.path(), &["demo", "--out", "x", "--cpu-set", set]);
        assert!(!output.status.success(), "{set}");
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    let message = refused("sse2");
    assert!(message.contains("portable, avx2, avx512"), "{message}");
    if best() < Level::Avx512 {
        let message = refused("avx512");
        assert!(message.contains("has no avx512") && message.contains("leave out --cpu-set"), "{message}");
    }
}
