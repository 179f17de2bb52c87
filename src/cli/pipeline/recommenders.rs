//! Training and ranking every recommender of a plan.

use crate::cli::config::RunConfig;
use crate::data::{Dataset, Part, Split};
use crate::device::Device;
use crate::progress::MetricsLog;
use crate::rec::baselines::{self, Ranker};
use crate::rec::{EpochRecord, EvalSteps, Labels, RecConfig, evaluate, saved, train};
use crate::report::plot::{Curves, Series};
use crate::report::{Metrics, MetricsRow, Scores, SeedScores};
use crate::{Error, Result};
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

/// What the plan's recommenders reached.
pub struct Compared {
    /// The table.
    pub metrics: Metrics,
    /// Validation NDCG@10 and training loss over epochs, of the first seed.
    pub curves: Vec<Curves>,
}

/// One training of the plan.
struct Job {
    config: RecConfig,
    name: [String; 3],
}

struct Outcome {
    scores: Scores,
    curve: Vec<EpochRecord>,
}

/// Trains every recommender of the plan with every seed, as many at a time as there are threads: a recommender is
/// small, and two trainings fill two cores where one cannot. Results do not depend on it. Files go to `out/rec`.
pub fn compare(
    config: &RunConfig,
    (data, split): (&Dataset, &Split),
    labels: Option<&Labels>,
    device: &Device,
    out: &Path,
) -> Result<Compared> {
    let recommenders = config.recommenders()?;
    let mut jobs = Vec::new();
    for recommender in &recommenders {
        for &seed in &config.plan.seeds {
            let config = RecConfig { seed, ..recommender.clone() };
            jobs.push(Job { name: config.table_name(), config });
        }
    }
    let outcomes = run_jobs(&jobs, |job| run_job(job, data, split, labels, device, out))?;
    let mut rows = if config.plan.baselines { baseline_rows(config, data, split)? } else { Vec::new() };
    let mut curves = Vec::new();
    let per = config.plan.seeds.len();
    for (jobs, outcomes) in jobs.chunks(per).zip(outcomes.chunks(per)) {
        let [encoder, framework, variant] = &jobs[0].name;
        let seeds =
            jobs.iter().zip(outcomes).map(|(j, o)| SeedScores { seed: j.config.seed, scores: o.scores });
        rows.push(MetricsRow::new(encoder, framework, variant, seeds.collect())?);
        curves.push((jobs[0].name.join(" "), outcomes[0].curve.clone()));
    }
    let history = recommenders.iter().map(|r| r.history).max().unwrap_or(1);
    let test_steps = EvalSteps::new(data, split, Part::Test, history).len() as u64;
    let protocol = serde_json::to_value(split.protocol).ok().and_then(|p| p.as_str().map(String::from));
    let metrics = Metrics {
        protocol: protocol.unwrap_or_default(),
        data: data.name.clone(),
        test_steps,
        seeds: config.plan.seeds.clone(),
        rows,
    };
    Ok(Compared { metrics, curves: learning_curves(&curves) })
}

/// Runs all jobs on as many single-threaded workers as the machine has threads; the first error ends them.
fn run_jobs(jobs: &[Job], run: impl Fn(&Job) -> Result<Outcome> + Sync) -> Result<Vec<Outcome>> {
    let next = AtomicUsize::new(0);
    let done: Mutex<Vec<(usize, Result<Outcome>)>> = Mutex::new(Vec::new());
    let failed = |e: rayon::ThreadPoolBuildError| {
        Error::setting(format!("no threads for training: {e}"), "lower the load of the machine and run again")
    };
    let workers = rayon::current_num_threads().clamp(1, jobs.len().max(1));
    // A single job, or one thread, has the whole pool.
    let pools = (workers > 1).then(|| {
        (0..workers)
            .map(|_| rayon::ThreadPoolBuilder::new().num_threads(1).build())
            .collect::<Result<Vec<_>, _>>()
    });
    let work = || {
        while let Some((i, job)) = jobs.iter().enumerate().nth(next.fetch_add(1, Ordering::Relaxed)) {
            let outcome = run(job);
            if outcome.is_err() {
                next.store(jobs.len(), Ordering::Relaxed);
            }
            done.lock().unwrap_or_else(|e| e.into_inner()).push((i, outcome));
        }
    };
    match pools.transpose().map_err(failed)? {
        None => work(),
        Some(pools) => std::thread::scope(|scope| {
            for pool in &pools {
                scope.spawn(|| pool.install(work));
            }
        }),
    }
    let mut done = done.into_inner().unwrap_or_else(|e| e.into_inner());
    done.sort_by_key(|(i, _)| *i);
    done.into_iter().map(|(_, outcome)| outcome).collect()
}

fn run_job(
    job: &Job,
    data: &Dataset,
    split: &Split,
    labels: Option<&Labels>,
    device: &Device,
    out: &Path,
) -> Result<Outcome> {
    let stem = format!("{}-seed{}", job.name.join("-"), job.config.seed);
    let mut log = MetricsLog::create(&out.join("rec").join(format!("{stem}.jsonl")))?;
    let trained = train(&job.config, (data, split), labels, device, &mut log)?;
    let path = out.join("rec").join(format!("{stem}.safetensors"));
    saved::save(&path, &trained.network, &saved::TrainedOn::of(data, split))?;
    let test = EvalSteps::new(data, split, Part::Test, job.config.history);
    let scores = Scores::from_array(evaluate(&trained.network, &test)?.to_array());
    Ok(Outcome { scores, curve: trained.curve })
}

fn baseline_rows(config: &RunConfig, data: &Dataset, split: &Split) -> Result<Vec<MetricsRow>> {
    let row = |(name, ranker): &(&str, Box<dyn Ranker>)| {
        let ranking = baselines::evaluate(&**ranker, data, split, Part::Test, config.rec.history, false);
        let scores = Scores::from_array(ranking.to_array());
        // Baselines draw nothing: one row stands for all seeds.
        let seed = config.plan.seeds[0];
        MetricsRow::new(name, "none", "baseline", vec![SeedScores { seed, scores }])
    };
    baselines::all(data, split).iter().map(row).collect()
}

/// Validation NDCG@10 and training loss over epochs, a line for each named training.
pub fn learning_curves(curves: &[(String, Vec<EpochRecord>)]) -> Vec<Curves> {
    let plot = |title: &str, y_label: &str, value: fn(&EpochRecord) -> f64| Curves {
        title: title.into(),
        x_label: "epoch".into(),
        y_label: y_label.into(),
        series: curves
            .iter()
            .map(|(name, curve)| Series::new(name, curve.iter().map(|r| (r.epoch as f64, value(r)))))
            .collect(),
    };
    vec![
        plot("Validation ranking", "NDCG@10", |r| r.ndcg10),
        plot("Supervised training loss", "nats a step", |r| r.supervised_loss),
    ]
}
