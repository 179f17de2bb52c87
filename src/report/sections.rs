//! The sections of the page, each absent when the report has nothing for it.

use super::escape::escape;
use super::html::{self, figure, section};
use super::number::{count, duration, fraction, short};
use super::plot::{Bar, BarGroup, Bars};
use super::{Align, Cell, ForestSavings, Metrics, Report, Table, results_table};
use std::fmt::Write;

/// The few figures that a reader wants first.
pub(super) fn tiles(report: &Report) -> Option<String> {
    let mut tiles: Vec<(String, String)> = Vec::new();
    let rows = report.metrics.iter().flat_map(|metrics| &metrics.rows);
    if let Some(best) = rows.max_by(|a, b| a.mean.ndcg_10.total_cmp(&b.mean.ndcg_10)) {
        let name = match best.framework.as_str() {
            "none" => format!("{} {}", best.encoder, best.variant),
            framework => format!("{} {framework} {}", best.encoder, best.variant),
        };
        tiles.push((format!("{:.4}", best.mean.ndcg_10), format!("best NDCG@10: {name}")));
    }
    let pairs = report.environment.iter().flat_map(|environment| &environment.pair_accuracy);
    if let Some(pair) = pairs.min_by(|a, b| a.accuracy.total_cmp(&b.accuracy)) {
        let label = format!("pair accuracy, {} negatives (lowest)", pair.negatives);
        tiles.push((format!("{:.3}", pair.accuracy), label));
    }
    if let Some(forest) = &report.forest {
        let predicted = format!("{:.1}×", forest.predicted_speed_up());
        tiles.push((predicted, "fewer tokens than separate prompts".into()));
        tiles.push((count(forest.forest.labels), "rewards labelled".into()));
    }
    if !report.stages.is_empty() {
        let total = report.stages.iter().map(|stage| stage.seconds).sum();
        tiles.push((duration(total), "wall time".into()));
    }
    if tiles.is_empty() {
        return None;
    }
    Some(html::tiles(&tiles))
}

/// What was run.
pub(super) fn facts(report: &Report) -> Option<String> {
    if report.facts.is_empty() {
        return None;
    }
    Some(html::facts(report.facts.iter().map(|fact| (fact.name.as_str(), fact.value.as_str()))))
}

/// The results table and its bars.
pub(super) fn results(report: &Report) -> Option<String> {
    let metrics = report.metrics.as_ref().filter(|metrics| !metrics.rows.is_empty())?;
    let seeds = match metrics.seeds.len() {
        n if n > 1 => format!("mean ± standard deviation over {n} seeds"),
        _ => "one seed".to_string(),
    };
    let note = format!(
        "Full ranking of the catalogue, protocol {}, {} test steps, {seeds}. The best of each column is coloured; in brackets, the \
         seeds in which a variant is above.",
        metrics.protocol,
        count(metrics.test_steps)
    );
    let figures: String = [("NDCG@10", 3), ("HR@10", 2)]
        .map(|(name, position)| {
            figure(&format!("{name} by variant"), &result_bars(metrics, name, position).svg())
        })
        .concat();
    let table = results_table(metrics).to_html();
    Some(section(
        "Results",
        &format!("<p>{}</p>\n{table}<div class=\"figures\">\n{figures}</div>\n", escape(&note)),
    ))
}

/// Bars of the metric called `name`, which stands at `position` in a row's scores.
fn result_bars(metrics: &Metrics, name: &str, position: usize) -> Bars {
    let mut groups: Vec<BarGroup> = Vec::new();
    for row in &metrics.rows {
        // A baseline has no variants: all of them stand together, each under its own name.
        let (group, bar) = match (row.variant.as_str(), row.framework.as_str()) {
            ("baseline", _) => ("baselines".to_string(), row.encoder.as_str()),
            (variant, "none") => (row.encoder.clone(), variant),
            (variant, framework) => (format!("{} · {framework}", row.encoder), variant),
        };
        let value = row.mean.to_array()[position];
        let bar = Bar {
            name: bar.into(),
            value,
            deviation: row.sd.map(|sd| sd.to_array()[position]),
            text: fraction(value),
            highlight: row.variant == "lea",
        };
        match groups.last_mut().filter(|last| last.name == group) {
            Some(last) => last.bars.push(bar),
            None => groups.push(BarGroup { name: group, bars: vec![bar] }),
        }
    }
    let whisker = metrics.rows.iter().any(|row| row.sd.is_some());
    let value_label =
        if whisker { format!("{name} (whisker: ± one standard deviation)") } else { name.to_string() };
    Bars { title: format!("{name} by variant"), value_label, groups }
}

/// The learning curves.
pub(super) fn curves(report: &Report) -> Option<String> {
    let mut figures = String::new();
    for curves in report.curves.iter().filter(|curves| !curves.is_empty()) {
        figures.push_str(&figure(&curves.title, &curves.svg()));
    }
    (!figures.is_empty())
        .then(|| section("Learning curves", &format!("<div class=\"figures\">\n{figures}</div>\n")))
}

