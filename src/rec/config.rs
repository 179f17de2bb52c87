//! Settings of one recommender training.

pub use super::choices::{EncoderKind, Framework, NextState, RewardScale, Variant};
use crate::{Error, Result};
use serde::{Deserialize, Serialize};

/// Settings of one recommender training; every field has a default.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RecConfig {
    /// The encoder.
    pub encoder: EncoderKind,
    /// How it learns.
    pub framework: Framework,
    /// The Q head reads the LE's state.
    pub state: bool,
    /// The Q-loss uses the LE's rewards, of observed actions and of negatives.
    pub reward: bool,
    /// Augmented actions are trained too, with weights α and β.
    pub augment: bool,
    /// Weight α of the cross-entropy of augmented actions, where they are trained.
    pub alpha: f64,
    /// Weight β of the Q-loss of augmented actions, where they are trained.
    pub beta: f64,
    /// Items that the encoder reads at most, H.
    pub history: usize,
    /// Width of embeddings and hidden vectors.
    pub width: usize,
    /// Attention blocks, or stacked recurrent layers.
    pub blocks: usize,
    /// Attention heads; SASRec only.
    pub heads: usize,
    /// Dropout probability.
    pub dropout: f64,
    /// The supervised head is the item embedding itself.
    pub tied: bool,
    /// What is done to the LE's rewards.
    pub reward_scale: RewardScale,
    /// The state that follows an augmented action.
    pub augmented_next: NextState,
    /// Negative actions a step: the labelled ones where rewards are the LE's, else drawn anew in every epoch.
    pub negatives: usize,
    /// Weight of the mean Q-loss of the negatives.
    pub negative_weight: f64,
    /// Discount γ.
    pub discount: f64,
    /// SA2C: optimiser steps before the advantage weighs the cross-entropy.
    pub advantage_warmup: u64,
    /// SA2C: the advantage is clipped to 0..this.
    pub advantage_clip: f64,
    /// Steps of the data in one optimiser step.
    pub batch_steps: usize,
    /// Epochs at most: passes over the data; with a Q head twice as many, one for each of its two networks.
    pub epochs: usize,
    /// Epochs, counted like those, without a better validation NDCG@10 after which training stops.
    pub patience: usize,
    /// Learning rate of AdamW.
    pub learning_rate: f64,
    /// Decoupled weight decay.
    pub weight_decay: f64,
    /// Norm to which gradients are clipped; 0 for no clipping.
    pub clip_norm: f64,
    /// Seed of initial weights, batches, dropout and negatives.
    pub seed: u64,
}

impl Default for RecConfig {
    fn default() -> Self {
        RecConfig {
            encoder: EncoderKind::SasRec,
            framework: Framework::Snqn,
            state: false,
            reward: false,
            augment: false,
            alpha: 0.1,
            beta: 0.1,
            history: 10,
            width: 64,
            blocks: 1,
            heads: 1,
            dropout: 0.5,
            tied: true,
            reward_scale: RewardScale::Standardised,
            augmented_next: NextState::Observed,
            negatives: 10,
            negative_weight: 1.0,
            discount: 0.5,
            advantage_warmup: 2000,
            advantage_clip: 10.0,
            batch_steps: 256,
            epochs: 100,
            patience: 5,
            learning_rate: 1e-3,
            weight_decay: 0.0,
            clip_norm: 0.0,
            seed: 0,
        }
    }
}

impl RecConfig {
    /// Sets what is taken from the LE as `variant` says, and leaves weights as they are.
    /// A supervised recommender has no Q head, and takes only the augmented cross-entropy.
    pub fn with_variant(mut self, variant: Variant) -> Self {
        let q = self.framework.has_q();
        self.state = q && matches!(variant, Variant::State | Variant::StateReward | Variant::Lea);
        self.reward = q && matches!(variant, Variant::Reward | Variant::StateReward | Variant::Lea);
        self.augment = variant == Variant::Lea;
        self
    }

    /// Weight of the cross-entropy of augmented actions: α, or 0 where they are not trained.
    pub fn alpha_used(&self) -> f64 {
        if self.augment { self.alpha } else { 0.0 }
    }

