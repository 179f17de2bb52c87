//! `lea generate`.

use crate::decoder::{Decoder, GenerateConfig, Tokenizer, generate};
use crate::device::{DType, Device};
use crate::{Error, Result};
use clap::Args;
use std::io::{ErrorKind, Write};
use std::path::PathBuf;

/// `lea generate`.
#[derive(Debug, Args)]
pub struct GenerateCommand {
    /// Hugging Face model folder
    #[arg(long, value_name = "DIR")]
    pub decoder: PathBuf,
    /// Text to go on from
    pub text: String,
    /// Most tokens to write
    #[arg(long, value_name = "N", default_value_t = GenerateConfig::default().max_tokens)]
    pub max_tokens: usize,
    /// Sample at this temperature; 0 takes the most likely token
    #[arg(long, value_name = "T", default_value_t = 0.0)]
    pub temperature: f64,
    /// Sample among the fewest tokens that together are this likely
    #[arg(long, value_name = "P", default_value_t = 1.0)]
    pub top_p: f64,
    /// Seed of the sampling
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub seed: u64,
    /// Device to compute on: cpu, cuda, webgpu, one of them by its number (cuda:1), or auto for the fastest kind there is
    #[arg(long, default_value = "cpu")]
    pub device: Device,
}

/// Runs `lea generate`: prints the text as it comes.
pub fn run(args: GenerateCommand) -> Result<()> {
    let decoder = Decoder::load(&args.decoder, &args.device, DType::F32)?;
    let tokenizer = Tokenizer::load(&args.decoder, &decoder.config)?;
    let config = GenerateConfig {
        max_tokens: args.max_tokens,
        temperature: args.temperature,
        top_p: args.top_p,
        seed: args.seed,
    };
    let prompt = tokenizer.encode_prompt(&args.text)?;
    let mut begun = false;
    let done = generate(&decoder, &tokenizer, &prompt, &config, |piece| {
        begun |= !piece.is_empty();
        print(piece)
    });
    // What is told of an error stands in a line of its own.
    let ended = if done.is_ok() || begun { print("\n") } else { Ok(()) };
    done.and(ended)
}

/// Prints without a line break. A reader that has gone away (as `head` does) is no error.
fn print(piece: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    match out.write_all(piece.as_bytes()).and_then(|()| out.flush()) {
        Err(e) if e.kind() != ErrorKind::BrokenPipe => Err(Error::io("standard output", e)),
        _ => Ok(()),
    }
}
