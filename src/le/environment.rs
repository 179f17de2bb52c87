//! The LE: a decoder with adapters, one token an item, and a score head.

use super::config::PromptConfig;
use crate::autograd::{Param, Var, apply};
use crate::decoder::forest::{Branch, Forest, LeafRows, Tree};
use crate::decoder::{Decoder, Tokenizer};
use crate::device::{DType, Device};
use crate::ops::{Embedding, L2Normalize, MeanRows, NormScore, SubRow};
use crate::tensor::Tensor;
use crate::{Error, Result};
use serde::{Deserialize, Serialize};

/// Guards the division of a similarity by the norm of a vector that is zero.
const NORM_EPS: f64 = 1e-8;

/// The texts of a prompt as tokens.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Prompt {
    /// Before the history.
    pub root: Vec<u32>,
    /// Between history and action.
    pub stem: Vec<u32>,
    /// After the action.
    pub closing: Vec<u32>,
}

impl Prompt {
    /// Tokenises the texts; the root starts with the beginning-of-text token unless it is empty.
    pub fn new(config: &PromptConfig, tokenizer: &Tokenizer) -> Result<Self> {
        let part = |text: &str| if text.is_empty() { Ok(Vec::new()) } else { tokenizer.encode(text) };
        let root = if config.root.is_empty() { Vec::new() } else { tokenizer.encode_prompt(&config.root)? };
        Ok(Prompt { root, stem: part(&config.stem)?, closing: part(&config.closing)? })
    }
}

/// The offline environment.
#[derive(Clone, Debug)]
pub struct Environment {
    /// The decoder, its base frozen; with adapters in training, merged for labelling.
    pub decoder: Decoder,
    /// Item tokens e_i `[items, d]`.
    pub items: Param,
    /// Score head θ `[d]`.
    pub head: Param,
    /// Tokens around items.
    pub prompt: Prompt,
    /// Items of a trunk at most.
    pub history: usize,
}

/// A step of a trunk with the actions to score there.
#[derive(Clone, Debug)]
pub struct Step {
    /// Row of the trunk.
    pub at: usize,
    /// Actions.
    pub actions: Vec<u32>,
}

impl Environment {
    /// Where it lives.
    pub fn device(&self) -> Device {
        self.decoder.device()
    }

    /// The type computed in.
    pub fn dtype(&self) -> DType {
        self.decoder.dtype()
    }

    /// Size of the catalogue.
    pub fn catalogue(&self) -> usize {
        self.items.value().shape()[0]
    }

    /// Width of states and item tokens.
    pub fn width(&self) -> usize {
        self.decoder.config.hidden_size
    }

    /// The row token of `item`: item tokens follow the text vocabulary.
    pub fn item_token(&self, item: u32) -> u32 {
        self.decoder.config.vocab_size as u32 + item
    }

    /// Rows of a leaf: the action and the closing text.
    pub fn leaf(&self, action: u32) -> Vec<u32> {
        let mut leaf = vec![self.item_token(action)];
        leaf.extend(&self.prompt.closing);
        leaf
    }

    /// Rows that one action costs.
    pub fn leaf_len(&self) -> usize {
        1 + self.prompt.closing.len()
    }

    /// The tree of a history with actions at some of its steps.
    pub fn tree(&self, history: &[u32], steps: &[Step]) -> Tree {
        let branch = |step: &Step| Branch {
            at: step.at,
            leaves: step.actions.iter().map(|&action| self.leaf(action)).collect(),
        };
        Tree {
            trunk: history.iter().map(|&item| self.item_token(item)).collect(),
            branches: steps.iter().map(branch).collect(),
        }
    }

    /// Lays out trees under the prompt's root, with its stem at every branch.
    pub fn forest(&self, trees: &[Tree]) -> Result<Forest> {
        let context = self.decoder.config.max_position_embeddings;
        Forest::build(&self.prompt.root, &self.prompt.stem, trees, context)
    }

    /// Lays out leaves `(branch, action)` that stream against `forest`.
    pub fn leaves(&self, forest: &Forest, actions: &[(usize, u32)]) -> Result<LeafRows> {
        let of_leaf = |&(_, action): &(usize, u32)| {
            std::iter::once(self.item_token(action)).chain(self.prompt.closing.iter().copied())
        };
        let tokens: Vec<u32> = actions.iter().flat_map(of_leaf).collect();
        forest.leaf_rows(actions.iter().map(|&(branch, _)| branch).zip(tokens.chunks(self.leaf_len())))
    }

    /// Input rows `[n, d]` of text and item tokens.
    pub fn embed(&self, tokens: &[u32]) -> Result<Var> {
        let limit = self.decoder.config.vocab_size + self.catalogue();
        if let Some(token) = tokens.iter().find(|&&t| t as usize >= limit) {
            let item = *token as usize - self.decoder.config.vocab_size;
            return Err(Error::setting(
                format!("item {item} has no token: the LE knows {} items", self.catalogue()),
                "make the LE from the same data set that is labelled",
            ));
        }
        let ids = Tensor::from_ids(&self.device(), tokens)?;
        apply(Embedding::new(ids), &[&self.decoder.embed.var(), &self.items.var()])
    }

    /// States s_t `[n, d]` of hidden rows at trunk tokens.
    pub fn states(&self, hidden: &Var) -> Result<Var> {
        self.decoder.final_norm(hidden)
    }

    /// Rewards r(s_t, a) `[n]` of hidden rows at the last tokens of leaves.
    pub fn rewards(&self, hidden: &Var) -> Result<Var> {
        let op = NormScore::new(self.decoder.config.rms_norm_eps);
        apply(op, &[hidden, &self.decoder.norm.var(), &self.head.var()])
    }

    /// States as the similarity sees them: rows of length 1.
    pub fn directions(&self, states: &Var) -> Result<Var> {
        apply(L2Normalize::new(NORM_EPS), &[states])
    }

    /// Item tokens `ids` (all of them where `None`) as the similarity sees them: less the mean of the catalogue,
    /// which is about half of every token and says nothing, then of length 1.
    pub fn item_directions(&self, ids: Option<&[u32]>) -> Result<Var> {
        let mean = apply(MeanRows::default(), &[&self.items.var()])?;
        let rows = match ids {
            None => self.items.var(),
            Some(ids) => apply(Embedding::new(Tensor::from_ids(&self.device(), ids)?), &[&self.items.var()])?,
        };
        apply(L2Normalize::new(NORM_EPS), &[&apply(SubRow, &[&rows, &mean])?])
    }

    /// The same LE with its adapters merged into the decoder's weights: what labelling runs.
    pub fn merged(&self) -> Result<Environment> {
        Ok(Environment { decoder: self.decoder.merged()?, ..self.clone() })
    }
}

/// Rows `ids` of `x: [n, d]`, differentiable.
pub(super) fn gather(x: &Var, ids: &[u32]) -> Result<Var> {
    apply(Embedding::new(Tensor::from_ids(x.value().device(), ids)?), &[x])
}
