//! Long steps that are interrupted in every way go on to the bytes of an undisturbed run.
#![cfg(unix)]

mod long_run;
mod skip;

use long_run::{STEPS, WORKSHOP, files_below, refusal, results, signal, succeed};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

#[test]
fn killed_at_any_moment_and_resumed_every_step_ends_with_the_bytes_of_an_undisturbed_run() {
    let workshop = &*WORKSHOP;
    let mut rng = ChaCha8Rng::seed_from_u64(7);
    for step in STEPS {
        let (mut kills, mut kept, mut runs) = (0, 0, 0);
        // Each kill leaves less to do, so that five must fit into one run.
        let mut most = workshop.time(step).mul_f64(0.4);
        let name = |run: usize| format!("{step}-killed-{run}");
        while kills < 5 {
            let mut child = workshop.start(step, &name(runs));
            std::thread::sleep(most.mul_f64(rng.random_range(0.1..1.0)));
            if let Some(status) = child.try_wait().unwrap() {
                assert!(status.success(), "{step}");
                workshop.complete(step, &name(runs));
                runs += 1;
                most = most.mul_f64(0.7);
                continue;
            }
            child.kill().unwrap();
            child.wait().unwrap();
            kills += 1;
            kept += usize::from(workshop.has_checkpoint(&name(runs)));
        }
        workshop.complete(step, &name(runs));
        assert!(kept > 0, "{step}: no kill left a checkpoint to go on from");
    }
}

#[test]
fn killed_while_it_wrote_its_first_record_every_step_begins_again_when_it_is_resumed() {
    let workshop = &*WORKSHOP;
    for step in STEPS {
        let name = format!("{step}-killed-first");
        std::fs::create_dir_all(workshop.out(&name)).unwrap();
        for (file, holds) in
            [(".lea-lock", ""), ("resume.json.5577006791947779410.tmp", "{\"format\": \"lea")]
        {
            std::fs::write(workshop.out(&name).join(file), holds).unwrap();
        }
        workshop.complete(step, &name);
    }
}

#[test]
fn ctrl_c_stops_every_step_soon_and_says_how_to_go_on() {
    let workshop = &*WORKSHOP;
    for (i, step) in STEPS.into_iter().enumerate() {
        let name = format!("{step}-interrupted");
        let child = workshop.stopped(step, &name);
        signal(&child, if i % 2 == 0 { "INT" } else { "TERM" });
        signal(&child, "CONT");
        let start = Instant::now();
        let output = child.wait_with_output().unwrap();
        assert!(start.elapsed() < Duration::from_secs(2), "{step}: {:?}", start.elapsed());
        let message = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(130), "{step}: {message}");
        assert!(message.contains("interrupted: ") && message.contains("--resume"), "{message}");
        assert!(workshop.has_checkpoint(&name), "{step}");
        workshop.complete(step, &name);
    }
}

#[test]
fn amid_a_long_operation_ctrl_c_ends_a_step_soon_and_says_what_is_lost() {
    let workshop = &*WORKSHOP;
    // Consistent points until one that takes for ever, and what is there to go on from then.
    for (step, points, told) in [
        ("pretrain", "0", "amid a long operation, before its first checkpoint: it will begin again"),
        ("fit", "2", "since checkpoint-fit.safetensors was written, "),
    ] {
        let name = format!("{step}-ended-{points}");
        let more = ["--resume", "--checkpoint-every", "0", "--stall-after", points];
        let mut command = workshop.command(step, &name, &more);
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        // The longest that it takes to that point, several times over.
        std::thread::sleep(workshop.time(step).mul_f64(3.0));
        assert!(child.try_wait().unwrap().is_none(), "{step} did not stall");
        signal(&child, "INT");
        let start = Instant::now();
        let output = child.wait_with_output().unwrap();
        assert!(start.elapsed() < Duration::from_secs(2), "{step}: {:?}", start.elapsed());
        let message = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(130), "{step}: {message}");
        assert!(message.contains(told) && message.contains("--resume"), "{step}: {message}");
        assert_eq!(workshop.has_checkpoint(&name), points != "0", "{step}");
        workshop.complete(step, &name);
    }
}

