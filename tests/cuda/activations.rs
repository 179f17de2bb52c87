//! Rows between products in bf16: the same bits as in f32, which products round; from each op by itself to whole labelling passes.

use super::attention_sm90::hopper;
use super::halves::{SHAPES, frozen};
use super::le_fixture::environment_on;
use super::ops::environment::expect_same_rewards_in_any_pack;
use super::ops::products::stored;
use super::parity::{random, to};
use super::{devices, generations, in_each_manner};
use half::bf16;
use lea::autograd::{Var, no_grad};
use lea::cli::config::RunConfig;
use lea::cli::inspect::memory;
use lea::decoder::{Decoder, DecoderConfig, Family, Rows};
use lea::device::cuda::Cuda;
use lea::device::profile::{Profile, record};
use lea::device::{DType, Device, FrozenType};
use lea::ops::matmul::{matmul, matmul_accumulate};
use lea::ops::{ConcatRows, Embedding, GatedLinear, Linear, Op, RmsNorm, Rope, RopeTable, SwiGlu};
use lea::tensor::Tensor;
use std::sync::Arc;

/// The f32 values rounded to bf16, on their device.
pub fn halves(x: &Tensor) -> Tensor {
    let halves: Vec<bf16> = x.to_vec::<f32>().unwrap().into_iter().map(bf16::from_f32).collect();
    Tensor::from_slice(x.device(), &halves, x.shape()).unwrap()
}

/// An error unless shapes, types and bits are the same.
#[track_caller]
pub fn expect_same(what: &str, found: &Tensor, want: &Tensor) {
    assert_eq!((found.shape(), found.dtype()), (want.shape(), want.dtype()), "{what}");
    let bits = |t: &Tensor| -> Vec<u64> {
        t.to_f64_vec().unwrap().iter().map(|x| if x.is_nan() { u64::MAX } else { x.to_bits() }).collect()
    };
    assert!(bits(found) == bits(want), "{what}");
}

#[test]
fn a_product_of_rows_in_bf16_has_the_bits_of_one_that_rounds_them() {
    let devices = generations("a_product_of_rows_in_bf16");
    for ([m, n, k], transposed) in SHAPES {
        let [a, b] = stored([m, n, k], [false, transposed]);
        let (a, b, start) = (random(&a, 1), random(&b, 2), random(&[m, n], 3));
        in_each_manner(|| {
            for device in &devices {
                let (a, b) = (to(device, DType::F32, &a), frozen(device, &b));
                let half = halves(&a);
                let what = format!("{m}x{n}x{k} on {}", device.describe());
                let want = matmul(&a, &b, false, transposed).unwrap();
                expect_same(&what, &matmul(&half, &b, false, transposed).unwrap(), &want);
                // Rows from the second on: where k is odd, at an address that the kernels do not take.
                let [later, later_half] = [&a, &half].map(|x| x.rows(m.min(1)..m).unwrap());
                let want = matmul(&later, &b, false, transposed).unwrap();
                expect_same(&what, &matmul(&later_half, &b, false, transposed).unwrap(), &want);
                let [mut want, mut found] = [0; 2].map(|_| to(device, DType::F32, &start));
                matmul_accumulate(&a, &b, false, transposed, &mut want).unwrap();
                matmul_accumulate(&half, &b, false, transposed, &mut found).unwrap();
                expect_same(&what, &found, &want);
            }
        });
    }
}

