//! The LE as a PEFT folder: adapters and score head as PEFT keeps them, item tokens, and `le.json`, written last.

use super::adapter_config::{self, ADAPTER_CONFIG, AdapterConfig};
use super::config::LeConfig;
use super::environment::{Environment, Prompt};
use super::item_file::{ITEM_TOKENS, ItemTokenOrigin, check_finite, read_item_tokens, write_item_tokens};
use crate::autograd::Param;
use crate::data::Dataset;
use crate::decoder::{AdapterShape, Decoder, DecoderIdentity, LoraConfig, ModelFolder};
use crate::device::{DType, Device};
use crate::files::{self, FileHash};
use crate::tensor::Tensor;
use crate::tensor::file::{self, TensorFile};
use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

const FORMAT: &str = "lea-le-1";
const RECORD: &str = "le.json";
const ADAPTERS: &str = "adapter_model.safetensors";
/// The score head `[1, d]` under PEFT's name.
const HEAD: &str = "base_model.model.score.weight";

/// What an LE was made of and how.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LeRecord {
    /// The decoder below the adapters.
    pub decoder: DecoderIdentity,
    /// [`Dataset::items_hash`](crate::data::Dataset::items_hash) of the catalogue.
    pub items_hash: String,
    /// [`Dataset::hash`](crate::data::Dataset::hash) of the data it was trained on.
    pub data_hash: String,
    /// [`Split::hash`](crate::data::Split::hash): whose users trained it.
    pub split_hash: String,
    /// Seed of its training.
    pub seed: u64,
    /// All settings, those of labelling being only its defaults.
    pub settings: LeConfig,
    /// Metrics of training, and quality on held-out users.
    pub training: serde_json::Value,
}

impl LeRecord {
    /// Refuses a data set whose items or texts are not those that the item tokens were made of. Other users and other
    /// interactions are welcome.
    pub fn check_items(&self, dataset: &Dataset) -> Result<()> {
        if self.items_hash == dataset.items_hash() {
            return Ok(());
        }
        let problem = format!("the items or texts of {} are not those of the LE", dataset.name);
        let remedy =
            "give the data, text columns and filters that the LE was made with, or fit an LE for this data";
        Err(Error::setting(problem, remedy))
    }
}

/// `le.json`.
#[derive(Serialize, Deserialize)]
struct Stored {
    format: String,
    /// Size of the catalogue.
    items: usize,
    /// What the prompt's texts were when the LE was trained, whatever a tokenizer makes of them later.
    prompt_tokens: Prompt,
    #[serde(flatten)]
    record: LeRecord,
    /// The folder's other files.
    files: Vec<FileHash>,
}

/// An LE that was read from its folder. Its adapters are in place, not merged.
#[derive(Debug)]
pub struct LoadedLe {
    /// The environment.
    pub env: Environment,
    /// What it was made of.
    pub record: LeRecord,
    /// Hex SHA-256 of `le.json`, which names the hashes of all other files.
    pub hash: String,
}

