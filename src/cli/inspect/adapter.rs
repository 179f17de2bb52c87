//! What is told of a PEFT folder: what `lea fit --adapter` would start from, after the checks that it makes.

use super::holdings::Rows;
use crate::Result;
use crate::decoder::{AdapterShape, Decoder, LoraConfig};
use crate::le::{decoder_folder, peft};
use std::collections::BTreeMap;
use std::fmt::Display;
use std::path::Path;

/// Names that are told of a long list.
const SHOWN: usize = 8;

/// The adapter in `dir`, on `decoder` where it is known.
///
/// # Errors
/// Whatever `lea fit --adapter` would refuse it for.
pub(super) fn describe(dir: &Path, decoder: Option<&Decoder>) -> Result<Rows> {
    let (lora, adapters) = match decoder {
        Some(decoder) => {
            let lora = peft::read_adapter(dir, decoder)?.lora;
            let adapters = lora.adapters(decoder.layers.len())?;
            (lora, adapters)
        }
        None => peft::survey_adapter(dir)?,
    };
    let mut rows = vec![("decoder", decoder_folder(dir)?.display().to_string())];
    rows.extend(adapters_of(&lora, &adapters));
    rows.push(("head", "of one label: starts as the reward's".into()));
    let checked = match decoder {
        Some(_) => "lea fit --adapter starts from the adapters and the head",
        None => "lea fit --adapter starts from the adapters and the head, if their widths are its decoder's",
    };
    rows.push(("use", checked.into()));
    Ok(rows)
}

fn adapters_of(lora: &LoraConfig, adapters: &[AdapterShape]) -> Rows {
    let scale = if lora.use_rslora { "α/√rank (rslora)" } else { "α/rank" };
    let mut rows = vec![
        ("adapters", format!("{}, on {}", adapters.len(), some(&lora.targets))),
        ("rank, α", format!("{}, {}, output times {scale}", lora.rank, lora.alpha)),
    ];
    let patterns = [("rank pattern", told(&lora.rank_pattern)), ("α pattern", told(&lora.alpha_pattern))];
    rows.extend(patterns.into_iter().filter(|(_, told)| !told.is_empty()));
    if lora.dropout > 0.0 {
        rows.push(("dropout", lora.dropout.to_string()));
    }
    rows
}

fn told<T: Display>(pattern: &BTreeMap<String, T>) -> String {
    let entries: Vec<String> = pattern.iter().map(|(name, value)| format!("{name}: {value}")).collect();
    some(&entries)
}

/// The first of `names`, and how many more there are.
fn some(names: &[String]) -> String {
    match names.len().saturating_sub(SHOWN) {
        0 => names.join(", "),
        more => format!("{} and {more} more", names[..SHOWN].join(", ")),
    }
}
