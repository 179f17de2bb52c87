//! Data whose users are read as they are asked for, where they lie on disk in a way that allows it.

use super::dataset::Dataset;
use super::filters::Filters;
use super::folder::{LoadOptions, load};
use super::histories::Histories;
use super::loaded::Loaded;
use super::manifest::{MANIFEST, Manifest, read_manifest};
use super::read::{Files, Format, StoredUsers, read_by_user};
use crate::Result;
use std::path::Path;

/// A data set that is gone through user by user.
pub struct ByUser(Source);

enum Source {
    /// An imported folder: items in memory, users in their table.
    Table(Box<Table>),
    /// Anything else.
    Memory(Box<Loaded>),
}

struct Table {
    items: Dataset,
    users: StoredUsers,
    hash: String,
}

/// As [`load`]; but the users of an imported folder, to which no filter is applied and whose tables are not gzipped, stay
/// on disk, so that memory does not grow with them.
///
/// # Errors
/// As [`load`].
pub fn open(path: &Path, options: &LoadOptions) -> Result<ByUser> {
    Ok(ByUser(match open_table(path, options)? {
        Some(table) => Source::Table(Box::new(table)),
        None => Source::Memory(Box::new(load(path, options)?)),
    }))
}

/// `None` where the users cannot stay on disk. Whatever is wrong with an import is left to [`load`] to say.
fn open_table(path: &Path, options: &LoadOptions) -> Result<Option<Table>> {
    let Some(manifest) = manifest_of(path, options)? else { return Ok(None) };
    let files = Files::find(path, options.format, None)?;
    let (log, items) = (path.join("interactions.tsv"), path.join("items.tsv"));
    if files != (Files { format: Format::Tsv, log: log.clone(), items: Some(items.clone()) }) {
        return Ok(None);
    }
    let wish = options.wish(Some(&manifest.text));
    let Some((dataset, opened)) = read_by_user(&manifest.name, (&log, &items), &wish, manifest.users)? else {
        return Ok(None);
    };
    let same_text = dataset.text == manifest.text;
    let whole = opened.users.interactions_hash() == manifest.interactions_hash
        && (!same_text || opened.hash == manifest.hash);
    Ok(whole.then(|| Table { items: dataset, users: opened.users, hash: opened.hash }))
}

/// The manifest of an import that is to be read as it is.
fn manifest_of(path: &Path, options: &LoadOptions) -> Result<Option<Manifest>> {
    let LoadOptions { text: _, joiner: _, items, format: _, user_column, item_column, time_column, .. } =
        options;
    let asked = [user_column, item_column, time_column].iter().any(|column| column.is_some());
    let Filters { drop_repeats, min_length, core } = options.filters();
    let filtered = drop_repeats || min_length > 1 || core > 0 || options.drop_duplicates;
    if asked || filtered || items.is_some() || options.unknown_items.is_some() || !path.is_dir() {
        return Ok(None);
    }
    read_manifest(&path.join(MANIFEST))
}

impl ByUser {
    /// Name, items and texts. It may be without users: those are [`ByUser::users`].
    pub fn items(&self) -> &Dataset {
        match &self.0 {
            Source::Table(table) => &table.items,
            Source::Memory(loaded) => &loaded.dataset,
        }
    }

    /// The users.
    pub fn users(&self) -> &dyn Histories {
        match &self.0 {
            Source::Table(table) => &table.users,
            Source::Memory(loaded) => &loaded.dataset,
        }
    }

    /// [`Dataset::hash`].
    pub fn hash(&self) -> &str {
        match &self.0 {
            Source::Table(table) => &table.hash,
            Source::Memory(loaded) => loaded.hash(),
        }
    }

