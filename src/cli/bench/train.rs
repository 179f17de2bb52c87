//! `lea bench train`: one optimiser step of a recommender: batch, forward, backward, update.

use super::harness::{Case, Timing};
use super::recommender::{INPUTS, RecommenderArgs};
use super::record::Record;
use crate::rec::{Feed, Framework, UserSteps, ahead};
use crate::{Error, Result};
use clap::Args;
use serde_json::json;

/// Batches that take turns.
const BATCHES: usize = 8;

/// `lea bench train`.
#[derive(Clone, Debug, Args)]
pub struct TrainBench {
    /// The recommender
    #[command(flatten)]
    pub of: RecommenderArgs,
    /// Framework
    #[arg(long, value_enum, default_value = "snqn")]
    pub framework: Framework,
    /// Users in one step, each with a whole history
    #[arg(long, default_value_t = 256)]
    pub users: usize,
    /// How it is timed; a sample is a step
    #[command(flatten)]
    pub timing: Timing,
}

/// Measures a step.
pub fn measure(args: &TrainBench) -> Result<Record> {
    if args.users == 0 {
        return Err(Error::setting("a step of 0 users", "choose at least 1"));
    }
    let config = args.of.config(args.framework)?;
    let history = args.of.history;
    let users: Vec<UserSteps> = args
        .of
        .histories(args.users * BATCHES, history + 1)
        .into_iter()
        .enumerate()
        .map(|(user, items)| UserSteps { user: user as u32, items, rewards: vec![1.0; history] })
        .collect();
    let feed = Feed::new(&config, &users, args.of.items, None)?;
    let batches: Vec<Vec<usize>> =
        (0..BATCHES).map(|batch| (batch * args.users..(batch + 1) * args.users).collect()).collect();
    let mut learners = args.of.learners(&config, &args.timing.device)?;
    let own = json!({"framework": args.framework.name(), "users": args.users});
    let turns = (0..).map(|number: usize| (&batches[number % BATCHES], (number / BATCHES) as u32));
    let record = std::thread::scope(|scope| {
        let made = ahead(scope, &feed, turns);
        args.timing.measure(Case {
            bench: "train",
            settings: args.of.settings(own),
            inputs: INPUTS,
            unit: "step",
            frozen: false,
            run: Box::new(move |_| {
                let data = made.recv().expect("the batches do not end")?;
                learners.step(&data)
            }),
        })
    })?;
    let users = args.users as f64;
    Ok(record.rate("steps_per_s", 1.0).rate("users_per_s", users))
}
