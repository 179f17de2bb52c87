use super::catalogue::ITEMS;
use lea::data::{Protocol, Split};
use lea::device::{DType, Device};
use lea::rec::{EncoderKind, Framework, Network, RecConfig, Variant, saved};
use lea::tensor::file;
use std::collections::BTreeMap;
use std::path::Path;

fn network(config: &RecConfig) -> Network {
    Network::new(config, ITEMS, 5, (&Device::Cpu, DType::F32), 9).unwrap()
}

fn trained_on() -> saved::TrainedOn {
    saved::TrainedOn { data: "data".into(), split: "split".into() }
}

fn load_error(path: &Path) -> String {
    saved::load(path, &Device::Cpu).err().expect("an error").to_string()
}

#[test]
fn a_recommender_that_is_read_back_scores_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("recommender.safetensors");
    for encoder in [EncoderKind::SasRec, EncoderKind::Gru4Rec] {
        for (framework, tied) in [(Framework::Supervised, true), (Framework::Snqn, false)] {
            let config = RecConfig { encoder, framework, tied, width: 8, blocks: 2, ..RecConfig::default() };
            let network = network(&config.with_variant(Variant::State));
            saved::save(&path, &network, &trained_on()).unwrap();
            let (read, data) = saved::load(&path, &Device::Cpu).unwrap();
            assert_eq!((read.config(), data), (network.config(), trained_on()));
            let histories: [&[u32]; 2] = [&[1, 2, 3], &[22]];
            assert_eq!(read.scores(&histories).unwrap(), network.scores(&histories).unwrap());
            let bits = |n: &Network| -> Vec<_> {
                n.params()
                    .iter()
                    .map(|p| (p.name().to_string(), p.value().to_vec::<f32>().unwrap()))
                    .collect()
            };
            assert_eq!(bits(&read), bits(&network));
        }
    }
}

#[test]
fn a_split_that_it_was_not_trained_on_is_refused() {
    let data = super::catalogue::dataset(12);
    let [own, other] = [0, 1].map(|seed| Split::new(&data, Protocol::Sqn, seed, 1.0).unwrap());
    let trained_on = saved::TrainedOn::of(&data, &own);
    let path = Path::new("recommender.safetensors");
    trained_on.check(path, &data, &own).unwrap();
    let message = trained_on.check(path, &data, &other).unwrap_err().to_string();
    assert!(message.contains("recommender.safetensors") && message.contains("another split"), "{message}");
    let message = trained_on.check(path, &super::catalogue::dataset(11), &own).unwrap_err().to_string();
    assert!(message.contains("other data"), "{message}");
}

#[test]
fn damaged_recommenders_are_refused_with_the_place() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("recommender.safetensors");
    let network = network(&RecConfig { width: 8, ..RecConfig::default() });
    saved::save(&path, &network, &trained_on()).unwrap();
    let bytes = std::fs::read(&path).unwrap();
    for length in [0, 4, 40, bytes.len() - 1] {
        std::fs::write(&path, &bytes[..length]).unwrap();
        assert!(load_error(&path).contains("header"), "{length}");
    }
    std::fs::write(&path, b"not a recommender at all").unwrap();
    assert!(load_error(&path).contains("recommender.safetensors"));
}

#[test]
fn tensors_that_do_not_fit_the_settings_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("recommender.safetensors");
    let network = network(&RecConfig { width: 8, ..RecConfig::default() });
    saved::save(&path, &network, &trained_on()).unwrap();
    let opened = file::TensorFile::open(&path).unwrap();
    let header = opened.metadata("recommender").unwrap().to_string();
    drop(opened);
    let tensors: Vec<_> = network.params().iter().map(|p| (p.name().to_string(), p.value())).collect();
    let error = |tensors: &[_], header: Option<&str>| {
        let metadata = header.map(|h| ("recommender".to_string(), h.to_string()));
        file::write(&path, tensors, &BTreeMap::from_iter(metadata)).unwrap();
        load_error(&path)
    };
    assert!(error(&tensors, None).contains("this is no recommender"));
    assert!(error(&tensors, Some("{}")).contains("missing field"));
    assert!(error(&tensors[1..], Some(&header)).contains("tensor items.weight: the tensor is missing"));
    let mut wrong = tensors.clone();
    wrong[0].1 = wrong[0].1.reshape(&[8, ITEMS]).unwrap();
    assert!(error(&wrong, Some(&header)).contains("the shape is [8, 23], expected [23, 8]"));
    let mut more = tensors.clone();
    more.push(("extra".into(), tensors[0].1.clone()));
    assert!(error(&more, Some(&header)).contains("tensor extra"));
    for (from, to) in [
        ("\"items\":23", "\"items\":1000000000000"),
        ("\"blocks\":1", "\"blocks\":99999999"),
        ("\"heads\":1", "\"heads\":3"),
    ] {
        assert!(header.contains(from));
        let changed = error(&tensors, Some(&header.replace(from, to)));
        assert!(
            changed.contains("expected [1000000000000, 8]")
                || changed.contains("blocks is 99999999")
                || changed.contains("heads = 3")
        );
    }
}
