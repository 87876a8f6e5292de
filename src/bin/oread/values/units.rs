//! Sizes, counts, durations, shares and rates, as people type and read them.
//!
//! The parsers are clap value parsers: their errors are the words after "invalid value '0' for
//! '--backlog <N>':".

#[cfg(test)]
pub(crate) mod fuzz;

use std::fmt;
use std::num::{NonZeroU32, NonZeroU64};
use std::str::FromStr;
use std::time::Duration;

/// What the help of each command says of them.
pub(crate) const UNITS: &str = "\
Sizes are bytes, or have a unit: 4096, 10k (10,000), 64KiB, 1MiB.
Counts and rates are whole and may end in k or m: 10k is 10,000, 1.5k is 1,500, 1m is a million.
Durations have a unit: 250ms, 5s, 1m30s.";

/// The longest duration that is taken: the reactor's timers reach no further than 2^31
/// milliseconds, and what is longer would silently be cut to that.
const LONGEST: Duration = Duration::from_secs(24 * 24 * 60 * 60);

/// A number that is typed, as what it comes to with its unit.
struct Number {
    /// The nearest whole number; halves go up.
    rounded: u64,
    /// Whether it's just that.
    is_whole: bool,
}

/// Why a text is no [`Number`].
enum Wrong {
    /// It isn't written like one.
    Form,
    /// It comes to 2^64 or more.
    TooLarge,
    /// The digits from its first to its last that is not 0 are a number of 2^64 or more.
    TooManyDigits,
}

impl Wrong {
    /// The words on it, where `form` are those on what isn't written like a number.
    fn words(&self, form: impl FnOnce() -> String) -> String {
        match self {
            Wrong::Form => form(),
            Wrong::TooLarge => "too large".to_owned(),
            Wrong::TooManyDigits => "it has more digits than are counted, about 19".to_owned(),
        }
    }
}

/// Reads digits with a point and an exponent, as in `1.5e3`, and a unit behind them: `k`, `m`, `g`,
/// `t`, `p` or `e`, with an `i` for powers of 1024. Spaces and underscores in the number group its
/// digits.
fn number(text: &str) -> Result<Number, Wrong> {
    shifted(text, 0)
}

/// The same, times a power of ten.
fn shifted(text: &str, power: i64) -> Result<Number, Wrong> {
    let (text, unit) = split_unit(text);
    let (text, exponent) = match text.split_once(['e', 'E']) {
        Some((text, exponent)) => (text, read_exponent(exponent)?),
        None => (text, 0),
    };
    let (before, behind) = text.split_once('.').unwrap_or((text, ""));
    let is_digit = |byte: u8| byte.is_ascii_digit();
    let may_stand = |byte| is_digit(byte) || b" _".contains(&byte);
    if !before.bytes().any(is_digit) || !before.bytes().chain(behind.bytes()).all(may_stand) {
        return Err(Wrong::Form);
    }
    let (mut digits, mut zeros) = (0_u64, 0);
    for (index, byte) in before.bytes().chain(behind.bytes()).enumerate() {
        match byte {
            // Those at the end are counted alone, and those in front make no difference.
            b'0' => zeros += u32::from(digits > 0),
            b'1'..=b'9' => {
                digits = 10_u64
                    .checked_pow(zeros + 1)
                    .and_then(|power| digits.checked_mul(power))
                    .and_then(|digits| digits.checked_add(u64::from(byte - b'0')))
                    .ok_or(match index < before.len() && exponent >= 0 {
                        true => Wrong::TooLarge,
                        false => Wrong::TooManyDigits,
                    })?;
                zeros = 0;
            }
            _ => {}
        }
    }
    let places = behind.bytes().filter(|byte| is_digit(*byte)).count() as i64;
    scaled(digits, unit, exponent + i64::from(zeros) - places + power)
}

