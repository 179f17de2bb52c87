//! The plain tables, with tabs and with commas: which columns are read, in what order events stand, what is refused.

use lea::data::{Dataset, Feedback, LoadOptions, Loaded, UnknownItems, load};

/// Loads a folder with these tables; `extension` is `tsv` or `csv`, and tabs are replaced by commas for the latter.
fn read_as(extension: &str, log: &str, items: Option<&str>, options: &LoadOptions) -> lea::Result<Loaded> {
    let dir = tempfile::tempdir().unwrap();
    let text = |text: &str| if extension == "csv" { text.replace('\t', ",") } else { text.to_string() };
    std::fs::write(dir.path().join(format!("interactions.{extension}")), text(log)).unwrap();
    if let Some(items) = items {
        std::fs::write(dir.path().join(format!("items.{extension}")), text(items)).unwrap();
    }
    load(dir.path(), options)
}

fn read(log: &str, items: Option<&str>, options: &LoadOptions) -> lea::Result<Loaded> {
    read_as("tsv", log, items, options)
}

fn sequences(dataset: &Dataset) -> Vec<(&str, Vec<&str>)> {
    let id = |item: u32| dataset.items[item as usize].id.as_str();
    let ids = |user: &lea::data::User| user.events.iter().map(|e| id(e.item)).collect();
    dataset.users.iter().map(|user| (user.id.as_str(), ids(user))).collect()
}

const ITEMS: &str = "item_id\tname\ttags\nx\tAlpha\tred;blue\ny\tBeta\t\nz\t\tgreen\n";
const PLAIN: fn() -> LoadOptions = LoadOptions::default;

#[test]
fn events_are_ordered_by_position_then_time_then_file_in_both_dialects() {
    for extension in ["tsv", "csv"] {
        let by_both = "user_id\titem_id\tposition\ttime\nu\tx\t1\t5\nu\ty\t0\t9\nu\tz\t1\t4.5\nu\ty\t1\t5\n";
        let loaded = read_as(extension, by_both, Some(ITEMS), &PLAIN()).unwrap();
        assert_eq!(sequences(&loaded.dataset), [("u", vec!["y", "z", "x", "y"])]);
        let nanoseconds =
            "session_id\titem_id\ttimestamp\n2\ta\t9007199254740993\n1\tb\t1\n2\tc\t9007199254740992\n";
        let loaded = read_as(extension, nanoseconds, None, &PLAIN()).unwrap();
        assert_eq!(sequences(&loaded.dataset), [("2", vec!["c", "a"]), ("1", vec!["b"])]);
        assert_eq!((loaded.read.out_of_order, loaded.read.rows), (1, 3));
    }
}

#[test]
fn the_text_is_made_of_the_chosen_columns_without_empty_ones() {
    let log = "user_id\titem_id\tposition\nu\tx\t1\n";
    let items = ITEMS.replace(';', ",");
    let texts = |text: Option<&[&str]>| -> Vec<String> {
        let text = text.map(|columns| columns.iter().map(|c| c.to_string()).collect());
        let options = LoadOptions { text, joiner: Some("; ".into()), ..PLAIN() };
        let items = read(log, Some(&items), &options).unwrap().dataset.items;
        items.into_iter().map(|item| item.text).collect()
    };
    assert_eq!(texts(None), ["Alpha", "Beta", ""]);
    assert_eq!(texts(Some(&["name", "tags"])), ["Alpha; red, blue", "Beta", "green"]);
    assert_eq!(texts(Some(&[])), ["", "", ""]);
}

#[test]
fn kinds_are_read_where_the_table_has_them() {
    let log = "user_id\titem_id\ttime\tcat\nu\ta\t1\tView\nu\tb\t2\ttransaction\nu\tb\t3\t\n";
    let dataset = read(log, None, &PLAIN()).unwrap().dataset;
    let kinds: Vec<Feedback> = dataset.users[0].events.iter().map(|event| event.kind).collect();
    assert_eq!(kinds, [Feedback::Click, Feedback::Buy, Feedback::Other]);
}

#[test]
fn a_stray_quote_costs_no_rows_and_an_open_one_is_an_error_even_where_bad_rows_are_dropped() {
    let options = LoadOptions { skip_bad_rows: true, ..PLAIN() };
    let log = |item: &str| format!("user_id,item_id,position\nu,a,1\nu,{item},2\nu,c,3\nu,d,4\n");
    let loaded = read_as("csv", &log("12\" disk"), None, &options).unwrap();
    assert_eq!(sequences(&loaded.dataset), [("u", vec!["a", "12\" disk", "c", "d"])]);
    let message = read_as("csv", &log("\"disk"), None, &options).unwrap_err().to_string();
    assert!(
        message.contains("interactions.csv") && message.contains("line 3: a quote is opened"),
        "{message}"
    );
}

#[test]
fn columns_of_any_name_are_read_when_named() {
    let log = "visitorid,itemid,when,event\n7,a,2,view\n7,b,1,view\n";
    let options = LoadOptions {
        user_column: Some("visitorid".into()),
        item_column: Some("itemid".into()),
        time_column: Some("when".into()),
        ..PLAIN()
    };
    let loaded = read_as("csv", log, Some("item_id,title\na,\"A, or \"\"B\"\"\"\nb,B\n"), &options).unwrap();
    assert_eq!(sequences(&loaded.dataset), [("7", vec!["b", "a"])]);
    assert_eq!(loaded.dataset.items[0].text, "A, or \"B\"");
    let message = read_as("csv", log, None, &PLAIN()).unwrap_err().to_string();
    assert!(
        message.contains("found: visitorid, itemid, when, event; columns are separated by commas"),
        "{message}"
    );
    assert!(message.contains("--user-column"), "{message}");
}

