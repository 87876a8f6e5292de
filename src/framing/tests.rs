use super::*;
use proptest::collection::vec;
use proptest::prelude::*;

fn fixed(size: u32) -> Framing {
    Framing::Fixed(NonZeroU32::new(size).unwrap())
}

/// A list of framings, and a match that doesn't compile where the list lacks a kind.
macro_rules! framings {
    ($($kind:pat => $some:expr),+ $(,)?) => {{
        let _ = |framing| match framing { $($kind => ()),+ };
        let mut all = Vec::new();
        $(all.extend($some);)+
        all
    }};
}

/// Some framings of each kind. A new kind goes here, and is then in every test that draws one.
fn every() -> Vec<Framing> {
    framings! {
        Framing::Raw => [Framing::Raw],
        Framing::Lines => [Framing::Lines],
        Framing::Fixed(_) => (1..24).map(fixed),
        Framing::Length(_) => Prefix::ALL.iter().map(|prefix| Framing::Length(*prefix)),
    }
}

pub(crate) fn any_framing() -> impl Strategy<Value = Framing> {
    let all = every();
    let mut kinds: Vec<Vec<Framing>> = Vec::new();
    for (form, _) in Framing::FORMS {
        let of_kind = |framing: &&Framing| name(&framing.to_string()) == name(form);
        kinds.push(all.iter().filter(of_kind).copied().collect());
    }
    // Each kind as often as any other.
    prop::sample::select(kinds).prop_flat_map(prop::sample::select)
}

/// Makes a payload one that the framing can carry.
pub(crate) fn fit(framing: Framing, payload: &mut Vec<u8>) {
    let Layout {
        delimiter,
        declared,
        ..
    } = framing.layout();
    payload.retain(|byte| Some(*byte) != delimiter);
    if let Some((least, most)) = declared {
        let len = (payload.len() as u64).clamp(least, most);
        payload.resize(len as usize, b'-');
    }
}

/// What stands before the colon.
fn name(form: &str) -> &str {
    form.split(':').next().unwrap()
}

#[test]
fn every_kind_of_framing_has_one_form_and_every_form_a_kind() {
    let told: Vec<&str> = Framing::FORMS.iter().map(|(form, _)| name(form)).collect();
    let mut kinds: Vec<String> = every().iter().map(Framing::to_string).collect();
    kinds
        .iter_mut()
        .for_each(|text| *text = name(text).to_owned());
    kinds.dedup();
    assert_eq!(kinds, told);
}

fn too_long(declared: impl Into<Option<u64>>, max: usize) -> Result<Next, FrameError> {
    Err(FrameError::TooLong {
        declared: declared.into(),
        max,
    })
}

fn partial(scanned: usize, missing: impl Into<Option<usize>>) -> Result<Next, FrameError> {
    Ok(Next::Partial {
        scanned,
        missing: missing.into(),
    })
}

#[test]
fn a_frame_declares_no_more_than_its_size_or_its_prefix_can_say() {
    let declarable = |name: &str| name.parse::<Framing>().unwrap().max_declarable();
    assert_eq!(declarable("raw"), None);
    assert_eq!(declarable("lines"), None);
    assert_eq!(declarable("fixed:7"), Some(7));
    assert_eq!(declarable("length:u8"), Some(255));
    assert_eq!(declarable("length:u16"), Some(65_535));
    assert_eq!(declarable("length:u32le"), Some(4_294_967_295));
    assert_eq!(declarable("length:u64"), Some(u64::MAX));
}

#[test]
fn of_a_frame_that_is_cut_off_the_payload_is_what_is_behind_the_prefix() {
    for framing in every() {
        let mut payload = b"abc".to_vec();
        fit(framing, &mut payload);
        let mut frame = Vec::new();
        framing.encode(&payload, &mut frame).unwrap();
        let before = framing.envelope(payload.len()).unwrap().before().len();
        for len in 0..before + payload.len() {
            let rest = len.saturating_sub(before);
            assert_eq!(
                framing.cut_payload(&frame[..len]),
                &payload[..rest],
                "{framing}"
            );
        }
    }
}

