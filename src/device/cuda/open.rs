//! Which device a name means, and the devices that are open.

use super::context::{Context, Cuda, lock};
use super::driver::{self, Description};
use crate::{Error, Result};
use std::sync::{Mutex, Weak};

/// Those that somebody still has.
static OPEN: Mutex<Vec<Weak<Context>>> = Mutex::new(Vec::new());

/// Opens device `which`: a number, or the first one that can be used. A device is opened once; while somebody has it, the
/// same one is returned. No driver, an old one, an unknown number and a GPU that is too old are errors.
pub fn open(which: Option<&str>) -> Result<Cuda> {
    let found = driver::list().map_err(|why| {
        Error::setting(format!("device cuda: {why}"), "pass another --device; `lea doctor` lists them")
    })?;
    let chosen = choose(&found, which)?;
    let mut open = lock(&OPEN);
    open.retain(|device| device.strong_count() > 0);
    if let Some(cuda) = open.iter().filter_map(Weak::upgrade).map(Cuda).find(|c| c.description() == chosen) {
        return Ok(cuda);
    }
    let cuda = Cuda::open(chosen.clone(), false, None)?;
    open.push(std::sync::Arc::downgrade(&cuda.0));
    Ok(cuda)
}

/// The devices that [`open`] has opened and that somebody still has.
pub fn opened() -> Vec<Cuda> {
    lock(&OPEN).iter().filter_map(Weak::upgrade).map(Cuda).collect()
}

/// The first device that can be used.
pub fn best(found: &[Description]) -> Option<&Description> {
    found.iter().find(|device| device.unusable().is_none())
}

fn choose<'a>(found: &'a [Description], which: Option<&str>) -> Result<&'a Description> {
    if found.is_empty() {
        return Err(Error::setting(
            "device cuda: the NVIDIA driver finds no GPU",
            "pass another --device; `lea doctor` lists them",
        ));
    }
    let chosen = match which {
        None => best(found).or(found.first()),
        Some(number) => number.parse::<usize>().ok().and_then(|number| found.get(number)),
    };
    let Some(chosen) = chosen else {
        let names: Vec<String> = found.iter().map(|d| format!("cuda:{} ({})", d.index, d.name)).collect();
        return Err(Error::setting(
            format!("no CUDA device is {:?}", which.unwrap_or_default()),
            format!("there are {}", names.join(", ")),
        ));
    };
    match chosen.unusable() {
        None => Ok(chosen),
        Some(why) => Err(Error::setting(
            format!("device cuda:{} ({}) cannot be used: {why}", chosen.index, chosen.name),
            "pass another --device; `lea doctor` lists them",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(index: usize, capability: (u32, u32)) -> Description {
        let name = format!("Maker {}{}", capability.0, capability.1);
        let (memory, processors, shared_memory, driver) = (1 << 30, 8, 1 << 16, (13, 0));
        Description { index, name, capability, memory, processors, shared_memory, driver }
    }

    #[test]
    fn a_name_means_the_first_device_that_can_be_used_or_a_number() {
        let found = [device(0, (7, 5)), device(1, (9, 0)), device(2, (8, 6))];
        assert_eq!(choose(&found, None).unwrap().index, 1);
        assert_eq!(choose(&found, Some("2")).unwrap().index, 2);
        for which in ["3", "maker", "", "-1"] {
            let message = choose(&found, Some(which)).unwrap_err().to_string();
            assert!(
                message.contains(&format!("{which:?}")) && message.contains("cuda:1 (Maker 90)"),
                "{message}"
            );
        }
        assert!(choose(&[], None).unwrap_err().to_string().contains("finds no GPU"));
    }

    #[test]
    fn a_gpu_of_compute_capability_below_8_is_refused_with_the_reason() {
        for (found, which) in
            [(&[device(0, (7, 5))][..], None), (&[device(0, (7, 5)), device(1, (8, 0))], Some("0"))]
        {
            let message = choose(found, which).unwrap_err().to_string();
            assert!(message.contains("compute capability 7.5 is below 8.0"), "{message}");
        }
        assert!(best(&[device(0, (7, 5))]).is_none());
    }
}
