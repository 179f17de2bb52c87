//! Tiers: sets of kernels that need more of an adapter than plain WebGPU.

use super::adapter::Description;
use super::cooperative::Fragments;
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
    /// Frozen weights of projections stored in f16. Results differ from those of the tiers before by the rounding of the
    /// weights, so nobody gets it who did not ask.
    F16,
    /// The same weights, multiplied as cooperative matrices: what they are multiplied with is rounded to f16 too, sums are f32.
    Cooperative,
}

/// All tiers, lowest first.
pub const TIERS: [Tier; 4] = [Tier::Plain, Tier::Subgroups, Tier::F16, Tier::Cooperative];

/// What is experimental in wgpu: nothing but tiers that have to be asked for uses it.
pub(super) const EXPERIMENTAL: wgpu::Features = wgpu::Features::EXPERIMENTAL_COOPERATIVE_MATRIX;

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
            Tier::F16 => Tier::Subgroups.features() | wgpu::Features::SHADER_F16,
            Tier::Cooperative => Tier::F16.features() | EXPERIMENTAL,
        }
    }

    /// Whether nothing is rounded that is f32 in the tiers before, so that it may be taken unasked.
    pub fn is_exact(self) -> bool {
        self < Tier::F16
    }

    /// Why an adapter cannot have it; `None` where it can.
    pub fn missing(self, found: &Description) -> Option<String> {
        self.missing_of(found.features).or_else(|| match self {
            Tier::Cooperative => Fragments::of(found).err(),
            _ => None,
        })
    }

    /// The same as far as features tell.
    fn missing_of(self, features: wgpu::Features) -> Option<String> {
        let missing = self.features() - features;
        let named = [
            (wgpu::Features::SUBGROUP, "subgroup operations"),
            (wgpu::Features::SHADER_F16, "f16 in shaders"),
            (EXPERIMENTAL, "cooperative matrices"),
        ];
        let named: Vec<&str> =
            named.iter().filter(|(feature, _)| missing.contains(*feature)).map(|(_, name)| *name).collect();
        (!missing.is_empty()).then(|| format!("the adapter has no {}", named.join(" and no ")))
    }

    /// The best exact one that an adapter of these features has.
    pub fn best(features: wgpu::Features) -> Tier {
        *TIERS
            .iter()
            .rev()
            .find(|tier| tier.is_exact() && tier.missing_of(features).is_none())
            .unwrap_or(&Tier::Plain)
    }
}

impl std::fmt::Display for Tier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Tier::Plain => "plain",
            Tier::Subgroups => "subgroups",
            Tier::F16 => "f16",
            Tier::Cooperative => "cooperative",
        })
    }
}

impl FromStr for Tier {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        TIERS.into_iter().find(|tier| tier.to_string() == name).ok_or_else(|| {
            Error::setting(
                format!("unknown WebGPU tier {name:?}"),
                "name plain, subgroups, f16 or cooperative",
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wgpu::Features;

    #[test]
    fn the_best_tier_is_the_highest_exact_one_whose_features_are_all_there() {
        assert_eq!(Tier::best(Features::empty()), Tier::Plain);
        assert_eq!(Tier::best(Features::SUBGROUP), Tier::Subgroups);
        assert_eq!(Tier::best(Features::SUBGROUP | Features::SHADER_F16), Tier::Subgroups);
        assert_eq!(Tier::best(Features::SHADER_F16), Tier::Plain);
        let missing = |tier: Tier, features| tier.missing_of(features).unwrap();
        assert_eq!(missing(Tier::Subgroups, Features::empty()), "the adapter has no subgroup operations");
        assert_eq!(missing(Tier::F16, Features::SUBGROUP), "the adapter has no f16 in shaders");
        let both = "the adapter has no subgroup operations and no f16 in shaders";
        assert_eq!(missing(Tier::F16, Features::empty()), both);
        assert_eq!(Tier::F16.missing_of(Features::SUBGROUP | Features::SHADER_F16), None);
        let all = Features::SUBGROUP | Features::SHADER_F16 | EXPERIMENTAL;
        assert_eq!(Tier::best(all), Tier::Subgroups, "nobody gets another unasked");
        assert_eq!(missing(Tier::Cooperative, all - EXPERIMENTAL), "the adapter has no cooperative matrices");
        assert_eq!(Tier::Cooperative.missing_of(all), None);
        for tier in TIERS {
            assert_eq!(tier.to_string().parse::<Tier>().unwrap(), tier);
        }
        let message = "tensor".parse::<Tier>().unwrap_err().to_string();
        assert!(TIERS.into_iter().all(|tier| message.contains(&tier.to_string())), "{message}");
    }
}
