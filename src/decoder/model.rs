//! The Llama-family decoder (Touvron et al., arXiv 2302.13971) over forests of rows.

use super::layer::{Geometry, HeadNorms, Layer, LayerPass};
use super::weights::{self, Weights};
use super::{DecoderConfig, KvCache, ModelFolder, Resident, Rows};
use crate::autograd::{Param, Var, apply, checkpoint, no_grad};
use crate::device::{DType, Device, profile};
use crate::nn::{Linear, init};
use crate::ops::{self, Embedding, RmsNorm};
use crate::tensor::{Tensor, count};
use crate::{Error, Result, files};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use std::path::Path;
use std::sync::Arc;

/// Standard deviation of random weights.
const INITIAL_DEVIATION: f64 = 0.02;

/// A decoder-only language model.
#[derive(Clone, Debug)]
pub struct Decoder {
    /// Shape and constants.
    pub config: DecoderConfig,
    /// Token embeddings `[vocab, d]`.
    pub embed: Param,
    /// Layers, first to last.
    pub layers: Vec<Layer>,
    /// Weight of the final norm `[d]`.
    pub norm: Param,
    /// Output projection `[vocab, d]`; `None` where it is the embedding.
    pub lm_head: Option<Param>,
    /// In a recorded pass, keep only each layer's input and run the layer again backward.
    pub checkpoint: bool,
    geometry: Geometry,
}

/// What to do about a decoder that is more than a device holds.
const TOO_LARGE: &str = "the weights do not fit: take a smaller decoder, or another --device";

/// Gives the parameter of a name and a shape.
type Source<'a> = dyn FnMut(String, &[usize]) -> Result<Param> + 'a;

impl Decoder {
    /// Loads a Hugging Face model folder; see [`ModelFolder::decoder`].
    pub fn load(dir: &Path, device: &Device, dtype: DType) -> Result<Self> {
        ModelFolder::open(dir)?.decoder(device, dtype)
    }

    /// Of the open weights of the folder `dir`.
    pub(super) fn from_weights(
        config: DecoderConfig,
        (dir, weights): (&Path, &Weights),
        device: &Device,
        dtype: DType,
    ) -> Result<Self> {
        let bytes = config.bytes_on(device, dtype);
        let smaller = |error: Error| error.with_memory_remedy(TOO_LARGE);
        device.expect_room("the decoder", bytes).map_err(smaller)?;
        let mut known = std::collections::BTreeSet::new();
        let decoder = Self::build(config, &mut |name, shape| {
            let value = match name.ends_with("_proj.weight") {
                true => weights.read_frozen(&name, shape, device, dtype)?,
                false => weights.read(&name, shape, device, dtype)?,
            };
            known.insert(name.clone());
            Ok(Param::frozen(name, value))
        })
        .map_err(smaller)?;
        // Tied models may store the output projection too, and old files the rotary frequencies.
        let needless = |name: &str| name == "lm_head.weight" || name.ends_with("rotary_emb.inv_freq");
        match weights.names().find(|&name| !known.contains(name) && !needless(name)) {
            Some(unknown) => Err(Error::invalid(
                dir,
                format!("tensor {unknown}"),
                "the configuration has no place for it, so its effect would be lost",
                "check that config.json belongs to these weights",
            )),
            None => Ok(decoder),
        }
    }

    /// A decoder with normal random weights, drawn from `seed`.
    pub fn random(
        config: DecoderConfig,
        seed: u64,
        device: &Device,
        dtype: DType,
        trainable: bool,
    ) -> Result<Self> {
        let normal = |_: &str, rng: &mut ChaCha8Rng, deviation, shape: &[usize]| {
            init::normal(rng, deviation, shape, device, dtype)
        };
        Self::random_of(config, seed, (device, dtype), trainable, normal)
    }

    /// What [`Decoder::as_loaded`] makes of a random decoder in f32, without making that on the device.
    pub fn random_as_loaded(config: DecoderConfig, seed: u64, device: &Device) -> Result<Self> {
        let normal = |name: &str, rng: &mut ChaCha8Rng, deviation, shape: &[usize]| {
            if !name.ends_with("_proj.weight") {
                return init::normal(rng, deviation, shape, device, DType::F32);
            }
            let len = count("normal", shape, DType::F32)?;
            Tensor::frozen(device, &init::normals(rng, deviation, len), shape)
        };
        Self::random_of(config, seed, (device, DType::F32), false, normal)
    }

