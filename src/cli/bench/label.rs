//! `lea bench label`: rewards of given actions at every step of synthetic histories, random weights.

use super::decoder::{CATALOGUE, EnvironmentArgs};
use super::harness::{Case, Timing};
use super::record::Record;
use crate::cli::measure::ceilings::measured;
use crate::device::profile;
use crate::le::score::rewards;
use crate::le::separate::separate_rewards;
use crate::le::trunk::Trunks;
use crate::le::{Environment, Work};
use crate::report::{ProfileReport, write_trace};
use crate::{Error, Result};
use clap::Args;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::json;
use std::cell::Cell;
use std::path::PathBuf;

/// `lea bench label`.
#[derive(Clone, Debug, Args)]
pub struct LabelBench {
    /// Decoder and prompt
    #[command(flatten)]
    pub of: EnvironmentArgs,
    /// Actions scored at every step
    #[arg(long, default_value_t = 100)]
    pub actions: usize,
    /// The same as --samples: each user is timed by itself
    #[arg(long, value_name = "N", hide = true)]
    pub users: Option<usize>,
    /// Forest rows a pass
    #[arg(long, default_value_t = 8192)]
    pub pack_tokens: usize,
    /// Run every prompt by itself, packed into passes of the same number of rows
    #[arg(long)]
    pub no_forest: bool,
    /// Run one more user with every kernel timed: a table of them goes to standard error, a trace for ui.perfetto.dev into
    /// this file
    #[arg(long, value_name = "FILE")]
    pub trace: Option<PathBuf>,
    /// How it is timed; a sample is a user
    #[command(flatten)]
    pub timing: Timing,
}

/// Measures the labelling of a user.
pub fn measure(args: &LabelBench) -> Result<Record> {
    args.of.check()?;
    if !(1..=CATALOGUE).contains(&args.actions) || args.pack_tokens == 0 {
        return Err(Error::setting(
            format!("actions {}, pack_tokens {}", args.actions, args.pack_tokens),
            format!("choose at least 1 of each, and at most {CATALOGUE} actions"),
        ));
    }
    let timing = Timing { samples: args.users.unwrap_or(args.timing.samples), ..args.timing.clone() };
    let device = &timing.device;
    let env = args.of.environment(device, false)?;
    let (rows, launches) = (Cell::new(0), Cell::new(None));
    let own = json!({
        "actions": args.actions, "forest": !args.no_forest, "pack_tokens": args.pack_tokens,
        "dtype": device.frozen_type().to_string(),
    });
    let record = timing.measure(Case {
        bench: "label",
        settings: args.of.settings(own),
        inputs: "items and actions uniform over a catalogue of 1000, weights normal with deviation 0.02",
        unit: "user",
        frozen: true,
        run: Box::new(|user| {
            let before = device.launches();
            rows.set(label_user(&env, args, user)?);
            launches.set(device.launches().zip(before).map(|(after, before)| after.since(before)));
            Ok(())
        }),
    })?;
    if let Some(path) = &args.trace {
        let ((), profile) = profile::record(device, || label_user(&env, args, 0).map(drop))?;
        let ceiling = measured(device, true, timing.ceiling)?;
        let report = ProfileReport::new("bench label", device.describe(), &profile, ceiling);
        eprint!("{}", report.kernel_table().to_text());
        write_trace(path, &device.describe(), &profile)?;
    }
    let labels = (args.of.history * args.actions) as f64;
    let tokens = rows.get() as f64 / labels;
    let record = record.rate("labels_per_s", labels).with("tokens_per_label", tokens);
    Ok(match launches.get() {
        None => record,
        Some(of) => record
            .with("dispatches", of.dispatches)
            .with("submits", of.submits)
            .with("read_backs", of.read_backs),
    })
}

/// Scores all actions of one user; returns the rows that ran.
fn label_user(env: &Environment, args: &LabelBench, user: usize) -> Result<u64> {
    let history_len = args.of.history;
    let mut rng = ChaCha8Rng::seed_from_u64(user as u64);
    let item = |rng: &mut ChaCha8Rng| rng.random_range(0..CATALOGUE as u32);
    let history: Vec<u32> = (0..history_len).map(|_| item(&mut rng)).collect();
    let actions: Vec<(usize, u32)> =
        (0..history_len * args.actions).map(|i| (i / args.actions, item(&mut rng))).collect();
    let work =
        Work { user: user as u32, owned: 0..history_len, first_step: 0, actions: history.clone(), history };
    let (scores, rows) = if args.no_forest {
        separate_rewards(env, &work.history, &actions, args.pack_tokens)?
    } else {
        let trunks = Trunks::run(env, std::slice::from_ref(&work))?;
        let scores = rewards(env, &trunks, &actions, args.pack_tokens)?;
        (scores, (trunks.forest.rows() + actions.len() * env.leaf_len()) as u64)
    };
    if scores.len() != actions.len() || scores.iter().any(|s| !s.is_finite()) {
        return Err(Error::shape(
            "bench label",
            format!("{} scores for {} actions", scores.len(), actions.len()),
        ));
    }
    Ok(rows)
}
