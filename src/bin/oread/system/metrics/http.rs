//! As much of HTTP/1.1 (RFC 9112) as a scrape needs: the heads of requests, and answers whose
//! length is known.

use std::str;

/// The longest head of a request, in bytes.
pub(super) const MAX_HEAD: usize = 8 << 10;
/// The most fields of one.
const MAX_FIELDS: usize = 64;

/// What there is in what a client has sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// More has to come.
    NotYet,
    /// A request, of so many bytes.
    Whole(usize, Request),
    /// What can't be understood; nobody knows where the next request begins.
    Wrong(Status),
}

/// A request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Request {
    /// The metrics, or why they are not given.
    pub(super) wants: Result<Format, Status>,
    /// Whether the body of the answer is left out.
    pub(super) is_head: bool,
    /// Whether another request may follow.
    pub(super) keeps_alive: bool,
}

/// How metrics are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    /// Prometheus' own, version 0.0.4.
    Prometheus,
    /// OpenMetrics 1.0.0.
    OpenMetrics,
}

/// How a request is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Status {
    Ok,
    BadRequest,
    NotFound,
    NotAllowed,
    TooLarge,
    Internal,
}

impl Status {
    fn line(self) -> &'static str {
        match self {
            Status::Ok => "200 OK",
            Status::BadRequest => "400 Bad Request",
            Status::NotFound => "404 Not Found",
            Status::NotAllowed => "405 Method Not Allowed",
            Status::TooLarge => "431 Request Header Fields Too Large",
            Status::Internal => "500 Internal Server Error",
        }
    }

    /// What to do about it.
    fn advice(self) -> &'static str {
        match self {
            Status::Ok => "",
            Status::BadRequest => "this is no request of HTTP/1.1",
            Status::NotFound => "the metrics are at /metrics",
            Status::NotAllowed => "metrics are to be read: GET /metrics",
            Status::TooLarge => "a request may be 8 KiB long, and have 64 fields",
            Status::Internal => "the metrics can't be written",
        }
    }
}

/// Reads the head of the first request in `data`.
pub(super) fn parse(data: &[u8]) -> Asked {
    let mut fields = [httparse::EMPTY_HEADER; MAX_FIELDS];
    let mut head = httparse::Request::new(&mut fields);
    match head.parse(data) {
        Ok(httparse::Status::Complete(length)) if length <= MAX_HEAD => understand(length, &head),
        Ok(httparse::Status::Partial) if data.len() < MAX_HEAD => Asked::NotYet,
        Ok(_) | Err(httparse::Error::TooManyHeaders) => Asked::Wrong(Status::TooLarge),
        Err(_) => Asked::Wrong(Status::BadRequest),
    }
}

fn understand(length: usize, head: &httparse::Request<'_, '_>) -> Asked {
    let all = |name: &'static str| {
        let fields = head.headers.iter();
        let named = fields.filter(move |field| field.name.eq_ignore_ascii_case(name));
        named.filter_map(|field| str::from_utf8(field.value).ok())
    };
    let is_1_1 = head.version == Some(1);
    // RFC 9112, section 3.2.
    if is_1_1 && all("host").count() != 1 {
        return Asked::Wrong(Status::BadRequest);
    }
    // A body that nobody wants is not read to its end.
    let has_body = all("transfer-encoding").next().is_some()
        || all("content-length").any(|length| length.trim() != "0");
    let closes = all("connection")
        .flat_map(|value| value.split(','))
        .any(|option| option.trim().eq_ignore_ascii_case("close"));
    let path = head.path.and_then(|path| path.split('?').next());
    let wants = match (head.method, path) {
        (_, path) if path != Some("/metrics") => Err(Status::NotFound),
        (Some("GET" | "HEAD"), _) => Ok(preferred(all("accept"))),
        _ => Err(Status::NotAllowed),
    };
    let request = Request {
        wants,
        is_head: head.method == Some("HEAD"),
        keeps_alive: is_1_1 && !closes && !has_body,
    };
    Asked::Whole(length, request)
}

/// What a client would rather have: OpenMetrics only if it says so.
fn preferred<'a>(accept: impl Iterator<Item = &'a str>) -> Format {
    let (mut plain, mut open) = (0.0_f32, 0.0_f32);
    for range in accept.flat_map(|value| value.split(',')) {
        let mut parts = range.split(';').map(str::trim);
        let kind = parts.next().unwrap_or_default();
        let weight = parts.find_map(|part| part.strip_prefix("q=")?.parse().ok());
        let weight: f32 = weight.unwrap_or(1.0);
        if kind.eq_ignore_ascii_case("application/openmetrics-text") {
            open = open.max(weight);
        } else if kind.eq_ignore_ascii_case("text/plain") {
            plain = plain.max(weight);
        }
    }
    match open > 0.0 && open >= plain {
        true => Format::OpenMetrics,
        false => Format::Prometheus,
    }
}

/// An answer without metrics, for people.
pub(super) fn refusal(status: Status, closes: bool, is_head: bool) -> String {
    let text = format!("{}: {}\n", status.line(), status.advice());
    response(status, "text/plain; charset=utf-8", &text, closes, is_head)
}

