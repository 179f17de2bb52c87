//! Training steps of recommenders, every step of whose histories is predicted.

use crate::counter::number;
use crate::values::{Case, Home, Result};
use lea::autograd::backward;
use lea::nn::{AdamW, AdamWConfig};
use lea::rec::{Batch, EncoderKind, Framework, Network, Noise, RecConfig, StepData, objective};
use lea::tensor::Tensor;

/// Losses that a check compares.
const CHECKED_STEPS: usize = 4;
/// Sequences of a batch.
const USERS: usize = 256;

/// Two blocks, 64 wide, over histories of 50: SASRec as it is measured here.
pub fn sasrec(framework: Framework) -> RecConfig {
    RecConfig { encoder: EncoderKind::SasRec, history: 50, blocks: 2, ..plain(framework) }
}

/// One layer, 64 wide, over histories of 10.
pub fn gru(framework: Framework) -> RecConfig {
    RecConfig { encoder: EncoderKind::Gru4Rec, history: 10, blocks: 1, ..plain(framework) }
}

/// Without dropout, which no two sides would draw alike.
fn plain(framework: Framework) -> RecConfig {
    RecConfig { framework, dropout: 0.0, ..RecConfig::default() }
}

/// A network whose parameters are streams of their names, behind `prefix`.
pub fn network(home: &Home, config: &RecConfig, items: usize, prefix: &str) -> Result<Network> {
    let network = Network::new(config, items, 0, (&home.device, home.dtype), 0)?;
    for param in network.params() {
        let name = param.name();
        let map: fn(f64) -> f64 = match name {
            _ if name.ends_with("norm.weight") => |x| 1.0 + 0.125 * x,
            _ if name.ends_with("bias") || name.contains("blocks") || name.contains("layers") => {
                |x| 0.125 * x
            }
            _ => |x| 0.0625 * x,
        };
        param.set(home.tensor(&format!("{prefix}{name}"), param.value().shape(), map)?);
    }
    Ok(network)
}

/// A recommender and one batch.
pub struct Training {
    network: Network,
    /// Values the next states, where there is a Q head. The roles are not swapped.
    other: Option<Network>,
    optimiser: AdamW,
    data: StepData,
    steps: u64,
}

impl Training {
    pub fn new(home: &Home, config: &RecConfig, items: usize) -> Result<Self> {
        let main = network(home, config, items, "")?;
        let other = config.framework.has_q().then(|| network(home, config, items, "other.")).transpose()?;
        let optimiser = AdamW::new(main.params(), AdamWConfig::default())?;
        Ok(Training { network: main, other, optimiser, data: data(config, items), steps: 0 })
    }
}

/// A batch of [`USERS`] full histories, and the negatives of its steps.
fn data(config: &RecConfig, items: usize) -> StepData {
    let mut batch = Batch::default();
    for user in 0..USERS {
        let first = user * (config.history + 1);
        let item = |t: usize| number("history", first + t, items);
        batch.lengths.push(config.history);
        for t in 0..config.history {
            batch.rows.push((user * config.history + t) as u32);
            batch.items.push(item(t));
            batch.targets.push(item(t + 1));
            batch.places.push((user as u32, t as u32));
            batch.terminal.push(t + 1 == config.history);
        }
    }
    let steps = batch.steps();
    batch.rewards = vec![1.0; steps];
    let each = config.negatives_used();
    StepData {
        batch,
        rewards: vec![1.0; steps],
        negatives_each: each,
        negatives: (0..steps * each).map(|i| number("negatives", i, items)).collect(),
        negative_rewards: vec![0.0; steps * each],
        ..StepData::default()
    }
}

impl Case for Training {
    /// The loss, which a training reads at every step.
    fn run(&mut self) -> Result<Tensor> {
        let objective =
            objective(&self.network, self.other.as_ref(), &self.data, &Noise::none(), self.steps)?;
        let loss = objective.loss.value().clone();
        loss.item()?;
        let grads = backward(&objective.loss)?;
        drop(objective);
        self.optimiser.step(grads, 1.0)?;
        self.steps += 1;
        Ok(loss)
    }

    fn check(&mut self) -> Result<Vec<f64>> {
        (0..CHECKED_STEPS).map(|_| Ok(self.run()?.item()?)).collect()
    }
}
