//! How responses are spread: a bar for each of the times 1, 2 and 5 of every power of ten.

use hdrhistogram::Histogram;

use crate::values::units::{share, short};

/// Characters of the longest bar where there is room for it, and of what stands beside it.
const WIDTH: usize = 40;
const BESIDE: usize = 27;

/// The chart on so many columns: a row for each range of times that has a response or lies between
/// two that have; none for an empty histogram.
pub(super) fn chart(histogram: &Histogram<u64>, columns: usize) -> Vec<String> {
    let mut rows: Vec<(u64, u64)> = bounds().map(|to| (to, 0)).collect();
    let mut row = 0;
    // Step by step of the histogram, for a bound may lie in the midst of a step: asked by bounds,
    // it would count that step on both sides.
    for step in histogram.iter_recorded() {
        let value = histogram.lowest_equivalent(step.value_iterated_to());
        while row + 1 < rows.len() && rows[row].0 < value {
            row += 1;
        }
        rows[row].1 += step.count_at_value();
    }
    let first = rows.iter().position(|row| row.1 > 0);
    let last = rows.iter().rposition(|row| row.1 > 0);
    let (Some(first), Some(last)) = (first, last) else {
        return Vec::new();
    };
    let most = rows.iter().map(|row| row.1).max().unwrap_or(1).max(1);
    let width = columns.saturating_sub(BESIDE).min(WIDTH);
    let row = |&(to, count): &(u64, u64)| {
        // Rounded up: what is there is seen.
        let hashes = (u128::from(count) * width as u128).div_ceil(most.into());
        let bar = "#".repeat(hashes as usize);
        let part = share(count as f64 / histogram.len() as f64);
        format!("  up to {:>7}  {bar:<width$} {part:>8}", short(to))
    };
    rows[first..=last].iter().map(row).collect()
}

/// 1, 2, 5, 10, 20, ... microseconds, in nanoseconds, to beyond an hour.
fn bounds() -> impl Iterator<Item = u64> {
    (3..13).flat_map(|power| [1, 2, 5].map(|digit| digit * 10_u64.pow(power)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::count::histogram;

    #[test]
    fn what_lies_at_a_bound_is_in_one_bar_too() {
        let mut times = histogram();
        let bounds: Vec<u64> = super::bounds()
            .take_while(|&to| to < 3_600_000_000_000)
            .collect();
        for &to in &bounds {
            for near in [to - 1, to, to + 1] {
                times.record(near).unwrap();
            }
        }
        let text = chart(&times, 80).join("\n");
        let shares = text
            .lines()
            .filter_map(|line| line.split_whitespace().last());
        let all: f64 = shares
            .map(|share| share.trim_end_matches('%').parse::<f64>().unwrap())
            .sum();
        // Each bar's share is rounded to a thousandth; one more in a bar would be one in 99.
        assert!((all - 100.0).abs() < 0.2, "{all}% in:\n{text}");
    }

    #[test]
    fn every_response_is_in_one_bar() {
        let mut times = histogram();
        for (ns, count) in [(1_500, 10), (9_000_000, 1), (90_000_000, 1_000)] {
            times.record_n(ns, count).unwrap();
        }
        let text = chart(&times, 80).join("\n");
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[0].contains("up to     2us"), "{text}");
        assert!(lines[lines.len() - 1].contains(&"#".repeat(40)), "{text}");
        assert!(
            lines.iter().any(|line| line.contains("up to    10ms  #  ")),
            "{text}"
        );
        assert!(chart(&histogram(), 80).is_empty());
        let narrow = chart(&times, 60);
        assert!(narrow.iter().all(|line| line.len() <= 60), "{narrow:?}");
    }
}
