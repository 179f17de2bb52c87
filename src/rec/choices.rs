//! What a recommender is chosen from: encoders, frameworks, variants, and what is done with the LE's labels.

use serde::{Deserialize, Serialize};

/// The network that reads a history.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
#[value(rename_all = "kebab-case")]
pub enum EncoderKind {
    /// Causal self-attention (Kang and McAuley, arXiv 1808.09781).
    #[value(name = "sasrec")]
    #[serde(rename = "sasrec")]
    SasRec,
    /// A gated recurrent unit (Hidasi et al., arXiv 1511.06939).
    #[value(name = "gru4rec")]
    #[serde(rename = "gru4rec")]
    Gru4Rec,
}

impl EncoderKind {
    /// The name used in files, tables and flags.
    pub fn name(self) -> &'static str {
        match self {
            EncoderKind::SasRec => "sasrec",
            EncoderKind::Gru4Rec => "gru4rec",
        }
    }
}

/// How a recommender learns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
#[value(rename_all = "lowercase")]
pub enum Framework {
    /// Full softmax cross-entropy alone.
    Supervised,
    /// Self-supervised Q-learning (Xin et al., arXiv 2006.05779).
    Sqn,
    /// SQN with sampled negative actions (Xin et al., arXiv 2111.03474).
    Snqn,
    /// SNQN with the cross-entropy weighted by the advantage (same paper).
    Sa2c,
}

impl Framework {
    /// The name used in files, tables and flags.
    pub fn name(self) -> &'static str {
        match self {
            Framework::Supervised => "supervised",
            Framework::Sqn => "sqn",
            Framework::Snqn => "snqn",
            Framework::Sa2c => "sa2c",
        }
    }

    /// Whether there is a Q head.
    pub fn has_q(self) -> bool {
        self != Framework::Supervised
    }

    /// Whether negative actions are trained.
    pub fn has_negatives(self) -> bool {
        matches!(self, Framework::Snqn | Framework::Sa2c)
    }
}

/// The usual combinations of what is taken from the LE. Each switch can also be set by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
#[value(rename_all = "snake_case")]
pub enum Variant {
    /// Nothing.
    Base,
    /// The state.
    State,
    /// The rewards.
    Reward,
    /// Both.
    StateReward,
    /// Both, and augmented actions.
    Lea,
}

impl Variant {
    /// The name used in files, tables and flags.
    pub fn name(self) -> &'static str {
        match self {
            Variant::Base => "base",
            Variant::State => "state",
            Variant::Reward => "reward",
            Variant::StateReward => "state_reward",
            Variant::Lea => "lea",
        }
    }
}

/// What is done to the LE's rewards before they enter the Q-loss.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
#[value(rename_all = "lowercase")]
pub enum RewardScale {
    /// Nothing.
    Raw,
    /// σ(r).
    Sigmoid,
    /// σ((r − μ)/σ_r), with mean and deviation of the observed actions of the training steps.
    Standardised,
}

/// The state that follows an augmented action.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
#[value(rename_all = "lowercase")]
pub enum NextState {
    /// The one that followed the observed action.
    Observed,
    /// The one that the augmented action itself leads to: the history with the action appended, and the LE's hidden
    /// vector at its leaf. At a user's last step there is none, as for the observed action: both end the episode.
    Leaf,
}
