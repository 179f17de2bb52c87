//! How rotary frequencies are stretched to contexts longer than a decoder was first trained on.

use super::config_fields::shown;
use crate::Result;
use crate::ops::rope::RopeTable;
use serde_json::{Map, Value, json};
use std::f64::consts::TAU;

/// What happens to the plain frequencies fᵢ = θ^(−2i/head_dim).
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum RopeScaling {
    /// They stay as they are.
    #[default]
    None,
    /// Each is divided by the factor: positions are interpolated (Chen et al., arXiv 2306.15595).
    Linear(f64),
    /// Long waves are divided, short ones stay, those between are blended (Llama 3.1, arXiv 2407.21783).
    Llama3 {
        /// Divisor of the long waves.
        factor: f64,
        /// Waves longer than `original_context / low` are divided.
        low: f64,
        /// Waves shorter than `original_context / high` stay.
        high: f64,
        /// Context before the stretching, in tokens.
        original_context: f64,
    },
}

/// In words, as in "linear, frequencies divided by 4".
impl std::fmt::Display for RopeScaling {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match *self {
            RopeScaling::None => write!(f, "not stretched"),
            RopeScaling::Linear(factor) => write!(f, "linear, frequencies divided by {factor}"),
            RopeScaling::Llama3 { factor, low, high, original_context } => write!(
                f,
                "llama3, from a context of {original_context}: waves longer than {} tokens divided by {factor}, \
                 shorter than {} kept",
                original_context / low,
                original_context / high
            ),
        }
    }
}

