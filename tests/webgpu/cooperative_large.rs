//! The kernel for fragments of 16 × 16 where an adapter has 8 × 8 alone, as lavapipe: the same text, each of its fragments put
//! together from four that the adapter has.

use super::cooperative::{devices, whole};
use super::skip;
use half::f16;
use lea::device::Device;
use lea::device::webgpu::{Buffer, Launch, Part, SHADERS, Shader, Tier, ViewMut};
use lea::ops::matmul::matmul_accumulate;
use lea::tensor::Tensor;

/// What the kernel's text calls in place of WGSL's own functions. Left and sums lie by rows, right by columns; `Left`, `Right` and `Sums`
/// are 8 × 8.
const OF_FOUR: &str = "
struct Left4 { low_low: Left, low_high: Left, high_low: Left, high_high: Left }
struct Right4 { low_low: Right, low_high: Right, high_low: Right, high_high: Right }
struct Sums4 { low_low: Sums, low_high: Sums, high_low: Sums, high_high: Sums }
fn left_from(at: u32, stride: u32) -> Left4 {
    return Left4(coopLoadT<Left>(&tile_a[at], stride), coopLoadT<Left>(&tile_a[at + 8u], stride),
        coopLoadT<Left>(&tile_a[at + 8u * stride], stride), coopLoadT<Left>(&tile_a[at + 8u * stride + 8u], stride));
}
fn right_from(at: u32, stride: u32) -> Right4 {
    return Right4(coopLoad<Right>(&tile_b[at], stride), coopLoad<Right>(&tile_b[at + 8u * stride], stride),
        coopLoad<Right>(&tile_b[at + 8u], stride), coopLoad<Right>(&tile_b[at + 8u * stride + 8u], stride));
}
fn sums_from(at: u32, stride: u32) -> Sums4 {
    return Sums4(coopLoadT<Sums>(&tile_c[at], stride), coopLoadT<Sums>(&tile_c[at + 8u], stride),
        coopLoadT<Sums>(&tile_c[at + 8u * stride], stride), coopLoadT<Sums>(&tile_c[at + 8u * stride + 8u], stride));
}
fn sums_to(sums: Sums4, at: u32, stride: u32) {
    let right = at + 8u;
    let below = at + 8u * stride;
    let beside = below + 8u;
    coopStoreT(sums.low_low, &tile_c[at], stride);
    coopStoreT(sums.low_high, &tile_c[right], stride);
    coopStoreT(sums.high_low, &tile_c[below], stride);
    coopStoreT(sums.high_high, &tile_c[beside], stride);
}
fn multiply_add(x: Left4, y: Right4, c: Sums4) -> Sums4 {
    return Sums4(
        coopMultiplyAdd(x.low_high, y.high_low, coopMultiplyAdd(x.low_low, y.low_low, c.low_low)),
        coopMultiplyAdd(x.low_high, y.high_high, coopMultiplyAdd(x.low_low, y.low_high, c.low_high)),
        coopMultiplyAdd(x.high_high, y.high_low, coopMultiplyAdd(x.high_low, y.low_low, c.high_low)),
        coopMultiplyAdd(x.high_high, y.high_high, coopMultiplyAdd(x.high_low, y.low_high, c.high_high)),
    );
}
";

/// The kernel's text, with fragments of four.
fn shader() -> &'static Shader {
    let file = SHADERS.iter().find(|shader| shader.name == "matmul_cooperative").unwrap();
    let mut text = file.source.to_owned();
    for (of, by, times) in [
        ("SIZE", "LARGE_SIZE", 1),
        ("coopLoadT<Left>(&tile_a[", "left_from(", 2),
        ("coopLoad<Right>(&tile_b[", "right_from(", 4),
        ("coopLoadT<Sums>(&tile_c[", "sums_from(", 8),
        ("coopStoreT(", "sums_to(", 8),
        (", &tile_c[at], ", ", at, ", 8),
        ("], STRIDE)", ", STRIDE)", 6),
        ("], LARGE_SIZE)", ", LARGE_SIZE)", 8),
        ("coopMultiplyAdd(", "multiply_add(", 8),
        (": Sums;", ": Sums4;", 8),
    ] {
        assert!(text.matches(of).count() >= times, "{of} in the kernel");
        text = text.replace(of, by);
    }
    let text = format!("const LARGE_SIZE: u32 = 16u;\n{OF_FOUR}{text}");
    let defines = file.defines.iter().map(|&(name, value)| (name, if name == "EIGHT" { 1 } else { value }));
    let defines: &'static [_] = Vec::leak(defines.collect());
    let shader = Shader::new("matmul_cooperative of four", String::leak(text))
        .with(&[Part::Math, Part::Product])
        .defining(defines)
        .from(Tier::Cooperative);
    Box::leak(Box::new(shader))
}

#[test]
fn tiles_of_fragments_of_sixteen_are_whole_and_stay_inside_their_matrices() {
    let shader = shader();
    for device in devices("tiles_of_fragments_of_sixteen", false) {
        let Device::WebGpu(gpu) = &device else { panic!("{device} is no adapter") };
        if !gpu.description().cooperative_told().contains(&"8x8x8 (f16, sums f32)".into()) {
            skip::skipped(format_args!("tiles_of_fragments_of_sixteen on {device}: it has none of eight"));
            continue;
        }
        let fitting = 4 * gpu.description().info.subgroup_max_size;
        for ([m, n, k], entry, invocations) in [
            ([130, 140, 64], "wide", fitting),
            ([1, 9, 36], "wide", fitting),
            ([65, 129, 31], "narrow", 128),
            ([67, 33, 131], "narrow", 128),
        ] {
            let [x, w, mut held] =
                [([m, k], 1), ([n, k], 2), ([m, n], 3)].map(|(shape, seed)| whole(&shape, seed));
            let values =
                |x: &Tensor| x.to_f64_vec().unwrap().into_iter().map(|x| x as f32).collect::<Vec<_>>();
            let weights: Vec<f16> = values(&w).into_iter().map(f16::from_f32).collect();
            let [a, c] = [&x, &held].map(|x| Buffer::copy_of(gpu, &values(x)).unwrap());
            let b = Buffer::copy_of(gpu, &weights).unwrap();
            // What is not added is not read: any view will do in its place.
            let unread = a.view(0, m * k);
            gpu.launch(&Launch {
                shader,
                entry,
                defines: &[("EIGHT", 1), ("INVOCATIONS", invocations), ("ACCUMULATE", 1)],
                params: &[m, n, k, k, k, n, 0, 0, 0, 0, 0].map(|word| word as u32),
                reads: &[a.view(0, m * k), b.view(0, n * k), unread, unread],
                writes: &[ViewMut(c.view(0, m * n))],
                groups: [n.div_ceil(128) as u32, m.div_ceil(64) as u32, 1],
                work: 0,
            })
            .unwrap();
            matmul_accumulate(&x, &w, false, true, &mut held).unwrap();
            let place = format!("{m} {n} {k} with {invocations} on {}", device.describe());
            assert!(c.read::<f32>(0, m * n).unwrap() == values(&held), "{place}");
        }
    }
}
