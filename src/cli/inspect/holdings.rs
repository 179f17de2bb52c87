//! What a folder or file can hold, and what is told of it.

use super::super::pipeline::base::OpenBase;
use super::memory::DataSize;
use super::{adapter, unfinished};
use crate::data::{LoadOptions, Split, Stats, is_data_folder, load};
use crate::decoder::{Decoder, DecoderConfig, RopeScaling, Tokenizer, weights::Weights};
use crate::device::Device;
use crate::le::{ITEM_TOKENS, LeConfig, MANIFEST, SPLIT, labels_left, peft, read_manifest};
use crate::rec::saved;
use crate::report::Metrics;
use crate::run_folder::{half_written, survey};
use crate::tensor::file::TensorFile;
use crate::{Error, Result};
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
    UnmergedLabels,
    Recommender,
    Tensors,
    Run,
    Evaluation,
    Split,
    Tokenizer,
    HalfWritten,
}

/// Content and its folder, or the file of a recommender.
pub(super) struct Holding {
    pub kind: Kind,
    pub place: PathBuf,
}

/// What was learned on the way that bears on memory.
#[derive(Default)]
pub(super) struct Found {
    /// How data is read.
    pub options: LoadOptions,
    pub decoder: Option<Decoder>,
    pub items: Option<usize>,
    pub data: Option<DataSize>,
    pub le: Option<LeConfig>,
}

pub(super) type Rows = Vec<(&'static str, String)>;

/// Folders in which the steps of a run leave their files.
const PARTS: [&str; 6] = ["data", "decoder", "items", "le", "labels", "rec"];

/// Files that tell of the folder in which they lie, and endings of such files.
const OF_FOLDERS: [&str; 10] = [
    "config.json",
    "le.json",
    "adapter_config.json",
    "dataset.json",
    "metrics.json",
    MANIFEST,
    "model.safetensors.index.json",
    SPLIT,
    TOKENIZER,
    TOKENIZER_CONFIG,
];
const TOKENIZER: &str = "tokenizer.json";
const TOKENIZER_CONFIG: &str = "tokenizer_config.json";
const ENDINGS: [&str; 3] = ["resume.json", ".part", ".tmp"];

/// All that `path`, or a part of a run in it, holds, told by its files, and what is wrong with parts that cannot be
/// looked into.
pub(super) fn find(path: &Path) -> Result<(Vec<Holding>, Vec<Error>)> {
    if !path.is_dir() {
        // What is not there, or not to be read, is told as such.
        std::fs::metadata(path).map_err(|e| Error::io(path, e))?;
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if OF_FOLDERS.contains(&&*name) || ENDINGS.iter().any(|ending| name.ends_with(ending)) {
            let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty());
            return Ok((of_folder(dir.unwrap_or(Path::new(".")))?, Vec::new()));
        }
        let tensors = path.extension().is_some_and(|extension| extension == "safetensors");
        let kind = if tensors { of_tensors(path) } else { Kind::Data };
        return Ok((vec![Holding { kind, place: path.to_path_buf() }], Vec::new()));
    }
    let (mut all, mut problems) = (of_folder(path)?, Vec::new());
    for part in PARTS.map(|part| path.join(part)).iter().filter(|part| part.is_dir()) {
        match of_folder(part) {
            Ok(found) => all.extend(found),
            Err(problem) => problems.push(problem),
        }
    }
    Ok((all, problems))
}

