//! Bytes of a peer, made safe to show on a terminal or in a log.

use std::fmt;

/// Shows bytes so that nothing in them acts on a terminal or forges a log line.
///
/// Whatever a peer sent goes through this before a person sees it. An escape sequence in a payload
/// would otherwise move the cursor, set the window's title or clear what was said before, and a
/// newline would start a log line that nobody wrote (CVE-2025-58160 is a fault of this kind).
///
/// | in the bytes | shown as |
/// |---|---|
/// | printable text, UTF-8 too | itself |
/// | newline, carriage return, tab | `\n`, `\r`, `\t` |
/// | `\` and `"` | `\\` and `\"` |
/// | other bytes below 0x20, and 0x7f | `\x1b` |
/// | bytes that are not UTF-8 | `\xff`, each byte on its own |
/// | the controls U+0080 to U+009F | `\u{85}` |
/// | what cannot be seen or turns the text around | `\u{202e}` |
/// | the ellipsis | `\u{2026}`, so that nobody can feign a cut |
///
/// `\xNN` always means a byte and `\u{N}` a character, so the text tells what the bytes were, and it
/// may stand between double quotes; [`prose`](Escaped::prose) gives that up. "What cannot be seen or turns the text around" is Unicode's
/// property `Default_Ignorable_Code_Point` (bidirectional controls, zero-width characters, variation
/// selectors, tags), the line and paragraph separators, and the annotation marks U+FFF9 to U+FFFB.
///
/// Nothing is looked at before it is displayed, and nothing is allocated. What a formatter asks for
/// by width or precision is not heeded.
///
/// ```
/// use oread::escape::Escaped;
///
/// assert_eq!(Escaped::new(b"caf\xc3\xa9 \x1b[2J\xff\n").to_string(), r"café \x1b[2J\xff\n");
/// assert_eq!(Escaped::new(&vec![b'a'; 4096]).limit(3).to_string(), "aaa… (4,096 bytes)");
/// ```
#[derive(Clone, Copy)]
pub struct Escaped<'a> {
    bytes: &'a [u8],
    /// How many of the bytes are shown at most.
    limit: usize,
    /// Whether what is harmless but ambiguous is escaped too: [`confuses`].
    exact: bool,
}

impl<'a> Escaped<'a> {
    /// All of these bytes. For what a peer may make as long as it likes, set a [`limit`](Self::limit).
    #[must_use]
    pub fn new<T: AsRef<[u8]> + ?Sized>(bytes: &'a T) -> Escaped<'a> {
        Escaped {
            bytes: bytes.as_ref(),
            limit: usize::MAX,
            exact: true,
        }
    }

    /// Shows at most `limit` of the bytes, and no part of a character.
    ///
    /// What is longer ends in an ellipsis and its whole length. An escape is at most four times as
    /// long as the bytes it stands for, which bounds what is written.
    #[must_use]
    pub const fn limit(self, limit: usize) -> Escaped<'a> {
        Escaped { limit, ..self }
    }

    /// Leaves `\`, `"` and the ellipsis as they are, for prose that people write to each other.
    ///
    /// Nothing in it acts on a terminal either. But the text doesn't tell any more what the bytes were, may not stand
    /// between double quotes, and can feign a cut: in a log it would be misleading.
    ///
    /// ```
    /// use oread::escape::Escaped;
    ///
    /// let said = Escaped::new("\"C:\\tmp\" or…\x1b[2J");
    /// assert_eq!(said.prose().to_string(), r#""C:\tmp" or…\x1b[2J"#);
    /// assert_eq!(said.to_string(), r#"\"C:\\tmp\" or\u{2026}\x1b[2J"#);
    /// ```
    #[must_use]
    pub const fn prose(self) -> Escaped<'a> {
        Escaped {
            exact: false,
            ..self
        }
    }
}

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Three bytes more than are shown: a character that begins below the limit is then seen
        // whole, and one that the limit cuts is not taken for invalid UTF-8.
        let seen = self.bytes.len().min(self.limit.saturating_add(3));
        let mut left = self.limit;
        for chunk in self.bytes[..seen].utf8_chunks() {
            let text = chunk.valid();
            let fits = floor_char_boundary(text, left);
            write_text(f, &text[..fits], self.exact)?;
            left -= fits;
            if fits < text.len() {
                break;
            }
            for byte in chunk.invalid().iter().take(left) {
                write!(f, "\\x{byte:02x}")?;
            }
            left = left.saturating_sub(chunk.invalid().len());
        }
        if self.bytes.len() > self.limit {
            write_cut(f, self.bytes.len())?;
        }
        Ok(())
    }
}