#[test]
fn raw_takes_what_is_there_and_nothing_is_no_frame() {
    assert_eq!(Framing::Raw.next(b"abc", 0, 1), Ok(Next::frame(0..3, 3)));
    assert_eq!(Framing::Raw.next(b"", 0, 1), partial(0, 1));
}

#[test]
fn a_line_keeps_its_carriage_return_in_the_payload() {
    assert_eq!(
        Framing::Lines.next(b"ab\r\ncd", 0, 3),
        Ok(Next::frame(0..3, 4))
    );
    assert_eq!(Framing::Lines.next(b"ab\r\ncd", 0, 2), too_long(None, 2));
    assert_eq!(Framing::Lines.next(b"\n", 0, 0), Ok(Next::frame(0..0, 1)));
}

#[test]
fn a_line_is_refused_at_the_first_byte_over_the_maximum() {
    assert_eq!(Framing::Lines.next(b"abc", 0, 3), partial(3, None));
    assert_eq!(
        Framing::Lines.next(b"abc\n", 3, 3),
        Ok(Next::frame(0..3, 4))
    );
    assert_eq!(Framing::Lines.next(b"abcd", 3, 3), too_long(None, 3));
    assert_eq!(Framing::Lines.next(b"abcd\n", 0, 3), too_long(None, 3));
}

#[test]
fn a_long_line_that_comes_byte_by_byte_is_looked_at_once() {
    // All that was looked at before is made a newline: one more look would find it.
    let mut line = vec![b'\n'; 1 << 20];
    let mut scanned = 0;
    for len in 1..line.len() {
        line[len - 1] = b'a';
        let next = Framing::Lines.next(&line[..len], scanned, line.len());
        assert_eq!(next, partial(len, None));
        line[len - 1] = b'\n';
        scanned = len;
    }
    let next = Framing::Lines.next(&line, scanned, line.len());
    assert_eq!(next, Ok(Next::frame(0..line.len() - 1, line.len())));
}

#[test]
fn a_frame_over_the_maximum_is_refused_from_its_prefix() {
    for &prefix in Prefix::ALL {
        let framing = Framing::Length(prefix);
        let mut bytes = Vec::new();
        bytes.extend_from_slice(&prefix.bytes(100)[..prefix.width()]);
        assert_eq!(framing.next(&bytes, 0, 99), too_long(100, 99), "{framing}");
        assert_eq!(
            framing.next(&bytes, 0, 100),
            partial(prefix.width(), 100),
            "{framing}"
        );
        let short = &bytes[..prefix.width() - 1];
        assert_eq!(
            framing.next(short, 0, 99),
            partial(short.len(), 1),
            "{framing}"
        );
    }
}

#[test]
fn the_largest_prefix_overflows_nothing() {
    for prefix in [Prefix::U64, Prefix::U64Le] {
        let next = Framing::Length(prefix).next(&[0xff; 9], 0, usize::MAX);
        assert_eq!(next, too_long(u64::MAX, usize::MAX - prefix.width()));
    }
    assert_eq!(Framing::Lines.next(b"a", 0, usize::MAX), partial(1, None));
}

#[test]
fn a_fixed_size_over_the_maximum_is_refused() {
    assert_eq!(fixed(5).next(b"", 0, 4), too_long(5, 4));
    assert_eq!(fixed(5).next(b"abc", 0, 5), partial(3, 2));
    assert_eq!(fixed(5).next(b"abcdef", 3, 5), Ok(Next::frame(0..5, 5)));
}

#[test]
fn a_prefix_is_big_endian_unless_it_says_otherwise() {
    let encoded = |prefix| {
        let mut out = Vec::new();
        Framing::Length(prefix).encode(b"ab", &mut out).unwrap();
        out
    };
    assert_eq!(encoded(Prefix::U8), b"\x02ab");
    assert_eq!(encoded(Prefix::U16), b"\0\x02ab");
    assert_eq!(encoded(Prefix::U16Le), b"\x02\0ab");
    assert_eq!(encoded(Prefix::U32), b"\0\0\0\x02ab");
    assert_eq!(encoded(Prefix::U32Le), b"\x02\0\0\0ab");
    assert_eq!(encoded(Prefix::U64), b"\0\0\0\0\0\0\0\x02ab");
    assert_eq!(encoded(Prefix::U64Le), b"\x02\0\0\0\0\0\0\0ab");
}

