//! Training and ranking every recommender of a plan.

use crate::cli::config::RunConfig;
use crate::data::{Dataset, Part, Split};
use crate::device::Device;
use crate::rec::baselines::{self, Ranker};
use crate::rec::{EpochRecord, EvalSteps, Labels, RecConfig, evaluate, read_curve, saved, train};
use crate::report::plot::{Curves, Series};
use crate::report::{Metrics, MetricsRow, Scores, SeedScores};
use crate::run_folder::RunFolder;
use crate::tensor::checkpoint::Checkpoints;
use crate::{Error, Result};
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
pub(super) struct Job {
    config: RecConfig,
    name: [String; 3],
}

impl Job {
    /// Name of its files in `rec`, without their ends.
    pub fn stem(&self) -> String {
        format!("{}-seed{}", self.name.join("-"), self.config.seed)
    }
}

/// Every training of a plan, seeds of one recommender after another.
pub(super) fn jobs(config: &RunConfig) -> Result<Vec<Job>> {
    let mut jobs = Vec::new();
    for recommender in config.recommenders()? {
        for &seed in &config.plan.seeds {
            let config = RecConfig { seed, ..recommender.clone() };
            jobs.push(Job { name: config.table_name(), config });
        }
    }
    Ok(jobs)
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
    folder: &RunFolder,
) -> Result<Compared> {
    let jobs = jobs(config)?;
    let outcomes = run_jobs(&jobs, |job| run_job(job, (data, split), labels, device, folder))?;
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
    let history = jobs.iter().map(|job| job.config.history).max().unwrap_or(1);
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

/// Trains and ranks one recommender. Of a run that is resumed, one whose file is there is only ranked again.
fn run_job(
    job: &Job,
    (data, split): (&Dataset, &Split),
    labels: Option<&Labels>,
    device: &Device,
    folder: &RunFolder,
) -> Result<Outcome> {
    let stem = job.stem();
    let at = |end: &str| folder.dir().join("rec").join(format!("{stem}.{end}"));
    let (path, curve) = (at("safetensors"), at("jsonl"));
    let (network, curve) = if folder.resumed() && path.exists() && curve.exists() {
        let (network, trained_on) = saved::load(&path, device)?;
        trained_on.check(&path, data, split)?;
        (network, read_curve(&curve)?)
    } else {
        let mut log = folder.log(&format!("rec/{stem}.jsonl"))?;
        let mut keep = Checkpoints::new(folder, &stem, device, 0)?;
        let trained = train(&job.config, (data, split), labels, device, &mut log, &mut keep)?;
        folder.check_still_there()?;
        saved::save(&path, &trained.network, &saved::TrainedOn::of(data, split))?;
        keep.discard()?;
        (trained.network, trained.curve)
    };
    let test = EvalSteps::new(data, split, Part::Test, job.config.history);
    let scores = Scores::from_array(evaluate(&network, &test)?.to_array());
    Ok(Outcome { scores, curve })
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
