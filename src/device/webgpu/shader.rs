//! The WGSL files, and the text that a tier compiles of them.

use super::tier::Tier;

/// The constant `LANES`, invocations of a workgroup that works on one row, and its value.
pub(super) const LANES: (&str, u32) = ("LANES", 64);
/// Invocations of a subgroup where kernels work by subgroups, see `Gpu::works_by_subgroups`.
pub(super) const SUBGROUP: usize = 8;

/// Values of constants that a launch sets together.
pub type Defines = [(&'static str, u32)];

/// One subgroup a row, and rows so long that a workgroup is as large as may be, see `Gpu::row_lanes`.
pub(super) const ROW_LANES: &[&Defines] = &[&[(LANES.0, SUBGROUP as u32)], &[(LANES.0, 256)]];

/// A WGSL file with what it needs before its own text.
#[derive(Debug)]
pub struct Shader {
    /// The file's name without its ending: its op's.
    pub name: &'static str,
    /// Its text.
    pub source: &'static str,
    /// Common parts that it uses.
    pub parts: &'static [Part],
    /// Constants that a launch may set, with the values they have otherwise.
    pub defines: &'static [(&'static str, u32)],
    /// What launches set together, beside each switch by itself: all kinds, where there are few, else the extremes.
    pub sets: &'static [&'static Defines],
    /// The lowest tier that has it.
    pub lowest: Tier,
    /// Names of element types that are f32, or f16 where the constant beside it is set to 1.
    pub stored: &'static [(&'static str, &'static str)],
}

/// A text that several files use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Sums and maxima over a workgroup of `LANES` invocations.
    Reduce,
    /// The place of an invocation, for kernels of one invocation an element.
    Each,
    /// Sums over the rows of a matrix in blocks of `ROW_BLOCK`.
    Columns,
    /// Where a part of a list of places begins.
    Places,
    /// exp, log, tanh and their kin with the accuracy that parity asks for.
    Math,
    /// What the kernels of forest attention share.
    Forest,
    /// What the kernels of products share.
    Product,
}

impl Part {
    fn text(self, tier: Tier) -> &'static str {
        match (self, tier) {
            (Part::Reduce, Tier::Plain) => include_str!("../../../shaders/common/reduce.wgsl"),
            (Part::Reduce, _) => include_str!("../../../shaders/common/reduce_subgroups.wgsl"),
            (Part::Each, _) => include_str!("../../../shaders/common/each.wgsl"),
            (Part::Columns, _) => include_str!("../../../shaders/common/columns.wgsl"),
            (Part::Places, _) => include_str!("../../../shaders/common/places.wgsl"),
            (Part::Forest, _) => include_str!("../../../shaders/common/forest.wgsl"),
            (Part::Product, _) => include_str!("../../../shaders/common/product.wgsl"),
            (Part::Math, _) => include_str!("../../../shaders/common/math.wgsl"),
        }
    }
}

/// The switch of a file from [`Tier::Cooperative`] on: fragments are 8 × 8 where it is 1, else 16 × 16.
pub(super) const EIGHT: &str = "EIGHT";

/// What a file from [`Tier::Cooperative`] on begins with: types of its fragments, which WGSL names by their size. Control flow
/// there parts by subgroups, never within one; naga's rule would have it the same in a whole workgroup.
fn fragments(size: u32) -> String {
    let alias = |name: &str, of: &str| format!("alias {name} = coop_mat{size}x{size}<{of}>;\n");
    let types = [("Left", "f16, A"), ("Right", "f16, B"), ("Sums", "f32, C")];
    let types: String = types.into_iter().map(|(name, of)| alias(name, of)).collect();
    let rules = "enable f16;\nenable wgpu_cooperative_matrix;\ndiagnostic(off, derivative_uniformity);\n";
    format!("{rules}{types}const SIZE: u32 = {size}u;\n")
}

/// Who reads the text: WGSL's compilers differ in which `enable` lines they want.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// wgpu's own compiler.
    Naga,
    /// Browsers.
    Browser,
}

impl Shader {
    /// A file without common parts or constants.
    pub const fn new(name: &'static str, source: &'static str) -> Self {
        Shader { name, source, parts: &[], defines: &[], sets: &[], stored: &[], lowest: Tier::Plain }
    }