#[test]
fn a_linear_layer_gives_bf16_by_rounding_its_sums() {
    let devices = generations("a_linear_layer_gives_bf16");
    for ([m, n, k], _) in SHAPES.into_iter().filter(|&([.., k], transposed)| transposed && k > 0) {
        let (x, w, bias, residual) =
            (random(&[m, k], 1), random(&[n, k], 2), random(&[n], 3), random(&[m, n], 4));
        in_each_manner(|| {
            for device in &devices {
                let w = frozen(device, &w);
                let [x, bias, residual] = [&x, &bias, &residual].map(|x| to(device, DType::F32, x));
                for (with_bias, with_residual) in [(false, false), (true, false), (false, true), (true, true)]
                {
                    let mut inputs = vec![&x, &w];
                    inputs.extend(with_bias.then_some(&bias));
                    inputs.extend(with_residual.then_some(&residual));
                    let mut op = Linear { bias: with_bias, residual: with_residual, giving: None };
                    let want = op.forward(&inputs, false).unwrap();
                    op.giving = Some(DType::BF16);
                    let what = format!("{m}x{n}x{k}, bias {with_bias}, residual {with_residual}");
                    expect_same(&what, &op.forward(&inputs, false).unwrap(), &halves(&want));
                }
            }
        });
    }
}

#[test]
fn a_gated_layer_has_the_bits_of_two_products_and_their_gate() {
    let devices = generations("a_gated_layer");
    for ([m, n, k], _) in SHAPES.into_iter().filter(|&(_, transposed)| transposed) {
        // Gates from far below to far above zero.
        let (x, gate, up) = (random(&[m, k], 1), random(&[n, k], 2), random(&[n, k], 3));
        let gate: Vec<f64> = gate.to_f64_vec().unwrap().into_iter().map(|x| 30.0 * x).collect();
        let gate = Tensor::from_f64(&Device::Cpu, DType::F64, &gate, &[n, k]).unwrap();
        in_each_manner(|| {
            for device in &devices {
                let x = to(device, DType::F32, &x);
                let (half, gate, up) = (halves(&x), frozen(device, &gate), frozen(device, &up));
                let [g, u] = [&gate, &up].map(|w| matmul(&x, w, false, true).unwrap());
                let want = SwiGlu.forward(&[&g, &u], false).unwrap();
                let what = format!("{m}x{n}x{k} on {}", device.describe());
                expect_same(&what, &GatedLinear.forward(&[&x, &gate, &up], false).unwrap(), &want);
                let found = GatedLinear.forward(&[&half, &gate, &up], false).unwrap();
                expect_same(&what, &found, &halves(&want));
            }
        });
    }
}

#[test]
fn both_halves_of_a_gated_layer_are_one_product_on_hopper() {
    for device in hopper("both_halves_of_a_gated_layer") {
        let (x, gate, up) = (random(&[3, 40], 1), random(&[130, 40], 2), random(&[130, 40], 3));
        let (x, gate, up) =
            (halves(&to(&device, DType::F32, &x)), frozen(&device, &gate), frozen(&device, &up));
        let run = || GatedLinear.forward(&[&x, &gate, &up], false);
        let names = |profile: Profile| -> Vec<String> {
            profile.launches.iter().map(|launch| launch.kernel.to_string()).collect()
        };
        let of_rows = names(record(&device, run).unwrap().1);
        assert_eq!(of_rows, ["lea_matmul_bf16_sm90_gated_nt"]);
    }
}

#[test]
fn norms_and_rotations_give_bf16_by_rounding_what_they_give() {
    for device in devices("norms_and_rotations_give_bf16") {
        for (rows, d) in [(1, 1), (3, 16), (5, 77), (7, 288), (3, 2052), (2, 2050)] {
            let [x, weight] = [random(&[rows, d], 1), random(&[d], 2)].map(|x| to(&device, DType::F32, &x));
            let norm = RmsNorm::new(1e-5);
            let want = norm.clone().forward(&[&x, &weight], false).unwrap();
            let found = norm.giving(DType::BF16).forward(&[&x, &weight], false).unwrap();
            expect_same(&format!("norm of [{rows}, {d}]"), &found, &halves(&want));
        }
        for (heads, head_dim) in [(1, 2), (3, 6), (2, 8), (4, 64)] {
            let x = to(&device, DType::F32, &random(&[5, heads * head_dim], 1));
            let positions = Tensor::from_ids(&device, &[0, 3, 90, 7, 1]).unwrap();
            let rope = Rope::new(positions, Arc::new(RopeTable::plain(1e4, head_dim).unwrap()), heads);
            let want = rope.clone().forward(&[&x], false).unwrap();
            let found = rope.giving(DType::BF16).forward(&[&x], false).unwrap();
            expect_same(&format!("{heads} heads of {head_dim}"), &found, &halves(&want));
        }
    }
}