#[test]
fn a_run_goes_on_only_as_itself_alone_and_in_its_place() {
    let workshop = &*WORKSHOP;
    let refused = |step: &str, name: &str, more: &[&str]| {
        refusal(&workshop.command(step, name, more).output().unwrap())
    };
    // A second run in the folder of one that is under way.
    for (step, name) in [("train", "busy"), ("run", "busy-run")] {
        let child = workshop.stopped(step, name);
        for start in [&["--resume"][..], &["--overwrite"], &[]] {
            let message = refused(step, name, start);
            assert!(message.contains("another run of lea is writing"), "{step}: {message}");
        }
        signal(&child, "KILL");
        child.wait_with_output().unwrap();
        assert!(refused(step, name, &[]).contains("unfinished run"), "{step}");
    }
    workshop.complete("run", "busy-run");
    // Another configuration or model than it was started with, then other data.
    let other = |step: &str, name: &str, more: &[&str], field: &str| {
        let message = refused(step, name, &[more, &["--resume"]].concat());
        assert!(message.contains(&format!("run.{field}")) && message.contains("this one has"), "{message}");
    };
    other("train", "busy", &["--width", "8"], "settings.width");
    let mut other_data = Command::new(env!("CARGO_BIN_EXE_lea"));
    other_data.args(["train", "--config", "../c.toml", "--data", "../others", "--out", "out", "--resume"]);
    let base = refusal(&other_data.current_dir(workshop.path("busy")).output().unwrap());
    assert!(base.contains("run.settings") && base.contains("this one has"), "{base}");
    workshop.complete("train", "busy");
    other("run", "run", &["--seeds", "5,6"], "settings.plan.seeds");
    other("run", "run", &["--decoder", "out/decoder"], "decoder");
    // A finished run is left alone.
    let written = |name: &str| std::fs::metadata(workshop.out("run").join(name)).unwrap().modified().unwrap();
    let before = ["resume.json", "metrics.json", "run.json"].map(written);
    let told = succeed(&workshop.command("run", "run", &["--resume"]).output().unwrap());
    assert!(told.contains("finished"), "{told}");
    assert_eq!(before, ["resume.json", "metrics.json", "run.json"].map(written));
    // A folder that vanishes is not made again.
    let child = workshop.stopped("items", "gone");
    std::fs::rename(workshop.out("gone"), workshop.path("moved")).unwrap();
    signal(&child, "CONT");
    let message = refusal(&child.wait_with_output().unwrap());
    assert!(message.contains("was moved or removed") && !workshop.out("gone").exists(), "{message}");
}

/// A folder of its own with what the finished `step` wrote.
fn copied(step: &str, name: &str) {
    let workshop = &*WORKSHOP;
    std::fs::create_dir_all(workshop.path(name)).unwrap();
    let copy = Command::new("cp").arg("-rp").arg(workshop.out(step)).arg(workshop.out(name)).status();
    assert!(copy.unwrap().success());
}

#[test]
fn a_finished_run_of_which_a_file_is_gone_makes_it_again_and_says_so() {
    let workshop = &*WORKSHOP;
    for (step, gone) in [
        ("pretrain", "model.safetensors"),
        ("items", "item_tokens.safetensors"),
        ("fit", "adapter_model.safetensors"),
        ("fit", "le.json"),
        ("train", "recommender.safetensors"),
        ("train", "report.json"),
        ("train", "metrics.jsonl"),
    ] {
        let name = format!("{step}-without-{gone}");
        copied(step, &name);
        let file = workshop.out(&name).join(gone);
        if gone == "model.safetensors" {
            let was = file.metadata().unwrap().len();
            std::fs::write(&file, &std::fs::read(&file).unwrap()[..1000]).unwrap();
            let told = workshop.complete(step, &name);
            assert!(told.contains(&format!("{gone} has 1000 bytes, was {was}")), "{step}: {told}");
        }
        std::fs::remove_file(file).unwrap();
        let told = workshop.complete(step, &name);
        assert!(told.contains(&format!("{gone} is gone")), "{step}: {told}");
        let told = workshop.complete(step, &name);
        assert!(told.contains("nothing is to be done"), "{step}: {told}");
    }
}

