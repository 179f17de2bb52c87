//! The items while files are read: their numbers by id, and the cells that describe them.

use super::fault::{Fault, Reading, quoted};
use super::interner::Interner;
use super::table::{Row, Table};
use super::wish::{TextWish, UnknownItems};
use crate::data::dataset::{Item, TextSource, are_lists};
use crate::{Error, Result};
use std::path::{Path, PathBuf};

/// Columns that form the text where the caller names none: those of them which the table has, in this order.
const TEXT: [&str; 3] = ["title", "name", "text"];

/// The items read so far and where to find them by id.
#[derive(Debug, Default)]
pub(super) struct Catalogue {
    ids: Interner,
    /// Names of the cells beside the id.
    columns: Vec<String>,
    /// Cells of each item that a row described.
    cells: Vec<Option<Vec<String>>>,
    /// The file that describes the items.
    source: Option<PathBuf>,
    /// Whether that file alone says what is an item.
    closed: bool,
}

impl Catalogue {
    /// A catalogue of the items that the table at `path` describes, in its order.
    pub(super) fn of_table(mut table: Table, id_column: usize, reading: &mut Reading<'_>) -> Result<Self> {
        let path = table.path().to_path_buf();
        let mut catalogue = Catalogue { closed: true, ..Catalogue::default() };
        catalogue.describe(&mut table, id_column, reading)?;
        if catalogue.ids.len() == 0 {
            return Err(Error::invalid(
                path,
                "line 2",
                "the table has no items",
                "add one row for every item",
            ));
        }
        Ok(catalogue)
    }

    /// Reads the rows of an items table. A closed catalogue takes them all, and none twice; an open one those of the
    /// items it has, the first row of each.
    pub(super) fn describe(
        &mut self,
        table: &mut Table,
        id_column: usize,
        reading: &mut Reading<'_>,
    ) -> Result<()> {
        let columns: Vec<usize> = (0..table.columns().len()).filter(|&c| c != id_column).collect();
        let names = columns.iter().map(|&c| table.columns()[c].clone()).collect();
        self.described_by(table.path(), names)?;
        while let Some(row) = table.next_row()? {
            let used = row.and_then(|row| self.describe_row(&row, id_column, &columns, reading));
            reading.keep(used)?;
        }
        reading.report.latin1_lines += table.latin1_lines();
        Ok(())
    }

    /// Says which file describes the items, and what its cells are called.
    pub(super) fn described_by(&mut self, path: &Path, columns: Vec<String>) -> Result<()> {
        if columns.iter().any(|name| name == "item_id") {
            let problem = "a column that is not the item's id is called item_id";
            return Err(Error::invalid(path, "line 1", problem, "rename that column"));
        }
        (self.columns, self.source) = (columns, Some(path.to_path_buf()));
        Ok(())
    }

    fn describe_row(
        &mut self,
        row: &Row<'_>,
        id_column: usize,
        columns: &[usize],
        reading: &mut Reading<'_>,
    ) -> Result<(), Fault> {
        let id = row.id(id_column, "of the item id")?;
        let cells = || columns.iter().map(|&c| row.whole_cell(c).replace(['\t', '\r', '\n'], " ")).collect();
        if !self.closed {
            self.describe_item(id, cells, reading);
            return Ok(());
        }
        if self.ids.find(id).is_some() {
            let problem = format!("item {} is already defined on an earlier line", quoted(id));
            return Err(row.fault("an item defined twice", problem, "give every item one row"));
        }
        let too_many = || row.fault("more than 2^32 items", "more than 2^32 items", "leave some out");
        self.ids.number(id).ok_or_else(too_many)?;
        self.cells.push(Some(cells()));
        Ok(())
    }

    /// Gives an item of an open catalogue its cells, unless it has some; counts what is left out.
    pub(super) fn describe_item(
        &mut self,
        id: &str,
        cells: impl FnOnce() -> Vec<String>,
        reading: &mut Reading<'_>,
    ) {
        match self.ids.find(id) {
            None => reading.report.unmet_items += 1,
            Some(number) => {
                self.cells.resize(self.ids.len(), None);
                match &mut self.cells[number as usize] {
                    Some(_) => reading.report.repeated_items += 1,
                    new => *new = Some(cells()),
                }
            }
        }
    }

