//! A question with places that are filled in anew for each: `GET key:{random:1000}`.

use std::fmt;
use std::sync::Arc;

/// Which question of which flow it is, in the run of this key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Which {
    pub(crate) flow: u32,
    pub(crate) number: u32,
    pub(crate) key: u64,
}

/// One piece of a question.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    /// These bytes.
    Text(Arc<[u8]>),
    /// The flow's number.
    Flow,
    /// The question's number on its connection, from 0 on.
    Sequence,
    /// A number below this one, drawn for each place of each question.
    Random(u64),
}

/// A question, read once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Template {
    pieces: Vec<Piece>,
}

/// The places that can be filled in, as people are told them.
pub(crate) const PLACES: &str = "{flow}, {sequence} and {random:N}";

impl Template {
    /// Reads bytes in which `{flow}`, `{sequence}` and `{random:N}` are places to be filled in, and
    /// `{{` and `}}` are braces.
    ///
    /// # Errors
    /// What stands in braces is none of these, or a brace has no other.
    pub(crate) fn read(bytes: &[u8]) -> Result<Template, String> {
        let (mut pieces, mut text) = (Vec::new(), Vec::new());
        let mut rest = bytes;
        while let Some(at) = rest.iter().position(|byte| matches!(byte, b'{' | b'}')) {
            text.extend_from_slice(&rest[..at]);
            let brace = rest[at];
            rest = &rest[at + 1..];
            if rest.first() == Some(&brace) {
                text.push(brace);
                rest = &rest[1..];
                continue;
            }
            let place = (brace == b'{').then(|| rest.iter().position(|byte| *byte == b'}'));
            let Some(end) = place.flatten() else {
                return Err(format!("a {} stands alone; {BRACES}", char::from(brace)));
            };
            if !text.is_empty() {
                pieces.push(Piece::Text(std::mem::take(&mut text).into()));
            }
            pieces.push(place_of(&rest[..end])?);
            rest = &rest[end + 1..];
        }
        text.extend_from_slice(rest);
        if !text.is_empty() {
            pieces.push(Piece::Text(text.into()));
        }
        Ok(Template { pieces })
    }

    /// These bytes, always.
    pub(crate) fn of(bytes: &[u8]) -> Template {
        let pieces = match bytes {
            [] => Vec::new(),
            bytes => vec![Piece::Text(bytes.into())],
        };
        Template { pieces }
    }

    /// The bytes, where all questions have the same.
    pub(crate) fn fixed(&self) -> Option<Arc<[u8]>> {
        match &*self.pieces {
            [] => Some(Arc::default()),
            [Piece::Text(text)] => Some(Arc::clone(text)),
            _ => None,
        }
    }

    /// The fewest and the most bytes that a question of it has.
    pub(crate) fn sizes(&self) -> (u32, u32) {
        let (mut least, mut most) = (0_usize, 0_usize);
        for piece in &self.pieces {
            let (short, long) = match piece {
                Piece::Text(text) => (text.len(), text.len()),
                Piece::Flow | Piece::Sequence => (1, digits(u32::MAX.into())),
                Piece::Random(below) => (1, digits(below.saturating_sub(1))),
            };
            (least, most) = (least + short, most + long);
        }
        let fits = |size| u32::try_from(size).unwrap_or(u32::MAX);
        (fits(least), fits(most))
    }

    /// Writes this question behind what is there.
    pub(crate) fn write(&self, which: Which, out: &mut Vec<u8>) {
        for (place, piece) in self.pieces.iter().enumerate() {
            match piece {
                Piece::Text(text) => out.extend_from_slice(text),
                Piece::Flow => number(which.flow.into(), out),
                Piece::Sequence => number(which.number.into(), out),
                Piece::Random(below) => number(which.draw(place as u64, *below), out),
            }
        }
    }
}

/// What braces are for.
const BRACES: &str = "braces are for {flow}, {sequence} and {random:N}; {{ and }} stand for \
                      themselves";

/// A place by its name.
fn place_of(name: &[u8]) -> Result<Piece, String> {
    let name = String::from_utf8_lossy(name);
    match &*name {
        "flow" => Ok(Piece::Flow),
        "sequence" => Ok(Piece::Sequence),
        _ => {
            let below = name.strip_prefix("random:").map(str::parse);
            match below {
                Some(Ok(below)) if below > 0 => Ok(Piece::Random(below)),
                Some(_) => Err("write how many numbers there are, as in {random:1000}".into()),
                None => {
                    let name = name.escape_debug();
                    Err(format!("{{{name}}} is no place to fill in; {BRACES}"))
                }
            }
        }
    }
}

