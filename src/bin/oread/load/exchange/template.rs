//! A question with places that are filled in anew for each: `GET key:{random:1000}`.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use memchr::memchr;

use crate::load::mix::mix;
use crate::values::escapes::unescaped;

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

impl Template {
    /// A question as it is typed: text with escapes, in which `{flow}`, `{sequence}` and
    /// `{random:N}` are places to be filled in. All else in braces is what it is, and `\x7b` is a
    /// brace that begins no place.
    ///
    /// # Errors
    /// What stands behind a backslash is no escape, or behind `{random:` no number.
    pub(crate) fn typed(text: &str) -> Result<Template, String> {
        Template::split(text.as_bytes(), |text| {
            unescaped(&String::from_utf8_lossy(text)).map(|bytes| bytes.to_vec())
        })
    }

    /// A question as it stands in a file: as [`Template::typed`], without escapes.
    ///
    /// # Errors
    /// What stands behind `{random:` is no number.
    pub(crate) fn read(bytes: &[u8]) -> Result<Template, String> {
        Template::split(bytes, |text| Ok(text.to_vec()))
    }

    /// Splits bytes into places and what stands between, which is read by `plain`.
    fn split(
        bytes: &[u8],
        plain: impl Fn(&[u8]) -> Result<Vec<u8>, String>,
    ) -> Result<Template, String> {
        let (mut pieces, mut from, mut at) = (Vec::new(), 0, 0);
        let text = |from, to| -> Result<Option<Piece>, String> {
            let text = plain(&bytes[from..to])?;
            Ok((!text.is_empty()).then(|| Piece::Text(text.into())))
        };
        while let Some(brace) = memchr(b'{', &bytes[at..]) {
            let begin = at + brace;
            at = begin + 1;
            let Some(len) = memchr(b'}', &bytes[at..]) else {
                break;
            };
            if let Some(place) = place_of(&bytes[at..at + len])? {
                pieces.extend(text(from, begin)?);
                pieces.push(place);
                at += len + 1;
                from = at;
            }
        }
        pieces.extend(text(from, bytes.len())?);
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

    /// Takes a newline from its end, if it has one there.
    pub(crate) fn cut_newline(&mut self) {
        if let Some(Piece::Text(text)) = self.pieces.last_mut()
            && let Some(rest) = text.strip_suffix(b"\n")
        {
            *text = rest.into();
        }
    }

    /// Whether this byte stands in it.
    pub(crate) fn has(&self, byte: u8) -> bool {
        let has = |piece: &Piece| matches!(piece, Piece::Text(text) if text.contains(&byte));
        self.pieces.iter().any(has)
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

    /// This question's bytes.
    pub(crate) fn filled(&self, which: Which) -> Cow<'_, [u8]> {
        match &*self.pieces {
            [Piece::Text(text)] => Cow::Borrowed(text),
            _ => {
                let mut bytes = Vec::new();
                self.write(which, &mut bytes);
                Cow::Owned(bytes)
            }
        }
    }

    /// Writes this question behind what is there.
    fn write(&self, which: Which, out: &mut Vec<u8>) {
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

/// The place of this name, if there is one.
fn place_of(name: &[u8]) -> Result<Option<Piece>, String> {
    match name {
        b"flow" => Ok(Some(Piece::Flow)),
        b"sequence" => Ok(Some(Piece::Sequence)),
        _ => match name.strip_prefix(b"random:") {
            None => Ok(None),
            Some(below) => {
                let below = std::str::from_utf8(below).map(str::parse);
                match below {
                    Ok(Ok(below)) if below > 0 => Ok(Some(Piece::Random(below))),
                    _ => Err("write how many numbers there are, as in {random:1000}".into()),
                }
            }
        },
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
                Piece::Text(text) => text.escape_ascii().fmt(f)?,
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
    fn places_are_filled_in_and_all_else_in_braces_is_what_it_is() {
        let typed = |text: &str| Template::typed(text).unwrap();
        for (text, expected) in [
            ("u{flow}-{sequence}", "u3-41"),
            (r#"{"id":{flow},"x":{}}"#, r#"{"id":3,"x":{}}"#),
            ("plain", "plain"),
            (r"{flow}\r\n", "3\r\n"),
            (r"\x7bflow}", "{flow}"),
            ("{ {flow", "{ {flow"),
            ("}{{flow}}", "}{3}"),
            ("{id}", "{id}"),
        ] {
            let template = typed(text);
            assert_eq!(written(&template, 3, 41), expected, "{text}");
            assert_eq!(
                template.fixed().is_none(),
                text.contains("{flow}") && !text.starts_with('\\')
            );
        }
        let file = Template::read(br"{flow}\n").unwrap();
        assert_eq!(written(&file, 3, 41), r"3\n");
        assert_eq!(file.to_string(), r"{flow}\\n");
    }

    #[test]
    fn a_random_number_is_below_its_bound_spread_evenly_and_the_same_for_the_same_question() {
        let template = Template::typed("{random:10} {random:10}").unwrap();
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
        let template = Template::typed("{flow}/{sequence}/{random:100}").unwrap();
        let (least, most) = template.sizes();
        assert_eq!((least, most), (5, 24));
        for (flow, number) in [(0, 0), (u32::MAX, u32::MAX), (9, 100)] {
            let len = written(&template, flow, number).len() as u32;
            assert!((least..=most).contains(&len), "{len}");
        }
    }

    #[test]
    fn a_number_that_is_none_and_a_bad_escape_are_told() {
        for (text, words) in [
            ("{random:0}", "write how many numbers"),
            ("{random:x}", "write how many numbers"),
            ("{random:}", "write how many numbers"),
            (r"{flow}\q", "is no escape"),
        ] {
            let said = Template::typed(text).unwrap_err();
            assert!(said.contains(words), "{text}: {said}");
        }
    }
}
