//! AdamW over named parameters, with clipping by the global norm and learning-rate multipliers by group.

use crate::autograd::{Gradients, Param};
use crate::device::{DType, profile};
use crate::ops::adamw::{AdamWStep, AdamWUpdate, adamw_steps};
use crate::ops::clip_norm::{Clip, Norm, clip_norm};
use crate::tensor::Tensor;
use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Settings of [`AdamW`].
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AdamWConfig {
    /// Learning rate, before schedule and group multiplier.
    pub lr: f64,
    /// Decay of the first moment.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// Added to the root of the second moment.
    pub eps: f64,
    /// Decoupled weight decay of matrices; vectors (biases, norm weights) are never decayed.
    pub weight_decay: f64,
    /// Gradients are scaled down to this norm over all parameters; `None` leaves them.
    pub clip_norm: Option<f64>,
}

impl Default for AdamWConfig {
    fn default() -> Self {
        AdamWConfig { lr: 1e-3, beta1: 0.9, beta2: 0.999, eps: 1e-8, weight_decay: 0.0, clip_norm: None }
    }
}

impl AdamWConfig {
    /// An error that names the first setting out of range.
    pub fn check(&self) -> Result<()> {
        let beta = |b: f64| (0.0..1.0).contains(&b);
        let positive = |x: f64| x > 0.0 && x.is_finite();
        let checks = [
            ("lr", self.lr, self.lr >= 0.0 && self.lr.is_finite(), "at least 0"),
            ("beta1", self.beta1, beta(self.beta1), "in 0..1"),
            ("beta2", self.beta2, beta(self.beta2), "in 0..1"),
            ("eps", self.eps, positive(self.eps), "above 0"),
            ("weight_decay", self.weight_decay, self.weight_decay >= 0.0, "at least 0"),
            ("clip_norm", self.clip_norm.unwrap_or(1.0), positive(self.clip_norm.unwrap_or(1.0)), "above 0"),
        ];
        match checks.iter().find(|(_, _, fine, _)| !fine) {
            None => Ok(()),
            Some((name, value, _, range)) => {
                Err(Error::setting(format!("{name} is {value}"), format!("set {name} to a value {range}")))
            }
        }
    }
}

/// What one step did.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepInfo {
    /// Norm of all gradients together, before clipping.
    pub grad_norm: f64,
    /// Whether it was scaled down.
    pub clipped: bool,
}

/// An update that was asked for, and that the device may not have done yet.
pub struct Submitted {
    clip: Clip,
    limit: Option<f64>,
    /// Number of the step, from 1.
    step: u64,
    /// The parameters that had a gradient.
    params: Vec<Param>,
}

impl Submitted {
    /// What the update did. Waits for the device.
    ///
    /// # Errors
    /// Gradients that were not finite: nothing was updated.
    pub fn info(&self) -> Result<StepInfo> {
        self.info_of(self.clip.read()?)
    }

    /// What each of several updates did. The host waits for the device once.
    ///
    /// # Errors
    /// The first whose gradients were not finite.
    pub fn infos(updates: &[&Self]) -> Result<Vec<StepInfo>> {
        let norms = Clip::read_all(&updates.iter().map(|update| &update.clip).collect::<Vec<_>>())?;
        updates.iter().zip(norms).map(|(update, norm)| update.info_of(norm)).collect()
    }

    fn info_of(&self, Norm { norm, factor, squares }: Norm) -> Result<StepInfo> {
        if factor.is_none() {
            return Err(diverged(self.step, &self.params, norm, &squares));
        }
        Ok(StepInfo { grad_norm: norm, clipped: self.limit.is_some_and(|limit| norm > limit) })
    }
}

/// `squares` are the squared norms of the gradients of `params`.
fn diverged(step: u64, params: &[Param], norm: f64, squares: &[f64]) -> Error {
    let culprit = params.iter().zip(squares).find(|(_, square)| !square.is_finite());
    let name = culprit.map_or("the parameters together", |(param, _)| param.name());
    Error::setting(
        format!("training diverged at step {step}: the gradient norm is {norm}, first in {name}"),
        "lower the learning rate, lengthen the warm-up or set clip_norm",
    )
}

