//! Properties of the LE: its forest scores what separate prompts score, and labels do not depend on how they are packed.

mod le_fixture;

use le_fixture::{catalogue, environment, environment_of, histories, works};
use lea::autograd::{Param, Var, backward, no_grad};
use lea::data::{NegativeKind, NegativeSampler};
use lea::decoder::forest::{Branch, Forest, Tree};
use lea::decoder::{DecoderConfig, Family, Rows};
use lea::device::{DType, Device};
use lea::le::LabelBlock;
use lea::le::label::Labeller;
use lea::le::score::rewards;
use lea::le::trunk::Trunks;
use lea::le::{Augment, Environment, FitBatch, FitConfig, LabelConfig, Step, Work, losses};
use lea::tensor::Tensor;

/// The reward of one prompt, run by itself as plain causal text.
fn separate_reward(env: &Environment, history: &[u32], action: u32) -> f64 {
    let mut tokens = env.prompt.root.clone();
    tokens.extend(history.iter().map(|&item| env.item_token(item)));
    tokens.extend(&env.prompt.stem);
    tokens.extend(env.leaf(action));
    let rows = Rows::causal(&env.device(), &[tokens.len()]).unwrap();
    let last = [tokens.len() as u32 - 1];
    let hidden = env.decoder.forward(&env.embed(&tokens).unwrap(), &rows.reading(&last).unwrap()).unwrap();
    env.rewards(&hidden).unwrap().value().item().unwrap()
}

fn close(a: f64, b: f64, relative: f64) -> bool {
    // A value near zero is a difference of larger ones: an f32 has no more digits of it than they had.
    (a - b).abs() <= relative * b.abs().max(0.3)
}

#[test]
fn forest_scores_equal_separate_prompts() {
    for (root, stem, closing) in [(0, 0, 0), (3, 2, 1), (2, 0, 2), (0, 1, 0)] {
        let env = environment(DType::F32, (root, stem, closing), 1);
        let works = works(&env, 3);
        let trunks = Trunks::run(&env, &works).unwrap();
        let mut branch = 0;
        for work in &works {
            for row in work.owned.clone() {
                for action in [0, 7, 11] {
                    let got = rewards(&env, &trunks, &[(branch, action)], 64).unwrap()[0];
                    let want = separate_reward(&env, &work.history[..=row], action);
                    assert!(close(f64::from(got), want, 1e-5), "{root} {stem} {closing}: {got} and {want}");
                }
                branch += 1;
            }
        }
    }
}

#[test]
fn through_a_window_shorter_than_the_history_forest_scores_equal_separate_prompts() {
    let mistral = DecoderConfig { family: Family::Mistral, ..DecoderConfig::default() };
    let qwen = DecoderConfig { family: Family::Qwen3, full_layers: vec![1], ..DecoderConfig::default() };
    for (like, width) in [(&mistral, 4), (&mistral, 1), (&qwen, 3)] {
        let like = DecoderConfig { sliding_window: Some(width), ..like.clone() };
        for lengths in [(0, 0, 0), (3, 2, 1), (5, 0, 2)] {
            let env = environment_of(like.clone(), DType::F32, lengths, 1);
            let mut open = env.clone();
            open.decoder.config.sliding_window = None;
            let works = works(&env, 4);
            let trunks = Trunks::run(&env, &works).unwrap();
            let steps = works.iter().flat_map(|work| work.owned.clone().map(move |row| (work, row)));
            let mut apart = 0.0f64;
            for (branch, (work, row)) in steps.enumerate() {
                let list: Vec<(usize, u32)> = [0, 7, 11].map(|action| (branch, action)).to_vec();
                for (&(_, action), got) in list.iter().zip(rewards(&env, &trunks, &list, 2).unwrap()) {
                    let want = separate_reward(&env, &work.history[..=row], action);
                    assert!(close(f64::from(got), want, 1e-5), "{width} {lengths:?}: {got} and {want}");
                    apart = apart.max((want - separate_reward(&open, &work.history[..=row], action)).abs());
                }
            }
            assert!(apart > 1e-2, "the window changes nothing: {apart}");
        }
    }
}

