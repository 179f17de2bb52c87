//! Memory of the labelling pass: where every item is a candidate at every step, that of one step, whatever the number of
//! steps; of judging, that of one pack, whatever the number of held-out users; and of labelling an imported folder, the same
//! whatever the number of users.

mod mutate;

use lea::autograd::Param;
use lea::data::{
    Dataset, Event, Feedback, Item, LoadOptions, NegativeKind, NegativeSampler, Protocol, Split, SynthConfig,
    TextSource, User, open, save, synthesise,
};
use lea::decoder::{Decoder, DecoderConfig};
use lea::device::cpu::release_free_buffers;
use lea::device::{DType, Device};
use lea::le::{
    Environment, LabelConfig, LabelHeader, LabelPart, LabelWriter, Labeller, LeConfig, LeData, Prompt, Work,
    judge, label_all,
};
use lea::progress::MetricsLog;
use lea::tensor::Tensor;
use lea::tensor::checkpoint::Checkpoints;
use mutate::allocation;
use std::path::Path;
use std::sync::{Mutex, MutexGuard};

const ITEMS: usize = 600;

fn environment(history: usize) -> Environment {
    let config = DecoderConfig {
        hidden_size: 8,
        num_hidden_layers: 1,
        num_attention_heads: 2,
        num_key_value_heads: 1,
        head_dim: 4,
        intermediate_size: 8,
        vocab_size: 4,
        max_position_embeddings: 128,
        ..DecoderConfig::default()
    };
    let table: Vec<f32> = (0..ITEMS * 8).map(|i| ((i * i) as f32 * 0.7).sin()).collect();
    Environment {
        decoder: Decoder::random(config, 1, &Device::Cpu, DType::F32, false).unwrap(),
        items: Param::frozen("item_tokens", Tensor::from_slice(&Device::Cpu, &table, &[ITEMS, 8]).unwrap()),
        head: Param::frozen("score.weight", Tensor::full(&Device::Cpu, DType::F32, &[8], 0.3).unwrap()),
        prompt: Prompt::default(),
        history,
    }
}

/// Most bytes held at once while one user of `events` events is labelled.
fn peak(env: &Environment, events: usize) -> usize {
    let event = |i: usize| Event { item: (i * 7 % ITEMS) as u32, kind: Feedback::Other };
    let events: Vec<Event> = (0..events).map(event).collect();
    let config =
        LabelConfig { negatives: 2, candidates: usize::MAX, pack_tokens: 64, ..LabelConfig::default() };
    let negatives = NegativeSampler::new(NegativeKind::Uniform, &[1; ITEMS], 1);
    let met = |_: u32| Ok(lea::data::met_items(&events));
    let labeller = Labeller::new(env, &config, 0.1, negatives, &met).unwrap();
    let before =
        |work: &Work| Ok(events[..work.first_step - work.owned.start].iter().map(|e| e.item).collect());
    let mut steps = 0;
    let (_, peak) = allocation::peak(|| {
        for pack in labeller.packs(Work::of_user(0, &events, env.history).into_iter()) {
            let mut sink = |block: &lea::le::LabelBlock| {
                steps += block.rows();
                Ok(())
            };
            labeller.label(&pack, &before, &mut sink).unwrap();
        }
    });
    assert_eq!(steps, events.len() - 1);
    peak
}

#[test]
fn candidates_of_the_whole_catalogue_are_held_for_one_step_at_a_time() {
    let _alone = alone();
    // All on this thread, whose allocations are counted.
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).use_current_thread().build().unwrap();
    pool.install(|| {
        // Cut into segments, and as one trunk. With it grow its keys and values, 4 KB, and the tiles of attention and of scores
        // until they are whole; the candidates of 64 more steps would be 300 KB.
        for history in [16, 100] {
            let env = environment(history);
            peak(&env, 3);
            let (short, long) = (peak(&env, 17), peak(&env, 81));
            println!("history {history}: {short} bytes for 16 steps, {long} for 80");
            assert!(long < short + 32_000, "{short} bytes for 16 steps, {long} for 80");
            assert!(long < 80 * ITEMS * size_of::<(usize, u32)>() / 3, "{long} bytes");
        }
    });
}

/// The pool of buffers is the process's: what one test gave back another would take, and this one would count as held. So they run one
/// after another.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// `users` users of six events each.
fn dataset(users: usize) -> Dataset {
    let event = |i: usize| Event { item: (i * 7 % ITEMS) as u32, kind: Feedback::Other };
    let user = |u: usize| User { id: format!("u{u}"), events: (0..6).map(|i| event(u + 31 * i)).collect() };
    let item = |i: usize| Item { id: format!("i{i}"), text: String::new(), fields: Vec::new() };
    Dataset {
        name: "many".into(),
        columns: Vec::new(),
        text: TextSource { columns: Vec::new(), lists: Vec::new(), joiner: String::new() },
        items: (0..ITEMS).map(item).collect(),
        users: (0..users).map(user).collect(),
    }
}

