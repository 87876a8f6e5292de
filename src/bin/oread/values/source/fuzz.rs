//! Source addresses and networks as typed against a plain reading of them. `tests/common/fuzz.rs`
//! tells how to have more inputs, and how to replay one.

use std::fmt::Write as _;

use std::net::Ipv4Addr;

use super::*;
use crate::fuzz::{Dice, assert_words, fuzz, spoil};

/// The bits of an address, from the highest one on.
fn bits(ip: IpAddr) -> (u128, u32) {
    match ip {
        IpAddr::V4(ip) => (u128::from(ip.to_bits()) << 96, 32),
        IpAddr::V6(ip) => (ip.to_bits(), 128),
    }
}

/// The network that `text` is: its first address and how many bits of it all have, as the help has
/// it.
fn plain_source(text: &str) -> Option<(IpAddr, u32)> {
    let (ip, len) = match text.split_once('/') {
        Some((ip, len)) => (ip, Some(len)),
        None => (text, None),
    };
    let ip = ip.parse::<IpAddr>().ok()?;
    let (bits, most) = bits(ip);
    let len = match len {
        Some(len) if len.is_empty() || len.bytes().any(|byte| !byte.is_ascii_digit()) => {
            return None;
        }
        Some(len) => len.parse().ok().filter(|len| *len <= most)?,
        None => most,
    };
    // Nothing may stand behind the network's bits.
    if bits.checked_shl(len).unwrap_or(0) != 0 {
        return None;
    }
    match ip {
        IpAddr::V6(ip) if ip.segments()[0] & 0xffc0 == 0xfe80 => None,
        _ => Some((ip, len)),
    }
}

fn any_source(dice: &mut Dice, text: &mut String) {
    match dice.roll(4) {
        0 => {
            let whole = dice.pick(&[
                "127.0.0.1",
                "127.0.0.0",
                "10.0.0.0",
                "0.0.0.0",
                "0.1.0.0",
                "255.255.255.255",
                "224.0.0.0",
                "::",
                "::1",
                "2001:db8::",
                "fe80::1",
                "fe80::",
                "febf::",
                "fec0::",
                "::ffff:10.0.0.0",
                "10.0.0.256",
                "localhost",
                "",
            ]);
            text.push_str(whole);
        }
        // Low bits are 0, as those of a network are.
        1 => {
            let ip = (dice.edge() as u32) >> dice.roll(32) << dice.roll(32);
            write!(text, "{}", Ipv4Addr::from_bits(ip)).unwrap();
        }
        2 => {
            let ip = u128::from(dice.edge()) << dice.roll(128);
            write!(text, "{}", Ipv6Addr::from_bits(ip)).unwrap();
        }
        _ => {
            let ip = dice.edge().rotate_left(dice.roll(64) as u32) as u32;
            write!(text, "{}", Ipv4Addr::from_bits(ip)).unwrap();
        }
    }
    if dice.once_in(8) {
        text.push_str(dice.pick(&["%eth0", "%1", "%", ":80"]));
    }
    if !dice.once_in(3) {
        text.push('/');
        match dice.roll(4) {
            0 => text.push_str(dice.pick(&[
                "",
                "+8",
                "-1",
                "08",
                "008",
                "33",
                "129",
                "255.0.0.0",
                "256",
                " 8",
            ])),
            1 => write!(text, "{}", 24 + dice.roll(10)).unwrap(),
            _ => write!(text, "{}", dice.roll(130)).unwrap(),
        }
    }
    if dice.once_in(8) {
        spoil(dice, text);
    }
}

#[test]
fn a_source_is_an_address_or_a_network_and_nothing_between() {
    let mut text = String::new();
    fuzz(8000, |dice| {
        text.clear();
        any_source(dice, &mut text);
        let plain = plain_source(&text);
        let read = text.parse::<SourceRange>();
        let network = read.as_ref().ok().map(|range| {
            let SourceRange(network) = range;
            (network.addr(), u32::from(network.prefix_len()))
        });
        assert_eq!(network, plain, "{text:?}: {read:?}");
        match read {
            Ok(range) => {
                let SourceRange(network) = range;
                assert_eq!(network.to_string().parse(), Ok(range));
                has_its_own(range);
            }
            Err(said) => {
                assert_words(&said);
                // What is proposed, for the network or for the address, is taken.
                let proposed = said.split_once(" in a network; write ");
                for word in proposed.unwrap_or_default().1.split(' ') {
                    let is_one = word.contains(['.', ':', '/']);
                    assert!(!is_one || word.parse::<SourceRange>().is_ok(), "{said}");
                }
            }
        }
        plain.is_some()
    });
}

/// The first addresses that a network gives out are its own, and within it.
fn has_its_own(range: SourceRange) {
    let (first, len) = (bits(range.0.addr()).0, u32::from(range.0.prefix_len()));
    let mut last = None;
    for address in range.0.hosts().take(3) {
        let (own, _) = bits(address);
        let behind = 128_u32.saturating_sub(len);
        assert_eq!(
            own.checked_shr(behind),
            first.checked_shr(behind),
            "{range:?}: {address}"
        );
        assert!(last < Some(own), "{range:?}: {address} twice");
        last = Some(own);
    }
    assert!(last.is_some(), "{range:?} is empty");
}
