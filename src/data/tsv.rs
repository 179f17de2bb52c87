//! The plain format: a table of interactions and, beside it, a table of items.
//!
//! | table | columns found by name |
//! | --- | --- |
//! | interactions | `user_id` or `session_id`; `item_id`; `position`, or `timestamp` or `time`; optionally `kind`, `cat` or `event` |
//! | items | `item_id`; any others, of which some form the text |
//!
//! A user's events are ordered by position, then by timestamp; ties keep the order of the file. Users are numbered
//! in the order of their first row, items in the order of the items table, or of their first row without one.

use super::dataset::{Dataset, Event, Feedback, Item, TextSource, User, are_lists};
use super::table::{Row, Table};
use crate::{Error, Result};
use std::collections::HashMap;
use std::path::Path;

const USER: [&str; 2] = ["user_id", "session_id"];
const ITEM: [&str; 1] = ["item_id"];
const TIME: [&str; 2] = ["timestamp", "time"];
const KIND: [&str; 3] = ["kind", "cat", "event"];
/// Columns that form the text where the caller names none: those of them which the table has, in this order.
const TEXT: [&str; 3] = ["title", "name", "text"];

/// What the caller wants of the items' texts.
#[derive(Debug, Clone, Copy)]
pub(super) struct TextWish<'a> {
    /// The columns that form the text. `None`: those called `title`, `name` or `text`. Empty: no text.
    pub columns: Option<&'a [String]>,
    /// Which of them are lists; `None`: those that look like it.
    pub lists: Option<&'a [String]>,
    /// What stands between two columns.
    pub joiner: &'a str,
}

/// Reads an interactions table and, if given, an items table, as a data set called `name`.
pub(super) fn read(
    name: &str,
    interactions: &Path,
    items: Option<&Path>,
    text: TextWish<'_>,
) -> Result<Dataset> {
    let mut catalogue = match items {
        Some(path) => Catalogue::read(path, text)?,
        None => Catalogue::without_items(interactions, text)?,
    };
    let users = read_users(interactions, &mut catalogue)?;
    Ok(Dataset {
        name: name.to_string(),
        columns: catalogue.columns,
        text: catalogue.text,
        items: catalogue.items,
        users,
    })
}

/// The items read so far and where to find them by id.
struct Catalogue {
    columns: Vec<String>,
    text: TextSource,
    items: Vec<Item>,
    number: HashMap<String, u32>,
    /// The items table; without one, every new id in the interactions is an item.
    source: Option<std::path::PathBuf>,
}

impl Catalogue {
    fn without_items(interactions: &Path, text: TextWish<'_>) -> Result<Self> {
        if let Some(column) = text.columns.and_then(|columns| columns.first()) {
            return Err(Error::setting(
                format!(
                    "the text column {column:?} is asked for, but {} has no items table",
                    interactions.display()
                ),
                "put an items.tsv beside it, or name no text columns",
            ));
        }
        let text = TextSource { columns: Vec::new(), lists: Vec::new(), joiner: text.joiner.to_string() };
        Ok(Catalogue { columns: Vec::new(), text, items: Vec::new(), number: HashMap::new(), source: None })
    }

    fn read(path: &Path, text: TextWish<'_>) -> Result<Self> {
        let mut table = Table::open(path)?;
        let id_column = table.require(&ITEM, "name the column of item ids item_id")?;
        let columns: Vec<String> = table.columns().iter().filter(|c| *c != ITEM[0]).cloned().collect();
        let chosen = text_columns(path, &columns, text.columns)?;
        let (mut items, mut number, mut lines) = (Vec::new(), HashMap::new(), Vec::new());
        while let Some(row) = table.next_row()? {
            let id = cell_of(&row, id_column, "item_id")?.to_string();
            if let Some(first) = number.insert(id.clone(), items.len() as u32) {
                let problem = format!("item {id:?} is already defined on line {}", lines[first as usize]);
                return Err(row.invalid(problem, "give every item one row"));
            }
            let cells = row.cells.iter().enumerate().filter(|(c, _)| *c != id_column);
            let fields: Vec<String> = cells.map(|(_, cell)| cell.to_string()).collect();
            lines.push(row.line);
            items.push(Item { id, text: String::new(), fields });
        }
        if items.is_empty() {
            return Err(Error::invalid(
                path,
                "line 2",
                "the table has no items",
                "add one row for every item",
            ));
        }
        let lists = text.lists.map_or_else(|| list_columns(&columns, &chosen, &items), <[String]>::to_vec);
        let text = TextSource { columns: chosen, lists, joiner: text.joiner.to_string() };
        text.compose(&columns, &mut items);
        Ok(Catalogue { columns, text, items, number, source: Some(path.to_path_buf()) })
    }

