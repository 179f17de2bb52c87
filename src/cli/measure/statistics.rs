//! Order statistics of a bench's samples, and how likely it is that chance alone made one run's larger than another's.

/// Samples of both runs together up to which all their orders are counted; beyond, the normal distribution stands for them.
const COUNTED: usize = 60;

/// The value below which `share` of the samples lie, linear between neighbours; NaN of none.
pub fn quantile(samples: &[f64], share: f64) -> f64 {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    let Some(last) = sorted.len().checked_sub(1) else { return f64::NAN };
    let place = share.clamp(0.0, 1.0) * last as f64;
    let (below, above) = (place.floor() as usize, place.ceil() as usize);
    sorted[below] + (place - below as f64) * (sorted[above] - sorted[below])
}

/// Middle of the samples.
pub fn median(samples: &[f64]) -> f64 {
    quantile(samples, 0.5)
}

/// One-sided Mann-Whitney test (Mann and Whitney, 1947): the probability that samples of one distribution, dealt out at
/// random, would put `b` as far above `a` as it stands. Ties share their ranks. 1 where either is empty.
pub fn chance_of_larger(a: &[f64], b: &[f64]) -> f64 {
    if a.is_empty() || b.is_empty() {
        return 1.0;
    }
    let ranks = doubled_ranks(&a.iter().chain(b).copied().collect::<Vec<_>>());
    let sum: usize = ranks[a.len()..].iter().sum();
    match ranks.len() <= COUNTED {
        true => counted(&ranks, b.len(), sum),
        false => normal(&ranks, b.len(), sum),
    }
}

/// The least that [`chance_of_larger`] can be for so many samples.
pub fn least_chance(a: usize, b: usize) -> f64 {
    (1..=b).map(|i| i as f64 / (a + i) as f64).product()
}

/// Twice the rank of every value, from 2 on; equal values share the mean of their ranks, which twice is whole.
fn doubled_ranks(values: &[f64]) -> Vec<usize> {
    let below = |x: f64| values.iter().filter(|&&other| other < x).count();
    let equal = |x: f64| values.iter().filter(|&&other| other == x).count();
    values.iter().map(|&x| 2 * below(x) + equal(x) + 1).collect()
}

/// Share of the choices of `size` ranks whose sum is at least `sum`.
fn counted(ranks: &[usize], size: usize, sum: usize) -> f64 {
    let most: usize = ranks.iter().sum();
    // Choices by their size and sum.
    let mut choices = vec![vec![0.0; most + 1]; size + 1];
    choices[0][0] = 1.0;
    for &rank in ranks {
        for chosen in (1..=size).rev() {
            for total in (rank..=most).rev() {
                choices[chosen][total] += choices[chosen - 1][total - rank];
            }
        }
    }
    let at_least: f64 = choices[size][sum..].iter().sum();
    at_least / choices[size].iter().sum::<f64>()
}

/// The same by the normal distribution of the same mean and variance, corrected for continuity.
fn normal(ranks: &[usize], size: usize, sum: usize) -> f64 {
    let (n, m) = (ranks.len() as f64, size as f64);
    let mean = ranks.iter().sum::<usize>() as f64 / n;
    let variance = ranks.iter().map(|&r| (r as f64 - mean).powi(2)).sum::<f64>() / n;
    // Of a sum of m out of n without putting back.
    let deviation = (m * variance * (n - m) / (n - 1.0)).sqrt();
    if deviation == 0.0 {
        return 1.0;
    }
    upper_tail((sum as f64 - 1.0 - m * mean) / deviation)
}

/// Probability that a standard normal number is above `z` (Abramowitz and Stegun 26.2.17, right to 7.5e-8).
fn upper_tail(z: f64) -> f64 {
    let t = 1.0 / (1.0 + 0.231_641_9 * z.abs());
    let series = [0.319_381_530, -0.356_563_782, 1.781_477_937, -1.821_255_978, 1.330_274_429];
    let sum = series.iter().rev().fold(0.0, |sum, c| (sum + c) * t);
    let tail = (-z * z / 2.0).exp() / (2.0 * std::f64::consts::PI).sqrt() * sum;
    if z < 0.0 { 1.0 - tail } else { tail }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_lie_between_neighbours() {
        let samples = [4.0, 1.0, 3.0, 2.0, 5.0];
        assert_eq!([0.0, 0.5, 1.0].map(|share| quantile(&samples, share)), [1.0, 3.0, 5.0]);
        assert!((quantile(&samples, 0.1) - 1.4).abs() < 1e-12);
        assert_eq!(median(&[1.0, 2.0]), 1.5);
        assert!(median(&[]).is_nan());
    }

    #[test]
    fn the_exact_chance_is_that_of_all_orders() {
        // Of the 20 ways to deal six values out, one is as far above, four are as close to it as 2, 4, 6.
        assert!((chance_of_larger(&[1.0, 2.0, 3.0], &[4.0, 5.0, 6.0]) - 1.0 / 20.0).abs() < 1e-12);
        assert!((chance_of_larger(&[4.0, 5.0, 6.0], &[1.0, 2.0, 3.0]) - 1.0).abs() < 1e-12);
        assert!((chance_of_larger(&[1.0, 2.0, 4.0], &[3.0, 5.0, 6.0]) - 2.0 / 20.0).abs() < 1e-12);
        assert_eq!(chance_of_larger(&[1.0; 5], &[1.0; 5]), 1.0);
        assert!((least_chance(3, 3) - 1.0 / 20.0).abs() < 1e-12);
        assert!((least_chance(5, 5) - 1.0 / 252.0).abs() < 1e-12);
    }

    #[test]
    fn the_normal_distribution_continues_the_exact_one() {
        let a: Vec<f64> = (0..30).map(|i| f64::from(i * 7 % 30)).collect();
        let b: Vec<f64> = (0..30).map(|i| f64::from(i * 11 % 30) + 4.5).collect();
        let ranks = doubled_ranks(&[a, b].concat());
        let sum = ranks[30..].iter().sum();
        let (exact, near) = (counted(&ranks, 30, sum), normal(&ranks, 30, sum));
        assert!(exact < 0.05 && (exact - near).abs() < 0.002, "{exact} {near}");
        assert!(
            (upper_tail(1.959_964) - 0.025).abs() < 1e-6 && (upper_tail(-1.0) - 0.841_344_7).abs() < 1e-6
        );
    }
}
