//! Linear layers, with or without a LoRA adapter.

use super::init;
use crate::autograd::{Param, Var, apply};
use crate::device::{DType, Device};
use crate::ops::{self, Dropout, Scale, matmul::matmul_accumulate};
use crate::tensor::Tensor;
use crate::{Error, Result};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

/// y = x·Wᵀ (+ bias) (+ adapter).
#[derive(Clone, Debug)]
pub struct Linear {
    /// W `[out, in]`.
    pub weight: Param,
    /// `[out]`.
    pub bias: Option<Param>,
    /// The adapter.
    pub lora: Option<Lora>,
}

/// Low-rank adapter (Hu et al., arXiv 2106.09685): y += scale · dropout(x)·Aᵀ·Bᵀ.
#[derive(Clone, Debug)]
pub struct Lora {
    /// A `[rank, in]`.
    pub a: Param,
    /// B `[out, rank]`.
    pub b: Param,
    /// α/rank, or α/√rank (rank-stabilised, Kalajdzievski, arXiv 2312.03732).
    pub scale: f64,
    /// Probability that an input element is dropped in training.
    pub dropout: f64,
    /// Seed of the dropout masks.
    pub seed: u64,
}

impl Linear {
    /// A layer without an adapter.
    pub fn new(weight: Param, bias: Option<Param>) -> Self {
        Linear { weight, bias, lora: None }
    }

    /// A trainable layer `name.weight` (and `name.bias`, zero) of `input` to `output` elements, uniform in
    /// ±1/√input.
    pub fn random(
        name: &str,
        (input, output): (usize, usize),
        bias: bool,
        rng: &mut ChaCha8Rng,
        device: &Device,
        dtype: DType,
    ) -> Result<Self> {
        let bound = (input.max(1) as f64).sqrt().recip();
        let weight = init::uniform(rng, bound, &[output, input], device, dtype)?;
        let bias = match bias {
            true => Some(Param::trainable(format!("{name}.bias"), Tensor::zeros(device, dtype, &[output])?)),
            false => None,
        };
        Ok(Linear::new(Param::trainable(format!("{name}.weight"), weight), bias))
    }

    /// `[rows, in] → [rows, out]`.
    pub fn forward(&self, x: &Var) -> Result<Var> {
        self.run(x, None, None)
    }

    /// As [`Linear::forward`], plus `residual: [rows, out]`.
    pub fn forward_residual(&self, x: &Var, residual: &Var) -> Result<Var> {
        self.run(x, Some(residual), None)
    }

    /// The general form. `dropout_step` counts training steps and turns the adapter's dropout on; each step has
    /// masks of its own, the same whenever it is run again.
    pub fn run(&self, x: &Var, residual: Option<&Var>, dropout_step: Option<u64>) -> Result<Var> {
        self.run_giving(None, x, residual, dropout_step)
    }

    /// As [`Linear::run`], the result in the given type, see [`ops::Linear::giving`]: without an adapter.
    pub fn run_giving(
        &self,
        giving: Option<DType>,
        x: &Var,
        residual: Option<&Var>,
        dropout_step: Option<u64>,
    ) -> Result<Var> {
        let (weight, bias) = (self.weight.var(), self.bias.as_ref().map(Param::var));
        let Some(lora) = &self.lora else {
            let op = ops::Linear { bias: bias.is_some(), residual: residual.is_some(), giving };
            let inputs = [Some(x), Some(&weight), bias.as_ref(), residual];
            return apply(op, &inputs.into_iter().flatten().collect::<Vec<_>>());
        };
        if giving.is_some_and(|giving| giving != x.value().dtype()) {
            let detail = "another type of the output of a layer with an adapter: merge it first".into();
            let device = x.value().device().to_string();
            return Err(Error::Unsupported { op: "adapted_linear", device, detail });
        }
        let dropped = lora.dropped(x, dropout_step)?;
        let mut op = ops::AdaptedLinear::new(lora.scale);
        (op.bias, op.residual, op.apart) = (bias.is_some(), residual.is_some(), dropped.is_some());
        let (a, b) = (lora.a.var(), lora.b.var());
        let inputs = [Some(x), Some(&weight), Some(&a), Some(&b), bias.as_ref(), residual, dropped.as_ref()];
        apply(op, &inputs.into_iter().flatten().collect::<Vec<_>>())
    }

    /// The layer with W + scale·B·A in place of W and adapter, frozen, and stored as W was.
    pub fn merged(&self) -> Result<Self> {
        let mut weight = self.weight.value();
        if let Some(lora) = &self.lora {
            let b = apply(Scale(lora.scale), &[&Var::constant(lora.b.value())])?.into_value();
            let stored = weight.dtype();
            weight = weight.widened()?;
            matmul_accumulate(&b, &lora.a.value(), false, false, &mut weight)?;
            weight = weight.stored_as(stored)?;
        }
        Ok(Linear::new(Param::frozen(self.weight.name(), weight), self.bias.as_ref().map(Param::to_frozen)))
    }

    /// The layer with W and bias frozen; an adapter stays as it is.
    pub fn frozen(&self) -> Self {
        let bias = self.bias.as_ref().map(Param::to_frozen);
        Linear { weight: self.weight.to_frozen(), bias, lora: self.lora.clone() }
    }

    /// The layer with W as its device stores frozen weights.
    pub fn as_stored(&self) -> Result<Self> {
        let weight = self.weight.value();
        let stored = match weight.dtype() {
            DType::F32 => weight.stored_as(weight.device().frozen_type())?,
            _ => weight,
        };
        Ok(Linear { weight: Param::frozen(self.weight.name(), stored), ..self.frozen() })
    }

