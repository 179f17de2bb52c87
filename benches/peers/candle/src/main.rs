//! candle's side of the prefill: its Llama over the same weights and tokens, with the requests of `benches/peers/main.rs`.
//! The argument is the type, f32 or bf16.

#[path = "../../counter.rs"]
#[allow(dead_code)]
mod counter;

use candle_core::{DType, Device, Result, Shape, Tensor};
use candle_nn::{Init, VarBuilder, var_builder::SimpleBackend};
use candle_transformers::models::llama::{Cache, Config, Llama};
use counter::{number, value};
use std::io::{BufRead, Write};
use std::time::Instant;

const VOCABULARY: usize = 512;

/// Weights that are streams of their names, as `benches/peers/labelling.rs` makes them.
struct Streams {
    layers: usize,
}

impl SimpleBackend for Streams {
    fn get(&self, shape: Shape, name: &str, _: Init, dtype: DType, device: &Device) -> Result<Tensor> {
        let size = 0.02 * 3f64.sqrt();
        let adds = name.ends_with("o_proj.weight") || name.ends_with("down_proj.weight");
        let size = if adds { size / (2.0 * self.layers as f64).sqrt() } else { size };
        let norm = name.ends_with("norm.weight");
        let map = |x: f64| if norm { 1.0 + 0.125 * x } else { size * x };
        let values: Vec<f32> = (0..shape.elem_count()).map(|i| map(value(name, i)) as f32).collect();
        Tensor::from_vec(values, shape, device)?.to_dtype(dtype)
    }

    fn get_unchecked(&self, name: &str, _: DType, _: &Device) -> Result<Tensor> {
        candle_core::bail!("{name} was asked for without its shape")
    }

    fn contains_tensor(&self, _: &str) -> bool {
        true
    }
}

struct Prefill {
    model: Llama,
    config: Config,
    dtype: DType,
    tokens: Tensor,
}

impl Prefill {
    fn new(shape: &str, tokens: usize, dtype: DType) -> Result<Self> {
        let (hidden_size, layers, heads, kv_heads, ffn) = match shape {
            "tiny" => (288, 6, 6, 6, 768),
            "small" => (576, 30, 9, 3, 1536),
            _ => candle_core::bail!("no shape {shape}"),
        };
        let config = Config {
            hidden_size,
            intermediate_size: ffn,
            vocab_size: VOCABULARY,
            num_hidden_layers: layers,
            num_attention_heads: heads,
            num_key_value_heads: kv_heads,
            use_flash_attn: false,
            rms_norm_eps: 1e-5,
            rope_theta: 10_000.0,
            bos_token_id: Some(1),
            eos_token_id: None,
            rope_scaling: None,
            max_position_embeddings: tokens,
            tie_word_embeddings: false,
        };
        let weights = VarBuilder::from_backend(Box::new(Streams { layers }), dtype, Device::Cpu);
        let model = Llama::load(weights, &config)?;
        let ids: Vec<u32> = (0..tokens).map(|i| number("prompt", i, VOCABULARY)).collect();
        Ok(Prefill { model, config, dtype, tokens: Tensor::from_vec(ids, (1, tokens), &Device::Cpu)? })
    }

    /// Logits after the last token.
    fn run(&self) -> Result<Tensor> {
        let mut cache = Cache::new(true, self.dtype, &self.config, &Device::Cpu)?;
        self.model.forward(&self.tokens, 0, &mut cache)
    }
}

fn prefill(name: &str, dtype: DType) -> Result<Prefill> {
    match name.split('-').collect::<Vec<_>>()[..] {
        ["prefill", shape, tokens] => {
            let tokens = tokens.parse().map_err(candle_core::Error::wrap)?;
            Prefill::new(shape, tokens, dtype)
        }
        _ => candle_core::bail!("no case {name}"),
    }
}

fn answer(ready: &mut Option<(String, Prefill)>, request: &str, dtype: DType) -> Result<String> {
    let words: Vec<&str> = request.split_whitespace().collect();
    if words == ["describe"] {
        return Ok(format!("candle, {} threads", candle_core::utils::get_num_threads()));
    }
    let [what, name, last] = words[..] else { candle_core::bail!("no request {request:?}") };
    if ready.as_ref().is_none_or(|(of, _)| of != name) {
        *ready = Some((name.into(), prefill(name, dtype)?));
    }
    let case = &ready.as_ref().expect("just made").1;
    match what {
        "check" => {
            let logits = case.run()?.to_dtype(DType::F32)?.flatten_all()?.to_vec1::<f32>()?;
            std::fs::write(last, logits.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<_>>())?;
            Ok("ok".into())
        }
        "time" => {
            let repetitions: u32 = last.parse().map_err(candle_core::Error::wrap)?;
            let start = Instant::now();
            for _ in 0..repetitions {
                case.run()?;
            }
            Ok((start.elapsed() / repetitions).as_secs_f64().to_string())
        }
        _ => candle_core::bail!("no request {request:?}"),
    }
}

fn main() -> Result<()> {
    let dtype = match std::env::args().nth(1).as_deref() {
        Some("f32") | None => DType::F32,
        Some("bf16") => DType::BF16,
        Some(other) => candle_core::bail!("no type {other}"),
    };
    let mut ready = None;
    for line in std::io::stdin().lock().lines() {
        println!("{}", answer(&mut ready, &line?, dtype)?);
        std::io::stdout().flush()?;
    }
    Ok(())
}
