//! The published data sets, where they are at hand: `LEA_SHARED`, or a folder `shared` beside the repository.

mod skip;

use lea::data::{LoadOptions, Loaded, Stats, load, save};
use std::path::PathBuf;

/// The folder of shared data, or `None` with the reason on standard error.
fn shared(name: &str) -> Option<PathBuf> {
    let beside = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let named = std::env::var_os("LEA_SHARED").map(PathBuf::from);
    let places = named.into_iter().chain([beside.join("../shared"), beside.join("../../shared")]);
    let found = places.map(|place| place.join("data").join(name)).find(|place| place.is_dir());
    if found.is_none() {
        skip::skipped(format_args!("no shared/data/{name}; set LEA_SHARED to the folder that holds data/"));
    }
    found
}

fn read(name: &str, text: &[&str]) -> Option<Loaded> {
    let text = Some(text.iter().map(|column| column.to_string()).collect());
    shared(name).map(|folder| load(&folder, &LoadOptions { text, ..Default::default() }).unwrap())
}

#[test]
fn statistics_are_the_published_ones() {
    type Row<'a> = (&'a str, &'a [&'a str], usize, usize, usize, f64, f64, usize, usize, f64, f64);
    let rows: [Row; 8] = [
        ("lfm-hetrec2k", &["name"], 1091, 3685, 52670, 19.0, 48.28, 5, 900, 1.95, 100.0),
        ("lfm-hetrec2k", &["name", "top_tags"], 1091, 3685, 52670, 19.0, 48.28, 5, 900, 9.03, 100.0),
        ("amazon-industrial", &["title"], 9791, 5317, 68186, 6.0, 6.96, 5, 97, 13.3, 100.0),
        (
            "amazon-industrial",
            &["title", "brand_category"],
            9791,
            5317,
            68186,
            6.0,
            6.96,
            5,
            97,
            24.76,
            100.0,
        ),
        ("amazon-software", &["title"], 1351, 778, 9322, 6.0, 6.9, 5, 50, 7.73, 100.0),
        ("amazon-software", &["title", "brand_category"], 1351, 778, 9322, 6.0, 6.9, 5, 50, 9.13, 100.0),
        ("amazon-scientific", &["text"], 8442, 4385, 59427, 6.0, 7.04, 5, 80, 25.91, 100.0),
        ("retailrocket-sample", &[], 19173, 38187, 104776, 4.0, 5.46, 3, 401, 0.0, 0.0),
    ];
    for (name, text, users, items, interactions, median, mean, min, max, words, coverage) in rows {
        let Some(loaded) = read(name, text) else { return };
        let stats = Stats::of(&loaded.dataset);
        let near = |found: f64, published: f64| (found - published).abs() <= 0.0051;
        assert_eq!((stats.users, stats.items, stats.interactions), (users, items, interactions), "{name}");
        assert_eq!((stats.median_length, stats.min_length, stats.max_length), (median, min, max), "{name}");
        assert!(near(stats.mean_length, mean) && near(stats.text_coverage, coverage), "{name}: {stats:?}");
        assert!(
            near(stats.mean_words, words),
            "{name} {text:?}: {} words, published {words}",
            stats.mean_words
        );
    }
}

#[test]
fn dropping_adjacent_repeats_of_industrial_drops_the_published_number() {
    let Some(folder) = shared("amazon-industrial") else { return };
    let loaded = load(&folder, &LoadOptions { drop_repeats: true, ..Default::default() }).unwrap();
    assert_eq!(loaded.dropped.repeats, 3616);
    assert_eq!(loaded.dataset.interactions(), 68186 - 3616);
}

#[test]
fn an_import_of_published_data_reads_back_with_the_same_hash() {
    let dir = tempfile::tempdir().unwrap();
    for (name, text) in [("lfm-hetrec2k", &["name", "top_tags"][..]), ("retailrocket-sample", &[])] {
        let Some(loaded) = read(name, text) else { return };
        let out = dir.path().join(name);
        save(&loaded, &out, false).unwrap();
        let again = load(&out, &LoadOptions::default()).unwrap();
        assert_eq!(again.dataset.hash(), loaded.dataset.hash());
        assert_eq!(again.dataset, loaded.dataset);
    }
}