/// One parameter with its moments.
struct Slot {
    param: Param,
    lr_multiplier: f64,
    m: Tensor,
    v: Tensor,
}

/// AdamW (Loshchilov and Hutter, arXiv 1711.05101) over a set of parameters.
pub struct AdamW {
    config: AdamWConfig,
    slots: Vec<Slot>,
    step: u64,
}

impl AdamW {
    /// Over the trainable ones among `params`; frozen ones are passed over. An error when a setting is out of range
    /// or two parameters have one name.
    pub fn new(params: Vec<Param>, config: AdamWConfig) -> Result<Self> {
        config.check()?;
        AdamW { config, slots: Vec::new(), step: 0 }.with_group(params, 1.0)
    }

    /// Adds parameters whose learning rate is multiplied by `lr_multiplier`.
    pub fn with_group(mut self, params: Vec<Param>, lr_multiplier: f64) -> Result<Self> {
        for param in params.into_iter().filter(Param::is_trainable) {
            if self.slots.iter().any(|slot| slot.param.name() == param.name()) {
                return Err(Error::setting(
                    format!("the optimiser was given two parameters named {:?}", param.name()),
                    "give every parameter a name of its own, and each to one group only",
                ));
            }
            let value = param.value();
            let zeros = || Tensor::zeros(value.device(), value.dtype(), value.shape());
            let (m, v) = (zeros()?, zeros()?);
            self.slots.push(Slot { param, lr_multiplier, m, v });
        }
        Ok(self)
    }

    /// Updates every parameter that has a gradient, at learning rate `lr · lr_scale · multiplier of its group`. A
    /// gradient that is not finite is an error and leaves all parameters as they were.
    pub fn step(&mut self, grads: Gradients, lr_scale: f64) -> Result<StepInfo> {
        let before = self.step;
        let info = self.submit(grads, lr_scale)?.info();
        if info.is_err() {
            self.step = before;
        }
        info
    }

    /// The same without waiting for a device: whether the gradients were finite is told by [`Submitted::info`], and here where
    /// they are in host memory. Steps may follow before somebody asks.
    pub fn submit(&mut self, mut grads: Gradients, lr_scale: f64) -> Result<Submitted> {
        let _range = profile::range(|| "optimiser".into());
        let grads: Vec<Option<Tensor>> =
            self.slots.iter().map(|slot| grads.take_param(&slot.param)).collect();
        let limit = self.config.clip_norm;
        let with_grad = self.slots.iter().zip(&grads).filter(|(_, grad)| grad.is_some());
        let submitted = Submitted {
            clip: clip_norm(&grads.iter().flatten().collect::<Vec<_>>(), limit)?,
            limit,
            step: self.step + 1,
            params: with_grad.map(|(slot, _)| slot.param.clone()).collect(),
        };
        let Some(scale) = submitted.clip.scale() else {
            submitted.info()?;
            return Ok(submitted);
        };
        self.step += 1;
        let base = AdamWStep {
            lr: self.config.lr * lr_scale,
            beta1: self.config.beta1,
            beta2: self.config.beta2,
            eps: self.config.eps,
            weight_decay: 0.0,
            step: self.step,
        };
        let decay = self.config.weight_decay;
        let of_slots =
            self.slots.iter_mut().zip(&grads).filter_map(|(slot, grad)| Some((slot, grad.as_ref()?)));
        let mut held = Vec::new();
        for (Slot { param, lr_multiplier, m, v }, grad) in of_slots {
            let weight_decay = if grad.shape().len() > 1 { decay } else { 0.0 };
            let step = AdamWStep { lr: base.lr * *lr_multiplier, weight_decay, ..base };
            held.push((param.value_mut(), m, v, grad, step));
        }
        let mut updates = Vec::with_capacity(held.len());
        for (param, m, v, grad, step) in &mut held {
            updates.push(AdamWUpdate { param, m, v, grad, step: *step });
        }
        adamw_steps(&mut updates, scale)?;
        Ok(submitted)
    }

