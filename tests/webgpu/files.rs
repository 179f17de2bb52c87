//! The WGSL files themselves: valid in every tier, and translated to what Vulkan, Metal and Direct3D 12 take. Browsers'
//! compiler judges them too, where its command `tint` is at hand, and the validator of SPIR-V where `spirv-val` is.

use super::skip::skipped;
use lea::device::webgpu::{Dialect, SHADERS, Shader, TIERS, Tier};
use naga::valid::{Capabilities, ModuleInfo, ValidationFlags, Validator};
use std::process::Command;

/// A shader's module, valid.
fn module(shader: &Shader, tier: Tier, defines: &[(&'static str, u32)]) -> (naga::Module, ModuleInfo) {
    let text = shader.text(tier, defines, Dialect::Naga);
    let place = format!("{} {tier} {defines:?}", shader.name);
    let module = naga::front::wgsl::parse_str(&text)
        .unwrap_or_else(|e| panic!("{place}: {}", e.emit_to_string(&text)));
    let mut capabilities = Capabilities::empty();
    if tier >= Tier::Subgroups {
        capabilities |= Capabilities::SUBGROUP;
    }
    if tier >= Tier::F16 {
        capabilities |= Capabilities::SHADER_FLOAT16;
    }
    if tier >= Tier::Cooperative {
        capabilities |= Capabilities::COOPERATIVE_MATRIX;
    }
    let info = Validator::new(ValidationFlags::all(), capabilities)
        .validate(&module)
        .unwrap_or_else(|e| panic!("{place}: {}", e.emit_to_string(&text)));
    (module, info)
}

/// Every file in every tier that has it.
fn each(check: impl Fn(&str, &naga::Module, &ModuleInfo)) {
    each_of(|_| true, check);
}

fn each_of(which: impl Fn(&Shader) -> bool, check: impl Fn(&str, &naga::Module, &ModuleInfo)) {
    for shader in SHADERS.iter().filter(|shader| which(shader)) {
        for tier in TIERS.into_iter().filter(|tier| *tier >= shader.lowest) {
            for defines in shader.variants(tier) {
                let (module, info) = module(shader, tier, &defines);
                assert!(!module.entry_points.is_empty(), "{} has no kernel", shader.name);
                check(&format!("{} {tier} {defines:?}", shader.name), &module, &info);
            }
        }
    }
}

/// Whether Direct3D 12 and browsers can have a file: neither has cooperative matrices.
fn is_everywhere(shader: &Shader) -> bool {
    shader.lowest < Tier::Cooperative
}

#[test]
fn every_file_becomes_spir_v() {
    let options = naga::back::spv::Options { lang_version: (1, 3), ..Default::default() };
    let judge = Command::new("spirv-val").arg("--version").output().is_ok();
    if !judge {
        skipped("every_file_becomes_spir_v: spirv-val is not at hand, and does not judge what naga makes");
    }
    let folder = tempfile::tempdir().unwrap();
    each(|place, module, info| {
        let words = naga::back::spv::write_vec(module, info, &options, None);
        let words = words.unwrap_or_else(|e| panic!("{place}: {e}"));
        assert_eq!(words[0], 0x0723_0203, "{place} is no SPIR-V");
        if judge {
            let path = folder.path().join("module.spv");
            std::fs::write(&path, words.iter().flat_map(|word| word.to_le_bytes()).collect::<Vec<u8>>())
                .unwrap();
            let out = Command::new("spirv-val").args(["--target-env", "spv1.3"]).arg(&path).output().unwrap();
            assert!(out.status.success(), "{place}: {}", String::from_utf8_lossy(&out.stderr));
        }
    });
}

#[test]
fn every_file_becomes_metal() {
    let options =
        naga::back::msl::Options { lang_version: (2, 4), fake_missing_bindings: true, ..Default::default() };
    each(|place, module, info| {
        let (text, _) = naga::back::msl::write_string(module, info, &options, &Default::default())
            .unwrap_or_else(|e| panic!("{place}: {e}"));
        assert_eq!(text.matches("kernel void").count(), module.entry_points.len(), "{place}");
    });
}

#[test]
fn every_file_without_cooperative_matrices_becomes_hlsl() {
    let options = naga::back::hlsl::Options {
        shader_model: naga::back::hlsl::ShaderModel::V6_2,
        fake_missing_bindings: true,
        ..Default::default()
    };
    each_of(is_everywhere, |place, module, info| {
        let mut text = String::new();
        naga::back::hlsl::Writer::new(&mut text, &options, &Default::default())
            .write(module, info, None)
            .unwrap_or_else(|e| panic!("{place}: {e}"));
        assert_eq!(text.matches("[numthreads(").count(), module.entry_points.len(), "{place}");
    });
}

#[test]
fn every_file_without_cooperative_matrices_is_taken_by_the_compiler_of_browsers() {
    if Command::new("tint").arg("--help").output().is_err() {
        return skipped("tint is not at hand");
    }
    let folder = tempfile::tempdir().unwrap();
    for shader in SHADERS.iter().filter(|shader| is_everywhere(shader)) {
        for tier in TIERS.into_iter().filter(|tier| *tier >= shader.lowest) {
            for defines in shader.variants(tier) {
                let path = folder.path().join(format!("{}-{tier}.wgsl", shader.name));
                std::fs::write(&path, shader.text(tier, &defines, Dialect::Browser)).unwrap();
                let out =
                    Command::new("tint").args(["-f", "wgsl", "-o", "/dev/null"]).arg(&path).output().unwrap();
                let told = String::from_utf8_lossy(&out.stderr);
                assert!(out.status.success(), "{} {tier} {defines:?}: {told}", shader.name);
            }
        }
    }
}

/// What Direct3D 12 and browsers cannot have is one file.
#[test]
fn cooperative_matrices_are_in_one_file_alone() {
    let files: Vec<_> = SHADERS.iter().filter(|shader| !is_everywhere(shader)).map(|s| s.name).collect();
    assert_eq!(files, ["matmul_cooperative"]);
    for shader in SHADERS {
        assert_eq!(shader.source.contains("coopMultiplyAdd"), !is_everywhere(shader), "{}", shader.name);
    }
}

#[test]
fn every_file_of_the_folder_is_in_the_list_and_tells_what_it_is() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("shaders");
    let Ok(entries) = std::fs::read_dir(folder) else {
        return skipped("every_file_of_the_folder: the folder shaders/ of the source is not here");
    };
    let mut names: Vec<String> = entries
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == "wgsl"))
        .map(|path| path.file_stem().unwrap().to_string_lossy().into_owned())
        .collect();
    names.sort();
    let mut listed: Vec<&str> = SHADERS.iter().map(|s| s.name).collect();
    listed.sort_unstable();
    assert_eq!(names, listed);
    for shader in SHADERS {
        assert!(shader.source.starts_with("// "), "{} has no head comment", shader.name);
    }
}

/// Opened devices do not check this: wgpu leaves it to drivers.
#[test]
fn no_file_needs_more_workgroup_memory_than_every_adapter_has() {
    each(|place, module, _| {
        let mut layouter = naga::proc::Layouter::default();
        layouter.update(module.to_ctx()).unwrap();
        let in_workgroup = |variable: &naga::GlobalVariable| variable.space == naga::AddressSpace::WorkGroup;
        let variables = module.global_variables.iter().map(|(_, variable)| variable);
        let bytes: u32 = variables.filter(|v| in_workgroup(v)).map(|v| layouter[v.ty].size).sum();
        assert!(bytes <= 16 << 10, "{place}: {bytes} bytes of workgroup memory");
    });
}
