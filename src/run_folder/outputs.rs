//! The files that a run writes, as patterns, so that they and nothing else can be removed.

use crate::files::final_name;
use crate::{Error, Result};
use std::io::ErrorKind;
use std::path::{Component, Path, PathBuf};

/// The files of `dir` that match one of `patterns`: paths below `dir` whose last part may hold one `*`, for
/// anything, and `?`s, for a digit each. With `temporary`, the half-written ones that a killed run left of them instead.
pub(super) fn matching(dir: &Path, patterns: &[String], temporary: bool) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for pattern in patterns.iter().map(Path::new) {
        // A pattern from a file that was tampered with must not lead out of the folder.
        let (Some(parent), Some(name)) = (pattern.parent(), pattern.file_name().and_then(|n| n.to_str()))
        else {
            continue;
        };
        if !pattern.components().all(|part| matches!(part, Component::Normal(_))) {
            continue;
        }
        let folder = dir.join(parent);
        let entries = match std::fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => continue,
            Err(e) => return Err(Error::io(folder, e)),
        };
        for entry in entries {
            let entry = entry.map_err(|e| Error::io(&folder, e))?;
            let file = entry.file_name();
            let Some(file) = file.to_str() else { continue };
            let file = if temporary { final_name(file) } else { Some(file) };
            let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
            if file.is_some_and(|file| matches(file, name)) && !is_folder {
                found.push(entry.path());
            }
        }
    }
    Ok(found)
}

/// Removes `paths`, then the folders between them and `dir` that are empty then.
pub(super) fn remove(dir: &Path, paths: &[PathBuf]) -> Result<()> {
    for path in paths {
        match std::fs::remove_file(path) {
            Err(e) if e.kind() != ErrorKind::NotFound => return Err(Error::io(path, e)),
            _ => {}
        }
    }
    for path in paths {
        for folder in path.ancestors().skip(1).take_while(|folder| *folder != dir) {
            // A folder that holds something else is not ours alone: it stays.
            let _ = std::fs::remove_dir(folder);
        }
    }
    Ok(())
}

/// Removes what a killed process left half-written of the files `names` in `dir`.
pub fn remove_half_written(dir: &Path, names: &[&str]) -> Result<()> {
    let names: Vec<String> = names.iter().map(|name| name.to_string()).collect();
    remove(dir, &matching(dir, &names, true)?)
}

fn matches(name: &str, pattern: &str) -> bool {
    match pattern.split_once('*') {
        None => fits(name.as_bytes(), pattern.as_bytes()),
        Some((start, end)) => {
            let (name, start, end) = (name.as_bytes(), start.as_bytes(), end.as_bytes());
            name.len() >= start.len() + end.len()
                && fits(&name[..start.len()], start)
                && fits(&name[name.len() - end.len()..], end)
        }
    }
}

/// Byte by byte, as a part of a name may begin within a character.
fn fits(name: &[u8], pattern: &[u8]) -> bool {
    let fits_byte = |(byte, wanted): (&u8, &u8)| match wanted {
        b'?' => byte.is_ascii_digit(),
        _ => byte == wanted,
    };
    name.len() == pattern.len() && name.iter().zip(pattern).all(fits_byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_mark_is_one_digit_and_a_star_anything() {
        for (name, pattern, expected) in [
            ("labels-00001-of-00004.json", "labels-?????-of-?????.json", true),
            ("labels-0001-of-00004.json", "labels-?????-of-?????.json", false),
            ("labels-mine1-of-00004.json", "labels-?????-of-?????.json", false),
            ("labels-00001-of-00004.csv", "labels-?????-of-?????.json", false),
            ("a-1-zé.x", "a-?-*.x", true),
            ("é.x", "a*.x", false),
            ("a.x", "a.*.x", false),
        ] {
            assert_eq!(matches(name, pattern), expected, "{name} {pattern}");
        }
    }

    #[test]
    fn only_what_a_run_writes_is_removed_and_no_pattern_leads_out_of_the_folder() {
        let outer = tempfile::tempdir().unwrap();
        let dir = outer.path().join("run");
        std::fs::create_dir_all(dir.join("rec")).unwrap();
        std::fs::create_dir_all(dir.join("notes")).unwrap();
        let write = |path: &str| std::fs::write(dir.join(path), "x").unwrap();
        let ours = ["run.json", "rec/a.jsonl", "rec/labels-0.safetensors", "run.json.31.tmp"];
        let others = ["mine.txt", "notes/run.json", "run.json.old.tmp"];
        ours.iter().chain(&others).for_each(|path| write(path));
        std::fs::write(outer.path().join("victim"), "x").unwrap();
        let absolute = outer.path().join("victim").display().to_string();
        let patterns =
            ["run.json", "rec/a.jsonl", "rec/labels-*.safetensors", "absent/x", "../victim", &absolute];
        let patterns = patterns.map(String::from);
        for temporary in [false, true] {
            remove(&dir, &matching(&dir, &patterns, temporary).unwrap()).unwrap();
        }
        assert!(ours.iter().all(|path| !dir.join(path).exists()));
        assert!(!dir.join("rec").exists(), "an empty folder goes too");
        assert!(others.iter().all(|path| dir.join(path).exists()) && outer.path().join("victim").exists());
    }
}
