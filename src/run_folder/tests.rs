use super::*;

fn opening(dir: &Path, start: Start, seed: u64) -> Opening<'_> {
    let fingerprint = Fingerprint::new("test").with("seed", seed).unwrap();
    let outputs = vec!["result".to_string(), "rec/*.x".to_string()];
    Opening { outputs, ..Opening::new(dir, start, fingerprint) }
}

fn open(dir: &Path, start: Start, seed: u64) -> RunFolder {
    opening(dir, start, seed).open().unwrap().expect("the run is not finished")
}

fn refused(dir: &Path, start: Start, seed: u64) -> String {
    opening(dir, start, seed).open().unwrap_err().to_string()
}

#[test]
fn a_second_run_is_refused_while_the_first_holds_the_folder_and_no_longer() {
    let dir = tempfile::tempdir().unwrap();
    let first = open(dir.path(), Start::New, 1);
    for start in [Start::New, Start::Resume, Start::Overwrite] {
        assert!(refused(dir.path(), start, 1).contains("another run of lea is writing"));
    }
    drop(first);
    assert!(open(dir.path(), Start::Resume, 1).resumed());
}

#[test]
fn resuming_starts_anew_in_an_empty_folder_and_goes_on_in_that_of_the_same_run_only() {
    let dir = tempfile::tempdir().unwrap();
    let folder = open(dir.path(), Start::Resume, 1);
    assert!(!folder.resumed() && folder.stage::<u64>("a").is_none());
    folder.finish_stage("a", &7u64).unwrap();
    let half = ["result.12.tmp", "resume.json.12.tmp"].map(|name| dir.path().join(name));
    half.iter().for_each(|file| std::fs::write(file, "half").unwrap());
    drop(folder);
    let message = refused(dir.path(), Start::Resume, 2);
    assert!(message.contains("run.seed") && message.contains("has 1, this one has 2"), "{message}");
    assert!(refused(dir.path(), Start::New, 1).contains("unfinished run"));
    let folder = open(dir.path(), Start::Resume, 1);
    assert_eq!((folder.resumed(), folder.stage::<u64>("a")), (true, Some(7)));
    assert!(half.iter().all(|file| !file.exists()));
    std::fs::write(folder.checkpoint_path("x"), "state").unwrap();
    folder.finish().unwrap();
    assert!(!dir.path().join("checkpoint-x.safetensors").exists());
    assert!(opening(dir.path(), Start::Resume, 1).open().unwrap().is_none());
    assert!(refused(dir.path(), Start::Resume, 2).contains("run.seed"));
    assert!(refused(dir.path(), Start::New, 1).contains("not empty"));
}

#[test]
fn a_run_killed_while_it_wrote_its_first_record_begins_again_and_files_of_others_still_refuse_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    for start in [Start::Resume, Start::New, Start::Overwrite] {
        for name in [".lea-lock", "resume.json.7718238912.tmp"] {
            std::fs::write(path(name), "").unwrap();
        }
        assert!(!open(dir.path(), start, 1).resumed(), "{start:?}");
        assert!(!path("resume.json.7718238912.tmp").exists(), "{start:?}");
        std::fs::remove_file(path("resume.json")).unwrap();
    }
    for other in ["resume.json.x.tmp", "resume.json..tmp", "resume.json.7.tmp.old", "a.json.7.tmp", "x"] {
        std::fs::write(path("resume.json.7.tmp"), "").unwrap();
        std::fs::write(path(other), "mine").unwrap();
        for start in [Start::Resume, Start::New] {
            assert!(refused(dir.path(), start, 1).contains("not empty"), "{other}");
        }
        assert_eq!(std::fs::read(path(other)).unwrap(), b"mine");
        std::fs::remove_file(path(other)).unwrap();
    }
}

#[test]
fn overwriting_removes_the_files_of_the_earlier_run_and_no_others_even_if_killed_meanwhile() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str| std::fs::write(dir.path().join(name), "x").unwrap();
    let there = |name: &str| dir.path().join(name).exists();
    let folder = open(dir.path(), Start::New, 1);
    std::fs::create_dir(dir.path().join("rec")).unwrap();
    ["result", "rec/a.x", "mine"].into_iter().for_each(write);
    folder.finish().unwrap();
    // As a process that was killed amid clearing leaves it.
    let record = std::fs::read_to_string(dir.path().join("resume.json")).unwrap();
    let clearing = record.replace("\"finished\"", "\"clearing\"");
    assert_ne!(record, clearing);
    std::fs::write(dir.path().join("resume.json"), clearing).unwrap();
    let folder = open(dir.path(), Start::Resume, 1);
    assert!(!folder.resumed() && !there("result") && !there("rec") && there("mine"));
    ["result", "other"].into_iter().for_each(write);
    drop(folder);
    let folder = open(dir.path(), Start::Overwrite, 2);
    assert!(!folder.resumed() && !there("result") && there("mine") && there("other"));
}

