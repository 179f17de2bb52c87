use super::catalogue::{dataset, labels, split};
use lea::data::Part;
use lea::device::Device;
use lea::progress::MetricsLog;
use lea::rec::{EncoderKind, EvalSteps, Framework, RecConfig, Trained, Variant, evaluate, train};
use lea::tensor::checkpoint::Checkpoints;

fn config(encoder: EncoderKind, framework: Framework) -> RecConfig {
    RecConfig {
        encoder,
        framework,
        width: 16,
        history: 6,
        negatives: 2,
        batch_steps: 32,
        learning_rate: 2e-2,
        dropout: 0.1,
        epochs: 15,
        patience: 15,
        ..RecConfig::default()
    }
}

fn trained(config: &RecConfig, users: usize) -> Trained {
    let data = dataset(users);
    let (split, labels) = (split(&data), labels(&data));
    train(
        config,
        (&data, &split),
        Some(&labels),
        &Device::Cpu,
        &mut MetricsLog::none(),
        &mut Checkpoints::none(),
    )
    .unwrap()
}

#[test]
fn every_recommender_learns_walks_by_heart() {
    let data = dataset(60);
    for encoder in [EncoderKind::SasRec, EncoderKind::Gru4Rec] {
        for framework in [Framework::Supervised, Framework::Sqn, Framework::Snqn, Framework::Sa2c] {
            let config = RecConfig { advantage_warmup: 60, ..config(encoder, framework) };
            let trained = trained(&config, 60);
            let steps = EvalSteps::new(&data, &split(&data), Part::Test, config.history);
            let ndcg = evaluate(&trained.network, &steps).unwrap().ndcg(5);
            assert!(ndcg > 0.9, "{encoder:?} {framework:?}: {ndcg}");
            let (first, last) = (&trained.curve[0], trained.curve.last().unwrap());
            assert!(last.supervised_loss < 0.5 * first.supervised_loss);
        }
    }
}

#[test]
fn training_has_the_same_bits_for_any_number_of_threads() {
    for encoder in [EncoderKind::SasRec, EncoderKind::Gru4Rec] {
        let config = RecConfig { epochs: 2, ..config(encoder, Framework::Snqn).with_variant(Variant::Lea) };
        let bits = |threads: usize, config: &RecConfig| -> Vec<Vec<f32>> {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let trained = pool.install(|| trained(config, 40));
            trained.network.params().iter().map(|p| p.value().to_vec::<f32>().unwrap()).collect()
        };
        let alone = bits(1, &config);
        assert!(alone == bits(3, &config));
        assert!(alone != bits(1, &RecConfig { seed: 1, ..config }));
    }
}

#[test]
fn the_weights_of_the_best_epoch_are_kept() {
    let config = RecConfig { epochs: 12, patience: 2, ..config(EncoderKind::SasRec, Framework::Supervised) };
    let trained = trained(&config, 60);
    let data = dataset(60);
    let steps = EvalSteps::new(&data, &split(&data), Part::Validation, config.history);
    let kept = evaluate(&trained.network, &steps).unwrap().ndcg(10);
    let best = trained.curve.iter().map(|r| r.ndcg10).fold(0.0, f64::max);
    assert_eq!(kept, best);
    assert_eq!(trained.curve[trained.best_epoch - 1].ndcg10, best);
    assert!(trained.curve.len() <= trained.best_epoch + 2);
}

#[test]
fn training_that_diverges_is_an_error() {
    let data = dataset(30);
    let split = split(&data);
    for framework in [Framework::Supervised, Framework::Snqn] {
        let config = RecConfig { learning_rate: 1e30, ..config(EncoderKind::SasRec, framework) };
        let failed = train(
            &config,
            (&data, &split),
            None,
            &Device::Cpu,
            &mut MetricsLog::none(),
            &mut Checkpoints::none(),
        );
        let message = failed.err().expect("it diverges").to_string();
        assert!(message.contains("training diverged"), "{message}");
    }
}