    /// Weight of the Q-loss of augmented actions: β, or 0 where they are not trained or there is no Q head.
    pub fn beta_used(&self) -> f64 {
        if self.augment && self.framework.has_q() { self.beta } else { 0.0 }
    }

    /// The name of this combination for tables: a [`Variant`]'s, or the switches that are on, as in "state+alpha".
    pub fn variant_name(&self) -> String {
        let (augmented, q) = (self.alpha_used() > 0.0, self.beta_used() > 0.0);
        let variant = match (self.state, self.reward, augmented, q) {
            (false, false, false, false) => Variant::Base,
            (true, false, false, false) => Variant::State,
            (false, true, false, false) => Variant::Reward,
            (true, true, false, false) => Variant::StateReward,
            (true, true, true, true) => Variant::Lea,
            _ => {
                let on = [(self.state, "state"), (self.reward, "reward"), (augmented, "alpha"), (q, "beta")];
                let on: Vec<&str> = on.iter().filter(|(on, _)| *on).map(|(_, name)| *name).collect();
                return on.join("+");
            }
        };
        variant.name().into()
    }

    /// Encoder, framework and variant as tables and files name them: a supervised recommender has no framework, and its
    /// variant is "supervised", with "+alpha" where augmented actions are learned too.
    pub fn table_name(&self) -> [String; 3] {
        let encoder = self.encoder.name().into();
        if self.framework.has_q() {
            return [encoder, self.framework.name().into(), self.variant_name()];
        }
        let augmented = if self.alpha_used() > 0.0 { "+alpha" } else { "" };
        [encoder, "none".into(), format!("{}{augmented}", self.framework.name())]
    }

    /// Negatives that are drawn for a step: none where the framework trains none, or where they are labelled.
    pub fn negatives_used(&self) -> usize {
        if self.framework.has_negatives() && !self.reward { self.negatives } else { 0 }
    }

    /// Whether any label is read.
    pub fn needs_labels(&self) -> bool {
        self.state || self.reward || self.alpha_used() > 0.0 || self.beta_used() > 0.0
    }