    /// Steps taken.
    pub fn steps(&self) -> u64 {
        self.step
    }

    /// Everything that a later run needs to go on with the same bits, by name: `optim.step` (u32 `[1]`), and the
    /// moments `optim.m.NAME` and `optim.v.NAME` of every parameter.
    pub fn state(&self) -> Result<BTreeMap<String, Tensor>> {
        let mut state = BTreeMap::new();
        for slot in &self.slots {
            state.insert(format!("optim.m.{}", slot.param.name()), slot.m.clone());
            state.insert(format!("optim.v.{}", slot.param.name()), slot.v.clone());
        }
        if let Some(slot) = self.slots.first() {
            state.insert("optim.step".into(), Tensor::from_ids(slot.m.device(), &[self.step as u32])?);
        }
        Ok(state)
    }

    /// Takes over what [`AdamW::state`] gave; a missing tensor or another shape is an error and changes nothing.
    pub fn load_state(&mut self, state: &BTreeMap<String, Tensor>) -> Result<()> {
        if self.slots.is_empty() {
            return Ok(());
        }
        let find = |name: String, shape: &[usize], dtype: DType| match state.get(&name) {
            Some(tensor) if tensor.shape() == shape && tensor.dtype() == dtype => Ok(tensor.clone()),
            found => {
                let found = found.map_or("nothing".into(), |t| format!("{t:?}"));
                let problem = format!("optimiser state {name:?}: expected {dtype} {shape:?}, found {found}");
                Err(Error::setting(problem, "resume with the settings that wrote the state, or start afresh"))
            }
        };
        let step = find("optim.step".into(), &[1], DType::U32)?.to_vec::<u32>()?[0];
        let moments = |slot: &Slot| {
            let of = |moment: &str| {
                find(format!("optim.{moment}.{}", slot.param.name()), slot.m.shape(), slot.m.dtype())
            };
            Ok((of("m")?, of("v")?))
        };
        let moments: Vec<(Tensor, Tensor)> = self.slots.iter().map(moments).collect::<Result<_>>()?;
        for (slot, (m, v)) in self.slots.iter_mut().zip(moments) {
            (slot.m, slot.v) = (m, v);
        }
        self.step = u64::from(step);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::autograd::{Var, apply, backward, gradcheck};
    use crate::ops::{Matmul, adamw::squared_norm};

    /// Gradients of the loss a·W·b: each parameter's gradient is fixed by the other factors.
    fn gradients(a: &Param, w: &Param, scale: f64) -> Gradients {
        let b = Tensor::full(w.value().device(), DType::F64, &[2, 1], scale).unwrap();
        let aw = apply(Matmul::default(), &[&a.var(), &w.var()]).unwrap();
        backward(&apply(Matmul::default(), &[&aw, &Var::constant(b)]).unwrap()).unwrap()
    }

    fn params() -> (Param, Param) {
        (
            Param::trainable("a", gradcheck::random(&[1, 3], 1)),
            Param::trainable("w", gradcheck::random(&[3, 2], 2)),
        )
    }

    fn values(param: &Param) -> Vec<f64> {
        param.value().to_f64_vec().unwrap()
    }

    #[test]
    fn clipping_bounds_the_global_norm_and_reports_it() {
        let (a, w) = params();
        let want: f64 = {
            let grads = gradients(&a, &w, 1.0);
            let of = |p| squared_norm(grads.of_param(p).unwrap()).unwrap();
            (of(&a) + of(&w)).sqrt()
        };
        let config = AdamWConfig { clip_norm: Some(1e-3), ..AdamWConfig::default() };
        let mut optimiser = AdamW::new(vec![a.clone(), w.clone()], config).unwrap();
        let info = optimiser.step(gradients(&a, &w, 1.0), 1.0).unwrap();
        assert!((info.grad_norm - want).abs() < 1e-12 && info.clipped);
        let state = optimiser.state().unwrap();
        let moments = squared_norm(&state["optim.m.a"]).unwrap() + squared_norm(&state["optim.m.w"]).unwrap();
        assert!(
            (moments.sqrt() / 0.1 - 1e-3).abs() < 1e-12,
            "the first moment holds a tenth of the gradient"
        );
    }

    #[test]
    fn first_steps_have_the_size_of_the_group_rate() {
        let (a, w) = params();
        let (before_a, before_w) = (values(&a), values(&w));
        let config = AdamWConfig { lr: 0.01, ..AdamWConfig::default() };
        let mut optimiser =
            AdamW::new(vec![a.clone()], config).unwrap().with_group(vec![w.clone()], 5.0).unwrap();
        optimiser.step(gradients(&a, &w, 1.0), 0.5).unwrap();
        let moved = |before: Vec<f64>, param: &Param, rate: f64| {
            let after = values(param);
            assert!(before.iter().zip(after).all(|(b, a)| ((b - a).abs() - rate).abs() < 1e-6));
        };
        moved(before_a, &a, 0.005);
        moved(before_w, &w, 0.025);
    }

    #[test]
    fn resumed_training_has_the_same_bits() {
        let run = |resume: bool| {
            let (a, w) = params();
            let make = || AdamW::new(vec![a.clone(), w.clone()], AdamWConfig::default()).unwrap();
            let mut optimiser = make();
            for i in 0..6 {
                if resume && i == 3 {
                    let state = optimiser.state().unwrap();
                    optimiser = make();
                    optimiser.load_state(&state).unwrap();
                }
                optimiser.step(gradients(&a, &w, 1.0 + f64::from(i)), 1.0).unwrap();
            }
            (values(&a), values(&w), optimiser.steps())
        };
        assert_eq!(run(true), run(false));
    }

    #[test]
    fn a_gradient_that_is_not_finite_is_an_error_and_changes_nothing() {
        let (a, w) = params();
        let before = (values(&a), values(&w));
        let mut optimiser = AdamW::new(vec![a.clone(), w.clone()], AdamWConfig::default()).unwrap();
        let error = optimiser.step(gradients(&a, &w, f64::INFINITY), 1.0).unwrap_err().to_string();
        assert!(error.contains("step 1") && error.contains("first in a"), "{error}");
        assert_eq!((values(&a), values(&w)), before);
        assert_eq!(optimiser.steps(), 0);
    }

    #[test]
    fn bad_settings_names_and_states_are_errors() {
        let (a, _) = params();
        let config = AdamWConfig { beta2: 1.0, ..AdamWConfig::default() };
        assert!(AdamW::new(vec![], config).err().unwrap().to_string().contains("beta2 is 1"));
        assert!(AdamW::new(vec![a.clone(), a.clone()], AdamWConfig::default()).is_err());
        let mut optimiser = AdamW::new(vec![a], AdamWConfig::default()).unwrap();
        let mut state = optimiser.state().unwrap();
        state.remove("optim.v.a");
        assert!(optimiser.load_state(&state).unwrap_err().to_string().contains("optim.v.a"));
    }

    #[test]
    fn frozen_parameters_and_those_without_gradient_stay() {
        let (a, w) = params();
        let frozen = Param::frozen("f", gradcheck::random(&[2, 2], 3));
        let unused = Param::trainable("u", gradcheck::random(&[2, 2], 4));
        let before = (values(&frozen), values(&unused));
        let config = AdamWConfig { weight_decay: 0.5, ..AdamWConfig::default() };
        let mut optimiser =
            AdamW::new(vec![frozen.clone(), unused.clone(), a.clone(), w.clone()], config).unwrap();
        optimiser.step(gradients(&a, &w, 1.0), 1.0).unwrap();
        assert_eq!((values(&frozen), values(&unused)), before);
    }
}