    /// W and bias, without the adapter.
    pub fn params(&self) -> impl Iterator<Item = &Param> {
        std::iter::once(&self.weight).chain(&self.bias)
    }
}

impl Lora {
    /// An adapter for `layer`, whose module path is `module`: A uniform in ±1/√in (the Kaiming bound that PEFT
    /// takes), B zero, so that the layer starts as it was. Parameters are named as PEFT names them.
    pub fn new(
        layer: &Linear,
        module: &str,
        rank: usize,
        scale: f64,
        dropout: f64,
        seed: u64,
    ) -> Result<Self> {
        let weight = layer.weight.value();
        let (output, input) = weight.dims2("lora")?;
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let bound = (input.max(1) as f64).sqrt().recip();
        let dtype = weight.dtype().computed();
        let a = init::uniform(&mut rng, bound, &[rank, input], weight.device(), dtype)?;
        let b = Tensor::zeros(weight.device(), dtype, &[output, rank])?;
        let name = |part: &str| format!("base_model.model.{module}.{part}.weight");
        let (a, b) = (Param::trainable(name("lora_A"), a), Param::trainable(name("lora_B"), b));
        Ok(Lora { a, b, scale, dropout, seed })
    }

    /// What A reads in place of x where there is dropout: every adapter has masks of its own.
    fn dropped(&self, x: &Var, dropout_step: Option<u64>) -> Result<Option<Var>> {
        match dropout_step {
            Some(counter) if self.dropout > 0.0 => {
                apply(Dropout { p: self.dropout, seed: self.seed, counter }, &[x]).map(Some)
            }
            _ => Ok(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::autograd::{backward, gradcheck};

    fn layer(bias: bool) -> Linear {
        let mut rng = ChaCha8Rng::seed_from_u64(3);
        Linear::random("l", (6, 5), bias, &mut rng, &Device::Cpu, DType::F64).unwrap().frozen()
    }

    fn adapted(dropout: f64) -> Linear {
        let mut layer = layer(true);
        let lora = Lora::new(&layer, "m.q_proj", 2, 0.75, dropout, 9).unwrap();
        lora.b.set(gradcheck::random(&[5, 2], 4));
        layer.lora = Some(lora);
        layer
    }

    fn values(y: Var) -> Vec<f64> {
        y.value().to_f64_vec().unwrap()
    }

    #[test]
    fn a_new_adapter_changes_nothing_and_is_named_as_peft_names_it() {
        let mut layer = layer(false);
        let x = Var::constant(gradcheck::random(&[4, 6], 1));
        let before = values(layer.forward(&x).unwrap());
        layer.lora = Some(Lora::new(&layer, "model.layers.0.self_attn.q_proj", 3, 2.0, 0.0, 1).unwrap());
        assert_eq!(values(layer.forward(&x).unwrap()), before);
        let lora = layer.lora.unwrap();
        assert_eq!(lora.a.name(), "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight");
        assert_eq!(lora.b.name(), "base_model.model.model.layers.0.self_attn.q_proj.lora_B.weight");
    }

    #[test]
    fn merged_weights_equal_the_adapter() {
        let layer = adapted(0.0);
        let merged = layer.merged().unwrap();
        assert!(merged.lora.is_none() && !merged.weight.is_trainable());
        let (x, residual) = (gradcheck::random(&[7, 6], 1), gradcheck::random(&[7, 5], 2));
        let (x, residual) = (Var::constant(x), Var::constant(residual));
        let apart = values(layer.forward_residual(&x, &residual).unwrap());
        let together = values(merged.forward_residual(&x, &residual).unwrap());
        let plain = values(self::layer(true).forward_residual(&x, &residual).unwrap());
        assert!(apart.iter().zip(&together).all(|(a, b)| (a - b).abs() < 1e-12));
        assert!(apart.iter().zip(&plain).any(|(a, b)| (a - b).abs() > 1e-2));
    }

    #[test]
    fn dropout_masks_depend_on_the_step_alone_and_are_off_outside_training() {
        let (layer, x) = (adapted(0.5), Var::constant(gradcheck::random(&[4, 6], 1)));
        let at = |step| values(layer.run(&x, None, step).unwrap());
        assert_eq!(at(Some(3)), at(Some(3)));
        assert_ne!(at(Some(3)), at(Some(4)));
        assert_eq!(at(None), values(adapted(0.0).forward(&x).unwrap()));
    }

    #[test]
    fn gradients_of_the_adapter_match_finite_differences() {
        let layer = adapted(0.25);
        let lora = layer.lora.clone().unwrap();
        let x = Var::constant(gradcheck::random(&[3, 6], 1));
        let (left, right) = (gradcheck::random(&[1, 3], 5), gradcheck::random(&[5, 1], 6));
        let loss = || {
            let y = layer.run(&x, None, Some(5)).unwrap();
            let y = apply(ops::Matmul::default(), &[&Var::constant(left.clone()), &y]).unwrap();
            apply(ops::Matmul::default(), &[&y, &Var::constant(right.clone())]).unwrap()
        };
        let grads = backward(&loss()).unwrap();
        assert!(grads.of_param(&layer.weight).is_none());
        for param in [&lora.a, &lora.b] {
            let analytic = grads.of_param(param).unwrap().to_f64_vec().unwrap();
            let start = param.value();
            for (i, analytic) in analytic.iter().enumerate() {
                let at = |delta: f64| {
                    let mut moved = start.clone();
                    moved.host_mut::<f64>()[i] += delta;
                    param.set(moved);
                    loss().value().item().unwrap()
                };
                let numeric = (at(1e-5) - at(-1e-5)) / 2e-5;
                param.set(start.clone());
                assert!((analytic - numeric).abs() < 1e-7, "{} {i}: {analytic} {numeric}", param.name());
            }
        }
    }
}
