//! What is logged of single connections (`-v`) and messages (`-vv`); and always, though not of
//! each, of answers that are not what was sent. Nothing is formatted that nobody reads.

use std::fmt;

use oread::escape::Escaped;

use crate::load::clock::SECOND;
use crate::load::generator::dialing::Endpoint;
use crate::load::generator::flow::Flow;
use crate::load::generator::label::Label;
use crate::load::generator::payload::Payload;

/// Bytes of a message that a log line shows, as in a server's.
const SHOWN: usize = 256;
/// Bytes from the first wrong one on.
const WRONG: usize = 32;

/// Lets one warning a second through.
#[derive(Debug, Default)]
pub(crate) struct Warnings {
    not_before: u64,
    suppressed: u64,
}

impl Warnings {
    /// Tells of a corrupt answer in these words, where the last one is a second ago; the words.
    #[cold]
    pub(super) fn tell(&mut self, now: u64, words: impl FnOnce() -> String) -> Option<String> {
        if now < self.not_before {
            self.suppressed += 1;
            return None;
        }
        self.not_before = now.saturating_add(SECOND);
        let words = words();
        match std::mem::take(&mut self.suppressed) {
            0 => log::warn!("{words}"),
            more => log::warn!("{words} ({more} more since the last line)"),
        }
        Some(words)
    }
}

/// What targets are called.
#[derive(Debug)]
pub(super) struct Names(Vec<String>);

impl Names {
    pub(super) fn of(endpoints: &[Endpoint]) -> Names {
        let name = |endpoint: &Endpoint| endpoint.resolved.to_string();
        Names(endpoints.iter().map(name).collect())
    }

    /// A flow, and where it leads.
    fn name(&self, flow: &Flow) -> String {
        let target = self.0.get(usize::from(flow.target));
        format!("flow {} {}", flow.number, target.map_or("", |name| name))
    }

    /// Something has happened to a flow.
    pub(super) fn log(&self, flow: &Flow, what: fmt::Arguments<'_>) {
        log::debug!("{}: {what}", self.name(flow));
    }

    /// Bytes were sent, or have come.
    #[inline]
    pub(super) fn log_bytes(&self, flow: &Flow, what: &str, parts: &[&[u8]]) {
        if log::log_enabled!(log::Level::Trace) {
            let bytes = parts.concat();
            let shown = Escaped::new(&bytes).limit(SHOWN);
            log::trace!("{}: {what}: {shown}", self.name(flow));
        }
    }

    /// What is wrong with `came`, which has come on a flow and is not what was awaited there.
    #[cold]
    pub(super) fn corrupt(&self, payload: &Payload, flow: &Flow, came: &[u8]) -> String {
        let (verify, got) = (payload.verify(), flow.got as usize);
        let (what, at, expected) = if flow.udp.is_some() {
            // It's held against the datagram that it says it is.
            let mut expected = Vec::new();
            if let Some(label) = Label::claimed(came) {
                label.write(payload, &mut expected);
            }
            let at = wrong_at(came.len(), |count| {
                expected.get(..count) == Some(&came[..count])
            });
            match at < came.len() && !expected.is_empty() {
                true => (
                    format!("a wrong datagram of {} bytes", came.len()),
                    at,
                    expected,
                ),
                false => (
                    format!("{} bytes that were not sent", came.len()),
                    0,
                    Vec::new(),
                ),
            }
        } else if flow.kept() > 0 {
            let message = payload.message(flow.number, flow.oldest());
            let rest = came.len().min(message.len().saturating_sub(got));
            let at = wrong_at(rest, |count| message.matches(verify, got, &came[..count]));
            let expected = message.parts().concat().split_off(got);
            (
                format!("a wrong answer to message {}", flow.oldest()),
                at,
                expected,
            )
        } else {
            ("an answer that nobody asked for".to_owned(), 0, Vec::new())
        };
        let shown = |bytes: &[u8]| {
            let behind = bytes.get(at..).unwrap_or_default();
            Escaped::new(behind).limit(WRONG).to_string()
        };
        let (name, came, expected) = (self.name(flow), shown(came), shown(&expected));
        match expected.is_empty() {
            true => format!("{name}: {what}: \"{came}\""),
            false => format!(
                "{name}: {what}: from byte {} on \"{came}\", not \"{expected}\"",
                got + at
            ),
        }
    }
}

/// Where the first wrong one of `len` bytes is; `right` says whether so many are right. Bytes
/// behind a wrong one make it no better, so it's searched for by halves.
fn wrong_at(len: usize, right: impl Fn(usize) -> bool) -> usize {
    let (mut low, mut high) = (0, len);
    while low < high {
        let middle = low.midpoint(high);
        match right(middle + 1) {
            true => low = middle + 1,
            false => high = middle,
        }
    }
    low
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_wrong_byte_is_found_wherever_it_is() {
        for wrong in 0..=100 {
            assert_eq!(wrong_at(100, |count| count <= wrong), wrong);
        }
    }

    #[test]
    fn one_warning_a_second_is_told_and_the_others_are_counted() {
        let mut warnings = Warnings::default();
        let mut suppressed = Vec::new();
        for ms in 0..3500 {
            let before = warnings.suppressed;
            let now = SECOND + ms * SECOND / 1000;
            if warnings.tell(now, || "wrong".to_owned()).is_some() {
                suppressed.push(before);
            }
        }
        assert_eq!(suppressed, [0, 999, 999, 999]);
    }
}
