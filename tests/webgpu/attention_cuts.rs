//! Attention in many dispatches, as large forests take it: the bound on a dispatch is set so low that small ones are cut.

use super::ops::attention::{forest, leaves};
use super::{parity_on, random, run, skip, to};
use lea::device::webgpu::adapter::{self, Pretence};
use lea::device::webgpu::{Gpu, Traced};
use lea::device::{DType, Device};
use lea::ops::ForestAttention;
use lea::ops::forest_attention::AttentionIndex;
use lea::tensor::Tensor;
use std::sync::Arc;

const HEADS: (usize, usize, usize) = (4, 2, 12);

/// Every adapter, as it is and as hardware, with dispatches of attention of `work` operations.
fn bounded(test: &str, work: Option<u64>) -> Vec<Gpu> {
    let open = |found: &adapter::Description, hardware| {
        let pretence = Pretence { hardware, attention_work: work, nan_scratch: true, ..Pretence::default() };
        adapter::open_as(found.index, found.tier(), pretence).unwrap()
    };
    let found = adapter::list();
    if found.is_empty() {
        skip::skipped(format_args!("{test}: there is no WebGPU adapter"));
    }
    found.iter().flat_map(|found| [open(found, false), open(found, true)]).collect()
}

fn op(index: &Arc<AttentionIndex>) -> ForestAttention {
    ForestAttention::new(index.clone(), HEADS.0, HEADS.1, HEADS.2, 0.4)
}

fn inputs(index: &AttentionIndex) -> [Tensor; 3] {
    [(index.rows(), HEADS.0, 1), (index.keys(), HEADS.1, 2), (index.keys(), HEADS.1, 3)]
        .map(|(rows, heads, seed)| random(&[rows, heads * HEADS.2], seed))
}

fn indices() -> [Arc<AttentionIndex>; 4] {
    let causal = AttentionIndex::causal(&[3, 300]).unwrap();
    let windowed = causal.windowed(7).unwrap();
    [forest(&[70, 40]), leaves(&[1, 20, 40, 3]), causal, windowed].map(Arc::new)
}

/// Launches of forward and backward, with the bits of what they give.
fn traced(gpu: &Gpu, index: &Arc<AttentionIndex>) -> (Vec<Traced>, Vec<u32>) {
    let device = Device::WebGpu(gpu.clone());
    let inputs = inputs(index).map(|x| to(&device, DType::F32, &x));
    let work = || Ok(run(&mut op(index), &inputs, &[true; 3]));
    let ((y, grads), launches) = gpu.traced(work).unwrap();
    let results = std::iter::once(Some(y)).chain(grads).flatten();
    (launches, results.flat_map(|x| x.to_vec::<f32>().unwrap()).map(f32::to_bits).collect())
}

#[test]
fn attention_in_many_dispatches_is_that_of_the_cpu() {
    for index in indices() {
        // One job a dispatch, and a few.
        for work in [1, 400_000] {
            let devices: Vec<_> =
                bounded("attention_in_many_dispatches", Some(work)).into_iter().map(Device::WebGpu).collect();
            parity_on(&devices, &format!("dispatches of {work}"), |_| op(&index), &inputs(&index));
        }
    }
}

#[test]
fn cuts_change_no_bit_and_leave_no_dispatch_of_two_jobs() {
    let test = "cuts_of_attention";
    for index in indices() {
        for (cut, whole) in bounded(test, Some(1)).iter().zip(bounded(test, None)) {
            let (cuts, found) = traced(cut, &index);
            let (launches, want) = traced(&whole, &index);
            assert!(found == want, "{}: a cut changes bits", whole.arithmetic());
            let many = ["forward", "backward_queries", "backward_shared_keys", "backward_own_keys"];
            for launch in cuts.iter().filter(|launch| many.contains(&launch.entry)) {
                assert_eq!(launch.params[1], 1, "{} has more than one job", launch.entry);
            }
            // The parts of one block of keys, which many rows see, among them.
            let count = |launches: &[Traced], entry| launches.iter().filter(|l| l.entry == entry).count();
            assert!(count(&cuts, "forward") > count(&launches, "forward"));
            assert!(count(&launches, "backward_shared_keys") <= 1, "{}", launches.len());
        }
    }
    // 3 root keys that 600 rows see: one block of several parts.
    let index = Arc::new(forest(&[70, 40, 30, 50]));
    for gpu in bounded(test, Some(1)) {
        let (launches, _) = traced(&gpu, &index);
        let sums = launches.iter().filter(|l| l.entry == "sum_parts").count();
        let parts = launches.iter().filter(|l| l.entry == "backward_shared_keys").count();
        assert!(parts > sums && sums > 0, "{parts} dispatches for parts of {sums} blocks");
    }
}
