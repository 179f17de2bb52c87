//! `lea bench compare`: what got slower from one run of `lea bench … --json` to another, beyond noise.

use super::record::Record;
use super::table::work_line;
use crate::cli::measure::statistics::{chance_of_larger, least_chance};
use crate::cli::output;
use crate::report::{Align, Cell, Table};
use crate::{Error, Result, files};
use clap::Args;
use serde_json::json;
use std::path::{Path, PathBuf};

/// Chance above which differences may be ones of the draw.
const CHANCE: f64 = 0.01;
/// How far apart the ceilings of two runs may be before that is told, and casts doubt on what differs as little.
const DRIFT: f64 = 0.1;

/// `lea bench compare`.
#[derive(Debug, Args)]
pub struct CompareCommand {
    /// What lea bench printed with --json, before
    #[arg(value_name = "A.json")]
    pub before: PathBuf,
    /// The same afterwards
    #[arg(value_name = "B.json")]
    pub after: PathBuf,
    /// Percent by which a median must have grown to count as slower, beside what noise asks for
    #[arg(long, value_name = "PERCENT", default_value_t = 3.0)]
    pub threshold: f64,
    /// Print one line of JSON a measured piece of work
    #[arg(long)]
    pub json: bool,
}

/// What became of a piece of work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Slower,
    Faster,
    Same,
    /// Times differ, but the machine was faster or slower as well.
    Uncertain,
    /// So few samples that chance cannot be told from a change.
    TooFew,
}

impl Verdict {
    fn name(self) -> &'static str {
        match self {
            Verdict::Slower => "slower",
            Verdict::Faster => "faster",
            Verdict::Same => "same",
            Verdict::Uncertain => "uncertain",
            Verdict::TooFew => "too few samples",
        }
    }
}

/// One piece of work in both runs.
struct Pair<'a> {
    before: &'a Record,
    after: &'a Record,
    verdict: Verdict,
    /// That chance alone made the difference of this or of another of the pairs, either way.
    chance: f64,
}

impl Pair<'_> {
    /// Median time now by median time before.
    fn ratio(&self) -> f64 {
        self.after.median_seconds / self.before.median_seconds
    }

    /// What else differs, so that times may tell of that.
    fn differs(&self) -> Vec<String> {
        let (a, b) = (self.before, self.after);
        let changed = |name: &str, a: &str, b: &str| (a != b).then(|| format!("{name} {a} → {b}"));
        let [threads, others] = [a, b].map(|of| of.threads.to_string());
        let machine = [
            changed("device", &a.device, &b.device),
            changed("threads", &threads, &others),
            changed("inputs", &a.inputs, &b.inputs),
        ];
        let ceilings = ceiling_ratios(a, b).into_iter().filter(|(_, ratio)| moved(*ratio) > 1.0 + DRIFT);
        let ceilings = ceilings.map(|(name, ratio)| format!("ceiling of {name} × {ratio:.2}"));
        machine.into_iter().flatten().chain(ceilings).collect()
    }
}

/// Runs `lea bench compare`.
///
/// # Errors
/// Files that are no records, and, last of all, that something got slower.
pub fn run(args: &CompareCommand) -> Result<()> {
    check(args.threshold)?;
    let (before, after) = (read(&args.before)?, read(&args.after)?);
    let names = [&args.before, &args.after].map(|path| path.display().to_string());
    tell([&before, &after], names, args.threshold, args.json)
}

/// Refuses what is no percentage.
pub fn check(threshold: f64) -> Result<()> {
    match threshold >= 0.0 && threshold.is_finite() {
        true => Ok(()),
        false => Err(Error::setting(format!("--threshold {threshold} is no percentage"), "give 0 or more")),
    }
}

/// Tells what became of each piece of work that is in both, `names` being what the records are of.
///
/// # Errors
/// Nothing in both, and, last of all, that something got slower.
pub fn tell([before, after]: [&[Record]; 2], names: [String; 2], threshold: f64, json: bool) -> Result<()> {
    let same = |a| after.iter().find(|b| is_same_work(a, b)).map(|b| (a, b));
    let in_both: Vec<(&Record, &Record)> = before.iter().filter_map(same).collect();
    let pairs: Vec<Pair> = in_both.iter().map(|&(a, b)| judge(a, b, threshold, in_both.len())).collect();
    if pairs.is_empty() {
        return Err(Error::setting(
            format!("{} and {} have no work in common", names[0], names[1]),
            "compare runs of the same bench with the same shapes",
        ));
    }
    match json {
        true => pairs.iter().try_for_each(print_json)?,
        false => print_table(&pairs)?,
    }
    for (records, others, name) in [(before, after, &names[0]), (after, before, &names[1])] {
        for record in records.iter().filter(|r| !others.iter().any(|o| is_same_work(r, o))) {
            eprintln!("only in {name}: {}", record.title());
        }
    }
    match pairs.iter().filter(|pair| pair.verdict == Verdict::Slower).count() {
        0 => Ok(()),
        slower => Err(Error::setting(
            format!("{slower} of {} got slower beyond noise", pairs.len()),
            "measure both in turn with lea bench against if the machine was busy; lea profile tells where the time goes",
        )),
    }
}

/// Whether both are of the same bench and settings.
pub fn is_same_work(a: &Record, b: &Record) -> bool {
    (&a.bench, &a.settings) == (&b.bench, &b.settings)
}

