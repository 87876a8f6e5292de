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

#[test]
fn a_backslash_that_begins_no_escape_is_read_as_itself() {
    for text in [r"\q", r"\", r"\x4", r"\xzz", r"\u{110000}", r"\u{41", r"\é"] {
        assert_eq!(unescape(text), text.as_bytes(), "{text}");
    }
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
