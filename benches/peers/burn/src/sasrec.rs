//! The training step: SASRec with pre-norm blocks, one head, tied output, full-softmax cross-entropy and Adam, built from
//! burn's own layers.

use crate::cases::{Case, elements};
use crate::counter::bits;
use crate::stream::tensor;
use burn::module::{Module, Param};
use burn::nn::loss::{CrossEntropyLoss, CrossEntropyLossConfig};
use burn::nn::{Embedding, EmbeddingConfig, LayerNorm, LayerNormConfig, Linear, LinearConfig};
use burn::optim::{AdamConfig, GradientsParams, ModuleOptimizer};
use burn::tensor::activation::relu;
use burn::tensor::module::attention;
use burn::tensor::ops::AttentionModuleOptions;
use burn::tensor::{Device, Int, Tensor, TensorData};

const WIDTH: usize = 64;
const BLOCKS: usize = 2;
const USERS: usize = 256;
const HISTORY: usize = 50;
const CHECKED_STEPS: usize = 4;

#[derive(Module, Debug)]
struct Block {
    attention_norm: LayerNorm,
    query: Linear,
    key: Linear,
    value: Linear,
    output: Linear,
    inner_norm: LayerNorm,
    inner: Linear,
    outer: Linear,
}

#[derive(Module, Debug)]
struct SasRec {
    items: Embedding,
    positions: Param<Tensor<2>>,
    blocks: Vec<Block>,
    norm: LayerNorm,
    head_bias: Param<Tensor<1>>,
}

fn small(x: f64) -> f64 {
    0.0625 * x
}

fn medium(x: f64) -> f64 {
    0.125 * x
}

fn linear(device: &Device, name: &str) -> Linear {
    let mut linear = LinearConfig::new(WIDTH, WIDTH).init(device);
    // The stream is [outputs, inputs]; burn keeps [inputs, outputs].
    let weight = tensor(device, &format!("{name}.weight"), [WIDTH, WIDTH], medium).transpose().into_data();
    linear.weight = Param::from_data(weight, device);
    linear.bias = Some(Param::from_tensor(tensor(device, &format!("{name}.bias"), [WIDTH], medium)));
    linear
}

fn norm(device: &Device, name: &str) -> LayerNorm {
    let mut norm = LayerNormConfig::new(WIDTH).with_epsilon(1e-8).init(device);
    let weight = tensor(device, &format!("{name}.weight"), [WIDTH], |x| 1.0 + 0.125 * x);
    norm.gamma = Param::from_tensor(weight);
    norm.beta = Some(Param::from_tensor(tensor(device, &format!("{name}.bias"), [WIDTH], medium)));
    norm
}

impl Block {
    fn new(device: &Device, name: &str) -> Self {
        let part = |part: &str| linear(device, &format!("{name}.{part}"));
        Block {
            attention_norm: norm(device, &format!("{name}.attention_norm")),
            query: part("query"),
            key: part("key"),
            value: part("value"),
            output: part("output"),
            inner_norm: norm(device, &format!("{name}.inner_norm")),
            inner: part("inner"),
            outer: part("outer"),
        }
    }

    /// `x: [users, history, width]`
    fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        let y = self.attention_norm.forward(x.clone());
        let [q, k, v] =
            [&self.query, &self.key, &self.value].map(|linear| linear.forward(y.clone()).unsqueeze_dim(1));
        let options = AttentionModuleOptions { is_causal: true, ..Default::default() };
        let seen = attention(q, k, v, None, None, options).squeeze_dim(1);
        let x = x + self.output.forward(seen);
        let y = relu(self.inner.forward(self.inner_norm.forward(x.clone())));
        x + self.outer.forward(y)
    }
}

impl SasRec {
    fn new(device: &Device, items: usize) -> Self {
        let mut table = EmbeddingConfig::new(items, WIDTH).init(device);
        table.weight = Param::from_tensor(tensor(device, "items.weight", [items, WIDTH], small));
        SasRec {
            items: table,
            positions: Param::from_tensor(tensor(device, "encoder.positions", [HISTORY, WIDTH], small)),
            blocks: (0..BLOCKS).map(|i| Block::new(device, &format!("encoder.blocks.{i}"))).collect(),
            norm: norm(device, "encoder.norm"),
            head_bias: Param::from_tensor(tensor(device, "head.bias", [items], medium)),
        }
    }

    /// `ids: [users, history]` → logits `[users · history, items]`
    fn forward(&self, ids: Tensor<2, Int>) -> Tensor<2> {
        let x = self.items.forward(ids) * (WIDTH as f64).sqrt() + self.positions.val().unsqueeze();
        let x = self.blocks.iter().fold(x, |x, block| block.forward(x));
        let h = self.norm.forward(x).reshape([USERS * HISTORY, WIDTH]);
        h.matmul(self.items.weight.val().transpose()) + self.head_bias.val().unsqueeze()
    }
}

/// The network, its optimiser and one batch, on the host as a training has it.
pub struct Training {
    device: Device,
    /// Away only while the optimiser has it.
    network: Option<SasRec>,
    optimiser: ModuleOptimizer,
    loss: CrossEntropyLoss,
    inputs: Vec<i32>,
    targets: Vec<i32>,
}

impl Training {
    pub fn new(device: &Device, items: usize) -> Self {
        let device = device.clone().autodiff();
        let item = |user: usize, t: usize| (bits("history", user * (HISTORY + 1) + t) % items as u64) as i32;
        let places = || (0..USERS).flat_map(|user| (0..HISTORY).map(move |t| (user, t)));
        Training {
            network: Some(SasRec::new(&device, items)),
            optimiser: AdamConfig::new().with_epsilon(1e-8).init(),
            loss: CrossEntropyLossConfig::new().init(&device),
            inputs: places().map(|(user, t)| item(user, t)).collect(),
            targets: places().map(|(user, t)| item(user, t + 1)).collect(),
            device,
        }
    }

    /// One step. The loss, which a training reads at every step.
    fn step(&mut self) -> f32 {
        let network = self.network.take().expect("given back by the last step");
        let ids = |ids: &[i32], shape: &[usize]| TensorData::new(ids.to_vec(), shape.to_vec());
        let inputs = Tensor::from_data(ids(&self.inputs, &[USERS, HISTORY]), &self.device);
        let targets = Tensor::from_data(ids(&self.targets, &[USERS * HISTORY]), &self.device);
        let loss = self.loss.forward(network.forward(inputs), targets);
        let grads = GradientsParams::from_grads(loss.backward(), &network);
        self.network = Some(self.optimiser.step(1e-3, network, grads));
        elements(loss)[0]
    }
}

impl Case for Training {
    fn run(&mut self) -> Box<dyn std::any::Any> {
        Box::new(self.step())
    }

    fn check(&mut self) -> Vec<f32> {
        (0..CHECKED_STEPS).map(|_| self.step()).collect()
    }
}
