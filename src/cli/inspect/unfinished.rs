//! What is told of runs and labels that are not finished, and of what killed ones left.

use super::holdings::Rows;
use crate::Result;
use crate::le::{FileState, labels_left};
use crate::run_folder::{Left, half_written, survey};
use crate::tensor::file::TensorFile;
use serde_json::Value;
use std::path::Path;

/// The runs whose records lie in `dir`: which are there, how far they came, and what goes on with them.
pub(super) fn runs(dir: &Path) -> Result<Rows> {
    let runs = survey(dir)?;
    let mut rows = Rows::new();
    if let Some((_, of)) = runs.iter().find_map(shard) {
        let own = |finished: bool| -> Vec<usize> {
            let wanted = runs.iter().filter(|left| left.finished == finished);
            wanted.filter_map(shard).map(|(number, _)| number).collect()
        };
        let (done, begun) = (own(true), own(false));
        let missing: Vec<usize> = (1..=of).filter(|n| !done.contains(n) && !begun.contains(n)).collect();
        rows.push(("shards", format!("{of}; finished {}", list(&done))));
        rows.push(("", format!("not finished {}; not begun {}", list(&begun), list(&missing))));
    }
    for left in runs.iter().filter(|left| !left.finished) {
        rows.extend(unfinished(left)?);
    }
    if rows.is_empty() {
        rows.extend(runs.iter().flat_map(|left| {
            let finished = ("finished", format!("lea {}", left.command));
            std::iter::once(finished).chain(device(left))
        }));
    }
    Ok(rows)
}

fn unfinished(left: &Left) -> Result<Rows> {
    let name = left.part.as_deref().map_or(left.command.clone(), |part| format!("{} {part}", left.command));
    let state = if left.running { "running now" } else { "stopped before its end" };
    let mut rows = vec![("not finished", format!("{name}, {state}"))];
    rows.extend(device(left));
    if !left.stages.is_empty() {
        rows.push(("stages done", left.stages.join(", ")));
    }
    for path in &left.checkpoints {
        let file = path.file_name().unwrap_or_default().to_string_lossy();
        rows.push(("checkpoint", format!("{file}{}", reached(path)?)));
    }
    if !left.running {
        let command = match left.command_line.is_empty() {
            true => format!("the lea {} command that began it, with --resume", left.command),
            false => resuming(&left.command_line),
        };
        rows.push(("go on with", command));
    }
    Ok(rows)
}

fn device(left: &Left) -> Option<(&'static str, String)> {
    left.device.clone().map(|name| ("device", name))
}

/// The counters of a checkpoint, as in ": epoch 2, packs 17".
fn reached(path: &Path) -> Result<String> {
    let file = TensorFile::open(path)?;
    let state: Option<Value> = file.metadata("state").and_then(|text| serde_json::from_str(text).ok());
    let counter = |(name, value): (&String, &Value)| match value {
        Value::Number(n) => Some(format!("{} {n}", name.replace('_', " "))),
        // One record an epoch that has ended; numbers are sums.
        Value::Array(epochs) if epochs.iter().all(Value::is_object) => {
            Some(format!("epochs ended {}", epochs.len()))
        }
        _ => None,
    };
    let state = state.as_ref().and_then(Value::as_object);
    let counters: Vec<String> = state.into_iter().flatten().filter_map(counter).collect();
    Ok(if counters.is_empty() { String::new() } else { format!(": {}", counters.join(", ")) })
}

/// The command of these words, to be typed into a shell, as it goes on.
fn resuming(words: &[String]) -> String {
    let kept = words.iter().filter(|word| !["--overwrite", "--resume"].contains(&word.as_str()));
    let plain = |c: char| c.is_alphanumeric() || "-_./,=:+@%".contains(c);
    let quoted = |word: &String| match !word.is_empty() && word.chars().all(plain) {
        true => word.clone(),
        false => format!("'{}'", word.replace('\'', r"'\''")),
    };
    kept.map(quoted).chain(["--resume".to_string()]).collect::<Vec<_>>().join(" ")
}

/// Label files without a manifest: which of how many there are.
pub(super) fn labels(dir: &Path) -> Result<Rows> {
    let files = labels_left(dir)?.map_or(Vec::new(), |left| left.files);
    let of = |wanted: fn(&FileState) -> bool| -> Vec<usize> {
        files.iter().enumerate().filter(|(_, state)| wanted(state)).map(|(index, _)| index).collect()
    };
    let finished = of(|state| matches!(state, FileState::Finished(_)));
    let missing = of(|state| *state == FileState::Missing);
    let mut rows = vec![
        ("files", format!("{} of {} finished", finished.len(), files.len())),
        ("finished", list(&finished)),
        ("missing", list(&missing)),
    ];
    for (index, state) in files.iter().enumerate() {
        let FileState::Begun(begun) = state else { continue };
        let told = begun.as_ref().map_or("nothing yet".into(), |peek| {
            let last = peek.last.map_or("none".into(), |(user, _)| format!("up to user {user}"));
            format!("{} steps, {last}, of users {:?}", peek.rows, peek.users)
        });
        rows.push(("begun", format!("{index}: {told}")));
    }
    let next = match finished.len() == files.len() {
        true => format!("lea labels merge {}", dir.display()),
        false => "lea label with --resume, all of it or the shards that are not finished".into(),
    };
    rows.push(("go on with", next));
    Ok(rows)
}

/// Files that a killed process was writing.
pub(super) fn half(dir: &Path) -> Result<Rows> {
    let mut rows: Rows = half_written(dir)?.into_iter().map(|name| ("file", name)).collect();
    rows.push(("use", "none: a run that is resumed there removes its own".into()));
    Ok(rows)
}

/// Number and count of the shard that `left` is, from `shard-00003-of-00016`.
fn shard(left: &Left) -> Option<(usize, usize)> {
    let (number, of) = left.part.as_deref()?.strip_prefix("shard-")?.split_once("-of-")?;
    Some((number.parse().ok()?, of.parse().ok()?))
}

/// "0 to 2, 5": ascending numbers with their runs drawn together.
fn list(numbers: &[usize]) -> String {
    let runs = numbers.chunk_by(|a, b| a + 1 == *b).map(|run| match run {
        [one] => one.to_string(),
        _ => format!("{} to {}", run[0], run[run.len() - 1]),
    });
    let runs: Vec<String> = runs.collect();
    if runs.is_empty() { "none".into() } else { runs.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_drawn_together_and_a_command_can_be_typed_again() {
        assert_eq!((list(&[]), list(&[0, 1, 2, 5])), ("none".into(), "0 to 2, 5".into()));
        let words = ["lea", "run", "--overwrite", "--text", "a b"].map(String::from);
        assert_eq!(resuming(&words), "lea run --text 'a b' --resume");
    }
}
