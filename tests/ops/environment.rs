//! The LE on an adapter: the properties of its forest, and a whole training step's gradients beside the CPU's.

use super::le_fixture::{environment_on, works};
use super::{devices, error};
use lea::autograd::{Param, backward};
use lea::decoder::{DecoderConfig, Rows};
use lea::device::{DType, Device};
use lea::le::score::rewards;
use lea::le::trunk::Trunks;
use lea::le::{Environment, FitBatch, FitConfig, Work, losses};

const PROMPT: (usize, usize, usize) = (3, 2, 1);

fn on(device: &Device, dtype: DType) -> Environment {
    environment_on(device, DecoderConfig::default(), dtype, PROMPT, 1)
}

/// Rewards of all actions at all steps, in passes of at most `chunk` rows.
pub fn all_rewards(env: &Environment, works: &[Work], chunk: usize) -> Vec<f32> {
    let trunks = Trunks::run(env, works).unwrap();
    let steps: usize = works.iter().map(Work::steps).sum();
    let list: Vec<(usize, u32)> = (0..steps).flat_map(|b| (0..12).map(move |a| (b, a))).collect();
    rewards(env, &trunks, &list, chunk).unwrap()
}

#[test]
fn forest_scores_equal_separate_prompts_and_the_cpus() {
    let reference = on(&Device::Cpu, DType::F64);
    let works = works(&reference, 4);
    let want = all_rewards(&reference, &works, 4096);
    for device in devices("forest_scores") {
        let env = on(&device, DType::F32);
        let found = all_rewards(&env, &works, 4096);
        let to_f64 = |x: &[f32]| x.iter().map(|&x| f64::from(x)).collect::<Vec<_>>();
        let apart = error(&to_f64(&found), &to_f64(&want));
        assert!(apart < 2e-5, "{}: {apart}", device.describe());
        // Each prompt by itself, as plain causal text.
        let mut place = 0;
        for work in &works {
            for row in work.owned.clone() {
                for action in 0..12 {
                    if action % 5 == 0 {
                        let mut tokens = env.prompt.root.clone();
                        tokens.extend(work.history[..=row].iter().map(|&item| env.item_token(item)));
                        tokens.extend(&env.prompt.stem);
                        tokens.extend(env.leaf(action));
                        let rows = Rows::causal(&device, &[tokens.len()]).unwrap();
                        let rows = rows.reading(&[tokens.len() as u32 - 1]).unwrap();
                        let hidden = env.decoder.forward(&env.embed(&tokens).unwrap(), &rows).unwrap();
                        let alone = env.rewards(&hidden).unwrap().value().item().unwrap();
                        let found = f64::from(found[place]);
                        assert!((alone - found).abs() < 2e-5 * alone.abs().max(1.0), "{found} and {alone}");
                    }
                    place += 1;
                }
            }
        }
    }
}

/// An error unless rewards have the same bits in packs of several users and of one, in large chunks and in small ones.
pub fn expect_same_rewards_in_any_pack(env: &Environment, device: &Device) {
    let works = works(env, 5);
    let together = all_rewards(env, &works, 4096);
    // Those of a device that did nothing would be the same too.
    assert!(together.iter().any(|&reward| reward != together[0]), "{}: {together:?}", device.describe());
    assert!(all_rewards(env, &works, 7) == together, "{}: chunks of 7 rows", device.describe());
    let alone: Vec<f32> =
        works.iter().flat_map(|work| all_rewards(env, std::slice::from_ref(work), 64)).collect();
    assert!(alone == together, "{}: users alone", device.describe());
}

#[test]
fn a_reward_has_the_same_bits_in_any_pack_and_chunk() {
    for device in devices("same_bits") {
        expect_same_rewards_in_any_pack(&on(&device, DType::F32), &device);
    }
}

#[test]
fn swapping_candidates_swaps_rewards_and_no_two_are_equal() {
    for device in devices("swapping_candidates") {
        let env = on(&device, DType::F32);
        let work = &works(&env, 1)[0];
        let trunks = Trunks::run(&env, std::slice::from_ref(work)).unwrap();
        let list: Vec<(usize, u32)> = (0..12).map(|action| (0, action)).collect();
        let straight = rewards(&env, &trunks, &list, 64).unwrap();
        let mut swapped = list;
        swapped.swap(2, 9);
        let mut back = rewards(&env, &trunks, &swapped, 64).unwrap();
        back.swap(2, 9);
        assert!(straight == back, "{}: {straight:?} {back:?}", device.describe());
        let mut sorted = straight;
        sorted.sort_by(f32::total_cmp);
        assert!(sorted.windows(2).all(|w| w[0] < w[1]), "{}: {sorted:?}", device.describe());
    }
}

fn trained(env: &Environment) -> Vec<Param> {
    let mut params = env.decoder.lora_params();
    params.extend([env.items.clone(), env.head.clone()]);
    params
}

#[test]
fn a_training_step_has_the_gradients_of_the_cpu() {
    let config = FitConfig::default();
    let run = |device: &Device, dtype| {
        let env = on(device, dtype);
        let works = works(&env, 5);
        let steps: usize = works.iter().map(Work::steps).sum();
        let negatives = (0..steps as u32).map(|s| vec![s % 12, (s * 5 + 3) % 12]).collect();
        let batch =
            FitBatch { works: &works, negatives, shared_negatives: (0..12).collect(), dropout_step: None };
        let losses = losses(&env, &config, &batch).unwrap();
        let grads = backward(&losses.total).unwrap();
        let of = |param: &Param| grads.of_param(param).unwrap().to_f64_vec().unwrap();
        let total = losses.total.value().item().unwrap();
        (total, trained(&env).iter().map(of).collect::<Vec<_>>())
    };
    let (want_loss, want) = run(&Device::Cpu, DType::F64);
    for device in devices("training_step") {
        let (loss, found) = run(&device, DType::F32);
        assert!((loss - want_loss).abs() < 1e-5 * want_loss.abs(), "{loss}, not {want_loss}");
        assert_eq!(found.len(), want.len());
        for (i, (found, want)) in found.iter().zip(&want).enumerate() {
            let largest = want.iter().fold(0.0f64, |most, x| most.max(x.abs()));
            assert!(largest > 0.0, "parameter {i} has no gradient");
            let apart = error(found, want) / largest;
            assert!(apart < 1e-4, "{}: gradient of parameter {i} is {apart:e} off", device.describe());
        }
    }
}
