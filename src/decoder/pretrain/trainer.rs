//! The training loop: epochs of packs, each epoch judged on the held-out texts.

use super::{PretrainConfig, PretrainReport, pack};
use crate::autograd::{Param, Var, apply, backward, no_grad};
use crate::decoder::{Decoder, Rows};
use crate::device::profile;
use crate::nn::{AdamW, AdamWConfig, Decay, Schedule};
use crate::ops::{CrossEntropy, Mean};
use crate::progress::{MetricsLog, Progress};
use crate::tensor::Tensor;
use crate::tensor::checkpoint::{Checkpoint, Checkpoints};
use crate::{Result, interrupt};
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};
use serde_json::json;

pub(super) struct Trainer<'a, 'f> {
    pub decoder: Decoder,
    pub config: &'a PretrainConfig,
    pub held_out: Vec<Vec<&'a Vec<u32>>>,
    /// Shuffles the texts ahead of every epoch.
    pub rng: ChaCha8Rng,
    pub log: &'a mut MetricsLog,
    pub keep: &'a mut Checkpoints<'f>,
}

/// How far the training has come.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Place {
    /// From 1.
    epoch: usize,
    /// Packs of the epoch that were trained on.
    packs: usize,
    /// The best epoch so far; 0 before the first has ended.
    best_epoch: usize,
}

/// What training changes.
struct State {
    params: Vec<Param>,
    optimiser: AdamW,
    place: Place,
    /// Held-out loss before training.
    first_loss: f64,
    /// Sum of the losses of this epoch's tokens.
    sum: f64,
    /// Held-out loss and weights of the best epoch.
    best: (f64, Vec<Tensor>),
}

impl State {
    fn checkpoint(&self) -> Result<Checkpoint> {
        let names = || self.params.iter().map(|param| param.name().to_string());
        let weights = self.params.iter().map(Param::value);
        Ok(Checkpoint::new(&self.place)?
            .with_numbers("sums", &[self.first_loss, self.sum, self.best.0])?
            .with_all("weight.", names().zip(weights))
            .with_all("best.", names().zip(self.best.1.iter().cloned()))
            .with_all("", self.optimiser.state()?))
    }

    fn restore(&mut self, from: &Checkpoint) -> Result<()> {
        self.place = from.state()?;
        [self.first_loss, self.sum, self.best.0] = from.numbers("sums")?;
        let read = |prefix: &str| {
            let one = |param: &Param| {
                let value = param.value();
                from.tensor(&format!("{prefix}{}", param.name()), value.shape(), value.dtype())
            };
            self.params.iter().map(one).collect::<Result<Vec<_>>>()
        };
        let weights = read("weight.")?;
        if self.place.best_epoch > 0 {
            self.best.1 = read("best.")?;
        }
        self.optimiser.load_state(&from.all(""))?;
        self.params.iter().zip(weights).for_each(|(param, value)| param.set(value));
        Ok(())
    }
}