    /// With common parts before its text.
    pub const fn with(self, parts: &'static [Part]) -> Self {
        Shader { parts, ..self }
    }

    /// With constants that a launch may set.
    pub const fn defining(self, defines: &'static [(&'static str, u32)]) -> Self {
        Shader { defines, ..self }
    }

    /// With constants that launches set together, see [`Shader::sets`].
    pub const fn set_together(self, sets: &'static [&'static Defines]) -> Self {
        Shader { sets, ..self }
    }

    /// Where only this tier and those above can run it.
    pub const fn from(self, lowest: Tier) -> Self {
        Shader { lowest, ..self }
    }

    /// With types of elements that a launch may choose; their constants stand among those of [`Shader::defining`].
    pub const fn storing(self, stored: &'static [(&'static str, &'static str)]) -> Self {
        Shader { stored, ..self }
    }

    /// Constants for the texts that `tier` may compile: as they are, each switch, 0 otherwise, set to 1 by itself, and
    /// [`Shader::sets`].
    pub fn variants(&self, tier: Tier) -> Vec<Vec<(&'static str, u32)>> {
        let is_stored = |name: &str| self.stored.iter().any(|&(_, constant)| constant == name);
        let switches = self.defines.iter().filter(|(_, value)| *value == 0).map(|&(name, _)| vec![(name, 1)]);
        let sets = self.sets.iter().map(|set| set.to_vec());
        let all = std::iter::once(Vec::new()).chain(switches).chain(sets);
        all.filter(|set| tier >= Tier::F16 || !set.iter().any(|(name, _)| is_stored(name))).collect()
    }

    /// What is compiled: `enable` lines, constants, common parts, the file.
    pub fn text(&self, tier: Tier, defines: &[(&'static str, u32)], dialect: Dialect) -> String {
        let mut text = String::new();
        let subgroups = self.lowest >= Tier::Subgroups || self.parts.contains(&Part::Reduce);
        if tier >= Tier::Subgroups && dialect == Dialect::Browser && subgroups {
            text += "enable subgroups;\n";
        }
        let value = |name: &str, default| {
            defines.iter().find(|(other, _)| *other == name).map_or(default, |&(_, value)| value)
        };
        let is_half = |constant: &str| value(constant, 0) == 1;
        if self.lowest == Tier::Cooperative {
            text += &fragments(if value(EIGHT, 0) == 1 { 8 } else { 16 });
        }
        if self.stored.iter().any(|(_, constant)| is_half(constant)) {
            text += "enable f16;\n";
        }
        for (name, constant) in self.stored {
            text += &format!("alias {name} = {};\n", if is_half(constant) { "f16" } else { "f32" });
        }
        for &(name, default) in self.defines {
            let value = value(name, default);
            text += &format!("const {name}: u32 = {value}u;\n");
        }
        for part in self.parts {
            text += part.text(tier);
        }
        text + self.source
    }
}

/// Every file, for tests that compile them all.
pub static SHADERS: &[&Shader] = &[
    &super::activation::SHADER,
    &super::adamw::SHADER,
    &super::add::SHADER,
    &super::clip_norm::SHADER,
    &super::cross_entropy::SHADER,
    &super::dropout::SHADER,
    &super::embedding::SHADER,
    &super::forest_attention::SHADER,
    &super::forest_attention::SUBGROUP_SHADER,
    &super::gather_dot::SHADER,
    &super::gru::SHADER,
    &super::l2_normalize::SHADER,
    &super::layer_norm::SHADER,
    &super::log_sigmoid::SHADER,
    &super::matmul::SHADER,
    &super::matmul::COOPERATIVE_SHADER,
    &super::matmul::LARGE_SHADER,
    &super::matmul::SUBGROUP_SHADER,
    &super::mean_rows::SHADER,
    &super::mul::SHADER,
    &super::norm_score::SHADER,
    &super::reduce::SHADER,
    &super::retrieve::SHADER,
    &super::rms_norm::SHADER,
    &super::rope::SHADER,
    &super::scale::SHADER,
    &super::standing::SHADER,
    &super::sub_row::SHADER,
    &super::sum_rows::SHADER,
    &super::swiglu::SHADER,
    &super::td_loss::SHADER,
    &super::td_targets::SHADER,
    &super::top_k::SHADER,
];
