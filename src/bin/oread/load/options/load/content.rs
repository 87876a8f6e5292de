//! What messages consist of, and whether the framing and the targets carry it.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use oread::Framing;

use super::{Content, refuse_if};
use crate::failure::{Failure, Reason};
use crate::load::exchange::script::Script;
use crate::load::exchange::template::Template;
use crate::load::options::args;
use crate::load::options::values::MAX_MESSAGE;
use crate::values::units::{Count, Size};

/// What a datagram must have room for: its flow, its number, its time and a check.
const LEAST_DATAGRAM: u32 = 24;
/// What fits into a datagram over IPv4: 65,535 less 20 of IP and 8 of UDP (RFC 791, RFC 768).
const MAX_DATAGRAM: u32 = 65_507;

/// What messages consist of, where no script says it.
///
/// # Errors
/// Exit code 2: the framing or a target can't carry it. Exit code 1: the file can't be read.
pub(super) fn content(typed: &args::Demand, script: Option<&Script>) -> Result<Content, Failure> {
    let (sent, framing) = (&typed.content, typed.content.framing);
    let given = match (script, &sent.message, &sent.message_file) {
        (Some(_), ..) => None,
        (None, Some(template), _) => text(template.clone(), "--message", framing)?.fixed(),
        (None, None, Some(path)) => {
            let source = format!("--message-file {}", path.display());
            text(Template::of(&read(path)?), &source, framing)?.fixed()
        }
        (None, None, None) => None,
    };
    let content = given.map_or(Content::Made(sent.size), Content::Given);
    let is_given = matches!(content, Content::Given(_));
    let has_udp = typed.targets.iter().any(|url| url.target.is_udp());
    // First what is for streams alone: to mend its size would be in vain.
    let words = "--framing, --message and --message-file are for streams: a datagram carries its flow, \
                 number and time, so that what is lost can be told";
    let is_for_streams = is_given || framing != Framing::Raw;
    refuse_if(has_udp && is_for_streams, Failure::usage(words))?;
    let (least, most) = script.and_then(Script::sizes).unwrap_or(content.sizes());
    if let Framing::Fixed(n) = framing {
        let size = if least == n.get() { most } else { least };
        let words = format!("with --framing {framing} a message has {n} bytes, not {size}");
        let tip = format!("add --size {n}");
        let tip = Some(&*tip).filter(|_| !is_given);
        refuse_if(size != n.get(), Failure::usage(words).hint_if(tip))?;
    }
    let declarable = framing.max_declarable().unwrap_or(u64::MAX);
    let (size, can_say) = (Size(most.into()), Size(declarable));
    let words = format!("a message of {size} is over what --framing {framing} can say, {can_say}");
    refuse_if(u64::from(most) > declarable, Failure::usage(words))?;
    let largest = Count(MAX_DATAGRAM.into());
    let words = format!(
        "a datagram has {LEAST_DATAGRAM} bytes at least (its flow, number and time) and {largest} at most"
    );
    let is_out = least < LEAST_DATAGRAM || most > MAX_DATAGRAM;
    refuse_if(has_udp && is_out, Failure::usage(words))?;
    Ok(content)
}

/// A file's bytes.
pub(super) fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    // One byte, and a newline, more than there may be: what has no end is not read to it.
    let most = u64::from(MAX_MESSAGE) + 2;
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(most).read_to_end(&mut bytes));
    match read {
        Ok(_) => Ok(bytes),
        Err(error) => {
            let (shown, why) = (path.display(), Reason(&error));
            Err(Failure::runtime(format!("can't read {shown}: {why}")))
        }
    }
}

/// What is sent as it is, but for the newline at its end where the framing puts one there itself,
/// as editors do; `source` is where it was typed.
pub(super) fn text(
    mut template: Template,
    source: &str,
    framing: Framing,
) -> Result<Template, Failure> {
    let is_line = framing == Framing::Lines;
    if is_line {
        template.cut_newline();
    }
    let (least, longest) = template.sizes();
    let (most, is_empty) = (Size(MAX_MESSAGE.into()), least == 0);
    let wrong = if is_empty { "empty" } else { "too long" };
    let words = format!("{source} is {wrong}: a message has 1 byte at least and {most} at most");
    refuse_if(is_empty || longest > MAX_MESSAGE, Failure::usage(words))?;
    let words =
        format!("{source} has more than one line, and with --framing lines a message is one");
    let tip = "leave one line, or send all of them as one message with --framing raw";
    let are_lines = is_line && template.has(b'\n');
    refuse_if(are_lines, Failure::usage(words).hint(tip))?;
    Ok(template)
}