#[test]
fn a_finished_whole_run_of_which_a_file_is_gone_does_only_what_made_it_again() {
    let workshop = &*WORKSHOP;
    let name = "run-without";
    copied("run", name);
    let written = |file: &str| std::fs::metadata(workshop.out(name).join(file)).unwrap().modified().unwrap();
    // What is gone, and what is written again then: the stage that made it and those that follow it.
    let stages = [
        "data/items.tsv",
        "decoder/model.safetensors",
        "le/adapter_model.safetensors",
        "labels/labels-00000-of-00001.safetensors",
        "rec/gru4rec-snqn-lea-seed5.safetensors",
        "metrics.json",
    ];
    for (gone, again) in [
        (stages[0], &["data/items.tsv"][..]),
        (stages[1], &stages[1..4]),
        (stages[2], &stages[2..4]),
        ("le/split.json", &stages[2..4]),
        ("le.jsonl", &stages[1..4]),
        (stages[3], &stages[3..4]),
        ("labels/manifest.json", &[]),
        (stages[4], &stages[4..5]),
        ("rec/gru4rec-snqn-lea-seed5.jsonl", &stages[4..5]),
        ("metrics.json", &[]),
        ("report.html", &[]),
        ("run.json", &[]),
        ("split.json", &[]),
    ] {
        let before = stages.map(written);
        std::fs::remove_file(workshop.out(name).join(gone)).unwrap();
        let told = workshop.complete("run", name);
        assert!(told.contains(&format!("{gone} is gone")), "{told}");
        assert!(workshop.out(name).join(gone).is_file());
        for (stage, before) in stages.iter().zip(before).take(5) {
            let same = before == written(stage);
            let expected = *stage == gone || again.contains(stage);
            // Labels of the same LE are taken over, whatever their record says.
            assert!(same != expected || stage.starts_with("labels/"), "without {gone}: {stage}");
        }
        assert!(workshop.complete("run", name).contains("nothing is to be done"));
    }
}

#[test]
fn a_run_that_replaces_another_removes_what_that_wrote_and_nothing_else() {
    let workshop = &*WORKSHOP;
    let (name, out) = ("replaced", workshop.out("replaced"));
    copied("run", name);
    // What it reads is not removed.
    let decoder = ["--decoder", "out/decoder", "--overwrite"];
    let message = refusal(&workshop.command("run", name, &decoder).output().unwrap());
    assert!(message.contains("which it would replace"), "{message}");
    assert!(out.join("decoder/model.safetensors").exists());

    let mine = ["rec/mine.txt", "labels/notes.txt", "labels/labels-mine.csv"];
    mine.iter().for_each(|file| std::fs::write(out.join(file), "x").unwrap());
    let other = ["--overwrite", "--labels", "../run/out/labels", "--seeds", "6"];
    succeed(&workshop.command("run", name, &other).output().unwrap());
    let mut names: Vec<String> = std::fs::read_dir(out.join("rec"))
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    let of = |variant: &str, end: &str| format!("gru4rec-snqn-{variant}-seed6.{end}");
    let pair = |variant| [of(variant, "jsonl"), of(variant, "safetensors")];
    assert_eq!(names, [&pair("base")[..], &pair("lea"), &["mine.txt".to_string()]].concat());
    assert!(!out.join("decoder").exists() && !out.join("le").exists());
    assert_eq!(files_below(&out.join("labels")).len(), 2);
    assert!(mine.iter().all(|file| out.join(file).exists()));
}