/// Writes `env` into `dir`, replacing the files of an LE that was there. `decoder_dir` is named as PEFT's base model.
///
/// # Errors
/// Parameters that are not finite numbers, and whatever the file system refuses.
pub fn save(env: &Environment, record: &LeRecord, decoder_dir: &Path, dir: &Path) -> Result<()> {
    if env.history != record.settings.history {
        let problem =
            format!("the LE reads {} items, its settings say {}", env.history, record.settings.history);
        return Err(Error::setting(problem, "record the settings that the LE was trained with"));
    }
    let adapters = dir.join(ADAPTERS);
    let head = env.head.value().reshape(&[1, env.width()])?;
    let mut tensors = vec![(HEAD.to_string(), head)];
    tensors.extend(env.decoder.lora_params().iter().map(|p| (p.name().to_string(), p.value())));
    tensors.iter().try_for_each(|(name, tensor)| check_finite(&adapters, name, tensor))?;
    check_finite(&dir.join(ITEM_TOKENS), "item_tokens", &env.items.value())?;
    // From here on, an old le.json must not vouch for new files.
    remove_record(&dir.join(RECORD))?;
    // PEFT and transformers look for this mark.
    file::write(&adapters, &tensors, &BTreeMap::from([("format".to_string(), "pt".to_string())]))?;
    write_item_tokens(&dir.join(ITEM_TOKENS), &env.items.value(), &origin(record))?;
    adapter_config::save(&record.settings.fit.lora, decoder_dir, dir)?;
    // The folder of the decoder is no part of the LE: adapter_config.json names it and is checked by its meaning.
    let hashes = [ADAPTERS, ITEM_TOKENS].map(|name| FileHash::of(&dir.join(name)));
    let stored = Stored {
        format: FORMAT.into(),
        items: env.catalogue(),
        prompt_tokens: env.prompt.clone(),
        record: record.clone(),
        files: hashes.into_iter().collect::<Result<_>>()?,
    };
    files::write_atomic(&dir.join(RECORD), |out| {
        serde_json::to_writer_pretty(&mut *out, &stored)?;
        out.write_all(b"\n")
    })
}

fn remove_record(path: &Path) -> Result<()> {
    match std::fs::remove_file(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(Error::io(path, e)),
        _ => Ok(()),
    }
}

fn origin(record: &LeRecord) -> ItemTokenOrigin {
    ItemTokenOrigin { items_hash: record.items_hash.clone(), decoder_hash: record.decoder.hash() }
}

/// Reads the LE in `dir` on top of the decoder in `decoder_dir`, computed with in `dtype`; see [`load_on`].
pub fn load(dir: &Path, decoder_dir: &Path, device: &Device, dtype: DType) -> Result<LoadedLe> {
    let folder = ModelFolder::open(decoder_dir)?;
    load_on(dir, &folder.decoder(device, dtype)?, &folder.identity()?)
}

/// Reads the LE in `dir` on top of `base`, the decoder `identity`, whose weights it shares. Every value comes from the
/// files: nothing is ever left at random.
///
/// # Errors
/// A folder that was not written to its end; another decoder than the LE was trained on; adapters, a head or item
/// tokens that are missing, of another shape, unknown, damaged or changed after they were written.
pub fn load_on(dir: &Path, base: &Decoder, identity: &DecoderIdentity) -> Result<LoadedLe> {
    let (stored, hash) = read_record(dir)?;
    let record = stored.record;
    if let Some(difference) = record.decoder.difference(identity) {
        let problem = format!("the LE was trained on another decoder than is given: {difference}");
        let remedy = "name the decoder that it was trained on, or fit an LE for this one";
        return Err(Error::invalid(dir.join(RECORD), "decoder", problem, remedy));
    }
    check_adapter_config(dir, &record, base.layers.len())?;
    let file = TensorFile::open(&dir.join(ADAPTERS))?;
    let (decoder, head) = read_adapters(&file, base, &record.settings.fit.lora)?;
    let prompt = stored.prompt_tokens;
    let vocab = decoder.config.vocab_size;
    if let Some(token) =
        [&prompt.root, &prompt.stem, &prompt.closing].into_iter().flatten().find(|&&t| t as usize >= vocab)
    {
        let problem = format!("token {token} is not below the decoder's {vocab}");
        return Err(Error::invalid(dir.join(RECORD), "prompt_tokens", problem, "fit the LE again"));
    }
    let shape = [stored.items, decoder.config.hidden_size];
    let (device, dtype) = (decoder.device(), decoder.dtype());
    let items = read_item_tokens(&dir.join(ITEM_TOKENS), shape, &origin(&record), &device, dtype)?;
    let remedy = "the file was changed after it was written: restore it, or fit the LE again";
    stored.files.iter().try_for_each(|hash| hash.check(dir, remedy))?;
    let env = Environment {
        decoder,
        items: Param::frozen("item_tokens", items),
        head: Param::frozen("score", head),
        prompt,
        history: record.settings.history,
    };
    Ok(LoadedLe { env, record, hash })
}

