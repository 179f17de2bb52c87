//! A tiny random LE with adapters that matter, and histories of twelve items.

use lea::autograd::Param;
use lea::data::{Event, Feedback};
use lea::decoder::{Decoder, DecoderConfig, LoraConfig};
use lea::device::{DType, Device};
use lea::le::{Environment, Prompt, Work};
use lea::tensor::Tensor;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

pub fn catalogue() -> usize {
    12
}

fn random(device: &Device, seed: u64, shape: &[usize], size: f64, dtype: DType) -> Tensor {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let data: Vec<f64> = (0..shape.iter().product()).map(|_| rng.random_range(-size..size)).collect();
    Tensor::from_f64(device, dtype, &data, shape).unwrap()
}

/// Grouped-query, two layers, width 24; prompt parts of the given lengths.
pub fn environment(dtype: DType, lengths: (usize, usize, usize), seed: u64) -> Environment {
    environment_of(DecoderConfig::default(), dtype, lengths, seed)
}

/// The same with the family, window and biases of `like`.
pub fn environment_of(
    like: DecoderConfig,
    dtype: DType,
    lengths: (usize, usize, usize),
    seed: u64,
) -> Environment {
    environment_on(&Device::Cpu, like, dtype, lengths, seed)
}

/// The same, on `device`.
pub fn environment_on(
    device: &Device,
    like: DecoderConfig,
    dtype: DType,
    (root, stem, closing): (usize, usize, usize),
    seed: u64,
) -> Environment {
    let random = |seed, shape: &[usize], size| random(device, seed, shape, size, dtype);
    let config = DecoderConfig {
        hidden_size: 24,
        intermediate_size: 40,
        num_hidden_layers: 2,
        num_attention_heads: 4,
        num_key_value_heads: 2,
        head_dim: 6,
        vocab_size: 31,
        max_position_embeddings: 64,
        ..like
    };
    let mut decoder = Decoder::random(config, seed, device, dtype, false).unwrap();
    let targets = ["q_proj", "v_proj", "o_proj", "down_proj"].map(String::from).to_vec();
    let lora = LoraConfig { targets, rank: 3, alpha: 6.0, ..LoraConfig::default() };
    decoder.add_lora(&lora, seed).unwrap();
    for (i, param) in decoder.lora_params().iter().enumerate() {
        param.set(random(seed + 100 + i as u64, param.value().shape(), 0.5));
    }
    for (i, param) in decoder.params().iter().enumerate().filter(|(_, p)| p.value().shape().len() == 2) {
        param.set(random(seed + 500 + i as u64, param.value().shape(), 0.4));
    }
    let text = |len: usize, from: u32| (0..len as u32).map(|i| (from + 5 * i) % 31).collect();
    Environment {
        decoder,
        items: Param::trainable("item_tokens", random(seed + 1, &[catalogue(), 24], 1.0)),
        head: Param::trainable("score.weight", random(seed + 2, &[24], 1.0)),
        prompt: Prompt { root: text(root, 1), stem: text(stem, 2), closing: text(closing, 3) },
        history: 50,
    }
}

/// Six histories of 2 to 11 items, some with repeats.
pub fn histories() -> Vec<Vec<u32>> {
    let history = |user: u32| (0..3 + 2 * user).map(|t| (t * (user + 5) + user * user) % 12).collect();
    (0..5).map(history).chain([vec![7, 7]]).collect()
}

/// Trunks of the first `users` histories.
pub fn works(env: &Environment, users: usize) -> Vec<Work> {
    let of = |(user, history): (usize, Vec<u32>)| {
        let events: Vec<Event> = history.iter().map(|&item| Event { item, kind: Feedback::Other }).collect();
        Work::of_user(user as u32, &events, env.history)
    };
    histories().into_iter().take(users).enumerate().flat_map(of).collect()
}