#[test]
fn what_cannot_be_framed_is_refused_and_leaves_the_output_alone() {
    let mut out = b"before".to_vec();
    let refused = fixed(3).encode(b"ab", &mut out);
    assert_eq!(refused, Err(EncodeError::WrongLength { len: 2, fixed: 3 }));
    let refused = Framing::Length(Prefix::U8).encode(&[0; 256], &mut out);
    assert_eq!(refused, Err(EncodeError::TooLong { len: 256, max: 255 }));
    let refused = Framing::Lines.encode(b"ab\n", &mut out);
    assert_eq!(refused, Err(EncodeError::InnerNewline { at: 2 }));
    assert_eq!(out, b"before");
    Framing::Length(Prefix::U8)
        .encode(&[7; 255], &mut out)
        .unwrap();
    assert_eq!(out.len(), 6 + 256);
}

#[test]
fn the_frames_before_one_that_is_too_long_are_still_given_out() {
    let mut frames = Framing::Lines.frames(b"a\nb\nlong\nc\n", 0, 3);
    assert_eq!(frames.next().unwrap().unwrap().whole, b"a\n");
    assert_eq!(frames.next().unwrap().unwrap().whole, b"b\n");
    assert!(frames.next().unwrap().is_err());
    assert!(frames.next().is_none());
    assert_eq!(frames.consumed(), 4);
}

#[test]
fn frames_that_were_not_taken_are_not_consumed() {
    let mut frames = Framing::Lines.frames(b"a\nb\nc", 0, 3);
    assert!(frames.next().is_some());
    assert_eq!((frames.consumed(), frames.scanned()), (2, 0));
}

#[test]
fn every_framing_is_read_back_from_its_text() {
    for framing in every().into_iter().chain([fixed(u32::MAX)]) {
        assert_eq!(framing.to_string().parse(), Ok(framing));
    }
    assert_eq!("length:u8le".parse(), Ok(Framing::Length(Prefix::U8)));
}

#[test]
fn a_text_that_is_no_framing_is_told_why_and_what_is_allowed() {
    for (text, why) in [
        ("", "\"\" is not known"),
        ("Lines", "is not known"),
        ("line:3", "is not known"),
        ("raw:1", "takes nothing"),
        ("lines:", "takes nothing"),
        ("fixed", "lacks its size"),
        ("fixed:", "has no size"),
        ("fixed:0", "has no size"),
        ("fixed:4294967296", "has no size"),
        ("length", "lacks its prefix"),
        ("length:u128", "has no prefix"),
        ("\x1b[2J", r"\u{1b}[2J"),
    ] {
        let said = text.parse::<Framing>().unwrap_err().to_string();
        assert!(said.contains(why), "{said}");
        let (_, allowed) = said.split_once("; allowed are ").unwrap();
        let prefixes = Prefix::ALL.iter().map(Prefix::to_string);
        let forms = Framing::FORMS.iter().map(|form| form.0.to_owned());
        for form in forms.chain(prefixes) {
            assert!(allowed.contains(&form), "{said}");
        }
    }
}

#[test]
fn a_fixed_size_has_digits_and_no_sign() {
    assert_eq!("fixed:004".parse(), Ok(fixed(4)));
    for text in ["fixed:+4", "fixed:-4", "fixed: 4", "fixed:4 "] {
        let said = text.parse::<Framing>().unwrap_err().to_string();
        assert!(said.contains("has no size"), "{said}");
    }
}

/// A framing, and payloads that it can carry.
fn framed_payloads() -> impl Strategy<Value = (Framing, Vec<Vec<u8>>)> {
    let payloads = vec(vec(any::<u8>(), 0..40), 0..12);
    (any_framing(), payloads).prop_map(|(framing, mut payloads)| {
        payloads
            .iter_mut()
            .for_each(|payload| fit(framing, payload));
        (framing, payloads)
    })
}

