//! Writing an imported data set, never over the tables it came from nor over anything but an earlier import.

use super::dataset::Dataset;
use super::loaded::Loaded;
use super::manifest::{FORMAT, MANIFEST, Manifest, is_unfinished, mark_unfinished, read_manifest};
use crate::run_folder::{FolderLock, half_written, remove_half_written};
use crate::{Error, Result, files};
use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;

/// First line of the table of events.
pub(super) const INTERACTIONS_HEADER: &str = "user_id\titem_id\tposition\tkind";
/// First column of the items.
const ITEM_ID: &str = "item_id";

/// As [`save`], of a folder that this process alone writes to.
///
/// # Errors
/// Also another process that writes there now.
pub fn save_locked(loaded: &Loaded, folder: &Path, overwrite: bool) -> Result<()> {
    // A folder of somebody else's files is refused before a lock is left there.
    check_target(loaded, folder, overwrite)?;
    let _lock = FolderLock::take(folder)?;
    save(loaded, folder, overwrite)
}

/// Writes `loaded` into `folder` as `interactions.tsv`, `items.tsv` and, last, `dataset.json`. The folder must be new
/// or empty; with `overwrite` it may also hold an earlier import, finished or not, whose files are replaced.
///
/// # Errors
/// The folder that the data was read from, a folder with other content, ids or texts with a tab or line break, and
/// whatever the file system refuses.
pub fn save(loaded: &Loaded, folder: &Path, overwrite: bool) -> Result<()> {
    let dataset = &loaded.dataset;
    check_target(loaded, folder, overwrite)?;
    remove_half_written(folder, &[MANIFEST, "interactions.tsv", "items.tsv"])?;
    let path = folder.join(MANIFEST);
    // An earlier import keeps its manifest until it is replaced: its hashes tell tables that are not its own.
    if !path.exists() {
        mark_unfinished(&path)?;
    }
    files::write_atomic(&folder.join("items.tsv"), |out| write_items(dataset, out))?;
    files::write_atomic(&folder.join("interactions.tsv"), |out| write_interactions(dataset, out))?;
    let manifest = Manifest {
        format: FORMAT.into(),
        name: dataset.name.clone(),
        users: dataset.users.len(),
        items: dataset.items.len(),
        interactions: dataset.interactions(),
        text: dataset.text.clone(),
        hash: loaded.hash().to_string(),
        interactions_hash: dataset.interactions_hash(),
        read: loaded.read.clone(),
        filters: loaded.filters,
        dropped: loaded.dropped,
        sources: loaded.sources.clone(),
        synthetic: loaded.synthetic,
    };
    manifest.write(&path)?;
    // An earlier table that was gzipped since must not stand beside the new one; it goes once that is written.
    ["interactions.tsv.gz", "items.tsv.gz"].iter().try_for_each(|name| remove_if_there(&folder.join(name)))
}

/// Refuses what cannot be written there, and makes the folder.
fn check_target(loaded: &Loaded, folder: &Path, overwrite: bool) -> Result<()> {
    refuse_own_source(loaded, folder)?;
    check_cells(&loaded.dataset)?;
    match files::new_folder(folder) {
        Err(Error::Setting { .. }) if overwrite => check_earlier_import(folder),
        other => other,
    }
}

/// Refuses to write over the tables that `loaded` came from: they may be the only copy.
fn refuse_own_source(loaded: &Loaded, folder: &Path) -> Result<()> {
    let Ok(target) = folder.canonicalize() else {
        return Ok(()); // Not there yet: nothing was read from it.
    };
    let lies_there = |path: &Path| {
        let named = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let real = path.canonicalize().ok();
        named.canonicalize().is_ok_and(|named| named == target)
            || real.as_deref().and_then(Path::parent).is_some_and(|real| real == target)
    };
    match loaded.paths.iter().find(|path| lies_there(path)) {
        None => Ok(()),
        Some(path) => Err(Error::setting(
            format!(
                "the output folder {} would replace its own source: {} is itself read from that folder",
                folder.display(),
                path.display()
            ),
            "name another folder with --out",
        )),
    }
}

