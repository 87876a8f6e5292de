//! Sizes, counts and durations against plain readings of their digits. `tests/common/fuzz.rs` tells
//! how to have more inputs, and how to replay one:
//!
//! ```text
//! OREAD_FUZZ=50000000 cargo test --release --bin oread fuzz -- --nocapture
//! ```

use std::fmt::Write as _;

use super::*;
use crate::fuzz::{Dice, assert_words, fuzz, spoil};

/// What a number with a unit comes to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Plain {
    /// The nearest whole number, and whether it's just that.
    Number(u64, bool),
    /// 2^64 or more.
    TooLarge,
    /// More digits than are counted.
    TooManyDigits,
    /// Something else.
    None,
}

/// Reads a number as it's done on paper, digit by digit.
pub(crate) fn plain_number(text: &str, may_say_bytes: bool) -> Plain {
    let mut text = text.to_ascii_lowercase();
    if may_say_bytes && text.ends_with('b') {
        text.pop();
    }
    let is_binary = text.ends_with('i');
    if is_binary {
        text.pop();
    }
    let power = text
        .chars()
        .next_back()
        .and_then(|last| "kmgtpe".find(last));
    if power.is_some() {
        text.pop();
    }
    let unit: u64 = match (is_binary, power) {
        (true, None) => return Plain::None,
        (true, Some(power)) => 1024_u64.pow(power as u32 + 1),
        (false, Some(power)) => 1000_u64.pow(power as u32 + 1),
        (false, None) => 1,
    };
    let text = text.replace([' ', '_'], "");
    let (number, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let (before, behind) = number.split_once('.').unwrap_or((number, ""));
    let unsigned = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
    let are_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if before.is_empty()
        || unsigned.is_empty()
        || ![before, behind, unsigned].map(are_digits).contains(&true)
    {
        return Plain::None;
    }
    if !are_digits(before) || !are_digits(behind) || !are_digits(unsigned) {
        return Plain::None;
    }
    let digits = format!("{before}{behind}");
    let significant = digits.trim_matches('0');
    if significant.is_empty() {
        return Plain::Number(0, true);
    }
    if significant.parse::<u64>().is_err() {
        return Plain::TooManyDigits;
    }
    // Far out it makes no difference how far.
    let far: i64 = if unsigned.trim_start_matches('0').len() > 6 {
        1_000_000
    } else {
        unsigned.parse().unwrap()
    };
    let exponent = if exponent.starts_with('-') { -far } else { far };
    round(&times(&digits, unit), exponent - behind.len() as i64)
}

/// A number in digits, times another one.
fn times(digits: &str, by: u64) -> String {
    let mut carry = 0_u128;
    let mut product = Vec::new();
    for digit in digits.bytes().rev() {
        carry += u128::from(digit - b'0') * u128::from(by);
        product.push(b'0' + (carry % 10) as u8);
        carry /= 10;
    }
    while carry > 0 {
        product.push(b'0' + (carry % 10) as u8);
        carry /= 10;
    }
    product.reverse();
    String::from_utf8(product).unwrap()
}

/// Moves the point behind `digits` by so many places, and rounds to the nearest.
fn round(digits: &str, places: i64) -> Plain {
    let digits = digits.trim_start_matches('0');
    if places >= 0 {
        return match places {
            0..=20 => whole(
                &format!("{digits}{}", "0".repeat(places as usize)),
                false,
                true,
            ),
            _ => Plain::TooLarge,
        };
    }
    let behind = places.unsigned_abs() as usize;
    if behind > digits.len() {
        return Plain::Number(0, false);
    }
    let (before, behind) = digits.split_at(digits.len() - behind);
    let is_up = behind.as_bytes()[0] >= b'5';
    whole(before, is_up, behind.bytes().all(|digit| digit == b'0'))
}

fn whole(digits: &str, is_up: bool, is_exact: bool) -> Plain {
    let number = format!("0{digits}").parse::<u64>().ok();
    match number.and_then(|number| number.checked_add(is_up.into())) {
        Some(number) => Plain::Number(number, is_exact),
        None => Plain::TooLarge,
    }
}

/// A number as people type it, and as they shouldn't.
pub(crate) fn any_number(dice: &mut Dice, text: &mut String) {
    text.push_str(dice.pick(&["", "", "", "", "", "", "0", "00", " ", "_", "+", "-"]));
    let number = dice.edge();
    match dice.roll(8) {
        0 => (0..dice.roll(30)).for_each(|_| text.push(char::from(b'0' + dice.roll(10) as u8))),
        1 => write!(text, "{}", Count(number)).unwrap(),
        2 => write!(text, "{number}{}", dice.roll(100)).unwrap(),
        3 => write!(text, "{}", u64::MAX - dice.roll(3)).unwrap(),
        _ => write!(text, "{}", number >> dice.roll(64)).unwrap(),
    }
    if dice.once_in(3) {
        text.push('.');
        for _ in 0..dice.roll(dice.clone().pick(&[3, 6, 24])) {
            let digit = dice.pick(b"0001459");
            text.push(char::from(digit));
        }
    }
    if dice.once_in(8) {
        let sign = dice.pick(&["", "", "-", "+", "--"]);
        let exponent = match dice.roll(8) {
            0 => dice.edge(),
            _ => dice.roll(24),
        };
        write!(text, "{}{sign}{exponent}", dice.pick(&["e", "E"])).unwrap();
    }
    text.push_str(dice.pick(&["", "", "", " ", "_"]));
    text.push_str(dice.pick(&["", "", "k", "K", "m", "M", "g", "t", "p", "e", "E", "x"]));
    text.push_str(dice.pick(&["", "", "i", "I"]));
    text.push_str(dice.pick(&["", "", "", "B", "b"]));
    if dice.once_in(8) {
        spoil(dice, text);
    }
}

fn says(result: &Result<impl std::fmt::Debug, String>, any: &[&str], text: &str) {
    let said = result.as_ref().unwrap_err();
    assert_words(said);
    let right = any.iter().any(|words| said.contains(words));
    assert!(right, "{text:?}: {said:?}, not {any:?}");
}

const TOO_LARGE: &str = "too large";
const DIGITS: &str = "more digits than are counted";

#[test]
fn a_size_is_the_nearest_number_of_bytes_to_what_is_typed() {
    let mut text = String::new();
    fuzz(5000, |dice| {
        text.clear();
        any_number(dice, &mut text);
        let (read, short) = (size(&text), size_under_4gib(&text));
        match plain_number(&text, true) {
            Plain::Number(0, _) => says(&read, &["must be at least 1 byte"], &text),
            Plain::Number(bytes, _) => {
                assert_eq!(read.as_ref().map(|read| read.get()), Ok(bytes), "{text:?}");
                match u32::try_from(bytes) {
                    Ok(bytes) => assert_eq!(short.map(NonZeroU32::get), Ok(bytes), "{text:?}"),
                    Err(_) => says(&short, &["must be less than 4GiB"], &text),
                }
            }
            Plain::TooLarge => says(&read, &[TOO_LARGE], &text),
            Plain::TooManyDigits => says(&read, &[TOO_LARGE, DIGITS], &text),
            Plain::None => says(&read, &["not a size"], &text),
        }
        if read.is_err() {
            assert_eq!(size_under_4gib(&text).map(NonZeroU64::from), read);
        }
        read.is_ok()
    });
}

#[test]
fn a_count_is_just_the_whole_number_that_is_typed() {
    let mut text = String::new();
    fuzz(5000, |dice| {
        text.clear();
        any_number(dice, &mut text);
        let read = large_count(&text);
        match plain_number(&text, false) {
            Plain::Number(0, true) => says(&read, &["must be at least 1"], &text),
            Plain::Number(_, false) => says(&read, &["must be a whole number"], &text),
            Plain::Number(number, true) => {
                assert_eq!(read.as_ref().map(|read| read.get()), Ok(number), "{text:?}");
            }
            Plain::TooLarge => says(&read, &[TOO_LARGE], &text),
            Plain::TooManyDigits => says(&read, &[TOO_LARGE, DIGITS], &text),
            Plain::None => says(
                &read,
                &["not a count", "a count has no commas; write "],
                &text,
            ),
        }
        if let Err(said) = &read
            && let Some((_, better)) = said.split_once("no commas; write ")
        {
            assert!(
                large_count(better).is_ok()
                    || better.contains(|c| c > '9')
                    || better.trim_matches('0').is_empty()
                    || better.len() > 19,
                "{text:?}: {said}"
            );
        }
        are_counts_and_caps(&text, &read);
        read.is_ok()
    });
}

/// What is under 2^32 is a count too, and that's a cap.
fn are_counts_and_caps(text: &str, large: &Result<NonZeroU64, String>) {
    let small = count(text);
    let as_cap = text.parse::<Rate>();
    match large.clone().map(NonZeroU32::try_from) {
        Ok(Ok(number)) => {
            assert_eq!(small, Ok(number));
            assert_eq!(as_cap, Ok(Rate::PerSecond(number)));
        }
        Ok(Err(_)) => says(&small, &["must be less than 4,294,967,296"], text),
        Err(why) => assert_eq!(small, Err(why)),
    }
    if let Err(why) = &small {
        assert_eq!(as_cap, Err(format!("{why}; or off for no cap")));
    }
}

#[test]
fn a_printed_count_or_size_is_read_back() {
    fuzz(5000, |dice| {
        let number = dice.edge() >> dice.roll(64);
        let shown = Count(number).to_string();
        assert_eq!(shown.replace(',', ""), number.to_string());
        for (place, group) in shown.split(',').enumerate() {
            assert!(
                group.len() == 3 || (place == 0 && group.len() < 3),
                "{shown}"
            );
        }
        let shown = Size(number).to_string();
        let Ok(read) = size(&shown) else {
            assert_eq!((number, &shown[..]), (0, "0 B"));
            return false;
        };
        // Never more than it is, and a tenth of its unit less at the most.
        let unit = shown.split_once(' ').unwrap().1;
        let tenth = size(&format!("1{unit}")).unwrap().get() / 10;
        assert!(
            read.get() <= number && number - read.get() <= tenth,
            "{number}: {shown}"
        );
        assert!(shown.contains('.') || shown.ends_with(" B") || number - read.get() <= tenth);
        true
    });
}

/// The units of a duration in nanoseconds, and whether a fraction of one is told in whole seconds.
const UNITS: [(&str, u128, bool); 17] = [
    ("ns", 1, false),
    ("nsec", 1, false),
    ("us", 1_000, false),
    ("µs", 1_000, false),
    ("ms", 1_000_000, false),
    ("msec", 1_000_000, false),
    ("s", 1_000_000_000, false),
    ("sec", 1_000_000_000, false),
    ("seconds", 1_000_000_000, false),
    ("m", 60_000_000_000, false),
    ("min", 60_000_000_000, false),
    ("h", 3_600_000_000_000, true),
    ("hours", 3_600_000_000_000, true),
    ("d", 86_400_000_000_000, true),
    ("days", 86_400_000_000_000, true),
    ("w", 604_800_000_000_000, true),
    ("y", 31_557_600_000_000_000, true),
];

/// A duration as it should be typed, what it comes to in nanoseconds, if that's a whole number, and
/// whether it has no more digits than are counted for sure.
fn any_duration(dice: &mut Dice, text: &mut String) -> (Option<u128>, bool) {
    let (mut all, mut is_promised) = (Some(0_u128), true);
    for place in 0..dice.between(1, 3) {
        if place > 0 {
            text.push_str(dice.pick(&["", " ", "  "]));
        }
        let (unit, nanos, is_coarse) = dice.pick(&UNITS);
        let number = match dice.roll(8) {
            0 => dice.edge(),
            1 => u64::MAX - dice.roll(2),
            2 => dice.pick(&[0, 1, 999, 1000, 1_000_000_000, 2_073_600_000]) + dice.roll(2),
            _ => dice.roll(100),
        };
        write!(text, "{number}").unwrap();
        let mut part = u128::from(number) * nanos;
        // Under a second it's counted in 64 bits of nanoseconds, from there on in as many of
        // seconds.
        let counted = if nanos < 1_000_000_000 {
            part
        } else {
            part / 1_000_000_000
        };
        is_promised &= u64::try_from(counted).is_ok();
        if dice.once_in(6) {
            let places = dice.between(1, 9) as u32;
            let fraction = dice.roll(10_u64.pow(places));
            write!(text, ".{fraction:0width$}", width = places as usize).unwrap();
            let (numerator, denominator) = (u128::from(fraction) * nanos, 10_u128.pow(places));
            part += numerator / denominator;
            let grain = if is_coarse { 1_000_000_000 } else { 1 };
            is_promised &=
                nanos > 1 && numerator % (denominator * grain) == 0 && numerator < 1 << 63;
        }
        text.push_str(dice.pick(&["", "", "", " "]));
        text.push_str(unit);
        all = all.map(|all| all + part);
    }
    (all, is_promised)
}

#[test]
fn a_duration_is_the_sum_of_its_parts_to_the_nanosecond() {
    let longest = LONGEST.as_nanos();
    let mut text = String::new();
    fuzz(10_000, |dice| {
        text.clear();
        let (plain, is_promised) = any_duration(dice, &mut text);
        let is_spoiled = dice.once_in(8);
        if is_spoiled {
            spoil(dice, &mut text);
        }
        let read = duration_or_zero(&text);
        let never = duration_or_never(&text);
        match (&read, plain) {
            _ if is_spoiled => {}
            (Ok(read), Some(nanos)) => assert_eq!(read.as_nanos(), nanos, "{text:?}"),
            (Ok(_), None) => panic!("{text:?} is {read:?}"),
            (Err(_), Some(nanos)) if is_promised && nanos > longest => {
                says(&read, &["must be at most 24 days"], &text);
            }
            (Err(_), Some(_)) if is_promised => panic!("{text:?}: {read:?}"),
            (Err(_), _) => says(&read, &["must be at most 24 days", "too large"], &text),
        }
        // humantime breaks off where the sum is 2^64 seconds, which takes more digits than these.
        let is_long = |part: &str| part.len() > 9;
        if !text.split(|c: char| !c.is_ascii_digit()).any(is_long) {
            let theirs = humantime::parse_duration(&text).ok();
            let theirs = theirs.filter(|duration| *duration <= LONGEST);
            assert_eq!(read.as_ref().ok(), theirs.as_ref(), "{text:?}");
        }
        match (duration(&text), &read) {
            (Ok(positive), Ok(read)) => {
                assert!(positive == *read && !read.is_zero() && *read <= LONGEST);
                assert_eq!(never, Ok(OrNever(Some(positive))));
                let shown = humantime::format_duration(positive).to_string();
                assert_eq!(duration(&shown), Ok(positive), "{shown}");
            }
            (Err(said), Ok(read)) => {
                assert!(read.is_zero() && said.contains("more than 0"), "{text:?}");
            }
            (Err(said), Err(why)) => {
                assert_eq!(said, *why);
                assert_words(&said);
                let by_name = Ok(OrNever(None)) == never && text == "never";
                assert!(by_name || never == Err(format!("{said}; or never")));
            }
            (Ok(_), Err(why)) => panic!("{text:?}: {why}"),
        }
        read.is_ok()
    });
}
