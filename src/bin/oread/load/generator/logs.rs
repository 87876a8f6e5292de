//! What is logged of single connections (`-v`) and messages (`-vv`), and of the first answer that
//! is not what was sent. Nothing is formatted that nobody reads.

use std::fmt;

use oread::escape::Escaped;

use crate::load::generator::flow::Flow;
use crate::load::generator::label::Label;
use crate::load::generator::payload::Payload;

/// Bytes of a message that a log line shows, as in a server's.
const SHOWN: usize = 256;
/// Bytes from the first wrong one on.
const WRONG: usize = 32;

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
