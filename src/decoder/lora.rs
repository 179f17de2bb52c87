//! LoRA adapters of a decoder: added, listed, merged.

use super::Decoder;
use crate::autograd::Param;
use crate::nn::{Linear, Lora};
use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// Which projections get an adapter, and of what kind. A projection is named by its path
/// (`model.layers.0.self_attn.q_proj`) or the end of it (`q_proj`, `layers.0.self_attn.q_proj`).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LoraConfig {
    /// Projections: `q_proj`, `k_proj`, `v_proj`, `o_proj`, `gate_proj`, `up_proj`, `down_proj`, or paths.
    pub targets: Vec<String>,
    /// Rank of the adapters.
    pub rank: usize,
    /// α: the adapter's output is multiplied by α/rank.
    pub alpha: f64,
    /// Probability that an input element of an adapter is dropped in training.
    pub dropout: f64,
    /// Multiply by α/√rank instead.
    pub use_rslora: bool,
    /// Ranks of single projections, instead of `rank`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub rank_pattern: BTreeMap<String, usize>,
    /// α of single projections, instead of `alpha`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub alpha_pattern: BTreeMap<String, f64>,
}

/// One adapter of a [`LoraConfig`].
#[derive(Clone, Debug, PartialEq)]
pub struct AdapterShape {
    /// Path of the projection: `model.layers.0.self_attn.q_proj`.
    pub module: String,
    /// Its rank.
    pub rank: usize,
    /// Its α.
    pub alpha: f64,
}

/// The largest rank of an adapter: beyond it, A and B outgrow the projections that they adapt.
const MAX_RANK: usize = 4096;

/// Projections of a layer by the end of their paths, in the order of their use.
pub(crate) const PROJECTIONS: [&str; 7] = [
    "self_attn.q_proj",
    "self_attn.k_proj",
    "self_attn.v_proj",
    "self_attn.o_proj",
    "mlp.gate_proj",
    "mlp.up_proj",
    "mlp.down_proj",
];

/// Path of a projection.
pub(crate) fn module_path(layer: usize, projection: &str) -> String {
    format!("model.layers.{layer}.{projection}")
}

impl Default for LoraConfig {
    fn default() -> Self {
        let targets = ["q_proj", "v_proj"].map(str::to_string).to_vec();
        LoraConfig {
            targets,
            rank: 8,
            alpha: 16.0,
            dropout: 0.0,
            use_rslora: false,
            rank_pattern: BTreeMap::new(),
            alpha_pattern: BTreeMap::new(),
        }
    }
}

/// Whether `name` is the path `module` or the end of it.
fn names(name: &str, module: &str) -> bool {
    module.strip_suffix(name).is_some_and(|before| before.is_empty() || before.ends_with('.'))
}

impl LoraConfig {
    /// The factor of an adapter's output.
    pub fn scale(&self, rank: usize, alpha: f64) -> f64 {
        let rank = rank as f64;
        alpha / if self.use_rslora { rank.sqrt() } else { rank }
    }

    /// The adapters of a decoder of `layers` layers, in the order of its projections.
    ///
    /// # Errors
    /// Ranks, α or dropout that make no sense; a name that no projection has, or two patterns for one projection.
    pub fn adapters(&self, layers: usize) -> Result<Vec<AdapterShape>> {
        let wrong = |problem: String, remedy: &str| Err(Error::setting(format!("lora: {problem}"), remedy));
        let all = (0..layers).flat_map(|layer| PROJECTIONS.map(|p| module_path(layer, p)));
        let (mut used, mut adapters) = (BTreeSet::new(), Vec::new());
        for module in all {
            let mut adapted = false;
            for target in self.targets.iter().filter(|target| names(target, &module)) {
                used.insert(target);
                adapted = true;
            }
            if adapted {
                let rank = *pattern(&self.rank_pattern, "rank_pattern", &module)?.unwrap_or(&self.rank);
                let alpha = *pattern(&self.alpha_pattern, "alpha_pattern", &module)?.unwrap_or(&self.alpha);
                adapters.push(AdapterShape { module, rank, alpha });
            }
        }
        let known = PROJECTIONS.map(|p| p.rsplit('.').next().unwrap_or(p)).join(", ");
        if let Some(unknown) = self.targets.iter().find(|target| !used.contains(target)) {
            return wrong(format!("unknown target {unknown:?}"), &format!("choose among {known}"));
        }
        let patterns = self.rank_pattern.keys().chain(self.alpha_pattern.keys());
        if let Some(idle) = patterns.into_iter().find(|p| !adapters.iter().any(|a| names(p, &a.module))) {
            return wrong(
                format!("the pattern {idle:?} names no adapted projection"),
                "correct or remove it",
            );
        }
        if adapters.is_empty() {
            return wrong("no targets".into(), &format!("choose among {known}"));
        }
        self.check_sizes(&adapters).map(|()| adapters)
    }

