//! Where an HTTP/1.1 answer ends (RFC 9112, 6), and what it says of itself.

use httparse::{EMPTY_HEADER, Header, Response, Status};
use memchr::{memchr, memmem};

use super::found::{Found, Said, Scan};

/// Headers that an answer has at most.
const MOST_HEADERS: usize = 100;
/// Bytes that a chunk's size and what stands behind it have at most.
const MOST_CHUNK_LINE: usize = 1024;
/// What each answer begins with.
const BEGINNING: &[u8] = b"HTTP/1.";
const NO_ANSWER: &str = "not an HTTP answer";

/// What a head says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Head {
    /// Its own bytes, with those of the heads before it that only say that another is to come
    /// (RFC 9110, 15.2).
    len: usize,
    body: Result<Body, &'static str>,
    /// It's refused from a status of 400 on; the server may end the connection behind it (RFC 9112,
    /// 9.6).
    said: Said,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Body {
    Bytes(u64),
    Chunks,
}

/// Looks for an answer at the start of `bytes`. `scan.at` is where it ends, or, where `scan.open`
/// is not zero, its next chunk begins; 0 until its head is there.
pub(super) fn find(bytes: &[u8], scan: &mut Scan) -> Found {
    if scan.at == 0 {
        let begins = BEGINNING.iter().zip(bytes).all(|(one, other)| one == other);
        if !begins {
            return Found::Wrong(NO_ANSWER);
        }
        // A head is parsed anew for each line that comes, not for each byte.
        let from = scan.looked as usize;
        if memchr(b'\n', bytes.get(from..).unwrap_or_default()).is_none() {
            return Found::Part(None);
        }
        match head(bytes) {
            Err(why) => return Found::Wrong(why),
            Ok(None) => return Found::Part(None),
            Ok(Some(Head { body: Err(why), .. })) => return Found::Wrong(why),
            Ok(Some(Head {
                len,
                body: Ok(body),
                said,
            })) => {
                scan.said = said;
                let (body, parts) = match body {
                    Body::Bytes(body) => (body, 0),
                    Body::Chunks => (0, 1),
                };
                let Ok(at) = u32::try_from((len as u64).saturating_add(body)) else {
                    return Found::TooLong;
                };
                (scan.at, scan.open) = (at, parts);
            }
        }
    }
    match scan.open {
        0 => Found::of(bytes, scan.at.into()),
        _ => chunks(bytes, scan),
    }
}

/// The head at the start of `bytes`, if it's whole.
fn head(bytes: &[u8]) -> Result<Option<Head>, &'static str> {
    let mut len = 0;
    loop {
        let mut headers = [EMPTY_HEADER; MOST_HEADERS];
        let mut response = Response::new(&mut headers);
        len += match response.parse(&bytes[len..]) {
            Ok(Status::Complete(len)) => len,
            Ok(Status::Partial) => return Ok(None),
            Err(httparse::Error::TooManyHeaders) => {
                return Err("an HTTP answer with too many headers");
            }
            Err(_) => return Err(NO_ANSWER),
        };
        let status = response.code.unwrap_or(0);
        let body = match status {
            101 => return Err("an HTTP answer that changes the protocol"),
            100..=199 => continue,
            204 | 304 => Ok(Body::Bytes(0)),
            _ => body(response.headers),
        };
        let is_old = response.version == Some(0);
        let says = |option| lists(response.headers, "connection", option);
        return Ok(Some(Head {
            len,
            body,
            said: Said {
                is_refusal: status >= 400,
                is_last: says("close") || is_old && !says("keep-alive"),
            },
        }));
    }
}

/// The values of a header.
fn named<'a>(headers: &'a [Header<'_>], name: &'a str) -> impl Iterator<Item = &'a str> {
    let named = headers
        .iter()
        .filter(move |header| header.name.eq_ignore_ascii_case(name));
    named.filter_map(|header| std::str::from_utf8(header.value).ok())
}

/// Whether a header that is a list has this in it.
fn lists(headers: &[Header<'_>], name: &str, option: &str) -> bool {
    let mut options = named(headers, name).flat_map(|value| value.split(','));
    options.any(|it| it.trim().eq_ignore_ascii_case(option))
}

/// What the headers say of the body.
fn body(headers: &[Header<'_>]) -> Result<Body, &'static str> {
    if let Some(coding) = named(headers, "transfer-encoding").last() {
        let last = coding.rsplit(',').next().unwrap_or_default();
        return match last.trim().eq_ignore_ascii_case("chunked") {
            true => Ok(Body::Chunks),
            false => Err("an HTTP answer that ends with its connection"),
        };
    }
    let mut lengths = named(headers, "content-length").map(str::trim);
    let Some(first) = lengths.next() else {
        return Err("an HTTP answer that ends with its connection");
    };
    if lengths.any(|other| other != first) {
        return Err("an HTTP answer with two lengths");
    }
    let length = first
        .parse()
        .map_err(|_| "an HTTP answer whose length is no number")?;
    Ok(Body::Bytes(length))
}

/// Goes over the chunks from `scan.at` on; the answer ends behind the last one and its trailers.
fn chunks(bytes: &[u8], scan: &mut Scan) -> Found {
    const NONE: Found = Found::Wrong("an HTTP answer with a chunk that is none");
    loop {
        let at = scan.at as usize;
        let rest = bytes.get(at..).unwrap_or_default();
        let (line, size) = match httparse::parse_chunk_size(rest) {
            Ok(Status::Complete(found)) => found,
            Ok(Status::Partial) if rest.len() <= MOST_CHUNK_LINE => return Found::Part(None),
            _ => return NONE,
        };
        if size == 0 {
            // The line's own end is the first of two, where no trailers stand between.
            let from = at + line.saturating_sub(2);
            return match memmem::find(&bytes[from..], b"\r\n\r\n") {
                Some(end) => Found::Whole(from + end + 4),
                None => Found::Part(None),
            };
        }
        let end = ((at + line) as u64).saturating_add(size).saturating_add(2);
        let Ok(next) = u32::try_from(end) else {
            return Found::TooLong;
        };
        match bytes.get(..next as usize) {
            None => return Found::Part(None),
            Some(chunk) if !chunk.ends_with(b"\r\n") => return NONE,
            Some(_) => scan.at = next,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: &str = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";

    #[test]
    fn a_status_says_whether_it_is_refused_and_a_header_whether_it_is_the_last() {
        let about = |text: &str| {
            let mut scan = Scan::default();
            assert_eq!(find(text.as_bytes(), &mut scan), Found::Whole(text.len()));
            (scan.said.is_refusal, scan.said.is_last)
        };
        assert_eq!(about(PLAIN), (false, false));
        assert_eq!(about(&PLAIN.replace("200", "404")), (true, false));
        assert_eq!(about(&PLAIN.replace("1.1", "1.0")), (false, true));
        let closing = PLAIN.replace("\r\n\r\n", "\r\nConnection: x, Close\r\n\r\n");
        assert_eq!(about(&closing), (false, true));
        let kept = PLAIN.replace("1.1", "1.0");
        let kept = kept.replace("\r\n\r\n", "\r\nconnection: keep-alive\r\n\r\n");
        assert_eq!(about(&kept), (false, false));
        let interim = format!("HTTP/1.1 103 Hints\r\n\r\n{}", PLAIN.replace("200", "500"));
        assert_eq!(about(&interim), (true, false));
    }
}
