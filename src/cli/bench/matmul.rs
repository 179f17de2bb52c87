//! `lea bench matmul`: one product a·bᵀ.

use super::harness::{Case, Timing};
use super::record::Record;
use crate::cli::measure::ceilings::uniform;
use crate::ops::matmul::matmul;
use crate::tensor::Tensor;
use crate::{Error, Result};
use clap::Args;
use serde_json::json;

/// `lea bench matmul`.
#[derive(Clone, Debug, Args)]
pub struct MatmulBench {
    /// Rows of a and of the product
    #[arg(long, default_value_t = 4096)]
    pub m: usize,
    /// Rows of b, columns of the product
    #[arg(long, default_value_t = 768)]
    pub n: usize,
    /// Columns of both, the length of every dot product
    #[arg(long, default_value_t = 288)]
    pub k: usize,
    /// Have b stored as the device stores frozen weights: bf16 on CUDA and with --cpu-dtype bf16, f16 in the WebGPU tiers f16 and
    /// cooperative
    #[arg(long)]
    pub frozen: bool,
    /// How it is timed
    #[command(flatten)]
    pub timing: Timing,
}

/// Measures a product.
pub fn measure(args: &MatmulBench) -> Result<Record> {
    let (m, n, k) = (args.m, args.n, args.k);
    if [m, n, k].contains(&0) || [m * n, m * k, n * k].iter().any(|&len| len > u32::MAX as usize) {
        return Err(Error::setting(
            format!("a product of {m} x {n} x {k}"),
            "choose at least 1 of each, and matrices of less than 2^32 elements",
        ));
    }
    let device = &args.timing.device;
    let a = Tensor::from_slice(device, &uniform(m * k, 1), &[m, k])?;
    let b = match args.frozen {
        true => Tensor::frozen(device, &uniform(n * k, 2), &[n, k])?,
        false => Tensor::from_slice(device, &uniform(n * k, 2), &[n, k])?,
    };
    args.timing.measure(Case {
        bench: "matmul",
        settings: json!({"m": m, "n": n, "k": k, "dtype": b.dtype().to_string()}),
        inputs: "uniform in [-1, 1)",
        unit: "product",
        frozen: args.frozen,
        run: Box::new(|_| matmul(&a, &b, false, true).map(drop)),
    })
}