/// What the LE in `dir` was made of, and the size of its catalogue, by its record alone.
pub fn record_of(dir: &Path) -> Result<(LeRecord, usize)> {
    read_record(dir).map(|(stored, _)| (stored.record, stored.items))
}

/// Reads `le.json` and its hash.
fn read_record(dir: &Path) -> Result<(Stored, String)> {
    let path = dir.join(RECORD);
    if !path.is_file() {
        let problem = format!("{} holds no {RECORD}: no LE was written to its end there", dir.display());
        let foreign = dir.join(ADAPTER_CONFIG).exists() && !dir.join(ITEM_TOKENS).exists();
        let remedy = match foreign {
            true => "make an LE of an adapter of peft with lea fit --adapter",
            false => "run lea fit again, or name the folder of an LE",
        };
        return Err(Error::setting(problem, remedy));
    }
    let text = files::read_text(&path)?;
    let broken = |place: String, problem: String| Error::invalid(&path, place, problem, "fit the LE again");
    let stored: Stored =
        serde_json::from_str(&text).map_err(|e| broken(format!("line {}", e.line()), e.to_string()))?;
    if stored.format != FORMAT {
        return Err(broken("format".into(), format!("{:?} where {FORMAT:?} is expected", stored.format)));
    }
    let named: BTreeSet<&str> = stored.files.iter().map(|hash| &hash.file[..]).collect();
    if named != BTreeSet::from([ADAPTERS, ITEM_TOKENS]) {
        return Err(broken(
            "files".into(),
            format!("{named:?} where {ADAPTERS} and {ITEM_TOKENS} are expected"),
        ));
    }
    stored.record.settings.check()?;
    Ok((stored, files::sha256(text.as_bytes())))
}

/// Adapters and score head that were trained elsewhere.
pub struct Adapted {
    /// The decoder with its adapters in place, trainable, not merged.
    pub decoder: Decoder,
    /// Score head θ `[d]`.
    pub head: Tensor,
    /// What the adapters are, as settings of an LE name them.
    pub lora: LoraConfig,
}

/// Reads the PEFT folder `dir`, made by `peft` or by [`save`], for `base`: LoRA adapters of a sequence classifier
/// with one label. Item tokens and prompts are no part of such a folder.
///
/// # Errors
/// Settings whose effect would be lost, by name; adapters or a head that are missing, unknown or of another shape.
pub fn read_adapter(dir: &Path, base: &Decoder) -> Result<Adapted> {
    let (config, file) = open_adapter(dir)?;
    let lora = config.lora(base.layers.len())?;
    let (decoder, head) = read_adapters(&file, base, &lora)?;
    Ok(Adapted { decoder, head, lora })
}

/// What the PEFT folder `dir` says of its adapters, after all checks of [`read_adapter`] that need no decoder; the number of
/// layers, where no decoder tells it, is that which the tensors name.
///
/// # Errors
/// As of [`read_adapter`].
pub fn survey_adapter(dir: &Path) -> Result<(LoraConfig, Vec<AdapterShape>)> {
    let (config, file) = open_adapter(dir)?;
    let names = file.names();
    let layer = |name: &String| {
        let number = name.strip_prefix("base_model.model.model.layers.")?.split('.').next()?;
        number.parse::<usize>().ok()
    };
    // A number beyond those of any decoder's layers has no place, and is told as such.
    let numbers = names.iter().filter_map(layer).filter(|&number| number < 4096);
    let layers = numbers.max().map_or(1, |last| last + 1);
    let lora = config.lora(layers)?;
    check_tensors(&file, &lora, layers)?;
    for name in &names {
        let shape = file.shape(name).unwrap_or_default();
        check_finite(file.path(), name, &file.read(name, shape, &Device::Cpu, DType::F32)?)?;
    }
    let adapters = lora.adapters(layers)?;
    Ok((lora, adapters))
}