/// Most bytes held at once while an LE is judged on the tenth of `users` users that is held out.
fn judging_peak(env: &Environment, users: usize) -> usize {
    let dataset = dataset(users);
    let split = Split::new(&dataset, Protocol::Sqn, 1, 0.1).unwrap();
    let label = LabelConfig { candidates: 2, pack_tokens: 512, ..LabelConfig::default() };
    let config = LeConfig { label, ..LeConfig::default() };
    let data = LeData::new(&dataset, &split);
    let (quality, peak) =
        allocation::peak(|| judge(env, data, &config, 1, &mut Checkpoints::none()).unwrap());
    assert_eq!(quality.steps, users as u64 / 10 * 5);
    peak
}

#[test]
fn judging_holds_one_pack_whatever_the_number_of_held_out_users() {
    let _alone = alone();
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).use_current_thread().build().unwrap();
    pool.install(|| {
        let env = environment(16);
        judging_peak(&env, 400);
        let (few, many) = (judging_peak(&env, 4_000), judging_peak(&env, 12_000));
        println!("{few} bytes for 2,000 steps, {many} for 6,000");
        assert!(many < few + 32_000, "{few} bytes for 2,000 steps, {many} for 6,000");
    });
}

/// Writes an imported folder of `users` users, each of a few events, and its split.
fn imported(dir: &Path, users: usize) {
    let shape = SynthConfig { items: ITEMS, users, mean_length: 6.0, ..SynthConfig::default() };
    let loaded = synthesise(&shape).unwrap();
    save(&loaded, &dir.join("data"), false).unwrap();
    let split = Split::new(&loaded.dataset, Protocol::Sqn, 1, 0.1).unwrap();
    split.save(&dir.join("split.json")).unwrap();
}

/// Reads the data, judges the LE and labels all users into files, as `lea label` does; the number of labelled steps.
fn label_folder(env: &Environment, dir: &Path) -> usize {
    let data = open(&dir.join("data"), &LoadOptions::default()).unwrap();
    let (items, users) = (data.items(), data.users());
    let split = Split::read(&dir.join("split.json"), &users.interactions_hash(), users.count()).unwrap();
    let label = LabelConfig { negatives: 0, candidates: 0, ..LabelConfig::default() };
    let config = LeConfig { label, ..LeConfig::default() };
    let data = LeData { dataset: items, users, split: &split };
    judge(env, data, &config, 1, &mut Checkpoints::none()).unwrap();
    let header = LabelHeader {
        users: users.count(),
        items: ITEMS,
        state_dim: env.width(),
        negatives: 0,
        augmented: false,
        augmented_states: false,
        settings: config.label.clone(),
        seed: 1,
        data_hash: "data".into(),
        interactions_hash: users.interactions_hash(),
        le_hash: "le".into(),
        decoder_hash: "decoder".into(),
        made_by: "cpu avx2, lea 0.1.0".into(),
        split_hash: split.hash(),
    };
    let part = LabelPart::new(users.count(), &config.label, None, None).unwrap();
    let writer = LabelWriter::open(&dir.join("labels"), header, part).unwrap();
    let quality = serde_json::Value::Null;
    let tokens = label_all(env, data, &config, 1, &writer, &quality, &mut MetricsLog::none()).unwrap();
    tokens.labels as usize
}

#[test]
fn labelling_an_imported_folder_takes_the_memory_of_one_pack_whatever_the_number_of_users() {
    let _alone = alone();
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).use_current_thread().build().unwrap();
    pool.install(|| {
        let env = environment(16);
        let [few, many] = [3_000, 10_000].map(|users| {
            let dir = tempfile::tempdir().unwrap();
            imported(dir.path(), users);
            // What earlier tests of this thread left would serve here, and not be counted.
            release_free_buffers();
            let (steps, peak) = allocation::peak(|| label_folder(&env, dir.path()));
            assert!(steps > 4 * users, "{steps} steps of {users} users");
            peak
        });
        println!("{few} bytes for 3,000 users, {many} for 10,000");
        // 3,000 users fill the blocks of users that are kept. A twentieth is 380 KB; held in memory, 7,000 users more would
        // take 900 KB, and as it is they take 70 KB.
        assert!(many < few + few / 20, "{few} bytes for 3,000 users, {many} for 10,000");
    });
}
