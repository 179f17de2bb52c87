//! What benches found as people read it: the work in words, a row of figures each, and what they were measured on.

use super::record::Record;
use crate::cli::output;
use crate::report::{Align, Cell, Table};
use crate::{Error, Result};
use serde_json::Value;

/// Columns of a terminal that words are wrapped to.
const WIDTH: usize = 100;

/// Prints the records, as lines of JSON or as a table.
pub fn print(records: &[Record], json: bool) -> Result<()> {
    if json {
        return records.iter().try_for_each(|record| {
            let line = serde_json::to_string(record)
                .map_err(|e| Error::setting(format!("no JSON: {e}"), "report this"))?;
            output::line(line)
        });
    }
    for (i, record) in records.iter().enumerate() {
        let more: Vec<String> = record.more.iter().filter_map(|(name, value)| said(name, value)).collect();
        let runs = match record.repetitions {
            1 => String::new(),
            several => format!(" of {several} runs"),
        };
        let timing = format!("{} runs to warm up, {} samples{runs}", record.warm_up, record.seconds.len());
        output::line(work_line(i, record))?;
        output::line(wrapped(4, &format!("inputs {}", record.inputs)))?;
        output::line(wrapped(4, &timing))?;
        if !more.is_empty() {
            output::line(wrapped(4, &more.join(", ")))?;
        }
    }
    output::line(format_args!("\n{}", figures(records).to_text().trim_end()))?;
    footer(records)
}

/// The work of record `i`, counted from 1 as in the table.
pub fn work_line(i: usize, record: &Record) -> String {
    let line = wrapped(4, &record.title());
    format!("{:>2}  {}", i + 1, line.trim_start())
}

fn figures(records: &[Record]) -> Table {
    let right = ["ms", "p10", "p90", "GFLOP/s", "GB/s", "of the ceiling"].map(|name| (name, Align::Right));
    let columns = [("#", Align::Right), ("work", Align::Left)].into_iter().chain(right);
    let mut table = Table::new(columns.chain([("bound by", Align::Left)]));
    for (i, record) in records.iter().enumerate() {
        let ms = |seconds: f64| format!("{:.3}", seconds * 1e3);
        let above = if is_above(record) { " *" } else { "" };
        let cells = [
            (i + 1).to_string(),
            record.bench.clone(),
            ms(record.median_seconds),
            ms(record.p10_seconds),
            ms(record.p90_seconds),
            format!("{:.1}", record.gflops),
            format!("{:.1}", record.gb_per_s),
            format!("{:.0} % of {}{above}", 100.0 * record.share_of_ceiling, record.nearest_ceiling),
            record.bound.clone(),
        ];
        table.row(cells.into_iter().map(Cell::new).collect());
    }
    table
}

fn footer(records: &[Record]) -> Result<()> {
    let Some(first) = records.first() else { return Ok(()) };
    // The CPU names its threads itself.
    let threads = format!("{} threads", first.threads);
    let threads = if first.device.contains(&threads) { String::new() } else { format!(", {threads}") };
    let load = first.load.map_or(String::new(), |load| format!(", load {load:.1}"));
    let revision = first.revision.as_ref().map_or(String::new(), |revision| format!(" ({revision})"));
    output::line(format_args!("{}{threads}{load}; lea {}{revision}", first.device, first.version))?;
    for (i, record) in records.iter().enumerate() {
        let product = record
            .ceiling_product_gflops
            .map_or(String::new(), |product| format!(", a product {product:.1}"));
        let single = record.ceiling_f32_gflops.map_or(String::new(), |f32| format!("; {f32:.1} in f32"));
        output::line(format_args!(
            "ceilings of {}: {:.1} GFLOP/s in {}{product}{single}; {:.1} GB/s",
            i + 1,
            record.ceiling_gflops,
            record.ceiling_dtype,
            record.ceiling_gb_per_s
        ))?;
    }
    match records.iter().any(is_above) {
        false => Ok(()),
        true => output::line(
            "* above 100 % of compute: the machine was busier, or slower, while the ceiling was measured; measure again",
        ),
    }
}

/// Whether the work came out faster than the device can compute.
fn is_above(record: &Record) -> bool {
    record.nearest_ceiling == "compute" && record.share_of_ceiling > 1.0
}

/// Words in lines of [`WIDTH`] columns, each `indent` columns in.
fn wrapped(indent: usize, text: &str) -> String {
    let mut lines = vec![" ".repeat(indent)];
    for word in text.split(' ') {
        let last = lines.len() - 1;
        if lines[last].len() > indent && lines[last].chars().count() + 1 + word.chars().count() > WIDTH {
            lines.push(" ".repeat(indent));
        }
        let line = lines.last_mut().expect("there is one");
        if line.len() > indent {
            line.push(' ');
        }
        line.push_str(word);
    }
    lines.join("\n")
}

/// A figure that a bench tells besides; nothing where it has none.
fn said(name: &str, value: &Value) -> Option<String> {
    let name = name.replace("_per_s", "/s").replace('_', " ");
    match value {
        Value::Null => None,
        Value::Number(number) if number.is_f64() => {
            let number = number.as_f64().unwrap_or_default();
            Some(format!("{number:.*} {name}", if number.abs() < 100.0 { 2 } else { 0 }))
        }
        Value::String(text) => Some(format!("{name} {text}")),
        other => Some(format!("{other} {name}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_wrapped_and_none_is_lost() {
        let text = "history 50, actions 100, ".repeat(12);
        let shown = wrapped(4, text.trim_end());
        assert!(shown.lines().count() > 2);
        assert!(
            shown
                .lines()
                .all(|line| line.len() <= WIDTH && line.starts_with("    h") || line.starts_with("    "))
        );
        assert_eq!(shown.split_whitespace().collect::<Vec<_>>(), text.split_whitespace().collect::<Vec<_>>());
        assert_eq!(wrapped(2, "one"), "  one");
    }
}