/// `digits * unit * 10^exponent`, where the unit is 1024^6 at the most.
fn scaled(digits: u64, unit: u64, exponent: i64) -> Result<Number, Wrong> {
    let product = u128::from(digits) * u128::from(unit);
    let power = u32::try_from(exponent.unsigned_abs()).ok();
    let power = power.and_then(|exponent| 10_u128.checked_pow(exponent));
    let (rounded, is_whole) = match power {
        _ if digits == 0 => (0, true),
        Some(power) if exponent < 0 => ((product + power / 2) / power, product % power == 0),
        // Less than half: a product has 37 digits at most.
        None if exponent < 0 => (0, false),
        _ => {
            let product = power.and_then(|power| product.checked_mul(power));
            (product.ok_or(Wrong::TooLarge)?, true)
        }
    };
    let rounded = u64::try_from(rounded).map_err(|_| Wrong::TooLarge)?;
    Ok(Number { rounded, is_whole })
}

/// A number and what its unit comes to: 1 where there is none.
fn split_unit(text: &str) -> (&str, u64) {
    let (base, rest) = match text.strip_suffix(['i', 'I']) {
        Some(rest) => (1024_u64, rest),
        None => (1000, text),
    };
    let last = rest.bytes().last().unwrap_or_default();
    let power = b"kmgtpe"
        .iter()
        .position(|unit| *unit == last.to_ascii_lowercase());
    match (power, rest.split_at_checked(rest.len().saturating_sub(1))) {
        (Some(power), Some((number, _))) => (number, base.pow(power as u32 + 1)),
        // An `i` alone is left for what reads the number, which takes none.
        _ => (text, 1),
    }
}

/// An exponent with or without a sign; one that is larger than any that makes a difference is cut.
fn read_exponent(text: &str) -> Result<i64, Wrong> {
    const MOST: i64 = 1 << 32;
    let text = text.replace([' ', '_'], "");
    let digits = text.strip_prefix(['+', '-']).unwrap_or(&text);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(Wrong::Form);
    }
    let exponent = digits.parse().unwrap_or(MOST).min(MOST);
    Ok(if text.starts_with('-') {
        -exponent
    } else {
        exponent
    })
}

/// A size in bytes: `4096`, `10k` (10,000), `64KiB` (65,536), `1MiB`. A fraction of a byte is
/// rounded.
///
/// # Errors
/// Words on what is wrong: no size, 0, or 2^64 and more.
pub(crate) fn size(text: &str) -> Result<NonZeroU64, String> {
    let size = number(text.strip_suffix(['b', 'B']).unwrap_or(text)).map_err(|wrong| {
        wrong.words(|| {
            "not a size; write bytes, or a number with a unit, as in 4096, 64KiB or 1MiB".to_owned()
        })
    })?;
    NonZeroU64::new(size.rounded).ok_or_else(|| "must be at least 1 byte".to_owned())
}

/// A size in bytes that is under 4 GiB, as one connection's limits are.
///
/// # Errors
/// As [`size`]; or it is 4 GiB or more.
pub(crate) fn size_under_4gib(text: &str) -> Result<NonZeroU32, String> {
    NonZeroU32::try_from(size(text)?).map_err(|_| "must be less than 4GiB".to_owned())
}

/// A count: `12345`, `10k` (ten thousand), `1m` (a million).
///
/// # Errors
/// Words on what is wrong: no count, a fraction, 0, or 2^32 and more.
pub(crate) fn count(text: &str) -> Result<NonZeroU32, String> {
    let count = large_count(text)?;
    NonZeroU32::try_from(count).map_err(|_| "must be less than 4,294,967,296".to_owned())
}

/// A count that may pass 2^32: messages of a whole run.
///
/// # Errors
/// Words on what is wrong: no count, a fraction, 0, or 2^64 and more.
pub(crate) fn large_count(text: &str) -> Result<NonZeroU64, String> {
    NonZeroU64::new(count_or_zero(text)?).ok_or_else(|| "must be at least 1".to_owned())
}