    /// As [`Loaded::dropped_lines`].
    pub fn dropped_lines(&self) -> Vec<String> {
        match &self.0 {
            Source::Table(_) => Vec::new(),
            Source::Memory(loaded) => loaded.dropped_lines(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{SynthConfig, save, synthesise};

    fn imported(dir: &Path, users: usize) -> Loaded {
        let config = SynthConfig { items: 60, users, mean_length: 9.0, ..SynthConfig::default() };
        let loaded = synthesise(&config).unwrap();
        save(&loaded, dir, true).unwrap();
        loaded
    }

    fn in_table(opened: &ByUser) -> bool {
        matches!(opened.0, Source::Table(_))
    }

    #[test]
    fn users_read_from_the_table_are_those_in_memory() {
        let dir = tempfile::tempdir().unwrap();
        // More than the blocks that are kept.
        let loaded = imported(dir.path(), 4000);
        assert!(loaded.dataset.interactions() > 6 * 4096);
        let opened = open(dir.path(), &LoadOptions::default()).unwrap();
        assert!(in_table(&opened));
        let users = opened.users();
        assert_eq!(users.count(), 4000);
        let there_and_back = (0..4000u32).chain((0..4000).rev()).chain((0..200).map(|i| i * 1231 % 4000));
        for user in there_and_back {
            let expected = &loaded.dataset.users[user as usize];
            assert_eq!(users.events(user).unwrap(), expected.events, "{user}");
        }
        assert_eq!(users.id(3999).unwrap(), loaded.dataset.users[3999].id);
        assert_eq!(users.interactions_hash(), loaded.dataset.interactions_hash());
        assert_eq!(opened.hash(), loaded.dataset.hash());
        let items = Dataset { users: Vec::new(), ..loaded.dataset };
        assert_eq!(opened.items(), &items);
    }

    #[test]
    fn other_texts_leave_the_users_on_disk_and_filters_do_not() {
        let dir = tempfile::tempdir().unwrap();
        imported(dir.path(), 50);
        let options = [
            (LoadOptions { text: Some(Vec::new()), ..LoadOptions::default() }, true),
            (LoadOptions { min_length: 7, ..LoadOptions::default() }, false),
            (LoadOptions { drop_repeats: true, ..LoadOptions::default() }, false),
            (LoadOptions { core: 2, ..LoadOptions::default() }, false),
        ];
        for (options, stay) in options {
            let (opened, loaded) = (open(dir.path(), &options).unwrap(), load(dir.path(), &options).unwrap());
            assert_eq!(in_table(&opened), stay);
            assert_eq!(opened.hash(), loaded.hash());
            assert_eq!(opened.users().count(), loaded.dataset.users.len());
        }
        std::fs::remove_file(dir.path().join(MANIFEST)).unwrap();
        assert!(!in_table(&open(dir.path(), &LoadOptions::default()).unwrap()));
    }

    #[test]
    fn a_table_that_is_not_that_of_the_import_is_refused_as_ever() {
        let dir = tempfile::tempdir().unwrap();
        imported(dir.path(), 50);
        let table = dir.path().join("interactions.tsv");
        let text = std::fs::read_to_string(&table).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        let swapped = [&[lines[0], lines[2], lines[1]], &lines[3..]].concat().join("\n");
        let cut = &text[..text.len() - 1];
        let without_a_row = text.replacen(&format!("{}\n", lines[1]), "", 1);
        for (changed, same_data) in [(swapped.as_str(), true), (cut, true), (&without_a_row, false)] {
            std::fs::write(&table, changed).unwrap();
            match (open(dir.path(), &LoadOptions::default()), same_data) {
                // Its rows stand in another order, or its last line has no end: still the same data.
                (Ok(opened), true) => assert!(!in_table(&opened)),
                (Err(error), false) => assert!(error.to_string().contains("not those that were imported")),
                _ => panic!("{changed}"),
            }
        }
    }

    #[test]
    fn a_table_that_changes_while_it_is_read_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let kept = imported(dir.path(), 50).dataset.users[7].events.clone();
        let table = dir.path().join("interactions.tsv");
        let text = std::fs::read_to_string(&table).unwrap();
        // Another kind of event, of the same length; a line less; and a time of change by itself, which is no change.
        let other = text.replacen("click", "other", 1);
        let shorter = text[..text.len() - 1].rsplit_once('\n').unwrap().0.to_string() + "\n";
        for (changed, same) in [(&other, false), (&shorter, false), (&text, true)] {
            std::fs::write(&table, &text).unwrap();
            let opened = open(dir.path(), &LoadOptions::default()).unwrap();
            assert!(in_table(&opened));
            assert_eq!(*changed == text, same);
            std::fs::write(&table, changed).unwrap();
            match opened.users().events(7) {
                Ok(events) => assert!(same && events == kept),
                Err(error) => {
                    let message = error.to_string();
                    let told = "interactions.tsv: content: it was changed while it was read";
                    assert!(!same && message.contains(told), "{message}");
                }
            }
        }
    }
}