/// As it is displayed, between double quotes.
impl fmt::Debug for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let exact = Escaped {
            exact: true,
            ..*self
        };
        write!(f, "\"{exact}\"")
    }
}

/// The largest end of a character in `text` that is at most `at`.
///
/// `str::floor_char_boundary` does it in newer versions of Rust than the oldest that we support.
fn floor_char_boundary(text: &str, at: usize) -> usize {
    let mut end = at.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    end
}

/// Writes `text` with what needs it escaped, and what lies between as it is, in one piece.
fn write_text(f: &mut fmt::Formatter<'_>, text: &str, exact: bool) -> fmt::Result {
    let mut written = 0;
    let escaped = |&(_, c): &(usize, char)| needs_escape(c) || (exact && confuses(c));
    for (at, c) in text.char_indices().filter(escaped) {
        f.write_str(&text[written..at])?;
        match c {
            '\n' => f.write_str("\\n")?,
            '\r' => f.write_str("\\r")?,
            '\t' => f.write_str("\\t")?,
            '\\' => f.write_str("\\\\")?,
            '"' => f.write_str("\\\"")?,
            c if c.is_ascii() => write!(f, "\\x{:02x}", u32::from(c))?,
            c => write!(f, "\\u{{{:x}}}", u32::from(c))?,
        }
        written = at + c.len_utf8();
    }
    f.write_str(&text[written..])
}

/// Whether `c` is harmless, but would be taken for the start of an escape, the end of the text, or the mark of a cut.
fn confuses(c: char) -> bool {
    matches!(c, '\\' | '"' | '\u{2026}')
}

/// Whether `c` must not be shown as it is.
fn needs_escape(c: char) -> bool {
    match c {
        ' '..='~' => false,
        _ => c.is_control() || is_separator_or_annotation(c) || is_default_ignorable(c),
    }
}

/// The line and paragraph separators, which some viewers break a line at, and the marks around an
/// interlinear annotation.
fn is_separator_or_annotation(c: char) -> bool {
    matches!(c, '\u{2028}' | '\u{2029}' | '\u{fff9}'..='\u{fffb}')
}

/// Unicode's `Default_Ignorable_Code_Point` (DerivedCoreProperties.txt): all that is drawn as
/// nothing, the bidirectional controls among it.
fn is_default_ignorable(c: char) -> bool {
    matches!(c,
        '\u{ad}'
        | '\u{34f}'
        | '\u{61c}'
        | '\u{115f}'..='\u{1160}'
        | '\u{17b4}'..='\u{17b5}'
        | '\u{180b}'..='\u{180f}'
        | '\u{200b}'..='\u{200f}'
        | '\u{202a}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}'
        | '\u{3164}'
        | '\u{fe00}'..='\u{fe0f}'
        | '\u{feff}'
        | '\u{ffa0}'
        | '\u{fff0}'..='\u{fff8}'
        | '\u{1bca0}'..='\u{1bca3}'
        | '\u{1d173}'..='\u{1d17a}'
        | '\u{e0000}'..='\u{e0fff}'
    )
}

/// Says that more followed, and how much it is in all: `… (1,048,576 bytes)`.
fn write_cut(f: &mut fmt::Formatter<'_>, len: usize) -> fmt::Result {
    f.write_str("\u{2026} (")?;
    write_grouped(f, len)?;
    f.write_str(if len == 1 { " byte)" } else { " bytes)" })
}

