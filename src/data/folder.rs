//! Data sets on disk: finding the tables of a folder and reading them with their filters.
//!
//! A raw folder holds `interactions.tsv` (or `events.tsv`) and, if the items have text, `items.tsv`; each may be
//! gzipped. An imported folder holds the same two tables, filtered and in canonical order, and `dataset.json`
//! with counts, hashes and where they came from; reading it back checks the hashes.

use super::dataset::{Dataset, TextSource};
use super::filters::{FilterReport, Filters};
use super::synth::SynthConfig;
use super::tsv::{self, TextWish};
use crate::files::{self, FileHash};
use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

pub(super) const FORMAT: &str = "lea-dataset-1";
pub(super) const MANIFEST: &str = "dataset.json";
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
    /// The items table, where it does not lie beside the interactions under the name `items.tsv`.
    pub items: Option<PathBuf>,
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
}

/// A data set and how it came to be.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The data set after the filters.
    pub dataset: Dataset,
    /// The filters applied.
    pub filters: Filters,
    /// What they dropped.
    pub dropped: FilterReport,
    /// The files read; none if the data was made.
    pub sources: Vec<FileHash>,
    /// Where those lie; [`save`](super::save) writes nothing beside them.
    pub paths: Vec<PathBuf>,
    /// The configuration of a synthetic data set.
    pub synthetic: Option<SynthConfig>,
}

impl Loaded {
    /// A data set that was made by [`synthesise`](super::synthesise).
    pub(super) fn made(dataset: Dataset, config: SynthConfig) -> Self {
        let (filters, dropped) = (Filters::default(), FilterReport::default());
        Loaded { dataset, filters, dropped, sources: Vec::new(), paths: Vec::new(), synthetic: Some(config) }
    }
}

/// `dataset.json` of an imported folder.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Manifest {
    pub(super) format: String,
    pub(super) name: String,
    pub(super) users: usize,
    pub(super) items: usize,
    pub(super) interactions: usize,
    pub(super) text: TextSource,
    pub(super) hash: String,
    pub(super) interactions_hash: String,
    pub(super) filters: Filters,
    pub(super) dropped: FilterReport,
    pub(super) sources: Vec<FileHash>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) synthetic: Option<SynthConfig>,
}

/// Reads the data set at `path`: a raw folder, an imported folder, or an interactions table.
///
/// # Errors
/// Tables that are missing, ambiguous or malformed, an imported folder whose tables no longer match its hashes, and
/// filters that leave no user.
pub fn load(path: &Path, options: &LoadOptions) -> Result<Loaded> {
    let tables = Tables::find(path, options)?;
    let manifest = if path.is_dir() { read_manifest(&path.join(MANIFEST))? } else { None };
    let imported = manifest.as_ref().map(|manifest| &manifest.text);
    let text = TextWish {
        columns: options.text.as_deref().or(imported.map(|text| text.columns.as_slice())),
        lists: if options.text.is_none() { imported.map(|text| text.lists.as_slice()) } else { None },
        joiner: options.joiner.as_deref().or(imported.map(|text| text.joiner.as_str())).unwrap_or(JOINER),
    };
    let name = manifest.as_ref().map_or_else(|| name_of(path), |manifest| manifest.name.clone());
    let mut dataset = tsv::read(&name, &tables.interactions, tables.items.as_deref(), text)?;
    if let Some(manifest) = &manifest {
        check_hashes(&path.join(MANIFEST), manifest, &dataset)?;
    }
    let filters = options.filters();
    let dropped = filters.apply(&mut dataset);
    if dataset.users.is_empty() {
        return Err(Error::setting(
            format!(
                "the filters leave no user of {} ({})",
                path.display(),
                dropped.line().unwrap_or_default()
            ),
            "lower --min-length or --core",
        ));
    }
    let paths = tables.paths();
    let sources = paths.iter().map(|path| FileHash::of(path)).collect::<Result<_>>()?;
    let synthetic = manifest.and_then(|manifest| manifest.synthetic);
    Ok(Loaded { dataset, filters, dropped, sources, paths, synthetic })
}

/// The tables of a data set.
struct Tables {
    interactions: PathBuf,
    items: Option<PathBuf>,
}

impl Tables {
    fn find(path: &Path, options: &LoadOptions) -> Result<Self> {
        if !path.exists() {
            let problem = format!("{} does not exist", path.display());
            return Err(Error::setting(problem, "give a data folder or an interactions table with --data"));
        }
        if !path.is_dir() {
            return Ok(Tables { interactions: path.to_path_buf(), items: options.items.clone() });
        }
        let Some(interactions) = only_one(path, &["interactions", "events"])? else {
            return Err(Error::setting(
                format!(
                    "{} holds no interactions.tsv, interactions.tsv.gz, events.tsv or events.tsv.gz",
                    path.display()
                ),
                "name the table so, or give its path itself",
            ));
        };
        let items = match &options.items {
            Some(items) => Some(items.clone()),
            None => only_one(path, &["items"])?,
        };
        Ok(Tables { interactions, items })
    }

    fn paths(&self) -> Vec<PathBuf> {
        std::iter::once(&self.interactions).chain(&self.items).cloned().collect()
    }
}

/// The table in `folder` with one of the `stems`, plain or gzipped; two of them are an error.
fn only_one(folder: &Path, stems: &[&str]) -> Result<Option<PathBuf>> {
    let names = stems.iter().flat_map(|stem| [format!("{stem}.tsv"), format!("{stem}.tsv.gz")]);
    let mut found: Vec<PathBuf> = names.map(|name| folder.join(name)).filter(|path| path.is_file()).collect();
    if let [first, second, ..] = found.as_slice() {
        let problem =
            format!("{} and {} are both there, and either could be meant", first.display(), second.display());
        return Err(Error::setting(problem, "remove one, or give the path of the table itself"));
    }
    Ok(found.pop())
}

fn name_of(path: &Path) -> String {
    let folder = if path.is_dir() { Some(path) } else { path.parent().filter(|p| !p.as_os_str().is_empty()) };
    let absolute = folder.and_then(|folder| folder.canonicalize().ok());
    absolute
        .as_deref()
        .and_then(Path::file_name)
        .map_or("data".into(), |name| name.to_string_lossy().into_owned())
}

pub(super) fn read_manifest(path: &Path) -> Result<Option<Manifest>> {
    if !path.is_file() {
        return Ok(None);
    }
    let remedy = "import the data again";
    let manifest: Manifest = serde_json::from_str(&files::read_text(path)?)
        .map_err(|e| Error::invalid(path, format!("line {}", e.line()), e.to_string(), remedy))?;
    if manifest.format != FORMAT {
        let problem = format!("{:?} where {FORMAT:?} is expected", manifest.format);
        return Err(Error::invalid(path, "format", problem, remedy));
    }
    Ok(Some(manifest))
}

fn check_hashes(path: &Path, manifest: &Manifest, dataset: &Dataset) -> Result<()> {
    let same_text = manifest.text == dataset.text;
    let matches = manifest.interactions_hash == dataset.interactions_hash();
    if matches && (!same_text || manifest.hash == dataset.hash()) {
        return Ok(());
    }
    let place = if matches { "hash" } else { "interactions_hash" };
    let problem = "the tables beside it are not those that were imported";
    Err(Error::invalid(
        path,
        place,
        problem,
        "import the data again, or remove dataset.json to read the tables as they are",
    ))
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
        assert_eq!(again.dataset.hash(), loaded.dataset.hash());
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
