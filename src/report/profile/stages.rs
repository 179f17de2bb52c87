//! Ranges of a profile, those of one name and one place taken together.

use super::StageFigures;
use crate::device::profile::{Profile, Range};
use crate::report::plot::FlamePart;
use std::collections::HashMap;

/// All ranges of one name within one stage.
struct Stage {
    name: String,
    parent: Option<usize>,
    /// As a range, and as a kernel where the device has a clock of its own.
    calls: usize,
    seconds: f64,
    kernel_seconds: f64,
}

/// The tree of stages.
pub(super) struct Stages {
    /// A parent is before its parts.
    stages: Vec<Stage>,
    by_device: bool,
}

impl Stages {
    pub fn new(profile: &Profile) -> Self {
        let (mut stages, mut known) = (Vec::new(), HashMap::new());
        let mut stage = |parent: Option<usize>, name: &str| {
            *known.entry((parent, name.to_string())).or_insert_with(|| {
                let name = name.to_string();
                stages.push(Stage { name, parent, calls: 0, seconds: 0.0, kernel_seconds: 0.0 });
                stages.len() - 1
            })
        };
        let mut of_range: Vec<usize> = Vec::with_capacity(profile.ranges.len());
        for Range { name, parent, .. } in &profile.ranges {
            of_range.push(stage(parent.map(|parent| of_range[parent]), name));
        }
        // Where the host timed an op, its launch is the range itself.
        let of_launch = |launch: &crate::device::profile::Launched| {
            let range = launch.range.map(|range| of_range[range]);
            if profile.by_device { Some(stage(range, &launch.kernel)) } else { range }
        };
        let of_launch: Vec<Option<usize>> = profile.launches.iter().map(of_launch).collect();
        for (range, &at) in profile.ranges.iter().zip(&of_range) {
            stages[at].calls += 1;
            stages[at].seconds += range.seconds;
        }
        for (launch, at) in profile.launches.iter().zip(of_launch) {
            if let (true, Some(at)) = (profile.by_device, at) {
                stages[at].calls += 1;
                stages[at].seconds += launch.seconds;
            }
            let mut place = at;
            while let Some(at) = place {
                stages[at].kernel_seconds += launch.seconds;
                place = stages[at].parent;
            }
        }
        Stages { stages, by_device: profile.by_device }
    }

    fn path(&self, index: usize) -> Vec<String> {
        let up = std::iter::successors(Some(index), |&i| self.stages[i].parent);
        let mut path: Vec<String> = up.map(|i| self.stages[i].name.clone()).collect();
        path.reverse();
        path
    }

    fn parts(&self, of: Option<usize>) -> impl Iterator<Item = usize> + '_ {
        (0..self.stages.len()).filter(move |&i| self.stages[i].parent == of)
    }

    /// Every stage behind what it is part of.
    pub fn figures(&self) -> Vec<StageFigures> {
        let mut figures = Vec::with_capacity(self.stages.len());
        self.push_figures(None, &mut figures);
        figures
    }

    fn push_figures(&self, of: Option<usize>, to: &mut Vec<StageFigures>) {
        for i in self.parts(of) {
            let Stage { calls, seconds, kernel_seconds, .. } = self.stages[i];
            to.push(StageFigures { path: self.path(i), calls, seconds, kernel_seconds });
            self.push_figures(Some(i), to);
        }
    }

    /// As wide as the host took. Inside a stage of a device that runs behind the host, as wide as the kernels took: the
    /// host only asks for them there.
    pub fn flame(&self, name: &str, profile: &Profile) -> FlamePart {
        let parts = self.parts(None).map(|i| self.flame_of(i, false)).collect();
        FlamePart { name: name.into(), seconds: profile.seconds, parts }
    }

    fn flame_of(&self, index: usize, inside: bool) -> FlamePart {
        let stage = &self.stages[index];
        let seconds = match (self.by_device, inside) {
            (false, _) => stage.seconds,
            (true, false) => stage.seconds.max(stage.kernel_seconds),
            (true, true) => stage.kernel_seconds,
        };
        let parts = self.parts(Some(index)).map(|i| self.flame_of(i, true)).collect();
        FlamePart { name: stage.name.clone(), seconds, parts }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::profile::Launched;
    use crate::device::{Cost, DType};

    fn profile(by_device: bool) -> Profile {
        let range = |name: &str, parent, seconds| Range {
            name: name.into(),
            parent,
            start: 0.0,
            seconds,
            cost: Cost::default(),
            factors: DType::F32,
        };
        let launch = |range, seconds| Launched {
            kernel: "lea_matmul".into(),
            range: Some(range),
            start: 0.0,
            seconds,
        };
        Profile {
            ranges: vec![
                range("label", None, 4.0),
                range("matmul", Some(0), 1.0),
                range("matmul", Some(0), 2.0),
            ],
            launches: vec![launch(1, 0.5), launch(2, 1.5)],
            seconds: 5.0,
            by_device,
        }
    }

    #[test]
    fn ranges_of_one_name_and_place_are_one_stage() {
        let figures = Stages::new(&profile(false)).figures();
        let told: Vec<(String, usize, f64, f64)> =
            figures.iter().map(|f| (f.path.join("/"), f.calls, f.seconds, f.kernel_seconds)).collect();
        assert_eq!(told, [("label".into(), 1, 4.0, 2.0), ("label/matmul".into(), 2, 3.0, 2.0)]);
        let flame = Stages::new(&profile(false)).flame("step", &profile(false));
        assert_eq!((flame.seconds, flame.parts[0].seconds, flame.parts[0].parts[0].seconds), (5.0, 4.0, 3.0));
        assert!(flame.parts[0].parts[0].parts.is_empty());
    }

    #[test]
    fn on_a_clock_of_its_own_a_devices_kernels_are_parts_and_widths_are_theirs() {
        let stages = Stages::new(&profile(true));
        assert_eq!(stages.figures()[2].path, ["label", "matmul", "lea_matmul"]);
        assert_eq!((stages.figures()[2].calls, stages.figures()[2].seconds), (2, 2.0));
        let flame = stages.flame("step", &profile(true));
        assert_eq!((flame.parts[0].seconds, flame.parts[0].parts[0].seconds), (4.0, 2.0));
    }
}
