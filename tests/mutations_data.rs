//! Readers of data under mutation: each format's files, 10,000 times spoilt and more, end in a data set or a message,
//! without a panic and within memory.

mod mutate;

use lea::data::{LoadOptions, load};
use mutate::Kind;
use mutate::trial::{self, Bound, Outcome};
use std::path::Path;

/// Buffers of fixed size for two files, hash tables, and an error's text; a cell takes an offset, and a text of its own
/// in an item.
const BOUND: Bound = Bound { factor: 32, constant: 1 << 19 };

/// Spoils the first of `files` `count` times, the others staying whole, and loads the folder: strictly for half of
/// the mutations, dropping bad rows for the other half.
fn hold_up(name: &str, kind: Kind, files: &[(&str, &[u8])], count: u64) {
    let dir = tempfile::tempdir().unwrap();
    for (file, bytes) in files {
        std::fs::write(dir.path().join(file), bytes).unwrap();
    }
    let options = [false, true].map(|skip_bad_rows| LoadOptions {
        skip_bad_rows,
        drop_duplicates: skip_bad_rows,
        core: usize::from(skip_bad_rows),
        ..LoadOptions::default()
    });
    let mut number = 0;
    let outcome = trial::run(name, kind, files[0].1, count, BOUND, |bytes| {
        number += 1;
        read(dir.path(), files[0].0, bytes, &options[number % 2])
    });
    let Outcome { read, refused } = outcome;
    assert!(read > 0 && refused > 0, "{name}: {read} read, {refused} refused");
}

fn read(dir: &Path, file: &str, bytes: &[u8], options: &LoadOptions) -> lea::Result<()> {
    // A new file each time: some file systems write one to disk that was cut short and filled again.
    std::fs::remove_file(dir.join(file)).unwrap();
    std::fs::write(dir.join(file), bytes).unwrap();
    let loaded = load(dir, options)?;
    let items = loaded.dataset.items.len() as u32;
    let users = &loaded.dataset.users;
    assert!(users.iter().all(|user| !user.events.is_empty() && user.events.iter().all(|e| e.item < items)));
    Ok(())
}

const TABS: Kind = Kind::Lines(b'\t');
const COMMAS: Kind = Kind::Lines(b',');

#[test]
fn tables_with_tabs_hold_up() {
    let log: &[u8] = b"user_id\titem_id\tposition\tkind\n1\tx\t0\tclick\n1\ty\t1\tbuy\n2\tx\t0.5\tview\n";
    let items: &[u8] = b"item_id\ttitle\ttags\nx\tOne\tred,blue\ny\tTwo\tgreen\n";
    hold_up("tsv-log", TABS, &[("interactions.tsv", log), ("items.tsv", items)], 5_000);
    hold_up("tsv-items", TABS, &[("items.tsv", items), ("interactions.tsv", log)], 5_000);
}

#[test]
fn tables_with_commas_hold_up() {
    let log: &[u8] = b"user_id,item_id,time\n1,x,1500000000\n\"1\",y,1500000001\n2,\"x\",3\n";
    let items: &[u8] = b"item_id,title\nx,\"One, or \"\"1\"\"\"\ny,\"Two\nlines\"\n";
    hold_up("csv-log", COMMAS, &[("interactions.csv", log), ("items.csv", items)], 5_000);
    hold_up("csv-items", COMMAS, &[("items.csv", items), ("interactions.csv", log)], 5_000);
}

#[test]
fn atomic_files_hold_up() {
    let log: &[u8] = b"user_id:token\titem_id:token\ttimestamp:float\n1\tx\t1.5\n1\ty\t2\n2\tx\t0\n";
    let items: &[u8] = b"item_id:token\ttitle:token_seq\nx\tThe One\ny\tTwo\n";
    hold_up("atomic-log", TABS, &[("a.inter", log), ("a.item", items)], 5_000);
    hold_up("atomic-items", TABS, &[("a.item", items), ("a.inter", log)], 5_000);
}

#[test]
fn hetrec_files_hold_up() {
    let log: &[u8] =
        b"userID\tartistID\ttagID\tday\tmonth\tyear\n2\t52\t13\t1\t4\t2009\n2\t63\t13\t1\t5\t2009\n";
    let items: &[u8] = b"id\tname\turl\n52\tMot\xf6rhead\thttp://a\n63\tBj\xc3\xb6rk\n";
    hold_up("hetrec-log", TABS, &[("user_taggedartists.dat", log), ("artists.dat", items)], 5_000);
    hold_up("hetrec-items", TABS, &[("artists.dat", items), ("user_taggedartists.dat", log)], 5_000);
}

#[test]
fn amazon_files_hold_up() {
    let log: &[u8] = br#"{"reviewerID": "A", "asin": "B1", "overall": 5.0, "unixReviewTime": 1514764800}
{"reviewerID": "A", "asin": "B2", "overall": 4.0, "unixReviewTime": 1514764801}
"#;
    let json: &[u8] = br#"{"asin": "B1", "title": "A &amp; B", "brand": "C", "category": ["D", ["E"]]}
{"asin": "B2", "title": "F"}
"#;
    let python: &[u8] =
        br#"{'asin': 'B1', 'title': "A's\t&#39;", 'price': -1.5e3, 'categories': [['D', 'E']]}
{'asin': u'B2', 'related': {'also': ('B1', None, True)}}
"#;
    hold_up("amazon-reviews", Kind::JsonLines, &[("r.json", log), ("meta_r.json", json)], 5_000);
    hold_up("amazon-metadata", Kind::JsonLines, &[("meta_r.json", json), ("r.json", log)], 5_000);
    hold_up("amazon-python", COMMAS, &[("meta_r.json", python), ("r.json", log)], 5_000);
}

#[test]
fn gzipped_tables_and_manifests_hold_up() {
    use std::io::Write;
    let log = b"user_id\titem_id\tposition\n1\tx\t0\n1\ty\t1\n2\tx\t0\n";
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    gzip.write_all(log).unwrap();
    hold_up("gzip", Kind::Bytes, &[("interactions.tsv.gz", &gzip.finish().unwrap())], 10_000);

    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("interactions.tsv"), log).unwrap();
    let out = dir.path().join("out");
    lea::data::save(&load(dir.path(), &LoadOptions::default()).unwrap(), &out, false).unwrap();
    let [manifest, log, items] =
        ["dataset.json", "interactions.tsv", "items.tsv"].map(|name| std::fs::read(out.join(name)).unwrap());
    let files = [("dataset.json", &manifest[..]), ("interactions.tsv", &log), ("items.tsv", &items)];
    hold_up("manifest", Kind::Json, &files, 10_000);
}