    /// A random decoder, `normal` drawing a tensor of a name, a deviation and a shape.
    fn random_of(
        config: DecoderConfig,
        seed: u64,
        (device, dtype): (&Device, DType),
        trainable: bool,
        normal: impl Fn(&str, &mut ChaCha8Rng, f64, &[usize]) -> Result<Tensor>,
    ) -> Result<Self> {
        config.validate()?;
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        // Projections that add to the residual stream: smaller, so that its size does not grow with the depth.
        let residual = INITIAL_DEVIATION / (2.0 * config.num_hidden_layers as f64).sqrt();
        Self::build(config, &mut |name, shape| {
            let value = if name.ends_with(".bias") {
                Tensor::zeros(device, dtype, shape)?
            } else if shape.len() == 1 {
                Tensor::full(device, dtype, shape, 1.0)?
            } else {
                let adds = name.ends_with("o_proj.weight") || name.ends_with("down_proj.weight");
                let deviation = if adds { residual } else { INITIAL_DEVIATION };
                normal(&name, &mut rng, deviation, shape)?
            };
            Ok(if trainable { Param::trainable(name, value) } else { Param::frozen(name, value) })
        })
    }

    fn build(config: DecoderConfig, source: &mut Source) -> Result<Self> {
        let (d, vocab) = (config.hidden_size, config.vocab_size);
        let embed = source("model.embed_tokens.weight".into(), &[vocab, d])?;
        let layers =
            (0..config.num_hidden_layers).map(|i| build_layer(&config, i, source)).collect::<Result<_>>()?;
        let norm = source("model.norm.weight".into(), &[d])?;
        let lm_head = match config.tie_word_embeddings {
            true => None,
            false => Some(source("lm_head.weight".into(), &[vocab, d])?),
        };
        let geometry = Geometry {
            heads: config.num_attention_heads,
            kv_heads: config.num_key_value_heads,
            head_dim: config.head_dim,
            eps: config.rms_norm_eps,
            rope: Arc::new(config.rope_scaling.table(config.rope_theta, config.head_dim)?),
        };
        Ok(Decoder { config, embed, layers, norm, lm_head, checkpoint: false, geometry })
    }

    /// Writes `dir/config.json` and `dir/model.safetensors`, without adapters.
    pub fn save(&self, dir: &Path) -> Result<()> {
        let named = |param: &Param| (param.name().to_string(), param.value());
        let tensors: Vec<(String, Tensor)> = self.params().iter().map(named).collect();
        weights::write(dir, &tensors)?;
        let config = self.config.to_json();
        files::write_atomic(&dir.join("config.json"), |out| out.write_all(config.as_bytes()))
    }

    /// All parameters but the adapters'.
    pub fn params(&self) -> Vec<Param> {
        let mut params = vec![self.embed.clone()];
        for layer in &self.layers {
            params.push(layer.input_norm.clone());
            for linear in [&layer.q, &layer.k, &layer.v, &layer.o] {
                params.extend(linear.params().cloned());
            }
            params.extend(layer.head_norms.iter().flat_map(|norms| [norms.q.clone(), norms.k.clone()]));
            params.push(layer.post_norm.clone());
            for linear in [&layer.gate, &layer.up, &layer.down] {
                params.extend(linear.params().cloned());
            }
        }
        params.push(self.norm.clone());
        params.extend(self.lm_head.clone());
        params
    }

    /// Where the weights live.
    pub fn device(&self) -> Device {
        self.embed.value().device().clone()
    }

    /// The type computed in.
    pub fn dtype(&self) -> DType {
        self.embed.value().dtype()
    }

    /// A key and value cache without rows.
    pub fn new_cache(&self) -> Result<KvCache> {
        KvCache::new(&self.config, &self.device(), self.dtype())
    }

    /// Input rows `[n, d]` of token `ids`.
    pub fn embed_tokens(&self, ids: &[u32]) -> Result<Var> {
        apply(Embedding::new(Tensor::from_ids(&self.device(), ids)?), &[&self.embed.var()])
    }

    /// Input rows x `[n, d]` through all layers → `[n or read rows, d]`, before the final norm. Recorded.
    pub fn forward(&self, x: &Var, rows: &Rows) -> Result<Var> {
        self.run(x, rows, Resident::None)
    }

    /// As [`Decoder::forward`] against resident keys and values; not recorded.
    pub fn forward_cached(&self, x: &Var, rows: &Rows, resident: Resident) -> Result<Var> {
        no_grad(|| self.run(x, rows, resident))
    }

