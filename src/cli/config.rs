//! The configuration of a whole run, as TOML.

use crate::data::{LoadOptions, Protocol};
use crate::decoder::PretrainConfig;
use crate::le::LeConfig;
use crate::rec::{EncoderKind, Framework, RecConfig, Variant};
use crate::{Error, Result, files};
use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;

/// Settings of `lea run` and `lea demo`; the sections are those of the single steps.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RunConfig {
    /// Seed of item tokens, LE training and labels.
    pub seed: u64,
    /// How the data set is read.
    pub data: LoadOptions,
    /// How it is split.
    pub split: SplitConfig,
    /// The decoder that is trained from scratch where none is given.
    pub pretrain: PretrainConfig,
    /// The LE.
    pub le: LeConfig,
    /// Recommenders.
    pub rec: RecConfig,
    /// Settings that one encoder has instead of `[rec]`'s, by its name.
    pub encoder: BTreeMap<String, toml::Table>,
    /// Which recommenders are trained.
    pub plan: Plan,
}

/// How a data set is split.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SplitConfig {
    /// `sqn` or `leave-one-out`.
    pub protocol: Protocol,
    /// Seed of the split.
    pub seed: u64,
    /// Share of the training users that train the LE.
    pub le_share: f64,
}

impl Default for SplitConfig {
    fn default() -> Self {
        SplitConfig { protocol: Protocol::Sqn, seed: 0, le_share: 1.0 }
    }
}

/// Which recommenders are trained and compared.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Plan {
    /// Encoders.
    pub encoders: Vec<EncoderKind>,
    /// Frameworks.
    pub frameworks: Vec<Framework>,
    /// Variants of each framework with a Q head.
    pub variants: Vec<Variant>,
    /// Whether each encoder is trained by cross-entropy alone too.
    pub supervised: bool,
    /// Whether popularity, item kNN and session kNN are ranked too.
    pub baselines: bool,
    /// Seeds; each recommender is trained once a seed.
    pub seeds: Vec<u64>,
}

impl Default for Plan {
    fn default() -> Self {
        Plan {
            encoders: vec![EncoderKind::SasRec, EncoderKind::Gru4Rec],
            frameworks: vec![Framework::Snqn],
            variants: vec![
                Variant::Base,
                Variant::State,
                Variant::Reward,
                Variant::StateReward,
                Variant::Lea,
            ],
            supervised: true,
            baselines: true,
            seeds: vec![1],
        }
    }
}

impl RunConfig {
    /// Reads a TOML file; an unknown key or a senseless value is an error with its line or name.
    pub fn load(path: &Path) -> Result<Self> {
        Self::parse(&files::read_text(path)?, path)
    }

    /// Reads TOML text; `path` is named in errors.
    pub fn parse(text: &str, path: &Path) -> Result<Self> {
        let config: RunConfig = toml::from_str(text).map_err(|e| {
            let line = e.span().map(|s| 1 + text[..s.start.min(text.len())].matches('\n').count());
            let place = line.map_or_else(|| "the configuration".into(), |line| format!("line {line}"));
            Error::invalid(
                path,
                place,
                e.message(),
                "see configs/reference.toml for every key, and correct the file",
            )
        })?;
        config.check()?;
        Ok(config)
    }

    /// Refuses settings that make no sense, by name.
    pub fn check(&self) -> Result<()> {
        self.le.check()?;
        if self.plan.seeds.is_empty() || self.plan.encoders.is_empty() {
            return Err(Error::setting("plan: no seeds or no encoders", "name at least one of each"));
        }
        let known: Vec<&str> = EncoderKind::value_variants().iter().map(|kind| kind.name()).collect();
        if let Some(name) = self.encoder.keys().find(|name| !known.contains(&name.as_str())) {
            return Err(Error::setting(format!("encoder.{name}: no such encoder"), known.join(" or ")));
        }
        self.recommenders()?;
        Ok(())
    }

    /// Settings of `encoder`: `[rec]` with the keys of `[encoder.NAME]` over it.
    pub fn rec_of(&self, encoder: EncoderKind) -> Result<RecConfig> {
        let wrong = |e: &dyn std::fmt::Display| {
            Error::setting(format!("encoder.{}: {e}", encoder.name()), "use the keys that [rec] has")
        };
        let mut table = toml::Table::try_from(&self.rec).map_err(|e| wrong(&e))?;
        if let Some(own) = self.encoder.get(encoder.name()) {
            table.extend(own.clone());
        }
        let config: RecConfig = table.try_into().map_err(|e: toml::de::Error| wrong(&e.message()))?;
        Ok(RecConfig { encoder, ..config })
    }