#[test]
fn an_item_that_the_table_does_not_know_is_refused_dropped_or_kept() {
    let log = "user_id\titem_id\tposition\nu\tx\t0\nu\tw\t1\nu\ty\t2\nv\tw\t0\n";
    let with = |unknown_items| read(log, Some(ITEMS), &LoadOptions { unknown_items, ..PLAIN() });
    let message = with(None).unwrap_err().to_string();
    assert!(message.contains("interactions.tsv: line 3: item \"w\" is not among the 3"), "{message}");
    let dropped = with(Some(UnknownItems::Drop)).unwrap();
    assert_eq!(sequences(&dropped.dataset), [("u", vec!["x", "y"])]);
    assert_eq!((dropped.read.unknown_events, dropped.dataset.items.len()), (2, 3));
    let kept = with(Some(UnknownItems::Keep)).unwrap();
    assert_eq!(sequences(&kept.dataset), [("u", vec!["x", "w", "y"]), ("v", vec!["w"])]);
    assert_eq!((kept.read.unknown_items, kept.dataset.items[3].text.as_str()), (1, ""));
}

#[test]
fn rows_that_cannot_be_used_are_dropped_and_counted_where_that_is_asked_for() {
    let log = "user_id\titem_id\ttime\nu\tx\t1\n\tx\t2\nu\tx\t\nu\tx\n u \ty\t0\nu\tq\t4\nu\tx\tsoon\nu\tx\tnever\n";
    let options = LoadOptions { skip_bad_rows: true, ..PLAIN() };
    let loaded = read(log, Some(ITEMS), &options).unwrap();
    assert_eq!(sequences(&loaded.dataset), [("u", vec!["y", "x"])]);
    let counts: Vec<(&str, usize)> =
        loaded.read.skipped.iter().map(|(reason, of)| (reason.as_str(), of.rows)).collect();
    let expected = [
        ("a position or time that is no number", 2),
        ("an item that the items' file does not know", 1),
        ("another number of columns than the header", 1),
        ("no id", 1),
        ("no position or time", 1),
    ];
    assert_eq!(counts, expected);
    let first = &loaded.dropped_lines()[0];
    assert!(first.starts_with("dropped 2 rows") && first.contains("line 8: time \"soon\""), "{first}");
    let message = read("user_id\titem_id\ttime\nu\tx\t\n", None, &options).unwrap_err().to_string();
    assert!(message.contains("no row that can be used"), "{message}");
}

#[test]
fn duplicate_rows_go_only_where_that_is_asked_for() {
    let log = "user_id\titem_id\ttime\nu\tx\t1\nu\ty\t1\nu\tx\t1\nu\tx\t2\n";
    let with = |drop_duplicates| read(log, None, &LoadOptions { drop_duplicates, ..PLAIN() }).unwrap();
    assert_eq!(sequences(&with(false).dataset), [("u", vec!["x", "y", "x", "x"])]);
    assert_eq!(sequences(&with(true).dataset), [("u", vec!["x", "y", "x"])]);
    assert_eq!((with(true).read.duplicates, with(false).read.duplicates), (1, 0));
}

#[test]
fn wrong_tables_are_refused_with_line_and_remedy() {
    let header = "user_id\titem_id\tposition\n";
    let row = |cells: &str| format!("{header}{cells}\n");
    let cases: [(String, Option<&str>, &str); 12] = [
        (row("u\tx\tfirst"), Some(ITEMS), "line 2: position \"first\" is not a number"),
        (row("u\tx\tNaN"), Some(ITEMS), "is not a number"),
        (row("\tx\t0"), Some(ITEMS), "line 2: the cell of the user is empty"),
        (header.to_string(), Some(ITEMS), "the table has no interactions"),
        ("user_id\titem_id\nu\tx\n".into(), Some(ITEMS), "no column called position or timestamp or time"),
        ("item_id\tposition\nx\t1\n".into(), Some(ITEMS), "no column called user_id or session_id"),
        ("user_id\tsession_id\titem_id\ttime\nu\t1\tx\t1\n".into(), None, "both user_id and session_id"),
        ("user_id\titem_id\ttime\tkind\nu\tx\t1\tlikes\n".into(), None, "unknown kind of feedback \"likes\""),
        (row("u\tx\t0"), Some("item_id\tname\nx\ta\nx\tb\n"), "line 3: item \"x\" is already defined"),
        (row("u\tx\t0"), Some("item_id\tname\n"), "the table has no items"),
        (row("u\tx\t0"), Some("item_id\tprice\nx\t3\n"), "--text"),
        (row(&format!("u\tx\t{}", "9".repeat(5000))), None, "is not a number"),
    ];
    for (log, items, expected) in cases {
        let message = read(&log, items, &PLAIN()).unwrap_err().to_string();
        assert!(message.contains(expected) && message.contains(".tsv"), "{message}");
        assert!(message.len() < 600, "{message}");
    }
}