#[test]
fn every_file_that_a_step_writes_is_on_the_list_by_which_it_is_removed() {
    for step in STEPS {
        let out = WORKSHOP.out(step);
        let record = std::fs::read_to_string(out.join("resume.json")).unwrap();
        let record: serde_json::Value = serde_json::from_str(&record).unwrap();
        let outputs = record["outputs"].as_array().unwrap();
        let listed = |file: &str| {
            // A question mark stands for a digit.
            let fits = |pattern: &str| {
                let same = |(a, b): (u8, u8)| a == b || b == b'?' && a.is_ascii_digit();
                file.len() == pattern.len() && file.bytes().zip(pattern.bytes()).all(same)
            };
            outputs.iter().any(|pattern| match pattern.as_str().unwrap().split_once('*') {
                Some((start, end)) => file.starts_with(start) && file.ends_with(end),
                None => fits(pattern.as_str().unwrap()),
            })
        };
        let files = files_below(&out);
        assert!(files.contains(&"run.json".to_string()), "{step}: {files:?}");
        for file in files.iter().filter(|file| ![".lea-lock", "resume.json"].contains(&&file[..])) {
            assert!(listed(file), "{step}: {file}");
        }
    }
}

#[test]
fn a_disk_that_is_full_leaves_no_half_file_under_its_name_and_the_run_goes_on_later() {
    let workshop = &*WORKSHOP;
    // Blocks of 512 bytes that a file may have, and what is larger: with a checkpoint at every step, and with few.
    let cases = [
        ("train", 12, ["checkpoint-train.safetensors", "checkpoint-train.safetensors"]),
        ("fit", 12, ["checkpoint-fit.safetensors", "checkpoint-fit.safetensors"]),
        ("items", 8, ["checkpoint-items.safetensors", "checkpoint-items.safetensors"]),
        ("pretrain", 12, ["checkpoint-pretrain.safetensors", "model.safetensors"]),
        ("run", 12, ["interactions.tsv", "interactions.tsv"]),
        ("run", 40, ["checkpoint-pretrain.safetensors", "model.safetensors"]),
    ];
    for (step, blocks, too_large) in cases {
        let name = format!("{step}-full-{blocks}");
        let whole = results(&workshop.out(step));
        for (every, too_large) in ["0", "1000"].into_iter().zip(too_large) {
            let limited = workshop.command(step, &name, &["--resume", "--checkpoint-every", every]);
            let script = format!("trap '' XFSZ; ulimit -f {blocks}; exec \"$@\"");
            let mut shell = Command::new("sh");
            shell.args(["-c", &script, "sh", env!("CARGO_BIN_EXE_lea")]).args(limited.get_args());
            let message = refusal(&shell.current_dir(workshop.path(&name)).output().unwrap());
            assert!(message.contains(too_large) && message.contains("ulimit -f"), "{step}: {message}");
            let left = results(&workshop.out(&name));
            // A checkpoint may be there from before, when it was smaller: the run goes on from it.
            let checkpoint = |file: &str| file.starts_with("checkpoint-") && file.ends_with(".safetensors");
            let absent = !left.keys().any(|file| file.ends_with(too_large));
            assert!(checkpoint(too_large) || absent, "{step}: {too_large}");
            for (file, bytes) in
                left.iter().filter(|(file, _)| !file.ends_with(".jsonl") && !checkpoint(file))
            {
                // The mark of an import that is not finished says so itself.
                let mark = String::from_utf8_lossy(bytes).contains("lea-dataset-unfinished");
                assert!(mark || whole.get(file) == Some(bytes), "{step}: {file} is half a file");
            }
            assert!(!workshop.out(&name).join("report.json").exists(), "{step}");
        }
        workshop.complete(step, &name);
    }
}

#[test]
fn an_output_folder_that_cannot_be_written_is_told() {
    let workshop = &*WORKSHOP;
    let refused = |out: &str| {
        let train = ["train", "--data", "data", "--out", out];
        let mut command = Command::new(env!("CARGO_BIN_EXE_lea"));
        refusal(&command.args(train).current_dir(workshop.path("")).output().unwrap())
    };
    std::fs::write(workshop.path("file"), "x").unwrap();
    assert!(refused("file/out").contains("something else stands there"));
    let locked = workshop.path("locked");
    std::fs::create_dir(&locked).unwrap();
    std::fs::set_permissions(&locked, std::os::unix::fs::PermissionsExt::from_mode(0o555)).unwrap();
    if std::fs::write(locked.join("probe"), "").is_ok() {
        skip::skipped(format_args!("this user may write to a read-only folder"));
        return;
    }
    assert!(refused("locked").contains("give yourself the right to it"));
}
