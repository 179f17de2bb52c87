//! Forest attention: softmax(scale·q·Kᵀ)·V where a query row sees its ancestors and itself, at most four ranges of
//! key rows (root, trunk, stem, leaf). Causal text, packed users and single prompts are all forests.
//! FLOPs 4·head_dim·heads a (query, key) pair; bytes of q, k, v and the output. Backward 10, the scores
//! being made again; bytes of all of these and of their gradients.

use super::{Cost, Op, Saved, bytes_of, expect_alike, expect_shape, float_type};
use crate::device::cpu::forest_attention as kernel;
pub use crate::device::cpu::forest_attention::Heads;
pub use crate::device::{AttentionIndex, RowRanges};
use crate::device::{DType, Device, cuda, webgpu};
use crate::tensor::Tensor;
use crate::{Error, Result};
use half::bf16;
use std::sync::Arc;

/// Inputs: q `[rows, heads·head_dim]`, k and v `[keys, kv_heads·head_dim]`, all of one type; output like q. Stored in bf16 CUDA and
/// the CPU take them where products are in bf16 too, forward alone: nothing goes backward through them.
#[derive(Clone, Debug)]
pub struct ForestAttention {
    index: Arc<AttentionIndex>,
    heads: Heads,
    scale: f64,
    products: DType,
    /// Of the output, where it is not that of the inputs.
    gives: Option<DType>,
    /// Log-sum-exp `[rows, heads]`, kept for backward.
    lse: Option<Tensor>,
}

impl ForestAttention {
    /// Attention of `heads` query heads over `kv_heads` key heads of width `head_dim`, scores times `scale`, which is above 0.
    pub fn new(
        index: Arc<AttentionIndex>,
        heads: usize,
        kv_heads: usize,
        head_dim: usize,
        scale: f64,
    ) -> Self {
        let heads = Heads { heads, kv_heads, head_dim };
        ForestAttention { index, heads, scale, products: DType::F32, gives: None, lse: None }
    }

    /// The same where `dtype` is the least precise type that products may be in: bf16 lets CUDA's tensor cores multiply
    /// q, k, v and the weights of the values rounded to bf16, sums and softmax in f32, and backward the output's gradient, the weights and
    /// their slopes likewise; the CPU does so where they are stored in bf16, forward. Devices without such products ignore it.
    pub fn products_in(self, dtype: DType) -> Self {
        ForestAttention { products: dtype, ..self }
    }

    /// The same with an output of that type, f32 or bf16 (rounded to nearest, ties to even), where products are in bf16 on CUDA, and on the CPU of inputs in bf16: forward
    /// alone. Elsewhere another type than that of the inputs is an error.
    pub fn giving(self, dtype: DType) -> Self {
        ForestAttention { gives: Some(dtype), ..self }
    }

    /// Type of the output.
    fn out_type(&self, q: &Tensor) -> DType {
        self.gives.unwrap_or(q.dtype())
    }

    fn check(&self, inputs: &[&Tensor]) -> Result<()> {
        let Heads { heads, kv_heads, head_dim } = self.heads;
        if heads == 0 || kv_heads == 0 || head_dim == 0 || !heads.is_multiple_of(kv_heads) {
            let problem = format!("{heads} query heads over {kv_heads} key heads of width {head_dim}");
            return Err(Error::shape("forest_attention", problem));
        }
        // Kernels look for the highest score before they scale it.
        if !(self.scale > 0.0 && self.scale.is_finite()) {
            let problem = format!("scores times {}: a number above 0 is needed", self.scale);
            return Err(Error::shape("forest_attention", problem));
        }
        expect_alike("forest_attention", inputs)?;
        expect_shape("forest_attention", "q", inputs[0], &[self.index.rows(), self.heads.q_width()])?;
        for (name, x) in [("k", inputs[1]), ("v", inputs[2])] {
            expect_shape("forest_attention", name, x, &[self.index.keys(), self.heads.kv_width()])?;
        }
        Ok(())
    }