fn open_adapter(dir: &Path) -> Result<(AdapterConfig, TensorFile)> {
    let path = dir.join(ADAPTERS);
    if !path.exists() && dir.join("adapter_model.bin").exists() {
        let problem = "the adapter lies in adapter_model.bin, which may run programs when it is read";
        let remedy = "save it with safe_serialization=True";
        return Err(Error::invalid(dir, ADAPTERS, problem, remedy));
    }
    let config = AdapterConfig::load(dir)?;
    Ok((config, TensorFile::open(&path)?))
}

/// PEFT's description and the LE's own settings must mean the same adapters.
fn check_adapter_config(dir: &Path, record: &LeRecord, layers: usize) -> Result<()> {
    let (found, expected) = (AdapterConfig::load(dir)?.lora(layers)?, &record.settings.fit.lora);
    let same = found.adapters(layers)? == expected.adapters(layers)?;
    if same && (found.use_rslora, found.dropout) == (expected.use_rslora, expected.dropout) {
        return Ok(());
    }
    let problem = format!("the adapters are {found:?}, {RECORD} says {expected:?}");
    let remedy = "restore the file, or fit the LE again";
    Err(Error::invalid(dir.join(ADAPTER_CONFIG), "adapters", problem, remedy))
}

/// `base` with the adapters `lora` filled from the file, and the head `[d]`.
fn read_adapters(file: &TensorFile, base: &Decoder, lora: &LoraConfig) -> Result<(Decoder, Tensor)> {
    let path = file.path();
    check_tensors(file, lora, base.layers.len())?;
    let mut decoder = base.clone();
    decoder.add_lora(lora, 0)?;
    let params = decoder.lora_params();
    let read = |name: &str, shape: &[usize]| {
        let tensor = file.read(name, shape, &decoder.device(), decoder.dtype())?;
        check_finite(path, name, &tensor)?;
        Ok::<_, Error>(tensor)
    };
    for param in &params {
        param.set(read(param.name(), param.value().shape())?);
    }
    let width = decoder.config.hidden_size;
    let head = read(HEAD, &[1, width])?.reshape(&[width])?;
    Ok((decoder, head))
}

/// Refuses a file without a head of one label, without the adapters `lora` or with others, or of other ranks, before
/// adapters of that size are made.
fn check_tensors(file: &TensorFile, lora: &LoraConfig, layers: usize) -> Result<()> {
    let wrong = |name: &str, problem: String, remedy: &str| {
        Err(Error::invalid(file.path(), format!("tensor {name}"), problem, remedy))
    };
    match file.shape(HEAD) {
        None => {
            let problem = "the score head is missing, and rewards of any other head would be noise";
            let remedy = "save it with modules_to_save [\"score\"], or fit the LE again";
            return wrong(HEAD, problem.into(), remedy);
        }
        Some([labels, width]) if *labels != 1 => {
            let problem =
                format!("the shape is [{labels}, {width}], expected [1, {width}]: a head of one label");
            return wrong(HEAD, problem, "train the adapter with num_labels=1");
        }
        Some(_) => {}
    }
    let belongs = "check that adapter_config.json belongs to these adapters";
    let mut known = BTreeSet::from([HEAD.to_string()]);
    for adapter in lora.adapters(layers)? {
        for (matrix, axis) in [("lora_A", 0), ("lora_B", 1)] {
            let name = format!("base_model.model.{}.{matrix}.weight", adapter.module);
            match file.shape(&name).map(|shape| shape.get(axis).copied().unwrap_or(0)) {
                Some(rank) if rank == adapter.rank => {}
                Some(rank) => {
                    return wrong(&name, format!("the rank is {rank}, expected {}", adapter.rank), belongs);
                }
                None => return wrong(&name, "the tensor is missing".into(), belongs),
            }
            known.insert(name);
        }
    }
    match file.names().iter().find(|name| !known.contains(&name[..])) {
        None => Ok(()),
        Some(name) => {
            let problem = "the adapters have no place for it, so its effect would be lost";
            wrong(name, problem.into(), belongs)
        }
    }
}
