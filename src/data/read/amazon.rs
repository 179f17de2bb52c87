//! Amazon reviews and metadata: one JSON object a line (2014, 2018 and 2023 releases), and the metadata of 2014,
//! whose lines are Python's dictionaries.
//!
//! | file | fields read |
//! | --- | --- |
//! | reviews | `reviewerID` (2023 `user_id`); `asin` (2023 `parent_asin`); `unixReviewTime` (2023 `timestamp`) |
//! | metadata | `asin` (2023 `parent_asin`); `title`; `brand` (2023 `store`); `category` or `categories` |
//!
//! The items' columns are `title`, `brand` and `category`, the path of categories joined by ` > `. HTML's character
//! references in them are replaced, and line breaks and tabs become spaces.

use super::catalogue::Catalogue;
use super::fault::{Fault, Reading, quoted};
use super::find::Files;
use super::html::unescape;
use super::lines::{Line, Lines};
use super::log::{Entry, Log};
use super::number;
use super::python;
use crate::data::dataset::Feedback;
use crate::{Error, Result};
use serde::Deserialize;
use serde_json::Value;

const COLUMNS: [&str; 3] = ["title", "brand", "category"];

#[derive(Deserialize)]
struct Review {
    #[serde(rename = "reviewerID", alias = "user_id")]
    user: Option<String>,
    asin: Option<String>,
    parent_asin: Option<String>,
    #[serde(rename = "unixReviewTime", alias = "timestamp")]
    time: Option<Value>,
}

#[derive(Deserialize)]
struct Metadata {
    asin: Option<String>,
    parent_asin: Option<String>,
    title: Option<Value>,
    #[serde(alias = "store")]
    brand: Option<Value>,
    #[serde(alias = "categories")]
    category: Option<Value>,
}

pub(super) fn read(files: &Files, reading: &mut Reading<'_>) -> Result<(Catalogue, Log)> {
    let mut catalogue = Catalogue::default();
    let mut log = Log::new(false, true);
    let mut lines = Lines::open(&files.log)?;
    while let Some(line) = lines.next()? {
        reading.report.rows += 1;
        let event = read_review(line, &mut catalogue);
        if let Some((user, entry)) = reading.keep(event)? {
            log.push(&user, entry)?;
        }
    }
    if log.rows() == 0 {
        let remedy = "give a file with one review a line, as JSON";
        return Err(Error::invalid(&files.log, "line 1", "there is no review in the file", remedy));
    }
    if let Some(path) = &files.items {
        catalogue.described_by(path, COLUMNS.map(String::from).to_vec())?;
        let mut lines = Lines::open(path)?;
        while let Some(line) = lines.next()? {
            if let Some((id, item)) = reading.keep(read_metadata(line))? {
                catalogue.describe_item(&id, || item.cells(), reading);
            }
        }
    }
    Ok((catalogue, log))
}

fn read_review(line: Line<'_>, catalogue: &mut Catalogue) -> Result<(String, Entry), Fault> {
    let text = text_of(line)?;
    let review: Review = serde_json::from_str(text).map_err(|e| not_json(line, &e.to_string()))?;
    let user = id_of(line, review.user, "reviewerID")?;
    let id = id_of(line, review.parent_asin.or(review.asin), "asin")?;
    let time = match review.time {
        Some(Value::Number(number)) => number::parse(&number.to_string()),
        Some(Value::String(text)) => number::parse(text.trim()),
        _ => None,
    };
    let missing =
        || fault(line, "no time", "no unixReviewTime that is a number".into(), "add it, or remove the line");
    let time = Some(time.ok_or_else(missing)?);
    let item = catalogue.number(&id, None, |reason, problem, remedy| fault(line, reason, problem, remedy))?;
    match item {
        Some(item) => Ok((user, Entry { item, kind: Feedback::Other, position: None, time })),
        None => {
            Err(fault(line, "an unknown item", format!("item {} is unknown", quoted(&id)), "remove the line"))
        }
    }
}

fn read_metadata(line: Line<'_>) -> Result<(String, Metadata), Fault> {
    let text = text_of(line)?.trim_start();
    let is_python = text.strip_prefix('{').is_some_and(|rest| rest.trim_start().starts_with(['\'', 'u']));
    let parsed = if is_python {
        python::parse(text).and_then(|value| serde_json::from_value(value).map_err(|e| e.to_string()))
    } else {
        serde_json::from_str(text).map_err(|e| e.to_string())
    };
    let mut item: Metadata = parsed.map_err(|problem| not_json(line, &problem))?;
    let id = id_of(line, item.parent_asin.take().or(item.asin.take()), "asin")?;
    Ok((id, item))
}

impl Metadata {
    fn cells(&self) -> Vec<String> {
        let mut path = Vec::new();
        self.category.iter().for_each(|value| flatten(value, &mut path));
        let text =
            |value: &Option<Value>| value.as_ref().and_then(Value::as_str).map_or(String::new(), clean);
        vec![text(&self.title), text(&self.brand), path.join(" > ")]
    }
}

/// The texts of nested lists, each once.
fn flatten(value: &Value, path: &mut Vec<String>) {
    match value {
        Value::String(text) => {
            let text = clean(text);
            if !text.is_empty() && !path.contains(&text) {
                path.push(text);
            }
        }
        Value::Array(list) => list.iter().for_each(|value| flatten(value, path)),
        _ => {}
    }
}

fn clean(text: &str) -> String {
    let mut text = unescape(text);
    if text.contains(['\t', '\n', '\r']) {
        text = text.replace(['\t', '\n', '\r'], " ");
    }
    text.trim().to_string()
}

fn text_of(line: Line<'_>) -> Result<&str, Fault> {
    std::str::from_utf8(line.bytes).map_err(|e| {
        let problem = format!("byte {} of the line is not UTF-8", e.valid_up_to() + 1);
        fault(line, "not UTF-8", problem, "convert the file to UTF-8")
    })
}

fn id_of(line: Line<'_>, id: Option<String>, field: &str) -> Result<String, Fault> {
    let id = id.map(|id| id.trim().to_string()).filter(|id| !id.is_empty());
    match id {
        Some(id) if id.contains(['\t', '\n', '\r']) => {
            let problem = format!("{field} {} holds a tab or a line break", quoted(&id));
            Err(fault(line, "an id with a tab or line break", problem, "give it another id"))
        }
        Some(id) => Ok(id),
        None => Err(fault(line, "no id", format!("no {field}"), "add it, or remove the line")),
    }
}

fn not_json(line: Line<'_>, problem: &str) -> Fault {
    // Each line is parsed by itself, so the parser's own line is always 1.
    let problem: String = problem.replace(" at line 1 column ", " at column ").chars().take(200).collect();
    let remedy = "give one JSON object a line, with the fields of the Amazon review data";
    fault(line, "no JSON object of the Amazon review data", problem, remedy)
}

fn fault(line: Line<'_>, reason: &'static str, problem: String, remedy: &str) -> Fault {
    Fault::new(line.path, line.number, reason, problem, remedy)
}
