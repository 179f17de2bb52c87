//! Data sets on disk: finding the files of a folder and reading them with their filters.
//!
//! A raw folder holds a log and, if the items have text, a file of items, in one of the formats of
//! [`Format`]. An imported folder holds `interactions.tsv` and `items.tsv`, filtered and in canonical order, and
//! `dataset.json` with counts, hashes and where they came from; reading it back checks the hashes.

use super::dataset::TextSource;
use super::filters::{FilterReport, Filters};
use super::loaded::Loaded;
use super::manifest::{MANIFEST, check_hashes, read_manifest};
use super::read::{self, Files, Format, TextWish, UnknownItems, Wish};
use crate::files::FileHash;
use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

const JOINER: &str = ", ";

/// How to read a data set.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LoadOptions {
    /// Item columns that form the text. `None`: as imported, else those called `title`, `name` or `text`. Empty: no
    /// text.
    pub text: Option<Vec<String>>,
    /// What stands between two columns; `None`: as imported, else `", "`.
    pub joiner: Option<String>,
    /// The items' file, where it does not lie beside the log under a name that the format knows.
    pub items: Option<PathBuf>,
    /// The format, where names do not tell it.
    pub format: Option<Format>,
    /// Column of users, where it does not have a name that the format knows.
    pub user_column: Option<String>,
    /// Column of items, likewise.
    pub item_column: Option<String>,
    /// Column of times, likewise.
    pub time_column: Option<String>,
    /// Drop and count rows that cannot be used; otherwise each is an error.
    pub skip_bad_rows: bool,
    /// Drop all but the first of the rows that agree in user, item, kind, position and time.
    pub drop_duplicates: bool,
    /// What becomes of events whose item the items' file does not know. `None`: plain tables refuse them, the other
    /// formats keep the item without a text.
    pub unknown_items: Option<UnknownItems>,
    /// See [`Filters::drop_repeats`].
    pub drop_repeats: bool,
    /// See [`Filters::min_length`].
    pub min_length: usize,
    /// See [`Filters::core`].
    pub core: usize,
}

impl LoadOptions {
    /// The filters among the options.
    pub fn filters(&self) -> Filters {
        Filters { drop_repeats: self.drop_repeats, min_length: self.min_length, core: self.core }
    }

    /// What the readers are asked for; the texts as `imported`, where the options do not say.
    pub(super) fn wish<'a>(&'a self, imported: Option<&'a TextSource>) -> Wish<'a> {
        let text = TextWish {
            columns: self.text.as_deref().or(imported.map(|text| text.columns.as_slice())),
            lists: if self.text.is_none() { imported.map(|text| text.lists.as_slice()) } else { None },
            joiner: self.joiner.as_deref().or(imported.map(|text| text.joiner.as_str())).unwrap_or(JOINER),
        };
        Wish {
            text,
            user_column: self.user_column.as_deref(),
            item_column: self.item_column.as_deref(),
            time_column: self.time_column.as_deref(),
            skip_bad_rows: self.skip_bad_rows,
            drop_duplicates: self.drop_duplicates,
            unknown_items: self.unknown_items,
        }
    }
}

/// Reads the data set at `path`: a folder in any of the formats, an imported folder, or a log by itself.
///
/// # Errors
/// Files that are missing, ambiguous or malformed, an imported folder whose tables no longer match its hashes, and
/// filters that leave no user.
pub fn load(path: &Path, options: &LoadOptions) -> Result<Loaded> {
    let manifest = if path.is_dir() { read_manifest(&path.join(MANIFEST))? } else { None };
    let files = Files::find(path, options.format, options.items.as_deref())?;
    let wish = options.wish(manifest.as_ref().map(|manifest| &manifest.text));
    let name = manifest.as_ref().map_or_else(|| name_of(path), |manifest| manifest.name.clone());
    let (mut dataset, read) = read::read(&name, &files, &wish)?;
    let check = |manifest| check_hashes(&path.join(MANIFEST), manifest, &dataset);
    let checked = manifest.as_ref().map(check).transpose()?.flatten();
    let filters = options.filters();
    let dropped = filters.apply(&mut dataset);
    if dataset.users.is_empty() {
        return Err(Error::setting(
            format!(
                "the filters leave no user of {} ({})",
                path.display(),
                dropped.line().unwrap_or_default()
            ),
            "lower --min-length or --k-core",
        ));
    }
    let unfiltered = dropped == FilterReport::default();
    let hash = checked.filter(|_| unfiltered).map_or_else(OnceLock::new, OnceLock::from);
    let paths = files.paths();
    let sources = paths.iter().map(|path| FileHash::of(path)).collect::<Result<_>>()?;
    let synthetic = manifest.and_then(|manifest| manifest.synthetic);
    Ok(Loaded { dataset, read, filters, dropped, sources, paths, synthetic, hash })
}

