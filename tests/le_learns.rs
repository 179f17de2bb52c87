//! LE training learns from the log: on held-out users the item taken next earns more than items never met, in a data set
//! where popularity says nothing, and nothing of it is left when the actions are dealt out anew.

use lea::autograd::Param;
use lea::data::{Dataset, Event, Feedback, Item, Protocol, Split, TextSource, User};
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
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

/// Kinds of items; a user takes items of one kind only.
const KINDS: usize = 3;
/// Pairs in the right order that training must reach. Of the items that a user never met two in three are of another
/// kind, the third cannot be told: 5/6 is the most.
const CLEAR: f64 = 0.70;
/// And what chance must not exceed.
const CHANCE: f64 = 0.55;

/// Users of every kind alike, whose items are all as frequent: only the history tells the next one.
fn kinds() -> Dataset {
    let mut rng = ChaCha8Rng::seed_from_u64(7);
    let colours = ["red", "green", "blue"];
    let item = |i: usize| Item {
        id: format!("i{i}"),
        text: format!("{} thing {}", colours[i % KINDS], i / KINDS),
        fields: Vec::new(),
    };
    let items: Vec<Item> = (0..60).map(item).collect();
    let mut user = |u: usize| {
        let mut own: Vec<u32> =
            (0..items.len() as u32).filter(|i| *i as usize % KINDS == u % KINDS).collect();
        own.shuffle(&mut rng);
        let event = |&item: &u32| Event { item, kind: Feedback::Other };
        User { id: format!("u{u}"), events: own[..8].iter().map(event).collect() }
    };
    let users = (0..240).map(&mut user).collect();
    let text = TextSource { columns: Vec::new(), lists: Vec::new(), joiner: ", ".into() };
    Dataset { name: "kinds".into(), columns: Vec::new(), text, items, users }
}

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
    let dataset = kinds();
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
    let data = LeData::new(&dataset, &split);
    let mut works = data.fit_works(le.history).unwrap();
    change(&mut works);
    let (counts, met) = (data.counts().unwrap(), |user: u32| data.met(user));
    fit(
        &env,
        &FitData { works: &works, counts: &counts, met: &met },
        &le.fit,
        1,
        &mut log,
        &mut Checkpoints::none(),
    )
    .unwrap();
    judge(&env, data, &le, 1, &mut Checkpoints::none()).unwrap()
}

#[test]
fn training_puts_the_item_taken_next_above_items_never_met() {
    let quality = trained(|_| {});
    let alone = quality.pairs_by_count[0];
    assert!(quality.steps > 100 && (0.4..0.6).contains(&alone), "{quality:?}");
    assert!(quality.pairs_uniform > CLEAR, "{} of {} steps", quality.pairs_uniform, quality.steps);
}

/// The items that were taken stay as frequent as they were; only which history they follow is lost.
#[test]
fn actions_dealt_out_anew_teach_nothing() {
    let quality = trained(|works| {
        let mut rng = ChaCha8Rng::seed_from_u64(9);
        let mut actions: Vec<u32> = works.iter().flat_map(|w| w.actions.iter().copied()).collect();
        actions.shuffle(&mut rng);
        let dealt = works.iter_mut().flat_map(|w| &mut w.actions).zip(actions);
        dealt.for_each(|(action, other)| *action = other);
    });
    assert!(quality.pairs_uniform < CHANCE, "{} of {} steps", quality.pairs_uniform, quality.steps);
}
