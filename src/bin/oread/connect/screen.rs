//! What a terminal is shown of what a peer sends.

use std::fmt::Write as _;

/// Shows text, newlines and tabs as they are; other control characters, and what is no UTF-8, as
/// escapes, so that a peer can't move the cursor or set the window's title.
///
/// A stream is cut anywhere, in the middle of a character too. The start of one waits for the rest
/// of it, and a carriage return for the newline that may come.
#[derive(Debug, Default)]
pub(super) struct Screen {
    /// The start of a character, or a carriage return. Invariant: at most 3 bytes.
    held: Vec<u8>,
}

impl Screen {
    /// What `bytes` look like, which follow those of the last call.
    pub(super) fn show(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut all = std::mem::take(&mut self.held);
        all.extend_from_slice(bytes);
        self.held = all.split_off(all.len() - unfinished(&all));
        visible(&all)
    }

    /// What is left when nothing follows any more.
    pub(super) fn finish(&mut self) -> Vec<u8> {
        visible(&std::mem::take(&mut self.held))
    }
}

/// How many bytes at the end may be the start of something longer.
fn unfinished(bytes: &[u8]) -> usize {
    if bytes.ends_with(b"\r") {
        return 1;
    }
    // A character has 4 bytes at most; of one that is broken off there are fewer.
    let tail = &bytes[bytes.len().saturating_sub(3)..];
    let starts = (1..=tail.len()).map(|len| (len, &tail[tail.len() - len..]));
    starts
        .filter(|(_, start)| {
            // `error_len` is `None` where the end came too early, and all before it is right.
            std::str::from_utf8(start)
                .is_err_and(|error| error.valid_up_to() == 0 && error.error_len().is_none())
        })
        .map(|(len, _)| len)
        .max()
        .unwrap_or(0)
}

fn visible(bytes: &[u8]) -> Vec<u8> {
    let is_plain = |c: char| !c.is_control() || c == '\n' || c == '\t';
    let mut shown = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        let mut rest = chunk.valid().chars().peekable();
        while let Some(c) = rest.next() {
            // Lines may end as they do in older protocols.
            if is_plain(c) || (c == '\r' && rest.peek() == Some(&'\n')) {
                shown.push(c);
            } else {
                // Writing to a string does not fail.
                let _ = write!(shown, "\\x{:02x}", u32::from(c));
            }
        }
        for byte in chunk.invalid() {
            let _ = write!(shown, "\\x{byte:02x}");
        }
    }
    shown.into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is shown in the end of a stream that is cut into these pieces.
    fn shown<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> String {
        let mut screen = Screen::default();
        let mut all: Vec<u8> = pieces
            .into_iter()
            .flat_map(|piece| screen.show(piece))
            .collect();
        all.extend(screen.finish());
        String::from_utf8(all).unwrap()
    }

    #[test]
    fn text_is_shown_as_it_is_on_a_terminal() {
        let text = "Grüße \"日本\" 🦀 \\ tab\there\nand there";
        assert_eq!(shown([text.as_bytes()]), text);
        assert_eq!(
            shown([b"old\r\nline\x01\n".as_slice()]),
            "old\r\nline\\x01\n"
        );
    }

    #[test]
    fn nothing_that_a_peer_sends_acts_on_a_terminal() {
        for (bytes, expected) in [
            (b"\x1b[2J".as_slice(), "\\x1b[2J"),
            (b"\x1b]0;title\x07", "\\x1b]0;title\\x07"),
            ("\u{9b}2J".as_bytes(), "\\x9b2J"),
            (b"over\rwritten", "over\\x0dwritten"),
            (b"\xff\x00\x7f", "\\xff\\x00\\x7f"),
            (b"broken off \xe6\x97", "broken off \\xe6\\x97"),
            (b"at the end\r", "at the end\\x0d"),
        ] {
            assert_eq!(shown([bytes]), expected);
            assert_eq!(shown(bytes.chunks(1)), expected, "a byte at a time");
        }
    }

    #[test]
    fn a_character_is_whole_wherever_the_stream_is_cut() {
        let text = "Grüße, 日本 🦀\r\nzu\u{301}m Ende";
        for size in 1..6 {
            assert_eq!(
                shown(text.as_bytes().chunks(size)),
                text,
                "{size} at a time"
            );
        }
    }

    #[test]
    fn no_more_is_held_than_the_start_of_a_character() {
        let mut screen = Screen::default();
        assert_eq!(screen.show(b"login: "), b"login: ");
        assert_eq!(screen.show(b"\xe6\x97"), b"");
        // It was none: the three bytes are told, and nothing is held back with them.
        assert_eq!(screen.show(b"a"), b"\\xe6\\x97a");
        for byte in [0xf0, 0x9f, 0xa6, 0xf0, 0x9f, 0xa6, b'\r', b'\r'] {
            screen.show(&[byte]);
            assert!(screen.held.len() <= 3);
        }
    }
}