proptest! {
    #[test]
    fn frames_come_out_whole_however_the_stream_is_cut(
        (framing, payloads) in framed_payloads(),
        cuts in vec(1..30_usize, 1..8),
    ) {
        let mut stream = Vec::new();
        for payload in &payloads {
            framing.encode(payload, &mut stream).unwrap();
        }
        let (mut pending, mut scanned) = (Vec::new(), 0);
        let (mut payloads_out, mut echoed) = (Vec::new(), Vec::new());
        let mut cuts = cuts.iter().cycle();
        let mut rest = &stream[..];
        while !rest.is_empty() {
            let (chunk, after) = rest.split_at(rest.len().min(*cuts.next().unwrap()));
            rest = after;
            pending.extend_from_slice(chunk);
            let mut frames = framing.frames(&pending, scanned, 40);
            for frame in &mut frames {
                let frame = frame.unwrap();
                payloads_out.push(frame.payload.to_vec());
                echoed.extend_from_slice(frame.whole);
            }
            scanned = frames.scanned();
            let consumed = frames.consumed();
            pending.drain(..consumed);
            prop_assert_eq!(scanned, pending.len());
        }
        prop_assert_eq!(pending, b"");
        prop_assert_eq!(echoed, stream);
        // Raw has no frames to keep apart.
        if framing != Framing::Raw {
            prop_assert_eq!(payloads_out, payloads);
        }
    }

    #[test]
    fn garbage_never_panics_and_never_asks_for_more_than_the_maximum(
        framing in any_framing(),
        bytes in vec(prop_oneof![Just(0_u8), any::<u8>()], 0..60),
        scanned in 0..80_usize,
        max in prop_oneof![0..60_usize, Just(usize::MAX)],
    ) {
        let most = max.saturating_add(framing.overhead());
        match framing.next(&bytes, scanned, max) {
            Ok(Next::Frame(Boundary { len, payload })) => {
                prop_assert!(payload.end <= len && len <= bytes.len());
                prop_assert_eq!(len - payload.len(), framing.overhead());
                prop_assert!(framing == Framing::Raw || payload.len() <= max);
            }
            Ok(Next::Partial { scanned, missing }) => {
                prop_assert_eq!(scanned, bytes.len());
                prop_assert!(bytes.len() <= most);
                prop_assert!(framing == Framing::Raw || missing.unwrap_or(1) <= most - scanned);
                prop_assert!(missing != Some(0));
            }
            Err(FrameError::TooLong { declared: Some(declared), max }) => {
                prop_assert!(declared > max as u64);
            }
            Err(FrameError::TooLong { declared: None, max }) => {
                prop_assert!(bytes.len() > max);
            }
        }
    }

    #[test]
    fn what_was_scanned_is_not_read_again(line in vec(any::<u8>(), 0..60), scanned in 0..60_usize) {
        let scanned = scanned.min(line.len());
        let mut changed = line.clone();
        changed[..scanned].fill(b'\n');
        prop_assert_eq!(
            Framing::Lines.next(&line, scanned, 40),
            Framing::Lines.next(&changed, scanned, 40)
        );
    }

    #[test]
    fn a_newline_is_found_where_a_plain_search_finds_it(
        bytes in vec(prop_oneof![Just(b'\n'), any::<u8>()], 0..300),
    ) {
        prop_assert_eq!(find(b'\n', &bytes), bytes.iter().position(|&b| b == b'\n'));
    }
}

#[test]
fn what_is_wrong_with_a_frame_is_said_with_its_numbers() {
    let too_long = |declared| FrameError::TooLong { declared, max: 9 };
    for (error, words) in [
        (
            too_long(Some(10)),
            "a frame of 10 bytes is over the maximum of 9 bytes",
        ),
        (too_long(None), "a line is over the maximum of 9 bytes"),
    ] {
        assert_eq!(error.to_string(), words);
    }
    for (error, words) in [
        (
            EncodeError::InnerNewline { at: 3 },
            "a line cannot have a newline in it, as this has at byte 3",
        ),
        (
            EncodeError::WrongLength { len: 5, fixed: 4 },
            "a payload of 5 bytes is no frame of fixed 4 bytes",
        ),
        (
            EncodeError::TooLong { len: 256, max: 255 },
            "a payload of 256 bytes is over the 255 that its prefix can say",
        ),
    ] {
        assert_eq!(error.to_string(), words);
    }
}
