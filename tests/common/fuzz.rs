//! Fuzzing on stable Rust: how many inputs a test makes, from which seed on, and how to replay one.
//!
//! Each input follows from a seed of its own, counted up from the first, so a failure names the one
//! seed that replays it. Two variables of the environment decide:
//!
//! | variable | what it is | without it |
//! |---|---|---|
//! | `OREAD_FUZZ` | how many inputs each test makes | a few thousand, as the test says |
//! | `OREAD_FUZZ_SEED` | the first input's seed | 0 |
//!
//! The long run, and the replay of one input that failed:
//!
//! ```text
//! OREAD_FUZZ=50000000 cargo test --release --test fuzz --bin oread fuzz -- --nocapture
//! OREAD_FUZZ=1 OREAD_FUZZ_SEED=1234 cargo test --test fuzz --bin oread NAME
//! ```
#![allow(dead_code, unreachable_pub, missing_debug_implementations)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod dice;

use std::time::Instant;

#[allow(unused_imports)] // Not every test throws them.
pub use dice::Dice;

/// Says how to replay the input that a test is at, where the test panics.
struct Replay {
    test: &'static str,
    seed: u64,
}

impl Drop for Replay {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let Replay { test, seed } = self;
            // In one piece: other tests write too.
            let line = format!("replay: OREAD_FUZZ=1 OREAD_FUZZ_SEED={seed} cargo test {test}\n");
            eprint!("{line}");
        }
    }
}

fn variable(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    let number = text.parse();
    Some(number.unwrap_or_else(|_| panic!("{name}={text} is not a number")))
}

/// Plays `one` with the dice of each seed, `usual` times where nobody says how often.
///
/// `one` tells whether its input was a good one. Of a thousand inputs and more, some must be good
/// and some must not: where all are alike, the test doesn't look at what it is for.
pub fn fuzz<F: FnMut(&mut Dice) -> bool>(usual: u64, mut one: F) {
    let count = variable("OREAD_FUZZ").unwrap_or(usual);
    let first = variable("OREAD_FUZZ_SEED").unwrap_or(0);
    // The test's own name: the closure's path less the closure.
    let path = std::any::type_name::<F>().trim_end_matches("::{{closure}}");
    let test = path.split_once("::").map_or(path, |(_, test)| test);
    let start = Instant::now();
    let mut replay = Replay { test, seed: first };
    let mut good = 0_u64;
    for number in 0..count {
        replay.seed = first.wrapping_add(number);
        // Seeds that are neighbours give rolls that are not.
        let mut dice = Dice(replay.seed.wrapping_mul(0xd1b5_4a32_d192_ed03));
        good += u64::from(one(&mut dice));
    }
    let seconds = start.elapsed().as_secs_f64();
    println!("fuzz: {test}: {count} inputs from seed {first}, {good} good, {seconds:.1} s");
    assert!(count < 1000 || (good > 0 && good < count), "all are alike");
}

/// Pieces of text that parsers stumble over: signs, points, units, controls, what turns text
/// around, characters of several bytes, digits that are none of ours.
const ODD: [&str; 40] = [
    "", " ", "\t", "\n", "\0", "\x1b[2J", "\u{85}", "\u{202e}", "\u{200b}", "\u{a0}", "é", "µ",
    "世", "🦀", "٣", "²", "+", "-", ".", ",", "_", ":", "/", "%", "<", ">", "=", "[", "]", "@",
    "\\", "\"", "'", "0", "9", "e", "E", "k", "i", "never",
];

/// Changes `text` in one place, or some.
pub fn spoil(dice: &mut Dice, text: &mut String) {
    for _ in 0..=dice.roll(2) {
        let places: Vec<usize> = text.char_indices().map(|(at, _)| at).collect();
        let at = dice.pick(&[&places[..], &[text.len()]].concat());
        match dice.roll(4) {
            0 => text.insert_str(at, dice.pick(&ODD)),
            1 if at < text.len() => {
                text.remove(at);
            }
            2 if at < text.len() => {
                text.remove(at);
                text.insert_str(at, dice.pick(&ODD));
            }
            _ => text.truncate(at),
        }
    }
}

/// Panics where the words that refuse a value say nothing, or would act on a terminal.
pub fn assert_words(said: &str) {
    assert!(said.trim().len() > 8, "{said:?}");
    let acts = |c: char| c.is_control() || ('\u{202a}'..='\u{202e}').contains(&c);
    assert!(!said.contains(acts), "{said:?}");
}
