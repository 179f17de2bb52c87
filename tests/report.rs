//! The report page from plain numbers: what it shows, what it leaves out, and what it refuses.

use lea::report::plot::{Curves, Histogram, Series};
use lea::report::{
    AugmentedQuality, EnvironmentQuality, ForestSavings, Metrics, MetricsRow, PairAccuracy, PassCost, Report,
    Scores, SeedScores, Stage,
};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Scores of three seeds around `ndcg_10`, the other metrics in usual proportions to it.
fn row(rng: &mut ChaCha8Rng, encoder: &str, framework: &str, variant: &str, ndcg_10: f64) -> MetricsRow {
    let mut run = |seed| {
        let v = ndcg_10 * (1.0 + rng.random_range(-0.015..0.015));
        SeedScores {
            seed,
            scores: Scores::from_array([1.2, 0.88, 1.57, 1.0, 1.98, 1.1].map(|share| share * v)),
        }
    };
    MetricsRow::new(encoder, framework, variant, vec![run(0), run(1), run(2)]).unwrap()
}

fn metrics(rng: &mut ChaCha8Rng) -> Metrics {
    let mut rows: Vec<MetricsRow> = [("popularity", 0.0122), ("item-knn", 0.0909), ("session-knn", 0.0884)]
        .map(|(name, value)| row(rng, name, "none", "baseline", value))
        .into();
    for (encoder, supervised) in [("gru4rec", 0.0873), ("sasrec", 0.0904)] {
        rows.push(row(rng, encoder, "none", "supervised", supervised));
        for (variant, gain) in [("base", 1.02), ("state", 1.018), ("reward", 1.023), ("state_reward", 1.02)] {
            rows.push(row(rng, encoder, "snqn", variant, supervised * gain));
        }
        rows.push(row(rng, encoder, "snqn", "lea", supervised * 1.06));
    }
    Metrics { protocol: "sqn".into(), data: "made up".into(), test_steps: 5443, seeds: vec![0, 1, 2], rows }
}

fn curves(rng: &mut ChaCha8Rng) -> Vec<Curves> {
    let names = ["sasrec base", "sasrec lea", "gru4rec base", "gru4rec lea"];
    let mut plot = |title: &str, y_label: &str, value: &dyn Fn(usize, f64) -> f64| {
        let mut line = |(i, name): (usize, &&str)| {
            let points = (1..=24).map(|epoch| {
                let noise = 1.0 + rng.random_range(-0.01..0.01);
                (f64::from(epoch), noise * value(i, f64::from(epoch)))
            });
            Series::new(*name, points.collect::<Vec<_>>())
        };
        let series = names.iter().enumerate().map(&mut line).collect();
        Curves { title: title.into(), x_label: "epoch".into(), y_label: y_label.into(), series }
    };
    vec![
        plot("Training loss", "loss (nats)", &|i, x| 5.2 + 0.2 * i as f64 + 2.8 * (-x / 6.0).exp()),
        plot("Validation NDCG@10", "NDCG@10", &|i, x| (0.094 - 0.003 * i as f64) * (1.0 - (-x / 4.0).exp())),
    ]
}

fn rewards(rng: &mut ChaCha8Rng) -> Histogram {
    let mut bell = |mean: f32, n: usize| -> Vec<f32> {
        (0..n).map(|_| mean + (0..6).map(|_| rng.random_range(-1.0f32..1.0)).sum::<f32>()).collect()
    };
    let (next, uniform, hard) = (bell(1.6, 4000), bell(-1.4, 16000), bell(0.6, 8000));
    let groups = [("taken next", &next[..]), ("uniform negatives", &uniform[..]), ("candidates", &hard[..])];
    Histogram::new("Rewards of positives and negatives", "reward r(s, a)", 48, &groups)
}

