//! The report of a run, and the quality of an LE as its commands print it.

use super::Pipeline;
use super::base::Base;
use super::environment::Built;
use super::recommenders::Compared;
use crate::Result;
use crate::cli::output;
use crate::data::{Protocol, Split};
use crate::le::fit::FitEpoch;
use crate::le::{Augment, LeConfig, Quality, TokenCount};
use crate::report::plot::{Curves, Histogram, Series};
use crate::report::{
    AugmentedQuality, EnvironmentQuality, ForestSavings, PairAccuracy, PassCost, Report, RunRecord, Scores,
};

/// Everything that `report.html` shows; what tells of the making of the LE only where it was made.
pub(super) fn report(
    pipeline: &Pipeline,
    split: &Split,
    made: Option<&(Base, Built)>,
    compared: &Compared,
    record: &RunRecord,
) -> Report {
    let dataset = &pipeline.loaded.dataset;
    let tested = match split.protocol {
        Protocol::Sqn => "every step of held-out test users is predicted",
        Protocol::LeaveOneOut => "the last event of every user is predicted",
    };
    let mut report = Report {
        title: pipeline.title.into(),
        introduction: format!(
            "Recommenders trained on the interaction log alone (base), and with states, rewards and augmented actions \
             from a language-model environment; {tested}, all items ranked."
        ),
        metrics: Some(compared.metrics.clone()),
        stages: record.stages.clone(),
        ..Report::default()
    };
    let (users, items, events) = (dataset.users.len(), dataset.items.len(), dataset.interactions());
    report.fact("data", format!("{}: {users} users, {items} items, {events} interactions", dataset.name));
    if let Some((base, le)) = made {
        add_environment(&mut report, pipeline, split, base, le);
    }
    report.fact("device", &record.device);
    report.curves.extend(compared.curves.iter().filter(|c| !c.is_empty()).cloned());
    report
}

fn add_environment(report: &mut Report, pipeline: &Pipeline, split: &Split, base: &Base, le: &Built) {
    let decoder = &base.decoder.config;
    let trained = match &base.pretrained {
        Some(p) => format!(", trained here: {:.2} nats a held-out token", p.held_out_loss),
        None => String::new(),
    };
    let (layers, width) = (decoder.num_hidden_layers, decoder.hidden_size);
    let weights = decoder.parameters() as f64 / 1e6;
    report.fact("decoder", format!("{layers} layers, width {width}, {weights:.1} M weights{trained}"));
    let [before, after] = le.items_loss;
    report.fact("item tokens", format!("{before:.2} → {after:.2} nats a text token"));
    add_quality(report, &le.quality, split, &pipeline.config.le);
    report.curves.extend(fit_curves(&le.epochs));
    report.forest = Some(savings(&le.tokens, le.label_seconds, le.separate));
}

/// What held-out users say of an LE.
pub fn add_quality(report: &mut Report, quality: &Quality, split: &Split, le: &LeConfig) {
    report.fact("LE users", split.le.users.len().to_string());
    report.environment = (quality.steps > 0).then(|| quality_tables(quality, split, le));
    let groups: [(&str, &[f32]); 2] =
        [("item taken next", &quality.positive_rewards), ("uniform negatives", &quality.negative_rewards)];
    let histogram = Histogram::new("Rewards on held-out users", "reward", 40, &groups);
    report.rewards.extend((!histogram.is_empty()).then_some(histogram));
}

/// What a labelling pass of `tokens` in `seconds` cost.
pub fn savings(tokens: &TokenCount, seconds: f64, separate: Option<PassCost>) -> ForestSavings {
    let forest = PassCost { labels: tokens.labels, tokens: tokens.forest, seconds };
    ForestSavings { forest, separate_tokens: tokens.separate, separate }
}

/// The report of one step on `data`, to be written beside its other files.
pub fn step_report(data: &str, record: &RunRecord) -> Report {
    let mut report =
        Report { title: format!("lea on {data}"), stages: record.stages.clone(), ..Report::default() };
    report.fact("device", &record.device);
    report
}

/// Losses of the LE's training over epochs, where there are several.
pub fn fit_curves(epochs: &[FitEpoch]) -> Option<Curves> {
    let line = |name: &str, value: fn(&FitEpoch) -> f64| {
        Series::new(name, epochs.iter().map(|e| (e.epoch as f64, value(e))))
    };
    (epochs.len() > 1).then(|| Curves {
        title: "LE training".into(),
        x_label: "epoch".into(),
        y_label: "loss (nats), share of pairs".into(),
        series: vec![
            line("state loss", |e| e.state_loss),
            line("reward loss", |e| e.reward_loss),
            line("pairs in order", |e| e.pair_accuracy),
        ],
    })
}

/// The quality as the report lays it out.
pub fn quality_tables(quality: &Quality, split: &Split, le: &LeConfig) -> EnvironmentQuality {
    let sampled = quality.steps * crate::le::quality::NEGATIVES as u64;
    let kinds = [
        ("uniform", quality.pairs_uniform, sampled),
        ("popularity", quality.pairs_popularity, sampled),
        ("candidates", quality.pairs_hard, quality.hard_pairs),
    ];
    let pairs = kinds.iter().zip(quality.pairs_by_count);
    let pair_accuracy = pairs.map(|(&(negatives, accuracy, pairs), by_popularity)| PairAccuracy {
        negatives: negatives.into(),
        accuracy,
        by_popularity,
        pairs,
    });
    let rules = [Augment::Reward, Augment::Similarity, Augment::Both];
    let augmented = rules.iter().enumerate().map(|(i, rule)| AugmentedQuality {
        choice: ["reward", "similarity", "both"][i].into(),
        used: *rule == le.label.augment && le.label.candidates > 0,
        hit_rate: quality.hits[i],
        mean_popularity: quality.popularity[i],
    });
    EnvironmentQuality {
        users: split.le.held_out.len() as u64,
        steps: quality.steps,
        candidates: quality.candidates,
        pair_accuracy: pair_accuracy.collect(),
        catalogue: Some(Scores::from_array(quality.catalogue)),
        augmented: augmented.collect(),
        next_item_popularity: quality.popularity_next,
    }
}

/// Prints the quality tables.
pub fn print_quality(quality: &Quality, split: &Split, le: &LeConfig) -> Result<()> {
    if quality.steps == 0 {
        return output::line("no held-out steps: the LE's quality is unknown");
    }
    let tables = quality_tables(quality, split, le);
    output::line(format_args!(
        "on {} held-out users, {} steps; {:.1} % of the next items are among {} candidates",
        tables.users,
        tables.steps,
        100.0 * quality.candidate_recall,
        tables.candidates
    ))?;
    let catalogue = tables.catalogue_table().map(|t| t.to_text());
    let texts = [Some(tables.pair_table().to_text()), catalogue, Some(tables.augmented_table().to_text())];
    texts.iter().flatten().try_for_each(|text| output::line(text.trim_end()))?;
    if quality.pairs_uniform <= quality.pairs_by_count[0] {
        output::line(
            "the reward is no better than popularity: train the LE with more epochs, smaller batches (--batch-tokens) \
             or fewer negatives from the candidates (--hard-share)",
        )?;
    }
    Ok(())
}