fn of_folder(dir: &Path) -> Result<Vec<Holding>> {
    let has = |name: &str| dir.join(name).is_file();
    let (le, decoder) = (has("le.json"), has("config.json"));
    let tables = ["dataset.json", "interactions.tsv", "interactions.tsv.gz", "events.tsv", "events.tsv.gz"];
    // What cannot be read is there: its description says what is wrong with it.
    let marks = [
        (Kind::Data, tables.iter().any(|name| has(name))),
        (Kind::Decoder, decoder),
        (Kind::ItemTokens, has(ITEM_TOKENS) && !le),
        (Kind::Le, le),
        (Kind::Adapter, has("adapter_config.json") && !le),
        (Kind::Labels, has(MANIFEST)),
        (Kind::UnmergedLabels, !has(MANIFEST) && !matches!(labels_left(dir), Ok(None))),
        (Kind::Run, !survey(dir).is_ok_and(|runs| runs.is_empty())),
        (Kind::Evaluation, has("metrics.json")),
        (Kind::Split, has(SPLIT)),
        (Kind::Tokenizer, has(TOKENIZER) && !decoder),
        (Kind::HalfWritten, !half_written(dir)?.is_empty()),
    ];
    let folder = |kind| Holding { kind, place: dir.to_path_buf() };
    let mut all: Vec<Holding> =
        marks.into_iter().filter(|(_, is)| *is).map(|(kind, _)| folder(kind)).collect();
    for entry in std::fs::read_dir(dir).map_err(|e| Error::io(dir, e))? {
        let path = entry.map_err(|e| Error::io(dir, e))?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let known = decoder || name.starts_with("labels-") || name.starts_with("checkpoint-");
        let known = known || [ITEM_TOKENS, "adapter_model.safetensors"].contains(&name.as_str());
        if name.ends_with(".safetensors") && !known {
            all.push(Holding { kind: of_tensors(&path), place: path });
        }
    }
    // Half a tokenizer: what is missing is told.
    if all.is_empty() && has(TOKENIZER_CONFIG) {
        all.push(folder(Kind::Tokenizer));
    }
    // Any JSON file could be reviews: raw data is looked for only where nothing else explains the files.
    if all.is_empty() && is_data_folder(dir) {
        all.push(folder(Kind::Data));
    }
    all[..].sort_by(|a, b| (a.place != dir, &a.place).cmp(&(b.place != dir, &b.place)));
    Ok(all)
}

/// What a safetensors file holds, by its metadata.
fn of_tensors(path: &Path) -> Kind {
    match TensorFile::open(path) {
        Ok(file) if file.metadata("recommender").is_some() => Kind::Recommender,
        _ => Kind::Tensors,
    }
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
            Kind::UnmergedLabels => "labels that are not finished",
            Kind::Recommender => "recommender",
            Kind::Tensors => "tensors",
            Kind::Run => "run",
            Kind::Evaluation => "evaluation",
            Kind::Split => "split",
            Kind::Tokenizer => "tokenizer",
            Kind::HalfWritten => "files left half written",
        }
    }

    /// Names and values, after the checks that the steps make.
    pub(super) fn describe(self, place: &Path, found: &mut Found) -> Result<Rows> {
        match self {
            Kind::Data => data(place, found),
            Kind::Decoder => decoder(place, found),
            Kind::ItemTokens => item_tokens(place, found),
            Kind::Le => le(place, found),
            Kind::Adapter => adapter::describe(place, found.decoder.as_ref()),
            Kind::Labels => labels(place, found),
            Kind::UnmergedLabels => unfinished::labels(place),
            Kind::Recommender => recommender(place),
            Kind::Tensors => tensors(place),
            Kind::Run => unfinished::runs(place),
            Kind::Evaluation => evaluation(place),
            Kind::Split => split(&place.join(SPLIT)),
            Kind::Tokenizer => tokenizer(place),
            Kind::HalfWritten => unfinished::half(place),
        }
    }
}

fn data(dir: &Path, found: &mut Found) -> Result<Rows> {
    let loaded = load(dir, &found.options)?;
    let stats = Stats::of(&loaded.dataset);
    found.items = Some(stats.items);
    found.data = Some(DataSize::of(&loaded.dataset));
    let files: Vec<&str> = loaded.sources.iter().map(|source| source.file.as_str()).collect();
    Ok(vec![
        ("format", format!("{}: {}", loaded.read.format, files.join(", "))),
        ("users", stats.users.to_string()),
        ("items", format!("{}, {:.1} % with text", stats.items, stats.text_coverage)),
        ("interactions", format!("{}, {:.1} a user", stats.interactions, stats.mean_length)),
    ])
}

