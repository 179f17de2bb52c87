//! Launches of a profile by their kernels, with the work of the ops that they belong to.

use super::{Launched, Profile, Range};
use crate::device::Cost;
use std::borrow::Cow;

/// All launches of one kernel.
#[derive(Clone, Debug, PartialEq)]
pub struct KernelRow {
    /// The kernel.
    pub kernel: Cow<'static, str>,
    /// Its launches.
    pub calls: usize,
    /// Their seconds together.
    pub seconds: f64,
    /// Their work together.
    pub work: Work,
}

/// Least work of launches; zero where their ops did not tell.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Work {
    /// Floating-point operations.
    pub flops: f64,
    /// Of which with a factor that is stored in 16 bits, for which a device has another limit.
    pub half_flops: f64,
    /// Bytes that had to cross memory.
    pub bytes: f64,
}

impl Work {
    fn of(range: &Range) -> Self {
        let flops = range.cost.flops as f64;
        let half_flops = if range.factors.size() == 2 { flops } else { 0.0 };
        Work { flops, half_flops, bytes: range.cost.bytes as f64 }
    }

    fn times(self, share: f64) -> Self {
        Work { flops: share * self.flops, half_flops: share * self.half_flops, bytes: share * self.bytes }
    }
}

impl std::ops::AddAssign for Work {
    fn add_assign(&mut self, other: Self) {
        self.flops += other.flops;
        self.half_flops += other.half_flops;
        self.bytes += other.bytes;
    }
}

impl std::iter::Sum for Work {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        all.fold(Work::default(), |mut sum, work| {
            sum += work;
            sum
        })
    }
}

impl Profile {
    /// A row a kernel, those that took longest first. The work of an op is shared among its launches by their times.
    pub fn kernels(&self) -> Vec<KernelRow> {
        let mut rows: Vec<KernelRow> = Vec::new();
        for (launch, work) in self.launches.iter().zip(self.launch_work()) {
            let place = rows.iter().position(|row| row.kernel == launch.kernel).unwrap_or_else(|| {
                let kernel = launch.kernel.clone();
                rows.push(KernelRow { kernel, calls: 0, seconds: 0.0, work: Work::default() });
                rows.len() - 1
            });
            let row = &mut rows[place];
            row.calls += 1;
            row.seconds += launch.seconds;
            row.work += work;
        }
        rows.sort_by(|a, b| b.seconds.total_cmp(&a.seconds));
        rows
    }

    /// Work of every launch. An op inside another is a part of its work. An op without a launch of its own ran
    /// inside what the host timed around it: its work belongs there.
    fn launch_work(&self) -> Vec<Work> {
        let told = |i: &usize| self.ranges[*i].cost != Cost::default();
        let up = |from: Option<usize>| std::iter::successors(from, |&i| self.ranges[i].parent);
        let outermost = |from: Option<usize>| up(from).filter(told).last();
        // Seconds of the launches that share the work of a range: of an op those within it, else those of the range itself.
        let (mut within, mut own) = (vec![0.0; self.ranges.len()], vec![0.0; self.ranges.len()]);
        for launch in &self.launches {
            match (outermost(launch.range), launch.range) {
                (Some(op), _) => within[op] += launch.seconds,
                (None, Some(range)) => own[range] += launch.seconds,
                (None, None) => {}
            }
        }
        let mut work = vec![Work::default(); self.ranges.len()];
        for (i, range) in self.ranges.iter().enumerate() {
            if !told(&i) || outermost(range.parent).is_some() {
                continue;
            }
            let place = if within[i] > 0.0 { Some(i) } else { up(range.parent).find(|&i| own[i] > 0.0) };
            if let Some(place) = place {
                work[place] += Work::of(range);
            }
        }
        let of_launch = |launch: &Launched| {
            let (place, seconds) = match outermost(launch.range) {
                Some(op) => (op, within[op]),
                None => launch.range.map_or((0, 0.0), |range| (range, own[range])),
            };
            let share = if seconds > 0.0 { launch.seconds / seconds } else { 0.0 };
            work.get(place).copied().unwrap_or_default().times(share)
        };
        self.launches.iter().map(of_launch).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::DType;

    fn cost(flops: u64) -> Cost {
        Cost { flops, bytes: 2 * flops }
    }

    #[test]
    fn work_is_shared_among_an_ops_launches_by_their_times() {
        let range = |name: &str, parent, cost| Range {
            name: name.into(),
            parent,
            start: 0.0,
            seconds: 1.0,
            cost,
            factors: DType::F32,
        };
        let launch = |kernel: &'static str, seconds| Launched {
            kernel: kernel.into(),
            range: Some(1),
            start: 0.0,
            seconds,
        };
        let profile = Profile {
            ranges: vec![range("op", None, cost(100)), range("part", Some(0), Cost::default())],
            launches: vec![launch("a", 3.0), launch("b", 1.0)],
            seconds: 5.0,
            by_device: true,
        };
        let rows = profile.kernels();
        assert_eq!(rows.iter().map(|r| &*r.kernel).collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(rows.iter().map(|r| r.work.flops).collect::<Vec<_>>(), [75.0, 25.0]);
        assert_eq!(rows.iter().map(|r| r.work.bytes).collect::<Vec<_>>(), [150.0, 50.0]);
    }

    #[test]
    fn products_with_a_factor_of_16_bits_are_told_apart() {
        let range = |name: &str, factors| Range {
            name: name.into(),
            parent: None,
            start: 0.0,
            seconds: 1.0,
            cost: cost(8),
            factors,
        };
        let launch =
            |range| Launched { kernel: "linear".into(), range: Some(range), start: 0.0, seconds: 1.0 };
        let profile = Profile {
            ranges: vec![range("linear", DType::BF16), range("linear", DType::F32)],
            launches: vec![launch(0), launch(1)],
            seconds: 2.0,
            by_device: false,
        };
        let rows = profile.kernels();
        let [row] = &rows[..] else { panic!("{rows:?}") };
        assert_eq!(row.work, Work { flops: 16.0, half_flops: 8.0, bytes: 32.0 });
    }
}
