//! What a folder can hold, and what is told of it.

use super::super::pipeline::environment::Base;
use crate::Result;
use crate::data::{LoadOptions, Stats, load};
use crate::decoder::{Decoder, RopeScaling, weights::Weights};
use crate::device::Device;
use crate::le::{ITEM_TOKENS, LeConfig, MANIFEST, decoder_folder, peft, read_manifest};
use crate::rec::saved;
use crate::tensor::file::TensorFile;
use std::path::{Path, PathBuf};

/// Kinds of content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Data,
    Decoder,
    ItemTokens,
    Le,
    Adapter,
    Labels,
    Recommender,
}

/// Content and its folder, or the file of a recommender.
pub(super) struct Holding {
    pub kind: Kind,
    pub place: PathBuf,
}

/// What was learned on the way that bears on memory.
#[derive(Default)]
pub(super) struct Found {
    pub decoder: Option<Decoder>,
    pub items: Option<usize>,
    pub le: Option<LeConfig>,
}

type Rows = Vec<(&'static str, String)>;

/// Folders in which the steps of a run leave their files.
const PARTS: [&str; 6] = ["data", "decoder", "items", "le", "labels", "rec"];

/// All that `dir`, or a part of a run in it, holds, told by its files.
pub(super) fn find(dir: &Path) -> Vec<Holding> {
    let own = of_folder(dir);
    let parts = PARTS.iter().flat_map(|part| of_folder(&dir.join(part)));
    own.into_iter().chain(parts).map(|(kind, place)| Holding { kind, place }).collect()
}

fn of_folder(dir: &Path) -> Vec<(Kind, PathBuf)> {
    let has = |name: &str| dir.join(name).is_file();
    let le = has("le.json");
    let tables = ["dataset.json", "interactions.tsv", "interactions.tsv.gz", "events.tsv", "events.tsv.gz"];
    let marks = [
        (Kind::Data, tables.iter().any(|name| has(name))),
        (Kind::Decoder, has("config.json")),
        (Kind::ItemTokens, has(ITEM_TOKENS) && !le),
        (Kind::Le, le),
        (Kind::Adapter, has("adapter_config.json") && !le),
        (Kind::Labels, has(MANIFEST)),
        (Kind::Recommender, has("recommender.safetensors")),
    ];
    marks.into_iter().filter(|(_, is)| *is).map(|(kind, _)| (kind, dir.to_path_buf())).collect()
}

impl Kind {
    pub(super) fn name(self) -> &'static str {
        match self {
            Kind::Data => "data set",
            Kind::Decoder => "decoder",
            Kind::ItemTokens => "item tokens",
            Kind::Le => "LE",
            Kind::Adapter => "adapter of peft",
            Kind::Labels => "labels",
            Kind::Recommender => "recommender",
        }
    }

    /// Names and values, after the checks that the steps make.
    pub(super) fn describe(self, place: &Path, found: &mut Found) -> Result<Rows> {
        match self {
            Kind::Data => data(place, found),
            Kind::Decoder => decoder(place, found),
            Kind::ItemTokens => item_tokens(place, found),
            Kind::Le => le(place, found),
            Kind::Adapter => adapter(place, found),
            Kind::Labels => labels(place),
            Kind::Recommender => recommender(&place.join("recommender.safetensors")),
        }
    }
}

fn data(dir: &Path, found: &mut Found) -> Result<Rows> {
    let stats = Stats::of(&load(dir, &LoadOptions::default())?.dataset);
    found.items = Some(stats.items);
    Ok(vec![
        ("users", stats.users.to_string()),
        ("items", format!("{}, {:.1} % with text", stats.items, stats.text_coverage)),
        ("interactions", format!("{}, {:.1} a user", stats.interactions, stats.mean_length)),
    ])
}

