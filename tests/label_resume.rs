//! Label runs that are interrupted in every way go on to the bytes of an undisturbed one.
#![cfg(unix)]

mod label_run;
mod skip;

use label_run::{Workshop, labels, lea, refusal};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const FILES: [&str; 2] = ["--files", "3"];

struct Runs {
    workshop: Workshop,
    /// Of an undisturbed run.
    whole: BTreeMap<String, Vec<u8>>,
    /// How long it took.
    time: Duration,
}

impl Runs {
    fn new() -> Self {
        let workshop = Workshop::new(100);
        let start = Instant::now();
        workshop.run(&workshop.label("whole", &FILES));
        Runs { whole: labels(&workshop.path("whole")), time: start.elapsed(), workshop }
    }

    fn start(&self, out: &str) -> Child {
        let args = self.workshop.label(out, &[&FILES[..], &["--resume"]].concat());
        let mut command = lea(&args);
        command
            .current_dir(self.workshop.path(""))
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    }

    /// Goes on with the run in `out` to its end and compares.
    fn complete(&self, out: &str) {
        self.workshop.run(&self.workshop.label(out, &[&FILES[..], &["--resume"]].concat()));
        assert!(labels(&self.workshop.path(out)) == self.whole, "{out} has other bytes");
        let log = |out: &str| std::fs::read(self.workshop.path(out).join("metrics.jsonl")).unwrap();
        assert!(log(out) == log("whole"), "records of {out} are doubled or lost");
    }

    /// Starts a run and stops it, as by Ctrl-Z, once it has begun a file.
    fn stopped(&self, out: &str) -> Child {
        stop_once_there(self.start(out), &self.workshop.path(out), ".part")
    }
}

/// Stops `child`, as by Ctrl-Z, once a file whose name ends with `end` is in `dir`.
fn stop_once_there(child: Child, dir: &Path, end: &str) -> Child {
    let there = || {
        let names = std::fs::read_dir(dir).into_iter().flatten().flatten();
        names.map(|e| e.file_name()).any(|n| n.to_string_lossy().ends_with(end))
    };
    let patience = Instant::now();
    while !there() {
        assert!(patience.elapsed() < Duration::from_secs(60), "no {end} was begun");
        std::thread::sleep(Duration::from_millis(1));
    }
    signal(&child, "STOP");
    child
}

fn signal(child: &Child, name: &str) {
    let sent = Command::new("kill").args([&format!("-{name}"), &child.id().to_string()]).status().unwrap();
    assert!(sent.success(), "{name}");
}

#[test]
fn killed_at_any_moment_and_resumed_the_labels_have_the_bytes_of_an_undisturbed_run() {
    let runs = Runs::new();
    let mut rng = ChaCha8Rng::seed_from_u64(11);
    let (mut killed, mut kept, mut out) = (0, 0, 0);
    // Where the machine is busy, many are killed before they have labels.
    while killed < 20 || (kept <= 5 && killed < 100) {
        let name = format!("killed-{out}");
        let mut child = runs.start(&name);
        std::thread::sleep(runs.time.mul_f64(rng.random_range(0.1..1.0)));
        let ended = child.try_wait().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        if let Some(status) = ended {
            assert!(status.success());
        } else {
            killed += 1;
            let dir = runs.workshop.path(&name);
            let files = if dir.exists() { labels(&dir) } else { Default::default() };
            kept += usize::from(files.keys().any(|file| file.starts_with("labels-")));
            if !rng.random_bool(0.4) {
                continue;
            }
        }
        runs.complete(&name);
        out += 1;
    }
    runs.complete(&format!("killed-{out}"));
    assert!(kept > 5, "only {kept} of {killed} kills left anything to go on with");
}

#[test]
fn killed_while_it_wrote_its_first_record_a_run_or_a_shard_begins_again_when_it_is_resumed() {
    let runs = Runs::new();
    let left = |dir: &str, files: &[&str]| {
        std::fs::create_dir_all(runs.workshop.path(dir)).unwrap();
        files.iter().for_each(|file| std::fs::write(runs.workshop.path(dir).join(file), "{\"for").unwrap());
    };
    left("first", &[".lea-lock", "resume.json.5577006791947779410.tmp"]);
    runs.complete("first");
    let half = "shard-00001-of-00001-resume.json.5577006791947779410.tmp";
    left("shard", &[".lea-lock", ".lea-shard-00001-of-00001-lock", half]);
    let shard = ["--files", "3", "--shard", "1/1", "--resume"];
    runs.workshop.run(&runs.workshop.label("shard", &shard));
    assert!(!runs.workshop.path("shard").join(half).exists());
}

