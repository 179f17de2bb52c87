//! Text to token ids and back: a `tokenizer.json`, read from a model folder or trained on texts.

use super::guarded::guarded;
use super::{DecoderConfig, bpe, json_syntax};
use crate::{Error, Result, files};
use rayon::prelude::*;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::Path;
use tokenizers::models::bpe::{BPE, Vocab};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::processors::template::TemplateProcessing;
use tokenizers::{AddedToken, OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer};

const FILE: &str = "tokenizer.json";
const CONFIG: &str = "tokenizer_config.json";
/// Specials of a trained tokenizer: ids 0 and 1.
const BOS: &str = "<s>";
const EOS: &str = "</s>";

/// A tokenizer with the tokens that open and end a text.
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    bos: Option<u32>,
    eos: Vec<u32>,
    /// Tokens that the decoder knows; ids stay below.
    known: usize,
}

impl Tokenizer {
    /// Smallest vocabulary of [`Tokenizer::train`]: two special tokens and every byte.
    pub const LEAST_VOCAB: usize = 2 + 256;

    /// Reads `dir/tokenizer.json`. The opening and ending tokens are those of `config`, else of
    /// `tokenizer_config.json`.
    pub fn load(dir: &Path, config: &DecoderConfig) -> Result<Self> {
        let path = dir.join(FILE);
        let remedy = "take tokenizer.json from the model's publisher again";
        let broken = |e: tokenizers::Error| Error::invalid(&path, "tokenizer", e.to_string(), remedy);
        let text = files::read_text(&path)?;
        json_syntax::check(&text).map_err(|e| broken(e.into()))?;
        check_model(&text).map_err(|problem| broken(problem.into()))?;
        let parsed = guarded(|| tokenizers::Tokenizer::from_bytes(&text));
        let mut inner = parsed.unwrap_or_else(|| Err("a part of it is damaged".into())).map_err(broken)?;
        // Some publishers leave the settings of their own batches in the file.
        inner.with_padding(None).with_truncation(None).map_err(broken)?;
        let named = named_specials(&inner, &dir.join(CONFIG))?;
        let bos = config.bos_token_id.or(named.0);
        let eos = if config.eos_token_ids.is_empty() {
            named.1.into_iter().collect()
        } else {
            config.eos_token_ids.clone()
        };
        Ok(Tokenizer { inner, bos, eos, known: config.vocab_size })
    }

