//! Settings of the LE: prompts, item tokens, training, labelling.

use crate::decoder::LoraConfig;
use crate::device::Device;
use crate::{Error, Result};
use serde::{Deserialize, Serialize};

/// Texts around item tokens (DESIGN: root, stem and closing text of the forest); each may be empty.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PromptConfig {
    /// Before the history; shared by all users of a pack.
    pub root: String,
    /// Between the history and an action; shared by the actions of a step.
    pub stem: String,
    /// After an action; the reward is read at its last token, or at the action where it is empty.
    pub closing: String,
}

/// Step 1: item tokens from which the frozen decoder writes the items' texts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ItemTokenConfig {
    /// Passes over the catalogue; 0 leaves the mean embedding of the text.
    pub epochs: usize,
    /// Learning rate of AdamW.
    pub learning_rate: f64,
    /// Text rows a step.
    pub batch_tokens: usize,
    /// Longer texts are cut.
    pub max_text_tokens: usize,
}

impl Default for ItemTokenConfig {
    fn default() -> Self {
        ItemTokenConfig { epochs: 3, learning_rate: 0.01, batch_tokens: 4096, max_text_tokens: 48 }
    }
}

/// Form of the state loss.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum StateLoss {
    /// −log softmax over the positive, the other positives of the batch and uniform negatives, of similarity/τ.
    InfoNce,
    /// −log σ((sim(s, a⁺) − sim(s, a⁻))/τ) against each sampled negative.
    Pairwise,
}

/// Step 2: adapters, score head and, if they have a learning rate, item tokens.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FitConfig {
    /// Adapters of the decoder.
    pub lora: LoraConfig,
    /// Passes over the LE's users.
    pub epochs: usize,
    /// Forest rows a step.
    pub batch_tokens: usize,
    /// Learning rate of adapters and head.
    pub learning_rate: f64,
    /// Learning rate of the item tokens; 0 leaves them as step 1 left them.
    pub item_learning_rate: f64,
    /// Decoupled weight decay.
    pub weight_decay: f64,
    /// Share of the steps over which the learning rate rises.
    pub warmup: f64,
    /// Share of the learning rate that is left at the end, after a cosine.
    pub lr_floor: f64,
    /// Norm to which gradients are clipped; 0 for no clipping.
    pub clip_norm: f64,
    /// Form of the state loss.
    pub state_loss: StateLoss,
    /// Weight of the state loss.
    pub state_weight: f64,
    /// Weight of the reward loss.
    pub reward_weight: f64,
    /// τ of the state loss, and of similarities as log-softmax.
    pub temperature: f64,
    /// Uniform negatives of a batch's InfoNCE; as many as the catalogue has, or more, mean all of it.
    pub state_negatives: usize,
    /// Whether the other positives of the batch are negatives of InfoNCE too. They come by popularity, so that
    /// similarity unlearns it: worth it where the catalogue is too large for enough uniform negatives.
    pub in_batch: bool,
    /// m of the reward loss −log σ(r⁺ − r⁻ − m).
    pub margin: f64,
    /// Negatives of the reward loss a step.
    pub negatives: usize,
    /// Share of them drawn by popularity.
    pub popularity_share: f64,
    /// Share of them drawn from the candidates of the step, from epoch `hard_from` on.
    pub hard_share: f64,
    /// First epoch, counted from 1, with negatives from the candidates.
    pub hard_from: usize,
    /// Candidates to draw them from.
    pub hard_candidates: usize,
    /// Keep layer inputs only and run each layer again backward.
    pub checkpoint: bool,
}

impl Default for FitConfig {
    fn default() -> Self {
        FitConfig {
            lora: LoraConfig::default(),
            epochs: 4,
            batch_tokens: 1024,
            learning_rate: 2e-3,
            item_learning_rate: 2e-3,
            weight_decay: 0.0,
            warmup: 0.05,
            lr_floor: 0.1,
            clip_norm: 1.0,
            state_loss: StateLoss::InfoNce,
            state_weight: 1.0,
            reward_weight: 1.0,
            temperature: 0.1,
            state_negatives: 8192,
            in_batch: false,
            margin: 0.0,
            negatives: 4,
            popularity_share: 0.0,
            hard_share: 0.5,
            hard_from: 2,
            hard_candidates: 50,
            checkpoint: false,
        }
    }
}

/// How the augmented action is chosen among the candidates.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Augment {
    /// Highest reward: the paper's reading.
    Reward,
    /// Highest similarity to the state.
    Similarity,
    /// Highest sum of both as log-softmax over the candidates.
    Both,
}