/// Refuses a folder that holds something else than an earlier import.
fn check_earlier_import(folder: &Path) -> Result<()> {
    let why = match read_manifest(&folder.join(MANIFEST)) {
        Ok(Some(_)) => return Ok(()),
        Err(_) if is_unfinished(&folder.join(MANIFEST)) => return Ok(()),
        Ok(None) if is_left_by_a_killed_import(folder)? => return Ok(()),
        Ok(None) => format!("it holds no {MANIFEST}"),
        Err(_) => format!("its {MANIFEST} was not written by this program"),
    };
    Err(Error::setting(
        format!("--overwrite replaces only an imported data set, which {} is not: {why}", folder.display()),
        "name another folder with --out, or remove this one yourself",
    ))
}

/// Whether `folder` holds nothing but what an import of an earlier version, which wrote no mark ahead of its tables, left
/// when it was killed: a file that it was writing then, and tables that begin as its own do. Without the former they
/// may as well be somebody's only copy.
fn is_left_by_a_killed_import(folder: &Path) -> Result<bool> {
    let half = half_written(folder)?;
    let of_import = |name: &str| {
        let of = |table: &str| name.strip_prefix(table).is_some_and(|rest| rest.starts_with('.'));
        [MANIFEST, "interactions.tsv", "items.tsv"].into_iter().any(of)
    };
    let mut killed = false;
    for entry in std::fs::read_dir(folder).map_err(|e| Error::io(folder, e))? {
        let entry = entry.map_err(|e| Error::io(folder, e))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let ours = match name.as_str() {
            ".lea-lock" => true,
            "interactions.tsv" => begins(&entry.path(), INTERACTIONS_HEADER, "\n")?,
            "items.tsv" => begins(&entry.path(), ITEM_ID, "\t\n")?,
            _ => half.contains(&name) && of_import(&name),
        };
        if !ours || !entry.file_type().is_ok_and(|kind| kind.is_file()) {
            return Ok(false);
        }
        killed |= half.contains(&name);
    }
    Ok(killed)
}

/// Whether the file at `path` begins with `start` and one of the characters `next`.
fn begins(path: &Path, start: &str, next: &str) -> Result<bool> {
    let io = |e| Error::io(path, e);
    let mut bytes = Vec::new();
    File::open(path).map_err(io)?.take(start.len() as u64 + 1).read_to_end(&mut bytes).map_err(io)?;
    let rest = bytes.strip_prefix(start.as_bytes());
    Ok(rest.is_some_and(|rest| rest.len() == 1 && next.as_bytes().contains(&rest[0])))
}

fn remove_if_there(path: &Path) -> Result<()> {
    match std::fs::remove_file(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(Error::io(path, e)),
        _ => Ok(()),
    }
}

fn check_cells(dataset: &Dataset) -> Result<()> {
    let items = dataset.items.iter().flat_map(|item| std::iter::once(&item.id).chain(&item.fields));
    let mut cells = items.chain(dataset.users.iter().map(|user| &user.id)).chain(&dataset.columns);
    match cells.find(|cell| cell.contains(['\t', '\n', '\r'])) {
        None => Ok(()),
        Some(cell) => {
            let problem = format!("{cell:?} holds a tab or a line break, which a table cannot");
            Err(Error::setting(problem, "replace it by a space before importing"))
        }
    }
}

fn write_items(dataset: &Dataset, out: &mut dyn Write) -> std::io::Result<()> {
    let header: Vec<&str> =
        std::iter::once(ITEM_ID).chain(dataset.columns.iter().map(String::as_str)).collect();
    writeln!(out, "{}", header.join("\t"))?;
    let mut line = String::new();
    for item in &dataset.items {
        line.clear();
        line.push_str(&item.id);
        for field in &item.fields {
            line.push('\t');
            line.push_str(field);
        }
        line.push('\n');
        out.write_all(line.as_bytes())?;
    }
    Ok(())
}

