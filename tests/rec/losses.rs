use super::catalogue::{ITEMS, dataset, labels, split};
use lea::autograd::backward;
use lea::device::{DType, Device};
use lea::rec::{
    EncoderKind, Feed, Framework, Labels, Network, NextState, Noise, RecConfig, StepData, UserSteps, Variant,
    objective, training_users,
};

fn small(encoder: EncoderKind) -> RecConfig {
    RecConfig { encoder, width: 4, heads: 2, history: 4, negatives: 2, dropout: 0.0, ..RecConfig::default() }
}

fn users() -> Vec<UserSteps> {
    let data = dataset(12);
    let mut users = training_users(&data, &split(&data));
    users.truncate(4);
    assert!(users.iter().any(|u| u.steps() > 4), "some history is cut into segments");
    users
}

fn data_of(config: &RecConfig, users: &[UserSteps], labels: &Labels) -> StepData {
    let feed = Feed::new(config, users, ITEMS, Some(labels)).unwrap();
    feed.step(&(0..users.len()).collect::<Vec<_>>(), 1).unwrap()
}

fn pair(config: &RecConfig, dtype: DType) -> [Network; 2] {
    [5, 6].map(|seed| Network::new(config, ITEMS, 3, (&Device::Cpu, dtype), seed).unwrap())
}

fn loss(config: &RecConfig, labels: &Labels, step: u64) -> f64 {
    let data = data_of(config, &users(), labels);
    let [main, other] = pair(config, DType::F64);
    let other = config.framework.has_q().then_some(&other);
    objective(&main, other, &data, &Noise::none(), step).unwrap().loss.value().item().unwrap()
}

#[test]
fn gradients_of_the_whole_loss_match_finite_differences() {
    let labels = labels(&dataset(12));
    for encoder in [EncoderKind::SasRec, EncoderKind::Gru4Rec] {
        let config =
            RecConfig { augmented_next: NextState::Leaf, ..small(encoder).with_variant(Variant::Lea) };
        let data = data_of(&config, &users(), &labels);
        let [main, other] = pair(&config, DType::F64);
        let run = || objective(&main, Some(&other), &data, &Noise::new(0.3, 1, 2), 0).unwrap().loss;
        let grads = backward(&run()).unwrap();
        for param in main.params() {
            let grad = grads.of_param(&param).unwrap_or_else(|| panic!("{} is trained", param.name()));
            let grad = grad.to_f64_vec().unwrap();
            let (value, shape) = (param.value().to_f64_vec().unwrap(), param.value().shape().to_vec());
            // A few elements of every parameter, spread over it.
            for at in (0..value.len()).step_by((value.len() / 7).max(1)) {
                let moved = |delta: f64| {
                    let mut moved = value.clone();
                    moved[at] += delta;
                    param.set(
                        lea::tensor::Tensor::from_f64(&Device::Cpu, DType::F64, &moved, &shape).unwrap(),
                    );
                    run().value().item().unwrap()
                };
                let numeric = (moved(2e-6) - moved(-2e-6)) / 4e-6;
                moved(0.0);
                let close = (grad[at] - numeric).abs() <= 1e-6 * (1.0 + numeric.abs());
                assert!(close, "{} element {at}: {} and {numeric}", param.name(), grad[at]);
            }
            assert!(grad.iter().any(|g| *g != 0.0), "{}", param.name());
        }
        assert!(other.params().iter().all(|p| grads.of_param(p).is_none()), "the other network only values");
    }
}

#[test]
fn every_switch_changes_the_loss_by_itself() {
    let labels = labels(&dataset(12));
    let base = small(EncoderKind::SasRec);
    let augmented = RecConfig { augment: true, ..base.clone() };
    let switched = [
        RecConfig { state: true, ..base.clone() },
        RecConfig { reward: true, ..base.clone() },
        RecConfig { alpha: 0.5, beta: 0.0, ..augmented.clone() },
        RecConfig { alpha: 0.0, beta: 0.5, ..augmented.clone() },
        RecConfig { alpha: 0.0, beta: 0.5, augmented_next: NextState::Leaf, ..augmented.clone() },
        RecConfig { framework: Framework::Supervised, ..base.clone() },
        RecConfig { framework: Framework::Supervised, alpha: 0.5, ..augmented },
        RecConfig { framework: Framework::Sqn, ..base.clone() },
        RecConfig { negative_weight: 0.3, ..base.clone() },
        RecConfig { discount: 0.9, ..base.clone() },
        base,
    ];
    let losses: Vec<f64> = switched.iter().map(|config| loss(config, &labels, 0)).collect();
    for (i, a) in losses.iter().enumerate() {
        assert!(losses[i + 1..].iter().all(|b| (a - b).abs() > 1e-6), "{losses:?}");
    }
}

