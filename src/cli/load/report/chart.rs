//! How responses are spread: a bar for each of the times 1, 2 and 5 of every power of ten.

use std::fmt::Write as _;

use hdrhistogram::Histogram;

use super::text::short;

/// Characters of the longest bar.
const WIDTH: u64 = 40;

/// The chart, a line for each range of times that has a response or lies between two that have; empty for an empty
/// histogram.
pub(super) fn chart(histogram: &Histogram<u64>) -> String {
    let mut rows: Vec<(u64, u64)> = Vec::new();
    let mut from = 0;
    for to in bounds() {
        let to = to.min(histogram.high());
        if to <= from && from > 0 {
            break;
        }
        rows.push((to, histogram.count_between(from, to)));
        from = to + 1;
    }
    let first = rows.iter().position(|row| row.1 > 0);
    let last = rows.iter().rposition(|row| row.1 > 0);
    let (Some(first), Some(last)) = (first, last) else {
        return String::new();
    };
    let most = rows.iter().map(|row| row.1).max().unwrap_or(1).max(1);
    let all = histogram.len() as f64;
    let mut text = String::new();
    for &(to, count) in &rows[first..=last] {
        // Rounded up: what is there is seen.
        let bar =
            "#".repeat((u128::from(count) * u128::from(WIDTH)).div_ceil(most.into()) as usize);
        let share = count as f64 / all * 100.0;
        // Writing to a string does not fail.
        let _ = writeln!(text, "  up to {:>7}  {bar:<40} {share:6.2}%", short(to));
    }
    text
}

/// 1, 2, 5, 10, 20, ... microseconds, in nanoseconds, to beyond an hour.
fn bounds() -> impl Iterator<Item = u64> {
    (3..13).flat_map(|power| [1, 2, 5].map(|digit| digit * 10_u64.pow(power)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::load::tally::histogram;

    #[test]
    fn every_response_is_in_one_bar() {
        let mut times = histogram();
        for (ns, count) in [(1_500, 10), (9_000_000, 1), (90_000_000, 1_000)] {
            times.record_n(ns, count).unwrap();
        }
        let text = chart(&times);
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[0].contains("up to     2us"), "{text}");
        assert!(lines[lines.len() - 1].contains(&"#".repeat(40)), "{text}");
        assert!(
            lines.iter().any(|line| line.contains("up to    10ms  #  ")),
            "{text}"
        );
        assert_eq!(chart(&histogram()), "");
    }
}