    /// Dense number of the item that `row` names.
    fn number(&mut self, row: &Row<'_>, column: usize) -> Result<u32> {
        let id = cell_of(row, column, "item_id")?;
        if let Some(&number) = self.number.get(id) {
            return Ok(number);
        }
        if let Some(source) = &self.source {
            let problem =
                format!("item {id:?} is not among the {} of {}", self.items.len(), source.display());
            return Err(row.invalid(problem, "add the item there, or remove this row"));
        }
        let number = self.items.len() as u32;
        self.number.insert(id.to_string(), number);
        self.items.push(Item { id: id.to_string(), text: String::new(), fields: Vec::new() });
        Ok(number)
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

fn cell_of<'a>(row: &Row<'a>, column: usize, name: &str) -> Result<&'a str> {
    match row.cells[column].trim() {
        "" => Err(row.invalid(format!("the cell {name} is empty"), "fill it, or remove the row")),
        cell => Ok(cell),
    }
}

/// Where the columns of an interactions table are.
struct InteractionColumns {
    user: usize,
    item: usize,
    position: Option<usize>,
    time: Option<(usize, String)>,
    kind: Option<usize>,
}

impl InteractionColumns {
    fn of(table: &Table) -> Result<Self> {
        let user =
            table.require(&USER, "name the column of users user_id, or that of sessions session_id")?;
        if table.find(&USER[..1]).is_some() && table.find(&USER[1..]).is_some() {
            let problem = "both user_id and session_id are there, and each could be the sequence";
            return Err(Error::invalid(
                table.path(),
                "line 1",
                problem,
                "rename or remove the one that is not",
            ));
        }
        let item = table.require(&ITEM, "name the column of item ids item_id")?;
        let (position, time) = (table.find(&["position"]), table.find(&TIME));
        if position.is_none() && time.is_none() {
            table.require(
                &["position", TIME[0], TIME[1]],
                "add one, so that the events of a user have an order",
            )?;
        }
        let time = time.map(|column| (column, table.columns()[column].clone()));
        Ok(InteractionColumns { user, item, position, time, kind: table.find(&KIND) })
    }
}

/// Sort key of an event: whole part and fraction of the position, then of the timestamp.
type Order = ((i64, f64), (i64, f64));

fn read_users(path: &Path, catalogue: &mut Catalogue) -> Result<Vec<User>> {
    let mut table = Table::open(path)?;
    let columns = InteractionColumns::of(&table)?;
    let mut number: HashMap<String, usize> = HashMap::new();
    let mut found: Vec<(String, Vec<(Order, Event)>)> = Vec::new();
    while let Some(row) = table.next_row()? {
        let id = cell_of(&row, columns.user, "of the user")?;
        let position = columns.position.map_or(Ok((0, 0.0)), |c| order_of(&row, c, "position"))?;
        let time = columns.time.as_ref().map_or(Ok((0, 0.0)), |(c, name)| order_of(&row, *c, name))?;
        let event = Event { item: catalogue.number(&row, columns.item)?, kind: kind_of(&row, columns.kind)? };
        let user = match number.get(id) {
            Some(&user) => user,
            None => {
                number.insert(id.to_string(), found.len());
                found.push((id.to_string(), Vec::new()));
                found.len() - 1
            }
        };
        found[user].1.push(((position, time), event));
    }
    if found.is_empty() {
        return Err(Error::invalid(
            path,
            "line 2",
            "the table has no interactions",
            "add one row for every event",
        ));
    }
    Ok(found.into_iter().map(|(id, events)| User { id, events: in_order(events) }).collect())
}

fn in_order(mut events: Vec<(Order, Event)>) -> Vec<Event> {
    let compare = |a: (i64, f64), b: (i64, f64)| a.0.cmp(&b.0).then(a.1.total_cmp(&b.1));
    events.sort_by(|(a, _), (b, _)| compare(a.0, b.0).then(compare(a.1, b.1)));
    events.into_iter().map(|(_, event)| event).collect()
}

/// A number as its floor and the rest, so that 64-bit nanoseconds keep their order.
fn order_of(row: &Row<'_>, column: usize, name: &str) -> Result<(i64, f64)> {
    let cell = row.cells[column].trim();
    if let Ok(whole) = cell.parse::<i64>() {
        return Ok((whole, 0.0));
    }
    match cell.parse::<f64>() {
        Ok(value) if value.abs() < 9e18 => Ok((value.floor() as i64, value - value.floor())),
        _ => Err(row.invalid(
            format!("{name} {cell:?} is not a number"),
            "write it as a number, such as 17 or 1440692763.5",
        )),
    }
}

