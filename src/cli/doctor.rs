//! `lea doctor`: what this machine can compute on.

use super::output;
use crate::Result;
use crate::device::webgpu::{Tier, adapter};
use crate::device::{cpu, cuda, webgpu};
use crate::error::told_bytes;
use clap::Args;
use serde_json::{Value, json};

/// Arguments of `lea doctor`.
#[derive(Debug, Args)]
pub struct DoctorCommand {
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

/// Runs the command.
pub fn run(args: DoctorCommand) -> Result<()> {
    let adapters = adapter::list();
    let gpus = cuda::list().and_then(|found| match found.is_empty() {
        true => Err("the NVIDIA driver finds no GPU".into()),
        false => Ok(found),
    });
    let chosen = choice(gpus.as_deref().unwrap_or_default(), &adapters);
    let best = adapter::best(&adapters).filter(|found| found.unusable().is_none());
    let no_webgpu = adapters
        .is_empty()
        .then(|| format!("{} (mesa-vulkan-drivers has a driver that needs no GPU)", adapter::why_none()));
    if args.json {
        let adapters: Vec<Value> = adapters.iter().map(to_json).collect();
        let why = gpus.as_ref().err();
        let gpus: Vec<Value> = gpus.iter().flatten().map(gpu_to_json).collect();
        return output::line(json!({
            "cpu": cpu::describe(),
            "cuda": gpus,
            "no_cuda": why,
            "webgpu": adapters,
            "no_webgpu": no_webgpu,
            "best_webgpu": best.map(|found| format!("webgpu:{}", found.index)),
            "auto": chosen,
        }));
    }
    output::line(format_args!("cpu        {}", cpu::describe()))?;
    match &gpus {
        Ok(found) => found.iter().try_for_each(describe_gpu)?,
        Err(why) => output::line(format_args!("cuda       none: {why}"))?,
    }
    for found in &adapters {
        describe(found)?;
    }
    if let Some(why) = no_webgpu {
        output::line(format_args!("webgpu     no adapter: {why}"))?;
    }
    if let Some(found) = best {
        output::line(format_args!("--device webgpu takes webgpu:{}", found.index))?;
    }
    output::line(format_args!("--device auto takes {chosen}"))
}

/// What `--device auto` takes.
fn choice(gpus: &[cuda::Description], adapters: &[adapter::Description]) -> String {
    let hardware = adapter::hardware(adapters).into_iter().find(|found| found.unusable().is_none());
    match (cuda::best(gpus), hardware) {
        (Some(found), _) => format!("cuda:{}", found.index),
        (None, Some(found)) => format!("webgpu:{}", found.index),
        (None, None) => "cpu".into(),
    }
}

fn describe_gpu(found: &cuda::Description) -> Result<()> {
    let cuda::Description { index, name, capability, processors, .. } = found;
    output::line(format_args!(
        "cuda:{index}     {name} (compute capability {}.{}, {}, {processors} multiprocessors)",
        capability.0,
        capability.1,
        told_bytes(found.memory)
    ))?;
    output::line(format_args!("           {}", found.driver_name()))?;
    match found.unusable() {
        None => {
            output::line(format_args!("           kernels as PTX for {}", found.generations().join(" and ")))
        }
        Some(why) => output::line(format_args!("           cannot be used: {why}")),
    }
}

fn gpu_to_json(found: &cuda::Description) -> Value {
    json!({
        "device": format!("cuda:{}", found.index),
        "name": found.name,
        "compute_capability": format!("{}.{}", found.capability.0, found.capability.1),
        "memory_bytes": found.memory,
        "multiprocessors": found.processors,
        "shared_memory_bytes": found.shared_memory,
        "driver_version": cuda::driver_version(),
        "driver_cuda": format!("{}.{}", found.driver.0, found.driver.1),
        "ptx": found.generations(),
        "unusable": found.unusable(),
    })
}

/// Limits that decide how work is cut, in the units that their names tell.
fn limits(found: &adapter::Description) -> [(&'static str, u64); 6] {
    let limits = &found.limits;
    [
        ("buffer_bytes", limits.max_buffer_size),
        ("binding_bytes", limits.max_storage_buffer_binding_size),
        ("binding_alignment", u64::from(limits.min_storage_buffer_offset_alignment)),
        ("storage_buffers", u64::from(limits.max_storage_buffers_per_shader_stage)),
        ("workgroup_invocations", u64::from(limits.max_compute_invocations_per_workgroup)),
        ("workgroup_bytes", u64::from(limits.max_compute_workgroup_storage_size)),
    ]
}

/// Features of which tiers are made, and whether it has them.
fn features(found: &adapter::Description) -> [(&'static str, bool); 3] {
    let has = |feature| found.features.contains(feature);
    [
        ("subgroups", has(wgpu::Features::SUBGROUP)),
        ("f16", has(wgpu::Features::SHADER_F16)),
        ("cooperative_matrix", has(wgpu::Features::EXPERIMENTAL_COOPERATIVE_MATRIX)),
    ]
}

/// The tier in use, or the reason why the forced one is not to be had.
fn tier(found: &adapter::Description) -> Result<Tier, String> {
    let tier = webgpu::forced_tier().unwrap_or(found.tier());
    match tier.missing(found) {
        None => Ok(tier),
        Some(why) => Err(why),
    }
}

/// What a tier that has to be asked for rounds.
fn rounded(tier: Tier) -> &'static str {
    match tier {
        Tier::Cooperative => "frozen weights and what they are multiplied with",
        _ => "frozen weights",
    }
}

fn describe(found: &adapter::Description) -> Result<()> {
    let info = &found.info;
    let kind = if found.is_software() { "software" } else { "hardware" };
    output::line(format_args!("webgpu:{}   {} ({kind}, {:?})", found.index, info.name, info.backend))?;
    let memory = match found.memory {
        Some(bytes) => told_bytes(bytes),
        None => "it does not tell how much memory there is".into(),
    };
    output::line(format_args!("           driver {}, {memory}", found.driver_told()))?;
    let limits: Vec<String> = limits(found).iter().map(|(name, value)| format!("{name} {value}")).collect();
    output::line(format_args!("           {}", limits.join(", ")))?;
    let features: Vec<String> = features(found)
        .iter()
        .map(|(name, has)| format!("{name} {}", if *has { "yes" } else { "no" }))
        .collect();
    output::line(format_args!("           {}", features.join(", ")))?;
    let offered = found.cooperative_told();
    if !offered.is_empty() {
        output::line(format_args!("           cooperative matrices {}", offered.join(", ")))?;
    }
    if let Some(why) = found.unusable() {
        return output::line(format_args!("           cannot be used: {why}"));
    }
    let in_use = tier(found);
    match &in_use {
        Ok(tier) => output::line(format_args!("           tier {tier}"))?,
        Err(why) => output::line(format_args!("           the forced tier cannot run: {why}"))?,
    }
    for tier in found.tiers_on_request().into_iter().filter(|tier| in_use.as_ref() != Ok(tier)) {
        output::line(format_args!(
            "           tier {tier} where --webgpu-tier {tier} asks for it: it rounds {}",
            rounded(tier)
        ))?;
    }
    for (tier, why) in found.missing_tiers() {
        output::line(format_args!("           no tier {tier}: {why}"))?;
    }
    Ok(())
}

fn to_json(found: &adapter::Description) -> Value {
    let missing: Vec<Value> = found
        .missing_tiers()
        .iter()
        .map(|(tier, why)| json!({"tier": tier.to_string(), "reason": why}))
        .collect();
    json!({
        "device": format!("webgpu:{}", found.index),
        "name": found.info.name,
        "software": found.is_software(),
        "backend": format!("{:?}", found.info.backend),
        "driver": found.driver_told(),
        "memory_bytes": found.memory,
        "limits": limits(found).into_iter().map(|(name, value)| (name.into(), value.into())).collect::<serde_json::Map<_, _>>(),
        "features": features(found).into_iter().map(|(name, has)| (name.into(), has.into())).collect::<serde_json::Map<_, _>>(),
        "cooperative_matrices": found.cooperative_told(),
        "tier": tier(found).map_or(Value::Null, |tier| tier.to_string().into()),
        "tiers_on_request": found.tiers_on_request().iter().map(ToString::to_string).collect::<Vec<_>>(),
        "missing_tiers": missing,
        "unusable": found.unusable(),
    })
}