    fn run(&self, x: &Var, rows: &Rows, mut resident: Resident) -> Result<Var> {
        self.check(rows, resident.cache())?;
        let keep = self.checkpoint && matches!(resident, Resident::None);
        // Taken over at the end: a pass that fails leaves the cache as it was.
        let mut grown = Vec::new();
        let mut x = x.clone();
        let windowed = match self.config.sliding_window {
            Some(width) => Some(rows.windowed(width)?),
            None => None,
        };
        for (i, layer) in self.layers.iter().enumerate() {
            let is_last = i + 1 == self.layers.len();
            let rows = windowed.as_ref().filter(|_| self.config.window(i).is_some()).unwrap_or(rows);
            let pass = LayerPass {
                geometry: self.geometry.clone(),
                positions: rows.positions.clone(),
                index: rows.index.clone(),
                read: rows.read.clone().filter(|_| is_last),
                resident: resident.cache().filter(|c| c.rows() > 0).map(|c| c.layers[i].clone()),
                dropout_step: rows.dropout_step,
            };
            if keep {
                let layer = layer.clone();
                let section = move |x: &[Var]| {
                    let _range = profile::range(|| format!("layer {i}"));
                    Ok(layer.forward(&x[0], &pass)?.hidden)
                };
                x = checkpoint(section, &[&x])?;
                continue;
            }
            let _range = profile::range(|| format!("layer {i}"));
            let output = layer.forward(&x, &pass)?;
            if let Resident::Extend(_) = resident {
                grown.push((output.keys.into_value(), output.values.into_value()));
            }
            x = output.hidden;
        }
        if let Resident::Extend(cache) = &mut resident {
            cache.layers = grown;
        }
        Ok(x)
    }

    /// Position ids must lie in the context, and the index must run over resident and own rows.
    fn check(&self, rows: &Rows, cache: Option<&KvCache>) -> Result<()> {
        let context = self.config.max_position_embeddings;
        if let Some(deepest) = rows.deepest.filter(|&p| p as usize >= context) {
            return Err(Error::setting(
                format!(
                    "a text or forest is {} tokens deep, the decoder's context is {context}",
                    deepest + 1
                ),
                "shorten the history, the prompt or the text, or choose a decoder with a longer context",
            ));
        }
        let (resident, layers) = cache.map_or((0, self.layers.len()), |c| (c.rows(), c.layers.len()));
        if layers != self.layers.len() || rows.index.keys() != resident + rows.len() {
            let problem = format!(
                "the index runs over {} keys, there are {resident} resident and {} own rows in {layers} layers",
                rows.index.keys(),
                rows.len()
            );
            return Err(Error::shape("decoder", problem));
        }
        Ok(())
    }

    /// The final norm of hidden rows `[n, d]`.
    pub fn final_norm(&self, hidden: &Var) -> Result<Var> {
        apply(RmsNorm::new(self.config.rms_norm_eps), &[hidden, &self.norm.var()])
    }

    /// Logits `[n, vocab]` of rows `[n, d]` that [`Decoder::final_norm`] gave.
    pub fn logits(&self, normed: &Var) -> Result<Var> {
        let table = self.lm_head.as_ref().unwrap_or(&self.embed).var();
        apply(ops::Linear::default(), &[normed, &table])
    }
}

fn build_layer(config: &DecoderConfig, index: usize, source: &mut Source) -> Result<Layer> {
    let (d, f) = (config.hidden_size, config.intermediate_size);
    let (q, kv) = (config.query_width(), config.key_width());
    let name = |part: &str| format!("model.layers.{index}.{part}");
    let mut linear = |module: &str, input: usize, output: usize, bias: bool| {
        let weight = source(name(&format!("{module}.weight")), &[output, input])?;
        let bias = if bias { Some(source(name(&format!("{module}.bias")), &[output])?) } else { None };
        Ok::<_, Error>(Linear::new(weight, bias))
    };
    let (attention, mlp) = (config.attention_bias, config.mlp_bias);
    let layer = Layer {
        q: linear("self_attn.q_proj", d, q, attention)?,
        k: linear("self_attn.k_proj", d, kv, attention)?,
        v: linear("self_attn.v_proj", d, kv, attention)?,
        o: linear("self_attn.o_proj", q, d, config.output_bias())?,
        head_norms: None,
        gate: linear("mlp.gate_proj", d, f, mlp)?,
        up: linear("mlp.up_proj", d, f, mlp)?,
        down: linear("mlp.down_proj", f, d, mlp)?,
        input_norm: source(name("input_layernorm.weight"), &[d])?,
        post_norm: source(name("post_attention_layernorm.weight"), &[d])?,
    };
    if !config.head_norms() {
        return Ok(layer);
    }
    let mut norm = |part: &str| source(name(part), &[config.head_dim]);
    let norms = HeadNorms { q: norm("self_attn.q_norm.weight")?, k: norm("self_attn.k_norm.weight")? };
    Ok(Layer { head_norms: Some(norms), ..layer })
}