#[test]
fn one_resident_forest_scores_what_streamed_leaves_score() {
    let env = environment(DType::F32, (2, 1, 1), 1);
    let work = &works(&env, 1)[0];
    let actions = [3, 9, 1];
    let steps: Vec<Step> = work.owned.clone().map(|at| Step { at, actions: actions.to_vec() }).collect();
    let forest = env.forest(&[env.tree(&work.history, &steps)]).unwrap();
    let rows = Rows::new(&env.device(), &forest.positions, forest.index.clone()).unwrap();
    let hidden = env
        .decoder
        .forward(&env.embed(&forest.tokens).unwrap(), &rows.reading(&forest.leaf_ends).unwrap())
        .unwrap();
    let whole = env.rewards(&hidden).unwrap().value().to_vec::<f32>().unwrap();
    let trunks = Trunks::run(&env, std::slice::from_ref(work)).unwrap();
    let list: Vec<(usize, u32)> = (0..work.steps()).flat_map(|b| actions.map(|a| (b, a))).collect();
    assert_eq!(whole, rewards(&env, &trunks, &list, 5).unwrap());
}

#[test]
fn states_equal_a_plain_causal_run() {
    let env = environment(DType::F32, (2, 1, 1), 2);
    for work in works(&env, 3) {
        let trunks = Trunks::run(&env, std::slice::from_ref(&work)).unwrap();
        let mut tokens = env.prompt.root.clone();
        tokens.extend(work.history.iter().map(|&item| env.item_token(item)));
        let rows = Rows::causal(&env.device(), &[tokens.len()]).unwrap();
        let hidden = env.decoder.forward(&env.embed(&tokens).unwrap(), &rows).unwrap();
        let plain = env.states(&hidden).unwrap().value().to_f64_vec().unwrap();
        let first = (env.prompt.root.len() + work.owned.start) * env.width();
        let states = trunks.states.to_f64_vec().unwrap();
        assert!(states.iter().zip(&plain[first..]).all(|(a, b)| close(*a, *b, 1e-5)));
    }
}

#[test]
fn swapping_candidates_swaps_rewards_and_no_two_are_equal() {
    let env = environment(DType::F32, (1, 1, 1), 3);
    let work = &works(&env, 1)[0];
    let trunks = Trunks::run(&env, std::slice::from_ref(work)).unwrap();
    let list: Vec<(usize, u32)> = (0..catalogue() as u32).map(|a| (0, a)).collect();
    let straight = rewards(&env, &trunks, &list, 64).unwrap();
    let mut swapped = list.clone();
    swapped.swap(2, 9);
    let mut back = rewards(&env, &trunks, &swapped, 64).unwrap();
    back.swap(2, 9);
    assert_eq!(straight, back);
    let mut sorted = straight;
    sorted.sort_by(f32::total_cmp);
    assert!(sorted.windows(2).all(|w| w[0] < w[1]), "{sorted:?}");
}

#[test]
fn merged_adapters_score_what_unmerged_ones_score() {
    let env = environment(DType::F64, (1, 1, 1), 4);
    assert!(
        env.decoder.lora_params().iter().all(|p| p
            .value()
            .to_f64_vec()
            .unwrap()
            .iter()
            .any(|x| x.abs() > 1e-3))
    );
    let merged = env.merged().unwrap();
    assert!(merged.decoder.lora_params().is_empty());
    let works = works(&env, 2);
    let list: Vec<(usize, u32)> = (0..works[0].steps()).map(|b| (b, 5)).collect();
    let score = |env: &Environment| rewards(env, &Trunks::run(env, &works).unwrap(), &list, 64).unwrap();
    let (a, b) = (score(&env), score(&merged));
    assert!(a.iter().zip(&b).all(|(a, b)| close(f64::from(*a), f64::from(*b), 1e-6)), "{a:?} {b:?}");
    let mut bare = env.clone();
    bare.decoder.add_lora(&Default::default(), 1).unwrap();
    assert_ne!(a, score(&bare), "the adapters change nothing");
}

fn config(pack_tokens: usize) -> LabelConfig {
    LabelConfig {
        negatives: 3,
        candidates: 6,
        augment: Augment::Both,
        augmented_states: true,
        pack_tokens,
        ..LabelConfig::default()
    }
}

