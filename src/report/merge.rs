//! One report out of those of several steps.

use super::{Metrics, MetricsRow, Report};
use crate::{Error, Result};

impl Report {
    /// Adds what `other` shows: its curves, facts, stages and rows of the table; its environment and forest take the
    /// place of those that were there. A fact that stands already is not repeated.
    ///
    /// # Errors
    /// Metrics of another data set, protocol or number of test steps, and two different scores of one recommender and
    /// seed.
    pub fn merge(&mut self, other: Report) -> Result<()> {
        for text in [(&mut self.title, other.title), (&mut self.introduction, other.introduction)] {
            if text.0.is_empty() {
                *text.0 = text.1;
            }
        }
        for fact in other.facts {
            if !self.facts.contains(&fact) {
                self.facts.push(fact);
            }
        }
        match (&mut self.metrics, other.metrics) {
            (Some(own), Some(metrics)) => own.merge(metrics)?,
            (own @ None, metrics) => *own = metrics,
            (Some(_), None) => {}
        }
        for curves in other.curves {
            match self.curves.iter_mut().find(|own| own.title == curves.title) {
                Some(own) => own.series.extend(curves.series),
                None => self.curves.push(curves),
            }
        }
        if other.environment.is_some() {
            self.environment = other.environment;
        }
        if !other.rewards.is_empty() {
            self.rewards = other.rewards;
        }
        if other.forest.is_some() {
            self.forest = other.forest;
        }
        self.stages.extend(other.stages);
        Ok(())
    }
}

impl Metrics {
    /// Adds the rows of `other`; those of one recommender become one row over the seeds of both.
    ///
    /// # Errors
    /// As [`Report::merge`] says.
    pub fn merge(&mut self, other: Metrics) -> Result<()> {
        let about = |m: &Metrics| format!("{}, protocol {}, {} steps", m.data, m.protocol, m.test_steps);
        if about(self) != about(&other) {
            return Err(Error::setting(
                format!("two tables cannot be one: {} and {}", about(self), about(&other)),
                "report only what was evaluated on the same steps of the same data",
            ));
        }
        for row in other.rows {
            let name = |row: &MetricsRow| [row.encoder.clone(), row.framework.clone(), row.variant.clone()];
            match self.rows.iter_mut().find(|own| name(own) == name(&row)) {
                Some(own) => own.add_seeds(row)?,
                None => self.rows.push(row),
            }
        }
        self.seeds.extend(other.seeds.iter().filter(|seed| !self.seeds.contains(seed)).collect::<Vec<_>>());
        self.rows.sort_by_key(MetricsRow::place);
        Ok(())
    }
}

impl MetricsRow {
    fn add_seeds(&mut self, other: MetricsRow) -> Result<()> {
        let mut runs = self.per_seed.clone();
        for run in other.per_seed {
            match runs.iter().find(|own| own.seed == run.seed) {
                None => runs.push(run),
                Some(own) if own.scores == run.scores => {}
                Some(_) => {
                    let name = format!("{} {} {}", self.encoder, self.framework, self.variant);
                    return Err(Error::setting(
                        format!("{name}, seed {}: two different scores", run.seed),
                        "leave one of the two folders out, or train with other seeds",
                    ));
                }
            }
        }
        *self = MetricsRow::new(&self.encoder, &self.framework, &self.variant, runs)?;
        Ok(())
    }

    /// Where tables show it: baselines, then encoder by encoder supervised training before the frameworks, in each the
    /// base before what the LE adds. What is alike keeps its order.
    fn place(&self) -> (bool, String, bool, String, bool) {
        let learned = self.variant != "baseline";
        let encoder = if learned { self.encoder.clone() } else { String::new() };
        (learned, encoder, self.framework != "none", self.framework.clone(), self.variant != "base")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::plot::{Curves, Series};
    use crate::report::{Scores, SeedScores};

    fn metrics(rows: &[(&str, &str, &str, u64, f64)]) -> Metrics {
        let row = |&(encoder, framework, variant, seed, score): &(&str, &str, &str, u64, f64)| {
            let scores = Scores::from_array([score; 6]);
            MetricsRow::new(encoder, framework, variant, vec![SeedScores { seed, scores }]).unwrap()
        };
        let seeds = rows.iter().map(|row| row.3).collect();
        let rows = rows.iter().map(row).collect();
        Metrics { protocol: "sqn".into(), data: "x".into(), test_steps: 9, seeds, rows }
    }

    #[test]
    fn seeds_of_one_recommender_become_one_row_and_a_base_stands_before_its_variants() {
        let mut all = metrics(&[("sasrec", "snqn", "lea", 1, 0.5)]);
        all.merge(metrics(&[
            ("sasrec", "snqn", "base", 1, 0.25),
            ("popularity", "none", "baseline", 1, 0.1),
        ]))
        .unwrap();
        all.merge(metrics(&[("sasrec", "snqn", "lea", 2, 0.75)])).unwrap();
        let names: Vec<&str> = all.rows.iter().map(|row| &row.variant[..]).collect();
        assert_eq!(names, ["baseline", "base", "lea"]);
        assert_eq!((all.rows[2].mean.hr_5, all.rows[2].per_seed.len()), (0.625, 2));
        assert_eq!(all.seeds, [1, 2]);
    }

    #[test]
    fn tables_of_other_data_and_contradictions_are_refused() {
        let mut all = metrics(&[("sasrec", "snqn", "lea", 1, 0.5)]);
        let other = Metrics { data: "y".into(), ..all.clone() };
        assert!(all.merge(other).unwrap_err().to_string().contains("x, protocol sqn"), "another data set");
        all.merge(all.clone()).unwrap();
        let message = all.merge(metrics(&[("sasrec", "snqn", "lea", 1, 0.4)])).unwrap_err().to_string();
        assert!(message.contains("sasrec snqn lea, seed 1: two different scores"), "{message}");
    }

    #[test]
    fn curves_of_one_title_share_a_figure() {
        let curves = |name: &str| Curves {
            title: "Validation ranking".into(),
            x_label: "epoch".into(),
            y_label: "NDCG@10".into(),
            series: vec![Series::new(name, [(1.0, 2.0), (2.0, 3.0)])],
        };
        let report = |name| Report { title: "one".into(), curves: vec![curves(name)], ..Report::default() };
        let mut all = report("a");
        all.merge(Report { title: "two".into(), ..report("b") }).unwrap();
        assert_eq!((all.title.as_str(), all.curves.len(), all.curves[0].series.len()), ("one", 1, 2));
    }
}
