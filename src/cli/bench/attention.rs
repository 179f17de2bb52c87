//! `lea bench attention`: forest attention of the leaves of one user over the keys of trunk and leaves, forward, as in the
//! labelling pass; without actions, causal attention of the trunk alone.

use super::harness::{Case, Timing};
use super::record::Record;
use crate::cli::measure::ceilings::uniform;
use crate::device::{AttentionIndex, RowRanges};
use crate::ops::{ForestAttention, Op};
use crate::tensor::Tensor;
use crate::{Error, Result};
use clap::Args;
use serde_json::json;
use std::sync::Arc;

/// Rows at most: their numbers are 32 bits wide, with room for what kernels add to them.
const ROWS: usize = 1 << 28;

/// `lea bench attention`.
#[derive(Clone, Debug, Args)]
pub struct AttentionBench {
    /// Rows of the trunk
    #[arg(long, default_value_t = 50)]
    pub history: usize,
    /// Leaves a step, of one row each; 0 for the trunk's own rows, causal
    #[arg(long, default_value_t = 100)]
    pub actions: usize,
    /// Users in one call
    #[arg(long, default_value_t = 1)]
    pub users: usize,
    /// Query heads
    #[arg(long, default_value_t = 6)]
    pub heads: usize,
    /// Key and value heads [default: as many as query heads]
    #[arg(long)]
    pub kv_heads: Option<usize>,
    /// Width of a head
    #[arg(long, default_value_t = 48)]
    pub head_dim: usize,
    /// How it is timed
    #[command(flatten)]
    pub timing: Timing,
}

/// Measures a call.
pub fn measure(args: &AttentionBench) -> Result<Record> {
    let (heads, kv_heads, dim) = (args.heads, args.kv_heads.unwrap_or(args.heads), args.head_dim);
    let keys = args.users.saturating_mul(args.history.saturating_mul(1 + args.actions));
    if [args.history, args.users, heads, kv_heads, dim].contains(&0)
        || !heads.is_multiple_of(kv_heads)
        || keys > ROWS
    {
        return Err(Error::setting(
            format!("history {}, {keys} rows, heads {heads} over {kv_heads} of {dim}", args.history),
            format!(
                "choose at least 1 of each, at most {ROWS} rows, and query heads a multiple of the others"
            ),
        ));
    }
    let index = Arc::new(index(args)?);
    let device = &args.timing.device;
    let random = |rows: usize, heads: usize, seed| {
        Tensor::from_slice(device, &uniform(rows * heads * dim, seed), &[rows, heads * dim])
    };
    let (q, k, v) = (random(index.rows(), heads, 1)?, random(keys, kv_heads, 2)?, random(keys, kv_heads, 3)?);
    let mut op = ForestAttention::new(index, heads, kv_heads, dim, (dim as f64).sqrt().recip());
    args.timing.measure(Case {
        bench: "attention",
        settings: json!({
            "history": args.history, "actions": args.actions, "users": args.users, "heads": heads,
            "kv_heads": kv_heads, "head_dim": dim,
        }),
        inputs: "uniform in [-1, 1)",
        unit: "call",
        frozen: false,
        run: Box::new(move |_| {
            let inputs = [&q, &k, &v];
            let _range = crate::device::profile::op(q.device(), op.name(), || op.cost(&inputs));
            op.forward(&inputs, false).map(drop)
        }),
    })
}

/// Every leaf sees the trunk up to its step, and itself.
fn index(args: &AttentionBench) -> Result<AttentionIndex> {
    let (history, actions) = (args.history as u32, args.actions as u32);
    if actions == 0 {
        return AttentionIndex::causal(&vec![args.history; args.users]);
    }
    let user_rows = history * (1 + actions);
    let leaves = (0..args.users as u32).flat_map(|user| {
        let trunk = user * user_rows;
        (0..history * actions).map(move |i| {
            let own = trunk + history + i;
            RowRanges([(0, 0), (trunk, trunk + i / actions + 1), (0, 0), (own, own + 1)])
        })
    });
    AttentionIndex::new(leaves.collect(), args.users * user_rows as usize)
}
