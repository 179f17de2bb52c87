//! Which files of a folder are a data set, and of what format.

use super::lines::Lines;
use super::{Format, hetrec};
use crate::{Error, Result};
use serde_json::Value;
use std::path::{Path, PathBuf};

/// The files of a data set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::data) struct Files {
    /// How they are written.
    pub(in crate::data) format: Format,
    /// The interactions.
    pub(in crate::data) log: PathBuf,
    /// What describes the items.
    pub(in crate::data) items: Option<PathBuf>,
}

impl Files {
    /// The files of the data set at `path`: a folder, or a log by itself. `format` and `items` stand over what the
    /// names say.
    ///
    /// # Errors
    /// Nothing there, no data set in the folder, or several that could be meant.
    pub(in crate::data) fn find(path: &Path, format: Option<Format>, items: Option<&Path>) -> Result<Self> {
        if !path.exists() {
            let problem = format!("{} does not exist", path.display());
            return Err(Error::setting(problem, "give a data folder or an interactions table with --data"));
        }
        let mut files = if path.is_dir() {
            in_folder(path, format)?
        } else {
            let format = format.unwrap_or_else(|| of_name(path));
            Files { format, log: path.to_path_buf(), items: None }
        };
        if let Some(items) = items {
            files.items = Some(items.to_path_buf());
        }
        Ok(files)
    }

    /// Whether the files of the folder `dir` are a data set, or several of which one could be meant.
    pub(in crate::data) fn any_in(dir: &Path) -> bool {
        !matches!(search(dir, None), Ok(None))
    }

    /// All of them.
    pub(in crate::data) fn paths(&self) -> Vec<PathBuf> {
        std::iter::once(&self.log).chain(&self.items).cloned().collect()
    }
}

/// A file's name without `.gz`.
fn plain_name(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    name.strip_suffix(".gz").unwrap_or(&name).to_string()
}

fn of_name(path: &Path) -> Format {
    match plain_name(path).rsplit_once('.').map_or("", |(_, extension)| extension) {
        "csv" => Format::Csv,
        "inter" => Format::Atomic,
        "dat" => Format::HetRec,
        "json" | "jsonl" => Format::Amazon,
        _ => Format::Tsv,
    }
}

/// The data set among the files of a folder; `None` where there is none.
fn search(folder: &Path, wanted: Option<Format>) -> Result<Option<Files>> {
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(|e| Error::io(folder, e))? {
        let path = entry.map_err(|e| Error::io(folder, e))?.path();
        if path.is_file() {
            paths.push(path);
        }
    }
    paths.sort();
    let mut found = Vec::new();
    for format in Format::ALL.into_iter().filter(|&format| wanted.is_none_or(|wanted| wanted == format)) {
        found.extend(of_format(&paths, format)?);
    }
    if let [first, second, ..] = found.as_slice() {
        let problem = format!(
            "{} ({}) and {} ({}) are both there, and either could be meant",
            first.log.display(),
            first.format,
            second.log.display(),
            second.format
        );
        return Err(Error::setting(problem, "say which with --format, or give the path of the file itself"));
    }
    Ok(found.pop())
}

fn in_folder(folder: &Path, wanted: Option<Format>) -> Result<Files> {
    search(folder, wanted)?.ok_or_else(|| {
        let problem = match wanted {
            None => format!(
                "{} holds no interactions.tsv, interactions.csv or file of another known format",
                folder.display()
            ),
            Some(format) => format!("{} holds no log that is named as {format} has it", folder.display()),
        };
        Error::setting(
            problem,
            "give the path of the log itself, and --format; see lea data import --help for the names",
        )
    })
}

/// The data set of one format among the files of a folder.
fn of_format(paths: &[PathBuf], format: Format) -> Result<Option<Files>> {
    let named = |wanted: &[String]| -> Vec<&PathBuf> {
        paths.iter().filter(|path| wanted.contains(&plain_name(path))).collect()
    };
    let ending = |ending: &str| -> Vec<&PathBuf> {
        paths.iter().filter(|path| plain_name(path).ends_with(ending)).collect()
    };
    let (logs, items) = match format {
        Format::Tsv | Format::Csv => {
            let name = |stem: &str| format!("{stem}.{format}");
            (named(&[name("interactions"), name("events")]), named(&[name("items")]))
        }
        Format::Atomic => (ending(".inter"), ending(".item")),
        Format::HetRec => {
            let best =
                hetrec::LOGS.iter().map(|name| named(&[name.to_string()])).find(|found| !found.is_empty());
            (best.unwrap_or_default(), named(&hetrec::ITEMS.map(String::from)))
        }
        Format::Amazon => {
            let all: Vec<&PathBuf> =
                paths.iter().filter(|path| of_name(path) == Format::Amazon && is_amazon(path)).collect();
            all.into_iter().partition(|path| !plain_name(path).starts_with("meta_"))
        }
    };
    let Some(log) = only_one(&logs)? else { return Ok(None) };
    Ok(Some(Files { format, log: log.clone(), items: only_one(&items)?.cloned() }))
}

/// Whether a JSON file may be Amazon's, told by its first line: neither the log of a run nor JSON over many lines is. A
/// line that is damaged may have been a review.
fn is_amazon(path: &Path) -> bool {
    let Ok(mut lines) = Lines::open(path) else { return true };
    let first = match lines.next() {
        Ok(Some(line)) => line.bytes.trim_ascii(),
        Ok(None) => return false,
        Err(_) => return true,
    };
    if [&b"{"[..], b"[", b"{}", b"[]"].contains(&first) {
        return false;
    }
    match serde_json::from_slice::<Value>(first) {
        Ok(value) => {
            ["asin", "parent_asin", "reviewerID", "user_id"].iter().any(|key| value.get(key).is_some())
        }
        Err(_) => true,
    }
}

fn only_one<'a>(found: &[&'a PathBuf]) -> Result<Option<&'a PathBuf>> {
    if let [first, second, ..] = found {
        let problem =
            format!("{} and {} are both there, and either could be meant", first.display(), second.display());
        return Err(Error::setting(
            problem,
            "give the path of the log itself with --data, and that of the items' file with --items",
        ));
    }
    Ok(found.first().copied())
}
