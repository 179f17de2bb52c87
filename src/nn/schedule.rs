//! Learning-rate schedules.

use serde::{Deserialize, Serialize};

/// What follows the warm-up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Decay {
    /// Stay at the full rate.
    #[default]
    Constant,
    /// Half a cosine from the full rate down to the floor (Loshchilov and Hutter, arXiv 1608.03983, without restarts).
    Cosine,
}

/// Factor on the learning rate by step: linear warm-up from near 0 to 1, then the decay.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Schedule {
    /// Steps of linear warm-up; 0 for none.
    pub warmup: u64,
    /// Step at which the decay reaches the floor, warm-up included.
    pub total: u64,
    /// What follows the warm-up.
    pub kind: Decay,
    /// Smallest factor of the decay.
    pub floor: f64,
}

impl Default for Schedule {
    /// The full rate at every step.
    fn default() -> Self {
        Schedule { warmup: 0, total: 0, kind: Decay::Constant, floor: 0.0 }
    }
}

impl Schedule {
    /// Factor for step `step`, counted from 0. Step 0 of a warm-up of w steps has 1/w, step w − 1 has 1.
    pub fn scale(&self, step: u64) -> f64 {
        if step < self.warmup {
            return (step + 1) as f64 / self.warmup as f64;
        }
        match self.kind {
            Decay::Constant => 1.0,
            Decay::Cosine => {
                let span = self.total.saturating_sub(self.warmup).max(1) as f64;
                let progress = ((step - self.warmup) as f64 / span).min(1.0);
                self.floor + (1.0 - self.floor) * 0.5 * (1.0 + (std::f64::consts::PI * progress).cos())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cosine_warms_up_peaks_and_ends_at_its_floor() {
        let schedule = Schedule { warmup: 4, total: 12, kind: Decay::Cosine, floor: 0.1 };
        let scales: Vec<f64> = (0..15).map(|step| schedule.scale(step)).collect();
        assert_eq!(scales[..5], [0.25, 0.5, 0.75, 1.0, 1.0]);
        assert!((scales[8] - 0.55).abs() < 1e-12, "half way between 1 and the floor");
        assert!(scales[4..13].is_sorted_by(|a, b| a >= b));
        for scale in &scales[12..] {
            assert!((scale - 0.1).abs() < 1e-12);
        }
    }

    #[test]
    fn a_total_within_the_warmup_gives_finite_factors() {
        let schedule = Schedule { warmup: 10, total: 3, kind: Decay::Cosine, floor: 0.0 };
        assert!((0..30).all(|step| (0.0..=1.0).contains(&schedule.scale(step))));
    }
}