#[test]
fn what_the_run_reads_is_not_removed_to_make_place_for_it() {
    let outer = tempfile::tempdir().unwrap();
    let dir = outer.path().join("run");
    open(&dir, Start::New, 1).finish().unwrap();
    std::fs::create_dir(dir.join("rec")).unwrap();
    std::fs::write(dir.join("rec/a.x"), "x").unwrap();
    for input in [dir.join("rec"), dir.join("../run/rec/a.x")] {
        let opening = Opening { inputs: vec![input], ..opening(&dir, Start::Overwrite, 1) };
        assert!(opening.open().unwrap_err().to_string().contains("which it would replace"));
        assert!(dir.join("rec/a.x").exists());
    }
    let opening = Opening { inputs: vec![outer.path().to_path_buf()], ..opening(&dir, Start::Overwrite, 1) };
    opening.open().unwrap();
    assert!(!dir.join("rec/a.x").exists());
}

#[test]
fn a_folder_of_other_files_is_refused_and_left_without_a_trace() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("mine"), "x").unwrap();
    assert!(refused(dir.path(), Start::New, 1).contains("exists and is not empty"));
    assert!(refused(dir.path(), Start::Resume, 1).contains("holds no run"));
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    std::fs::write(dir.path().join("resume.json"), "{\"format\": 1}").unwrap();
    assert!(refused(dir.path(), Start::Resume, 1).contains("resume.json: line 1"));
}

#[test]
fn a_folder_that_is_moved_away_is_noticed_and_not_made_again() {
    let outer = tempfile::tempdir().unwrap();
    let dir = outer.path().join("run");
    let folder = open(&dir, Start::New, 1);
    std::fs::rename(&dir, outer.path().join("moved")).unwrap();
    assert!(folder.finish_stage("a", &1).unwrap_err().to_string().contains("was moved or removed"));
    assert!(!dir.exists());
    std::fs::create_dir(&dir).unwrap();
    assert!(folder.check_still_there().is_err());
    assert!(folder.finish().is_err());
}

#[test]
fn parts_of_a_folder_are_runs_of_their_own() {
    let dir = tempfile::tempdir().unwrap();
    let open = |part: &'static str, start| {
        let opening = Opening { part: Some(part), ..opening(dir.path(), start, 1) };
        opening.open()
    };
    let first = open("a", Start::New).unwrap();
    let second = open("b", Start::New).unwrap();
    assert!(open("a", Start::Resume).unwrap_err().to_string().contains("another run"));
    let (first, second) = (first.expect("not finished"), second.expect("not finished"));
    assert_ne!(first.checkpoint_path("x"), second.checkpoint_path("x"));
    first.finish().unwrap();
    drop(second);
    assert!(open("a", Start::Resume).unwrap().is_none());
    assert!(open("b", Start::New).unwrap_err().to_string().contains("unfinished"));
}

#[test]
fn a_whole_run_and_a_part_keep_each_other_out() {
    let dir = tempfile::tempdir().unwrap();
    let part = || Opening { part: Some("a"), ..opening(dir.path(), Start::Overwrite, 1) }.open();
    let whole = || opening(dir.path(), Start::Overwrite, 1).open();
    let held = part().unwrap();
    assert!(whole().unwrap_err().to_string().contains("another run of lea is writing"));
    drop(held);
    let held = whole().unwrap();
    assert!(part().unwrap_err().to_string().contains("another run of lea is writing"));
    drop(held);
    part().unwrap();
}

