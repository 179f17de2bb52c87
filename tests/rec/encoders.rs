use super::catalogue::ITEMS;
use lea::autograd::no_grad;
use lea::device::{DType, Device};
use lea::rec::{EncoderKind, Framework, Layout, Network, Noise, RecConfig};
use lea::tensor::Tensor;

fn networks() -> impl Iterator<Item = Network> {
    [EncoderKind::SasRec, EncoderKind::Gru4Rec].into_iter().map(|encoder| {
        let config = RecConfig {
            encoder,
            framework: Framework::Supervised,
            width: 16,
            heads: 2,
            blocks: 2,
            history: 12,
            ..RecConfig::default()
        };
        Network::new(&config, ITEMS, 0, (&Device::Cpu, DType::F32), 3).unwrap()
    })
}

/// Hidden vectors of packed sequences, one a row.
fn hidden(network: &Network, sequences: &[&[u32]]) -> Vec<Vec<f32>> {
    let lengths: Vec<usize> = sequences.iter().map(|s| s.len()).collect();
    let layout = Layout::new(&Device::Cpu, &lengths).unwrap();
    let ids = Tensor::from_ids(&Device::Cpu, &sequences.concat()).unwrap();
    let h = no_grad(|| network.hidden(&ids, &layout, &Noise::none())).unwrap();
    h.value().to_vec::<f32>().unwrap().chunks(16).map(<[f32]>::to_vec).collect()
}

#[test]
fn a_later_item_never_changes_an_earlier_row() {
    let before = [4, 9, 1, 0, 17, 3, 3, 20];
    for network in networks() {
        let rows = hidden(&network, &[&before]);
        for changed in 0..before.len() {
            let mut after = before;
            after[changed] = (after[changed] + 1) % ITEMS as u32;
            let other = hidden(&network, &[&after]);
            assert_eq!(rows[..changed], other[..changed]);
            assert!((changed..before.len()).all(|row| rows[row] != other[row]));
        }
    }
}

#[test]
fn packed_sequences_have_the_bits_of_sequences_alone() {
    let sequences: [&[u32]; 4] = [&[1, 2, 3], &[7], &[0, 22, 5, 5, 8, 1, 9, 13, 2, 4, 6, 10], &[11, 12]];
    for network in networks() {
        let packed = hidden(&network, &sequences);
        let alone: Vec<Vec<f32>> = sequences.iter().flat_map(|s| hidden(&network, &[s])).collect();
        assert_eq!(packed, alone);
    }
}

#[test]
fn only_the_last_items_of_a_history_are_scored() {
    let long: Vec<u32> = (0..20).map(|i| i * 5 % ITEMS as u32).collect();
    for network in networks() {
        let whole = network.scores(&[&long, &[3]]).unwrap();
        let last = network.scores(&[&long[8..]]).unwrap();
        assert_eq!(whole[..ITEMS], last);
        assert_ne!(network.scores(&[&long[9..]]).unwrap(), last);
        assert!(network.scores(&[&[]]).unwrap_err().to_string().contains("history is empty"));
        assert!(network.scores(&[&[ITEMS as u32]]).is_err());
    }
}
