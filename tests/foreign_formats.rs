//! Data sets as others publish them: RecBole's atomic files, HetRec 2011, Amazon reviews.

use lea::data::{Dataset, Format, LoadOptions, Loaded, Order, UnknownItems, load, save};
use std::io::Write;
use std::path::Path;

/// Loads a folder with these files; those whose name ends in `.gz` are gzipped.
fn read(files: &[(&str, &[u8])], options: &LoadOptions) -> lea::Result<Loaded> {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), files);
    load(dir.path(), options)
}

fn write(dir: &Path, files: &[(&str, &[u8])]) {
    for (name, bytes) in files {
        let mut bytes = bytes.to_vec();
        if name.ends_with(".gz") {
            let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
            out.write_all(&bytes).unwrap();
            bytes = out.finish().unwrap();
        }
        std::fs::write(dir.join(name), bytes).unwrap();
    }
}

fn sequences(dataset: &Dataset) -> Vec<(&str, Vec<&str>)> {
    let id = |item: u32| dataset.items[item as usize].id.as_str();
    let ids = |user: &lea::data::User| user.events.iter().map(|e| id(e.item)).collect();
    dataset.users.iter().map(|user| (user.id.as_str(), ids(user))).collect()
}

fn texts(dataset: &Dataset) -> Vec<&str> {
    dataset.items.iter().map(|item| item.text.as_str()).collect()
}

const PLAIN: fn() -> LoadOptions = LoadOptions::default;
const INTER: &[u8] = b"user_id:token\titem_id:token\trating:float\ttimestamp:float\n\
    196\t242\t3\t881250949\n186\t302\t3\t891717742\n196\t9\t5\t881250949\n196\t302\t1\t881250000.5\n";
const ITEM: &[u8] = b"item_id:token\ttitle:token_seq\tclass:token_seq\tyear:float\n\
    302\tL.A. Confidential\tCrime Mystery\t1997\n242\tKolya\tComedy\t1996\n1\tToy Story\tAnimation\t1995\n";

#[test]
fn atomic_files_are_found_by_their_ending_and_read_by_their_typed_header() {
    for names in [["ml.inter", "ml.item"], ["ml.inter.gz", "ml.item.gz"]] {
        let loaded =
            read(&[(names[0], INTER), (names[1], ITEM), ("ml.user", b"user_id:token\n1\n")], &PLAIN());
        let loaded = loaded.unwrap();
        assert_eq!(sequences(&loaded.dataset), [("196", vec!["302", "242", "9"]), ("186", vec!["302"])]);
        // Item 9 is in no file, item 1 in no event.
        assert_eq!(texts(&loaded.dataset), ["Kolya", "L.A. Confidential", ""]);
        let counts = &loaded.read;
        assert_eq!((counts.format, counts.order, counts.rows), (Format::Atomic, Order::Time, 4));
        assert_eq!((counts.unknown_items, counts.unmet_items, counts.items_without_text), (1, 1, 1));
        assert_eq!((counts.ties, counts.out_of_order), (1, 1));
    }
    let options = LoadOptions { unknown_items: Some(UnknownItems::Drop), ..PLAIN() };
    let dropped = read(&[("ml.inter", INTER), ("ml.item", ITEM)], &options).unwrap();
    assert_eq!(sequences(&dropped.dataset)[0], ("196", vec!["302", "242"]));
    assert_eq!(
        (dropped.read.unknown_events, texts(&dropped.dataset)),
        (1, vec!["Kolya", "L.A. Confidential"])
    );
    let options = LoadOptions { unknown_items: Some(UnknownItems::Refuse), ..PLAIN() };
    let message = read(&[("ml.inter", INTER), ("ml.item", ITEM)], &options).unwrap_err().to_string();
    assert!(message.contains("ml.item") && message.contains("such as \"9\""), "{message}");
}

#[test]
fn an_atomic_log_without_times_keeps_the_order_of_the_file() {
    let log = b"session_id:token\titem_id:token\n1\tb\n2\ta\n1\ta\n1\tb\n";
    let loaded = read(&[("x.inter", log)], &PLAIN()).unwrap();
    assert_eq!(sequences(&loaded.dataset), [("1", vec!["b", "a", "b"]), ("2", vec!["a"])]);
    assert_eq!(loaded.read.order, Order::File);
    assert!(loaded.read.notes()[0].contains("neither a position nor a time"));
}