#[test]
fn a_finished_run_that_lacks_a_result_is_gone_on_with() {
    let dir = tempfile::tempdir().unwrap();
    let result = dir.path().join("result");
    let resume = || opening(dir.path(), Start::Resume, 1).open().unwrap();
    let folder = resume().expect("nothing is there");
    std::fs::write(&result, "x").unwrap();
    std::fs::write(folder.checkpoint_path("a"), "x").unwrap();
    folder.finish().unwrap();
    assert!(resume().is_none());
    std::fs::remove_file(&result).unwrap();
    let folder = resume().expect("the result is missing");
    let gone = Missing { name: "result".into(), sizes: None };
    assert_eq!((folder.resumed(), folder.missing()), (true, &[gone][..]));
    std::fs::write(&result, "x").unwrap();
    drop(folder);
    // Killed meanwhile, it stays unfinished.
    assert!(resume().is_some());
}

#[test]
fn a_stage_of_which_a_file_is_gone_is_to_be_done_again_and_no_other() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    std::fs::create_dir(path("rec")).unwrap();
    std::fs::write(path("rec/mine"), "x").unwrap();
    let first = Opening { part: Some("a"), ..opening(dir.path(), Start::Resume, 1) };
    let folder = first.clone().open().unwrap().expect("nothing is there");
    std::fs::write(path("result"), "x").unwrap();
    folder.finish_stage("one", &1).unwrap();
    std::fs::write(path("rec/a.x"), "x").unwrap();
    folder.finish_stage("two", &2).unwrap();
    folder.finish().unwrap();
    std::fs::remove_file(path("result")).unwrap();
    let folder = first.open().unwrap().expect("a result is gone");
    let stages = |folder: &RunFolder| (folder.stage::<u64>("one"), folder.stage::<u64>("two"));
    assert_eq!((folder.lost_stage("one"), stages(&folder)), (true, (None, Some(2))));
    // Done again, it has no file of the other.
    std::fs::write(path("result"), "x").unwrap();
    folder.finish_stage("one", &1).unwrap();
    std::fs::remove_file(path("rec/a.x")).unwrap();
    assert_eq!(stages(&folder), (Some(1), None));
    std::fs::write(path("rec/a.x"), "x").unwrap();
    folder.forget_stages(&["two", "unheard of"]).unwrap();
    assert_eq!((folder.lost_stage("two"), stages(&folder)), (false, (Some(1), None)));
}

#[test]
fn a_file_of_another_size_is_removed_and_counts_as_gone_but_a_log_of_a_stage_may_grow() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    let opening = |start| {
        let opening = opening(dir.path(), start, 1);
        Opening { outputs: ["result", "a.jsonl", "b.html"].map(String::from).to_vec(), ..opening }
    };
    let resume = || opening(Start::Resume).open().unwrap();
    let write = |name: &str, text: &str| std::fs::write(path(name), text).unwrap();
    let folder = resume().expect("nothing is there");
    ["result", "a.jsonl", "b.html"].iter().for_each(|name| write(name, "whole"));
    folder.finish_stage("one", &1).unwrap();
    write("a.jsonl", "whole and more");
    assert!(!folder.lost_stage("one"));
    drop(folder);
    // Of an unfinished run too.
    write("result", "who");
    let folder = resume().expect("it is not finished");
    assert!(folder.lost_stage("one") && !path("result").exists());
    write("result", "whole");
    folder.finish_stage("one", &1).unwrap();
    folder.finish().unwrap();
    let record = std::fs::read_to_string(path("resume.json")).unwrap();
    write("b.html", "another page");
    assert!(resume().is_none());
    for (name, other) in
        [("result", "who"), ("result", ""), ("result", "whole and more"), ("a.jsonl", "whole")]
    {
        let whole = std::fs::read_to_string(path(name)).unwrap();
        write(name, other);
        let folder = resume().expect("a result is of another size");
        let told = folder.missing().iter().map(Missing::to_string).collect::<Vec<_>>();
        assert_eq!(told, [format!("{name} has {} bytes, was {}", other.len(), whole.len())]);
        assert!(!path(name).exists());
        assert!(folder.lost_stage("one"));
        write(name, &whole);
        drop(folder);
        write("resume.json", &record);
        assert!(resume().is_none());
    }
    // The format before had names only: such a file is looked for, whatever its size.
    let mut old: serde_json::Value = serde_json::from_str(&record).unwrap();
    old["format"] = "lea-resume-2".into();
    old["results"] = serde_json::json!(["a.jsonl", "result"]);
    old["stages"]["one"]["files"] = old["results"].clone();
    write("resume.json", &old.to_string());
    write("result", "who");
    assert!(resume().is_none());
    std::fs::remove_file(path("result")).unwrap();
    assert_eq!(resume().expect("a result is gone").missing().len(), 1);
}