#[test]
fn rows_in_bf16_are_picked_and_laid_one_below_the_other() {
    for device in devices("rows_in_bf16_are_picked") {
        for d in [2, 6, 8, 40] {
            let [a, b] = [random(&[5, d], 1), random(&[3, d], 2)].map(|x| to(&device, DType::F32, &x));
            let [a_half, b_half] = [&a, &b].map(halves);
            let ids = Tensor::from_ids(&device, &[7, 0, 4, 5, 4]).unwrap();
            let want = Embedding::new(ids.clone()).forward(&[&a, &b], false).unwrap();
            let found = Embedding::new(ids).forward(&[&a_half, &b_half], false).unwrap();
            expect_same(&format!("rows of {d}"), &found, &halves(&want));
            let want = ConcatRows::new().forward(&[&a, &b], false).unwrap();
            expect_same(
                "both",
                &ConcatRows::new().forward(&[&a_half, &b_half], false).unwrap(),
                &halves(&want),
            );
            // From an address that is no multiple of 16.
            let [a, a_half] = [&a, &a_half].map(|x| x.rows(1..5).unwrap());
            let ids = Tensor::from_ids(&device, &[3, 0]).unwrap();
            let want = Embedding::new(ids.clone()).forward(&[&a], false).unwrap();
            expect_same(
                "later rows",
                &Embedding::new(ids).forward(&[&a_half], false).unwrap(),
                &halves(&want),
            );
        }
        let odd = halves(&to(&device, DType::F32, &random(&[2, 3], 1)));
        let ids = Tensor::from_ids(&device, &[1]).unwrap();
        let message = Embedding::new(ids).forward(&[&odd], false).unwrap_err().to_string();
        assert!(message.contains("bf16"), "{message}");
    }
}

#[test]
fn outputs_in_bf16_are_refused_where_they_cannot_be() {
    let refused = |device: &Device, record| {
        let [x, weight] = [random(&[2, 8], 1), random(&[8], 2)].map(|x| to(device, DType::F32, &x));
        let norm = RmsNorm::new(1e-5).giving(DType::BF16).forward(&[&x, &weight], record);
        let table = Arc::new(RopeTable::plain(1e4, 8).unwrap());
        let positions = Tensor::from_ids(device, &[0, 1]).unwrap();
        let rope = Rope::new(positions, table, 1).giving(DType::BF16).forward(&[&x], record);
        let mut linear = Linear { giving: Some(DType::BF16), ..Linear::default() };
        let linear = linear.forward(&[&x, &x], record);
        for (op, result) in [("rms_norm", norm), ("rope", rope), ("linear", linear)] {
            let message = result.unwrap_err().to_string();
            assert!(message.contains("bf16"), "{op}: {message}");
        }
    };
    refused(&Device::Cpu, true);
    devices("outputs_in_bf16_are_refused").iter().for_each(|device| refused(device, true));
}

/// Layers with head norms, with biases, and with neither, of widths that tensor cores take.
fn decoders(device: &Device) -> impl Iterator<Item = Decoder> {
    // Heads 64 wide have a kernel of their own on Hopper.
    let kinds = [
        (Family::Llama, false, 8),
        (Family::Qwen3, false, 8),
        (Family::Llama, true, 8),
        (Family::Llama, false, 64),
    ];
    kinds.into_iter().map(|(family, bias, head_dim)| {
        let config = DecoderConfig {
            family,
            attention_bias: bias,
            mlp_bias: bias,
            hidden_size: 24,
            intermediate_size: 40,
            num_hidden_layers: 2,
            num_attention_heads: 4,
            num_key_value_heads: 2,
            head_dim,
            vocab_size: 31,
            ..DecoderConfig::default()
        };
        let decoder = Decoder::random_as_loaded(config, 1, device).unwrap();
        assert_eq!(decoder.layers[0].q.weight.value().dtype(), DType::BF16);
        decoder
    })
}