#[test]
fn ctrl_c_stops_a_run_soon_and_says_how_to_go_on() {
    let runs = Runs::new();
    for name in ["INT", "TERM"] {
        let child = runs.stopped(name);
        signal(&child, name);
        signal(&child, "CONT");
        let start = Instant::now();
        let output = child.wait_with_output().unwrap();
        assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
        let message = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(130), "{message}");
        assert!(message.contains("interrupted: ") && message.contains("--resume"), "{message}");
        runs.complete(name);
    }
}

#[test]
fn amid_a_long_pack_ctrl_c_ends_a_run_soon_and_says_what_is_lost() {
    let runs = Runs::new();
    let args = runs.workshop.label("ended", &[&FILES[..], &["--resume", "--stall-after", "2"]].concat());
    let mut command = lea(&args);
    let child = command.current_dir(runs.workshop.path("")).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = child.spawn().unwrap();
    std::thread::sleep(runs.time.mul_f64(2.0));
    assert!(child.try_wait().unwrap().is_none(), "it did not stall");
    signal(&child, "INT");
    let start = Instant::now();
    let output = child.wait_with_output().unwrap();
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
    let message = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(130), "{message}");
    assert!(message.contains("what is not in labels-00000-of-00003.part yet is lost"), "{message}");
    runs.complete("ended");
}

#[test]
fn a_run_that_is_ended_while_the_le_is_judged_goes_on_judging_to_the_same_bytes() {
    let workshop = Workshop::new(100);
    // Other candidates than at the training: it has to be judged again.
    let judged = |out| workshop.label(out, &["--candidates", "9", "--pack-tokens", "100", "--resume"]);
    workshop.run(&judged("whole"));
    for (name, status) in [("KILL", None), ("INT", Some(130))] {
        let mut command = lea(&[&judged(name)[..], &["--checkpoint-every", "0"]].concat());
        let child = command.current_dir(workshop.path("")).stdout(Stdio::null()).stderr(Stdio::piped());
        let child =
            stop_once_there(child.spawn().unwrap(), &workshop.path(name), "checkpoint-judge.safetensors");
        signal(&child, name);
        signal(&child, "CONT");
        let start = Instant::now();
        let output = child.wait_with_output().unwrap();
        assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
        let message = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), status, "{message}");
        assert!(status.is_none() || message.contains("interrupted: judging the LE"), "{message}");
        assert!(labels(&workshop.path(name)).is_empty(), "it was not ended amid judging");
        workshop.run(&judged(name));
        assert!(labels(&workshop.path(name)) == labels(&workshop.path("whole")), "{name}");
        assert!(!workshop.path(name).join("checkpoint-judge.safetensors").exists());
    }
}

#[test]
fn a_folder_has_one_writer_and_a_run_goes_on_only_as_itself() {
    let runs = Runs::new();
    let workshop = &runs.workshop;
    let child = runs.stopped("out");
    for more in [&["--resume"][..], &["--overwrite"], &[]] {
        let second = workshop.refused(&workshop.label("out", &[&FILES[..], more].concat()));
        assert!(
            second.contains("another run of lea is writing") || second.contains("unfinished run"),
            "{second}"
        );
    }
    signal(&child, "KILL");
    signal(&child, "CONT");
    child.wait_with_output().unwrap();
    let part = labels(&workshop.path("out")).into_keys().find(|name| name.ends_with(".part")).unwrap();
    let part = std::fs::OpenOptions::new().append(true).open(workshop.path("out").join(part));
    part.unwrap().write_all(&[7; 10]).unwrap();
    for (more, message) in [
        (&["--seed", "4"][..], "seed"),
        (&["--candidates", "9"], "labelling.settings.candidates"),
        (&["--files", "4"], "files"),
    ] {
        let mut args = workshop.label("out", &["--resume"]);
        if !more.contains(&"--files") {
            args.extend(FILES);
        }
        args.extend(more);
        let refused = workshop.refused(&args);
        assert!(refused.contains(message) && refused.contains("this one has"), "{refused}");
    }
    let args = workshop.label("out", &[&FILES[..], &["--resume"]].concat());
    let output = lea(&args).current_dir(workshop.path("")).output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(told.contains(".part: cut off a torn end of ") && told.contains("labelled again"), "{told}");
    runs.complete("out");
    // Finished: nothing is done and nothing is touched.
    let told = workshop.run(&workshop.label("out", &[&FILES[..], &["--resume"]].concat()));
    assert!(told.contains("finished"), "{told}");
}

/// A bit of the byte at `at` of the file turned over.
fn damage(path: &Path, at: usize) {
    let mut bytes = std::fs::read(path).unwrap();
    bytes[at] ^= 4;
    std::fs::write(path, bytes).unwrap();
}

