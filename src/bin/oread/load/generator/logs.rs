//! What is logged of single connections (`-v`) and messages (`-vv`); and always, though not of
//! each, of answers that are not what was sent. Nothing is formatted that nobody reads.

use std::fmt;

use oread::escape::Escaped;

use crate::load::clock::SECOND;
use crate::load::generator::dialing::Endpoint;
use crate::load::generator::flow::Flow;
use crate::load::generator::label::Label;
use crate::load::generator::payload::{Message, Payload};

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
    /// Whether there may be one now; how many there might have been since the last.
    fn permit(&mut self, now: u64) -> Option<Suppressed> {
        if now < self.not_before {
            self.suppressed += 1;
            return None;
        }
        self.not_before = now.saturating_add(SECOND);
        Some(Suppressed(std::mem::take(&mut self.suppressed)))
    }
}

/// How many warnings were not told, where some were not.
struct Suppressed(u64);

impl fmt::Display for Suppressed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 => Ok(()),
            more => write!(f, " ({more} more since the last line)"),
        }
    }
}

/// What targets are called.
#[derive(Debug)]
pub(super) struct Names(Vec<String>);

/// A flow and where it leads.
struct Name<'a> {
    number: u32,
    target: Option<&'a String>,
}

impl fmt::Display for Name<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "flow {}", self.number)?;
        match self.target {
            Some(target) => write!(f, " {target}"),
            None => Ok(()),
        }
    }
}

/// Where the first byte is that is not what it should be, and what stands there.
#[derive(Debug, PartialEq, Eq)]
struct Wrong {
    at: usize,
    expected: Vec<u8>,
    came: Vec<u8>,
}

impl Wrong {
    /// In the bytes `came` from byte `got` of an answer on; `right`: whether so many of them are.
    fn find(expected: &[u8], got: usize, came: &[u8], right: impl Fn(usize) -> bool) -> Wrong {
        // Bytes behind a wrong one make it no better: the first one can be searched for by halves.
        let (mut low, mut high) = (0, came.len());
        while low < high {
            let middle = low.midpoint(high);
            if right(middle + 1) {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        let from = |bytes: &[u8], at: usize| bytes.iter().skip(at).copied().collect();
        Wrong {
            at: got + low,
            expected: from(expected, got + low),
            came: from(came, low),
        }
    }
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let expected = Escaped::new(&self.expected).limit(WRONG);
        let came = Escaped::new(&self.came).limit(WRONG);
        write!(f, "from byte {} on \"{came}\", not \"{expected}\"", self.at)
    }
}

impl Names {
    pub(super) fn of(endpoints: &[Endpoint]) -> Names {
        let names = endpoints
            .iter()
            .map(|endpoint| endpoint.resolved.to_string());
        Names(names.collect())
    }

    fn name(&self, flow: &Flow) -> Name<'_> {
        Name {
            number: flow.number,
            target: self.0.get(usize::from(flow.target)),
        }
    }

    /// Something has happened to a flow.
    pub(super) fn log(&self, flow: &Flow, what: fmt::Arguments<'_>) {
        log::debug!("{}: {what}", self.name(flow));
    }

    /// Bytes were sent, or have come.
    #[inline]
    pub(super) fn log_bytes(&self, flow: &Flow, what: &str, bytes: &[u8]) {
        if log::log_enabled!(log::Level::Trace) {
            let shown = Escaped::new(bytes).limit(SHOWN);
            log::trace!("{}: {what}: {shown}", self.name(flow));
        }
    }

    /// A message was sent.
    pub(super) fn log_message(&self, flow: &Flow, message: &Message<'_>) {
        if log::log_enabled!(log::Level::Trace) {
            self.log_bytes(flow, "sent", &message.parts().concat());
        }
    }
}

/// What is wrong with `data`, which has come on a flow and is not the rest of the answer that is
/// awaited on it.
#[cold]
pub(super) fn corrupt(names: &Names, payload: &Payload, flow: &Flow, data: &[u8]) -> String {
    let name = names.name(flow);
    match wrong_in_stream(payload, flow, data) {
        Some(wrong) => format!(
            "{name}: a wrong answer to message {}: {wrong}",
            flow.oldest()
        ),
        None => {
            let came = Escaped::new(data).limit(WRONG);
            format!("{name}: an answer that nobody asked for: \"{came}\"")
        }
    }
}

/// What is wrong with a datagram, which has come on a flow and is none of what was sent there.
#[cold]
pub(super) fn corrupt_datagram(
    names: &Names,
    payload: &Payload,
    flow: &Flow,
    data: &[u8],
) -> String {
    let name = names.name(flow);
    let len = data.len();
    match wrong_in_datagram(payload, data) {
        Some(wrong) if wrong.at < len => {
            format!("{name}: a wrong datagram of {len} bytes: {wrong}")
        }
        _ => {
            let came = Escaped::new(data).limit(WRONG);
            format!("{name}: {len} bytes that were not sent: \"{came}\"")
        }
    }
}

impl Warnings {
    /// Tells of a corrupt answer, and keeps the first in `first`.
    #[cold]
    pub(super) fn tell(
        &mut self,
        now: u64,
        first: &mut Option<String>,
        words: impl Fn() -> String,
    ) {
        if let Some(suppressed) = self.permit(now) {
            log::warn!("{}{suppressed}", words());
        }
        first.get_or_insert_with(words);
    }
}

/// What is wrong in the answer to the oldest message under way; `None`: there is none.
fn wrong_in_stream(payload: &Payload, flow: &Flow, data: &[u8]) -> Option<Wrong> {
    flow.outstanding.oldest()?;
    let message = payload.message(flow.number, flow.oldest());
    let (got, verify) = (flow.got as usize, payload.verify());
    let expected = message.parts().concat();
    let came = &data[..data.len().min(expected.len().saturating_sub(got))];
    let right = |count: usize| message.matches(verify, got, &came[..count]);
    Some(Wrong::find(&expected, got, came, right))
}

/// What is wrong in a datagram, held against the one that it says it is; `None`: it says nothing.
fn wrong_in_datagram(payload: &Payload, data: &[u8]) -> Option<Wrong> {
    let label = Label::claimed(data)?;
    let mut expected = Vec::new();
    let size = payload.datagram_size(label.flow, label.number);
    label.write(payload, size, &mut expected);
    let right = |count: usize| expected.get(..count) == Some(&data[..count]);
    Some(Wrong::find(&expected, 0, data, right))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_wrong_byte_is_found_wherever_it_is() {
        let expected: Vec<u8> = (0..100).collect();
        for got in [0, 1, 50] {
            for at in got..100 {
                let mut came = expected[got..].to_vec();
                came[at - got] ^= 0x80;
                let right = |count: usize| came[..count] == expected[got..][..count];
                let wrong = Wrong::find(&expected, got, &came, right);
                assert_eq!(wrong.at, at);
                assert_eq!(wrong.expected, expected[at..]);
                assert_eq!(wrong.came, came[at - got..]);
            }
        }
    }

    #[test]
    fn one_warning_a_second_is_told_and_the_others_are_counted() {
        let mut warnings = Warnings::default();
        let mut told = Vec::new();
        for ms in 0..3500 {
            told.extend(warnings.permit(SECOND + ms * SECOND / 1000).map(|s| s.0));
        }
        assert_eq!(told, [0, 999, 999, 999]);
    }
}
