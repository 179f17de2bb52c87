//! What a run that is ended amid an operation goes on from.

use super::outputs;
use super::place::Place;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// Where checkpoints and journals of a run lie.
#[derive(Clone, Debug)]
pub struct Kept {
    dir: PathBuf,
    checkpoints: Vec<String>,
    journals: Vec<String>,
}

impl Kept {
    pub(super) fn new(place: &Place, journals: Vec<String>) -> Self {
        Kept { dir: place.dir.to_path_buf(), checkpoints: vec![place.checkpoints()], journals }
    }

    /// Those of `outputs` to which a block is appended whenever it is done.
    pub(super) fn journals(outputs: &[String]) -> Vec<String> {
        outputs.iter().filter(|name| name.ends_with(".part")).cloned().collect()
    }

    /// What is lost of a run that is ended now, in words, by what lies in its folder.
    pub fn told(&self) -> String {
        let lost = match (self.newest(&self.checkpoints), self.newest(&self.journals)) {
            (Some((name, age)), _) => {
                format!("; what was done since {name} was written, {} s ago, is lost", age.as_secs())
            }
            (None, Some((name, _))) => {
                format!("; what is not in {name} yet is lost, the labels of a pack at most")
            }
            (None, None) => ", before its first checkpoint: it will begin again".into(),
        };
        format!("stopped amid a long operation{lost}")
    }

    /// The newest of the files that match `patterns`, and its age.
    fn newest(&self, patterns: &[String]) -> Option<(String, Duration)> {
        let written = |path: PathBuf| Some((path.metadata().ok()?.modified().ok()?, path));
        let found = outputs::matching(&self.dir, patterns, false).unwrap_or_default();
        let (time, path) = found.into_iter().filter_map(written).max()?;
        let name = path.strip_prefix(&self.dir).unwrap_or(Path::new(&path)).display().to_string();
        Some((name, SystemTime::now().duration_since(time).unwrap_or_default()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_lost_is_told_by_checkpoints_then_by_journals_and_that_there_is_neither() {
        let dir = tempfile::tempdir().unwrap();
        let place = Place { dir: dir.path(), part: None };
        let outputs = ["run.json", "labels/labels-?.part"].map(String::from);
        let kept = Kept::new(&place, Kept::journals(&outputs));
        assert!(kept.told().ends_with("before its first checkpoint: it will begin again"));
        std::fs::create_dir(dir.path().join("labels")).unwrap();
        for (file, told) in [
            ("labels/labels-0.part", "what is not in labels/labels-0.part yet is lost"),
            ("checkpoint-fit.safetensors", "since checkpoint-fit.safetensors was written, 0 s ago, is lost"),
        ] {
            std::fs::write(dir.path().join(file), "x").unwrap();
            assert!(kept.told().contains(told), "{}", kept.told());
        }
    }
}