#[test]
fn what_is_wrong_with_atomic_files_is_told_with_file_and_line() {
    type Case<'a> = (&'a [(&'a str, &'a [u8])], &'a str);
    let cases: [Case; 6] = [
        (&[("a.inter", b"user_id\titem_id:token\n1\t2\n")], "the column \"user_id\" has no type"),
        (&[("a.inter", b"user_id:token\titem_id:int\n1\t2\n")], "the column \"item_id:int\" has no type"),
        (
            &[("a.inter", b"user_id:token\titem_id_list:token_seq\titem_id:token\n1\t2 3\t4\n")],
            "line 1: the column item_id_list holds whole histories",
        ),
        (
            &[("a.inter", b"user_id:token\titem_id:token\ttimestamp:float\n1\t2\t3\n1\t2\t\n")],
            "a.inter: line 3: timestamp \"\" is not a number",
        ),
        (&[("a.inter", INTER), ("b.inter", INTER)], "are both there"),
        (
            &[("a.inter", INTER), ("a.item", b"id:token\ttitle:token\n1\t2\n")],
            "a.item: line 1: no column called item_id",
        ),
    ];
    for (files, expected) in cases {
        let message = read(files, &PLAIN()).unwrap_err().to_string();
        assert!(message.contains(expected), "{message}");
    }
}

const TAGGED: &[u8] = b"userID\tartistID\ttagID\ttimestamp\r\n2\t52\t13\t1238536800000\r\n\
    2\t52\t15\t1238536800000\r\n2\t63\t13\t1236000000000\r\n2\t52\t18\t1241128800000\r\n4\t73\t13\t-62135596800000\r\n";
const ARTISTS: &[u8] = b"id\tname\turl\tpictureURL\n52\tMot\xc3\xb6rhead\thttp://a\thttp://b\n\
    63\tBj\xf6rk\thttp://c\n9\tnobody\t\t\n";

#[test]
fn hetrec_logs_are_read_with_times_first_and_their_tags_are_one_event() {
    let pairs = b"userID\tartistID\tweight\n2\t63\t13883\n2\t52\t11690\n";
    let files: [(&str, &[u8]); 4] = [
        ("user_taggedartists-timestamps.dat", TAGGED),
        ("user_artists.dat", pairs),
        ("artists.dat", ARTISTS),
        ("tags.dat", b"tagID\ttagValue\n1\tmetal\n"),
    ];
    let loaded = read(&files, &PLAIN()).unwrap();
    assert_eq!(sequences(&loaded.dataset), [("2", vec!["63", "52", "52"]), ("4", vec!["73"])]);
    assert_eq!(texts(&loaded.dataset), ["Mot\u{f6}rhead", "Bj\u{f6}rk", ""]);
    let counts = &loaded.read;
    assert_eq!(
        (counts.duplicates, counts.latin1_lines, counts.unknown_items, counts.unmet_items),
        (1, 1, 1, 1)
    );
    let listened = read(&files[1..], &PLAIN()).unwrap();
    assert_eq!(sequences(&listened.dataset), [("2", vec!["63", "52"])]);
    assert_eq!((listened.read.order, listened.read.duplicates), (Order::File, 0));
}