fn environment() -> EnvironmentQuality {
    let pair = |negatives: &str, accuracy| PairAccuracy {
        negatives: negatives.into(),
        accuracy,
        by_popularity: 0.5,
        pairs: 21_772,
    };
    let action = |choice: &str, hit_rate, mean_popularity| AugmentedQuality {
        choice: choice.into(),
        used: choice == "both",
        hit_rate,
        mean_popularity,
    };
    EnvironmentQuality {
        users: 1112,
        steps: 5443,
        candidates: 50,
        pair_accuracy: vec![pair("uniform", 0.834), pair("popularity", 0.741), pair("candidates", 0.612)],
        catalogue: Some(Scores::from_array([0.082, 0.057, 0.13, 0.0722, 0.188, 0.087])),
        augmented: vec![
            action("reward", 0.037, 120.0),
            action("similarity", 0.057, 45.0),
            action("both", 0.058, 51.0),
        ],
        next_item_popularity: 36.0,
    }
}

/// A report with every section, from a fixed seed.
fn full() -> Report {
    let rng = &mut ChaCha8Rng::seed_from_u64(7);
    let mut report = Report {
        title: "LEA on a synthetic catalogue".into(),
        introduction:
            "A decoder trained from scratch on the items' text becomes the environment; its labels train \
                       two lean recommenders."
                .into(),
        metrics: Some(metrics(rng)),
        curves: curves(rng),
        environment: Some(environment()),
        rewards: vec![rewards(rng)],
        forest: Some(ForestSavings {
            forest: PassCost { labels: 1_482_000, tokens: 1_611_000, seconds: 38.4 },
            separate_tokens: 38_532_000,
            separate: Some(PassCost { labels: 20_000, tokens: 520_000, seconds: 9.1 }),
        }),
        ..Report::default()
    };
    for (name, value) in [
        ("data", "synthetic: 3,000 users, 1,200 items, 41,000 interactions"),
        ("device", "cpu, 2 threads"),
        ("decoder", "4 layers, 128 wide, 1.3 M parameters"),
        ("seed", "0, 1, 2"),
        ("recommenders", "sasrec, gru4rec × snqn"),
        ("candidates", "50, a^e by both"),
    ] {
        report.fact(name, value);
    }
    for (name, seconds) in
        [("pretrain", 41.2), ("items", 14.9), ("fit", 52.0), ("label", 38.4), ("train", 71.3)]
    {
        report.stages.push(Stage { name: name.into(), seconds });
    }
    report
}

#[test]
fn equal_reports_give_equal_bytes_also_through_report_json() {
    let dir = tempfile::tempdir().unwrap();
    let (json, html) = (dir.path().join("report.json"), dir.path().join("report.html"));
    let report = full();
    report.write_json(&json).unwrap();
    report.write_html(&html).unwrap();
    let back = Report::read(&json).unwrap();
    assert_eq!(back, report);
    assert_eq!(back.html(), full().html());
    assert_eq!(std::fs::read_to_string(html).unwrap(), back.html());
    // For a look at the page with a browser.
    if let Some(keep) = std::env::var_os("LEA_KEEP_REPORT") {
        std::fs::write(keep, back.html()).unwrap();
    }
}

#[test]
fn the_page_needs_nothing_from_outside_itself() {
    let html = full().html();
    for outside in ["<script", "<link", "<img", "url(", "@import", " src=", " href="] {
        assert!(!html.contains(outside), "{outside}");
    }
    // The only address is the name of the SVG format.
    assert_eq!(html.matches("http").count(), html.matches("xmlns=\"http://www.w3.org/2000/svg\"").count());
    assert_eq!(html.matches("<svg ").count(), html.matches("</svg>").count());
    assert!(!html.contains("NaN") && !html.contains("could not be drawn"));
}