/// A number of thousandths: `0.5` is 500.
///
/// # Errors
/// Words on what is wrong: no number, 0, one with more digits, or over 4,294,967,295.
pub(crate) fn thousandths(text: &str) -> Result<NonZeroU64, String> {
    const MOST: u64 = u32::MAX as u64 * 1000;
    let count = shifted(text, 3).map_err(|wrong| {
        let form = "not a number; write it as in 0.5, 500, 10k (ten thousand) or 1m (a million)";
        wrong.words(|| without_commas(text).unwrap_or_else(|| form.to_owned()))
    })?;
    match NonZeroU64::new(count.rounded) {
        _ if !count.is_whole => Err("it has more than three digits behind its point".to_owned()),
        None => Err("must be more than 0".to_owned()),
        Some(count) if count.get() > MOST => Err("must be less than 4,294,967,296".to_owned()),
        Some(count) => Ok(count),
    }
}

/// A count up to `most`.
///
/// # Errors
/// As [`count`]; or words on what it may be at the most.
pub(crate) fn count_to(
    most: u32,
) -> impl Fn(&str) -> Result<NonZeroU32, String> + Clone + Send + Sync + 'static {
    move |text| match count(text)? {
        count if count.get() <= most => Ok(count),
        _ => Err(format!("must be at most {}", Count(most.into()))),
    }
}

/// A count that may pass 2^32, and may be 0.
///
/// # Errors
/// Words on what is wrong: no count, a fraction, or 2^64 and more.
pub(crate) fn count_or_zero(text: &str) -> Result<u64, String> {
    let count = number(text).map_err(|wrong| {
        wrong.words(|| {
            without_commas(text).unwrap_or_else(|| {
                "not a count; write a whole number, as in 500, 10k (ten thousand) or 1m (a million)"
                    .to_owned()
            })
        })
    })?;
    if !count.is_whole {
        return Err("must be a whole number, as in 2 or 1.5k (1,500)".to_owned());
    }
    Ok(count.rounded)
}

/// How to write a count that somebody wrote in groups, as in `10,000`.
fn without_commas(text: &str) -> Option<String> {
    let (first, rest) = text.split_once(',')?;
    let is_number = |group: &str| !group.is_empty() && group.bytes().all(|b| b.is_ascii_digit());
    let are_groups = rest
        .split(',')
        .all(|group| group.len() == 3 && is_number(group));
    (is_number(first) && are_groups)
        .then(|| format!("a count has no commas; write {}", text.replace(',', "")))
}

/// A duration that may be 0: `250ms`, `5s`, `1m 30s`. 0 alone may go without a unit.
///
/// # Errors
/// Words on what is wrong: no duration, one with more digits than are counted, or more than 24
/// days.
pub(crate) fn duration_or_zero(text: &str) -> Result<Duration, String> {
    let mut sum = Duration::ZERO;
    // humantime adds the parts without a check, and panics where they come to 2^64 seconds.
    for part in parts(text) {
        // It takes 0 without a unit, but only where that's all.
        let part = if part.len() < text.len() && part.trim() == "0" {
            ""
        } else {
            part
        };
        let part = humantime::parse_duration(part).map_err(|error| match error {
            humantime::DurationError::NumberOverflow => {
                "too large, or with more digits than are counted".to_owned()
            }
            _ => "not a duration; write a number with a unit, as in 250ms, 5s or 1m30s".to_owned(),
        })?;
        sum = sum.saturating_add(part);
    }
    if sum > LONGEST {
        return Err("must be at most 24 days".to_owned());
    }
    Ok(sum)
}

/// The parts of a duration, each a number and its unit: a number begins where a digit follows a
/// letter. At least one.
fn parts(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = Some(text);
    std::iter::from_fn(move || {
        let text = rest?;
        let mut is_behind_unit = false;
        let next = text.find(|c: char| {
            let begins = is_behind_unit && c.is_ascii_digit();
            is_behind_unit = c.is_alphabetic() || (is_behind_unit && c.is_whitespace());
            begins
        });
        let (part, behind) = text.split_at_checked(next.unwrap_or(text.len()))?;
        rest = next.map(|_| behind);
        Some(part)
    })
}

/// A duration of more than 0.
///
/// # Errors
/// As [`duration_or_zero`]; or it is 0.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    match duration_or_zero(text)? {
        Duration::ZERO => Err("must be more than 0".to_owned()),
        duration => Ok(duration),
    }
}

/// A duration of more than 0, or never.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OrNever(pub(crate) Option<Duration>);

