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
        let of_learned = |seed: &u64| {
            let learned = other.rows.iter().filter(|row| row.is_learned());
            learned.flat_map(|row| &row.per_seed).any(|run| run.seed == *seed)
        };
        let new = other.seeds.iter().filter(|seed| !self.seeds.contains(seed) && of_learned(seed));
        self.seeds.extend(new.copied().collect::<Vec<u64>>());
        for row in other.rows {
            let name = |row: &MetricsRow| [row.encoder.clone(), row.framework.clone(), row.variant.clone()];
            match self.rows.iter_mut().find(|own| name(own) == name(&row)) {
                Some(own) => own.add_seeds(row)?,
                None => self.rows.push(row),
            }
        }
        self.sort();
        Ok(())
    }

    /// Puts the rows in the order of tables: baselines, then encoder by encoder supervised training before the
    /// frameworks, in each the base before what the LE adds. Encoders and frameworks stand as they first came, and what
    /// is alike keeps its order.
    fn sort(&mut self) {
        let learned: Vec<&MetricsRow> = self.rows.iter().filter(|row| row.is_learned()).collect();
        let encoders: Vec<String> = learned.iter().map(|row| row.encoder.clone()).collect();
        let frameworks: Vec<String> = learned.iter().map(|row| row.framework.clone()).collect();
        let first = |names: &[String], name: &String| names.iter().position(|known| known == name);
        self.rows.sort_by_cached_key(|row| {
            let framework = (row.framework != "none", first(&frameworks, &row.framework));
            let place = (first(&encoders, &row.encoder), framework, row.variant != "base");
            row.is_learned().then_some(place)
        });
    }
}

impl MetricsRow {
    /// Whether it was trained, from a seed; a baseline draws nothing.
    fn is_learned(&self) -> bool {
        self.variant != "baseline"
    }

    fn add_seeds(&mut self, other: MetricsRow) -> Result<()> {
        let mut runs = self.per_seed.clone();
        for run in other.per_seed {
            // A baseline is the same with every seed: further ones would only look like repetitions.
            match runs.iter().find(|own| own.seed == run.seed || !self.is_learned()) {
                None => runs.push(run),
                Some(own) if own.scores == run.scores => {}
                Some(_) => {
                    let name = format!("{} {} {}", self.encoder, self.framework, self.variant);
                    let remedy = match self.is_learned() {
                        true => "leave one of the two folders out, or train with other seeds",
                        false => "leave one of the two folders out, or evaluate with the same --history",
                    };
                    let problem = format!("{name}, seed {}: two different scores", run.seed);
                    return Err(Error::setting(problem, remedy));
                }
            }
        }
        *self = MetricsRow::new(&self.encoder, &self.framework, &self.variant, runs)?;
        Ok(())
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
        let mut seeds: Vec<u64> = rows.iter().map(|row| row.3).collect();
        seeds.dedup();
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
    fn encoders_stand_as_in_the_first_run_and_a_baseline_has_no_deviation() {
        let mut all = metrics(&[
            ("popularity", "none", "baseline", 5, 0.1),
            ("sasrec", "snqn", "base", 5, 0.2),
            ("gru4rec", "snqn", "base", 5, 0.2),
        ]);
        all.merge(metrics(&[
            ("popularity", "none", "baseline", 0, 0.1),
            ("caser", "sa2c", "base", 6, 0.3),
            ("gru4rec", "sa2c", "lea", 6, 0.3),
            ("sasrec", "none", "supervised", 6, 0.3),
        ]))
        .unwrap();
        let names: Vec<_> = all.rows.iter().map(|row| [&row.encoder[..], &row.framework]).collect();
        let expected = [
            ["popularity", "none"],
            ["sasrec", "none"],
            ["sasrec", "snqn"],
            ["gru4rec", "snqn"],
            ["gru4rec", "sa2c"],
            ["caser", "sa2c"],
        ];
        assert_eq!(names, expected);
        assert_eq!((all.rows[0].sd, &all.seeds[..]), (None, &[5, 6][..]));
        let message = all.merge(metrics(&[("popularity", "none", "baseline", 3, 0.2)])).unwrap_err();
        assert!(message.to_string().contains("--history"), "{message}");
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