#[test]
fn speed_ups_are_those_of_the_numbers_given() {
    let savings = full().forest.unwrap();
    assert!((savings.predicted_speed_up() - 38_532.0 / 1_611.0).abs() < 1e-9);
    let measured = (9.1 / 20_000.0) / (38.4 / 1_482_000.0);
    assert!((savings.measured_speed_up().unwrap() - measured).abs() < 1e-9);
    assert!(full().html().contains("23.9× predicted from the token rows, 17.6× measured"));
    let unmeasured = ForestSavings { separate: None, ..savings };
    assert_eq!(unmeasured.measured_speed_up(), None);
}

#[test]
fn missing_sections_are_left_out() {
    let headings = |report: &Report| report.html().matches("<h2>").count();
    assert_eq!(headings(&full()), 6);
    assert_eq!(headings(&Report { title: "only a title".into(), ..Report::default() }), 0);
    type Remove = fn(&mut Report);
    let cases: [(&str, Remove); 6] = [
        ("<h2>Results</h2>", |report| report.metrics = None),
        ("<h2>Learning curves</h2>", |report| report.curves.clear()),
        ("<h2>The language model as environment</h2>", |report| report.environment = None),
        ("<h2>Rewards</h2>", |report| report.rewards.clear()),
        ("<h2>One forest against separate prompts</h2>", |report| report.forest = None),
        ("<h2>Wall time</h2>", |report| report.stages.clear()),
    ];
    for (heading, remove) in cases {
        let mut report = full();
        assert!(report.html().contains(heading), "{heading}");
        remove(&mut report);
        assert!(!report.html().contains(heading) && headings(&report) == 5, "{heading}");
    }
}

#[test]
fn text_from_users_never_becomes_markup() {
    let evil = "<script>alert('x')</script>\"&";
    let mut report = full();
    report.title = evil.into();
    report.introduction = evil.into();
    report.fact(evil, evil);
    report.stages.push(Stage { name: evil.into(), seconds: 1.0 });
    report.curves[0].title = evil.into();
    report.curves[0].y_label = evil.into();
    report.curves[0].series[0].name = evil.into();
    report.rewards[0].groups[0].name = evil.into();
    report.rewards[0].x_label = evil.into();
    let environment = report.environment.as_mut().unwrap();
    environment.pair_accuracy[0].negatives = evil.into();
    environment.augmented[0].choice = evil.into();
    let metrics = report.metrics.as_mut().unwrap();
    metrics.protocol = evil.into();
    metrics.rows[0].encoder = evil.into();
    metrics.rows[4].variant = evil.into();
    metrics.rows[4].framework = evil.into();
    let html = report.html();
    assert!(!html.contains("<script") && !html.contains("alert('x')"));
    assert!(html.matches("&lt;script&gt;").count() >= 15);
}

#[test]
fn a_broken_report_is_an_error_with_place_and_remedy() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("report.json");
    full().write_json(&path).unwrap();
    let whole = std::fs::read_to_string(&path).unwrap();
    let broken = [
        whole[..whole.len() / 2].to_string(),
        whole.replacen("\"labels\": 1482000", "\"labels\": \"many\"", 1),
        whole.replacen("\"stages\"", "\"stage\"", 1),
        String::new(),
    ];
    for text in broken {
        std::fs::write(&path, &text).unwrap();
        let message = Report::read(&path).unwrap_err().to_string();
        assert!(message.contains("report.json: line ") && message.contains("repeat the run"), "{message}");
    }
    let missing = Report::read(&dir.path().join("absent.json")).unwrap_err().to_string();
    assert!(missing.contains("absent.json"), "{missing}");
}

#[test]
fn a_diverged_run_still_gives_a_page() {
    let mut report = full();
    report.curves[0].series[0].points[5].y = f64::NAN;
    report.environment.as_mut().unwrap().pair_accuracy[0].accuracy = f64::NAN;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("report.json");
    report.write_json(&path).unwrap();
    let back = Report::read(&path).unwrap();
    assert!(back.curves[0].series[0].points[5].y.is_nan());
    assert_eq!(back.html(), report.html());
}
