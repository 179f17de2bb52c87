//! Tiers: sets of kernels that need more of an adapter than plain WebGPU.

use crate::{Error, Result};
use std::str::FromStr;
use std::sync::OnceLock;

/// What kernels may use. Each tier includes those before it; an op without a kernel for a tier runs the one below.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Tier {
    /// Core WebGPU: f32, workgroup memory.
    Plain,
    /// Sums and maxima across the lanes of a subgroup.
    Subgroups,
}

/// All tiers, lowest first.
pub const TIERS: [Tier; 2] = [Tier::Plain, Tier::Subgroups];

static FORCED: OnceLock<Tier> = OnceLock::new();

/// The tier that the whole process uses instead of the best one; the first call counts.
pub fn force_tier(tier: Tier) {
    let _ = FORCED.set(tier);
}

/// The tier that the whole process was told to use.
pub fn forced_tier() -> Option<Tier> {
    FORCED.get().copied()
}

impl Tier {
    /// Features of wgpu that it needs.
    pub(super) fn features(self) -> wgpu::Features {
        match self {
            Tier::Plain => wgpu::Features::empty(),
            Tier::Subgroups => wgpu::Features::SUBGROUP,
        }
    }

    /// Why an adapter of these features cannot have it; `None` where it can.
    pub fn missing(self, features: wgpu::Features) -> Option<String> {
        let missing = self.features() - features;
        (!missing.is_empty()).then(|| "the adapter has no subgroup operations".to_string())
    }

    /// The best one an adapter of these features has.
    pub fn best(features: wgpu::Features) -> Tier {
        *TIERS.iter().rev().find(|tier| tier.missing(features).is_none()).unwrap_or(&Tier::Plain)
    }
}

impl std::fmt::Display for Tier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Tier::Plain => "plain",
            Tier::Subgroups => "subgroups",
        })
    }
}

impl FromStr for Tier {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        TIERS
            .into_iter()
            .find(|tier| tier.to_string() == name)
            .ok_or_else(|| Error::setting(format!("unknown WebGPU tier {name:?}"), "name plain or subgroups"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wgpu::Features;

    #[test]
    fn the_best_tier_is_the_highest_whose_features_are_all_there() {
        assert_eq!(Tier::best(Features::empty()), Tier::Plain);
        assert_eq!(Tier::best(Features::SUBGROUP), Tier::Subgroups);
        assert!(Tier::Subgroups.missing(Features::empty()).unwrap().contains("no subgroup operations"));
    }
}
