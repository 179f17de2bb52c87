//! `lea bench label`: rewards of given actions at every step of synthetic histories, random weights.

use super::decoder::{CATALOGUE, EnvironmentArgs};
use super::harness::{Case, Timing};
use super::record::Record;
use crate::le::score::rewards;
use crate::le::separate::separate_rewards;
use crate::le::trunk::Trunks;
use crate::le::{Environment, LabelConfig, Work};
use crate::{Error, Result};
use clap::Args;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::json;
use std::cell::Cell;

/// `lea bench label`.
#[derive(Clone, Debug, Args)]
pub struct LabelBench {
    /// Decoder and prompt
    #[command(flatten)]
    pub of: EnvironmentArgs,
    /// Actions scored at every step
    #[arg(long, default_value_t = 100)]
    pub actions: usize,
    /// Users a pack, which is a sample; as many as its rows hold unless given, at least one
    #[arg(long, value_name = "N")]
    pub users: Option<usize>,
    /// Forest rows a pack, 0 for what suits the device (8192, with CUDA 32768)
    #[arg(long, default_value_t = 0)]
    pub pack_tokens: usize,
    /// Run every prompt by itself, packed into passes of the same number of rows
    #[arg(long)]
    pub no_forest: bool,
    /// How it is timed; a sample is a pack
    #[command(flatten)]
    pub timing: Timing,
}

/// A case as `lea label` packs it.
struct Packs {
    env: Environment,
    /// Rows of a pack.
    rows: usize,
    users: usize,
    actions: usize,
    forest: bool,
}

/// Measures the labelling of a pack of users.
pub fn measure(args: &LabelBench) -> Result<Record> {
    args.of.check()?;
    if !(1..=CATALOGUE).contains(&args.actions) || args.users == Some(0) {
        return Err(Error::setting(
            format!("actions {}, users {}", args.actions, args.users.unwrap_or(1)),
            format!("choose at least 1 of each, and at most {CATALOGUE} actions"),
        ));
    }
    let (timing, device) = (&args.timing, &args.timing.device);
    let rows = LabelConfig { pack_tokens: args.pack_tokens, ..LabelConfig::default() }.pack_rows(device);
    let env = args.of.environment(device, false)?;
    let of_user = args.of.history * args.actions * env.leaf_len();
    let users = args.users.unwrap_or(rows / of_user).max(1);
    let packs = Packs { env, rows, users, actions: args.actions, forest: !args.no_forest };
    let (rows, launches) = (Cell::new(0), Cell::new(None));
    let own = json!({
        "actions": args.actions, "users": users, "forest": packs.forest, "pack_tokens": packs.rows,
        "dtype": device.frozen_type().to_string(),
    });
    let record = timing.measure(Case {
        bench: "label",
        settings: args.of.settings(own),
        inputs: "items and actions uniform over a catalogue of 1000, weights normal with deviation 0.02",
        unit: "pack",
        frozen: true,
        run: Box::new(|pack| {
            let before = device.launches();
            rows.set(packs.label(pack)?);
            launches.set(device.launches().zip(before).map(|(after, before)| after.since(before)));
            Ok(())
        }),
    })?;
    let labels = (users * args.of.history * args.actions) as f64;
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

impl Packs {
    /// Scores all actions of a pack; returns the rows that ran.
    fn label(&self, pack: usize) -> Result<u64> {
        let (env, steps) = (&self.env, self.env.history);
        let works: Vec<Work> =
            (pack * self.users..(pack + 1) * self.users).map(|user| self.work(user)).collect();
        let mut rng = ChaCha8Rng::seed_from_u64(pack as u64);
        let mut actions = |steps: usize| -> Vec<(usize, u32)> {
            (0..steps * self.actions).map(|i| (i / self.actions, item(&mut rng))).collect()
        };
        let (scores, rows) = if self.forest {
            let actions = actions(works.len() * steps);
            let trunks = Trunks::run(env, &works)?;
            let scores = rewards(env, &trunks, &actions, self.rows)?;
            let rows = trunks.forest.rows() + actions.len() * env.leaf_len();
            (scores, rows as u64)
        } else {
            let (mut scores, mut rows) = (Vec::new(), 0);
            for work in &works {
                let (of_user, ran) = separate_rewards(env, &work.history, &actions(steps), self.rows)?;
                scores.extend(of_user);
                rows += ran;
            }
            (scores, rows)
        };
        let wanted = works.len() * steps * self.actions;
        if scores.len() != wanted || scores.iter().any(|s| !s.is_finite()) {
            return Err(Error::shape("bench label", format!("{} scores for {wanted} actions", scores.len())));
        }
        Ok(rows)
    }

    fn work(&self, user: usize) -> Work {
        let mut rng = ChaCha8Rng::seed_from_u64(user as u64);
        let history: Vec<u32> = (0..self.env.history).map(|_| item(&mut rng)).collect();
        let owned = 0..history.len();
        Work { user: user as u32, owned, first_step: 0, actions: history.clone(), history }
    }
}

fn item(rng: &mut ChaCha8Rng) -> u32 {
    rng.random_range(0..CATALOGUE as u32)
}
