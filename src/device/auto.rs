//! `--device auto`: the fastest kind of device that can be opened, and why those before it were not taken.

use super::{Device, cuda, webgpu};
use crate::{Error, Result};
use std::sync::Mutex;

static TOLD: Mutex<Option<String>> = Mutex::new(None);

/// What `auto` took in this process and what it passed over, in one line; told once.
pub fn take_told() -> Option<String> {
    TOLD.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).take()
}

/// CUDA, else the best adapter of WebGPU that is hardware and opens, else the CPU.
pub(super) fn open() -> Device {
    let adapters = webgpu::adapter::list();
    let hardware = webgpu::adapter::hardware(&adapters);
    let cuda = std::iter::once_with(|| ("cuda".into(), cuda::open(None).map(Device::Cuda)));
    let adapters_of_hardware = hardware.into_iter().map(|found| {
        let index = found.index.to_string();
        (format!("webgpu:{index}"), webgpu::adapter::open(Some(&index)).map(Device::WebGpu))
    });
    let (taken, mut passed_over) = first_that_opens(cuda.chain(adapters_of_hardware));
    let taken = taken.unwrap_or_else(|| {
        let software = adapters.iter().filter(|found| found.is_software());
        passed_over.extend(software.map(|found| format!("webgpu:{} (software)", found.index)));
        Device::Cpu
    });
    *TOLD.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = Some(line(&named(&taken), &passed_over));
    taken
}

/// Its name with the maker's. Not all that [`Device::describe`] tells: that settles the tier, which may be forced later.
fn named(device: &Device) -> String {
    match device {
        Device::Cpu => device.to_string(),
        Device::Cuda(cuda) => format!("{device} ({})", cuda.description().name),
        Device::WebGpu(gpu) => format!("{device} ({})", gpu.description().info.name),
    }
}

fn line(taken: &str, passed_over: &[String]) -> String {
    match passed_over {
        [] => format!("--device auto takes {taken}"),
        some => format!("--device auto takes {taken}; passed over: {}", some.join(", ")),
    }
}

/// The first device that opens, and of those before it name and reason.
fn first_that_opens<D>(tries: impl Iterator<Item = (String, Result<D>)>) -> (Option<D>, Vec<String>) {
    let mut passed_over = Vec::new();
    for (name, tried) in tries {
        match tried {
            Ok(device) => return (Some(device), passed_over),
            // What to do instead is for those who named the device.
            Err(Error::Setting { problem, .. }) => {
                let why = problem.strip_prefix(&format!("device {name}: ")).unwrap_or(&problem);
                passed_over.push(format!("{name} ({why})"));
            }
            Err(error) => passed_over.push(format!("{name} ({error})")),
        }
    }
    (None, passed_over)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_that_does_not_open_is_passed_over_with_the_reason_and_the_next_is_tried() {
        let refused = |why: &str| Err(Error::setting(why, "pass another"));
        let mut tries = vec![
            ("cuda".to_string(), refused("device cuda: there is no driver")),
            ("webgpu:1".into(), refused("its driver is broken")),
            ("webgpu:0".into(), Ok(7)),
            ("webgpu:2".into(), Ok(8)),
        ];
        let (taken, passed_over) = first_that_opens(tries.drain(..));
        assert_eq!(taken, Some(7));
        assert_eq!(passed_over, ["cuda (there is no driver)", "webgpu:1 (its driver is broken)"]);
        let told = line("webgpu:0", &passed_over);
        assert!(told.ends_with("passed over: cuda (there is no driver), webgpu:1 (its driver is broken)"));
        assert!(told.starts_with("--device auto takes webgpu:0;") && !told.contains('\n'), "{told}");
        assert_eq!(first_that_opens(std::iter::empty::<(String, Result<u8>)>()), (None, vec![]));
    }
}