/// A duration of more than 0, or `never`.
///
/// # Errors
/// As [`duration`].
pub(crate) fn duration_or_never(text: &str) -> Result<OrNever, String> {
    if text == "never" {
        return Ok(OrNever(None));
    }
    let duration = duration(text).map_err(|error| format!("{error}; or never"))?;
    Ok(OrNever(Some(duration)))
}

/// A cap on the datagrams that are answered a second, as typed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rate {
    /// No cap.
    Off,
    /// At most so many.
    PerSecond(NonZeroU32),
}

impl FromStr for Rate {
    type Err = String;

    fn from_str(text: &str) -> Result<Rate, String> {
        if text == "off" {
            return Ok(Rate::Off);
        }
        count(text)
            .map(Rate::PerSecond)
            .map_err(|error| format!("{error}; or off for no cap"))
    }
}

/// A count, printed in groups of three digits: `12,345`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Count(pub(crate) u64);

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = self.0.to_string();
        for (index, digit) in digits.char_indices() {
            if index > 0 && (digits.len() - index).is_multiple_of(3) {
                f.write_str(",")?;
            }
            write!(f, "{digit}")?;
        }
        Ok(())
    }
}

/// Counts with their names, but for those that are zero: `3 lost, 1 refused`.
pub(crate) fn counted<'a>(counts: impl IntoIterator<Item = (u64, &'a str)>) -> String {
    let parts = counts.into_iter().filter(|&(count, _)| count > 0);
    let parts = parts.map(|(count, name)| format!("{} {name}", Count(count)));
    parts.collect::<Vec<_>>().join(", ")
}

/// A size, printed exactly where a binary unit divides it and else to a tenth: `64 KiB`, `1.5 MiB`,
/// `999 B`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Size(pub(crate) u64);

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [(u32, &str); 6] = [
            (60, "EiB"),
            (50, "PiB"),
            (40, "TiB"),
            (30, "GiB"),
            (20, "MiB"),
            (10, "KiB"),
        ];
        let bytes = self.0;
        let Some((shift, unit)) = UNITS.into_iter().find(|&(shift, _)| bytes >> shift > 0) else {
            return write!(f, "{bytes} B");
        };
        let (whole, rest) = (bytes >> shift, bytes & ((1 << shift) - 1));
        // In integers, cut and not rounded: never "1024.0 KiB". `rest` has up to 60 bits, and ten
        // times it has 64.
        match (rest * 10) >> shift {
            0 => write!(f, "{whole} {unit}"),
            tenths => write!(f, "{whole}.{tenths} {unit}"),
        }
    }
}

/// A time of so many nanoseconds, in at most seven characters: `850ns`, `1.25ms`, `12.3s`.
pub(crate) fn short(ns: u64) -> String {
    // What would be rounded to a thousand is one of the next unit.
    let (unit, name) = match ns {
        0..1_000 => return format!("{ns}ns"),
        1_000..999_500 => (1e3, "us"),
        999_500..999_500_000 => (1e6, "ms"),
        _ => (1e9, "s"),
    };
    let value = ns as f64 / unit;
    let digits = match value {
        v if v < 9.995 => 2,
        v if v < 99.95 => 1,
        _ => 0,
    };
    format!("{}{name}", trimmed(format!("{value:.digits$}")))
}

/// A share from 0 to 1, to a thousandth of a percent: `49.751%`, `50%`; what there is of less is
/// not nothing.
pub(crate) fn share(share: f64) -> String {
    if share > 0.0 && share < 0.000_005 {
        return "<0.001%".to_owned();
    }
    format!("{}%", trimmed(format!("{:.3}", share * 100.0)))
}

/// So many a second, to a tenth: `3,999.6/s`, `4,000/s`.
pub(crate) fn a_second(rate: f64) -> String {
    let tenths = (rate * 10.0).round() as u64;
    match tenths % 10 {
        0 => format!("{}/s", Count(tenths / 10)),
        tenth => format!("{}.{tenth}/s", Count(tenths / 10)),
    }
}

