//! Sizes, counts and durations, as people type and read them.
//!
//! The parsers are clap value parsers: their errors are the words after "invalid value '0' for
//! '--backlog <N>':".

use std::fmt;
use std::num::{NonZeroU32, NonZeroU64};
use std::time::Duration;

use parse_size::{ByteSuffix, Config};

/// The longest duration that is taken: the reactor's timers reach no further than 2^31 milliseconds, and
/// what is longer would silently be cut to that.
const LONGEST: Duration = Duration::from_secs(24 * 24 * 60 * 60);

/// A size in bytes: `4096`, `10k` (10,000), `64KiB` (65,536), `1MiB`.
///
/// # Errors
/// Words on what is wrong: no size, 0, or 2^64 and more.
pub(crate) fn size(text: &str) -> Result<NonZeroU64, String> {
    let bytes = parse_size::parse_size(text).map_err(|error| match error {
        parse_size::Error::PosOverflow => "too large".to_owned(),
        _ => {
            "not a size; write bytes, or a number with a unit, as in 4096, 64KiB or 1MiB".to_owned()
        }
    })?;
    NonZeroU64::new(bytes).ok_or_else(|| "must be at least 1 byte".to_owned())
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
    let count = digits(text).map_err(|error| match error {
        parse_size::Error::PosOverflow => "too large".to_owned(),
        _ => without_commas(text).unwrap_or_else(|| {
            "not a count; write a whole number, as in 500, 10k (ten thousand) or 1m (a million)"
                .to_owned()
        }),
    })?;
    if !is_whole(text, count) {
        return Err("must be a whole number, as in 2 or 1.5k (1,500)".to_owned());
    }
    NonZeroU64::new(count).ok_or_else(|| "must be at least 1".to_owned())
}

fn digits(text: &str) -> Result<u64, parse_size::Error> {
    let parser = Config::new().with_byte_suffix(ByteSuffix::Deny);
    parser.parse_size(text)
}

/// Whether `text` says exactly `count`: the parser rounds fractions. Without its point it must say the same, with a zero
/// more for each digit behind the point.
fn is_whole(text: &str, count: u64) -> bool {
    if text.contains("e-") || text.contains("E-") {
        return false;
    }
    let Some((before, behind)) = text.split_once('.') else {
        return true;
    };
    let places = behind
        .bytes()
        .take_while(|byte| byte.is_ascii_digit() || b"_ ".contains(byte))
        .filter(u8::is_ascii_digit)
        .count();
    let wanted = u32::try_from(places)
        .ok()
        .and_then(|places| 10_u128.checked_pow(places))
        .and_then(|power| power.checked_mul(count.into()));
    digits(&format!("{before}{behind}"))
        .is_ok_and(|without_point| wanted == Some(without_point.into()))
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

/// A duration that may be 0: `250ms`, `5s`, `1m 30s`.
///
/// # Errors
/// Words on what is wrong: no duration, or more than 24 days.
pub(crate) fn duration_or_zero(text: &str) -> Result<Duration, String> {
    let duration = humantime::parse_duration(text).map_err(|_| {
        "not a duration; write a number with a unit, as in 250ms, 5s or 1m30s".to_owned()
    })?;
    if duration > LONGEST {
        return Err("must be at most 24 days".to_owned());
    }
    Ok(duration)
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

#[cfg(test)]
mod tests {
    use super::*;

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
        for text in ["", "5", "soon", "-1s"] {
            assert!(
                duration(text).unwrap_err().contains("not a duration"),
                "{text}"
            );
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
