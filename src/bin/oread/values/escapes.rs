//! Bytes that can't be typed, as escapes of those that can.

use std::sync::Arc;

/// Bytes as typed: text in which `\r`, `\n`, `\t`, `\\` and `\xNN` stand for a byte each.
///
/// # Errors
/// What stands behind a backslash is none of these.
pub(crate) fn unescaped(mut text: &str) -> Result<Arc<[u8]>, String> {
    let mut bytes = Vec::new();
    while let Some((plain, behind)) = text.split_once('\\') {
        let (byte, length) = escape(behind).ok_or_else(|| bad_escape(behind))?;
        bytes.extend_from_slice(plain.as_bytes());
        bytes.push(byte);
        text = &behind[length..];
    }
    bytes.extend_from_slice(text.as_bytes());
    Ok(bytes.into())
}

/// The byte that is meant by what stands behind a backslash, and the length of that.
fn escape(behind: &str) -> Option<(u8, usize)> {
    let digit = |byte: u8| char::from(byte).to_digit(16).map(|digit| digit as u8);
    Some(match *behind.as_bytes() {
        [b'r', ..] => (b'\r', 1),
        [b'n', ..] => (b'\n', 1),
        [b't', ..] => (b'\t', 1),
        [b'\\', ..] => (b'\\', 1),
        [b'x', high, low, ..] => (digit(high)? << 4 | digit(low)?, 3),
        _ => return None,
    })
}

/// Why what stands behind a backslash is no escape.
fn bad_escape(behind: &str) -> String {
    let shown: String = behind.chars().take(3).collect();
    let shown = shown.escape_debug();
    format!(
        "\"\\{shown}\" is no escape; there are \\r, \\n, \\t, \\x00 to \\xff, and \\\\ for a backslash \
         (--message-file sends a file as it is)"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_escapes_for_bytes_that_can_t_be_typed() {
        let read = unescaped;
        for (text, bytes) in [
            ("PING", b"PING".as_slice()),
            (r"PING\r\n", b"PING\r\n"),
            (r"\x00\xfF\t.", b"\x00\xff\t."),
            (r"a\\nb\\", br"a\nb\"),
            ("é\n", "é\n".as_bytes()),
        ] {
            assert_eq!(read(text).as_deref(), Ok(bytes), "{text}");
        }
        for text in [r"\", r"a\\\", r"\q", r"\x0", r"\xg0", r"\0", r"\xé"] {
            let said = read(text).unwrap_err();
            assert!(said.contains("is no escape"), "{text}: {said}");
        }
    }
}
