//! Steps that fill a disk to its last page end with a message and no half file, and go on to the bytes of an undisturbed
//! run once there is room. The disk is a tmpfs in a mount namespace of its own, which goes with the shell that made it.
#![cfg(target_os = "linux")]

mod label_run;
mod skip;

use label_run::{Workshop, lea};
use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

/// Runs the program `$5…` into the folder `$1`, on a disk of `$2` bytes; what it left is copied to `$3`. Then makes room
/// and runs it again with `--resume`; what is there then is copied to `$4`.
const SCRIPT: &str = r#"
disk=$1 size=$2 left=$3 done=$4
shift 4
mount -t tmpfs -o size="$size" tmpfs "$disk" || exit 77
"$@"
code=$?
cp -r "$disk" "$left" || exit 78
mount -o remount,size=256m "$disk" || exit 79
"$@" --resume || exit 80
cp -r "$disk" "$done" || exit 78
exit $code
"#;

/// The words ahead of a command that may mount, as root or where users may have namespaces; `None` where neither is so.
fn namespace(dir: &Path) -> Option<&'static [&'static str]> {
    let ways: [&[&str]; 2] = [&["unshare", "-m"], &["unshare", "-rm"]];
    ways.into_iter().find(|way| {
        let probe = Command::new(way[0])
            .args(&way[1..])
            .args([
                "sh",
                "-c",
                "mount -t tmpfs -o size=64k tmpfs \"$1\" && mount -o remount,size=1m \"$1\"",
                "sh",
            ])
            .arg(dir)
            .output();
        probe.is_ok_and(|output| output.status.success())
    })
}

/// Every file in `dir` and its bytes, but those that tell how long something took.
fn files(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let timed = ["run.json", "report.json", "resume.json", "metrics.jsonl"];
    let entries = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap());
    let named = entries.map(|entry| (entry.file_name().into_string().unwrap(), entry.path()));
    let wanted = named.filter(|(name, _)| !timed.contains(&&name[..]) && name != ".lea-lock");
    wanted.map(|(name, path)| (name, std::fs::read(path).unwrap())).collect()
}

#[test]
fn a_disk_that_fills_at_any_point_leaves_no_half_file_and_the_run_goes_on_once_there_is_room() {
    let workshop = Workshop::new(100);
    let disk = workshop.path("disk");
    std::fs::create_dir(&disk).unwrap();
    let Some(way) = namespace(&disk) else {
        skip::skipped("no tmpfs can be mounted here: neither by root nor in a namespace of the user's own");
        return;
    };
    std::fs::write(workshop.path("t.toml"), "[rec]\nwidth = 16\nepochs = 3\nnegatives = 3\n").unwrap();
    let common = ["--data", "data", "--checkpoint-every", "0"];
    let with = |more: &[&'static str]| [more, &common].concat();
    let steps = [
        (
            "labels",
            with(&["label", "--config", "c.toml", "--decoder", "decoder", "--le", "le", "--files", "3"]),
        ),
        ("pretrain", with(&["pretrain", "--config", "c.toml"])),
        ("fit", with(&["fit", "--config", "c.toml", "--decoder", "decoder", "--item-tokens", "items"])),
        ("train", with(&["train", "--config", "t.toml", "--labels", "labels", "--variant", "lea"])),
    ];
    for (step, args) in steps {
        workshop.run(&[&args[..], &["--out", step]].concat());
        let whole = files(&workshop.path(step));
        let bytes: usize = whole.values().map(Vec::len).sum();
        for tenths in [2, 6, 9] {
            let [left, done] = ["left", "done"].map(|end| workshop.path(&format!("{step}-{tenths}-{end}")));
            let mut command = Command::new(way[0]);
            command.args(&way[1..]).args(["sh", "-c", SCRIPT, "sh"]).arg(&disk);
            command.arg((bytes * tenths / 10).to_string()).args([&left, &done]);
            let program = lea(&[&args[..], &["--out", "disk"]].concat());
            command.arg(program.get_program()).args(program.get_args());
            let output = command.current_dir(workshop.path("")).output().unwrap();
            let told = String::from_utf8_lossy(&output.stderr);
            let case = format!("{step} on {tenths} tenths of {bytes} bytes: {told}");
            assert_eq!(output.status.code(), Some(1), "{case}");
            assert!(told.contains("No space left on device"), "{case}");
            assert!(told.contains("free some space and give the same command with --resume"), "{case}");
            // Journals and logs grow; a checkpoint is of another moment. All else is whole or not there.
            let grows = |name: &str| name.starts_with("checkpoint-") || name.ends_with(".part");
            for (name, bytes) in files(&left).into_iter().filter(|(name, _)| !grows(name)) {
                assert!(!name.ends_with(".tmp"), "{case}: {name} was left");
                assert!(whole.get(&name) == Some(&bytes), "{case}: {name} is half a file");
            }
            assert!(files(&done) == whole, "{case}: other bytes after it was resumed");
        }
    }
}
