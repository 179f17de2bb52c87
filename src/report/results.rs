//! The results table: a row a recommender, HR and NDCG at 5, 10 and 20.

use super::number::fraction;
use super::{Align, Cell, METRIC_NAMES, Metrics, MetricsRow, Table};

/// Position of NDCG@10 in [`METRIC_NAMES`], by which variants are compared with their base.
const COMPARED: usize = 3;

/// The table of `metrics`: mean, deviation over several seeds, the best of each column marked, and for every variant
/// the relative change of NDCG@10 against the `base` of its encoder and framework and against supervised training of
/// its encoder, with the share of the common seeds in which it is higher.
pub fn results_table(metrics: &Metrics) -> Table {
    let against = [("NDCG@10 vs base", base_of as Reference), ("vs supervised", supervised_of)];
    let against =
        against.into_iter().filter(|(_, of)| metrics.rows.iter().any(|row| of(metrics, row).is_some()));
    let against: Vec<(&str, Reference)> = against.collect();
    let mut columns = vec![("encoder", Align::Left), ("framework", Align::Left), ("variant", Align::Left)];
    columns.extend(METRIC_NAMES.iter().map(|name| (*name, Align::Right)));
    columns.extend(against.iter().map(|(name, _)| (*name, Align::Right)));
    let mut table = Table::new(columns);
    let mut group = None;
    for row in &metrics.rows {
        // All baselines share one group, whatever their names.
        let this = if row.variant == "baseline" { "" } else { row.encoder.as_str() };
        if group.is_some_and(|group| group != this) {
            table.rule();
        }
        group = Some(this);
        let framework = if row.framework == "none" { "–" } else { &row.framework };
        let mut cells: Vec<Cell> = vec![(&*row.encoder).into(), framework.into(), (&*row.variant).into()];
        let deviations = row.sd.map(|sd| sd.to_array());
        cells.extend(row.mean.to_array().iter().enumerate().map(|(i, mean)| {
            let detail = deviations.map_or(String::new(), |sd| format!(" ±{}", fraction(sd[i])));
            Cell::new(fraction(*mean)).with_detail(detail)
        }));
        let beside = |of: &Reference| of(metrics, row).map_or(Cell::default(), |other| change(other, row));
        cells.extend(against.iter().map(|(_, of)| beside(of)));
        table.row(cells);
    }
    for (i, _) in METRIC_NAMES.iter().enumerate() {
        let means: Vec<f64> = metrics.rows.iter().map(|row| row.mean.to_array()[i]).collect();
        table.mark_highest(3 + i, &means);
    }
    table
}

/// The row that a row is compared with.
type Reference = for<'a> fn(&'a Metrics, &MetricsRow) -> Option<&'a MetricsRow>;

/// Supervised training of the same encoder.
fn supervised_of<'a>(metrics: &'a Metrics, row: &MetricsRow) -> Option<&'a MetricsRow> {
    let same = |other: &&MetricsRow| other.encoder == row.encoder && other.variant == "supervised";
    metrics.rows.iter().find(same).filter(|_| row.framework != "none")
}

fn base_of<'a>(metrics: &'a Metrics, row: &MetricsRow) -> Option<&'a MetricsRow> {
    let same = |other: &&MetricsRow| (&other.encoder, &other.framework) == (&row.encoder, &row.framework);
    metrics.rows.iter().filter(same).find(|other| other.variant == "base" && row.variant != "base")
}

fn change(base: &MetricsRow, row: &MetricsRow) -> Cell {
    let (before, after) = (base.mean.to_array()[COMPARED], row.mean.to_array()[COMPARED]);
    if before == 0.0 {
        return Cell::new("–");
    }
    let pairs: Vec<bool> = row
        .per_seed
        .iter()
        .filter_map(|run| {
            let other = base.per_seed.iter().find(|other| other.seed == run.seed)?;
            Some(run.scores.to_array()[COMPARED] > other.scores.to_array()[COMPARED])
        })
        .collect();
    let higher = pairs.iter().filter(|higher| **higher).count();
    let detail = if pairs.len() > 1 { format!(" ({higher}/{})", pairs.len()) } else { String::new() };
    Cell::new(format!("{:+.1} %", 100.0 * (after / before - 1.0))).with_detail(detail)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{Scores, SeedScores};

    fn row(encoder: &str, framework: &str, variant: &str, ndcg_10: &[f64]) -> MetricsRow {
        let run = |(seed, &v): (usize, &f64)| SeedScores {
            seed: seed as u64,
            scores: Scores::from_array([0.1, 0.05, 0.2, v, 1.0, 0.1]),
        };
        MetricsRow::new(encoder, framework, variant, ndcg_10.iter().enumerate().map(run).collect()).unwrap()
    }

    #[test]
    fn variants_are_compared_with_the_base_of_their_own_encoder_and_framework() {
        let rows = vec![
            row("popularity", "none", "baseline", &[0.01, 0.01]),
            row("gru4rec", "snqn", "base", &[0.05, 0.05]),
            row("sasrec", "none", "supervised", &[0.10, 0.11]),
            row("sasrec", "snqn", "base", &[0.10, 0.10]),
            row("sasrec", "snqn", "lea", &[0.13, 0.09]),
        ];
        let text = results_table(&Metrics { rows, ..Metrics::default() }).to_text();
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[0].contains("NDCG@10 vs base") && lines[0].ends_with("vs supervised"), "{text}");
        let last = lines.last().unwrap();
        assert!(last.contains("+10.0 % (1/2)") && last.ends_with("+4.8 % (1/2)"), "{text}");
        // LEA against both, its base against supervised training; nothing else has a reference.
        assert_eq!(text.matches("/2)").count(), 3, "{text}");
        assert!(
            lines.last().unwrap().contains(".1100 ±.0283*") && lines[2].contains("popularity  –"),
            "{text}"
        );
    }

    #[test]
    fn a_single_seed_shows_no_deviation_and_no_base_no_comparison() {
        let rows = vec![row("sasrec", "snqn", "lea", &[0.25])];
        let text = results_table(&Metrics { rows, ..Metrics::default() }).to_text();
        assert!(!text.contains('±') && !text.contains("vs base"), "{text}");
        assert!(text.contains(".2500") && !text.contains('*'), "{text}");
    }
}
