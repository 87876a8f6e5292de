//! Local addresses to connect from.
//!
//! A connection is a source and a target, each an address and a port: with the target given, an
//! address has as many connections as the system has ports to give, 28,232 by default. More take
//! more addresses.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use crate::failure::Failure;
use crate::load::options::shard::Shard;
use crate::system::machine::check_own;
use crate::values::source::SourceRange;
use crate::values::target::Resolved;

/// The most addresses that are used: with one port each they are as many connections as one
/// descriptor limit ever was.
const MOST: usize = 1 << 20;
/// 127.255.255.254.
const LAST_OF_LOOPBACK: u32 = 0x7fff_fffe;

/// A target, and where to connect from.
#[derive(Clone, Debug)]
pub(crate) struct Endpoint {
    pub(crate) resolved: Resolved,
    /// Local addresses, used in turn; empty: the system's choice.
    pub(crate) sources: Vec<IpAddr>,
}

/// The addresses to connect from to `target`, in turn, for `wanted` connections with `ports` each;
/// empty: the system chooses, and has one. `wanted` bounds their number: no more are given than
/// connections.
///
/// For a target on IPv4's loopback, where nothing is said and one address has too few ports, they
/// are 127.0.0.1 and those behind it: on Linux all of 127.0.0.0/8 is the machine's own. An address
/// counts for half its ports: Linux gives connections every second one first, and looks longer and
/// longer for the others.
///
/// A shard takes each N-th of the addresses that are given, so that one command line says those of
/// all machines; all of them where there are fewer than shards.
///
/// # Errors
/// Exit code 2: sources are given, and none is of the target's family. Exit code 1: one is not an
/// address of this machine.
pub(crate) fn sources(
    ranges: &[SourceRange],
    target: SocketAddr,
    wanted: u64,
    ports: u64,
    shard: Option<Shard>,
) -> Result<Vec<IpAddr>, Failure> {
    let (index, shards) = shard.map_or((0, 1), |it| (it.index as usize, it.of.get() as usize));
    let at_most = |count: u64| usize::try_from(count).unwrap_or(MOST).min(MOST);
    if ranges.is_empty() {
        let needed = wanted.div_ceil((ports / 2).max(1)).min(wanted);
        let first = Ipv4Addr::LOCALHOST.to_bits();
        let all = (first..=LAST_OF_LOOPBACK).map(|bits| Ipv4Addr::from_bits(bits).into());
        return Ok(match target.ip() {
            IpAddr::V4(ip) if ip.is_loopback() && needed > 1 => all.take(at_most(needed)).collect(),
            _ => Vec::new(),
        });
    }
    // Given twice it has no more ports.
    let mut known = HashSet::new();
    let reach = |range: &&SourceRange| range.is_ipv4() == target.is_ipv4();
    let all = ranges
        .iter()
        .filter(reach)
        .flat_map(|range| range.addresses());
    let all = all.filter(|address| known.insert(*address));
    let all: Vec<IpAddr> = all
        .take(at_most(wanted.saturating_mul(shards as u64)))
        .collect();
    let sources: Vec<IpAddr> = match all.len() >= shards {
        true => all.into_iter().skip(index).step_by(shards).collect(),
        false => all,
    };
    if sources.is_empty() {
        let family = if target.is_ipv4() { "IPv4" } else { "IPv6" };
        let words = format!("no --source can reach {target}: none of them is {family}");
        let tip = format!("add an {family} address of this machine as --source");
        return Err(Failure::usage(words).hint(tip));
    }
    sources.iter().try_for_each(|source| check_own(*source))?;
    Ok(sources)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ranges(texts: &[&str]) -> Vec<SourceRange> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    const LOOPBACK: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9);

    #[test]
    fn loopback_has_addresses_enough_for_any_number_of_connections() {
        let few = sources(&[], LOOPBACK, 14_116, 28_232, None).unwrap();
        assert_eq!(few, [] as [IpAddr; 0]);
        let more = sources(&[], LOOPBACK, 14_117, 28_232, None).unwrap();
        assert_eq!(
            more,
            [
                "127.0.0.1".parse::<IpAddr>().unwrap(),
                "127.0.0.2".parse().unwrap()
            ]
        );
    }

    #[test]
    fn a_network_stands_for_all_its_addresses_and_no_more_than_are_wanted() {
        let all = sources(
            &ranges(&["127.0.0.0/30", "::1", "127.9.9.9"]),
            LOOPBACK,
            100,
            10,
            None,
        );
        let all: Vec<String> = all.unwrap().iter().map(ToString::to_string).collect();
        assert_eq!(all, ["127.0.0.1", "127.0.0.2", "127.9.9.9"]);
        assert_eq!(
            sources(&ranges(&["127.0.0.0/8"]), LOOPBACK, 7, 10, None)
                .unwrap()
                .len(),
            7
        );
    }

    #[test]
    fn an_address_that_is_given_twice_is_used_once() {
        for (given, used) in [
            (&["127.0.0.1", "127.0.0.1"][..], "127.0.0.1"),
            (
                &["127.0.0.2", "127.0.0.0/30", "127.0.0.0/29"],
                "127.0.0.2 127.0.0.1 127.0.0.3 127.0.0.4 127.0.0.5 127.0.0.6",
            ),
            (
                &["127.0.0.0/31", "127.0.0.0/30"],
                "127.0.0.0 127.0.0.1 127.0.0.2",
            ),
            // Not usable of the network, but given by itself.
            (
                &["127.0.0.0/30", "127.0.0.3"],
                "127.0.0.1 127.0.0.2 127.0.0.3",
            ),
            // More than anybody can look at, and all of it twice.
            (
                &["127.0.0.9", "127.0.0.0/8", "127.0.0.0/8"],
                "127.0.0.9 127.0.0.1",
            ),
        ] {
            let most = used.split(' ').count() as u64 + u64::from(given.len() < 3);
            let found = sources(&ranges(given), LOOPBACK, most, 10, None).unwrap();
            let found: Vec<String> = found.iter().map(ToString::to_string).collect();
            assert_eq!(found.join(" "), used, "{given:?}");
        }
    }

    #[test]
    fn sources_of_another_family_or_another_machine_are_refused() {
        for range in ["::1", "::/0"] {
            let other = sources(&ranges(&[range]), LOOPBACK, 1, 1, None).unwrap_err();
            assert_eq!(other.code(), 2);
        }
        // TEST-NET-1 (RFC 5737): nobody's.
        let foreign = sources(&ranges(&["192.0.2.1"]), LOOPBACK, 1, 1, None).unwrap_err();
        assert_eq!(foreign.code(), 1);
        assert!(
            foreign.to_string().contains("ip address add 192.0.2.1"),
            "{foreign}"
        );
    }
}
