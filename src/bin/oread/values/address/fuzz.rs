//! Addresses as typed against a plain reading of them. `tests/common/fuzz.rs` tells how to have
//! more inputs, and how to replay one.

use std::fmt::Write as _;
use std::net::SocketAddrV6;

use super::*;
use crate::fuzz::{Dice, assert_words, fuzz, spoil};

/// The address that `text` is, as the documentation has it.
pub(crate) fn plain_address(text: &str) -> Option<HostPort> {
    let (host, port) = text.rsplit_once(':')?;
    let port = plain_number(port, u16::MAX.into())? as u16;
    let Some(inner) = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'))
    else {
        if let Ok(ip) = host.parse::<Ipv4Addr>() {
            return Some(HostPort::Numeric(SocketAddr::from((ip, port))));
        }
        let has_letters = host
            .bytes()
            .any(|byte| !byte.is_ascii_digit() && byte != b'.');
        return (has_letters && is_plain_name(host)).then(|| HostPort::Name {
            host: host.to_owned(),
            port,
        });
    };
    let (ip, zone) = inner.split_once('%').unwrap_or((inner, "0"));
    let ip = ip.parse::<Ipv6Addr>().ok()?;
    if let Some(scope) = plain_number(zone, u32::MAX.into()) {
        let address = SocketAddrV6::new(ip, port, 0, scope as u32);
        return Some(HostPort::Numeric(address.into()));
    }
    is_plain_name(zone).then(|| HostPort::Name {
        host: inner.to_owned(),
        port,
    })
}

/// The number that digits alone are, up to `most`.
fn plain_number(text: &str, most: u64) -> Option<u64> {
    let mut number = 0_u64;
    for digit in text.chars() {
        number = number
            .saturating_mul(10)
            .saturating_add(digit.to_digit(10)?.into());
    }
    (!text.is_empty() && number <= most).then_some(number)
}

/// Labels of 1 to 63 letters, digits, hyphens and underscores, with dots between them.
fn is_plain_name(text: &str) -> bool {
    let whole = text.strip_suffix('.').unwrap_or(text);
    let is_label = |label: &str| {
        let may_stand = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        !label.is_empty() && label.len() <= 63 && label.chars().all(may_stand)
    };
    text.len() <= 253 && !text.starts_with('-') && whole.split('.').all(is_label)
}

fn any_host(dice: &mut Dice, text: &mut String) {
    let octet =
        |dice: &mut Dice| dice.pick(&["0", "1", "10", "127", "255", "256", "01", "", "0x7f"]);
    match dice.roll(8) {
        0 => {
            let [a, b, c, d] = [(); 4].map(|()| octet(dice));
            write!(text, "{a}.{b}.{c}.{d}").unwrap();
        }
        1 => text.push_str(dice.pick(&[
            "127.0.0.1",
            "0.0.0.0",
            "255.255.255.255",
            "1.2.3",
            "1.2.3.4.5",
        ])),
        2 | 3 => any_ipv6(dice, text),
        4 => {
            for place in 0..dice.between(1, 5) {
                let dot = if place > 0 { "." } else { "" };
                let len = dice.pick(&[0, 1, 2, 3, 62, 63, 64]);
                let letter = dice.pick(&["a", "Z", "0", "-", "_"]);
                write!(text, "{dot}{}", letter.repeat(len)).unwrap();
            }
        }
        5 => text.push_str(dice.pick(&[
            "localhost",
            "my_host.example",
            "xn--bcher-kva.example",
            "a.",
            "a..b",
            ".",
            "-",
        ])),
        6 => text.push_str(dice.pick(&[
            "",
            "9999",
            "bücher",
            "a b",
            "0x7f.1",
            "host\u{1b}[2J",
            "\u{202e}",
        ])),
        _ => text.push_str("localhost"),
    }
}