    /// Trains a byte-level BPE of at most `vocab_size` tokens on `texts`. The same texts give the same tokenizer.
    pub fn train<'a>(texts: impl IntoIterator<Item = &'a str>, vocab_size: usize) -> Result<Self> {
        let alphabet = ByteLevel::alphabet().into_iter().collect();
        let least = Self::LEAST_VOCAB;
        if vocab_size < least {
            return Err(Error::setting(
                format!("vocab_size is {vocab_size}: two special tokens and 256 bytes do not fit"),
                format!("set vocab_size to {least} or more"),
            ));
        }
        let split = ByteLevel::new(false, true, true);
        let mut words = BTreeMap::new();
        for text in texts {
            for word in split_words(&split, text).map_err(failed)? {
                *words.entry(word).or_insert(0) += 1;
            }
        }
        let learned = bpe::learn(&words, &[BOS, EOS], &alphabet, vocab_size);
        let inner = assemble(learned, split).map_err(failed)?;
        let known = inner.get_vocab_size(true);
        Ok(Tokenizer { inner, bos: Some(0), eos: vec![1], known })
    }

    /// Writes `dir/tokenizer.json` and `dir/tokenizer_config.json`, which Hugging Face's libraries read.
    pub fn save(&self, dir: &Path) -> Result<()> {
        let text = self.inner.to_string(true).map_err(failed)?;
        files::write_atomic(&dir.join(FILE), |out| out.write_all(text.as_bytes()))?;
        let name = |id: Option<u32>| id.and_then(|id| self.inner.id_to_token(id));
        let config = serde_json::json!({
            "tokenizer_class": "PreTrainedTokenizerFast",
            "bos_token": name(self.bos),
            "eos_token": name(self.eos.first().copied()),
            "clean_up_tokenization_spaces": false,
        });
        files::write_atomic(&dir.join(CONFIG), |out| writeln!(out, "{config:#}"))
    }

    /// Ids of `text` alone, without opening and ending tokens.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>> {
        let encoded = guarded(|| self.inner.encode_fast(text, false));
        let encoded = encoded.unwrap_or_else(|| Err(GAVE_UP.into())).map_err(failed)?;
        let ids = encoded.get_ids().to_vec();
        match ids.iter().find(|&&id| id as usize >= self.known) {
            Some(id) => Err(Error::setting(
                format!(
                    "the tokenizer makes token {id} of {text:?}, the decoder knows {} tokens",
                    self.known
                ),
                "check that tokenizer.json belongs to the decoder",
            )),
            None => Ok(ids),
        }
    }

    /// [`Tokenizer::encode`] of many texts, in their order, on all threads.
    pub fn encode_all<S: AsRef<str> + Sync>(&self, texts: &[S]) -> Result<Vec<Vec<u32>>> {
        texts.par_iter().map(|text| self.encode(text.as_ref())).collect()
    }

    /// Ids of a text to go on from: the opening token, if there is one, and the text.
    pub fn encode_prompt(&self, text: &str) -> Result<Vec<u32>> {
        let mut ids: Vec<u32> = self.bos.into_iter().collect();
        ids.extend(self.encode(text)?);
        Ok(ids)
    }

    /// Text of `ids`, special tokens left out. Bytes that are no UTF-8 come out as U+FFFD.
    pub fn decode(&self, ids: &[u32]) -> Result<String> {
        guarded(|| self.inner.decode(ids, true)).unwrap_or_else(|| Err(GAVE_UP.into())).map_err(failed)
    }

    /// The token that opens a text.
    pub fn bos(&self) -> Option<u32> {
        self.bos
    }

    /// The tokens that end a text; the first is the one to write.
    pub fn eos(&self) -> &[u32] {
        &self.eos
    }

    /// Number of tokens, specials included.
    pub fn vocab_size(&self) -> usize {
        self.inner.get_vocab_size(true)
    }
}

/// What is told where the library panicked.
const GAVE_UP: &str = "the text cannot be brought through it, a part of it is damaged";

/// Refuses a model whose splits are drawn at random, and prefixes that its library does not guard.
fn check_model(text: &str) -> Result<(), String> {
    #[derive(Deserialize)]
    struct File {
        model: Option<Model>,
    }
    #[derive(Deserialize)]
    struct Model {
        dropout: Option<f64>,
        continuing_subword_prefix: Option<String>,
        vocab: Option<serde::de::IgnoredAny>,
        merges: Option<serde::de::IgnoredAny>,
    }
    let file: File = serde_json::from_str(text).map_err(|e| e.to_string())?;
    let Some(model) = file.model else { return Ok(()) };
    if let Some(share) = model.dropout.filter(|&share| share != 0.0) {
        return Err(format!("model.dropout is {share}: the same text would become other tokens each time"));
    }
    let merged = model.vocab.is_some() && model.merges.is_some();
    match model.continuing_subword_prefix.filter(|prefix| merged && !prefix.is_empty()) {
        Some(prefix) => Err(format!("model.continuing_subword_prefix {prefix:?} is not supported")),
        None => Ok(()),
    }
}

fn failed(error: tokenizers::Error) -> Error {
    Error::setting(format!("tokenizer: {error}"), "check tokenizer.json and the text")
}

/// Words of `text` as the byte-level alphabet spells them.
fn split_words(split: &ByteLevel, text: &str) -> tokenizers::Result<Vec<String>> {
    let mut pieces = PreTokenizedString::from(text);
    split.pre_tokenize(&mut pieces)?;
    let splits = pieces.get_splits(OffsetReferential::Original, OffsetType::None);
    Ok(splits.into_iter().map(|(word, _, _)| word.to_string()).collect())
}