/// Labels `works` in the given order and returns the labels sorted by user and step.
fn labels(env: &Environment, works: &[Work], config: &LabelConfig) -> Vec<Vec<u32>> {
    let histories = histories();
    let met = |user: u32| {
        let mut met = histories[user as usize].clone();
        met.sort_unstable();
        met.dedup();
        Ok(met)
    };
    let sampler = NegativeSampler::new(NegativeKind::Uniform, &vec![1; catalogue()], 5);
    let labeller = Labeller::new(env, config, 0.2, sampler, &met).unwrap();
    let before = |work: &Work| {
        let start = work.first_step - work.owned.start;
        Ok(histories[work.user as usize][..start].to_vec())
    };
    let mut rows = Vec::new();
    for pack in labeller.packs(works.iter().cloned()) {
        let mut sink = |block: &LabelBlock| {
            rows.extend(label_rows(block, config, env.width()));
            Ok(())
        };
        labeller.label(&pack, &before, &mut sink).unwrap();
    }
    rows.sort();
    rows
}

/// The labels of every step as one vector of bits.
fn label_rows(block: &LabelBlock, config: &LabelConfig, d: usize) -> Vec<Vec<u32>> {
    let k = config.negatives;
    (0..block.user.len())
        .map(|i| {
            let mut row = vec![block.user[i], block.t[i], block.action[i], block.reward[i].to_bits()];
            row.extend(block.state[i * d..(i + 1) * d].iter().map(|x| x.to_bits()));
            row.extend(&block.negatives[i * k..(i + 1) * k]);
            row.extend(block.negative_rewards[i * k..(i + 1) * k].iter().map(|x| x.to_bits()));
            row.extend([block.augmented_action[i], block.augmented_reward[i].to_bits()]);
            row.extend(block.augmented_state[i * d..(i + 1) * d].iter().map(|x| x.to_bits()));
            row
        })
        .collect()
}

#[test]
fn labels_have_the_same_bits_for_any_pack_chunk_order_and_thread_count() {
    let env = environment(DType::F32, (2, 1, 1), 6);
    let works = works(&env, 6);
    let reference = labels(&env, &works, &config(100_000));
    let steps: usize = works.iter().map(Work::steps).sum();
    assert_eq!(reference.len(), steps);
    for pack_tokens in [1, 37, 150, 700] {
        assert_eq!(reference, labels(&env, &works, &config(pack_tokens)), "packs of {pack_tokens}");
    }
    let reversed: Vec<Work> = works.iter().rev().cloned().collect();
    assert_eq!(reference, labels(&env, &reversed, &config(300)), "reversed users");
    for threads in [1, 3, 7] {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        assert_eq!(reference, pool.install(|| labels(&env, &works, &config(300))), "{threads} threads");
    }
}

#[test]
fn candidates_may_be_the_whole_catalogue() {
    let env = environment(DType::F32, (0, 0, 0), 7);
    let works = works(&env, 2);
    let all = LabelConfig { candidates: usize::MAX, augment: Augment::Reward, ..config(50) };
    let (k, d) = (all.negatives, env.width());
    let merged = env.merged().unwrap();
    for (row, (work, at)) in labels(&env, &works, &all)
        .iter()
        .zip(works.iter().flat_map(|w| w.owned.clone().map(move |at| (w, at))))
    {
        let trunks = Trunks::run(&merged, std::slice::from_ref(work)).unwrap();
        let step = at - work.owned.start;
        let seen = &histories()[work.user as usize][..=work.first_step + step + 1];
        let left: Vec<(usize, u32)> =
            (0..catalogue() as u32).filter(|a| !seen.contains(a)).map(|a| (step, a)).collect();
        let scores = rewards(&merged, &trunks, &left, 1000).unwrap();
        let best = (0..left.len()).max_by(|&a, &b| scores[a].total_cmp(&scores[b])).unwrap();
        assert_eq!(row[4 + d + 2 * k], left[best].1);
        assert_eq!(row[5 + d + 2 * k], scores[best].to_bits());
    }
}