#[test]
fn a_forward_pass_has_the_same_bits_whether_or_not_it_is_recorded() {
    for device in generations("a_forward_pass_recorded_or_not") {
        for decoder in decoders(&device) {
            let x = to(&device, DType::F32, &random(&[19, 24], 7));
            for rows in [
                Rows::causal(&device, &[7, 12]),
                Rows::causal(&device, &[7, 12]).unwrap().reading(&[3, 6, 18]),
            ] {
                let rows = rows.unwrap();
                let leaf = lea::autograd::Param::trainable("x", x.clone()).var();
                // Recorded, everything between products is in f32.
                let recorded = decoder.forward(&leaf, &rows).unwrap();
                assert!(recorded.requires_grad());
                let found = no_grad(|| decoder.forward(&Var::constant(x.clone()), &rows)).unwrap();
                expect_same(&format!("{:?}", decoder.config), &found.into_value(), &recorded.into_value());
            }
        }
    }
}

#[test]
fn a_reward_has_the_same_bits_in_any_pack_and_chunk_of_frozen_weights_in_bf16() {
    for device in generations("same_bits_in_bf16") {
        let mut env = environment_on(&device, DecoderConfig::default(), DType::F32, (3, 2, 1), 1);
        env.decoder = env.decoder.merged().unwrap().as_loaded().unwrap();
        assert_eq!(env.decoder.layers[1].down.weight.value().dtype(), DType::BF16);
        expect_same_rewards_in_any_pack(&env, &device);
    }
}

#[test]
fn a_pass_holds_the_memory_that_inspect_tells() {
    const ROWS: usize = 400;
    for device in devices("a_pass_holds_the_memory_that_inspect_tells") {
        let Device::Cuda(shared) = &device else { panic!("{device}") };
        let config = DecoderConfig {
            hidden_size: 64,
            intermediate_size: 256,
            num_hidden_layers: 2,
            num_attention_heads: 4,
            num_key_value_heads: 2,
            head_dim: 16,
            vocab_size: 31,
            ..DecoderConfig::default()
        };
        let mut settings = RunConfig::default();
        (settings.le.label.pack_tokens, settings.le.history) = (ROWS, 10);
        let folder = tempfile::tempdir().unwrap();
        let decoder = Decoder::random(config.clone(), 1, &Device::Cpu, DType::F32, false).unwrap();
        decoder.save(folder.path()).unwrap();
        let pass = |frozen: FrozenType| {
            // With a pool of its own.
            let cuda = Cuda::open(shared.description().clone(), false, Some(frozen)).unwrap();
            let device = Device::Cuda(cuda.clone());
            let decoder = Decoder::load(folder.path(), &device, DType::F32).unwrap();
            let x = Var::constant(to(&device, DType::F32, &random(&[ROWS, 64], 7)));
            let rows = Rows::causal(&device, &[100; ROWS / 100]).unwrap();
            let before = cuda.memory_held();
            no_grad(|| decoder.forward(&x, &rows)).unwrap();
            let estimate = memory::label(&config, &settings, 50, &device).pass;
            ((cuda.memory_held() - before) as f64, estimate as f64)
        };
        let [half, single] = [FrozenType::Bf16, FrozenType::F32].map(pass);
        for (held, estimate) in [half, single] {
            assert!((0.75..2.0).contains(&(estimate / held)), "estimated {estimate}, held {held}");
        }
        assert!(half.0 < 0.75 * single.0, "{} in bf16, {} in f32", half.0, single.0);
    }
}