/// Whether the folder `dir` holds files that are named as those of a data set, raw or imported.
pub fn is_data_folder(dir: &Path) -> bool {
    Files::any_in(dir)
}

fn name_of(path: &Path) -> String {
    let folder = if path.is_dir() { Some(path) } else { path.parent().filter(|p| !p.as_os_str().is_empty()) };
    let absolute = folder.and_then(|folder| folder.canonicalize().ok());
    absolute
        .as_deref()
        .and_then(Path::file_name)
        .map_or("data".into(), |name| name.to_string_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::save;

    fn raw(dir: &Path) -> PathBuf {
        let folder = dir.join("raw");
        std::fs::create_dir(&folder).unwrap();
        let interactions = "session_id\titem_id\ttime\tcat\nb\tx\t9\tview\nb\ty\t3\tview\na\tz\t1\taddtocart\nb\ty\t4\tview\n";
        std::fs::write(folder.join("events.tsv"), interactions).unwrap();
        std::fs::write(
            folder.join("items.tsv"),
            "name\titem_id\ttags\nAlpha\tx\tred\nBeta\ty\t\nGamma\tz\t\"q\n",
        )
        .unwrap();
        folder
    }

    fn options(text: &[&str]) -> LoadOptions {
        LoadOptions { text: Some(text.iter().map(|t| t.to_string()).collect()), ..Default::default() }
    }

    #[test]
    fn an_imported_folder_reads_back_as_the_same_data_set() {
        let dir = tempfile::tempdir().unwrap();
        let wanted =
            LoadOptions { drop_repeats: true, joiner: Some(" / ".into()), ..options(&["name", "tags"]) };
        let loaded = load(&raw(dir.path()), &wanted).unwrap();
        assert_eq!(loaded.dropped.repeats, 1);
        assert_eq!(loaded.dataset.items[2].text, "Gamma / \"q");
        let out = dir.path().join("imported");
        save(&loaded, &out, false).unwrap();
        let again = load(&out, &LoadOptions::default()).unwrap();
        assert_eq!(again.dataset, loaded.dataset);
        assert_eq!(again.hash(), loaded.dataset.hash());
        let filtered = load(&out, &LoadOptions { min_length: 2, ..Default::default() }).unwrap();
        assert_eq!(filtered.hash(), filtered.dataset.hash());
        assert_ne!(filtered.hash(), again.hash());
        let renamed = load(&out, &options(&["tags"])).unwrap();
        assert_eq!(renamed.dataset.items[0].text, "red");
        assert_eq!(renamed.dataset.interactions_hash(), loaded.dataset.interactions_hash());
        assert!(save(&loaded, &out, false).unwrap_err().to_string().contains("--overwrite"));
        let message = save(&renamed, &out, true).unwrap_err().to_string();
        assert!(message.contains("is itself read from that folder"), "{message}");
        assert_eq!(load(&out, &LoadOptions::default()).unwrap().dataset, loaded.dataset);
        let other = dir.path().join("other");
        save(&loaded, &other, true).unwrap();
        save(&renamed, &other, true).unwrap();
        assert_eq!(load(&other, &LoadOptions::default()).unwrap().dataset, renamed.dataset);
    }

    #[test]
    fn an_import_whose_tables_changed_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("imported");
        save(&load(&raw(dir.path()), &LoadOptions::default()).unwrap(), &out, false).unwrap();
        let table = out.join("items.tsv");
        std::fs::write(&table, std::fs::read_to_string(&table).unwrap().replace("Beta", "Betta")).unwrap();
        let message = load(&out, &LoadOptions::default()).unwrap_err().to_string();
        assert!(message.contains("dataset.json: hash: the tables beside it are not those"), "{message}");
        std::fs::write(out.join(MANIFEST), "{").unwrap();
        assert!(
            load(&out, &LoadOptions::default()).unwrap_err().to_string().contains("import the data again")
        );
    }

    #[test]
    fn missing_ambiguous_and_emptied_data_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let message = |path: &Path, options: &LoadOptions| load(path, options).unwrap_err().to_string();
        let plain = LoadOptions::default();
        assert!(message(&dir.path().join("nowhere"), &plain).contains("does not exist"));
        assert!(message(dir.path(), &plain).contains("holds no interactions.tsv"));
        let folder = raw(dir.path());
        assert!(
            message(&folder, &LoadOptions { min_length: 9, ..plain.clone() }).contains("lower --min-length")
        );
        assert!(message(&folder, &options(&["brand"])).contains("(found: name, tags)"));
        std::fs::write(folder.join("interactions.tsv"), "user_id\titem_id\tposition\nu\tx\t0\n").unwrap();
        assert!(message(&folder, &plain).contains("both there"));
        let direct = load(&folder.join("interactions.tsv"), &plain).unwrap();
        assert_eq!((direct.dataset.items.len(), direct.dataset.name.as_str()), (1, "raw"));
        assert!(message(&folder.join("interactions.tsv"), &options(&["name"])).contains("no items table"));
    }
}
