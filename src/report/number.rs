//! How numbers are printed in tables, on axes and in sentences.

/// Seconds as people say them.
pub(super) fn duration(seconds: f64) -> String {
    match seconds {
        s if !s.is_finite() => "–".into(),
        s if s < 60.0 => format!("{s:.1} s"),
        s if s < 3600.0 => format!("{} min {:02} s", (s / 60.0) as u64, (s % 60.0) as u64),
        s => format!("{} h {:02} min", (s / 3600.0) as u64, (s / 60.0 % 60.0) as u64),
    }
}

/// A count with commas between thousands.
pub(super) fn count(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// A score as the field prints it: four decimals, no zero before the point.
pub(super) fn fraction(value: f64) -> String {
    let text = format!("{value:.4}");
    text.strip_prefix('0').map_or(text.clone(), str::to_string)
}

/// A number as axes and bars print it: at most four significant digits, no trailing zeros; `–` if it is not finite.
pub(super) fn short(value: f64) -> String {
    if !value.is_finite() {
        return "–".into();
    }
    let (scaled, unit) = match value.abs() {
        size if size >= 1e9 => (value / 1e9, " G"),
        size if size >= 1e6 => (value / 1e6, " M"),
        size if size >= 1e4 => (value / 1e3, " k"),
        _ => (value, ""),
    };
    if scaled != 0.0 && scaled.abs() < 1e-3 {
        return format!("{scaled:.1e}");
    }
    let whole = if scaled.abs() < 1.0 { 0 } else { scaled.abs().log10().floor() as usize + 1 };
    let text = format!("{scaled:.*}", 4usize.saturating_sub(whole));
    let text = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    format!("{}{unit}", if text == "-0" { "0" } else { text })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_on_axes_are_short_and_free_of_rounding_noise() {
        let shown: Vec<String> =
            [0.1 + 0.2, 0.0, -0.0, 12.5, 250.0, 123_456.0, 2e-5, f64::INFINITY].map(short).to_vec();
        assert_eq!(shown, ["0.3", "0", "0", "12.5", "250", "123.5 k", "2.0e-5", "–"]);
    }

    #[test]
    fn counts_durations_and_scores_read_as_people_write_them() {
        assert_eq!([0, 999, 1000, 1_234_567].map(count), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!(
            [0.04, 59.5, 61.0, 7384.0, f64::NAN].map(duration),
            ["0.0 s", "59.5 s", "1 min 01 s", "2 h 03 min", "–"]
        );
        assert_eq!([0.12344, 1.0, 0.0].map(fraction), [".1234", "1.0000", ".0000"]);
    }
}