#[test]
fn hetrec_dates_in_columns_order_events_as_time_stamps_would() {
    let tagged = b"userID\tartistID\ttagID\tday\tmonth\tyear\n2\t1\t5\t1\t4\t2009\n2\t2\t5\t30\t3\t2009\n\
        2\t3\t5\t1\t1\t2010\n2\t1\t6\t1\t4\t2009\n";
    let loaded = read(&[("user_taggedartists.dat", tagged)], &PLAIN()).unwrap();
    assert_eq!(sequences(&loaded.dataset), [("2", vec!["2", "1", "3"])]);
    let rated =
        b"userID\tmovieID\trating\tdate_day\tdate_month\tdate_year\tdate_hour\tdate_minute\tdate_second\n\
        75\t3\t1\t29\t10\t2006\t23\t17\t16\n75\t32\t4.5\t29\t10\t2006\t23\t17\t0\n";
    let loaded = read(&[("user_ratedmovies.dat", rated)], &PLAIN()).unwrap();
    assert_eq!(sequences(&loaded.dataset), [("75", vec!["32", "3"])]);
    for (day, month, wrong) in [("1", "40", "40"), ("1", "0", "0"), ("0", "2", "0"), ("32", "1", "32")] {
        let log = format!("userID\tartistID\ttagID\tday\tmonth\tyear\n2\t1\t5\t{day}\t{month}\t2009\n");
        let message = read(&[("user_taggedartists.dat", log.as_bytes())], &PLAIN()).unwrap_err().to_string();
        assert!(message.contains(&format!("line 2: \"{wrong}\" is not a part of a date")), "{message}");
    }
}

const REVIEWS: &[u8] = br#"{"overall": 5.0, "verified": true, "reviewTime": "01 1, 2018", "reviewerID": "A1", "asin": "B01", "style": {"Size:": " 3"}, "reviewText": "\u00e9 \"fine\"", "unixReviewTime": 1514764800}
{"reviewerID": "A1", "asin": "B02", "overall": 3.0, "unixReviewTime": 1400000000}
{"reviewerID": "A2", "asin": "B03", "overall": 1.0, "unixReviewTime": 1514764800}
{"reviewerID": "A1", "asin": "B01", "overall": 5.0, "unixReviewTime": 1514764800}
"#;

#[test]
fn amazon_reviews_of_every_release_are_read_with_their_metadata() {
    let metadata = br#"{"category": ["Tools", "Hand &amp; Power", "Tools"], "description": ["x"], "title": "Saw\t&quot;big&quot;", "brand": "ACME", "asin": "B01", "price": "$3"}
{"asin": "B02", "title": "", "category": []}
{"asin": "B02", "title": "again"}
{"asin": "B99", "title": "never bought"}
"#;
    let python = br#"{'asin': 'B01', 'title': "Saw\t&quot;big&quot;", 'categories': [['Tools', 'Hand & Power'], ['Tools']], 'salesRank': {'Tools': 3}, 'brand': 'ACME', 'price': 3.5}
{'asin': 'B02'}
{'asin': u'B02', 'title': 'again'}
{'asin': 'B99', 'related': {'also_bought': ['B01']}}
"#;
    for metadata in [&metadata[..], python] {
        let files: [(&str, &[u8]); 2] =
            [("reviews_Tools.json.gz", REVIEWS), ("meta_Tools.json.gz", metadata)];
        let text = Some(["title", "brand", "category"].map(String::from).to_vec());
        let loaded = read(&files, &LoadOptions { text, drop_duplicates: true, ..PLAIN() }).unwrap();
        assert_eq!(sequences(&loaded.dataset), [("A1", vec!["B02", "B01"]), ("A2", vec!["B03"])]);
        assert_eq!(texts(&loaded.dataset), ["Saw \"big\", ACME, Tools > Hand & Power", "", ""]);
        let counts = &loaded.read;
        assert_eq!((counts.format, counts.duplicates), (Format::Amazon, 1));
        assert_eq!((counts.unknown_items, counts.unmet_items, counts.repeated_items), (1, 1, 1));
        assert_eq!(counts.items_without_text, 2);
    }
    let recent =
        br#"{"user_id": "U", "parent_asin": "P", "asin": "child", "timestamp": 1588687728923, "rating": 5}"#;
    let loaded = read(&[("Tools.jsonl", recent)], &PLAIN()).unwrap();
    assert_eq!(sequences(&loaded.dataset), [("U", vec!["P"])]);
}

