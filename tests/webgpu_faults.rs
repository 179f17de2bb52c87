//! The program on a device that is lost, or has too little memory.
#![cfg(unix)]

mod label_run;
mod skip;

use label_run::{Workshop, expect_smaller_packs, labels, lea};
use lea::device::webgpu::adapter;
use std::process::{Command, Output};

/// All adapters, software first; tells where there is none.
fn devices(test: &str) -> Vec<String> {
    let mut found = adapter::list();
    if found.is_empty() {
        skip::skipped(format_args!("{test}: there is no WebGPU adapter"));
    }
    found.sort_by_key(|found| !found.is_software());
    found.iter().map(|found| format!("webgpu:{}", found.index)).collect()
}

/// The first of them, for what takes long.
fn device(test: &str) -> Option<String> {
    devices(test).into_iter().next()
}

fn told(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn lose_until_done(workshop: &Workshop, args: &[&str], launches: u64) -> usize {
    let launches = launches.to_string();
    label_run::lose_until_done(workshop, args, |command| {
        command.args(["--lose-device-after", &launches]);
    })
}

#[test]
fn labelling_that_loses_its_device_goes_on_to_the_same_bytes() {
    let workshop = Workshop::new(60);
    for (i, device) in devices("labelling that loses its device").iter().enumerate() {
        let on = ["--device", device, "--files", "2"];
        let [whole, again] = ["whole", "lost"].map(|kind| format!("{kind}-{i}"));
        workshop.run(&workshop.label(&whole, &on));
        let lost = lose_until_done(&workshop, &workshop.label(&again, &on), 120);
        assert!(lost > 1, "{device} was lost {lost} times only");
        assert!(labels(&workshop.path(&again)) == labels(&workshop.path(&whole)), "other bytes on {device}");
    }
}

#[test]
fn training_that_loses_its_device_goes_on_to_the_same_bytes() {
    let Some(device) = device("training that loses its device") else { return };
    let workshop = Workshop::new(60);
    workshop.run(&workshop.label("labels", &[]));
    let common = ["--config", "c.toml", "--data", "data", "--device", &device];
    let fit = ["fit", "--decoder", "decoder", "--item-tokens", "items"];
    let train =
        ["train", "--labels", "labels", "--variant", "lea", "--negatives", "3", "--width", "16", "--epochs"];
    for (step, result, launches) in [
        (&fit[..], "adapter_model.safetensors", 250),
        (&[&train[..], &["2"]].concat(), "recommender.safetensors", 500),
    ] {
        let [whole, again] = ["whole", "lost"].map(|kind| format!("{}-{kind}", step[0]));
        let run = |out| [step, &common, &["--out", out]].concat();
        workshop.run(&run(&whole));
        let lost = lose_until_done(&workshop, &run(&again), launches);
        assert!(lost > 1, "{}: the device was lost {lost} times only", step[0]);
        let [want, found] =
            [whole, again].map(|out| std::fs::read(workshop.path(&out).join(result)).unwrap());
        assert!(want == found, "{}: {result} has other bytes", step[0]);
    }
}

#[test]
fn labelling_takes_smaller_packs_where_memory_is_short_and_refuses_what_cannot_fit() {
    let Some(device) = device("labelling with little memory") else { return };
    let workshop = Workshop::new(60);
    let on = ["--device", &device];
    let tighten = |command: &mut Command| {
        command.args(["--device-memory", "0.36"]);
    };
    let line = expect_smaller_packs(&workshop, &on, |_| {}, tighten);
    assert!(line.contains("360 kB are allowed"), "{line}");

    let with = |out: &'static str, megabytes: &'static str| {
        let more = [&on[..], &["--device-memory", megabytes]].concat();
        lea(&workshop.label(out, &more)).current_dir(workshop.path("")).output().unwrap()
    };
    let refused = |megabytes: &'static str, why: &str| {
        let output = with("none", megabytes);
        let line = told(&output);
        assert_eq!(output.status.code(), Some(1), "{line}");
        assert!(line.contains(why) && line.contains(" are allowed"), "{megabytes} MB: {line}");
        assert!(!workshop.path("none").exists(), "{megabytes} MB");
        line
    };
    let line = refused("0.01", "the decoder needs ");
    assert!(line.contains("take a smaller decoder"), "{line}");
    let output = with("none", "0");
    assert_eq!(output.status.code(), Some(2), "{}", told(&output));
    assert!(told(&output).contains("give megabytes"), "{}", told(&output));
}

#[test]
fn text_that_loses_its_device_ends_its_line_and_is_not_told_to_resume() {
    let Some(device) = device("text that loses its device") else { return };
    let workshop = Workshop::new(60);
    let generate = |launches: u64| {
        let launches = launches.to_string();
        let args = ["generate", "--decoder", "decoder", "a text", "--max-tokens", "200", "--device", &device];
        let args = [&args[..], &["--lose-device-after", &launches, "--temperature", "2"]].concat();
        lea(&args).current_dir(workshop.path("")).output().unwrap()
    };
    // Lost at once, and amid the text: both end the line that they began.
    let early = generate(1);
    let amid =
        (8..14).map(|power| generate(1 << power)).find(|output| output.stdout.len() > early.stdout.len());
    for output in [early, amid.unwrap()] {
        assert!(!output.status.success());
        let message = told(&output);
        assert!(message.contains("was lost") && !message.contains("--resume"), "{message}");
        assert!(!message.contains("()"), "{message}");
        assert!(output.stdout.last().is_none_or(|&last| last == b'\n'), "{:?}", output.stdout);
    }
}

#[test]
fn training_that_lacks_memory_names_the_setting_of_smaller_batches() {
    let Some(device) = device("training with little memory") else { return };
    let workshop = Workshop::new(60);
    workshop.run(&workshop.label("labels", &[]));
    let common = ["--config", "c.toml", "--data", "data", "--device", &device, "--device-memory"];
    let fit = ["fit", "--decoder", "decoder", "--item-tokens", "items", "--out", "none"];
    let train = ["train", "--labels", "labels", "--variant", "lea", "--negatives", "3", "--out", "none"];
    for (step, megabytes, flag) in [(&fit[..], "0.5", "--batch-tokens"), (&train[..], "0.3", "--batch-steps")]
    {
        let args = [step, &common, &[megabytes]].concat();
        let output = lea(&args).current_dir(workshop.path("")).output().unwrap();
        let line = told(&output);
        assert_eq!(output.status.code(), Some(1), "{line}");
        assert!(line.contains(&format!("take smaller batches with {flag}, or another --device")), "{line}");
        let help = lea(&[step[0], "--help"]).output().unwrap();
        assert!(String::from_utf8_lossy(&help.stdout).contains(flag), "{flag}");
        let _ = std::fs::remove_dir_all(workshop.path("none"));
    }
}