impl Which {
    /// A number below this one, of the `place`-th place: each as likely as the other, as far as
    /// 2^64 goes by it.
    pub(crate) fn draw(self, place: u64, below: u64) -> u64 {
        let both = u64::from(self.flow) << 32 | u64::from(self.number);
        let drawn = mix(mix(both ^ self.key).wrapping_add(place));
        ((u128::from(drawn) * u128::from(below)) >> 64) as u64
    }
}

/// A number as one that shows no pattern (the steps of SplitMix64; Steele, Lea and Flood 2014).
fn mix(number: u64) -> u64 {
    let mut mixed = number.wrapping_add(0x9E37_79B9_7F4A_7C15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^ (mixed >> 31)
}

/// Writes a number in decimal digits.
fn number(number: u64, out: &mut Vec<u8>) {
    use std::io::Write as _;
    // A vector takes everything.
    let _ = write!(out, "{number}");
}

fn digits(number: u64) -> usize {
    number.checked_ilog10().unwrap_or(0) as usize + 1
}

impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for piece in &self.pieces {
            match piece {
                Piece::Text(text) => {
                    let text = text.escape_ascii().to_string();
                    f.write_str(&text.replace('{', "{{").replace('}', "}}"))?;
                }
                Piece::Flow => f.write_str("{flow}")?,
                Piece::Sequence => f.write_str("{sequence}")?,
                Piece::Random(below) => write!(f, "{{random:{below}}}")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(template: &Template, flow: u32, number: u32) -> String {
        let mut out = Vec::new();
        let key = 7;
        template.write(Which { flow, number, key }, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn places_are_filled_in_and_braces_are_braces_when_doubled() {
        let read = |text: &str| Template::read(text.as_bytes()).unwrap();
        assert_eq!(written(&read("u{flow}-{sequence}"), 3, 41), "u3-41");
        assert_eq!(written(&read(r#"{{"id":{flow}}}"#), 3, 41), r#"{"id":3}"#);
        assert_eq!(written(&read("plain"), 3, 41), "plain");
        assert_eq!(read("a}}").fixed().as_deref(), Some(b"a}".as_slice()));
        assert_eq!(read("{flow}").fixed(), None);
        for text in ["a{{b}}{flow}c", "{random:9}", "\\x00{sequence}"] {
            let bytes = crate::values::escapes::unescaped(text).unwrap();
            assert_eq!(Template::read(&bytes).unwrap().to_string(), text);
        }
    }

    #[test]
    fn a_random_number_is_below_its_bound_spread_evenly_and_the_same_for_the_same_question() {
        let template = Template::read(b"{random:10} {random:10}").unwrap();
        let mut seen = [[0_u32; 10]; 2];
        let mut equal = 0;
        for number in 0..10_000 {
            let text = written(&template, 5, number);
            assert_eq!(text, written(&template, 5, number));
            let two: Vec<usize> = text.split(' ').map(|n| n.parse().unwrap()).collect();
            seen[0][two[0]] += 1;
            seen[1][two[1]] += 1;
            equal += u32::from(two[0] == two[1]);
        }
        for count in seen.concat().into_iter().chain([equal]) {
            assert!((850..1150).contains(&count), "{seen:?} {equal}");
        }
    }

    #[test]
    fn no_question_is_shorter_or_longer_than_its_template_says() {
        let template = Template::read(b"{flow}/{sequence}/{random:100}").unwrap();
        let (least, most) = template.sizes();
        assert_eq!((least, most), (5, 24));
        for (flow, number) in [(0, 0), (u32::MAX, u32::MAX), (9, 100)] {
            let len = written(&template, flow, number).len() as u32;
            assert!((least..=most).contains(&len), "{len}");
        }
    }

    #[test]
    fn what_is_no_place_is_told() {
        for (text, words) in [
            ("{", "a { stands alone"),
            ("}", "a } stands alone"),
            ("{flow", "a { stands alone"),
            ("{id}", "{id} is no place to fill in"),
            ("{random}", "{random} is no place"),
            ("{random:0}", "write how many numbers"),
            ("{random:x}", "write how many numbers"),
        ] {
            let said = Template::read(text.as_bytes()).unwrap_err();
            assert!(said.contains(words), "{text}: {said}");
        }
    }
}