/// An answer.
pub(super) fn response(
    status: Status,
    kind: &str,
    body: &str,
    closes: bool,
    is_head: bool,
) -> String {
    let (line, length) = (status.line(), body.len());
    let allow = match status {
        Status::NotAllowed => "Allow: GET, HEAD\r\n",
        _ => "",
    };
    let connection = if closes { "Connection: close\r\n" } else { "" };
    let body = if is_head { "" } else { body };
    format!(
        "HTTP/1.1 {line}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n\
         {allow}{connection}\r\n{body}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(head: &str) -> Asked {
        parse(head.replace('\n', "\r\n").as_bytes())
    }

    fn request(head: &str) -> Request {
        match asked(head) {
            Asked::Whole(length, request) => {
                assert_eq!(length, head.replace('\n', "\r\n").len());
                request
            }
            other => panic!("{head:?}: {other:?}"),
        }
    }

    #[test]
    fn a_scrape_may_come_in_any_pieces() {
        let whole = "GET /metrics?x=1 HTTP/1.1\r\nHost: a\r\nAccept: */*\r\n\r\n";
        for end in 0..whole.len() {
            assert_eq!(parse(&whole.as_bytes()[..end]), Asked::NotYet, "{end}");
        }
        let more = format!("{whole}GET");
        let expected = Request {
            wants: Ok(Format::Prometheus),
            is_head: false,
            keeps_alive: true,
        };
        let all = Asked::Whole(whole.len(), expected);
        assert_eq!(parse(more.as_bytes()), all);
    }

    #[test]
    fn what_is_no_scrape_is_told_why() {
        for (head, why) in [
            ("GET / HTTP/1.1\nHost: a\n\n", Status::NotFound),
            ("POST / HTTP/1.1\nHost: a\n\n", Status::NotFound),
            ("GET /metrics/ HTTP/1.1\nHost: a\n\n", Status::NotFound),
            ("POST /metrics HTTP/1.1\nHost: a\n\n", Status::NotAllowed),
        ] {
            assert_eq!(request(head).wants, Err(why), "{head}");
        }
        for wrong in [
            "GET /metrics HTTP/1.1\n\n",
            "GET /metrics HTTP/1.1\nHost: a\nHost: b\n\n",
            "\u{1}\u{2}\n\n",
            "GET /metrics SMTP\n\n",
        ] {
            assert_eq!(asked(wrong), Asked::Wrong(Status::BadRequest), "{wrong}");
        }
    }

    #[test]
    fn a_head_is_bounded_in_bytes_and_fields() {
        let start = "GET /metrics HTTP/1.1\r\nHost: ";
        let full = |length: usize| format!("{start}{}", "a".repeat(length - start.len()));
        let too_large = Asked::Wrong(Status::TooLarge);
        assert_eq!(parse(full(MAX_HEAD - 1).as_bytes()), Asked::NotYet);
        assert_eq!(parse(full(MAX_HEAD).as_bytes()), too_large);
        let whole = full(MAX_HEAD - 4) + "\r\n\r\n";
        assert!(matches!(parse(whole.as_bytes()), Asked::Whole(MAX_HEAD, _)));
        let whole = full(MAX_HEAD - 3) + "\r\n\r\n";
        assert_eq!(parse(whole.as_bytes()), too_large);
        let many = format!("{start}\r\n{}\r\n", "a: b\r\n".repeat(MAX_FIELDS));
        assert_eq!(parse(many.as_bytes()), too_large);
    }

    #[test]
    fn a_connection_ends_where_the_client_says_so_or_a_body_follows() {
        let keeps = |head: &str| request(&format!("{head}\n\n")).keeps_alive;
        assert!(keeps("GET /metrics HTTP/1.1\nHost: a\nContent-Length: 0"));
        for head in [
            "GET /metrics HTTP/1.0",
            "GET /metrics HTTP/1.1\nHost: a\nConnection: x, Close",
            "POST /metrics HTTP/1.1\nHost: a\nContent-Length: 5",
            "POST /metrics HTTP/1.1\nHost: a\nTransfer-Encoding: chunked",
        ] {
            assert!(!keeps(head), "{head}");
        }
    }

    #[test]
    fn open_metrics_are_for_those_who_would_rather_have_them() {
        let open = "application/openmetrics-text";
        for (accept, expected) in [
            (String::new(), Format::Prometheus),
            ("*/*".to_owned(), Format::Prometheus),
            (format!("{open};q=0"), Format::Prometheus),
            (format!("{open};q=0.3,text/plain;q=0.5"), Format::Prometheus),
            (open.to_owned(), Format::OpenMetrics),
            // As Prometheus 2 has it.
            (
                format!(
                    "{open};version=1.0.0,{open};version=0.0.1;q=0.75,text/plain;q=0.5,*/*;q=0.1"
                ),
                Format::OpenMetrics,
            ),
        ] {
            let head = format!("GET /metrics HTTP/1.1\nHost: a\nAccept: {accept}\n\n");
            assert_eq!(request(&head).wants, Ok(expected), "{accept}");
        }
    }
}
