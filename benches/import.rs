//! Import of a large log: lines a second on one core, and peak memory.
//!
//! ```sh
//! cargo bench --bench import -- [--rows 10000000] [--users 200000] [--items 100000] [--format tsv|csv|atomic] [--gzip]
//! ```
//!
//! A log of that size is generated in time order, users drawn uniformly, so that the rows of a user lie far apart, and
//! items by a power law. It is read and filtered, then written as `lea data import` does; all of it runs on one thread.
//! Peak memory is that of the whole process, whose generator keeps nothing.

use lea::data::{LoadOptions, load, save};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::io::Write;
use std::path::Path;
use std::time::Instant;

struct Shape {
    rows: u64,
    users: u64,
    items: u64,
    format: String,
    gzip: bool,
}

fn main() {
    let shape = arguments();
    let dir = tempfile::tempdir().expect("a temporary folder");
    let raw = dir.path().join("raw");
    std::fs::create_dir(&raw).expect("a folder in it");
    generate(&shape, &raw).expect("room for the generated log");

    let (started, cpu) = (Instant::now(), cpu_seconds());
    let loaded = load(&raw, &LoadOptions { min_length: 2, ..Default::default() }).expect("a readable log");
    let read = (started.elapsed().as_secs_f64(), cpu_seconds() - cpu);
    save(&loaded, &dir.path().join("imported"), false).expect("room for the import");
    let whole = (started.elapsed().as_secs_f64(), cpu_seconds() - cpu);

    let dataset = &loaded.dataset;
    let bytes: u64 = loaded.sources.iter().map(|source| source.bytes).sum();
    println!(
        "{} rows of {} users and {} items as {}, {:.0} MB on disk",
        shape.rows,
        dataset.users.len(),
        dataset.items.len(),
        shape.format,
        bytes as f64 / 1e6
    );
    for (stage, (wall, cpu)) in [("read and filtered", read), ("and written, synced", whole)] {
        let speed = |seconds: f64| shape.rows as f64 / seconds / 1e6;
        println!(
            "{stage:<20} {wall:6.2} s wall ({:.2} M lines/s), {cpu:6.2} s of one core ({:.2} M lines/s)",
            speed(wall),
            speed(cpu)
        );
    }
    match peak_memory() {
        Some(bytes) => {
            println!("peak memory {:.0} MB, {:.0} bytes a row", bytes / 1e6, bytes / shape.rows as f64)
        }
        None => println!("peak memory: not told by this system"),
    }
}

fn arguments() -> Shape {
    let mut shape =
        Shape { rows: 10_000_000, users: 200_000, items: 100_000, format: "tsv".into(), gzip: false };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut number = || words.next().and_then(|word| word.parse().ok()).expect("a number after the flag");
        match word.as_str() {
            "--rows" => shape.rows = number(),
            "--users" => shape.users = number(),
            "--items" => shape.items = number(),
            "--format" => shape.format = words.next().expect("tsv, csv or atomic after --format"),
            "--gzip" => shape.gzip = true,
            "--bench" => {}
            other => panic!("unknown argument {other}"),
        }
    }
    shape
}

fn generate(shape: &Shape, dir: &Path) -> std::io::Result<()> {
    let (name, header, separator) = match shape.format.as_str() {
        "tsv" => ("interactions.tsv", "user_id\titem_id\ttimestamp", '\t'),
        "csv" => ("interactions.csv", "user_id,item_id,timestamp", ','),
        "atomic" => ("log.inter", "user_id:token\titem_id:token\ttimestamp:float", '\t'),
        other => panic!("no format {other}: choose tsv, csv or atomic"),
    };
    let path = dir.join(if shape.gzip { format!("{name}.gz") } else { name.to_string() });
    let file = std::io::BufWriter::with_capacity(1 << 20, std::fs::File::create(path)?);
    let mut out: Box<dyn Write> = if shape.gzip {
        Box::new(flate2::write::GzEncoder::new(file, flate2::Compression::fast()))
    } else {
        Box::new(file)
    };
    writeln!(out, "{header}")?;
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    for row in 0..shape.rows {
        let user = rng.random_range(0..shape.users);
        let item = (shape.items as f64).powf(rng.random::<f64>()) as u64;
        writeln!(out, "u{user}{separator}i{item}{separator}{}", 1_500_000_000 + row / 3)?;
    }
    out.flush()
}

/// Seconds that this thread has computed; 0 where the system does not tell.
fn cpu_seconds() -> f64 {
    let told = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    told.split_whitespace()
        .next()
        .and_then(|nanoseconds| nanoseconds.parse().ok())
        .map_or(0.0, |n: f64| n / 1e9)
}

/// Most bytes that this process held at one time.
fn peak_memory() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.split_whitespace().next()?.parse::<f64>().ok().map(|kilobytes| kilobytes * 1024.0)
}