    /// Types in which q, k, v come and the output goes: f32 and f64 alike everywhere; bf16 is for tensor cores, and not for gradients.
    fn check_types(&self, q: &Tensor, record: bool) -> Result<()> {
        let (taken, given) = (q.dtype(), self.out_type(q));
        if taken == given && taken != DType::BF16 {
            return Ok(());
        }
        let refuse = |why: &str| {
            let detail = format!("{taken} in and {given} out {why}");
            Err(Error::Unsupported { op: "forest_attention", device: q.device().to_string(), detail })
        };
        if [taken, given].iter().any(|dtype| ![DType::F32, DType::BF16].contains(dtype)) {
            return refuse("(f32 and bf16 go together alone)");
        }
        match q.device() {
            Device::WebGpu(_) => {
                refuse("(bf16 is for CUDA and the CPU: give f32, and take the output in it)")
            }
            _ if self.products != DType::BF16 => {
                refuse("with products in f32: ask for them in bf16 (`products_in`), or give f32")
            }
            _ if record => refuse("with gradients: give q, k and v in f32, and take the output in it"),
            Device::Cpu if taken == DType::F32 => {
                refuse("(on the CPU: give f32, and take the output in it, or give q, k and v in bf16)")
            }
            _ => Ok(()),
        }
    }
}

fn cpu_inputs<'a, T: crate::device::cpu::Float>(
    op: &ForestAttention,
    inputs: [&'a Tensor; 3],
) -> kernel::Inputs<'a, T> {
    let [q, k, v] = inputs.map(Tensor::host::<T>);
    kernel::Inputs { q, k, v, heads: op.heads, scale: T::of(op.scale) }
}

fn cuda_inputs<'a>(
    op: &ForestAttention,
    [q, k, v]: [cuda::View<'a>; 3],
) -> cuda::forest_attention::Inputs<'a> {
    cuda::forest_attention::Inputs { q, k, v, heads: op.heads, scale: op.scale as f32 }
}

fn gpu_inputs<'a>(
    op: &ForestAttention,
    [q, k, v]: [webgpu::View<'a>; 3],
) -> webgpu::forest_attention::Inputs<'a> {
    webgpu::forest_attention::Inputs { q, k, v, heads: op.heads, scale: op.scale as f32 }
}