fn decoder(dir: &Path, found: &mut Found) -> Result<Rows> {
    let opened = OpenBase::new(dir)?;
    let stored = weight_files(opened.weights());
    let base = opened.load(&Device::Cpu)?;
    let config = &base.decoder.config;
    let windowed = (0..config.num_hidden_layers).filter(|&layer| config.window(layer).is_some()).count();
    let window =
        config.sliding_window.map_or("none".to_string(), |width| format!("{width} in {windowed} layers"));
    let stretched = match config.rope_scaling {
        RopeScaling::None => String::new(),
        other => format!(", stretched: {other}"),
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
        ("weights", format!("{} in {}", config.parameters(), stored)),
        ("layers", config.num_hidden_layers.to_string()),
        ("widths", format!("hidden {}, feed-forward {}", config.hidden_size, config.intermediate_size)),
        ("heads", format!("{heads} over {kv_heads}, {} wide", config.head_dim)),
        ("vocabulary", format!("{}, tokenizer {}", config.vocab_size, base.tokenizer()?.vocab_size())),
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
fn weight_files(weights: &Weights) -> String {
    let bytes = weights.bytes();
    let count = weights.paths().count();
    let plural = if count == 1 { "file" } else { "files" };
    format!("{count} {plural}, {:.1} MB, {}", bytes as f64 / 1e6, weights.types().join(" and "))
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

fn split(path: &Path) -> Result<Rows> {
    let split = Split::survey(path)?;
    let users = match split.users {
        None => "each in every part: the last event is test, the one before it validation".to_string(),
        Some([train, validation, test]) => {
            format!("{train} for training, {validation} for validation, {test} for test")
        }
    };
    let le = &split.le;
    Ok(vec![
        ("protocol", format!("{}, seed {}", split.protocol.name(), split.seed)),
        ("users", users),
        ("LE", format!("{} users train it, {} judge it", le.users.len(), le.held_out.len())),
        ("data", split.data),
    ])
}

/// A tokenizer without a decoder.
fn tokenizer(dir: &Path) -> Result<Rows> {
    // Any number of tokens and no special ones: what the file itself says.
    let config = DecoderConfig {
        vocab_size: usize::MAX,
        bos_token_id: None,
        eos_token_ids: Vec::new(),
        ..DecoderConfig::default()
    };
    let tokenizer = Tokenizer::load(dir, &config)?;
    let token = |id: Option<u32>| id.map_or("none".to_string(), |id| id.to_string());
    Ok(vec![
        ("vocabulary", tokenizer.vocab_size().to_string()),
        (
            "opens, ends with",
            format!("{}, {}", token(tokenizer.bos()), token(tokenizer.eos().first().copied())),
        ),
        ("use", "of a decoder: put it beside its config.json and weights".into()),
    ])
}

fn labels(dir: &Path, found: &mut Found) -> Result<Rows> {
    let manifest = read_manifest(dir)?;
    let header = &manifest.header;
    // Each user has one event more than steps.
    let events = manifest.steps.saturating_add(header.users);
    found.items.get_or_insert(header.items);
    found.data.get_or_insert(DataSize::guessed(header.users, header.items, Some(events)));
    let rewards = &manifest.rewards;
    Ok(vec![
        ("users, steps", format!("{}, {} in {} files", header.users, manifest.steps, manifest.files.len())),
        ("negatives", header.negatives.to_string()),
        ("augmented actions", if header.augmented { "yes" } else { "no" }.to_string()),
        ("state", format!("{} wide", header.state_dim)),
        ("rewards", format!("mean {:.3}, deviation {:.3}", rewards.mean, rewards.deviation)),
        ("made by", header.made_by.clone()),
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

/// What `lea eval` or a run measured.
fn evaluation(dir: &Path) -> Result<Rows> {
    let metrics = Metrics::read(&dir.join("metrics.json"))?;
    let mut rows = vec![
        ("of", format!("{}, protocol {}, {} steps", metrics.data, metrics.protocol, metrics.test_steps)),
        ("HR@10, NDCG@10", format!("of {} recommenders", metrics.rows.len())),
    ];
    rows.extend(metrics.rows.iter().map(|row| {
        let name = format!("{} {} {}", row.encoder, row.framework, row.variant);
        ("", format!("{:.4} {:.4}  {name}", row.mean.hr_10, row.mean.ndcg_10))
    }));
    Ok(rows)
}

/// A safetensors file that nothing names: its first tensors with their shapes.
fn tensors(path: &Path) -> Result<Rows> {
    const SHOWN: usize = 12;
    let file = TensorFile::open(path)?;
    let names = file.names();
    let mut rows = vec![("tensors", format!("{}, {:.1} MB", names.len(), file.len() as f64 / 1e6))];
    let shape = |name: &String| format!("{name} {:?}", file.shape(name).unwrap_or_default());
    rows.extend(names.iter().take(SHOWN).map(|name| ("", shape(name))));
    Ok(rows)
}
