//! Positions and times as numbers that keep their order to the last digit.

use std::cmp::Ordering;

/// A number as its floor and the rest, so that 64-bit nanoseconds keep their order.
pub(super) type Number = (i64, f64);

/// Reads a number, such as 17, -3 or 1440692763.5; `None` for anything else and beyond ±9·10¹⁸ with a fraction.
pub(super) fn parse(cell: &str) -> Option<Number> {
    if let Some(whole) = short_whole(cell.as_bytes()) {
        return Some((whole, 0.0));
    }
    if let Ok(whole) = cell.parse::<i64>() {
        return Some((whole, 0.0));
    }
    let value: f64 = cell.parse().ok()?;
    (value.abs() < 9e18).then(|| (value.floor() as i64, value - value.floor()))
}

/// Up to 18 digits and nothing else, the usual case.
fn short_whole(digits: &[u8]) -> Option<i64> {
    if digits.is_empty() || digits.len() > 18 {
        return None;
    }
    digits.iter().try_fold(0, |sum, &b| b.is_ascii_digit().then(|| 10 * sum + i64::from(b - b'0')))
}

/// One number a row. Fractions take no memory until one is not zero.
#[derive(Debug, Default)]
pub(super) struct Numbers {
    whole: Vec<i64>,
    fraction: Vec<f64>,
}

impl Numbers {
    pub(super) fn push(&mut self, (whole, fraction): Number) {
        if fraction != 0.0 && self.fraction.is_empty() {
            self.fraction.resize(self.whole.len(), 0.0);
            self.fraction.push(fraction);
        } else if !self.fraction.is_empty() {
            self.fraction.push(fraction);
        }
        self.whole.push(whole);
    }

    pub(super) fn compare(&self, a: usize, b: usize) -> Ordering {
        let whole = self.whole[a].cmp(&self.whole[b]);
        if self.fraction.is_empty() {
            return whole;
        }
        whole.then_with(|| self.fraction[a].total_cmp(&self.fraction[b]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_every_spelling_are_read_and_nothing_else() {
        for (cell, number) in [
            ("0", (0, 0.0)),
            ("000000000000000017", (17, 0.0)),
            ("-3", (-3, 0.0)),
            ("9223372036854775807", (i64::MAX, 0.0)),
            ("1440692763.5", (1440692763, 0.5)),
            ("-0.25", (-1, 0.75)),
            ("1e3", (1000, 0.0)),
        ] {
            assert_eq!(parse(cell), Some(number), "{cell}");
        }
        for cell in ["", "-", "NaN", "inf", "1e19", "17 ", "0x1"] {
            assert_eq!(parse(cell), None, "{cell}");
        }
    }

    #[test]
    fn a_late_fraction_orders_earlier_whole_numbers_too() {
        let mut numbers = Numbers::default();
        [(2, 0.0), (2, 0.0), (2, 0.5), (1, 0.0)].into_iter().for_each(|n| numbers.push(n));
        assert_eq!(numbers.compare(0, 1), Ordering::Equal);
        assert_eq!(numbers.compare(1, 2), Ordering::Less);
        assert_eq!(numbers.compare(3, 2), Ordering::Less);
    }
}
