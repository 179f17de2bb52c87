//! LE training learns from the log: on held-out users of a synthetic catalogue the item taken next earns more than
//! items never met, and nothing of it is left when the actions are shuffled.

use lea::autograd::Param;
use lea::data::{Protocol, Split, SynthConfig, synthesise};
use lea::decoder::{LoraConfig, PretrainConfig, pretrain};
use lea::device::Device;
use lea::le::fit::{FitData, fit};
use lea::le::item_tokens::train_item_tokens;
use lea::le::{
    Environment, FitConfig, ItemTokenConfig, LabelConfig, LeConfig, LeData, Prompt, Quality, Work, judge,
};
use lea::progress::MetricsLog;
use lea::tensor::Tensor;
use lea::tensor::checkpoint::Checkpoints;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Pairs in the right order that training must reach, and that shuffled actions must miss by as much.
const CLEAR: f64 = 0.60;
const CHANCE: f64 = 0.55;

fn settings() -> LeConfig {
    let targets = ["q_proj", "v_proj", "o_proj", "up_proj", "down_proj"].map(String::from).to_vec();
    LeConfig {
        history: 12,
        items: ItemTokenConfig { epochs: 4, ..ItemTokenConfig::default() },
        fit: FitConfig {
            lora: LoraConfig { targets, rank: 8, alpha: 16.0, ..LoraConfig::default() },
            epochs: 6,
            batch_tokens: 384,
            learning_rate: 4e-3,
            item_learning_rate: 4e-3,
            hard_share: 0.0,
            ..FitConfig::default()
        },
        label: LabelConfig { candidates: 10, ..LabelConfig::default() },
        ..LeConfig::default()
    }
}

/// Trains on the trunks that `change` makes of the LE's, and judges on held-out users as they are.
fn trained(change: impl Fn(&mut Vec<Work>)) -> Quality {
    let config = SynthConfig { items: 120, users: 500, mean_length: 9.0, seed: 3 };
    let dataset = synthesise(&config).unwrap().dataset;
    let split = Split::new(&dataset, Protocol::Sqn, 1, 1.0).unwrap();
    let texts: Vec<&str> = dataset.items.iter().map(|i| i.text.as_str()).collect();
    let small = PretrainConfig {
        hidden: 32,
        layers: 1,
        heads: 2,
        kv_heads: 1,
        ffn: 64,
        vocab: 300,
        context: 96,
        text_tokens: 40,
        epochs: 3,
        batch_tokens: 1024,
        ..PretrainConfig::default()
    };
    let (mut log, device) = (MetricsLog::none(), Device::Cpu);
    let (mut decoder, tokenizer, _) =
        pretrain(&texts, &small, 1, &device, &mut log, &mut Checkpoints::none()).unwrap();
    let le = settings();
    let tokens =
        train_item_tokens(&decoder, &tokenizer, &texts, &le.items, &mut log, &mut Checkpoints::none())
            .unwrap();
    assert!(tokens.loss_after < tokens.loss_before, "{} {}", tokens.loss_before, tokens.loss_after);
    decoder.add_lora(&le.fit.lora, 1).unwrap();
    let head = Tensor::zeros(&device, decoder.dtype(), &[32]).unwrap();
    let env = Environment {
        items: Param::trainable("item_tokens", tokens.table),
        head: Param::trainable("score.weight", head),
        prompt: Prompt::default(),
        history: le.history,
        decoder,
    };
    let data = LeData { dataset: &dataset, split: &split };
    let mut works = data.fit_works(le.history);
    change(&mut works);
    let (counts, met) = (data.counts(), |user: u32| data.met(user));
    fit(
        &env,
        &FitData { works: &works, counts: &counts, met: &met },
        &le.fit,
        1,
        &mut log,
        &mut Checkpoints::none(),
    )
    .unwrap();
    judge(&env, data, &le, 1).unwrap()
}

#[test]
fn training_puts_the_item_taken_next_above_items_never_met() {
    let quality = trained(|_| {});
    assert!(quality.steps > 300);
    assert!(quality.pairs_uniform > CLEAR, "{quality:?}");
}

#[test]
fn shuffled_actions_teach_nothing() {
    let quality = trained(|works| {
        let mut rng = ChaCha8Rng::seed_from_u64(9);
        works.shuffle(&mut rng);
        works.iter_mut().flat_map(|w| &mut w.actions).for_each(|action| *action = rng.random_range(0..120));
    });
    assert!(quality.pairs_uniform < CHANCE, "{quality:?}");
}