/// Step 3: the labelling pass.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LabelConfig {
    /// Sampled negatives a step, whose rewards are labelled.
    pub negatives: usize,
    /// Candidates of the augmented action; 0 chooses none, more than the catalogue means all of it.
    pub candidates: usize,
    /// How it is chosen.
    pub augment: Augment,
    /// Keep the hidden vector at the augmented action's leaf, the state after taking it.
    pub augmented_states: bool,
    /// Forest rows a pack; leaves beyond it stream through in chunks of this size. 0 takes what suits the device.
    pub pack_tokens: usize,
    /// Users a label file.
    pub users_per_file: usize,
}

impl LabelConfig {
    /// The settings without those that decide no label: the sizes of packs and files.
    pub fn deciding(&self) -> LabelConfig {
        LabelConfig { pack_tokens: 0, users_per_file: 0, ..self.clone() }
    }

    /// Forest rows a pack on that device.
    pub fn pack_rows(&self, device: &Device) -> usize {
        match self.pack_tokens {
            0 => device.busy_rows(),
            rows => rows,
        }
    }
}

impl Default for LabelConfig {
    fn default() -> Self {
        LabelConfig {
            negatives: 10,
            candidates: 50,
            augment: Augment::Both,
            augmented_states: false,
            pack_tokens: 0,
            users_per_file: 4096,
        }
    }
}

/// All settings of the LE.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LeConfig {
    /// Texts around item tokens.
    pub prompt: PromptConfig,
    /// Items of a trunk at most, H; longer histories are cut into segments.
    pub history: usize,
    /// Step 1.
    pub items: ItemTokenConfig,
    /// Step 2.
    pub fit: FitConfig,
    /// Step 3.
    pub label: LabelConfig,
}

impl Default for LeConfig {
    fn default() -> Self {
        LeConfig {
            prompt: PromptConfig::default(),
            history: 50,
            items: ItemTokenConfig::default(),
            fit: FitConfig::default(),
            label: LabelConfig::default(),
        }
    }
}

impl LeConfig {
    /// Items unmet by a user that training, labelling or judging draws at most for a step.
    pub fn most_negatives(&self) -> usize {
        self.fit.negatives.max(self.label.negatives).max(super::quality::NEGATIVES)
    }

    /// Refuses settings that make no sense, by name.
    pub fn check(&self) -> Result<()> {
        let share = |x: f64| (0.0..=1.0).contains(&x);
        let rate = share;
        let fit = &self.fit;
        let checks = [
            (self.history >= 1, "history must be at least 1".to_string()),
            (
                self.items.batch_tokens >= 1 && self.items.max_text_tokens >= 1,
                "items: sizes must be at least 1".into(),
            ),
            (
                fit.batch_tokens >= 1 && fit.negatives >= 1,
                "fit: batch_tokens and negatives must be at least 1".into(),
            ),
            (
                (1e-4..=1e4).contains(&fit.temperature),
                format!("fit: temperature {} must be in 0.0001..10000", fit.temperature),
            ),
            (
                fit.learning_rate > 0.0 && fit.learning_rate <= 1.0,
                format!("fit: learning_rate {} must be above 0 and at most 1", fit.learning_rate),
            ),
            (rate(fit.item_learning_rate), "fit: item_learning_rate must be in 0..1".into()),
            (rate(self.items.learning_rate), "items: learning_rate must be in 0..1".into()),
            (
                [fit.state_weight, fit.reward_weight, fit.weight_decay, fit.clip_norm]
                    .iter()
                    .all(|w| (0.0..1e6).contains(w)),
                "fit: state_weight, reward_weight, weight_decay and clip_norm must be at least 0, below 1000000"
                    .into(),
            ),
            (fit.margin.is_finite(), format!("fit: margin {} must be finite", fit.margin)),
            (
                self.history <= 1 << 20 && fit.negatives <= 1 << 16 && self.label.negatives <= 1 << 16,
                "history or a number of negatives is absurdly large".into(),
            ),
            (
                share(fit.popularity_share)
                    && share(fit.hard_share)
                    && share(fit.popularity_share + fit.hard_share),
                "fit: popularity_share and hard_share must be in 0..1, together at most 1".into(),
            ),
            (
                share(fit.warmup) && share(fit.lr_floor),
                format!("fit: warmup {} and lr_floor {} must be in 0..1", fit.warmup, fit.lr_floor),
            ),
            (
                self.label.users_per_file >= 1,
                "label: users_per_file must be at least 1".into(),
            ),
        ];
        match checks.into_iter().find(|(holds, _)| !holds) {
            Some((_, problem)) => Err(Error::setting(problem, "change it in the configuration")),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_and_senseless_settings_are_refused() {
        assert!(toml::from_str::<LeConfig>("[fit]\nlearning_rates = 1.0").is_err());
        let config: LeConfig = toml::from_str("[fit]\nhard_share = 0.7\npopularity_share = 0.5").unwrap();
        assert!(config.check().unwrap_err().to_string().contains("together at most 1"));
        LeConfig::default().check().unwrap();
    }
}
