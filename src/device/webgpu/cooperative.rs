//! Cooperative matrices: products of small matrices that the invocations of a subgroup make together, on tensor cores and
//! their kin. What an adapter offers of them, and what of that a kernel takes.

use super::adapter::Description;
use wgpu::{CooperativeMatrixProperties, CooperativeScalarType};

/// Subgroups that share the work of a workgroup, see `shaders/matmul_cooperative.wgsl`.
const SUBGROUPS: u32 = 4;
/// Most invocations of a workgroup.
const MOST_INVOCATIONS: u32 = 256;
/// Extents of the matrices that WGSL has, the preferred one first.
const SIZES: [u32; 2] = [16, 8];

/// The small matrices that kernels work with on an adapter: factors in f16, sums in f32.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fragments {
    /// Rows and columns of each.
    pub size: u32,
    /// Invocations of a workgroup: enough for four subgroups, however wide they come.
    pub invocations: u32,
}

impl Fragments {
    /// Those that an adapter has, or why it has none.
    pub fn of(found: &Description) -> Result<Self, String> {
        let fits = |size: u32| {
            found.cooperative.iter().any(|one| {
                [one.m_size, one.n_size, one.k_size] == [size; 3]
                    && one.ab_type == CooperativeScalarType::F16
                    && one.cr_type == CooperativeScalarType::F32
            })
        };
        if found.cooperative.is_empty() {
            return Err("the adapter has no cooperative matrices".into());
        }
        let size = SIZES.into_iter().find(|&size| fits(size)).ok_or_else(|| {
            let offered: Vec<String> = found.cooperative.iter().map(told).collect();
            format!(
                "the adapter has no cooperative matrices of 16x16x16 or 8x8x8 with factors in f16 and sums in f32, but {}",
                offered.join(", ")
            )
        })?;
        let widest = found.info.subgroup_max_size;
        match SUBGROUPS * widest {
            invocations if (1..=MOST_INVOCATIONS).contains(&invocations) => {
                Ok(Fragments { size, invocations })
            }
            _ => Err(format!(
                "the adapter's subgroups have up to {widest} invocations, and the kernel takes up to {}",
                MOST_INVOCATIONS / SUBGROUPS
            )),
        }
    }
}

/// A configuration as rows x columns x inner extent, type of the factors and of the sums.
pub(crate) fn told(one: &CooperativeMatrixProperties) -> String {
    let [factors, sums] = [one.ab_type, one.cr_type].map(name);
    let saturates = if one.saturating_accumulation { ", saturating" } else { "" };
    format!("{}x{}x{} ({factors}, sums {sums}{saturates})", one.m_size, one.n_size, one.k_size)
}

fn name(of: CooperativeScalarType) -> &'static str {
    match of {
        CooperativeScalarType::F32 => "f32",
        CooperativeScalarType::F16 => "f16",
        CooperativeScalarType::I32 => "i32",
        CooperativeScalarType::U32 => "u32",
    }
}

#[cfg(test)]
mod tests {
    use super::CooperativeScalarType::{F16, F32, I32};
    use super::*;

    fn offered(
        extents: [u32; 3],
        [ab_type, cr_type]: [CooperativeScalarType; 2],
    ) -> CooperativeMatrixProperties {
        let [m_size, n_size, k_size] = extents;
        CooperativeMatrixProperties {
            m_size,
            n_size,
            k_size,
            ab_type,
            cr_type,
            saturating_accumulation: false,
        }
    }

    fn adapter(cooperative: Vec<CooperativeMatrixProperties>, widest: u32) -> Description {
        let info = wgpu::AdapterInfo {
            subgroup_max_size: widest,
            ..wgpu::AdapterInfo::new(wgpu::DeviceType::DiscreteGpu, wgpu::Backend::Vulkan)
        };
        let (limits, features) = (wgpu::Limits::default(), wgpu::Features::all());
        Description { index: 0, info, limits, features, memory: None, cooperative }
    }

    #[test]
    fn the_largest_square_with_factors_in_f16_and_sums_in_f32_is_taken() {
        let (eight, sixteen) = (offered([8; 3], [F16, F32]), offered([16; 3], [F16, F32]));
        let of = |offered, widest| Fragments::of(&adapter(offered, widest));
        assert_eq!(of(vec![eight, sixteen], 32), Ok(Fragments { size: 16, invocations: 128 }));
        assert_eq!(of(vec![eight], 8), Ok(Fragments { size: 8, invocations: 32 }));
        assert_eq!(of(vec![sixteen], 64), Ok(Fragments { size: 16, invocations: 256 }));
    }

    #[test]
    fn what_does_not_fit_is_told() {
        let others = vec![
            offered([8; 3], [F32, F32]),
            offered([16; 3], [F16, F16]),
            offered([16, 8, 16], [F16, F32]),
            CooperativeMatrixProperties { saturating_accumulation: true, ..offered([16; 3], [I32, I32]) },
        ];
        let why = Fragments::of(&adapter(others, 32)).unwrap_err();
        assert!(
            why.contains(
                "16x16x16 or 8x8x8 with factors in f16 and sums in f32, but 8x8x8 (f32, sums f32), "
            ),
            "{why}"
        );
        assert!(why.ends_with("16x8x16 (f16, sums f32), 16x16x16 (i32, sums i32, saturating)"), "{why}");
        assert_eq!(
            Fragments::of(&adapter(vec![], 32)).unwrap_err(),
            "the adapter has no cooperative matrices"
        );
        for widest in [0, 128] {
            let why = Fragments::of(&adapter(vec![offered([16; 3], [F16, F32])], widest)).unwrap_err();
            assert!(why.contains(&format!("up to {widest} invocations")), "{why}");
        }
    }
}
