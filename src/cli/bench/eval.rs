//! `lea bench eval`: full ranking of the catalogue for users, each by a whole history.

use super::harness::{Case, Timing};
use super::recommender::{INPUTS, RecommenderArgs};
use super::record::Record;
use crate::data::{Part, Protocol, Split};
use crate::rec::{EvalSteps, Framework, evaluate};
use crate::{Error, Result};
use clap::Args;
use serde_json::json;

/// `lea bench eval`.
#[derive(Clone, Debug, Args)]
pub struct EvalBench {
    /// The recommender
    #[command(flatten)]
    pub of: RecommenderArgs,
    /// Users that are ranked in a sample, one step of each
    #[arg(long, default_value_t = 1024)]
    pub users: usize,
    /// How it is timed; a sample is a ranking for all users
    #[command(flatten)]
    pub timing: Timing,
}

/// Measures a ranking.
pub fn measure(args: &EvalBench) -> Result<Record> {
    if args.users < 3 {
        return Err(Error::setting(format!("{} users", args.users), "choose at least 3: a split needs them"));
    }
    let config = args.of.config(Framework::Supervised)?;
    // The last event is what is to be found, the one before it belongs to the validation.
    let data = args.of.dataset(args.users, args.of.history + 1);
    let split = Split::new(&data, Protocol::LeaveOneOut, 0, 1.0)?;
    let steps = EvalSteps::new(&data, &split, Part::Test, args.of.history);
    let network = args.of.learners(&config, &args.timing.device)?.into_first();
    let record = args.timing.measure(Case {
        bench: "eval",
        settings: args.of.settings(json!({"users": args.users})),
        inputs: INPUTS,
        unit: "ranking",
        frozen: false,
        run: Box::new(|_| evaluate(&network, &steps).map(drop)),
    })?;
    Ok(record.rate("users_per_s", steps.len() as f64))
}