fn write_interactions(dataset: &Dataset, out: &mut dyn Write) -> std::io::Result<()> {
    writeln!(out, "{INTERACTIONS_HEADER}")?;
    let (mut lines, mut digits) = (String::new(), itoa::Buffer::new());
    for user in &dataset.users {
        for (position, event) in user.events.iter().enumerate() {
            let item = &dataset.items[event.item as usize].id;
            for cell in [&user.id, "\t", item, "\t", digits.format(position), "\t", event.kind.name(), "\n"] {
                lines.push_str(cell);
            }
        }
        if lines.len() > 1 << 16 {
            out.write_all(lines.as_bytes())?;
            lines.clear();
        }
    }
    out.write_all(lines.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{LoadOptions, SynthConfig, load, synthesise};

    fn made() -> Loaded {
        synthesise(&SynthConfig { items: 60, users: 20, ..SynthConfig::default() }).unwrap()
    }

    #[test]
    fn a_cell_with_a_tab_leaves_no_folder_behind() {
        let dir = tempfile::tempdir().unwrap();
        let mut loaded = made();
        loaded.dataset.items[0].fields[0] = "a\tb".into();
        let out = dir.path().join("imported");
        assert!(save(&loaded, &out, false).unwrap_err().to_string().contains("holds a tab"));
        assert!(!out.exists());
    }

    #[test]
    fn an_earlier_import_is_replaced_with_its_gzipped_tables() {
        let dir = tempfile::tempdir().unwrap();
        save(&made(), dir.path(), true).unwrap();
        std::fs::rename(dir.path().join("items.tsv"), dir.path().join("items.tsv.gz")).unwrap();
        save(&made(), dir.path(), true).unwrap();
        assert!(!dir.path().join("items.tsv.gz").exists());
        assert_eq!(load(dir.path(), &LoadOptions::default()).unwrap().dataset, made().dataset);
    }

    #[test]
    fn what_a_killed_import_of_an_earlier_version_left_is_replaced_and_nothing_that_looks_like_it() {
        let whole = tempfile::tempdir().unwrap();
        save(&made(), whole.path(), false).unwrap();
        let text = |name: &str| std::fs::read_to_string(whole.path().join(name)).unwrap();
        let (items, interactions) = (text("items.tsv"), text("interactions.tsv"));
        let half = ("interactions.tsv.77.tmp", &interactions[..50]);
        let refused: &[&[(&str, &str)]] = &[
            // Nothing tells that a process was killed there: these may be somebody's data.
            &[("items.tsv", &items)],
            &[("items.tsv", &items), ("interactions.tsv", &interactions)],
            // Tables of somebody else, and files.
            &[("items.tsv", "item_id,name\n"), half],
            &[("items.tsv", "item_id"), half],
            &[("interactions.tsv", "user_id\titem_id\tposition\nu\ti\t0\n"), ("items.tsv.9.tmp", "")],
            &[("notes.txt", "mine"), half],
            &[("notes.txt.77.tmp", "mine"), half],
            &[("items.tsv.gz", "mine"), half],
        ];
        let accepted: &[&[(&str, &str)]] = &[
            &[("items.tsv.77.tmp", &items[..9])],
            &[("items.tsv", &items), half],
            &[("items.tsv", &items), ("interactions.tsv", &interactions), ("dataset.json.77.tmp", "{")],
            &[("items.tsv", &items), half, (".lea-lock", "")],
        ];
        for (cases, accepted) in [(refused, false), (accepted, true)] {
            for files in cases {
                let dir = tempfile::tempdir().unwrap();
                let path = |name: &str| dir.path().join(name);
                files.iter().for_each(|(name, content)| std::fs::write(path(name), content).unwrap());
                let saved = save(&made(), dir.path(), true);
                if accepted {
                    saved.unwrap();
                    assert_eq!(load(dir.path(), &LoadOptions::default()).unwrap().dataset, made().dataset);
                    assert!(half_written(dir.path()).unwrap().is_empty());
                } else {
                    assert!(saved.unwrap_err().to_string().contains("it holds no dataset.json"), "{files:?}");
                    for (name, content) in *files {
                        assert_eq!(std::fs::read_to_string(path(name)).unwrap(), *content);
                    }
                }
                assert!(save(&made(), dir.path(), false).is_err(), "{files:?}");
            }
        }
    }

    #[test]
    fn a_folder_that_is_no_import_of_ours_keeps_its_files() {
        let dir = tempfile::tempdir().unwrap();
        let table = dir.path().join("interactions.tsv.gz");
        std::fs::write(&table, "precious").unwrap();
        let message = || save(&made(), dir.path(), true).unwrap_err().to_string();
        assert!(message().contains("it holds no dataset.json"), "{}", message());
        std::fs::write(dir.path().join(MANIFEST), "{}").unwrap();
        assert!(message().contains("was not written by this program"), "{}", message());
        assert_eq!(std::fs::read(&table).unwrap(), b"precious");
        assert!(!dir.path().join("items.tsv").exists());
    }
}
