//! Ranges of sizes and rates against the sizes and counts that they are made of.
//! `tests/common/fuzz.rs` tells how to have more inputs, and how to replay one.

use std::fmt::Write as _;

use super::*;
use crate::fuzz::{assert_words, fuzz, spoil};
use crate::values::units::fuzz::{Plain, any_number, plain_number};

#[test]
fn a_range_of_sizes_is_two_sizes_in_their_order() {
    let (mut text, mut second) = (String::new(), String::new());
    fuzz(4000, |dice| {
        text.clear();
        second.clear();
        for text in [&mut text, &mut second] {
            match dice.roll(4) {
                0 => any_number(dice, text),
                1 => write!(text, "{}", u64::from(MAX_MESSAGE) + dice.roll(3) - 1).unwrap(),
                _ => write!(
                    text,
                    "{}{}",
                    dice.roll(40),
                    dice.pick(&["", "", "k", "KiB"])
                )
                .unwrap(),
            }
        }
        if !dice.once_in(4) {
            text.push('-');
            text.push_str(&second);
        }
        let read: Result<SizeRange, String> = text.parse();
        let (first, last) = text.split_once('-').unwrap_or((&text, &text));
        let ends = [first, last].map(|end| match plain_number(end, true) {
            Plain::Number(bytes, _) if (1..=u64::from(MAX_MESSAGE)).contains(&bytes) => Some(bytes),
            _ => None,
        });
        let plain = match ends {
            [Some(least), Some(most)] if least <= most => Some((least, most)),
            _ => None,
        };
        let ends = read
            .as_ref()
            .ok()
            .map(|range| (range.least.into(), range.most.into()));
        assert_eq!(ends, plain, "{text:?}");
        if let Err(said) = read {
            assert_words(&said);
        }
        plain.is_some()
    });
}

#[test]
fn a_rate_is_a_count_with_or_without_the_second() {
    let mut text = String::new();
    fuzz(4000, |dice| {
        text.clear();
        any_number(dice, &mut text);
        let plain = match plain_number(&text, false) {
            Plain::Number(number, true) => u32::try_from(number).ok().and_then(NonZeroU32::new),
            _ => None,
        };
        text.push_str(dice.pick(&["", "/s"]));
        let is_spoiled = dice.once_in(8);
        if is_spoiled {
            spoil(dice, &mut text);
        }
        let read = per_second(&text);
        if !is_spoiled {
            assert_eq!(read.clone().ok(), plain, "{text:?}");
        }
        if let Err(said) = &read {
            assert_words(said);
        }
        read.is_ok()
    });
}
