//! Text that a decoder writes: greedy, or sampled by temperature and nucleus.

use super::{Decoder, Resident, Rows, Tokenizer};
use crate::tensor::Tensor;
use crate::{Error, Result};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// How to choose tokens, and when to stop.
#[derive(Clone, Debug)]
pub struct GenerateConfig {
    /// Stop after this many tokens; an ending token or a full context stops earlier.
    pub max_tokens: usize,
    /// Divides the logits before sampling; 0 takes the most likely token.
    pub temperature: f64,
    /// Sample among the fewest tokens that together are at least this likely (Holtzman et al., arXiv 1904.09751).
    pub top_p: f64,
    /// Seed of the sampling.
    pub seed: u64,
}

impl Default for GenerateConfig {
    fn default() -> Self {
        GenerateConfig { max_tokens: 256, temperature: 0.0, top_p: 1.0, seed: 0 }
    }
}

/// Continues `prompt` and returns the new tokens. `on_text` gets the text of prompt and continuation piece by piece,
/// as soon as the bytes of a piece are whole.
pub fn generate(
    decoder: &Decoder,
    tokenizer: &Tokenizer,
    prompt: &[u32],
    config: &GenerateConfig,
    mut on_text: impl FnMut(&str) -> Result<()>,
) -> Result<Vec<u32>> {
    config.check(prompt)?;
    let context = decoder.config.max_position_embeddings;
    if prompt.len() >= context {
        let problem = format!("the text has {} tokens, the decoder's context {context}", prompt.len());
        return Err(Error::setting(problem, "give a shorter text: nothing can be written after it"));
    }
    let mut rng = ChaCha8Rng::seed_from_u64(config.seed);
    let mut cache = decoder.new_cache()?;
    let mut ids = prompt.to_vec();
    let mut printed = 0;
    let mut next = 0;
    let most = (prompt.len() + config.max_tokens).min(context);
    loop {
        let text = tokenizer.decode(&ids)?;
        let done = ids.len() >= most;
        // A piece that ends inside a character would change with the next token.
        if done || !text.ends_with('\u{FFFD}') {
            on_text(text.get(printed..).unwrap_or_default())?;
            printed = text.len().max(printed);
        }
        if done {
            break;
        }
        let rows = Rows::continuing(&decoder.device(), next, ids.len() - next)?;
        let rows = rows.reading(&[(ids.len() - next - 1) as u32])?;
        let hidden = decoder.forward_cached(
            &decoder.embed_tokens(&ids[next..])?,
            &rows,
            Resident::Extend(&mut cache),
        )?;
        next = ids.len();
        let logits = decoder.logits(&decoder.final_norm(&hidden)?)?;
        let token = choose(logits.value(), config, &mut rng)?;
        if tokenizer.eos().contains(&token) {
            on_text(text.get(printed..).unwrap_or_default())?;
            break;
        }
        ids.push(token);
    }
    Ok(ids.split_off(prompt.len()))
}

impl GenerateConfig {
    fn check(&self, prompt: &[u32]) -> Result<()> {
        if prompt.is_empty() {
            return Err(Error::setting(
                "the prompt is empty and the decoder has no opening token",
                "give some text to go on from",
            ));
        }
        if !(self.temperature >= 0.0 && self.temperature.is_finite()) {
            let problem = format!("the temperature is {}", self.temperature);
            return Err(Error::setting(problem, "set --temperature to 0 or more"));
        }
        if !(self.top_p > 0.0 && self.top_p <= 1.0) {
            let problem = format!("top-p is {}", self.top_p);
            return Err(Error::setting(problem, "set --top-p above 0 and at most to 1"));
        }
        Ok(())
    }
}

/// The next token from `logits: [1, vocab]`.
fn choose(logits: &Tensor, config: &GenerateConfig, rng: &mut ChaCha8Rng) -> Result<u32> {
    let logits = logits.to_f64_vec()?;
    let mut order: Vec<usize> = (0..logits.len()).collect();
    // Ties go to the smaller id: the sort is stable.
    order.sort_by(|&a, &b| logits[b].total_cmp(&logits[a]));
    if config.temperature == 0.0 {
        return Ok(order[0] as u32);
    }
    let top = logits[order[0]];
    let weights: Vec<f64> = order.iter().map(|&i| ((logits[i] - top) / config.temperature).exp()).collect();
    let total: f64 = weights.iter().sum();
    let mut kept = 0.0;
    let nucleus = weights.iter().take_while(|&w| {
        let wanted = kept < config.top_p * total;
        kept += w;
        wanted
    });
    let nucleus = nucleus.count().max(1);
    let mut draw = rng.random::<f64>() * weights[..nucleus].iter().sum::<f64>();
    let chosen = weights[..nucleus].iter().position(|w| {
        draw -= w;
        draw < 0.0
    });
    Ok(order[chosen.unwrap_or(nucleus - 1)] as u32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::Device;

    fn counts(config: &GenerateConfig) -> [usize; 4] {
        let logits = [0.1f64, 0.2, 0.4, 0.3].map(f64::ln);
        let logits = Tensor::from_slice(&Device::Cpu, &logits, &[1, 4]).unwrap();
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let mut counts = [0; 4];
        for _ in 0..10_000 {
            counts[choose(&logits, config, &mut rng).unwrap() as usize] += 1;
        }
        counts
    }

    #[test]
    fn temperature_zero_takes_the_most_likely() {
        assert_eq!(counts(&GenerateConfig::default()), [0, 0, 10_000, 0]);
    }

    #[test]
    fn sampling_follows_the_probabilities() {
        let found = counts(&GenerateConfig { temperature: 1.0, ..Default::default() });
        for (found, expected) in found.into_iter().zip([1000usize, 2000, 4000, 3000]) {
            assert!(found.abs_diff(expected) < 200, "{found} {expected}");
        }
    }

    #[test]
    fn the_nucleus_leaves_out_the_tail() {
        let found = counts(&GenerateConfig { temperature: 1.0, top_p: 0.6, ..Default::default() });
        assert_eq!((found[0], found[1]), (0, 0));
        assert!(found[2].abs_diff(5714) < 200);
    }
}