/// A number without the zeros that say nothing, behind its point.
fn trimmed(number: String) -> String {
    match number.contains('.') {
        true => number
            .trim_end_matches('0')
            .trim_end_matches('.')
            .to_owned(),
        false => number,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_told_with_three_digits_at_most() {
        for (ns, text) in [
            (0, "0ns"),
            (999, "999ns"),
            (1_000, "1us"),
            (999_499, "999us"),
            (999_500, "1ms"),
            (1_250_000, "1.25ms"),
            (999_999_000, "1s"),
            (12_345_678, "12.3ms"),
            (200_000_000, "200ms"),
            (59_900_000_000, "59.9s"),
            (3_600_000_000_000, "3600s"),
        ] {
            assert_eq!(short(ns), text);
        }
    }

    #[test]
    fn shares_and_rates_have_the_digits_that_they_need() {
        for (part, text) in [
            (0.0, "0%"),
            (0.5, "50%"),
            (1.0, "100%"),
            (0.49751, "49.751%"),
            (0.000_01, "0.001%"),
            (0.000_000_1, "<0.001%"),
        ] {
            assert_eq!(share(part), text);
        }
        for (rate, text) in [(0.0, "0/s"), (3999.6, "3,999.6/s"), (4000.02, "4,000/s")] {
            assert_eq!(a_second(rate), text);
        }
    }

    #[test]
    fn sizes_are_bytes_or_carry_a_unit() {
        for (text, bytes) in [
            ("1", 1),
            ("4096", 4096),
            ("10k", 10_000),
            ("64KiB", 65_536),
            ("1 MiB", 1 << 20),
        ] {
            assert_eq!(size(text).map(NonZeroU64::get), Ok(bytes), "{text}");
        }
    }

    #[test]
    fn a_size_of_zero_or_of_no_sense_is_refused_in_words() {
        assert!(size("0").unwrap_err().contains("at least 1 byte"));
        assert!(size("0KiB").unwrap_err().contains("at least 1 byte"));
        for text in ["", "KiB", "-1", "many", "1XB"] {
            assert!(size(text).unwrap_err().contains("not a size"), "{text}");
        }
        assert!(
            size("99999999999999999999")
                .unwrap_err()
                .contains("too large")
        );
        assert!(
            size_under_4gib("4GiB")
                .unwrap_err()
                .contains("less than 4GiB")
        );
        assert_eq!(
            size_under_4gib("4294967295").map(NonZeroU32::get),
            Ok(u32::MAX)
        );
    }

    #[test]
    fn a_number_of_any_length_is_rounded_right_or_refused_in_words() {
        for (text, bytes) in [
            ("18446744073709551615", u64::MAX),
            ("1.8446744073709551615e", 1_844_674_407_370_955_162),
            ("0.0000000000000000000000001e27", 100),
            ("1.00000000000000000000000000", 1),
            ("3.4", 3),
            ("3.5", 4),
        ] {
            assert_eq!(size(text).map(NonZeroU64::get), Ok(bytes), "{text}");
        }
        for (text, words) in [
            ("18446744073709551616", "too large"),
            ("184467440737095516155", "too large"),
            ("1e400", "too large"),
            ("18446744073709551615.5", "more digits"),
            ("1.84467440737095516155k", "more digits"),
            ("0e99999999999999999999", "at least 1 byte"),
            ("1e-99999999999999999999", "at least 1 byte"),
            ("1e99999999999999999999x", "not a size"),
        ] {
            let refused = size(text).unwrap_err();
            assert!(refused.contains(words), "{text}: {refused}");
        }
        assert_eq!(count("1.00000000000000000000").map(NonZeroU32::get), Ok(1));
    }

    #[test]
    fn an_i_alone_is_no_unit() {
        for text in ["1i", "0I", "64 i", "1iB"] {
            assert!(size(text).unwrap_err().contains("not a size"), "{text}");
            assert!(count(text).unwrap_err().contains("not a count"), "{text}");
        }
    }

    #[test]
    fn counts_know_thousands_and_millions() {
        for (text, number) in [
            ("1", 1),
            ("10k", 10_000),
            ("1m", 1_000_000),
            ("2M", 2_000_000),
            ("1.5k", 1_500),
        ] {
            assert_eq!(count(text).map(NonZeroU32::get), Ok(number), "{text}");
        }
        assert!(count("0").unwrap_err().contains("at least 1"));
        assert!(count("5G").unwrap_err().contains("4,294,967,296"));
        for text in ["", "-3", "ten", "10kB"] {
            assert!(count(text).unwrap_err().contains("not a count"), "{text}");
        }
    }

    #[test]
    fn a_count_is_whole_however_it_is_written() {
        for (text, number) in [
            ("1.5k", 1_500),
            ("2.0", 2),
            ("0.000001m", 1),
            ("1.25 k", 1_250),
            ("1.5Ki", 1_536),
            ("1.5e3", 1_500),
        ] {
            assert_eq!(count(text).map(NonZeroU32::get), Ok(number), "{text}");
        }
        for text in ["0.4", "0.5", "1.7", "1.0001k", "0.1Ki", "15e-1", "2.5"] {
            let refused = count(text).unwrap_err();
            assert!(
                refused.contains("must be a whole number"),
                "{text}: {refused}"
            );
        }
    }

    #[test]
    fn a_count_with_commas_is_refused_with_how_to_write_it() {
        assert!(count("10,000").unwrap_err().ends_with("write 10000"));
        assert!(count("1,000,000").unwrap_err().ends_with("write 1000000"));
        for text in ["1,5", ",000", "10,00", "1,000k"] {
            assert!(count(text).unwrap_err().contains("not a count"), "{text}");
        }
    }

    #[test]
    fn durations_need_a_unit_and_end_where_the_timers_do() {
        assert_eq!(duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(duration("1m 30s"), Ok(Duration::from_secs(90)));
        assert_eq!(duration("24days"), Ok(LONGEST));
        assert!(duration("25days").unwrap_err().contains("at most 24 days"));
        // Nothing that is taken is cut by the timers.
        assert!(i32::try_from(LONGEST.as_millis()).is_ok());
        for text in ["", "5", "soon", "-1s", "1m 0", "1m0", "1m 5"] {
            assert!(
                duration(text).unwrap_err().contains("not a duration"),
                "{text}"
            );
        }
    }

    #[test]
    fn a_duration_past_all_numbers_is_refused_and_breaks_nothing() {
        for (text, words) in [
            ("18446744073709551615s 1000ms", "at most 24 days"),
            ("584542046090y 26361615s 1000ms", "at most 24 days"),
            ("99999999999999999999s", "too large"),
            ("18446744073709551615ms", "too large"),
            ("0.5ns", "more digits than are counted"),
        ] {
            let refused = duration(text).unwrap_err();
            assert!(refused.contains(words), "{text}: {refused}");
        }
    }

    #[test]
    fn a_duration_of_zero_is_taken_only_where_it_makes_sense() {
        assert!(duration("0s").unwrap_err().contains("more than 0"));
        assert_eq!(duration_or_zero("0s"), Ok(Duration::ZERO));
    }

    #[test]
    fn never_is_no_duration() {
        assert_eq!(duration_or_never("never"), Ok(OrNever(None)));
        let second = OrNever(Some(Duration::from_secs(1)));
        assert_eq!(duration_or_never("1s"), Ok(second));
        assert!(duration_or_never("0s").unwrap_err().ends_with("; or never"));
    }

    #[test]
    fn counts_are_printed_in_groups_of_three() {
        for (number, text) in [
            (0, "0"),
            (999, "999"),
            (1_000, "1,000"),
            (12_345, "12,345"),
            (1 << 20, "1,048,576"),
        ] {
            assert_eq!(Count(number).to_string(), text);
        }
    }

    #[test]
    fn sizes_are_printed_in_the_largest_unit_and_never_rounded_up_out_of_it() {
        for (bytes, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1 KiB"),
            (65_536, "64 KiB"),
            (1536, "1.5 KiB"),
            ((1 << 20) - 1, "1023.9 KiB"),
            (1 << 30, "1 GiB"),
            (u64::MAX, "15.9 EiB"),
        ] {
            assert_eq!(Size(bytes).to_string(), text);
        }
    }
}
