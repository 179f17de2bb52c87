//! What `lea inspect` tells of memory, beside what the steps allocate.

#[path = "rec/catalogue.rs"]
#[allow(dead_code, reason = "labels of another width are made here")]
mod catalogue;
mod mutate;

use lea::autograd::{Param, backward};
use lea::cli::config::RunConfig;
use lea::cli::inspect::memory::{self, DataSize};
use lea::data::{Dataset, Item, NegativeKind, NegativeSampler};
use lea::decoder::{Decoder, DecoderConfig, Family, PretrainConfig, pretrain};
use lea::device::{DType, Device};
use lea::le::label::Labeller;
use lea::le::{Environment, FitBatch, Prompt, Work, losses};
use lea::nn::{AdamW, AdamWConfig};
use lea::progress::MetricsLog;
use lea::rec::{EncoderKind, Labels, RecConfig, Variant, train};
use lea::tensor::Tensor;
use lea::tensor::checkpoint::Checkpoints;
use mutate::allocation::peak;

const ITEMS: usize = 150;
const HISTORY: usize = 10;

/// Matrix products keep a buffer a thread, which is no matter of shapes.
fn warm_up() {
    environment(&settings()).merged().unwrap();
}

/// The estimate must neither fall short by more than a quarter nor exceed twice what was measured.
fn agrees(what: &str, estimate: u64, measured: usize) {
    let ratio = estimate as f64 / measured as f64;
    println!("{what}: estimated {estimate}, measured {measured}, ratio {ratio:.2}");
    assert!((0.75..2.0).contains(&ratio), "{what}: estimated {estimate}, measured {measured}");
}

fn config() -> DecoderConfig {
    DecoderConfig {
        family: Family::Qwen3,
        hidden_size: 32,
        intermediate_size: 80,
        num_hidden_layers: 4,
        num_attention_heads: 4,
        num_key_value_heads: 2,
        head_dim: 12,
        vocab_size: 90,
        max_position_embeddings: 64,
        ..DecoderConfig::default()
    }
}

fn settings() -> RunConfig {
    let mut settings = RunConfig::default();
    settings.le.history = HISTORY;
    settings.le.fit.batch_tokens = 180;
    settings.le.label.pack_tokens = 180;
    settings.le.label.candidates = 8;
    settings
}

fn environment(settings: &RunConfig) -> Environment {
    let mut decoder = Decoder::random(config(), 1, &Device::Cpu, DType::F32, false).unwrap();
    decoder.add_lora(&settings.le.fit.lora, 1).unwrap();
    let values: Vec<f64> = (0..ITEMS * 32).map(|i| (i as f64 * 0.7).sin()).collect();
    let items = Tensor::from_f64(&Device::Cpu, DType::F32, &values, &[ITEMS, 32]).unwrap();
    Environment {
        decoder,
        items: Param::trainable("item_tokens", items),
        head: Param::trainable("score.weight", Tensor::full(&Device::Cpu, DType::F32, &[32], 0.1).unwrap()),
        prompt: Prompt::default(),
        history: HISTORY,
    }
}

/// Trunks of three users with ten steps each.
fn works() -> Vec<Work> {
    let work = |user: u32| {
        let item = |t: u32| (user * 50 + t * 7) % ITEMS as u32;
        let (history, actions) = ((0..10).map(item).collect(), (1..11).map(item).collect());
        Work { user, history, owned: 0..10, first_step: 0, actions }
    };
    (0..3).map(work).collect()
}

#[test]
fn training_the_le_holds_what_was_estimated() {
    for checkpoint in [false, true] {
        let mut settings = settings();
        settings.le.fit.checkpoint = checkpoint;
        warm_up();
        let (_, measured) = peak(|| {
            let mut env = environment(&settings);
            env.decoder.checkpoint = checkpoint;
            let mut params = env.decoder.lora_params();
            params.extend([env.head.clone(), env.items.clone()]);
            let mut optimiser = AdamW::new(params, AdamWConfig::default()).unwrap();
            let batch = FitBatch {
                works: &works(),
                negatives: (0..30u32).map(|i| (1..5).map(|n| (i * 3 + n * 11) % 150).collect()).collect(),
                shared_negatives: (0..150).collect(),
                dropout_step: Some(0),
            };
            for _ in 0..2 {
                let losses = losses(&env, &settings.le.fit, &batch).unwrap();
                optimiser.step(backward(&losses.total).unwrap(), 1.0).unwrap();
            }
        });
        agrees("fit", memory::fit(&config(), &settings, ITEMS, &Device::Cpu).total(), measured);
    }
}

