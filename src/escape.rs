//! Bytes of a peer, made safe to show on a terminal or in a log.

#[cfg(test)]
mod tests;

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
/// `\xNN` always means a byte and `\u{N}` a character, so the text tells what the bytes were, and
/// it may stand between double quotes; [`prose`](Escaped::prose) gives that up. "What cannot be
/// seen or turns the text around" is Unicode's property `Default_Ignorable_Code_Point`
/// (bidirectional controls, zero-width characters, variation selectors, tags), the line and
/// paragraph separators, and the annotation marks U+FFF9 to U+FFFB.
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
    /// All of these bytes. For what a peer may make as long as it likes, set a
    /// [`limit`](Self::limit).
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
    /// Nothing in it acts on a terminal either. But the text doesn't tell any more what the bytes
    /// were, may not stand between double quotes, and can feign a cut: in a log it would be
    /// misleading.
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

/// The bytes that [`Escaped::new`] shows as `text`. A backslash that begins none of its escapes is
/// read as itself.
pub(crate) fn unescape(text: &str) -> Vec<u8> {
    let (mut bytes, mut rest) = (Vec::new(), text);
    while let Some((plain, escape)) = rest.split_once('\\') {
        bytes.extend(plain.bytes());
        rest = read_escape(escape, &mut bytes).unwrap_or_else(|| {
            bytes.push(b'\\');
            escape
        });
    }
    bytes.extend(rest.bytes());
    bytes
}

/// Reads what stands behind a backslash, and gives the rest.
fn read_escape<'t>(text: &'t str, bytes: &mut Vec<u8>) -> Option<&'t str> {
    let (kind, rest) = text.split_at_checked(1)?;
    let (digits, rest) = match kind {
        "x" => rest.split_at_checked(2)?,
        "u" => rest.strip_prefix('{')?.split_once('}')?,
        _ => ("", rest),
    };
    let number = u32::from_str_radix(digits, 16).ok();
    match kind {
        "n" => bytes.push(b'\n'),
        "r" => bytes.push(b'\r'),
        "t" => bytes.push(b'\t'),
        "\\" | "\"" => bytes.extend(kind.bytes()),
        "x" => bytes.push(u8::try_from(number?).ok()?),
        "u" => bytes.extend(char::from_u32(number?)?.encode_utf8(&mut [0; 4]).bytes()),
        _ => return None,
    }
    Some(rest)
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

/// Whether `c` is harmless, but would be taken for the start of an escape, the end of the text, or
/// the mark of a cut.
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
