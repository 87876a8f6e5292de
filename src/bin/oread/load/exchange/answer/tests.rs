//! Where answers end, whatever the pieces that they come in.

use super::*;

const MOST: usize = 1000;

fn answer(text: &str) -> Answer {
    text.parse().unwrap()
}

/// Where the answer ends, fed in pieces of this size; why it has no end.
fn end(answer: &Answer, bytes: &[u8], piece: usize) -> Result<Option<usize>, &'static str> {
    let (mut have, mut scan) = (0, Scan::default());
    loop {
        have = (have + piece).min(bytes.len());
        match answer.find(&bytes[..have], &mut scan, MOST) {
            Found::Whole(len) => return Ok(Some(len)),
            Found::Part(of) => {
                assert!(of.is_none_or(|of| of > have as u64), "{of:?} of {have}");
            }
            Found::TooLong => return Err("too long"),
            Found::Wrong(why) => return Err(why),
        }
        if have == bytes.len() {
            return Ok(None);
        }
    }
}

/// It ends there, whatever the pieces that it comes in.
fn ends(answer: &Answer, bytes: &[u8], expected: usize) {
    for piece in 1..=bytes.len() {
        assert_eq!(
            end(answer, bytes, piece),
            Ok(Some(expected)),
            "{answer} by {piece}"
        );
    }
}

#[test]
fn an_answer_ends_in_the_same_place_whatever_the_pieces_it_comes_in() {
    for (how, bytes, expected) in [
        ("lines", b"+OK\r\nmore".as_slice(), 5),
        ("fixed:4", b"abcdefgh", 4),
        ("length:u8", b"\x03abcdef", 4),
        ("length:u16le", b"\x05\x00abcdefgh", 7),
        ("until:END\\r\\n", b"VALUE a 0 1\r\nx\r\nEND\r\nEND\r\n", 21),
        ("until:aab", b"aaaabaab", 5),
        ("until:\\n\\n", b"a\nb\n\n\n", 5),
    ] {
        let how = answer(how);
        ends(&how, bytes, expected);
        assert_eq!(end(&how, &bytes[..expected - 1], 1), Ok(None), "{how}");
    }
}

#[test]
fn an_answer_says_how_long_it_is_as_soon_as_that_is_known() {
    for (how, bytes, of) in [
        ("fixed:40", b"a".as_slice(), Some(40)),
        ("length:u16", b"\x01", None),
        ("length:u16", b"\x01\x00", Some(258)),
        ("length:u16", b"\x01\x00abc", Some(258)),
        ("lines", b"abc", None),
        ("until:x", b"abc", None),
    ] {
        let found = answer(how).find(bytes, &mut Scan::default(), MOST);
        assert_eq!(found, Found::Part(of), "{how} {bytes:?}");
    }
}

#[test]
fn an_answer_without_an_end_is_too_long_at_its_bound() {
    let long = [b'a'; MOST + 1];
    for how in ["lines", "until:xyz"] {
        assert_eq!(
            answer(how).find(&long, &mut Scan::default(), MOST),
            Found::TooLong,
            "{how}"
        );
        assert_eq!(
            answer(how).find(&long[..MOST], &mut Scan::default(), MOST),
            Found::Part(None),
            "{how}"
        );
    }
    let declared = answer("length:u32").find(&[0x7f, 0, 0, 0], &mut Scan::default(), MOST);
    assert_eq!(declared, Found::TooLong);
}

#[test]
fn whatever_comes_the_pieces_it_comes_in_change_nothing() {
    const TOKENS: [&str; 16] = [
        "HTTP/1.1 200 OK\r\n",
        "Content-Length: 3\r\n",
        "Transfer-Encoding: chunked\r\n",
        "\r\n",
        "3\r\nabc\r\n",
        "0\r\n",
        "*2\r\n",
        "$3\r\n",
        "abc",
        "%1\r\n",
        ":7\r\n",
        "|1\r\n",
        "\n",
        "\u{1}",
        "END",
        "HTTP/1.1 100 C\r\n\r\n",
    ];
    let mut state = 7_u64;
    let mut draw = |below: usize| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (state >> 33) as usize % below
    };
    let mut whole = 0;
    for _ in 0..20_000 {
        let tokens = 1 + draw(8);
        let text: String = (0..tokens).map(|_| TOKENS[draw(TOKENS.len())]).collect();
        let how = answer(
            [
                "http",
                "redis",
                "lines",
                "length:u8",
                "until:END",
                "until:\\r\\n\\r\\n",
            ][draw(6)],
        );
        let at_once = end(&how, text.as_bytes(), text.len());
        for piece in [1, 2, 5] {
            let by_piece = end(&how, text.as_bytes(), piece);
            // That it's none may be found out with the next line.
            let is_late = by_piece == Ok(None) && at_once.is_err();
            assert!(by_piece == at_once || is_late, "{how} by {piece}: {text:?}");
        }
        whole += u32::from(matches!(at_once, Ok(Some(_))));
    }
    assert!(whole > 2000, "{whole} were whole");
}