#[test]
fn what_the_disk_damaged_of_an_unfinished_run_is_told_and_labelled_again_and_nothing_else_is() {
    let runs = Runs::new();
    let whole = &runs.workshop.path("whole");
    let blocks = |part: &Path| {
        let bytes = std::fs::read(part).unwrap();
        (bytes.iter().position(|&byte| byte == b'\n').unwrap() + 1, bytes.len())
    };
    let mut within = 0;
    for attempt in 0..20 {
        let name = format!("damaged-{attempt}");
        let mut child = runs.start(&name);
        std::thread::sleep(runs.time.mul_f64(0.3 + 0.03 * f64::from(attempt)));
        if child.try_wait().unwrap().is_some() {
            // It came to its end: a finished run is another matter.
            continue;
        }
        child.kill().unwrap();
        child.wait().unwrap();
        let out = runs.workshop.path(&name);
        let files = labels(&out);
        if files == labels(whole) {
            // The same, a moment before its process ended.
            continue;
        }
        // One without its record is not finished: its journal is still there.
        let recorded = |name: &&String| files.contains_key(&name.replace(".safetensors", ".json"));
        let finished = files.keys().filter(|name| name.ends_with(".safetensors")).find(recorded);
        let part = files.keys().find(|name| name.ends_with(".part"));
        if let Some(file) = finished {
            damage(&out.join(file), files[file].len() - 9);
        }
        // Amid the first of several blocks.
        if let Some(part) = part.map(|part| out.join(part)).filter(|part| part.metadata().unwrap().len() > 0)
        {
            let (head, length) = blocks(&part);
            if length > head {
                damage(&part, head + (length - head) / 3);
            }
        }
        let args = runs.workshop.label(&name, &[&FILES[..], &["--resume"]].concat());
        let output = lea(&args).current_dir(runs.workshop.path("")).output().unwrap();
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{told}");
        assert!(finished.is_none() || told.contains("the users of the file are labelled again"), "{told}");
        within += usize::from(
            finished.is_some() && told.contains(".part: damaged at byte ") && told.contains("ahead of step"),
        );
        assert!(labels(&out) == labels(whole), "{name} has other bytes");
        if within > 1 {
            return;
        }
    }
    panic!("no kill left a finished file and a part of several blocks");
}

#[test]
fn a_shard_has_one_writer_and_lets_other_shards_in() {
    let runs = Runs::new();
    let workshop = &runs.workshop;
    let shard = |number, more: &[&'static str]| {
        workshop.label("shards", &[&["--files", "4", "--shard", number], more].concat())
    };
    let mut command = lea(&shard("1/2", &["--resume"]));
    let command = command.current_dir(workshop.path("")).stdout(Stdio::null()).stderr(Stdio::piped());
    let child = stop_once_there(command.spawn().unwrap(), &workshop.path("shards"), ".part");
    let whole = workshop.label("shards", &["--overwrite"]);
    for second in [shard("1/2", &["--resume"]), shard("1/2", &["--overwrite"]), whole] {
        let message = workshop.refused(&second);
        assert!(message.contains("another run of lea is writing"), "{second:?}: {message}");
    }
    // A shard that would write the same file, of another number of shards, leaves nothing behind.
    let message = workshop.refused(&shard("1/4", &["--resume"]));
    assert!(message.contains("00000-of-00004.part"), "{message}");
    let names = std::fs::read_dir(workshop.path("shards")).unwrap();
    let mut names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    assert!(names.all(|name| !name.contains("shard-00001-of-00004")));
    workshop.run(&shard("2/2", &[]));
    signal(&child, "CONT");
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    workshop.run(&["labels", "merge", "shards"]);
    workshop.run(&workshop.label("one", &["--files", "4"]));
    assert!(labels(&workshop.path("shards")) == labels(&workshop.path("one")));
}

#[test]
fn a_disk_that_is_full_leaves_no_file_under_its_name_and_the_run_goes_on_later() {
    let runs = Runs::new();
    let args = runs.workshop.label("full", &[&FILES[..], &["--resume"]].concat());
    // Larger than everything else that the run writes, smaller than a file of labels.
    let limited = |blocks: u32| {
        let mut shell = Command::new("sh");
        let script = format!("trap '' XFSZ; ulimit -f {blocks}; exec \"$@\"");
        shell
            .args(["-c", &script, "sh", env!("CARGO_BIN_EXE_lea")])
            .args(&args)
            .current_dir(runs.workshop.path(""));
        refusal(&shell.output().unwrap())
    };
    let message = limited(70);
    assert!(message.contains("labels-00000-of-00003.part") && message.contains("arge"), "{message}");
    let there: Vec<String> = labels(&runs.workshop.path("full")).into_keys().collect();
    assert_eq!(there, ["labels-00000-of-00003.part", "split.json"]);
    limited(70);
    runs.complete("full");
}