/// A number with a comma before each three digits.
fn write_grouped(f: &mut fmt::Formatter<'_>, n: usize) -> fmt::Result {
    if n < 1000 {
        return write!(f, "{n}");
    }
    write_grouped(f, n / 1000)?;
    write!(f, ",{:03}", n % 1000)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;

    fn shown(bytes: &[u8]) -> String {
        Escaped::new(bytes).to_string()
    }

    #[test]
    fn printable_text_is_shown_as_it_is() {
        let text = "Grüße, 世界! 'a' ~ \u{a0}é e\u{301} 🦀 \u{fffd}";
        assert_eq!(shown(text.as_bytes()), text);
    }

    #[test]
    fn esc_is_escaped() {
        assert_eq!(shown(b"a\x1bc"), r"a\x1bc");
    }

    #[test]
    fn a_csi_sequence_clears_no_screen() {
        assert_eq!(shown(b"\x1b[2J\x1b[1;1H"), r"\x1b[2J\x1b[1;1H");
        assert_eq!(shown("\u{9b}2J".as_bytes()), r"\u{9b}2J");
        assert_eq!(shown(b"\x9b2J"), r"\x9b2J");
    }

    #[test]
    fn an_osc_sequence_sets_no_title() {
        assert_eq!(shown(b"\x1b]0;title\x07"), r"\x1b]0;title\x07");
        assert_eq!(
            shown("\u{9d}0;title\u{9c}".as_bytes()),
            r"\u{9d}0;title\u{9c}"
        );
    }

    #[test]
    fn every_c1_control_is_escaped_as_a_byte_and_as_a_character() {
        for n in 0x80..=0x9f_u8 {
            assert_eq!(shown(&[n]), format!("\\x{n:02x}"));
            assert_eq!(
                shown(char::from(n).to_string().as_bytes()),
                format!("\\u{{{n:x}}}")
            );
        }
    }

    #[test]
    fn a_newline_starts_no_log_line() {
        assert_eq!(shown(b"a\r\nERROR b\tc"), r"a\r\nERROR b\tc");
        assert_eq!(
            shown("a\u{2028}b\u{2029}c\u{85}".as_bytes()),
            r"a\u{2028}b\u{2029}c\u{85}"
        );
    }

    #[test]
    fn nul_and_del_are_escaped() {
        assert_eq!(shown(b"\x00\x7f0"), r"\x00\x7f0");
    }

    #[test]
    fn invalid_utf8_is_shown_byte_by_byte() {
        // A lone continuation, an overlong slash, a surrogate, a character broken off.
        assert_eq!(shown(b"a\xbfb"), r"a\xbfb");
        assert_eq!(shown(b"\xc0\xaf"), r"\xc0\xaf");
        assert_eq!(shown(b"\xed\xa0\x80"), r"\xed\xa0\x80");
        assert_eq!(shown(b"caf\xc3"), r"caf\xc3");
    }

    #[test]
    fn text_that_is_invisible_or_runs_backwards_is_escaped() {
        assert_eq!(
            shown("a\u{202e}b\u{2066}c".as_bytes()),
            r"a\u{202e}b\u{2066}c"
        );
        assert_eq!(
            shown("\u{feff}\u{200b}\u{e0041}".as_bytes()),
            r"\u{feff}\u{200b}\u{e0041}"
        );
    }

    #[test]
    fn a_backslash_and_a_quote_cannot_feign_an_escape_or_an_end() {
        assert_eq!(shown(br#"\x1b "end"#), r#"\\x1b \"end"#);
        assert_eq!(format!("{:?}", Escaped::new("a\"\n")), r#""a\"\n""#);
    }

    #[test]
    fn prose_keeps_its_quotes_and_backslashes_and_nothing_that_acts() {
        let prose = |bytes: &[u8]| Escaped::new(bytes).prose().to_string();
        let harmless = r#"he said "no…" \o/ \x1b"#.as_bytes();
        assert_eq!(prose(harmless).as_bytes(), harmless);
        assert_eq!(prose(b"\"\x1b[2J\xff\r\n"), r#""\x1b[2J\xff\r\n"#);
        // What is shown for a programmer stands between quotes, so it's exact.
        assert_eq!(format!("{:?}", Escaped::new("a\"").prose()), r#""a\"""#);
    }

    #[test]
    fn a_cut_says_the_whole_length() {
        let cut = |bytes: &[u8], limit| Escaped::new(bytes).limit(limit).to_string();
        assert_eq!(cut(&vec![b'a'; 1 << 20], 2), "aa… (1,048,576 bytes)");
        assert_eq!(cut(&vec![b'a'; 1001], 1), "a… (1,001 bytes)");
        assert_eq!(cut(b"abc", 2), "ab… (3 bytes)");
        assert_eq!(cut(b"abc", 3), "abc");
        assert_eq!(cut(b"a", 0), "… (1 byte)");
        assert_eq!(cut(b"", 0), "");
    }

    #[test]
    fn a_cut_falls_between_two_characters() {
        let cut = |text: &str, limit| Escaped::new(text).limit(limit).to_string();
        assert_eq!(cut("aé", 2), "a… (3 bytes)");
        assert_eq!(cut("🦀🦀", 7), "🦀… (8 bytes)");
        assert_eq!(cut("🦀", 3), "… (4 bytes)");
        assert_eq!(
            Escaped::new(b"a\xff\xff").limit(2).to_string(),
            r"a\xff… (3 bytes)"
        );
    }

    #[test]
    fn a_cut_cannot_be_feigned() {
        assert_eq!(shown("ab… (9 bytes)".as_bytes()), r"ab\u{2026} (9 bytes)");
    }

    #[test]
    fn showing_allocates_nothing() {
        use fmt::Write;
        let mut out = String::with_capacity(1024);
        let bytes = b"text \x1b[2J \xff \xe2\x80\xae".repeat(10);
        let counts = allocation_counter::measure(|| {
            write!(
                out,
                "{} {}",
                Escaped::new(&bytes),
                Escaped::new(&bytes).limit(7)
            )
            .unwrap();
        });
        assert_eq!(counts.count_total, 0);
    }

    /// Reads escaped text back.
    fn unescape(text: &str) -> Vec<u8> {
        let mut out = Vec::new();
        let mut rest = text;
        while let Some(c) = rest.chars().next() {
            rest = &rest[c.len_utf8()..];
            if c != '\\' {
                out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
                continue;
            }
            let kind = rest.chars().next().unwrap();
            rest = &rest[1..];
            match kind {
                'n' => out.push(b'\n'),
                'r' => out.push(b'\r'),
                't' => out.push(b'\t'),
                '\\' | '"' => out.push(kind as u8),
                'x' => {
                    out.push(u8::from_str_radix(&rest[..2], 16).unwrap());
                    rest = &rest[2..];
                }
                'u' => {
                    let end = rest.find('}').unwrap();
                    let c = char::from_u32(u32::from_str_radix(&rest[1..end], 16).unwrap());
                    out.extend_from_slice(c.unwrap().encode_utf8(&mut [0; 4]).as_bytes());
                    rest = &rest[end + 1..];
                }
                other => panic!("no escape \\{other}"),
            }
        }
        out
    }

    /// Bytes that are mostly text with something wrong in it.
    fn any_bytes() -> impl Strategy<Value = Vec<u8>> {
        let text = any::<String>().prop_map(String::into_bytes);
        let low = vec(
            (0..0x3000_u32).prop_filter_map("a character", char::from_u32),
            0..16,
        )
        .prop_map(|chars| chars.into_iter().collect::<String>().into_bytes());
        vec(prop_oneof![text, low, vec(any::<u8>(), 0..8)], 0..6).prop_map(|parts| parts.concat())
    }

    proptest! {
        #[test]
        fn nothing_that_acts_on_a_terminal_comes_out(bytes in any_bytes(), limit in 0..64_usize) {
            let escaped = Escaped::new(&bytes);
            let prose = escaped.prose();
            for text in [escaped, escaped.limit(limit), prose, prose.limit(limit)] {
                let text = text.to_string();
                prop_assert!(!text.contains(char::is_control), "{text:?}");
                prop_assert!(!text.contains(is_default_ignorable), "{text:?}");
                prop_assert!(!text.contains(is_separator_or_annotation), "{text:?}");
            }
        }

        #[test]
        fn the_bytes_can_be_read_back(bytes in any_bytes()) {
            prop_assert_eq!(unescape(&shown(&bytes)), bytes);
        }

        #[test]
        fn what_a_cut_shows_is_a_start_of_the_bytes(bytes in any_bytes(), limit in 0..64_usize) {
            let text = Escaped::new(&bytes).limit(limit).to_string();
            let Some((start, _)) = text.split_once('…') else {
                prop_assert!(bytes.len() <= limit);
                prop_assert_eq!(unescape(&text), bytes);
                return Ok(());
            };
            let start_bytes = unescape(start);
            prop_assert!(bytes.len() > limit);
            prop_assert!(bytes.starts_with(&start_bytes));
            prop_assert!(start_bytes.len() <= limit && start_bytes.len() + 3 >= limit);
            prop_assert!(shown(&bytes).starts_with(start));
            prop_assert!(start.len() <= 4 * limit);
        }
    }
}
