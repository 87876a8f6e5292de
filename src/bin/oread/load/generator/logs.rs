//! What is logged of single connections (`-v`) and messages (`-vv`); and always, though not of
//! each, of answers that are not what was sent. Nothing is formatted that nobody reads.

use std::fmt;

use oread::escape::Escaped;

use crate::load::clock::SECOND;
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

impl fmt::Display for Flow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "flow {}", self.number)
    }
}

/// Bytes were sent, or have come.
#[inline]
pub(super) fn log_bytes(flow: &Flow, what: &str, parts: &[&[u8]]) {
    if log::log_enabled!(log::Level::Trace) {
        let bytes = parts.concat();
        log::trace!("{flow}: {what}: {}", Escaped::new(&bytes).limit(SHOWN));
    }
}

/// What is wrong with `came`, which has come on a flow and is not what was awaited there.
#[cold]
pub(super) fn corrupt(payload: &Payload, flow: &Flow, came: &[u8]) -> String {
    let (got, mut expected) = (flow.got as usize, Vec::new());
    let (what, wrong) = if flow.udp.is_some() {
        // It's held against the datagram that it says it is.
        if let Some(label) = Label::claimed(came) {
            label.write(payload, &mut expected);
        }
        let wrong = came
            .iter()
            .zip(&expected)
            .position(|(came, sent)| came != sent);
        (format!("a wrong datagram of {} bytes", came.len()), wrong)
    } else if flow.kept > 0 {
        let message = payload.message(flow.number, flow.oldest());
        expected = message.parts().concat().split_off(got);
        let these = &came[..came.len().min(expected.len())];
        let what = format!("a wrong answer to message {}", flow.oldest());
        (what, message.wrong(payload.verify, got, these))
    } else {
        ("an answer that nobody asked for".to_owned(), None)
    };
    let at = wrong.unwrap_or(came.len().min(expected.len()));
    let shown = |bytes| Escaped::new(bytes).limit(WRONG).to_string();
    match (came.get(at..), expected.get(at..)) {
        (Some(came @ [_, ..]), Some(expected @ [_, ..])) => format!(
            "{what}: from byte {} on \"{}\", not \"{}\"",
            got + at,
            shown(came),
            shown(expected)
        ),
        _ => format!("{what}: \"{}\"", shown(came)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