/// The environment on held-out users.
pub(super) fn environment(report: &Report) -> Option<String> {
    let environment = report.environment.as_ref()?;
    let mut body = format!(
        "<p>On {} held-out users ({} steps), none of which trained the environment.</p>\n<div class=\"figures\">\n",
        count(environment.users),
        count(environment.steps)
    );
    let mut block = |title: &str, note: &str, table: Table| {
        let note = if note.is_empty() { String::new() } else { format!("<p>{}</p>\n", escape(note)) };
        let _ = write!(body, "<div>\n<h3>{}</h3>\n{note}{}</div>\n", escape(title), table.to_html());
    };
    if !environment.pair_accuracy.is_empty() {
        let note = "Against one negative at a time; 0.5 is chance.";
        block("How often the item taken next gets the higher reward", note, environment.pair_table());
    }
    if !environment.augmented.is_empty() {
        let note = format!(
            "Chosen among {} candidates. Popularity far above that of the true next item means that the choice \
             leans to popular items.",
            count(environment.candidates)
        );
        block("The augmented action a^e", &note, environment.augmented_table());
    }
    if let Some(table) = environment.catalogue_table() {
        block("The catalogue ranked by similarity to the state", "", table);
    }
    body.push_str("</div>\n");
    Some(section("The language model as environment", &body))
}

/// Reward histograms.
pub(super) fn rewards(report: &Report) -> Option<String> {
    let mut figures = String::new();
    for histogram in report.rewards.iter().filter(|histogram| !histogram.is_empty()) {
        figures.push_str(&figure(&histogram.title, &histogram.svg()));
    }
    let note = "<p>Each group is shown as shares of its own size; the outermost bins hold what lies beyond them.</p>";
    (!figures.is_empty())
        .then(|| section("Rewards", &format!("{note}\n<div class=\"figures\">\n{figures}</div>\n")))
}

/// What the forest saved.
pub(super) fn forest(report: &Report) -> Option<String> {
    let savings = report.forest.as_ref()?;
    let measured = match savings.measured_speed_up() {
        Some(speed_up) => format!("{speed_up:.1}× measured"),
        None => "separate prompts were not run".into(),
    };
    let note = format!(
        "All actions of a user share one forward pass: {} rewards from {} token rows in {}. Separate prompts would \
         need {} token rows. Speed-up: {:.1}× predicted from the token rows, {measured}.",
        count(savings.forest.labels),
        count(savings.forest.tokens),
        duration(savings.forest.seconds),
        count(savings.separate_tokens),
        savings.predicted_speed_up()
    );
    let tokens = savings.separate_tokens as f64 / savings.forest.labels.max(1) as f64;
    let tokens = [savings.forest.tokens_per_label(), tokens];
    let mut body = format!("<p>{}</p>\n<div class=\"figures\">\n", escape(&note));
    body.push_str(&savings_bars("Token rows a reward", "token rows a reward", tokens));
    if let Some(separate) = savings.separate {
        let times = [savings.forest.milliseconds_per_label(), separate.milliseconds_per_label()];
        body.push_str(&savings_bars("Time a reward", "time a reward (ms)", times));
    }
    body.push_str("</div>\n");
    body.push_str(&savings_table(savings).to_html());
    Some(section("One forest against separate prompts", &body))
}

fn savings_bars(title: &str, value_label: &str, values: [f64; 2]) -> String {
    let bar = |(name, value): (&str, f64)| Bar {
        name: name.into(),
        value,
        deviation: None,
        text: short(value),
        highlight: name == "forest",
    };
    let bars = ["forest", "separate prompts"].into_iter().zip(values).map(bar).collect();
    let groups = vec![BarGroup { name: String::new(), bars }];
    figure(title, &Bars { title: title.into(), value_label: value_label.into(), groups }.svg())
}

fn savings_table(savings: &ForestSavings) -> Table {
    let numbers = ["rewards", "token rows", "token rows a reward", "seconds", "rewards a second"];
    let columns = [("pass", Align::Left)].into_iter().chain(numbers.map(|name| (name, Align::Right)));
    let mut table = Table::new(columns);
    for (name, pass) in [("forest", Some(savings.forest)), ("separate prompts, measured", savings.separate)] {
        let Some(pass) = pass else { continue };
        table.row(vec![
            name.into(),
            count(pass.labels).into(),
            count(pass.tokens).into(),
            format!("{:.2}", pass.tokens_per_label()).into(),
            format!("{:.2}", pass.seconds).into(),
            count((pass.labels as f64 / pass.seconds).round() as u64).into(),
        ]);
    }
    table
}

/// Wall time of every stage.
pub(super) fn stages(report: &Report) -> Option<String> {
    if report.stages.is_empty() {
        return None;
    }
    let total: f64 = report.stages.iter().map(|stage| stage.seconds).sum();
    let columns = [("stage", Align::Left), ("wall time", Align::Right), ("share", Align::Right)];
    let mut table = Table::new(columns);
    for stage in &report.stages {
        let share =
            if total > 0.0 { format!("{:.0} %", 100.0 * stage.seconds / total) } else { "–".into() };
        table.row(vec![Cell::new(&*stage.name), duration(stage.seconds).into(), share.into()]);
    }
    table.rule();
    table.row(vec!["all".into(), duration(total).into(), Cell::default()]);
    Some(section("Wall time", &table.to_html()))
}