/// Key and problem of a value that cannot be.
type Problem = (&'static str, String);

impl RopeScaling {
    /// The rotary table of heads of width `head_dim` with base `theta`.
    pub fn table(&self, theta: f64, head_dim: usize) -> Result<RopeTable> {
        RopeTable::plain(theta, head_dim)?;
        let plain = (0..head_dim / 2).map(|i| theta.powf(-2.0 * i as f64 / head_dim as f64));
        Ok(RopeTable::new(plain.map(|frequency| self.scaled(frequency)).collect(), 1.0))
    }

    fn scaled(&self, frequency: f64) -> f64 {
        match *self {
            RopeScaling::None => frequency,
            RopeScaling::Linear(factor) => frequency / factor,
            RopeScaling::Llama3 { factor, low, high, original_context } => {
                // Turns in the original context: how many waves fit into it.
                let turns = original_context * frequency / TAU;
                if turns > high {
                    frequency
                } else if turns < low {
                    frequency / factor
                } else {
                    let kept = (turns - low) / (high - low);
                    (1.0 - kept) * frequency / factor + kept * frequency
                }
            }
        }
    }

    /// Reads the value of `rope_scaling` or `rope_parameters`, and the θ in it. `context` stands for the original
    /// context where the value leaves it out.
    pub(super) fn parse(value: &Map<String, Value>, context: u64) -> Result<(Self, Option<f64>), Problem> {
        let kind = ["rope_type", "type"].iter().find_map(|key| value.get(*key)).unwrap_or(&Value::Null);
        let used: &[&str] = match kind.as_str() {
            Some("default") => &[],
            None if kind.is_null() => &[],
            Some("linear") => &["factor"],
            Some("llama3") => {
                &["factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings"]
            }
            _ => {
                let kind = kind.as_str().map_or_else(|| kind.to_string(), |k| format!("{k:?}"));
                let known = "\"default\", \"linear\" and \"llama3\" are";
                return Err(("rope", format!("rotary scaling of type {kind} is not supported, {known}")));
            }
        };
        let whole = |v: &Value| v.as_f64() == Some(1.0);
        for (key, found) in value {
            let known = ["rope_type", "type", "rope_theta"].contains(&&key[..]) || used.contains(&&key[..]);
            let harmless = found.is_null() || (key == "partial_rotary_factor" && whole(found));
            if !known && !harmless {
                return Err(("rope", format!("{key} {found} is not supported with type {kind}")));
            }
        }
        let number = |key: &'static str| {
            let found = value.get(key);
            match found.and_then(Value::as_f64) {
                Some(x) if x > 0.0 && x.is_finite() => Ok(x),
                _ => {
                    let found = found.map_or("nothing".into(), shown);
                    Err(("rope", format!("{key} must be a positive number, found {found}")))
                }
            }
        };
        let scaling = match kind.as_str() {
            Some("linear") => RopeScaling::Linear(number("factor")?),
            Some("llama3") => RopeScaling::Llama3 {
                factor: number("factor")?,
                low: number("low_freq_factor")?,
                high: number("high_freq_factor")?,
                original_context: match value.get(used[3]) {
                    None | Some(Value::Null) => context as f64,
                    Some(_) => number("original_max_position_embeddings")?,
                },
            },
            _ => RopeScaling::None,
        };
        scaling.check()?;
        let theta = match value.get("rope_theta") {
            None | Some(Value::Null) => None,
            Some(_) => Some(number("rope_theta")?),
        };
        Ok((scaling, theta))
    }

    pub(super) fn check(&self) -> Result<(), Problem> {
        let positive = |x: f64| x > 0.0 && x.is_finite();
        match *self {
            RopeScaling::None => Ok(()),
            RopeScaling::Linear(factor) if positive(factor) => Ok(()),
            RopeScaling::Llama3 { factor, low, high, original_context }
                if [factor, low, high, original_context].into_iter().all(positive) && low < high =>
            {
                Ok(())
            }
            _ => Err(("rope_scaling", format!("{self:?} makes no sense: factors are positive, low < high"))),
        }
    }

    /// As `rope_scaling` of a `config.json`, in both spellings where both were in use.
    pub(super) fn to_json(self) -> Value {
        match self {
            RopeScaling::None => Value::Null,
            RopeScaling::Linear(factor) => json!({"rope_type": "linear", "type": "linear", "factor": factor}),
            RopeScaling::Llama3 { factor, low, high, original_context } => {
                let whole = original_context.fract() == 0.0 && original_context < 1e15;
                let context = if whole { json!(original_context as u64) } else { json!(original_context) };
                json!({
                    "rope_type": "llama3",
                    "factor": factor,
                    "low_freq_factor": low,
                    "high_freq_factor": high,
                    "original_max_position_embeddings": context,
                })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scaling_is_told_in_words() {
        let llama3 = RopeScaling::Llama3 { factor: 8.0, low: 1.0, high: 4.0, original_context: 8192.0 };
        for (scaling, told) in [
            (RopeScaling::Linear(2.5), "linear, frequencies divided by 2.5"),
            (
                llama3,
                "llama3, from a context of 8192: waves longer than 8192 tokens divided by 8, shorter than 2048 kept",
            ),
        ] {
            assert_eq!(scaling.to_string(), told);
        }
    }

    const LLAMA3: RopeScaling =
        RopeScaling::Llama3 { factor: 8.0, low: 1.0, high: 4.0, original_context: 8192.0 };

    fn parse(text: &str) -> Result<(RopeScaling, Option<f64>), Problem> {
        RopeScaling::parse(serde_json::from_str::<Value>(text).unwrap().as_object().unwrap(), 8192)
    }

    #[test]
    fn long_waves_are_divided_and_short_ones_stay() {
        assert_eq!(LLAMA3.scaled(1.0), 1.0);
        assert_eq!(LLAMA3.scaled(TAU / 8193.0), TAU / 8193.0 / 8.0);
        // Two and a half turns are half way from 1 to 4.
        let between = 2.5 * TAU / 8192.0;
        assert!((LLAMA3.scaled(between) - between * (0.5 / 8.0 + 0.5)).abs() < 1e-12);
        assert_eq!(RopeScaling::Linear(4.0).scaled(0.5), 0.125);
    }

    #[test]
    fn what_is_written_reads_back() {
        for scaling in [LLAMA3, RopeScaling::Linear(2.5)] {
            let value = scaling.to_json();
            assert_eq!(RopeScaling::parse(value.as_object().unwrap(), 1).unwrap(), (scaling, None));
        }
    }

    #[test]
    fn both_spellings_and_a_missing_original_context_are_read() {
        let old = parse(r#"{"type": "linear", "factor": 2}"#).unwrap();
        assert_eq!(old, (RopeScaling::Linear(2.0), None));
        let new = r#"{"rope_type": "llama3", "rope_theta": 5e5, "factor": 8, "low_freq_factor": 1,
            "high_freq_factor": 4}"#;
        assert_eq!(parse(new).unwrap(), (LLAMA3, Some(5e5)));
    }

    #[test]
    fn what_is_not_supported_is_named() {
        for (text, message) in [
            (r#"{"rope_type": "yarn", "factor": 2}"#, "type \"yarn\" is not supported"),
            (r#"{"rope_type": 3}"#, "type 3 is not supported"),
            (r#"{"rope_type": "linear"}"#, "factor must be a positive number, found nothing"),
            (r#"{"rope_type": "linear", "factor": -2}"#, "factor must be a positive number, found -2"),
            (r#"{"rope_type": "linear", "factor": "2"}"#, "factor must be a positive number, found \"2\""),
            (r#"{"rope_type": "default", "mrope_section": [1]}"#, "mrope_section [1] is not supported"),
            (r#"{"rope_type": "default", "partial_rotary_factor": 0.5}"#, "partial_rotary_factor 0.5"),
            (
                r#"{"rope_type": "llama3", "factor": 8, "low_freq_factor": 4, "high_freq_factor": 4}"#,
                "low < high",
            ),
        ] {
            let (_, problem) = parse(text).unwrap_err();
            assert!(problem.contains(message), "{problem}");
        }
    }
}
