//! CUDA kernels against references on the host: on a GPU where one is asked for, else on the CPU by `tests/cuda_host`.

#[path = "../cuda_host/mod.rs"]
mod cuda_host;
#[path = "../le_fixture/mod.rs"]
#[allow(dead_code)]
mod le_fixture;
#[path = "../ops/mod.rs"]
mod ops;
#[path = "../parity/mod.rs"]
mod parity;
#[path = "../skip/mod.rs"]
mod skip;

mod activations;
mod adapters;
mod attention_backward;
mod attention_bf16;
mod attention_sm90;
mod attention_stored;
mod checked;
mod cublaslt;
mod faults;
mod files;
mod halves;
mod mistakes;
mod mutations;
mod products;
mod profile;
mod read_backs;
mod tensor_core;
mod trial;
mod uploads;

use cuda_host::Order;
use lea::device::{Device, cuda};
use lea::ops::Op;
use lea::tensor::Tensor;
use parity::parity_on;
use std::sync::{Mutex, OnceLock};

/// The device, and after it the same or another one that takes other kernels: of Hopper (9.0) beside those of all (8.0). Or none,
/// with a reason told.
fn generations(test: &str) -> Vec<Device> {
    static DEVICES: OnceLock<Result<Vec<Device>, String>> = OnceLock::new();
    let devices = DEVICES.get_or_init(|| {
        if let Some(stand_in) = cuda_host::load()? {
            stand_in.capabilities("8.0,9.0");
        }
        let mut found = cuda::list()?;
        if cuda_host::real() {
            found.truncate(1);
            let older = found.first().filter(|first| first.capability == (9, 0)).cloned();
            found.extend(older.map(|first| cuda::Description { capability: (8, 0), ..first }));
        }
        Ok(found.into_iter().map(|d| Device::Cuda(cuda::Cuda::open(d, true, None).unwrap())).collect())
    });
    match devices {
        Ok(devices) => devices.clone(),
        Err(why) => {
            skip::skipped(format_args!("{test}: {why}"));
            Vec::new()
        }
    }
}

/// The device, or none with a reason told.
fn devices(test: &str) -> Vec<Device> {
    generations(test).into_iter().take(1).collect()
}

/// Memory is not split here: the same.
fn limited_devices(test: &str) -> Vec<Device> {
    devices(test)
}

/// Forward and backward of `make(device)` in each manner in which launches may run.
fn parity<O: Op>(test: &str, make: impl Fn(&Device) -> O, inputs: &[Tensor]) {
    let devices = devices(test);
    in_each_manner(|| parity_on(&devices, test, &make, inputs));
}

/// Runs `f` in two manners of the stand-in, and once on a GPU. What runs beside it, and before, has shuffled threads.
fn in_each_manner(f: impl Fn()) {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _guard = ONE_AT_A_TIME.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    match cuda_host::load() {
        Ok(Some(loaded)) => {
            for (deferred, order) in [(true, Order::Descending), (false, Order::Ascending)] {
                loaded.manner(deferred, order);
                f();
            }
            loaded.manner(true, Order::Shuffled);
        }
        Ok(None) | Err(_) => f(),
    }
}