impl Op for ForestAttention {
    fn name(&self) -> &'static str {
        "forest_attention"
    }

    fn forward(&mut self, inputs: &[&Tensor], record: bool) -> Result<Tensor> {
        self.check(inputs)?;
        let q = inputs[0];
        self.check_types(q, record)?;
        let mut out = Tensor::scratch(q.device(), self.out_type(q), q.shape())?;
        let of_sums = if q.dtype() == DType::BF16 { DType::F32 } else { q.dtype() };
        let mut lse = Tensor::scratch(q.device(), of_sums, &[self.index.rows(), self.heads.heads])?;
        match q.device() {
            Device::Cuda(_) => {
                let [q, k, v] = [q.cuda(), inputs[1].cuda(), inputs[2].cuda()];
                let inputs = cuda_inputs(self, [q, k, v]);
                let (out, lse) = (out.cuda_mut()?, lse.cuda_mut()?);
                match self.products {
                    DType::BF16 => {
                        cuda::forest_attention::tensor_cores::forward(inputs, &self.index, out, lse)?;
                    }
                    _ => cuda::forest_attention::forward(inputs, &self.index, out, lse)?,
                }
            }
            Device::WebGpu(_) => {
                let [q, k, v] = [q.gpu()?, inputs[1].gpu()?, inputs[2].gpu()?];
                let inputs = gpu_inputs(self, [q.view(), k.view(), v.view()]);
                webgpu::forest_attention::forward(inputs, &self.index, out.gpu_mut()?, lse.gpu_mut()?)?;
            }
            Device::Cpu if q.dtype() == DType::BF16 => {
                let [q, k, v] = [q, inputs[1], inputs[2]].map(Tensor::host);
                let inputs = kernel::HalfInputs { q, k, v, heads: self.heads, scale: self.scale as f32 };
                match out.dtype() {
                    DType::BF16 => kernel::forward_bf16::<bf16>(inputs, &self.index, out.host_mut()),
                    _ => kernel::forward_bf16::<f32>(inputs, &self.index, out.host_mut()),
                }
            }
            Device::Cpu => float_type!("forest_attention", q, T => {
                let inputs = cpu_inputs::<T>(self, [inputs[0], inputs[1], inputs[2]]);
                let lse = record.then(|| lse.host_mut());
                kernel::forward(inputs, &self.index, out.host_mut(), lse);
                Ok(())
            })?,
        }
        self.lse = record.then_some(lse);
        Ok(out)
    }

    fn backward(&self, saved: &Saved, grad: &Tensor) -> Result<Vec<Option<Tensor>>> {
        let inputs = [saved.input(0), saved.input(1), saved.input(2)];
        let lse = self.lse.as_ref().expect("forward was recorded");
        let like = |x: &Tensor| Tensor::scratch(x.device(), x.dtype(), x.shape());
        let (mut dq, mut dk, mut dv) = (like(inputs[0])?, like(inputs[1])?, like(inputs[2])?);
        match grad.device() {
            Device::Cuda(_) => {
                let [q, k, v] = [inputs[0].cuda(), inputs[1].cuda(), inputs[2].cuda()];
                let [out, lse, dout] = [saved.output().cuda(), lse.cuda(), grad.cuda()];
                let outputs = cuda::forest_attention::Outputs { out, lse, dout };
                let (dq, dk, dv) = (dq.cuda_mut()?, dk.cuda_mut()?, dv.cuda_mut()?);
                let grads = cuda::forest_attention::Grads { dq, dk, dv };
                let inputs = cuda_inputs(self, [q, k, v]);
                match self.products {
                    DType::BF16 => {
                        cuda::forest_attention::backward::backward(inputs, outputs, &self.index, grads)?;
                    }
                    _ => cuda::forest_attention::backward(inputs, outputs, &self.index, grads)?,
                }
            }
            Device::WebGpu(_) => {
                let [q, k, v] = [inputs[0].gpu()?, inputs[1].gpu()?, inputs[2].gpu()?];
                let [out, lse, dout] = [saved.output().gpu()?, lse.gpu()?, grad.gpu()?];
                let (out, lse, dout) = (out.view(), lse.view(), dout.view());
                let outputs = webgpu::forest_attention::Outputs { out, lse, dout };
                let (dq, dk, dv) = (dq.gpu_mut()?, dk.gpu_mut()?, dv.gpu_mut()?);
                let grads = webgpu::forest_attention::Grads { dq, dk, dv };
                let inputs = gpu_inputs(self, [q.view(), k.view(), v.view()]);
                webgpu::forest_attention::backward(inputs, outputs, &self.index, grads)?;
            }
            Device::Cpu => float_type!("forest_attention", grad, T => {
                let (out, lse, dout) = (saved.output().host::<T>(), lse.host(), grad.host());
                let outputs = kernel::Outputs { out, lse, dout };
                let inputs = cpu_inputs::<T>(self, inputs);
                kernel::backward(inputs, outputs, &self.index, dq.host_mut(), dk.host_mut(), dv.host_mut());
                Ok(())
            })?,
        }
        let needs = saved.needs;
        Ok(vec![needs[0].then_some(dq), needs[1].then_some(dk), needs[2].then_some(dv)])
    }

    fn factors(&self, inputs: &[&Tensor]) -> DType {
        match inputs[0].device() {
            Device::Cuda(_) => self.products,
            _ => inputs[0].dtype(),
        }
    }

    fn cost(&self, inputs: &[&Tensor]) -> Cost {
        let flops = 4 * self.index.pairs() * self.heads.q_width() as u64;
        let out = inputs[0].len() * self.out_type(inputs[0]).size();
        Cost { flops, bytes: bytes_of(inputs) + out as u64 }
    }

    fn backward_cost(&self, saved: &Saved, grad: &Tensor) -> Cost {
        let inputs = bytes_of(&[saved.input(0), saved.input(1), saved.input(2)]);
        let flops = 10 * self.index.pairs() * self.heads.q_width() as u64;
        Cost { flops, bytes: 2 * inputs + 2 * bytes_of(&[grad]) }
    }

    fn keeps_output(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::autograd::{Var, apply, backward, gradcheck};
    use crate::ops::{DotWeights, Reshape};

    /// Two trees under a root of three rows: trunks, a stem, leaves of one and of three rows.
    fn forest() -> AttentionIndex {
        let root = (0, 3);
        let mut rows: Vec<RowRanges> =
            (0..3).map(|i| RowRanges([(0, i + 1), (0, 0), (0, 0), (0, 0)])).collect();
        for trunk in [20u32, 2] {
            let start = rows.len() as u32;
            rows.extend((0..trunk).map(|t| RowRanges([root, (start, start + t + 1), (0, 0), (0, 0)])));
            for t in [0, trunk - 1] {
                let stem = rows.len() as u32;
                let seen = (start, start + t + 1);
                rows.extend((0..2).map(|i| RowRanges([root, seen, (stem, stem + i + 1), (0, 0)])));
                for length in [1u32, 1, 3, 1, 1] {
                    let leaf = rows.len() as u32;
                    let own = |i| RowRanges([root, seen, (stem, stem + 2), (leaf, leaf + i + 1)]);
                    rows.extend((0..length).map(own));
                }
            }
        }
        let keys = rows.len();
        AttentionIndex::new(rows, keys).unwrap()
    }

    fn plain(q: &[f64], k: &[f64], v: &[f64], index: &AttentionIndex, heads: Heads, scale: f64) -> Vec<f64> {
        let hd = heads.head_dim;
        let mut out = vec![0.0; q.len()];
        for (row, ranges) in index.ranges().iter().enumerate() {
            let keys: Vec<usize> = (0..4).flat_map(|i| ranges.range(i)).collect();
            for head in 0..heads.heads {
                let q = &q[row * heads.q_width() + head * hd..][..hd];
                let at = |key: usize| key * heads.kv_width() + head / heads.group() * hd;
                let dot = |key| q.iter().zip(&k[at(key)..][..hd]).map(|(a, b)| a * b).sum::<f64>();
                let weights: Vec<f64> = keys.iter().map(|&key| (scale * dot(key)).exp()).collect();
                let total: f64 = weights.iter().sum();
                for (&key, w) in keys.iter().zip(&weights) {
                    for d in 0..hd {
                        out[row * heads.q_width() + head * hd + d] += w / total * v[at(key) + d];
                    }
                }
            }
        }
        out
    }

    #[test]
    fn outputs_agree_with_a_plain_loop() {
        let index = Arc::new(forest());
        let windowed = Arc::new(forest().windowed(4).unwrap());
        assert!(index.trees().len() >= 3 && windowed.pairs() < index.pairs());
        let shapes = [(1, 1, 1), (4, 2, 5), (2, 2, 16), (6, 3, 48), (4, 1, 33)];
        let all = shapes.map(|shape| (&index, shape)).into_iter();
        let deep = Arc::new(AttentionIndex::causal(&[90, 5]).unwrap().windowed(19).unwrap());
        let windows =
            [(&windowed, (4, 2, 5)), (&windowed, (2, 1, 16)), (&deep, (4, 2, 5)), (&deep, (2, 1, 16))];
        for (index, (heads, kv_heads, hd)) in all.chain(windows) {
            let layout = Heads { heads, kv_heads, head_dim: hd };
            let n = index.rows();
            let q = gradcheck::random(&[n, layout.q_width()], 1);
            let k = gradcheck::random(&[n, layout.kv_width()], 2);
            let v = gradcheck::random(&[n, layout.kv_width()], 3);
            let [q64, k64, v64] = [&q, &k, &v].map(|x| x.to_f64_vec().unwrap());
            let want = plain(&q64, &k64, &v64, index, layout, 0.7);
            for (dtype, tolerance) in [(DType::F64, 1e-12), (DType::F32, 1e-5)] {
                let cast = |x: &Tensor| {
                    Tensor::from_f64(&Device::Cpu, dtype, &x.to_f64_vec().unwrap(), x.shape()).unwrap()
                };
                let mut op = ForestAttention::new(index.clone(), heads, kv_heads, hd, 0.7);
                let out =
                    op.forward(&[&cast(&q), &cast(&k), &cast(&v)], false).unwrap().to_f64_vec().unwrap();
                for (i, (got, want)) in out.iter().zip(&want).enumerate() {
                    let close = (got - want).abs() <= tolerance;
                    assert!(close, "{dtype} {layout:?} at {i}: {got} and {want}");
                }
            }
        }
    }

    #[test]
    fn gradients_match_finite_differences() {
        let whole = Arc::new(forest());
        let windowed = Arc::new(forest().windowed(4).unwrap());
        let deep = Arc::new(AttentionIndex::causal(&[30, 3]).unwrap().windowed(7).unwrap());
        for (index, (heads, kv_heads, hd)) in
            [(&whole, (2, 1, 3)), (&whole, (1, 1, 17)), (&windowed, (2, 1, 3)), (&deep, (2, 1, 17))]
        {
            let n = index.rows();
            let inputs = [(1, heads), (2, kv_heads), (3, kv_heads)];
            let inputs = inputs.map(|(seed, heads)| gradcheck::random(&[n, heads * hd], seed));
            gradcheck::op(|| ForestAttention::new(index.clone(), heads, kv_heads, hd, 0.5), &inputs);
        }
    }

    #[test]
    fn gradients_in_f32_agree_with_those_in_f64() {
        let whole = Arc::new(forest());
        let windowed = Arc::new(forest().windowed(4).unwrap());
        let causal = Arc::new(AttentionIndex::causal(&[50, 1, 30]).unwrap());
        let leaves = (0..40).map(|i| RowRanges([(0, 0), (0, 0), (0, 0), (i / 2 * 2, i + 1)])).collect();
        let leaves = Arc::new(AttentionIndex::new(leaves, 40).unwrap());
        for (index, (heads, kv_heads, hd)) in [
            (&whole, (4, 2, 24)),
            (&whole, (3, 1, 33)),
            (&windowed, (2, 1, 16)),
            (&causal, (2, 2, 32)),
            (&causal, (1, 1, 7)),
            (&leaves, (2, 1, 9)),
        ] {
            let n = index.rows();
            let random = |seed, width| gradcheck::random(&[n, width], seed).to_f64_vec().unwrap();
            let inputs =
                [(1, heads), (2, kv_heads), (3, kv_heads)].map(|(seed, heads)| random(seed, heads * hd));
            let weights = random(4, heads * hd);
            let grads_in = |dtype| {
                let tensor = |x: &[f64]| Tensor::from_f64(&Device::Cpu, dtype, x, &[n, x.len() / n]).unwrap();
                let [q, k, v] = [0, 1, 2].map(|i| Var::leaf(tensor(&inputs[i])));
                let attention = ForestAttention::new(index.clone(), heads, kv_heads, hd, 0.4);
                let y = apply(attention, &[&q, &k, &v]).unwrap();
                let y = apply(Reshape::new(&[weights.len()]), &[&y]).unwrap();
                let weights = Tensor::from_f64(&Device::Cpu, dtype, &weights, &[weights.len()]).unwrap();
                let grads = backward(&apply(DotWeights { weights }, &[&y]).unwrap()).unwrap();
                [q, k, v].map(|x| grads.of(&x).unwrap().to_f64_vec().unwrap())
            };
            let (exact, found) = (grads_in(DType::F64), grads_in(DType::F32));
            for (name, (exact, found)) in ["q", "k", "v"].iter().zip(exact.iter().zip(&found)) {
                for (i, (want, got)) in exact.iter().zip(found).enumerate() {
                    let close = (want - got).abs() <= 2e-5 * (1.0 + want.abs());
                    assert!(close, "d{name} at {i} of {heads} heads of {hd}: {got}, not {want}");
                }
            }
        }
    }

    #[test]
    fn a_row_through_a_window_has_the_same_bits_in_a_tile_of_many_rows_as_in_one_of_few() {
        let deep = AttentionIndex::causal(&[150, 5, 70]).unwrap();
        let (heads, kv_heads, hd) = (4, 2, 21);
        for (whole, width) in [(forest(), 4), (deep.clone(), 1), (deep.clone(), 7), (deep, 32)] {
            let windowed = Arc::new(whole.windowed(width).unwrap());
            let apart = AttentionIndex::new(windowed.ranges().to_vec(), windowed.keys()).unwrap();
            assert!(windowed.tiles().len() < apart.tiles().len());
            let inputs = [(1, heads), (2, kv_heads), (3, kv_heads)].map(|(seed, heads)| {
                let x = gradcheck::random(&[whole.rows(), heads * hd], seed).to_f64_vec().unwrap();
                Tensor::from_f64(&Device::Cpu, DType::F32, &x, &[whole.rows(), heads * hd]).unwrap()
            });
            let run = |index: &Arc<AttentionIndex>| {
                let mut op = ForestAttention::new(index.clone(), heads, kv_heads, hd, 0.3);
                let out = op.forward(&[&inputs[0], &inputs[1], &inputs[2]], false).unwrap();
                out.to_vec::<f32>().unwrap()
            };
            assert!(run(&windowed) == run(&Arc::new(apart)), "window {width}");
        }
    }

    #[test]
    fn a_row_has_the_same_bits_in_any_forest() {
        // The last tree of the forest alone under the same root: its rows must not notice.
        let whole = forest();
        let last = whole.trees().last().unwrap().clone();
        let shift = (last.keys.start - 3) as u32;
        let moved = |r: &RowRanges| {
            let mut r = *r;
            for range in &mut r.0[1..] {
                *range = if range.0 == range.1 { (0, 0) } else { (range.0 - shift, range.1 - shift) };
            }
            r
        };
        let mut rows = whole.ranges()[..3].to_vec();
        rows.extend(whole.ranges()[last.rows.clone()].iter().map(moved));
        let keys = rows.len();
        let alone = Arc::new(AttentionIndex::new(rows, keys).unwrap());
        let (heads, kv_heads, hd) = (4, 2, 24);
        let run = |index: &Arc<AttentionIndex>, pick: &dyn Fn(&Tensor) -> Tensor| {
            let inputs = [(1, heads), (2, kv_heads), (3, kv_heads)].map(|(seed, heads)| {
                let x = gradcheck::random(&[whole.rows(), heads * hd], seed).to_f64_vec().unwrap();
                let x: Vec<f32> = x.iter().map(|&x| x as f32).collect();
                pick(&Tensor::from_slice(&Device::Cpu, &x, &[whole.rows(), heads * hd]).unwrap())
            });
            let mut op = ForestAttention::new(index.clone(), heads, kv_heads, hd, 0.3);
            op.forward(&[&inputs[0], &inputs[1], &inputs[2]], false).unwrap()
        };
        let all = run(&Arc::new(whole.clone()), &|x| x.clone());
        let part = run(&alone, &|x| {
            let width = x.shape()[1];
            let x = x.to_vec::<f32>().unwrap();
            let mut rows = x[..3 * width].to_vec();
            rows.extend_from_slice(&x[last.rows.start * width..last.rows.end * width]);
            Tensor::from_slice(&Device::Cpu, &rows, &[rows.len() / width, width]).unwrap()
        });
        let own = part.rows(3..part.shape()[0]).unwrap().to_vec::<f32>().unwrap();
        assert_eq!(own, all.rows(last.rows).unwrap().to_vec::<f32>().unwrap());
    }

    #[test]
    fn a_scale_that_turns_scores_around_is_refused() {
        for scale in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            let mut op = ForestAttention::new(Arc::new(forest()), 1, 1, 2, scale);
            let rows = op.index.rows();
            let [q, k, v] = [1, 2, 3].map(|seed| gradcheck::random(&[rows, 2], seed));
            let error = op.forward(&[&q, &k, &v], false).unwrap_err();
            assert!(error.to_string().contains("a number above 0 is needed"), "{error}");
        }
    }

    #[test]
    fn five_products_go_backward_for_two_forward() {
        let op = ForestAttention::new(Arc::new(AttentionIndex::causal(&[3]).unwrap()), 2, 1, 4, 1.0);
        let (q, k) = (gradcheck::random(&[3, 8], 1), gradcheck::random(&[3, 4], 2));
        let kept = [q.clone(), k.clone(), k.clone()].map(Some);
        let backward = op.backward_cost(&Saved::new(&kept, Some(&q), &[true; 3]), &q);
        // Six pairs, two heads of four: two FLOPs a product.
        assert_eq!(op.cost(&[&q, &k, &k]).flops, 2 * 2 * 6 * 2 * 4);
        assert_eq!(backward.flops, 5 * 2 * 6 * 2 * 4);
        // q, k, v and their gradients, the output and its gradient, f64.
        assert_eq!(backward.bytes, 8 * (2 * (24 + 12 + 12) + 24 + 24));
    }
}
