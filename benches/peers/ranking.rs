//! Full-ranking evaluation: each user's last item among all, after the fifty before it.

use crate::counter::number;
use crate::training::{network, sasrec};
use crate::values::{Case, Home, Result};
use lea::autograd::{Var, no_grad};
use lea::data::{Dataset, Event, Feedback, Item, Part, Protocol, Split, TextSource, User};
use lea::device::{DType, Device};
use lea::ops::embedding::gather_rows;
use lea::rec::metrics::Ranking;
use lea::rec::{EvalSteps, Framework, Layout, Network, Noise, evaluate};
use lea::tensor::Tensor;

const USERS: usize = 2048;
/// Users whose scores a check compares.
const CHECKED: usize = 4;

/// A SASRec and the users that are ranked.
pub struct RankAll {
    network: Network,
    steps: EvalSteps,
    histories: Vec<Vec<u32>>,
}

impl RankAll {
    pub fn new(home: &Home, items: usize) -> Result<Self> {
        let config = sasrec(Framework::Supervised);
        let network = network(home, &config, items, "")?;
        let read = config.history;
        let history = |user: usize| (0..read).map(|t| number("history", user * read + t, items)).collect();
        let histories: Vec<Vec<u32>> = (0..USERS).map(history).collect();
        // The item sought is the last one read: random weights rank it high, so that hits are counted.
        let events = |read: &Vec<u32>| read.iter().chain(read.last()).map(|&item| event(item)).collect();
        let user = |(u, read): (usize, &Vec<u32>)| User { id: u.to_string(), events: events(read) };
        let item = |i: usize| Item { id: i.to_string(), text: String::new(), fields: Vec::new() };
        let data = Dataset {
            name: "ranking".into(),
            columns: Vec::new(),
            text: TextSource { columns: Vec::new(), lists: Vec::new(), joiner: String::new() },
            items: (0..items).map(item).collect(),
            users: histories.iter().enumerate().map(user).collect(),
        };
        let split = Split::new(&data, Protocol::LeaveOneOut, 0, 0.1)?;
        let steps = EvalSteps::new(&data, &split, Part::Test, read);
        Ok(RankAll { network, steps, histories })
    }
}

fn event(item: u32) -> Event {
    Event { item, kind: Feedback::Other }
}

impl RankAll {
    /// Scores of all items for each of the users, `[users, items]`.
    fn scores(&self, users: &[Vec<u32>]) -> Result<Vec<f64>> {
        let device = self.network.home().0;
        let read = users[0].len();
        let last: Vec<u32> = (0..users.len()).map(|user| ((user + 1) * read - 1) as u32).collect();
        let logits = no_grad(|| {
            let layout = Layout::new(&device, &vec![read; users.len()])?;
            let h =
                self.network.hidden(&Tensor::from_ids(&device, &users.concat())?, &layout, &Noise::none())?;
            let last = gather_rows(h.value(), &Tensor::from_ids(&device, &last)?)?;
            self.network.logits(&Var::constant(last))
        })?;
        Ok(logits.value().to_f64_vec()?)
    }

    /// The metrics by the definition, in the type of the network.
    fn plain_metrics(&self) -> Result<[f64; 6]> {
        let mut ranking = Ranking::default();
        for users in self.histories.chunks(64) {
            for (scores, read) in self.scores(users)?.chunks(self.network.items()).zip(users) {
                let own = scores[read[read.len() - 1] as usize];
                let count =
                    |wanted: fn(f64, f64) -> bool| scores.iter().filter(|&&s| wanted(s, own)).count() as f64;
                ranking.add_rank(1.0 + count(|s, own| s > own) + (count(|s, own| s == own) - 1.0) / 2.0);
            }
        }
        Ok(ranking.to_array())
    }
}

impl Case for RankAll {
    /// HR and NDCG at 5, 10 and 20.
    fn run(&mut self) -> Result<Tensor> {
        let metrics = evaluate(&self.network, &self.steps)?.to_array();
        Ok(Tensor::from_f64(&Device::Cpu, DType::F64, &metrics, &[6])?)
    }

    fn check(&mut self) -> Result<Vec<f64>> {
        let metrics = match self.network.home().1 {
            DType::F64 => self.plain_metrics()?,
            _ => evaluate(&self.network, &self.steps)?.to_array(),
        };
        Ok(metrics.into_iter().chain(self.scores(&self.histories[..CHECKED])?).collect())
    }
}
