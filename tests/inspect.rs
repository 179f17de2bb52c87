//! `lea inspect` on what a user may point it at.

use std::process::Command;

fn inspect(path: &std::path::Path) -> (bool, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_lea")).arg("inspect").arg(path).output().unwrap();
    let told = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&told).into_owned())
}

#[test]
fn raw_data_is_told_as_an_import_would_find_it() {
    for (name, content) in [
        ("x.inter", "user_id:token\titem_id:token\ttimestamp:float\na\tp\t1\na\tq\t2\nb\tq\t3\n"),
        ("events.csv", "user_id,item_id,time\na,p,1\na,q,2\nb,q,3\n"),
        ("log.tsv", "user_id\titem_id\ttime\na\tp\t1\na\tq\t2\nb\tq\t3\n"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(name);
        std::fs::write(&path, content).unwrap();
        let places = if name == "log.tsv" { vec![path] } else { vec![path, dir.path().to_path_buf()] };
        for place in places {
            let (success, told) = inspect(&place);
            assert!(success && told.contains("users              2"), "{name}: {told}");
        }
    }
}

#[test]
fn what_is_half_written_or_nothing_is_told_as_such() {
    let dir = tempfile::tempdir().unwrap();
    let (success, told) = inspect(&dir.path().join("nowhere"));
    assert!(!success && told.contains("nowhere"), "{told}");
    let (success, told) = inspect(dir.path());
    assert!(!success && told.contains("holds nothing") && told.contains("manifest.json"), "{told}");
    std::fs::write(dir.path().join("le.json.123.tmp"), "{").unwrap();
    let (success, told) = inspect(dir.path());
    assert!(success && told.contains("le.json.123.tmp"), "{told}");
    std::fs::write(dir.path().join("labels-00001-of-00003.part"), "").unwrap();
    let (success, told) = inspect(dir.path());
    assert!(
        success && told.contains("0 of 3 finished") && told.contains("missing            0, 2"),
        "{told}"
    );
}
