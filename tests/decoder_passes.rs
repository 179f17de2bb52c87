//! The same rows give the same hidden vectors by whatever pass they are run; gradients of a whole decoder.

use lea::autograd::{Param, Var, apply, backward};
use lea::decoder::{Decoder, DecoderConfig, LoraConfig, Resident, Rows};
use lea::device::{DType, Device};
use lea::ops::{CrossEntropy, Mean};
use lea::tensor::Tensor;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::path::Path;

const IDS: [u32; 12] = [3, 17, 4, 4, 22, 9, 1, 30, 12, 5, 28, 2];

fn config() -> DecoderConfig {
    let text = r#"{"model_type": "llama", "hidden_size": 24, "intermediate_size": 40, "num_hidden_layers": 3,
        "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 31, "max_position_embeddings": 32,
        "attention_bias": true}"#;
    DecoderConfig::parse(text, Path::new("config.json")).unwrap()
}

/// Random weights, large enough that attention is far from uniform.
fn decoder(dtype: DType, trainable: bool) -> Decoder {
    let decoder = Decoder::random(config(), 5, &Device::Cpu, dtype, trainable).unwrap();
    let mut rng = ChaCha8Rng::seed_from_u64(6);
    for param in decoder.params() {
        let value = param.value();
        let draw = value.to_f64_vec().unwrap().into_iter().map(|x| x + rng.random_range(-0.3..0.3));
        param.set(Tensor::from_f64(&Device::Cpu, dtype, &draw.collect::<Vec<_>>(), value.shape()).unwrap());
    }
    decoder
}

fn adapted(dtype: DType, dropout: f64) -> Decoder {
    let mut decoder = decoder(dtype, false);
    let targets = ["q_proj", "v_proj", "down_proj"].map(str::to_string).to_vec();
    let lora = LoraConfig { targets, rank: 3, alpha: 6.0, dropout, use_rslora: true, ..Default::default() };
    decoder.add_lora(&lora, 11).unwrap();
    let mut rng = ChaCha8Rng::seed_from_u64(12);
    for b in decoder.lora_params().iter().filter(|p| p.name().contains("lora_B")) {
        let draw: Vec<f64> = (0..b.value().len()).map(|_| rng.random_range(-0.3..0.3)).collect();
        b.set(Tensor::from_f64(&Device::Cpu, dtype, &draw, b.value().shape()).unwrap());
    }
    decoder
}

fn hidden(decoder: &Decoder, rows: &Rows) -> Vec<f64> {
    let x = decoder.embed_tokens(&IDS[..rows.len()]).unwrap();
    decoder.forward(&x, rows).unwrap().value().to_f64_vec().unwrap()
}

fn causal(lengths: &[usize]) -> Rows {
    Rows::causal(&Device::Cpu, lengths).unwrap()
}

/// Mean next-token loss of one text, as a recorded value.
fn loss(decoder: &Decoder, step: Option<u64>) -> Var {
    let rows = causal(&[11]);
    let rows = step.map_or(rows.clone(), |step| rows.training(step));
    let hidden = decoder.forward(&decoder.embed_tokens(&IDS[..11]).unwrap(), &rows).unwrap();
    let logits = decoder.logits(&decoder.final_norm(&hidden).unwrap()).unwrap();
    let targets = Tensor::from_ids(&Device::Cpu, &IDS[1..]).unwrap();
    apply(Mean::default(), &[&apply(CrossEntropy::new(targets), &[&logits]).unwrap()]).unwrap()
}

/// Largest difference; NaN counts as infinite.
fn distance(a: &[f64], b: &[f64]) -> f64 {
    assert_eq!(a.len(), b.len());
    let apart = |(a, b): (&f64, &f64)| if (a - b).is_nan() { f64::INFINITY } else { (a - b).abs() };
    a.iter().zip(b).map(apart).fold(0.0, f64::max)
}

#[test]
fn rows_that_are_read_have_the_bits_of_a_full_pass() {
    let (decoder, d) = (decoder(DType::F32, false), 24);
    let whole = hidden(&decoder, &causal(&[7, 5]));
    let read = [11u32, 0, 6, 7];
    let found = hidden(&decoder, &causal(&[7, 5]).reading(&read).unwrap());
    let expected: Vec<f64> = read.iter().flat_map(|&r| &whole[r as usize * d..][..d]).copied().collect();
    assert_eq!(found, expected);
}

#[test]
fn packed_texts_do_not_see_each_other() {
    let (decoder, d) = (decoder(DType::F32, false), 24);
    let packed = hidden(&decoder, &causal(&[7, 5]));
    assert_eq!(packed[..7 * d], hidden(&decoder, &causal(&[7])));
    let x = decoder.embed_tokens(&IDS[7..]).unwrap();
    let alone = decoder.forward(&x, &causal(&[5])).unwrap().value().to_f64_vec().unwrap();
    assert_eq!(packed[7 * d..], alone);
    // One text of all twelve tokens is another matter: the second half would see the first.
    assert!(distance(&packed[7 * d..], &hidden(&decoder, &causal(&[12]))[7 * d..]) > 1e-2);
}