fn kind_of(row: &Row<'_>, column: Option<usize>) -> Result<Feedback> {
    let Some(column) = column else { return Ok(Feedback::Other) };
    Feedback::parse(row.cells[column]).ok_or_else(|| {
        let problem = format!("unknown kind of feedback {:?}", row.cells[column]);
        row.invalid(problem, "use click, view, addtocart, buy, purchase, transaction or other")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_texts(interactions: &str, items: Option<&str>, text: Option<&[&str]>) -> Result<Dataset> {
        let dir = tempfile::tempdir().unwrap();
        let (first, second) = (dir.path().join("interactions.tsv"), dir.path().join("items.tsv"));
        std::fs::write(&first, interactions).unwrap();
        std::fs::write(&second, items.unwrap_or_default()).unwrap();
        let text: Option<Vec<String>> = text.map(|columns| columns.iter().map(|c| c.to_string()).collect());
        let wish = TextWish { columns: text.as_deref(), lists: None, joiner: "; " };
        read("test", &first, items.map(|_| second.as_path()), wish)
    }

    fn sequences(dataset: &Dataset) -> Vec<(&str, Vec<&str>)> {
        let ids =
            |user: &User| user.events.iter().map(|e| dataset.items[e.item as usize].id.as_str()).collect();
        dataset.users.iter().map(|user| (user.id.as_str(), ids(user))).collect()
    }

    const ITEMS: &str = "item_id\tname\ttags\nx\tAlpha\tred,blue\ny\tBeta\t\nz\t\tgreen\n";

    #[test]
    fn events_are_ordered_by_position_then_time_then_file() {
        let by_both = "user_id\titem_id\tposition\ttime\nu\tx\t1\t5\nu\ty\t0\t9\nu\tz\t1\t4.5\nu\ty\t1\t5\n";
        let dataset = read_texts(by_both, Some(ITEMS), None).unwrap();
        assert_eq!(sequences(&dataset), [("u", vec!["y", "z", "x", "y"])]);
        let nanoseconds =
            "session_id\titem_id\ttimestamp\n2\ta\t9007199254740993\n1\tb\t1\n2\tc\t9007199254740992\n";
        let dataset = read_texts(nanoseconds, None, None).unwrap();
        assert_eq!(sequences(&dataset), [("2", vec!["c", "a"]), ("1", vec!["b"])]);
    }

    #[test]
    fn the_text_is_made_of_the_chosen_columns_without_empty_ones() {
        let interactions = "user_id\titem_id\tposition\nu\tx\t1\n";
        let texts = |text: Option<&[&str]>| -> Vec<String> {
            read_texts(interactions, Some(ITEMS), text)
                .unwrap()
                .items
                .into_iter()
                .map(|item| item.text)
                .collect()
        };
        assert_eq!(texts(None), ["Alpha", "Beta", ""]);
        assert_eq!(texts(Some(&["name", "tags"])), ["Alpha; red, blue", "Beta", "green"]);
        assert_eq!(texts(Some(&[])), ["", "", ""]);
    }

    #[test]
    fn kinds_are_read_where_the_table_has_them() {
        let dataset =
            read_texts("user_id\titem_id\ttime\tcat\nu\ta\t1\tview\nu\tb\t2\ttransaction\n", None, None)
                .unwrap();
        let kinds: Vec<Feedback> = dataset.users[0].events.iter().map(|event| event.kind).collect();
        assert_eq!(kinds, [Feedback::Click, Feedback::Buy]);
    }

    #[test]
    fn wrong_tables_are_refused_with_line_and_remedy() {
        let header = "user_id\titem_id\tposition\n";
        let row = |cells: &str| format!("{header}{cells}\n");
        let cases: [(String, Option<&str>, &str); 10] = [
            (row("u\tw\t0"), Some(ITEMS), "line 2: item \"w\" is not among the 3"),
            (row("u\tx\tfirst"), Some(ITEMS), "line 2: position \"first\" is not a number"),
            (row("u\tx\tNaN"), Some(ITEMS), "is not a number"),
            (row("\tx\t0"), Some(ITEMS), "line 2: the cell of the user is empty"),
            (header.to_string(), Some(ITEMS), "the table has no interactions"),
            (
                "user_id\titem_id\nu\tx\n".into(),
                Some(ITEMS),
                "no column called position or timestamp or time",
            ),
            ("item_id\tposition\nx\t1\n".into(), Some(ITEMS), "no column called user_id or session_id"),
            (
                "user_id\tsession_id\titem_id\ttime\nu\t1\tx\t1\n".into(),
                Some(ITEMS),
                "both user_id and session_id",
            ),
            (
                "user_id\titem_id\ttime\tkind\nu\tx\t1\tlikes\n".into(),
                Some(ITEMS),
                "unknown kind of feedback \"likes\"",
            ),
            (
                row("u\tx\t0"),
                Some("item_id\tname\nx\ta\nx\tb\n"),
                "line 3: item \"x\" is already defined on line 2",
            ),
        ];
        for (interactions, items, expected) in cases {
            let message = read_texts(&interactions, items, None).unwrap_err().to_string();
            assert!(message.contains(expected) && message.contains(".tsv"), "{message}");
        }
        let message =
            read_texts(&row("u\tx\t0"), Some("item_id\tprice\nx\t3\n"), None).unwrap_err().to_string();
        assert!(message.contains("--text"), "{message}");
    }
}