#[test]
fn an_output_folder_that_cannot_be_written_or_vanishes_is_told() {
    let runs = Runs::new();
    let workshop = &runs.workshop;
    let child = runs.stopped("gone");
    std::fs::rename(workshop.path("gone"), workshop.path("moved")).unwrap();
    signal(&child, "CONT");
    let message = refusal(&child.wait_with_output().unwrap());
    assert!(message.contains("was moved or removed"), "{message}");
    assert!(!workshop.path("gone").exists(), "the folder was made again");
    std::fs::write(workshop.path("file"), "x").unwrap();
    let message = workshop.refused(&workshop.label("file/labels", &[]));
    assert!(message.contains("something else stands there"), "{message}");
    let locked = workshop.path("locked");
    std::fs::create_dir(&locked).unwrap();
    std::fs::set_permissions(&locked, std::os::unix::fs::PermissionsExt::from_mode(0o555)).unwrap();
    if std::fs::write(locked.join("probe"), "").is_ok() {
        skip::skipped(format_args!("this user may write to a read-only folder"));
        return;
    }
    let message = workshop.refused(&workshop.label("locked", &[]));
    assert!(message.contains("give yourself the right to it"), "{message}");
}

#[test]
fn overwriting_leaves_files_that_only_look_like_labels() {
    let workshop = Workshop::new(20);
    let mine = ["labels-mine.csv", "labels-00000-of-00001.csv", "labels/notes.txt"];
    let write = |name: &str| std::fs::write(workshop.path("out").join(name), "x").unwrap();
    std::fs::create_dir_all(workshop.path("out/labels")).unwrap();
    mine.into_iter().for_each(write);
    for more in [&["--overwrite"][..], &["--overwrite"], &["--overwrite", "--files", "2"]] {
        workshop.run(&workshop.label("out", more));
        assert!(mine.iter().all(|name| workshop.path("out").join(name).exists()), "{more:?}");
    }
    assert!(!workshop.path("out/labels-00000-of-00001.json").exists());
    workshop.run(&workshop.label("shard", &["--shard", "1/1"]));
    std::fs::write(workshop.path("shard/labels-00000-of-00001.csv"), "x").unwrap();
    workshop.run(&workshop.label("shard", &["--shard", "1/1", "--overwrite"]));
    assert!(workshop.path("shard/labels-00000-of-00001.csv").exists());
}

#[test]
fn a_finished_run_whose_files_are_missing_makes_them_again() {
    let workshop = Workshop::new(20);
    workshop.run(&workshop.label("whole", &["--files", "2"]));
    let whole = labels(&workshop.path("whole"));
    for name in ["labels-00001-of-00002.safetensors", "labels-00000-of-00002.json", "manifest.json"] {
        std::fs::remove_file(workshop.path("whole").join(name)).unwrap();
        workshop.run(&workshop.label("whole", &["--files", "2", "--resume"]));
        assert!(labels(&workshop.path("whole")) == whole, "{name}");
    }
    let cut = |file: &str| {
        let path = workshop.path(file);
        std::fs::write(&path, &std::fs::read(&path).unwrap()[..100]).unwrap();
    };
    cut("whole/labels-00001-of-00002.safetensors");
    let told = workshop.run(&workshop.label("whole", &["--files", "2", "--resume"]));
    assert!(told.contains("labels-00001-of-00002.safetensors has 100 bytes, was "), "{told}");
    assert!(labels(&workshop.path("whole")) == whole);
    let shard = |number| workshop.label("shards", &["--shard", number, "--resume"]);
    ["1/2", "2/2"].iter().for_each(|number| drop(workshop.run(&shard(number))));
    cut("shards/labels-00001-of-00002.safetensors");
    assert!(workshop.run(&shard("2/2")).contains("has 100 bytes, was "));
    cut("shards/labels-00001-of-00002.json");
    assert!(workshop.run(&shard("2/2")).contains("labels-00001-of-00002.json has 100 bytes, was "));
    workshop.run(&["labels", "merge", "shards"]);
    assert!(labels(&workshop.path("shards")) == whole);
    for ending in ["safetensors", "json"] {
        std::fs::remove_file(workshop.path(&format!("shards/labels-00001-of-00002.{ending}"))).unwrap();
        assert!(workshop.run(&shard("1/2")).contains("finished"));
        workshop.run(&shard("2/2"));
        workshop.run(&["labels", "merge", "shards"]);
        assert!(labels(&workshop.path("shards")) == whole, "{ending}");
    }
}
