//! Targets that say what is spoken there: `http://HOST/PATH`, `redis://HOST`, and both over TLS.

use std::str::FromStr;

use crate::load::exchange::answer::Answer;
use crate::system::environment::VERSION;
use crate::values::target::{Target, Transport};

/// What a target speaks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    /// HTTP/1.1, with connections that are kept.
    Http {
        /// The host, as the target has it, and the path with its query.
        host: String,
        path: String,
    },
    /// What Redis speaks.
    Redis,
}

/// A target of a load.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Url {
    pub(crate) target: Target,
    /// What is spoken there, where that is said.
    pub(crate) protocol: Option<Protocol>,
}

impl Protocol {
    /// What is asked where nothing else is said.
    pub(crate) fn question(&self) -> String {
        match self {
            Protocol::Http { host, path } => format!(
                "GET {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: oread/{VERSION}\r\nAccept: */*\r\n\r\n"
            ),
            Protocol::Redis => "PING\r\n".to_owned(),
        }
    }

    /// Where an answer ends.
    pub(crate) fn answer(&self) -> Answer {
        match self {
            Protocol::Http { .. } => Answer::Http,
            Protocol::Redis => Answer::Redis,
        }
    }
}

impl FromStr for Url {
    type Err = String;

    fn from_str(text: &str) -> Result<Url, String> {
        let plain = |text: &str| -> Result<Url, String> {
            let target = text.parse()?;
            let protocol = None;
            Ok(Url { target, protocol })
        };
        let Some((scheme, rest)) = text.split_once("://") else {
            return plain(text);
        };
        let (authority, path) = match rest.find(['/', '?', '#']) {
            Some(at) => rest.split_at(at),
            None => (rest, ""),
        };
        let scheme = scheme.to_ascii_lowercase();
        let is_sealed = matches!(&*scheme, "https" | "rediss");
        match &*scheme {
            "tcp" | "tls" | "udp" => plain(text),
            "unix" => plain(&format!("unix:{rest}")),
            "http" | "https" => {
                let path = path_of(path)?;
                let host = authority.to_owned();
                let target = with_port(authority, if is_sealed { 443 } else { 80 }, is_sealed)?;
                let protocol = Some(Protocol::Http { host, path });
                Ok(Url { target, protocol })
            }
            "redis" | "rediss" if matches!(path, "" | "/") => Ok(Url {
                target: with_port(authority, 6379, is_sealed)?,
                protocol: Some(Protocol::Redis),
            }),
            "redis" | "rediss" => Err(format!(
                "{scheme}:// takes a host alone; select a database in a --session"
            )),
            _ => Err(format!(
                "scheme \"{}\" is not known; write tcp://, tls://, udp://, http://, https:// or redis://, \
                 or unix:PATH",
                scheme.escape_debug()
            )),
        }
    }
}

/// The target of a host, with this port where it has none; over TLS where it `is_sealed`.
fn with_port(authority: &str, port: u16, is_sealed: bool) -> Result<Target, String> {
    if authority.contains('@') {
        return Err("a name and a password are not sent; say them in a --session".into());
    }
    let behind = authority.rsplit(']').next().unwrap_or(authority);
    let mut target: Target = match behind.contains(':') {
        true => authority.parse(),
        false => format!("{authority}:{port}").parse(),
    }?;
    if is_sealed {
        target.transport = Transport::Tls;
    }
    Ok(target)
}

/// A path with its query, as a request has it.
fn path_of(path: &str) -> Result<String, String> {
    let (path, _) = path.split_once('#').unwrap_or((path, ""));
    let is_odd = |c: char| !c.is_ascii_graphic();
    if let Some(odd) = path.chars().find(|c| is_odd(*c)) {
        return Err(format!(
            "a path has no {:?}; write its bytes as in %20",
            odd.to_string()
        ));
    }
    Ok(match path.starts_with('/') {
        true => path.to_owned(),
        false => format!("/{path}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_knows_its_port_its_path_and_its_first_question() {
        for (text, target, question) in [
            ("127.0.0.1:7", "tcp://127.0.0.1:7", ""),
            ("udp://127.0.0.1:7", "udp://127.0.0.1:7", ""),
            ("unix:///run/x.sock", "unix:/run/x.sock", ""),
            ("unix:/run/x.sock", "unix:/run/x.sock", ""),
            ("redis://localhost", "tcp://localhost:6379", "PING\r\n"),
            ("redis://[::1]:7/", "tcp://[::1]:7", "PING\r\n"),
            ("rediss://a.example", "tls://a.example:6379", "PING\r\n"),
            ("tls://a.example:7", "tls://a.example:7", ""),
            (
                "https://a.example/b",
                "tls://a.example:443",
                "GET /b HTTP/1.1\r\nHost: a.example\r\n",
            ),
            (
                "HTTPS://[::1]:8443",
                "tls://[::1]:8443",
                "GET / HTTP/1.1\r\nHost: [::1]:8443\r\n",
            ),
            (
                "http://a.example",
                "tcp://a.example:80",
                "GET / HTTP/1.1\r\nHost: a.example\r\n",
            ),
            (
                "HTTP://a.example:8080/b/c?d=1#e",
                "tcp://a.example:8080",
                "GET /b/c?d=1 HTTP/1.1\r\nHost: a.example:8080\r\n",
            ),
            (
                "http://[::1]?x",
                "tcp://[::1]:80",
                "GET /?x HTTP/1.1\r\nHost: [::1]\r\n",
            ),
        ] {
            let url: Url = text.parse().unwrap();
            assert_eq!(url.target.to_string(), target, "{text}");
            let asked = url.protocol.map_or_else(String::new, |it| it.question());
            assert!(asked.starts_with(question), "{text}: {asked}");
            assert_eq!(asked.is_empty(), question.is_empty(), "{text}");
        }
    }

    #[test]
    fn a_url_that_is_none_or_not_spoken_is_refused_with_what_to_do() {
        for (text, said) in [
            ("ftp://a", "scheme \"ftp\" is not known; write tcp://"),
            ("tls://a", "port"),
            ("redis://a/2", "select a database in a --session"),
            ("redis://u:p@a", "a name and a password are not sent"),
            ("http://a/b c", "as in %20"),
            ("http://", "the host is missing"),
            ("http://a:0", "nothing listens on port 0"),
        ] {
            let why = text.parse::<Url>().unwrap_err();
            assert!(why.contains(said), "{text}: {why}");
        }
    }
}