#[test]
fn what_is_wrong_with_amazon_lines_is_told_or_counted() {
    let line = |text: &str| format!("{}\n{text}\n", std::str::from_utf8(REVIEWS).unwrap().trim_end());
    let cases = [
        ("{\"reviewerID\": \"A1\"", "line 5: EOF while parsing"),
        ("{\"reviewerID\": 3, \"asin\": \"B\", \"unixReviewTime\": 1}", "line 5: invalid type"),
        ("{\"asin\": \"B\", \"unixReviewTime\": 1}", "line 5: no reviewerID"),
        ("{\"reviewerID\": \"\", \"asin\": \"B\", \"unixReviewTime\": 1}", "line 5: no reviewerID"),
        ("{\"reviewerID\": \"A\", \"asin\": \"B\\tC\", \"unixReviewTime\": 1}", "holds a tab"),
        ("{\"reviewerID\": \"A\", \"asin\": \"B\"}", "line 5: no unixReviewTime"),
        ("[1, 2]", "line 5"),
        ("user,item", "line 5"),
    ];
    for (text, expected) in cases {
        let file = line(text);
        let files: [(&str, &[u8]); 1] = [("Tools_5.json", file.as_bytes())];
        let message = read(&files, &PLAIN()).unwrap_err().to_string();
        assert!(message.contains(expected) && message.contains("Tools_5.json"), "{message}");
        let loaded = read(&files, &LoadOptions { skip_bad_rows: true, ..PLAIN() }).unwrap();
        assert_eq!(loaded.read.skipped.values().map(|of| of.rows).sum::<usize>(), 1);
        assert_eq!(loaded.dataset.interactions(), 4);
    }
}

#[test]
fn the_core_is_iterated_and_users_of_one_event_stay_without_it() {
    let mut log = String::new();
    for (user, items) in [("A", "123"), ("B", "123"), ("C", "12"), ("D", "4"), ("E", "45")] {
        for item in items.chars() {
            log += &format!("{{\"reviewerID\":\"{user}\",\"asin\":\"{item}\",\"unixReviewTime\":{item}}}\n");
        }
    }
    let files: [(&str, &[u8]); 1] = [("x_5.json", log.as_bytes())];
    let all = read(&files, &PLAIN()).unwrap();
    assert_eq!(sequences(&all.dataset)[3], ("D", vec!["4"]));
    // Item 5 goes, then user E is too short, then item 4.
    let core = read(&files, &LoadOptions { core: 2, ..PLAIN() }).unwrap();
    assert_eq!(core.dataset.users.len(), 3);
    assert_eq!((core.dropped.core_users, core.dropped.core_items, core.dropped.events), (2, 2, 3));
}

#[test]
fn an_import_of_a_foreign_format_reads_back_and_records_what_was_dropped() {
    let dir = tempfile::tempdir().unwrap();
    let raw = dir.path().join("raw");
    std::fs::create_dir(&raw).unwrap();
    write(&raw, &[("ml.inter", INTER), ("ml.item", ITEM)]);
    let loaded = load(&raw, &PLAIN()).unwrap();
    let out = dir.path().join("out");
    save(&loaded, &out, false).unwrap();
    let again = load(&out, &PLAIN()).unwrap();
    assert_eq!(again.dataset, loaded.dataset);
    let manifest: serde_json::Value =
        serde_json::from_slice(&std::fs::read(out.join("dataset.json")).unwrap()).unwrap();
    assert_eq!(manifest["read"]["format"], "atomic");
    assert_eq!(manifest["read"]["unmet_items"], 1);
    assert_eq!(manifest["read"]["unknown_items"], 1);
}

#[test]
fn a_folder_with_logs_of_two_formats_needs_to_be_told_which() {
    let files: [(&str, &[u8]); 3] =
        [("ml.inter", INTER), ("interactions.csv", b"user_id,item_id,time\n1,2,3\n"), ("notes.txt", b"")];
    let message = read(&files, &PLAIN()).unwrap_err().to_string();
    assert!(
        message.contains("(csv)") && message.contains("(atomic)") && message.contains("--format"),
        "{message}"
    );
    let csv = read(&files, &LoadOptions { format: Some(Format::Csv), ..PLAIN() }).unwrap();
    assert_eq!(sequences(&csv.dataset), [("1", vec!["2"])]);
    let message = read(&files, &LoadOptions { format: Some(Format::HetRec), ..PLAIN() }).unwrap_err();
    assert!(message.to_string().contains("no log that is named as hetrec has it"), "{message}");
}
