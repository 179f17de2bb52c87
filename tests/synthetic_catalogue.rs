//! The synthetic catalogue rewards reading: counting what the texts say beats counting ids.

use lea::data::{Dataset, Part, Protocol, Split, SynthConfig, synthesise};
use lea::rec::baselines::{ItemKnn, Popularity, Ranker, SessionKnn, evaluate, train_sequences};
use std::collections::HashMap;

/// Ranks by the words of the texts alone: how often a thing of this kind came after one of that kind, how many words of
/// the item the history holds, and the item's popularity.
struct WordCounts {
    words: Vec<[usize; 5]>,
    /// One more than how often a kind came after another, by the numbers of their words.
    follows: Vec<Vec<f32>>,
    popularity: Vec<f32>,
}

impl WordCounts {
    fn new(dataset: &Dataset, sequences: &[Vec<u32>]) -> Self {
        let mut numbers = HashMap::new();
        let mut number = |word: &String| {
            let next = numbers.len();
            *numbers.entry(word.clone()).or_insert(next)
        };
        // The kind, the material, the mood, the maker and the place stand after the text.
        let words: Vec<[usize; 5]> =
            dataset.items.iter().map(|item| std::array::from_fn(|i| number(&item.fields[1 + i]))).collect();
        let mut follows = vec![vec![1.0; numbers.len()]; numbers.len()];
        let mut popularity = vec![1.0; dataset.items.len()];
        for sequence in sequences {
            sequence.iter().for_each(|&item| popularity[item as usize] += 1.0);
            for pair in sequence.windows(2) {
                let [before, after] = [pair[0], pair[1]].map(|item| words[item as usize][0]);
                follows[before][after] += 1.0;
            }
        }
        WordCounts { words, follows, popularity }
    }
}

impl Ranker for WordCounts {
    fn scores(&self, history: &[u32], out: &mut [f32]) {
        let mut held = vec![0.0; self.follows.len()];
        for &item in history {
            self.words[item as usize][1..4].iter().for_each(|&word| held[word] += 1.0);
        }
        let last = self.words[history[history.len() - 1] as usize][0];
        for (item, score) in out.iter_mut().enumerate() {
            let words = &self.words[item];
            let liked: f32 = words[1..4].iter().map(|&word| held[word]).sum();
            *score = self.follows[last][words[0]].ln() + 0.3 * liked + 0.5 * self.popularity[item].ln();
        }
    }
}

#[test]
fn counting_words_beats_counting_ids() {
    let dataset = synthesise(&SynthConfig::default()).unwrap().dataset;
    let split = Split::new(&dataset, Protocol::Sqn, 1, 1.0).unwrap();
    let (sequences, items) = (train_sequences(&dataset, &split), dataset.items.len());
    let judge = |ranker: &dyn Ranker| evaluate(ranker, &dataset, &split, Part::Test, 10, false);
    let words = judge(&WordCounts::new(&dataset, &sequences));
    let ids: [&dyn Ranker; 3] = [
        &Popularity::new(&sequences, items),
        &ItemKnn::new(&sequences, items),
        &SessionKnn::new(&sequences, items),
    ];
    for ranking in ids.map(judge) {
        assert!(words.hr(10) > 1.4 * ranking.hr(10), "{} against {}", words.hr(10), ranking.hr(10));
        assert!(words.ndcg(10) > 1.4 * ranking.ndcg(10), "{} against {}", words.ndcg(10), ranking.ndcg(10));
    }
}