#[test]
fn the_advantage_counts_only_after_the_warm_up() {
    let labels = labels(&dataset(12));
    let sa2c = |clip| RecConfig {
        framework: Framework::Sa2c,
        advantage_warmup: 10,
        advantage_clip: clip,
        ..small(EncoderKind::SasRec)
    };
    let snqn = loss(&small(EncoderKind::SasRec), &labels, 9);
    assert_eq!(loss(&sa2c(10.0), &labels, 9), snqn);
    let weighted = loss(&sa2c(10.0), &labels, 10);
    assert!((weighted - snqn).abs() > 1e-6);
    // Advantages clipped to nothing leave the Q-loss alone.
    let q = objective_parts(&sa2c(0.0), &labels);
    assert!((loss(&sa2c(0.0), &labels, 10) - q).abs() < 1e-9 && weighted > q);
}

fn objective_parts(config: &RecConfig, labels: &Labels) -> f64 {
    let data = data_of(config, &users(), labels);
    let [main, other] = pair(config, DType::F64);
    objective(&main, Some(&other), &data, &Noise::none(), 0).unwrap().q.unwrap().item().unwrap()
}

#[test]
fn the_augmented_cross_entropy_is_that_of_the_augmented_action() {
    let labels = labels(&dataset(12));
    let supervised = RecConfig { framework: Framework::Supervised, ..small(EncoderKind::Gru4Rec) };
    let both = loss(&RecConfig { augment: true, alpha: 0.25, ..supervised.clone() }, &labels, 0);
    let observed = loss(&supervised, &labels, 0);
    // The same network on data whose observed actions are replaced by the augmented ones.
    let mut data =
        data_of(&RecConfig { augment: true, alpha: 0.25, ..supervised.clone() }, &users(), &labels);
    data.batch.targets = data.augmented.clone();
    let [main, _] = pair(&supervised, DType::F64);
    let augmented = objective(&main, None, &data, &Noise::none(), 0).unwrap().loss.value().item().unwrap();
    assert!((both - observed - 0.25 * augmented).abs() < 1e-9, "{both} {observed} {augmented}");
}

#[test]
fn labels_that_are_needed_and_missing_are_named() {
    let (users, full) = (users(), labels(&dataset(12)));
    let fails = |config: &RecConfig, labels: Option<&Labels>| {
        Feed::new(config, &users, ITEMS, labels).err().expect("an error").to_string()
    };
    let lea = small(EncoderKind::SasRec).with_variant(Variant::Lea);
    assert!(fails(&lea, None).contains("trained on labels, and none are given"));
    let lacking = |change: fn(&mut Labels)| {
        let mut labels = full.clone();
        change(&mut labels);
        labels
    };
    let no_states = lacking(|l| (l.state_dim, l.states, l.augmented_states) = (0, vec![], vec![]));
    assert!(fails(&lea, Some(&no_states)).contains("hold no states"));
    let no_actions = lacking(|l| (l.augmented_items, l.augmented_rewards) = (vec![], vec![]));
    assert!(fails(&lea, Some(&no_actions)).contains("no augmented actions"));
    let no_leaves = lacking(|l| l.augmented_states.clear());
    let leaf = RecConfig { augmented_next: NextState::Leaf, ..lea.clone() };
    assert!(fails(&leaf, Some(&no_leaves)).contains("no states of the leaves"));
    let beyond = lacking(|l| l.augmented_items[3] = ITEMS as u32);
    assert!(fails(&lea, Some(&beyond)).contains("item 23 of a catalogue of 23"));
    let base = small(EncoderKind::SasRec);
    assert!(Feed::new(&base, &users, ITEMS, None).is_ok());
}

/// One user clicks item 0, then takes 4 and 5. Q-values that depend on the action alone: the trained network would
/// choose item 2 next, the other one item 1.
#[test]
fn the_trained_network_chooses_the_next_action_and_the_other_one_values_it() {
    let config = RecConfig { framework: Framework::Sqn, discount: 0.5, ..small(EncoderKind::SasRec) };
    let [main, other] = pair(&config, DType::F64);
    let set = |network: &Network, q: [f64; 6]| {
        for param in network.params() {
            let shape = param.value().shape().to_vec();
            let values = match param.name() {
                "q.weight" => vec![0.0; shape.iter().product()],
                "q.bias" => q.iter().copied().chain(std::iter::repeat(-9.0)).take(shape[0]).collect(),
                _ => continue,
            };
            param.set(lea::tensor::Tensor::from_f64(&Device::Cpu, DType::F64, &values, &shape).unwrap());
        }
    };
    set(&main, [0.0, 1.0, 7.0, 0.0, 0.25, 0.5]);
    set(&other, [0.0, 8.0, 3.0, 0.0, 0.0, 0.0]);
    let users = [UserSteps { user: 0, items: vec![0, 4, 5], rewards: vec![0.2, 1.0] }];
    let feed = Feed::new(&config, &users, ITEMS, None).unwrap();
    let data = feed.step(&[0], 1).unwrap();
    let q = objective(&main, Some(&other), &data, &Noise::none(), 0).unwrap().q.unwrap().item().unwrap();
    // Targets 0.2 + 0.5·3 of item 4 and, the episode being over, 1 of item 5; half the square, mean of two steps.
    let expected = (0.5 * (1.7f64 - 0.25).powi(2) + 0.5 * (1.0f64 - 0.5).powi(2)) / 2.0;
    assert!((q - expected).abs() < 1e-6, "{q} and {expected}");
}
