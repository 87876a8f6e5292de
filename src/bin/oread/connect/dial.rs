//! Connects to one of several addresses: each in its turn, until one answers.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use oread::{Address, ConnectOptions, ConnectionId, Context};

use crate::failure::Failure;

/// Addresses to be tried, and what came of those that were.
#[derive(Debug)]
pub(super) struct Dialer {
    addresses: VecDeque<Address>,
    /// Where to connect from; none is the system's choice.
    sources: Vec<SocketAddr>,
    /// When to give up.
    deadline: Instant,
    /// What is being tried, or was last: to where, and from where.
    current: Option<(Address, Option<SocketAddr>)>,
    /// Why the last one failed.
    failure: Option<Failure>,
}

impl Dialer {
    /// A dialer for these addresses, from whichever of `sources` is of the same family.
    pub(super) fn new(
        addresses: Vec<Address>,
        sources: Vec<SocketAddr>,
        deadline: Instant,
    ) -> Dialer {
        Dialer {
            addresses: addresses.into(),
            sources,
            deadline,
            current: None,
            failure: None,
        }
    }

    /// Begins to connect to the next address.
    ///
    /// # Errors
    /// There is none left: why the last one failed.
    pub(super) fn dial(&mut self, context: &mut Context<'_, ()>) -> Result<ConnectionId, Failure> {
        while let Some(address) = self.addresses.pop_front() {
            let Some(source) = source_for(&self.sources, &address) else {
                self.failure = Some(other_family(&address));
                continue;
            };
            self.current = Some((address.clone(), source));
            let left = self.deadline.saturating_duration_since(context.now());
            // An equal share for each: one that does not answer shall not use up all the time.
            let shares = u32::try_from(self.addresses.len() + 1).unwrap_or(u32::MAX);
            let options = ConnectOptions {
                source,
                timeout: Some((left / shares).max(Duration::from_millis(1))),
                ..ConnectOptions::new(address)
            };
            match context.connect(&options, ()) {
                Ok(id) => return Ok(id),
                Err(refused) => self.failed(&refused.error),
            }
        }
        let none = || Failure::runtime("there is no address to connect to");
        Err(self.failure.take().unwrap_or_else(none))
    }

    /// Notes that what is being tried has failed.
    pub(super) fn failed(&mut self, error: &io::Error) {
        let Some((address, source)) = &self.current else {
            return;
        };
        let failure = match (source, error.kind()) {
            (Some(source), io::ErrorKind::AddrInUse | io::ErrorKind::AddrNotAvailable) => {
                Failure::connect_from("TCP", *source, error)
            }
            _ => Failure::connect(address, error),
        };
        if !self.addresses.is_empty() {
            log::info!("{}", failure.message());
        }
        self.failure = Some(failure);
    }

    /// The address that was tried last.
    pub(super) fn address(&self) -> Option<&Address> {
        self.current.as_ref().map(|(address, _)| address)
    }

    /// The same, for people.
    pub(super) fn peer(&self) -> String {
        let address = self.address();
        address.map_or_else(|| "the server".to_owned(), |address| address.to_string())
    }
}

/// Where to connect to `address` from: `Some(None)` leaves it to the system, `None` is nowhere.
pub(super) fn source_for(sources: &[SocketAddr], address: &Address) -> Option<Option<SocketAddr>> {
    if sources.is_empty() {
        return Some(None);
    }
    let address = address.socket_addr()?;
    let same = |source: &&SocketAddr| source.is_ipv4() == address.is_ipv4();
    sources.iter().find(same).copied().map(Some)
}

/// The words for an address that no source is of the family of.
pub(super) fn other_family(address: &Address) -> Failure {
    let (one, other) = match address.socket_addr() {
        Some(SocketAddr::V4(_)) => ("IPv4", "IPv6"),
        _ => ("IPv6", "IPv4"),
    };
    Failure::runtime(format!(
        "can't connect to {address}: it is {one}, and --bind is {other}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_is_of_the_family_of_its_destination() {
        let address = |text: &str| text.parse::<SocketAddr>().unwrap();
        let (v4, v6) = (address("127.0.0.1:1"), address("[::1]:2"));
        assert_eq!(source_for(&[], &v4.into()), Some(None));
        assert_eq!(source_for(&[v6, v4], &v4.into()), Some(Some(v4)));
        assert_eq!(source_for(&[v4], &v6.into()), None);
    }
}