    /// Refuses settings that make no sense together.
    ///
    /// # Errors
    /// One that names the setting, its value and what to choose.
    pub fn validate(&self) -> Result<()> {
        let counts = [
            ("history", self.history, 1..=65_536),
            ("width", self.width, 1..=65_536),
            ("blocks", self.blocks, 1..=256),
            ("heads", self.heads, 1..=1024),
            ("negatives", self.negatives, 0..=65_536),
            ("batch_steps", self.batch_steps, 1..=1 << 24),
            ("epochs", self.epochs, 1..=1_000_000),
            ("patience", self.patience, 1..=usize::MAX),
        ];
        for (name, value, range) in counts {
            if !range.contains(&value) {
                let remedy = format!("choose one from {} to {}", range.start(), range.end());
                return Err(Error::setting(format!("{name} is {value}"), remedy));
            }
        }
        if !self.width.is_multiple_of(self.heads) {
            let problem = format!("heads = {} does not divide width = {}", self.heads, self.width);
            return Err(Error::setting(problem, "choose a number of heads that divides the width"));
        }
        let ranges = [
            ("dropout", self.dropout, 0.0..1.0),
            ("discount", self.discount, 0.0..1.0),
            ("alpha", self.alpha, 0.0..f64::INFINITY),
            ("beta", self.beta, 0.0..f64::INFINITY),
            ("negative_weight", self.negative_weight, 0.0..f64::INFINITY),
            ("advantage_clip", self.advantage_clip, 0.0..f64::INFINITY),
            ("learning_rate", self.learning_rate, 0.0..f64::INFINITY),
            ("weight_decay", self.weight_decay, 0.0..f64::INFINITY),
            ("clip_norm", self.clip_norm, 0.0..f64::INFINITY),
        ];
        for (name, value, range) in ranges {
            if !range.contains(&value) {
                let remedy = format!("choose one from {} to below {}", range.start, range.end);
                return Err(Error::setting(format!("{name} is {value}"), remedy));
            }
        }
        if self.framework.has_negatives() && self.negatives == 0 {
            let problem = format!("{} trains on negative actions, and negatives is 0", self.framework.name());
            return Err(Error::setting(problem, "ask for at least one, or choose sqn"));
        }
        if !self.framework.has_q() && (self.state || self.reward) {
            return Err(Error::setting(
                "a supervised recommender has no Q head that could read the LE's state or rewards",
                "switch state and reward off, or choose sqn, snqn or sa2c",
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const VARIANTS: [Variant; 5] =
        [Variant::Base, Variant::State, Variant::Reward, Variant::StateReward, Variant::Lea];

    #[test]
    fn a_variant_sets_the_switches_that_name_it() {
        for variant in VARIANTS {
            let config = RecConfig::default().with_variant(variant);
            config.validate().unwrap();
            assert_eq!(config.variant_name(), variant.name());
            assert_eq!(config.needs_labels(), variant != Variant::Base);
        }
        let alone = RecConfig { augment: true, alpha: 0.3, beta: 0.0, state: true, ..RecConfig::default() };
        assert_eq!(alone.variant_name(), "state+alpha");
    }

    #[test]
    fn weights_that_are_set_stand_and_count_only_where_actions_are_augmented() {
        let used = |config: RecConfig| (config.alpha_used(), config.beta_used());
        let set = RecConfig { alpha: 0.0, beta: 0.3, ..RecConfig::default() };
        assert_eq!(used(set.clone().with_variant(Variant::Lea)), (0.0, 0.3));
        assert_eq!(used(set.with_variant(Variant::StateReward)), (0.0, 0.0));
        assert_eq!(used(RecConfig::default().with_variant(Variant::Lea)), (0.1, 0.1));
        assert_eq!(used(RecConfig::default()), (0.0, 0.0));
        let supervised = RecConfig { framework: Framework::Supervised, ..RecConfig::default() };
        assert_eq!(used(supervised.with_variant(Variant::Lea)), (0.1, 0.0));
    }

    #[test]
    fn every_variant_of_a_supervised_recommender_is_valid() {
        for variant in VARIANTS {
            let config = RecConfig { framework: Framework::Supervised, ..RecConfig::default() };
            config.with_variant(variant).validate().unwrap();
        }
    }

    #[test]
    fn a_supervised_recommender_is_named_after_its_loss() {
        let supervised = RecConfig { framework: Framework::Supervised, ..RecConfig::default() };
        assert_eq!(supervised.table_name(), ["sasrec", "none", "supervised"]);
        let augmented = supervised.with_variant(Variant::Lea);
        assert_eq!(augmented.table_name(), ["sasrec", "none", "supervised+alpha"]);
        let lea = RecConfig::default().with_variant(Variant::Lea);
        assert_eq!(lea.table_name(), ["sasrec", "snqn", "lea"]);
    }

    #[test]
    fn senseless_settings_are_named() {
        let base = RecConfig::default;
        let cases = [
            (RecConfig { heads: 3, ..base() }, "heads = 3"),
            (RecConfig { history: 0, ..base() }, "history is 0"),
            (RecConfig { dropout: 1.0, ..base() }, "dropout is 1"),
            (RecConfig { learning_rate: f64::NAN, ..base() }, "learning_rate is NaN"),
            (RecConfig { negatives: 0, ..base() }, "negatives is 0"),
            (RecConfig { framework: Framework::Supervised, reward: true, ..base() }, "no Q head"),
            (RecConfig { history: usize::MAX, ..base() }, "history is 18446744073709551615"),
            (RecConfig { width: 1_000_000_000_000, ..base() }, "width is 1000000000000"),
            (RecConfig { blocks: 257, ..base() }, "blocks is 257"),
            (RecConfig { negatives: 65_537, ..base() }, "negatives is 65537"),
            (RecConfig { batch_steps: usize::MAX, ..base() }, "batch_steps is"),
            (RecConfig { epochs: usize::MAX, ..base() }, "epochs is"),
        ];
        for (config, message) in cases {
            let found = config.validate().unwrap_err().to_string();
            assert!(found.contains(message), "{found}");
        }
    }
}