/// Ceilings of `b` by those of `a`: of arithmetic, or of the product where one of the records is so old that it has no other, and of
/// memory.
fn ceiling_ratios(a: &Record, b: &Record) -> Vec<(&'static str, f64)> {
    let product = |of: &Record| of.ceiling_product_gflops.unwrap_or(of.ceiling_gflops);
    let mut ratios =
        vec![("memory", b.ceiling_gb_per_s / a.ceiling_gb_per_s), ("a product", product(b) / product(a))];
    if a.ceiling_product_gflops.is_some() && b.ceiling_product_gflops.is_some() {
        ratios.push(("compute", b.ceiling_gflops / a.ceiling_gflops));
    }
    ratios.retain(|(_, ratio)| ratio.is_finite() && *ratio > 0.0);
    ratios
}

/// How far from 1 a ratio is, either way.
fn moved(ratio: f64) -> f64 {
    ratio.max(1.0 / ratio)
}

/// Slower or faster is what the Mann-Whitney test tells from chance, whose middle 80 % of samples do not overlap, and whose
/// medians differ by the threshold: times of one run are not independent, so that the test alone would find too much. The chance
/// is that of either direction in any of `pairs` comparisons (Bonferroni). Where a ceiling moved, only what moved by more than
/// its square is sure: other work slows a short product, measured at its best, less than it slows what takes long.
fn judge<'a>(before: &'a Record, after: &'a Record, threshold: f64, pairs: usize) -> Pair<'a> {
    let (a, b) = (&before.seconds, &after.seconds);
    let corrected = |one_sided: f64| (2.0 * pairs as f64 * one_sided).min(1.0);
    let (larger, smaller) = (corrected(chance_of_larger(a, b)), corrected(chance_of_larger(b, a)));
    let drift = ceiling_ratios(before, after).iter().map(|(_, ratio)| moved(*ratio)).fold(1.0, f64::max);
    let apart = moved(after.median_seconds / before.median_seconds);
    let is_sure = drift <= 1.0 + DRIFT || apart > drift * drift;
    let beyond = |low: &Record, high: &Record, chance: f64| {
        chance < CHANCE
            && high.p10_seconds > low.p90_seconds
            && high.median_seconds > low.median_seconds * (1.0 + threshold / 100.0)
    };
    let verdict = if corrected(least_chance(a.len(), b.len())) >= CHANCE {
        Verdict::TooFew
    } else {
        match (beyond(before, after, larger), beyond(after, before, smaller)) {
            (false, false) => Verdict::Same,
            _ if !is_sure => Verdict::Uncertain,
            (true, _) => Verdict::Slower,
            (false, true) => Verdict::Faster,
        }
    };
    Pair { before, after, verdict, chance: larger.min(smaller) }
}

fn print_json(pair: &Pair) -> Result<()> {
    output::line(json!({
        "bench": pair.before.bench, "settings": pair.before.settings, "verdict": pair.verdict.name(),
        "ratio": pair.ratio(), "chance": pair.chance,
        "before_seconds": pair.before.median_seconds, "after_seconds": pair.after.median_seconds,
        "differs": pair.differs(),
    }))
}

fn print_table(pairs: &[Pair]) -> Result<()> {
    let right = ["before ms", "after ms", "ratio", "chance"].map(|name| (name, Align::Right));
    let columns = [("#", Align::Right), ("work", Align::Left)].into_iter().chain(right);
    let mut table = Table::new(columns.chain([("verdict", Align::Left)]));
    for (i, pair) in pairs.iter().enumerate() {
        output::line(work_line(i, pair.before))?;
        let span = |of: &Record| {
            let [middle, low, high] =
                [of.median_seconds, of.p10_seconds, of.p90_seconds].map(|s| format!("{:.3}", 1e3 * s));
            Cell::new(middle).with_detail(format!(" ({low} – {high})"))
        };
        let verdict = [vec![pair.verdict.name().to_string()], pair.differs()].concat().join("; ");
        table.row(vec![
            Cell::new((i + 1).to_string()),
            Cell::new(pair.before.bench.clone()),
            span(pair.before),
            span(pair.after),
            Cell::new(format!("{:.3}", pair.ratio())),
            Cell::new(if pair.chance < 1e-4 { "< 0.0001".into() } else { format!("{:.4}", pair.chance) }),
            Cell::new(verdict),
        ]);
    }
    output::line(format_args!("\n{}", table.to_text().trim_end()))
}

fn read(path: &Path) -> Result<Vec<Record>> {
    records_in(&files::read_text(path)?, path)
}

/// The records of a text that `path` gave, one a line.
pub fn records_in(text: &str, path: &Path) -> Result<Vec<Record>> {
    const REMEDY: &str = "write it with lea bench … --json > FILE";
    let mut records: Vec<Record> = Vec::new();
    for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let invalid = |problem: String| Error::invalid(path, format!("line {}", number + 1), problem, REMEDY);
        let record: Record = serde_json::from_str(line).map_err(|e| invalid(e.to_string()))?;
        let times = [record.median_seconds, record.p10_seconds, record.p90_seconds];
        if record.seconds.is_empty()
            || !record.seconds.iter().chain(&times).all(|&s| s > 0.0 && s.is_finite())
        {
            return Err(invalid("seconds are missing, or are no times".into()));
        }
        if records.iter().any(|other| is_same_work(other, &record)) {
            return Err(invalid(format!("{} is there twice", record.title())));
        }
        records.push(record);
    }
    if records.is_empty() {
        return Err(Error::invalid(path, "the whole file", "there is no record in it", REMEDY));
    }
    Ok(records)
}