#[test]
fn a_long_history_equals_prompts_that_start_where_its_segment_starts() {
    let env = Environment { history: 4, ..environment(DType::F32, (1, 0, 0), 8) };
    let works = works(&env, 6);
    assert!(works.iter().any(|w| w.owned.start > 0), "no history was cut");
    let histories = histories();
    let trunks = Trunks::run(&env, &works).unwrap();
    let mut branch = 0;
    for work in &works {
        for i in 0..work.steps() {
            let t = work.first_step + i;
            let seen = work.owned.start + i + 1;
            assert!(seen <= 4 && (seen == t + 1 || seen > 2), "step {t} sees {seen} items");
            let prompt = &histories[work.user as usize][t + 1 - seen..=t];
            let got = rewards(&env, &trunks, &[(branch, 2)], 64).unwrap()[0];
            assert!(close(f64::from(got), separate_reward(&env, prompt, 2), 1e-5));
            branch += 1;
        }
    }
}

#[test]
fn gradients_of_a_whole_le_step_match_finite_differences() {
    let env = environment(DType::F64, (1, 1, 1), 9);
    let works = works(&env, 2);
    let steps: usize = works.iter().map(Work::steps).sum();
    let config = FitConfig { margin: 0.1, temperature: 0.3, ..FitConfig::default() };
    let negatives: Vec<Vec<u32>> = (0..steps as u32).map(|i| vec![(i + 3) % 12, (i + 8) % 12]).collect();
    let total = || {
        let batch = FitBatch {
            works: &works,
            negatives: negatives.clone(),
            shared_negatives: vec![1, 4, 4, 10],
            dropout_step: None,
        };
        losses(&env, &config, &batch).unwrap().total
    };
    let grads = backward(&total()).unwrap();
    let mut params = env.decoder.lora_params();
    params.extend([env.head.clone(), env.items.clone()]);
    let mut checked = 0;
    for param in &params {
        let grad = grads.of_param(param).unwrap_or_else(|| panic!("no gradient of {}", param.name()));
        let grad = grad.to_f64_vec().unwrap();
        for i in (0..grad.len()).step_by(grad.len().div_ceil(6)) {
            let numeric = (shifted(param, i, 1e-5, &total) - shifted(param, i, -1e-5, &total)) / 2e-5;
            let fits = (grad[i] - numeric).abs() <= 1e-6 * (1.0 + numeric.abs());
            assert!(fits, "{} [{i}]: backward {}, differences {numeric}", param.name(), grad[i]);
            checked += usize::from(grad[i].abs() > 1e-6);
        }
    }
    assert!(checked > 20, "only {checked} gradients were worth checking");
    assert!(env.decoder.params().iter().all(|p| grads.of_param(p).is_none()), "the base is frozen");
}

fn shifted(param: &Param, i: usize, delta: f64, loss: &dyn Fn() -> Var) -> f64 {
    let before = param.value();
    let mut data = before.to_f64_vec().unwrap();
    data[i] += delta;
    param.set(Tensor::from_f64(&Device::Cpu, DType::F64, &data, before.shape()).unwrap());
    let value = no_grad(|| loss().value().item().unwrap());
    param.set(before);
    value
}

#[test]
fn trees_of_separate_prompts_share_nothing() {
    // What `--no-forest` measures: each prompt a tree of its own, equal to the shared forest.
    let env = environment(DType::F32, (2, 1, 1), 10);
    let work = &works(&env, 1)[0];
    let tree = |at: usize| {
        let items = work.history[..=at].iter().map(|&item| env.item_token(item));
        let trunk: Vec<u32> = env.prompt.root.iter().copied().chain(items).collect();
        Tree { branches: vec![Branch { at: trunk.len() - 1, leaves: vec![env.leaf(4)] }], trunk }
    };
    let trees: Vec<Tree> = work.owned.clone().map(tree).collect();
    let forest = Forest::build(&[], &env.prompt.stem, &trees, 64).unwrap();
    assert_eq!(forest.index.trees().len(), trees.len());
    let rows = Rows::new(&env.device(), &forest.positions, forest.index.clone()).unwrap();
    let rows = rows.reading(&forest.leaf_ends).unwrap();
    let hidden = env.decoder.forward(&env.embed(&forest.tokens).unwrap(), &rows).unwrap();
    let scores = env.rewards(&hidden).unwrap().value().to_f64_vec().unwrap();
    for (at, score) in work.owned.clone().zip(scores) {
        assert!(close(score, separate_reward(&env, &work.history[..=at], 4), 1e-5));
    }
}