fn decoder(dir: &Path, found: &mut Found) -> Result<Rows> {
    let base = Base::load(dir, &Device::Cpu)?;
    let config = &base.decoder.config;
    let windowed = (0..config.num_hidden_layers).filter(|&layer| config.window(layer).is_some()).count();
    let window =
        config.sliding_window.map_or("none".to_string(), |width| format!("{width} in {windowed} layers"));
    let stretched = match config.rope_scaling {
        RopeScaling::None => String::new(),
        other => format!(", {other:?}"),
    };
    let yes = |parts: &[(&str, bool)]| {
        let parts: Vec<&str> = parts.iter().filter(|(_, is)| *is).map(|(name, _)| *name).collect();
        if parts.is_empty() { "none".to_string() } else { parts.join(", ") }
    };
    let extras = yes(&[
        ("tied embeddings", config.tie_word_embeddings),
        ("attention bias", config.attention_bias),
        ("feed-forward bias", config.mlp_bias),
        ("norms of heads", config.head_norms()),
    ]);
    let (heads, kv_heads) = (config.num_attention_heads, config.num_key_value_heads);
    let rows = vec![
        ("family", config.family.name().to_string()),
        ("weights", format!("{} in {}", config.parameters(), files(dir)?)),
        ("layers", config.num_hidden_layers.to_string()),
        ("widths", format!("hidden {}, feed-forward {}", config.hidden_size, config.intermediate_size)),
        ("heads", format!("{heads} over {kv_heads}, {} wide", config.head_dim)),
        ("vocabulary", format!("{}, tokenizer {}", config.vocab_size, base.tokenizer.vocab_size())),
        ("context", config.max_position_embeddings.to_string()),
        ("sliding window", window),
        ("rotary base", format!("{}{stretched}", config.rope_theta)),
        ("besides", extras),
        ("identity", base.identity.hash()),
    ];
    found.decoder = Some(base.decoder);
    Ok(rows)
}

/// "2 files, 540 MB, BF16".
fn files(dir: &Path) -> Result<String> {
    let weights = Weights::open(dir)?;
    let bytes = weights.bytes();
    let count = weights.paths().count();
    let plural = if count == 1 { "file" } else { "files" };
    Ok(format!("{count} {plural}, {:.1} MB, {}", bytes as f64 / 1e6, weights.types().join(" and ")))
}

fn item_tokens(dir: &Path, found: &mut Found) -> Result<Rows> {
    let file = TensorFile::open(&dir.join(ITEM_TOKENS))?;
    let shape = file.shape("item_tokens").unwrap_or_default();
    found.items = shape.first().copied().or(found.items);
    Ok(vec![("item tokens", format!("{shape:?}"))])
}

fn le(dir: &Path, found: &mut Found) -> Result<Rows> {
    let (record, items) = peft::record_of(dir)?;
    let settings = &record.settings;
    let lora = &settings.fit.lora;
    found.items = Some(items);
    found.le = Some(settings.clone());
    let prompt = &settings.prompt;
    Ok(vec![
        ("items", items.to_string()),
        ("adapters", format!("rank {}, α {}, on {}", lora.rank, lora.alpha, lora.targets.join(", "))),
        ("history", settings.history.to_string()),
        ("prompt", format!("root {:?}, stem {:?}, closing {:?}", prompt.root, prompt.stem, prompt.closing)),
        ("decoder", record.decoder.hash()),
    ])
}

fn adapter(dir: &Path, found: &Found) -> Result<Rows> {
    let mut rows = vec![("decoder", decoder_folder(dir)?.display().to_string())];
    match &found.decoder {
        Some(decoder) => {
            let lora = peft::read_adapter(dir, decoder)?.lora;
            let adapters = lora.adapters(decoder.layers.len())?.len();
            rows.push(("adapters", format!("{adapters}, on {}", lora.targets.join(", "))));
        }
        None => rows.push(("use", "lea fit --adapter, with its decoder".into())),
    }
    Ok(rows)
}

fn labels(dir: &Path) -> Result<Rows> {
    let manifest = read_manifest(dir)?;
    let header = &manifest.header;
    let rewards = &manifest.rewards;
    Ok(vec![
        ("users, steps", format!("{}, {} in {} files", header.users, manifest.steps, manifest.files.len())),
        ("negatives", header.negatives.to_string()),
        ("augmented actions", if header.augmented { "yes" } else { "no" }.to_string()),
        ("state", format!("{} wide", header.state_dim)),
        ("rewards", format!("mean {:.3}, deviation {:.3}", rewards.mean, rewards.deviation)),
        ("LE", header.le_hash.clone()),
        ("decoder", header.decoder_hash.clone()),
    ])
}

fn recommender(path: &Path) -> Result<Rows> {
    let (network, _) = saved::load(path, &Device::Cpu)?;
    let config = network.config();
    let name = format!("{} {} {}", config.encoder.name(), config.framework.name(), config.variant_name());
    Ok(vec![("recommender", name), ("items", network.items().to_string())])
}
