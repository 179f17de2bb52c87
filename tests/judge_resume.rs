//! Judging an LE goes on from its checkpoint.

#[allow(dead_code, reason = "each test file uses a part")]
mod le_fixture;

use lea::autograd::Param;
use lea::data::{Dataset, Event, Feedback, Item, Protocol, Split, TextSource, User};
use lea::device::{DType, Device};
use lea::le::{Environment, LabelConfig, LeConfig, LeData, Quality, judge};
use lea::run_folder::{Fingerprint, Opening, Start};
use lea::tensor::Tensor;
use lea::tensor::checkpoint::Checkpoints;
use std::path::Path;

const ITEMS: usize = 40;

fn dataset() -> Dataset {
    let item = |i: usize| Item { id: format!("i{i}"), text: String::new(), fields: Vec::new() };
    let event = |i: usize| Event { item: (i * i * 7 % ITEMS) as u32, kind: Feedback::Other };
    let user = |u: usize| User { id: format!("u{u}"), events: (u..u + 3 + u % 4).map(event).collect() };
    Dataset {
        name: "judged".into(),
        columns: Vec::new(),
        text: TextSource { columns: Vec::new(), lists: Vec::new(), joiner: String::new() },
        items: (0..ITEMS).map(item).collect(),
        users: (0..120).map(user).collect(),
    }
}

/// Judges on the users that `split` holds out, with the checkpoints of the run in `dir`.
fn judged(split: &Split, pack_tokens: usize, dir: &Path) -> Quality {
    let run = Opening::new(dir, Start::Resume, Fingerprint::new("judge")).open().unwrap().unwrap();
    let label = LabelConfig { candidates: 3, pack_tokens, ..LabelConfig::default() };
    let config = LeConfig { label, ..LeConfig::default() };
    let table: Vec<f32> = (0..ITEMS * 24).map(|i| ((i * i) as f32 * 0.7).sin()).collect();
    let table = Tensor::from_slice(&Device::Cpu, &table, &[ITEMS, 24]).unwrap();
    let items = Param::frozen("item_tokens", table);
    let env = Environment { items, ..le_fixture::environment(DType::F32, (2, 1, 1), 5) };
    let mut keep = Checkpoints::new(&run, "judge", &Device::Cpu, 0).unwrap();
    judge(&env, LeData::new(&dataset(), split), &config, 1, &mut keep).unwrap()
}

#[test]
fn what_is_judged_is_not_judged_again_and_the_quality_has_the_same_bits() {
    let split = Split::new(&dataset(), Protocol::Sqn, 1, 0.3).unwrap();
    let folder = || tempfile::tempdir().unwrap();
    let whole = judged(&split, 300, folder().path());
    const JUDGED: usize = 4;
    let (mut first, mut others) = (split.clone(), split.clone());
    first.le.held_out.truncate(JUDGED);
    others.le.held_out[..JUDGED].fill(split.le.held_out[JUDGED]);
    assert!(judged(&others, 300, folder().path()) != whole, "others in the place of the first show");
    for pack_tokens in [300, 900, 1] {
        let dir = folder();
        judged(&first, 300, dir.path());
        let resumed = judged(&others, pack_tokens, dir.path());
        assert_eq!(resumed, whole, "{pack_tokens}");
    }
}