impl<'a> Trainer<'a, '_> {
    pub(super) fn run(&mut self, train: &'a [Vec<u32>]) -> Result<PretrainReport> {
        let mut order: Vec<&Vec<u32>> = train.iter().collect();
        let tokens: usize = train.iter().map(|s| s.len() - 1).sum();
        let steps = (pack(&order, self.config.batch_tokens).len() * self.config.epochs) as u64;
        let warmup = (steps as f64 * self.config.warmup) as u64;
        let schedule = Schedule { warmup, total: steps, kind: Decay::Cosine, floor: 0.05 };
        let mut state = self.begin()?;
        let mut progress = Progress::new("pretrain", (tokens * self.config.epochs) as u64, "tokens");
        progress.resume((state.place.epoch.saturating_sub(1) * tokens) as u64);
        // The order of an epoch is that of the one before, shuffled again.
        (1..state.place.epoch).for_each(|_| order.shuffle(&mut self.rng));
        while state.place.epoch <= self.config.epochs {
            order.shuffle(&mut self.rng);
            self.epoch(&mut state, &order, schedule, &mut progress)?;
            let held = self.held_out_loss();
            let held = self.keep.keep_if_interrupted(self.log, held, || state.checkpoint())?;
            let Place { epoch, best_epoch, .. } = state.place;
            self.log.write(&json!({
                "step": "pretrain", "epoch": epoch, "steps": state.optimiser.steps(),
                "loss": state.sum / tokens as f64, "held_out_loss": held,
            }))?;
            if best_epoch == 0 || held < state.best.0 {
                state.place.best_epoch = epoch;
                state.best = (held, state.params.iter().map(|p| p.value()).collect());
            }
            state.place = Place { epoch: epoch + 1, packs: 0, ..state.place };
            state.sum = 0.0;
        }
        progress.finish();
        let State { params, place, first_loss, best: (held_out_loss, weights), .. } = state;
        params.iter().zip(weights).for_each(|(param, value)| param.set(value));
        let parameters = self.decoder.config.parameters();
        let epoch = place.best_epoch;
        Ok(PretrainReport { texts: train.len(), tokens, parameters, first_loss, held_out_loss, epoch })
    }

    /// The state before the first step, or that of the checkpoint that is gone on from.
    fn begin(&mut self) -> Result<State> {
        let adamw = AdamWConfig {
            lr: self.config.lr,
            beta2: 0.98,
            weight_decay: self.config.weight_decay,
            clip_norm: Some(1.0),
            ..AdamWConfig::default()
        };
        let params = self.decoder.params();
        let optimiser = AdamW::new(params.clone(), adamw)?;
        let place = Place { epoch: 1, packs: 0, best_epoch: 0 };
        let best = (0.0, Vec::new());
        let mut state = State { params, optimiser, place, first_loss: 0.0, sum: 0.0, best };
        match self.keep.begin(self.log)? {
            Some(checkpoint) => state.restore(&checkpoint)?,
            None => state.first_loss = self.held_out_loss()?,
        }
        Ok(state)
    }

    /// Trains on the packs of an epoch that are left.
    fn epoch(
        &mut self,
        state: &mut State,
        order: &[&Vec<u32>],
        schedule: Schedule,
        progress: &mut Progress,
    ) -> Result<()> {
        let packs = pack(order, self.config.batch_tokens);
        let rows = |pack: &Vec<&Vec<u32>>| pack.iter().map(|s| s.len() as u64 - 1).sum::<u64>();
        progress.resume(packs.iter().take(state.place.packs).map(rows).sum());
        for pack in packs.iter().skip(state.place.packs) {
            let losses = self.losses(pack)?;
            let rows = losses.value().len();
            let loss = apply(Mean::default(), &[&losses])?;
            let value = loss.value().item()?;
            state.optimiser.step(backward(&loss)?, schedule.scale(state.optimiser.steps()))?;
            state.sum += value * rows as f64;
            state.place.packs += 1;
            let epoch = state.place.epoch;
            progress.message(format!("epoch {epoch} loss {value:.3}"));
            progress.advance(rows as u64);
            let place =
                || format!("pretrain, pack {} of {} in epoch {epoch}", state.place.packs, packs.len());
            self.keep.point(self.log, place, || state.checkpoint())?;
        }
        Ok(())
    }

    /// Loss of every token but the first of each sequence.
    fn losses(&self, pack: &[&Vec<u32>]) -> Result<Var> {
        let _range = profile::range(|| "forward".into());
        let lengths: Vec<usize> = pack.iter().map(|s| s.len() - 1).collect();
        let inputs: Vec<u32> = pack.iter().flat_map(|s| &s[..s.len() - 1]).copied().collect();
        let targets: Vec<u32> = pack.iter().flat_map(|s| &s[1..]).copied().collect();
        let device = self.decoder.device();
        let rows = Rows::causal(&device, &lengths)?;
        let hidden = self.decoder.forward(&self.decoder.embed_tokens(&inputs)?, &rows)?;
        let logits = self.decoder.logits(&self.decoder.final_norm(&hidden)?)?;
        apply(CrossEntropy::new(Tensor::from_ids(&device, &targets)?), &[&logits])
    }

    /// Mean over all held-out tokens.
    fn held_out_loss(&self) -> Result<f64> {
        let (mut sum, mut tokens) = (0.0, 0);
        for pack in &self.held_out {
            interrupt::check("pretrain, amid the held-out texts")?;
            let losses = no_grad(|| self.losses(pack))?.value().to_f64_vec()?;
            tokens += losses.len();
            sum += losses.iter().sum::<f64>();
        }
        Ok(sum / tokens as f64)
    }
}