#[test]
fn a_read_cache_stays_as_it_is_and_serves_any_chunks() {
    let (decoder, d) = (decoder(DType::F32, false), 24);
    let whole = hidden(&decoder, &causal(&[12]));
    let mut cache = decoder.new_cache().unwrap();
    let x = decoder.embed_tokens(&IDS[..8]).unwrap();
    decoder.forward_cached(&x, &causal(&[8]), Resident::Extend(&mut cache)).unwrap();
    for last in [9, 12, 9] {
        let x = decoder.embed_tokens(&IDS[8..last]).unwrap();
        let rows = Rows::continuing(&Device::Cpu, 8, last - 8).unwrap();
        let found = decoder.forward_cached(&x, &rows, Resident::Read(&cache)).unwrap();
        assert_eq!(found.value().to_f64_vec().unwrap(), whole[8 * d..last * d]);
        assert!(!found.requires_grad() && cache.rows() == 8);
    }
}

#[test]
fn merged_adapters_equal_unmerged_ones() {
    for (dtype, tolerance) in [(DType::F64, 1e-11), (DType::F32, 1e-4)] {
        let adapted = adapted(dtype, 0.0);
        let merged = adapted.merged().unwrap();
        assert!(merged.lora_params().is_empty() && merged.params().iter().all(|p| !p.is_trainable()));
        let rows = causal(&[7, 5]);
        let error = distance(&hidden(&adapted, &rows), &hidden(&merged, &rows));
        assert!(error < tolerance, "{dtype}: {error}");
        assert!(distance(&hidden(&decoder(dtype, false), &rows), &hidden(&merged, &rows)) > 1e-2);
    }
}

#[test]
fn adapters_are_named_as_peft_names_them_and_the_base_is_frozen() {
    let decoder = adapted(DType::F32, 0.0);
    let names: Vec<String> = decoder.lora_params().iter().map(|p| p.name().to_string()).collect();
    assert_eq!(names.len(), 3 * 3 * 2);
    assert_eq!(names[0], "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight");
    assert_eq!(names[5], "base_model.model.model.layers.0.mlp.down_proj.lora_B.weight");
    assert!(decoder.lora_params().iter().all(Param::is_trainable));
    assert!(decoder.params().iter().all(|p| !p.is_trainable()));
    let mut again = decoder.clone();
    let unknown = LoraConfig { targets: vec!["c_attn".into()], ..LoraConfig::default() };
    assert!(again.add_lora(&unknown, 1).unwrap_err().to_string().contains("unknown target \"c_attn\""));
}

#[test]
fn checkpointing_changes_no_bit_of_a_gradient() {
    let mut decoder = adapted(DType::F32, 0.2);
    let grads = |decoder: &Decoder| {
        let grads = backward(&loss(decoder, Some(4))).unwrap();
        let of = |p: &Param| grads.of_param(p).unwrap().to_f64_vec().unwrap();
        decoder.lora_params().iter().flat_map(of).collect::<Vec<f64>>()
    };
    let kept = grads(&decoder);
    decoder.checkpoint = true;
    assert!(kept.iter().any(|g| g.abs() > 1e-4));
    assert_eq!(kept, grads(&decoder));
}

#[test]
fn gradients_of_a_whole_decoder_match_finite_differences() {
    let (whole, adapted) = (decoder(DType::F64, true), adapted(DType::F64, 0.2));
    let cases = [(&whole, whole.params(), None), (&adapted, adapted.lora_params(), Some(3))];
    for (decoder, params, step) in cases {
        let grads = backward(&loss(decoder, step)).unwrap();
        for param in params {
            let analytic = grads.of_param(&param).unwrap().to_f64_vec().unwrap();
            let start = param.value();
            // The middle element and the one with the largest gradient stand for the tensor.
            let largest =
                (0..analytic.len()).max_by(|&a, &b| analytic[a].abs().total_cmp(&analytic[b].abs()));
            for i in [analytic.len() / 2, largest.unwrap()] {
                let at = |delta: f64| {
                    let mut moved = start.to_f64_vec().unwrap();
                    moved[i] += delta;
                    param.set(Tensor::from_f64(&Device::Cpu, DType::F64, &moved, start.shape()).unwrap());
                    loss(decoder, step).value().item().unwrap()
                };
                let numeric = (at(1e-5) - at(-1e-5)) / 2e-5;
                param.set(start.clone());
                let close = (analytic[i] - numeric).abs() <= 1e-7 * (1.0 + numeric.abs());
                assert!(close, "{} {i}: backward {}, differences {numeric}", param.name(), analytic[i]);
            }
        }
    }
}
