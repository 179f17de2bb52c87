//! LoRA adapters of a decoder: added, listed, merged.

use super::Decoder;
use crate::autograd::Param;
use crate::nn::{Linear, Lora};
use crate::{Error, Result};
use serde::{Deserialize, Serialize};

/// Which projections get an adapter, and of what kind.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LoraConfig {
    /// Projections by their last name: `q_proj`, `k_proj`, `v_proj`, `o_proj`, `gate_proj`, `up_proj`, `down_proj`.
    pub targets: Vec<String>,
    /// Rank of the adapters.
    pub rank: usize,
    /// α: the adapter's output is multiplied by α/rank.
    pub alpha: f64,
    /// Probability that an input element of an adapter is dropped in training.
    pub dropout: f64,
    /// Multiply by α/√rank instead.
    pub use_rslora: bool,
}

/// The largest rank of an adapter: beyond it, A and B outgrow the projections that they adapt.
const MAX_RANK: usize = 4096;

impl Default for LoraConfig {
    fn default() -> Self {
        let targets = ["q_proj", "v_proj"].map(str::to_string).to_vec();
        LoraConfig { targets, rank: 8, alpha: 16.0, dropout: 0.0, use_rslora: false }
    }
}

impl LoraConfig {
    /// The factor of an adapter's output.
    pub fn scale(&self) -> f64 {
        let rank = self.rank as f64;
        self.alpha / if self.use_rslora { rank.sqrt() } else { rank }
    }

    fn check(&self, known: &[&str]) -> Result<()> {
        let wrong = |problem: String, remedy: &str| Err(Error::setting(format!("lora: {problem}"), remedy));
        if !(1..=MAX_RANK).contains(&self.rank) {
            return wrong(format!("rank {}", self.rank), &format!("set rank between 1 and {MAX_RANK}"));
        }
        if self.targets.is_empty() {
            return wrong("no targets".into(), &format!("choose among {}", known.join(", ")));
        }
        if !(0.0..1.0).contains(&self.dropout) || !self.alpha.is_finite() {
            let problem = format!("dropout {} or alpha {}", self.dropout, self.alpha);
            return wrong(problem, "set dropout in 0..1 and alpha to a number");
        }
        match self.targets.iter().find(|target| !known.contains(&target.as_str())) {
            Some(unknown) => {
                wrong(format!("unknown target {unknown:?}"), &format!("choose among {}", known.join(", ")))
            }
            None => Ok(()),
        }
    }
}

impl Decoder {
    /// Freezes the decoder and gives the target projections fresh adapters, drawn from `seed`; they replace any
    /// that were there.
    pub fn add_lora(&mut self, config: &LoraConfig, seed: u64) -> Result<()> {
        let known = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"];
        config.check(&known)?;
        *self = self.map(|linear| Ok(linear.frozen()))?;
        for (i, layer) in self.layers.iter_mut().enumerate() {
            for (p, (module, linear)) in layer.projections().into_iter().enumerate() {
                let name = module.rsplit('.').next().unwrap_or(module);
                linear.lora = None;
                if !config.targets.iter().any(|target| target == name) {
                    continue;
                }
                // A stream of its own for every adapter, whatever the other targets are.
                let seed =
                    seed.wrapping_add(((i * known.len() + p) as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15));
                let path = format!("model.layers.{i}.{module}");
                linear.lora =
                    Some(Lora::new(linear, &path, config.rank, config.scale(), config.dropout, seed)?);
            }
        }
        Ok(())
    }

    /// Parameters of the adapters: A and B of every adapted projection, layer by layer.
    pub fn lora_params(&self) -> Vec<Param> {
        let of =
            |linear: &Linear| linear.lora.iter().flat_map(|l| [l.a.clone(), l.b.clone()]).collect::<Vec<_>>();
        let layers = self.layers.iter();
        layers
            .flat_map(|l| [&l.q, &l.k, &l.v, &l.o, &l.gate, &l.up, &l.down].into_iter().flat_map(of))
            .collect()
    }

    /// The decoder with its adapters merged into the weights, all frozen.
    pub fn merged(&self) -> Result<Decoder> {
        self.map(Linear::merged)
    }

    fn map(&self, f: impl Fn(&Linear) -> Result<Linear>) -> Result<Decoder> {
        let mut mapped = self.clone();
        mapped.layers = self.layers.iter().map(|layer| layer.map(&f)).collect::<Result<_>>()?;
        mapped.embed = self.embed.to_frozen();
        mapped.norm = self.norm.to_frozen();
        mapped.lm_head = self.lm_head.as_ref().map(Param::to_frozen);
        Ok(mapped)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rank_outside_1_to_4096_is_refused_before_anything_is_made() {
        let check = |rank| LoraConfig { rank, ..LoraConfig::default() }.check(&["q_proj", "v_proj"]);
        for rank in [1, 4096] {
            check(rank).unwrap();
        }
        for rank in [0, 4097, usize::MAX] {
            let message = check(rank).unwrap_err().to_string();
            assert!(message.contains(&format!("rank {rank}; set rank between 1 and 4096")), "{message}");
        }
    }
}
