//! What messages consist of, and whether the framing and the targets carry it.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;
use std::sync::Arc;

use oread::Framing;

use super::{Content, has_udp};
use crate::failure::{Failure, Reason};
use crate::load::options::args;
use crate::load::options::values::MAX_MESSAGE;
use crate::values::units::{Count, Size};

/// What a datagram must have room for: its flow, its number, its time and a check.
const LEAST_DATAGRAM: u32 = 24;
/// What fits into a datagram over IPv4: 65,535 less 20 of IP and 8 of UDP (RFC 791, RFC 768).
const MAX_DATAGRAM: u32 = 65_507;

/// What messages consist of.
///
/// # Errors
/// Exit code 2: the framing or a target can't carry it. Exit code 1: the file can't be read.
pub(super) fn content(typed: &args::Demand) -> Result<Content, Failure> {
    let sent = &typed.content;
    let is_given = sent.message.is_some() || sent.message_file.is_some();
    let has_udp = has_udp(&typed.targets);
    // First what is for streams alone: to mend its size would be in vain.
    if has_udp && (sent.framing != Framing::Raw || is_given) {
        return Err(Failure::usage(
            "--framing, --message and --message-file are for streams: a datagram carries its flow, \
             number and time, so that what is lost can be told",
        ));
    }
    let content = match (&sent.message, &sent.message_file) {
        (Some(text), _) => given(Arc::clone(text), "--message", sent.framing)?,
        (None, Some(path)) => from_file(path, sent.framing)?,
        (None, None) => Content::Made(sent.size),
    };
    check_framing(&content, sent.framing)?;
    let (least, most) = content.sizes();
    if has_udp && (least < LEAST_DATAGRAM || most > MAX_DATAGRAM) {
        let most = Count(MAX_DATAGRAM.into());
        return Err(Failure::usage(format!(
            "a datagram has {LEAST_DATAGRAM} bytes at least (its flow, number and time) and {most} at most"
        )));
    }
    Ok(content)
}

/// A file's bytes, but for the newline at its end where the framing puts one there itself: editors
/// do too.
fn from_file(path: &Path, framing: Framing) -> Result<Content, Failure> {
    let shown = path.display();
    // One byte, and a newline, more than there may be: what has no end is not read to it.
    let most = u64::from(MAX_MESSAGE) + 2;
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(most).read_to_end(&mut bytes))
        .map_err(|error| Failure::runtime(format!("can't read {shown}: {}", Reason(&error))))?;
    if framing == Framing::Lines && bytes.last() == Some(&b'\n') {
        bytes.pop();
    }
    given(bytes.into(), &format!("--message-file {shown}"), framing)
}

/// Bytes that are sent as they are; `source` is where they were typed.
fn given(bytes: Arc<[u8]>, source: &str, framing: Framing) -> Result<Content, Failure> {
    if bytes.is_empty() || bytes.len() > MAX_MESSAGE as usize {
        let wrong = if bytes.is_empty() {
            "empty"
        } else {
            "too long"
        };
        let most = Size(MAX_MESSAGE.into());
        return Err(Failure::usage(format!(
            "{source} is {wrong}: a message has 1 byte at least and {most} at most"
        )));
    }
    if framing == Framing::Lines && bytes.contains(&b'\n') {
        let words =
            format!("{source} has more than one line, and with --framing lines a message is one");
        let first = bytes.iter().position(|byte| *byte == b'\n');
        return Err(
            Failure::usage(words).hint(match first == Some(bytes.len() - 1) {
                true => r"leave the \n out; --framing lines adds it",
                false => "leave one line, or send all of them as one message with --framing raw",
            }),
        );
    }
    Ok(Content::Given(bytes))
}

/// Refuses sizes that the framing has no frame for.
fn check_framing(content: &Content, framing: Framing) -> Result<(), Failure> {
    let (least, most) = content.sizes();
    match (framing, framing.max_declarable()) {
        (Framing::Fixed(n), _) if (least, most) != (n.get(), n.get()) => {
            let size = if least == n.get() { most } else { least };
            let words = format!("with --framing {framing} a message has {n} bytes, not {size}");
            let is_made = matches!(content, Content::Made(_));
            let tip = format!("add --size {n}");
            Err(Failure::usage(words).hint_if(is_made.then_some(&tip)))
        }
        (_, Some(declarable)) if u64::from(most) > declarable => {
            let (size, declarable) = (Size(most.into()), Size(declarable));
            Err(Failure::usage(format!(
                "a message of {size} is over what --framing {framing} can say, {declarable}"
            )))
        }
        _ => Ok(()),
    }
}