#[test]
fn labelling_holds_what_was_estimated() {
    let settings = settings();
    warm_up();
    let ((), measured) = peak(|| {
        let env = environment(&settings);
        let negatives = NegativeSampler::new(NegativeKind::Uniform, &[1; ITEMS], 3);
        let met = |_: u32| Ok(Vec::new());
        let labeller = Labeller::new(&env, &settings.le.label, 0.1, negatives, &met).unwrap();
        for pack in labeller.packs(works().into_iter()) {
            labeller.label(&pack, &|_| Ok(Vec::new()), &mut |_| Ok(())).unwrap();
        }
    });
    agrees("label", memory::label(&config(), &settings, ITEMS, &Device::Cpu).total(), measured);
}

#[test]
fn pretraining_holds_what_was_estimated() {
    let pretraining = PretrainConfig {
        hidden: 32,
        layers: 3,
        heads: 2,
        kv_heads: 1,
        ffn: 80,
        vocab: 280,
        context: 64,
        text_tokens: 20,
        epochs: 2,
        batch_tokens: 180,
        held_out: 0.2,
        ..PretrainConfig::default()
    };
    let settings = RunConfig { pretrain: pretraining.clone(), ..RunConfig::default() };
    let texts: Vec<String> = (0..60).map(|i| format!("a {} of size {i}", ["hose", "pump"][i % 2])).collect();
    warm_up();
    let (made, measured) = peak(|| {
        let (log, keep) = (&mut MetricsLog::none(), &mut Checkpoints::none());
        pretrain(&texts, &pretraining, 1, &Device::Cpu, log, keep).unwrap().0
    });
    agrees("pretrain", memory::pretrain(&made.config, &settings).total(), measured);
}

#[test]
fn a_data_set_holds_what_was_estimated() {
    let data = catalogue::dataset(400);
    let (copy, measured) = peak(|| data.clone());
    agrees("data", memory::data(&DataSize::of(&copy)), measured);
}

/// Labels of every step, with states as wide as the decoder.
fn labels(data: &Dataset, width: usize) -> Labels {
    let narrow = catalogue::labels(data);
    let steps = narrow.rewards.len();
    let states = |seed: usize| (0..steps * width).map(|i| ((i * seed) % 13) as f32 * 0.1).collect();
    let (states, augmented_states) = (states(7), Vec::new());
    Labels { state_dim: width, states, augmented_states, ..narrow }
}

#[test]
fn training_a_recommender_holds_what_was_estimated() {
    for (encoder, items, users) in
        [(EncoderKind::SasRec, 23, 400), (EncoderKind::Gru4Rec, 23, 400), (EncoderKind::SasRec, 2000, 60)]
    {
        let mut data = catalogue::dataset(users);
        let item = |i: usize| Item { id: format!("i{i}"), text: String::new(), fields: Vec::new() };
        data.items.extend((data.items.len()..items).map(item));
        let split = catalogue::split(&data);
        let mut settings = settings();
        settings.le.label.negatives = 2;
        // The labels come from no file here.
        settings.le.label.users_per_file = 1;
        let rec = RecConfig {
            encoder,
            width: 16,
            negatives: 2,
            batch_steps: 64,
            epochs: 2,
            ..RecConfig::default()
        };
        settings.rec = rec.with_variant(Variant::Lea);
        warm_up();
        let (trained, measured) = peak(|| {
            let labels = labels(&data, config().hidden_size);
            let (log, keep) = (&mut MetricsLog::none(), &mut Checkpoints::none());
            train(&settings.rec, (&data, &split), Some(&labels), &Device::Cpu, log, keep).unwrap()
        });
        assert_eq!(trained.network.state_dim(), config().hidden_size);
        let estimate = memory::train(&config(), &settings, &DataSize::of(&data));
        agrees("train", estimate.total(), measured);
    }
}