    /// Every recommender of the plan but for its seed, in the order of the table.
    pub fn recommenders(&self) -> Result<Vec<RecConfig>> {
        let mut all = Vec::new();
        for &encoder in &self.plan.encoders {
            let own = self.rec_of(encoder)?;
            if self.plan.supervised {
                let supervised = RecConfig { framework: Framework::Supervised, ..own.clone() };
                all.push(supervised.with_variant(Variant::Base));
            }
            for &framework in &self.plan.frameworks {
                let framed = RecConfig { framework, ..own.clone() };
                all.extend(self.plan.variants.iter().map(|&variant| framed.clone().with_variant(variant)));
            }
        }
        all.iter().try_for_each(RecConfig::validate)?;
        let names: Vec<[String; 3]> = all.iter().map(RecConfig::table_name).collect();
        if let Some(twice) = names.iter().enumerate().find(|(i, name)| names[..*i].contains(name)) {
            return Err(Error::setting(
                format!("plan: two recommenders would both be {}", twice.1.join(" ")),
                "name each variant once, and give lea an alpha or beta above 0, without which it is state_reward",
            ));
        }
        Ok(all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads TOML text; `path` is named in errors.
    pub fn parse(text: &str) -> Result<RunConfig> {
        RunConfig::parse(text, Path::new("x.toml"))
    }

    #[test]
    fn an_encoder_overrides_the_common_settings() {
        let config = parse("[rec]\nwidth = 32\n[encoder.gru4rec]\ndropout = 0.1").unwrap();
        let gru = config.rec_of(EncoderKind::Gru4Rec).unwrap();
        assert_eq!((gru.width, gru.dropout, gru.encoder), (32, 0.1, EncoderKind::Gru4Rec));
        assert_eq!(config.rec_of(EncoderKind::SasRec).unwrap().dropout, RecConfig::default().dropout);
    }

    #[test]
    fn the_plan_names_every_recommender_once() {
        let all = parse("").unwrap().recommenders().unwrap();
        let names: Vec<String> = all
            .iter()
            .map(|c| format!("{} {} {}", c.encoder.name(), c.framework.name(), c.variant_name()))
            .collect();
        assert_eq!(names.len(), 12);
        assert_eq!(names[0], "sasrec supervised base");
        assert_eq!(names[11], "gru4rec snqn lea");
    }

    #[test]
    fn the_reference_names_every_setting_with_its_default() {
        let text = include_str!("../../configs/reference.toml");
        assert_eq!(parse(text).unwrap(), RunConfig::default());
        let lines: Vec<&str> = text.lines().map(|line| line.trim_start_matches("# ")).collect();
        let named = |key: &str| lines.iter().any(|line| line.starts_with(&format!("{key} = ")));
        fn keys(value: &serde_json::Value, out: &mut Vec<String>) {
            for (key, value) in value.as_object().into_iter().flatten() {
                match value.as_object().is_some_and(|table| !table.is_empty()) {
                    true => keys(value, out),
                    false => out.push(key.clone()),
                }
            }
        }
        let mut all = Vec::new();
        keys(&serde_json::to_value(RunConfig::default()).unwrap(), &mut all);
        let missing: Vec<&String> = all.iter().filter(|key| *key != "encoder" && !named(key)).collect();
        assert!(all.len() > 70 && missing.is_empty(), "{missing:?}");
    }

    #[test]
    fn mistakes_are_told_with_their_place() {
        let message = |text| parse(text).unwrap_err().to_string();
        assert!(
            message("seed = 1\n[rec]\nwidht = 3").contains("line 3"),
            "{}",
            message("seed = 1\n[rec]\nwidht = 3")
        );
        assert!(message("[encoder.lstm]\nwidth = 3").contains("no such encoder"));
        assert!(message("[encoder.gru4rec]\nwidht = 3").contains("widht"));
        assert!(message("[plan]\nseeds = []").contains("no seeds"));
        let twice = message("[rec]\nalpha = 0.0\nbeta = 0.0");
        assert!(twice.contains("both be sasrec snqn state_reward"), "{twice}");
    }
}