    fn check_sizes(&self, adapters: &[AdapterShape]) -> Result<()> {
        let wrong = |problem: String, remedy: &str| Err(Error::setting(format!("lora: {problem}"), remedy));
        let ranks = adapters.iter().map(|a| a.rank).chain([self.rank]);
        if let Some(rank) = ranks.into_iter().find(|rank| !(1..=MAX_RANK).contains(rank)) {
            return wrong(format!("rank {rank}"), &format!("set rank between 1 and {MAX_RANK}"));
        }
        let alphas = adapters.iter().map(|a| a.alpha).chain([self.alpha]);
        let alpha = alphas.into_iter().find(|alpha| !alpha.is_finite());
        if !(0.0..1.0).contains(&self.dropout) || alpha.is_some() {
            let problem = format!("dropout {} or alpha {}", self.dropout, alpha.unwrap_or(self.alpha));
            return wrong(problem, "set dropout in 0..1 and alpha to a number");
        }
        Ok(())
    }
}

/// The value of the one pattern that names `module`.
fn pattern<'a, V>(map: &'a BTreeMap<String, V>, what: &str, module: &str) -> Result<Option<&'a V>> {
    let mut found = map.iter().filter(|(name, _)| names(name, module));
    match (found.next(), found.next()) {
        (Some((first, _)), Some((second, _))) => Err(Error::setting(
            format!("lora: {first:?} and {second:?} of {what} both name {module}"),
            "leave one pattern a projection",
        )),
        (first, _) => Ok(first.map(|(_, value)| value)),
    }
}

impl Decoder {
    /// Freezes the decoder and gives the target projections fresh adapters, drawn from `seed`; they replace any
    /// that were there.
    pub fn add_lora(&mut self, config: &LoraConfig, seed: u64) -> Result<()> {
        let adapters = config.adapters(self.layers.len())?;
        let mut adapters = adapters.iter().peekable();
        *self = self.map(|linear| Ok(linear.frozen()))?;
        for (i, layer) in self.layers.iter_mut().enumerate() {
            for (p, linear) in layer.projections().into_iter().enumerate() {
                linear.lora = None;
                let module = module_path(i, PROJECTIONS[p]);
                let Some(shape) = adapters.next_if(|shape| shape.module == module) else { continue };
                // A stream of its own for every adapter, whatever the other targets are.
                let stream = (i * PROJECTIONS.len() + p) as u64;
                let seed = seed.wrapping_add(stream.wrapping_mul(0x9E37_79B9_7F4A_7C15));
                let scale = config.scale(shape.rank, shape.alpha);
                linear.lora = Some(Lora::new(linear, &module, shape.rank, scale, config.dropout, seed)?);
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

    /// The decoder, frozen, as [`Decoder::load`] would give it: its projections as their device stores them.
    pub fn as_loaded(&self) -> Result<Decoder> {
        self.map(Linear::as_stored)
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
        let check = |rank| LoraConfig { rank, ..LoraConfig::default() }.adapters(2);
        for rank in [1, 4096] {
            assert_eq!(check(rank).unwrap().len(), 4);
        }
        for rank in [0, 4097, usize::MAX] {
            let message = check(rank).unwrap_err().to_string();
            assert!(message.contains(&format!("rank {rank}; set rank between 1 and 4096")), "{message}");
        }
    }

    #[test]
    fn paths_and_patterns_name_single_projections() {
        let targets = ["q_proj", "layers.1.mlp.up_proj"].map(String::from).to_vec();
        let config = LoraConfig {
            targets,
            rank_pattern: BTreeMap::from([("layers.0.self_attn.q_proj".to_string(), 3)]),
            alpha_pattern: BTreeMap::from([("up_proj".to_string(), 2.5)]),
            ..LoraConfig::default()
        };
        let shapes: Vec<_> =
            config.adapters(2).unwrap().into_iter().map(|a| (a.module, a.rank, a.alpha)).collect();
        let path = |i, p| module_path(i, p);
        let expected = [
            (path(0, "self_attn.q_proj"), 3, 16.0),
            (path(1, "self_attn.q_proj"), 8, 16.0),
            (path(1, "mlp.up_proj"), 8, 2.5),
        ];
        assert_eq!(shapes, expected);
        let refused = |config: LoraConfig| config.adapters(2).unwrap_err().to_string();
        let mut twice = config.clone();
        twice.rank_pattern.insert("q_proj".into(), 4);
        assert!(refused(twice).contains("\"layers.0.self_attn.q_proj\" and \"q_proj\" of rank_pattern"));
        let mut idle = config.clone();
        idle.alpha_pattern.insert("v_proj".into(), 4.0);
        assert!(refused(idle).contains("\"v_proj\" names no adapted projection"));
        // A part of a word is no name.
        assert!(refused(LoraConfig { targets: vec!["proj".into()], ..config }).contains("unknown target"));
    }
}
