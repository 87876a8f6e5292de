//! Addresses of one command that can't be bound both.

use std::io;
use std::net::SocketAddr;

use super::socket::{Socket, Transport};
use crate::failure::Failure;

/// The words for an address that this very command has in use already, if it is so.
pub(super) fn ours(
    sockets: &[Socket],
    transport: Transport,
    address: SocketAddr,
    error: &io::Error,
) -> Option<Failure> {
    if error.kind() != io::ErrorKind::AddrInUse {
        return None;
    }
    let mut same = sockets.iter().filter(|s| s.transport() == transport);
    let taken = same
        .find(|socket| overlap(socket.address, address))?
        .address;
    let what = transport.name();
    Some(
        Failure::runtime(format!(
            "can't bind {what} {address}: {taken}, which is served too, has that address already"
        ))
        .hint(format!("leave one of {taken} and {address} out")),
    )
}

/// Whether two addresses can't be bound both: one is all addresses, those of the other's family
/// among them. `[::]` takes IPv4 too.
fn overlap(a: SocketAddr, b: SocketAddr) -> bool {
    let holds = |all: SocketAddr, one: SocketAddr| {
        all.ip().is_unspecified() && (all.is_ipv6() || one.ip().to_canonical().is_ipv4())
    };
    a.port() == b.port() && (holds(a, b) || holds(b, a))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_overlap_where_one_is_all_of_the_other_s_family() {
        for (a, b, expected) in [
            ("[::]:1", "0.0.0.0:1", true),
            ("127.0.0.1:1", "[::]:1", true),
            ("[::]:1", "[::1]:1", true),
            ("0.0.0.0:1", "127.0.0.1:1", true),
            ("0.0.0.0:1", "[::1]:1", false),
            ("[::]:1", "0.0.0.0:2", false),
            ("127.0.0.1:1", "127.0.0.2:1", false),
        ] {
            let is = overlap(a.parse().unwrap(), b.parse().unwrap());
            assert_eq!(is, expected, "{a} and {b}");
        }
    }
}
