//! `lea data` as a user runs it: what it prints, how it ends, what it leaves on disk.

use std::path::Path;
use std::process::{Command, Output};

fn lea(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_lea")).args(args).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn entries(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn a_synthetic_data_set_is_made_imported_and_described() {
    let dir = tempfile::tempdir().unwrap();
    let [made, imported] =
        ["made", "imported"].map(|name| dir.path().join(name).to_str().unwrap().to_string());
    let synth =
        lea(&["data", "synth", "--out", &made, "--items", "60", "--users", "30", "--mean-length", "6"]);
    assert!(synth.status.success(), "{}", text(&synth.stderr));
    assert_eq!(entries(Path::new(&made)), [".lea-lock", "dataset.json", "interactions.tsv", "items.tsv"]);
    let import =
        lea(&["data", "import", "--data", &made, "--out", &imported, "--text", "kind,mood", "--core", "2"]);
    assert!(import.status.success(), "{}", text(&import.stderr));
    assert!(text(&import.stderr).contains("outside the k-core"));
    let stats = lea(&["data", "stats", "--data", &imported, "--json"]);
    let stats: serde_json::Value = serde_json::from_slice(&stats.stdout).unwrap();
    assert_eq!(stats["text"], serde_json::json!(["kind", "mood"]));
    assert_eq!(stats["mean_words"], 2.0);
    assert_eq!(stats["items"], stats["items_met"]);
    let again = lea(&["data", "synth", "--out", &made]);
    assert_eq!(again.status.code(), Some(1));
    assert!(text(&again.stderr).starts_with("error: the output folder"), "{}", text(&again.stderr));
}

#[test]
fn bad_input_gives_one_error_line_with_place_and_leaves_no_output() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    let table = dir.path().join("interactions.tsv");
    let cases: [(&[u8], &str); 5] = [
        (b"", "line 1: the file is empty"),
        (b"user_id\titem_id\n1\t2\n", "line 1: no column called position"),
        (b"user_id\titem_id\tposition\n1\t2\tx\n", "line 2: position \"x\" is not a number"),
        (b"user_id\titem_id\tposition\n1\t2\n", "line 2: 2 columns where the header has 3"),
        (b"user_id\titem_id\tposition\n1\t\xc3\x28\t1\n", "line 2: byte 3 of the line is not UTF-8"),
    ];
    for (bytes, expected) in cases {
        std::fs::write(&table, bytes).unwrap();
        let run = lea(&["data", "import", "--data", table.to_str().unwrap(), "--out", out.to_str().unwrap()]);
        let message = text(&run.stderr);
        assert_eq!(run.status.code(), Some(1), "{message}");
        assert!(message.starts_with("error: ") && message.lines().count() == 1, "{message}");
        assert!(message.contains("interactions.tsv") && message.contains(expected), "{message}");
        assert!(!out.exists());
    }
}

#[test]
fn no_data_command_replaces_its_own_source_or_a_folder_that_is_not_an_import() {
    let dir = tempfile::tempdir().unwrap();
    let raw = dir.path().join("raw");
    std::fs::create_dir(&raw).unwrap();
    let table = "user_id\titem_id\tposition\n1\t2\t0\n";
    std::fs::write(raw.join("interactions.tsv"), table).unwrap();
    let path = raw.to_str().unwrap();
    let detour = dir.path().join("raw/../raw");
    let cases: [(&[&str], &str); 2] = [
        (&["import", "--data", path, "--out", detour.to_str().unwrap()], "is itself read from that folder"),
        (&["synth", "--items", "60", "--users", "20", "--out", path], "it holds no dataset.json"),
    ];
    for (args, expected) in cases {
        let run = lea(&[&["data"], args, &["--overwrite"]].concat());
        let message = text(&run.stderr);
        assert_eq!(run.status.code(), Some(1), "{message}");
        assert!(message.contains(expected) && message.contains("name another folder"), "{message}");
        assert_eq!(entries(&raw), ["interactions.tsv"]);
        assert_eq!(std::fs::read_to_string(raw.join("interactions.tsv")).unwrap(), table);
    }
}

#[test]
#[cfg(unix)]
fn an_import_that_is_killed_is_known_as_such_and_can_be_replaced_by_one_writer() {
    use std::os::unix::process::ExitStatusExt;
    let dir = tempfile::tempdir().unwrap();
    let [whole, killed] = ["whole", "killed"].map(|name| dir.path().join(name));
    let synth = |out: &Path| {
        ["data", "synth", "--items", "60", "--users", "300", "--out", out.to_str().unwrap()].map(String::from)
    };
    let run = |more: &[&str]| {
        let args = synth(&killed);
        lea(&args.iter().map(String::as_str).chain(more.iter().copied()).collect::<Vec<_>>())
    };
    assert!(lea(&synth(&whole).each_ref().map(String::as_str)).status.success());
    // The kernel kills it at a size that the items' table does not reach and the log does.
    let sizes = ["items.tsv", "interactions.tsv"].map(|name| whole.join(name).metadata().unwrap().len());
    assert!(sizes[0] < 16 * 512 && sizes[1] > 32 * 1024, "{sizes:?}");
    let mut shell = Command::new("sh");
    shell.args(["-c", "ulimit -c 0; ulimit -f 16; exec \"$@\"", "sh", env!("CARGO_BIN_EXE_lea")]);
    let status = shell.args(synth(&killed)).output().unwrap().status;
    assert!(status.signal().is_some(), "{status}");
    let left = entries(&killed);
    assert_eq!(left.len(), 4, "{left:?}");
    assert!(left[2].starts_with("interactions.tsv.") && left[2].ends_with(".tmp"), "{left:?}");
    let refused = |output: Output, expected: &str| {
        let message = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{message}");
        assert!(message.contains(expected), "{message}");
    };
    let stats = lea(&["data", "stats", "--data", killed.to_str().unwrap()]);
    refused(stats, "never written to its end; import the data again with --overwrite");
    refused(run(&[]), "pass --overwrite");
    let lock = std::fs::File::open(killed.join(".lea-lock")).unwrap();
    lock.lock().unwrap();
    refused(run(&["--overwrite"]), "another run of lea is writing");
    assert_eq!(entries(&killed), left);
    drop(lock);
    assert!(run(&["--overwrite"]).status.success());
    assert_eq!(entries(&killed), entries(&whole));
    for name in entries(&whole) {
        assert!(
            std::fs::read(whole.join(&name)).unwrap() == std::fs::read(killed.join(&name)).unwrap(),
            "{name}"
        );
    }
}