    /// Dense number of the item called `id` in a log; `None` for one that is not an item.
    ///
    /// # Errors
    /// The fault of a row that may not name it.
    pub(super) fn number(
        &mut self,
        id: &str,
        policy: Option<UnknownItems>,
        fault: impl FnOnce(&'static str, String, &str) -> Fault,
    ) -> Result<Option<u32>, Fault> {
        if self.closed
            && policy != Some(UnknownItems::Keep)
            && let Some(source) = &self.source
        {
            return match self.ids.find(id) {
                None if policy == Some(UnknownItems::Drop) => Ok(None),
                None => {
                    let (found, source) = (self.ids.len(), source.display());
                    let problem = format!("item {} is not among the {found} of {source}", quoted(id));
                    let remedy = "add the item there, remove this row, or pass --unknown-items drop or keep";
                    Err(fault("an item that the items' file does not know", problem, remedy))
                }
                known => Ok(known),
            };
        }
        match self.ids.number(id) {
            Some(number) => Ok(Some(number)),
            None => Err(fault("more than 2^32 items", "more than 2^32 items".into(), "leave some out")),
        }
    }

    /// The columns, what the texts are made of, and the items; also which of the items no row described. `log` is
    /// named where texts are asked for that nothing holds.
    pub(super) fn finish(self, text: TextWish<'_>, log: &Path) -> Result<Finished> {
        let undescribed: Vec<bool> = (0..self.ids.len())
            .map(|n| self.source.is_some() && self.cells.get(n).is_none_or(Option::is_none))
            .collect();
        let columns = self.columns;
        let chosen = match &self.source {
            Some(source) => text_columns(source, &columns, text.columns)?,
            None => no_text_columns(log, text.columns)?,
        };
        let mut cells = self.cells.into_iter();
        let blank = || vec![String::new(); columns.len()];
        let mut items: Vec<Item> = self
            .ids
            .into_texts()
            .map(|id| Item { id, text: String::new(), fields: cells.next().flatten().unwrap_or_else(blank) })
            .collect();
        let lists = text.lists.map_or_else(|| list_columns(&columns, &chosen, &items), <[String]>::to_vec);
        let text = TextSource { columns: chosen, lists, joiner: text.joiner.to_string() };
        text.compose(&columns, &mut items);
        Ok(Finished { columns, text, items, undescribed })
    }

    /// The file that describes the items.
    pub(super) fn source(&self) -> Option<&Path> {
        self.source.as_deref()
    }

    /// Whether the items' file alone says what is an item.
    pub(super) fn is_closed(&self) -> bool {
        self.closed
    }
}

/// A catalogue that is complete.
pub(super) struct Finished {
    pub(super) columns: Vec<String>,
    pub(super) text: TextSource,
    pub(super) items: Vec<Item>,
    /// For each item whether there is an items' file and no row of it is about the item.
    pub(super) undescribed: Vec<bool>,
}

fn no_text_columns(log: &Path, wanted: Option<&[String]>) -> Result<Vec<String>> {
    match wanted.and_then(|columns| columns.first()) {
        None => Ok(Vec::new()),
        Some(column) => Err(Error::setting(
            format!("the text column {column:?} is asked for, but {} has no items table", log.display()),
            "put an items' file beside it, give one with --items, or name no text columns",
        )),
    }
}

fn text_columns(path: &Path, columns: &[String], wanted: Option<&[String]>) -> Result<Vec<String>> {
    if let Some(wanted) = wanted {
        if let Some(missing) = wanted.iter().find(|name| !columns.contains(name)) {
            let problem = format!("no column called {missing} (found: {})", columns.join(", "));
            return Err(Error::invalid(path, "line 1", problem, "choose the text from the columns found"));
        }
        return Ok(wanted.to_vec());
    }
    let found: Vec<String> =
        TEXT.iter().filter(|name| columns.iter().any(|c| c == *name)).map(|n| n.to_string()).collect();
    if found.is_empty() && !columns.is_empty() {
        let problem = format!("none of the columns {} is called title, name or text", columns.join(", "));
        return Err(Error::invalid(
            path,
            "line 1",
            problem,
            "say with --text which of them form the item's text",
        ));
    }
    Ok(found)
}

/// Those of the `chosen` columns whose cells are comma-separated lists.
fn list_columns(columns: &[String], chosen: &[String], items: &[Item]) -> Vec<String> {
    let is_list = |name: &&String| match columns.iter().position(|column| column == *name) {
        Some(c) => are_lists(items.iter().map(|item| item.fields[c].as_str())),
        None => false,
    };
    chosen.iter().filter(is_list).cloned().collect()
}