fn any_ipv6(dice: &mut Dice, text: &mut String) {
    let group =
        |dice: &mut Dice| dice.pick(&["0", "1", "fe80", "ffff", "DB8", "00ff", "", "", "12345"]);
    let open = dice.pick(&["[", "[", "[", "[", "", "[["]);
    text.push_str(open);
    match dice.roll(3) {
        0 => {
            for place in 0..dice.between(2, 9) {
                let colon = if place > 0 { ":" } else { "" };
                write!(text, "{colon}{}", group(dice)).unwrap();
            }
        }
        1 => text.push_str("fe80::1"),
        _ => text.push_str(dice.pick(&["::", "::1", "::ffff:127.0.0.1", "2001:db8::1", "1::2::3"])),
    }
    if dice.once_in(3) {
        text.push('%');
        let zone = ["eth0", "1", "0", "br-1.2_3", "", "4294967296", "-x", "a b"];
        text.push_str(dice.pick(&zone));
    }
    text.push_str(dice.pick(&["]", "]", "]", "]", "", "]]"]));
}

/// An address as people type it, and as they shouldn't.
pub(crate) fn any_address(dice: &mut Dice, text: &mut String) {
    let schemes = [
        "http://",
        "tcp://",
        "udp://",
        "\u{1b}[2J://",
        "://",
        "TCP://",
    ];
    if dice.once_in(6) {
        text.push_str(dice.pick(&schemes));
    }
    any_host(dice, text);
    text.push_str(dice.pick(&[":", ":", ":", ":", ":", ":", ":", "", "::"]));
    match dice.roll(8) {
        0 => write!(text, "{}", 65_534 + dice.roll(4)).unwrap(),
        1 => write!(text, "{}", dice.edge()).unwrap(),
        2 => text.push_str(dice.pick(&["0", "00", "007", "+80", "-1", "", "http", "８０", " 80"])),
        _ => write!(text, "{}", 1 + dice.roll(9999)).unwrap(),
    }
    text.push_str(dice.pick(&["", "", "", "", "", "", "", "/", "/path", " "]));
    if dice.once_in(6) {
        spoil(dice, text);
    }
}

/// What is wrong is said in words that don't act, and what is proposed is taken.
pub(crate) fn assert_helps(said: &str, read: impl Fn(&str) -> bool) {
    assert_words(said);
    let Some((_, proposed)) = said.split_once("write ").or(said.split_once("brackets")) else {
        return;
    };
    for word in proposed.split_whitespace() {
        let word = word.trim_end_matches([',', ';']);
        if word.contains(':') && !word.ends_with(':') && word != "host:port" {
            assert!(read(word), "{said}: {word:?} is proposed");
        }
    }
}

#[test]
fn an_address_is_read_as_documented_and_printed_as_it_is_read() {
    let mut text = String::new();
    fuzz(8000, |dice| {
        text.clear();
        any_address(dice, &mut text);
        let plain = plain_address(&text);
        let any = text.parse::<HostPort>();
        assert_eq!(any.as_ref().ok(), plain.as_ref(), "{text:?}: {any:?}");
        assert_eq!(HostPort::local(&text).ok(), plain);
        assert_eq!(HostPort::remote(&text).ok(), plain);
        // A NUL stands for none, and nobody can type it.
        if text != BARE {
            assert_eq!(text.parse::<Place>().ok(), plain.clone().map(Place::At));
        }
        match any {
            Ok(address) => assert_eq!(address.to_string().parse(), Ok(address)),
            Err(said) => {
                let to_bind = |text: &str| text.parse::<HostPort>().is_ok();
                assert_helps(&said, to_bind);
                assert_helps(&HostPort::local(&text).unwrap_err(), to_bind);
                let said = HostPort::remote(&text).unwrap_err();
                assert_helps(&said, |text| {
                    HostPort::remote(text).is_ok_and(|to| to.port() > 0)
                });
            }
        }
        plain.is_some()
    });
}