#[test]
fn whatever_comes_first_is_an_answer() {
    assert_eq!(
        answer("any").find(b"", &mut Scan::default(), MOST),
        Found::Part(None)
    );
    assert_eq!(
        answer("any").find(b"abc", &mut Scan::default(), MOST),
        Found::Whole(3)
    );
}

#[test]
fn what_is_no_answer_is_told_with_what_there_is() {
    for text in [
        "",
        "line",
        "until:",
        "fixed:0",
        "length:u24",
        "raw",
        "until:\\q",
    ] {
        let said = text.parse::<Answer>().unwrap_err();
        assert!(!said.is_empty() && said != "raw", "{text}: {said}");
    }
    for text in [
        "echo",
        "lines",
        "fixed:7",
        "length:u16le",
        "until:\\r\\n",
        "any",
        "none",
    ] {
        assert_eq!(answer(text).to_string(), text);
    }
}

const PLAIN: &str = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";
const CHUNKED: &str = "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n\
                       5\r\nhello\r\n1a;x=y\r\nabcdefghijklmnopqrstuvwxyz\r\n0\r\n\r\n";

#[test]
fn an_answer_ends_where_its_head_or_its_chunks_say() {
    let trailers = CHUNKED.replace("0\r\n\r\n", "0\r\nX: y\r\nZ: \r\n\r\n");
    for (text, len) in [
        (PLAIN.to_owned(), PLAIN.len()),
        (CHUNKED.to_owned(), CHUNKED.len()),
        (trailers.clone(), trailers.len()),
        ("HTTP/1.1 204 No Content\r\n\r\n".into(), 27),
        ("HTTP/1.1 304 Not\r\nContent-Length: 9\r\n\r\n".into(), 39),
        (
            format!("HTTP/1.1 100 Continue\r\n\r\n{PLAIN}"),
            25 + PLAIN.len(),
        ),
        (
            "HTTP/1.1 200 OK\r\ncontent-length: 0\r\nContent-Length: 0\r\n\r\n".into(),
            57,
        ),
    ] {
        ends(&Answer::Http, text.as_bytes(), len);
        ends(&Answer::Http, format!("{text}HTTP/1.1 200").as_bytes(), len);
        assert_eq!(end(&Answer::Http, &text.as_bytes()[..len - 1], 7), Ok(None));
    }
}

#[test]
fn an_answer_that_has_no_end_or_is_none_is_told() {
    for (text, why) in [
        ("HTTP/1.1 200 OK\r\n\r\n", "ends with its connection"),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
            "ends with its connection",
        ),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
            "two lengths",
        ),
        ("HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n", "no number"),
        ("HTTP/1.1 101 Go\r\n\r\n", "changes the protocol"),
        ("+OK\r\n\r\n", "not an HTTP answer"),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n",
            "a chunk that is none",
        ),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nabcde",
            "a chunk that is none",
        ),
    ] {
        let said = end(&Answer::Http, text.as_bytes(), text.len()).unwrap_err();
        assert!(said.contains(why), "{text:?}: {said}");
    }
}

#[test]
fn a_value_ends_where_it_says_however_deep_it_is() {
    for text in [
        "+OK\r\n",
        "-ERR unknown\r\n",
        ":1000\r\n",
        "$5\r\nhello\r\n",
        "$0\r\n\r\n",
        "$-1\r\n",
        "*-1\r\n",
        "*0\r\n",
        "*2\r\n$3\r\nfoo\r\n$3\r\nbar\r\n",
        "*2\r\n*2\r\n:1\r\n:2\r\n*1\r\n$2\r\n\r\n\r\n",
        "%2\r\n+a\r\n:1\r\n+b\r\n*1\r\n:2\r\n",
        "|1\r\n+ttl\r\n:5\r\n$2\r\nhi\r\n",
        "_\r\n",
        "#t\r\n",
        ",3.14\r\n",
        "(12345678901234567890\r\n",
        "=6\r\ntxt:ab\r\n",
        "~1\r\n+x\r\n",
    ] {
        ends(&Answer::Redis, text.as_bytes(), text.len());
        ends(
            &Answer::Redis,
            format!("{text}+OK\r\n").as_bytes(),
            text.len(),
        );
        for len in 0..text.len() {
            assert_eq!(end(&Answer::Redis, &text.as_bytes()[..len], 1), Ok(None));
        }
    }
}

#[test]
fn what_is_no_value_is_told_and_a_huge_one_is_too_long() {
    for text in [
        "HTTP/1.1 200",
        "$x\r\n",
        "$-2\r\n",
        "+OK\n",
        "*\r\n",
        "\r\n",
    ] {
        let said = end(&Answer::Redis, text.as_bytes(), text.len()).unwrap_err();
        assert!(said.contains("not a Redis answer"), "{text:?}: {said}");
    }
    for text in [
        "$9999999999\r\n",
        "*9999999999\r\n:1\r\n",
        "%9223372036854775807\r\n",
    ] {
        let said = end(&Answer::Redis, text.as_bytes(), text.len()).unwrap_err();
        assert!(said.contains("too long"), "{text:?}: {said}");
    }
}