fn assemble(learned: bpe::Learned, split: ByteLevel) -> tokenizers::Result<tokenizers::Tokenizer> {
    let vocab: Vocab = learned.tokens.into_iter().zip(0..).collect();
    let model = BPE::builder().vocab_and_merges(vocab, learned.merges).build()?;
    let mut tokenizer = tokenizers::Tokenizer::new(model);
    tokenizer.with_pre_tokenizer(Some(split));
    tokenizer.with_decoder(Some(ByteLevel::default()));
    let template = TemplateProcessing::builder()
        .try_single(format!("{BOS} $A"))?
        .special_tokens(vec![(BOS, 0)])
        .build()
        .map_err(|e| e.to_string())?;
    tokenizer.with_post_processor(Some(template));
    tokenizer.add_special_tokens([BOS, EOS].map(|token| AddedToken::from(token, true)))?;
    Ok(tokenizer)
}

/// Ids of the `bos_token` and `eos_token` that `tokenizer_config.json` names, where the file is there.
fn named_specials(tokenizer: &tokenizers::Tokenizer, path: &Path) -> Result<(Option<u32>, Option<u32>)> {
    if !path.exists() {
        return Ok((None, None));
    }
    let config: serde_json::Value = serde_json::from_str(&files::read_text(path)?).map_err(|e| {
        Error::invalid(path, "tokenizer_config", e.to_string(), "take it from the publisher again")
    })?;
    let id = |key: &str| {
        let value = config.get(key)?;
        let content = value.as_str().or_else(|| value.get("content")?.as_str())?;
        tokenizer.token_to_id(content)
    };
    Ok((id("bos_token"), id("eos_token")))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXTS: [&str; 4] = [
        "brass hose fitting, 3/4 inch",
        "brass pipe fitting, 1/2 inch",
        "garden hose, brass ends",
        "Größe: naïve café 水管 <s>",
    ];

    #[test]
    fn any_text_comes_back_as_it_was() {
        let tokenizer = Tokenizer::train(TEXTS, 300).unwrap();
        for text in TEXTS.into_iter().chain(["", " ", "\n\t x", "🙂 unseen"]) {
            let ids = tokenizer.encode(text).unwrap();
            assert_eq!(tokenizer.decode(&ids).unwrap().replace("<s>", ""), text.replace("<s>", ""));
        }
    }

    #[test]
    fn frequent_words_become_one_token() {
        let tokenizer = Tokenizer::train(TEXTS, 320).unwrap();
        assert_eq!(tokenizer.encode(" fitting").unwrap().len(), 1);
        assert!(tokenizer.vocab_size() > 258 && tokenizer.vocab_size() <= 320);
    }

    #[test]
    fn training_twice_gives_the_same_file_and_loading_it_the_same_ids() {
        let dir = tempfile::tempdir().unwrap();
        let saved = ["a", "b"].map(|name| {
            let tokenizer = Tokenizer::train(TEXTS, 320).unwrap();
            tokenizer.save(&dir.path().join(name)).unwrap();
            (std::fs::read(dir.path().join(name).join(FILE)).unwrap(), tokenizer)
        });
        assert_eq!(saved[0].0, saved[1].0);
        let config = r#"{"model_type": "llama", "hidden_size": 4, "intermediate_size": 4,
            "num_hidden_layers": 1, "num_attention_heads": 1, "vocab_size": 320}"#;
        let config = DecoderConfig::parse(config, Path::new("config.json")).unwrap();
        let loaded = Tokenizer::load(&dir.path().join("a"), &config).unwrap();
        assert_eq!((loaded.bos(), loaded.eos()), (Some(0), &[1][..]));
        assert_eq!(loaded.encode(TEXTS[1]).unwrap(), saved[1].1.encode(TEXTS[1]).unwrap());
        assert_eq!(loaded.encode_all(&TEXTS).unwrap()[2], loaded.encode(TEXTS[2]).unwrap());
        assert_eq!(loaded.encode_prompt("x").unwrap()[0], 0);
    }

    #[test]
    fn a_vocabulary_too_small_for_the_bytes_is_refused() {
        assert!(Tokenizer::train(TEXTS, 257).is_err());
    }
}
