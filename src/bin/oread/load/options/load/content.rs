//! What messages consist of, and whether the framing and the targets carry it.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use oread::Framing;

use super::{Content, has_udp};
use crate::failure::{Failure, Reason};
use crate::load::options::args;
use crate::load::options::values::MAX_MESSAGE;
use crate::values::units::{Count, Size};

/// What a datagram must have room for: its flow, its number and its time, see
/// [`datagrams`](crate::load::generator::datagrams).
const LEAST_DATAGRAM: u32 = 24;
/// What fits into a datagram over IPv4: 65,535 less 20 of IP and 8 of UDP (RFC 791, RFC 768).
const MAX_DATAGRAM: u32 = 65_507;

/// What messages consist of.
///
/// # Errors
/// Exit code 2: the framing or a target can't carry it. Exit code 1: the file can't be read.
pub(super) fn content(typed: &args::Demand) -> Result<Content, Failure> {
    // First what is for streams alone: to mend its size would be in vain.
    refuse_for_datagrams(typed)?;
    let content = match (&typed.content.message, &typed.content.message_file) {
        (Some(text), _) => given(text.0.clone(), "--message", typed.content.framing)?,
        (None, Some(path)) => from_file(path, typed.content.framing)?,
        (None, None) => Content::Made(typed.content.size),
    };
    check_framing(&content, typed.content.framing)?;
    if has_udp(&typed.targets) {
        check_datagram(&content)?;
    }
    Ok(content)
}

fn refuse_for_datagrams(typed: &args::Demand) -> Result<(), Failure> {
    let given = typed.content.message.is_some() || typed.content.message_file.is_some();
    if has_udp(&typed.targets) && (typed.content.framing != Framing::Raw || given) {
        return Err(Failure::usage(
            "--framing, --message and --message-file are for streams: a datagram carries its flow, \
             number and time, so that what is lost can be told",
        ));
    }
    Ok(())
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
    given(bytes, &format!("--message-file {shown}"), framing)
}

/// Bytes that are sent as they are; `source` is where they were typed.
fn given(bytes: Vec<u8>, source: &str, framing: Framing) -> Result<Content, Failure> {
    if bytes.is_empty() || bytes.len() > MAX_MESSAGE as usize {
        return Err(Failure::usage(format!(
            "{source} is {}: a message has 1 byte at least and {} at most",
            if bytes.is_empty() {
                "empty"
            } else {
                "too long"
            },
            Size(MAX_MESSAGE.into())
        )));
    }
    if framing == Framing::Lines && bytes.contains(&b'\n') {
        return Err(Failure::usage(format!(
            "{source} has more than one line, and with --framing lines a message is one"
        ))
        .hint("leave one line, or send all of them as one message with --framing raw"));
    }
    Ok(Content::Given(bytes.into()))
}

/// Refuses sizes that the framing has no frame for.
fn check_framing(content: &Content, framing: Framing) -> Result<(), Failure> {
    let (least, most) = content.sizes();
    if let Framing::Fixed(n) = framing
        && (least != n.get() || most != n.get())
    {
        let to = match least == most {
            true => String::new(),
            false => format!("-{most}"),
        };
        let failure = Failure::usage(format!(
            "with --framing {framing} a message has {n} bytes, not {least}{to}"
        ));
        return Err(match content {
            Content::Made(_) => failure.hint(format!("add --size {n}")),
            Content::Given(_) => failure,
        });
    }
    match framing.max_declarable() {
        Some(declarable) if u64::from(most) > declarable => Err(Failure::usage(format!(
            "a message of {} is over what --framing {framing} can say, {}",
            Size(most.into()),
            Size(declarable)
        ))),
        _ => Ok(()),
    }
}

fn check_datagram(content: &Content) -> Result<(), Failure> {
    let (least, most) = content.sizes();
    if least < LEAST_DATAGRAM || most > MAX_DATAGRAM {
        return Err(Failure::usage(format!(
            "a datagram has {LEAST_DATAGRAM} bytes at least (its flow, number and time) and {} at most",
            Count(MAX_DATAGRAM.into())
        )));
    }
    Ok(())
}
