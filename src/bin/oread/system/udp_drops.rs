//! Datagrams that came for this process's sockets and that the system dropped: nearly always
//! because the receive buffer was full. Linux tells of them socket by socket, in the column `drops`
//! of `/proc/net/udp` and `udp6` (proc(5)).

use std::collections::BTreeSet;
use std::fs;
use std::net::{IpAddr, SocketAddr};

/// The two ends of a socket. What a socket of both families calls `::ffff:127.0.0.1` is
/// `127.0.0.1` here.
type Ends = ((IpAddr, u16), (IpAddr, u16));

/// How many datagrams were dropped so far at the open sockets with these addresses, the local one
/// and that of the peer; an unconnected socket's peer has no address and port 0. `None` where the
/// system doesn't say.
pub(crate) fn drops(of: &[(SocketAddr, SocketAddr)]) -> Option<u64> {
    let wanted: BTreeSet<Ends> = of
        .iter()
        .map(|(local, peer)| (canonical(*local), canonical(*peer)))
        .collect();
    let read = |path| fs::read_to_string(path).ok();
    let four = read("/proc/net/udp")?;
    // Without IPv6 there is no such file, and no such socket.
    let six = read("/proc/net/udp6").unwrap_or_default();
    Some(sum(&four, &wanted) + sum(&six, &wanted))
}

fn canonical(address: SocketAddr) -> (IpAddr, u16) {
    (address.ip().to_canonical(), address.port())
}

/// The drops of the wanted sockets in one of these files.
fn sum(file: &str, wanted: &BTreeSet<Ends>) -> u64 {
    let lines = file.lines().filter_map(socket);
    let drops = lines.filter(|(ends, _)| wanted.contains(ends));
    drops.map(|(_, drops)| drops).sum()
}

/// A line's socket, and its drops, which are the last column. The first line has the columns'
/// names.
fn socket(line: &str) -> Option<(Ends, u64)> {
    let mut columns = line.split_whitespace();
    let local = address(columns.nth(1)?)?;
    let peer = address(columns.next()?)?;
    Some(((local, peer), columns.last()?.parse().ok()?))
}

/// An address as in `0100007F:0035`: 127.0.0.1, port 53. Its 32-bit words, one or four, are in
/// network order in memory, and printed as numbers of this machine; the port is one number.
fn address(text: &str) -> Option<(IpAddr, u16)> {
    let (ip, port) = text.split_once(':')?;
    let word = |at: usize| {
        let word = u32::from_str_radix(ip.get(at..at + 8)?, 16).ok()?;
        Some(word.to_ne_bytes())
    };
    let ip = match ip.len() {
        8 => IpAddr::from(word(0)?),
        32 => {
            let words = [word(0)?, word(8)?, word(16)?, word(24)?];
            IpAddr::from(<[u8; 16]>::try_from(words.as_flattened()).ok()?)
        }
        _ => return None,
    };
    Some((ip.to_canonical(), u16::from_str_radix(port, 16).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "   sl  local_address rem_address   st tx_queue rx_queue tr tm->when \
                        retrnsmt   uid  timeout inode ref pointer drops             \n";

    /// A file with these sockets: as a machine of this byte order prints them.
    fn file(sockets: &[(&str, &str, u64)]) -> String {
        let lines = sockets.iter().map(|(local, peer, drops)| {
            let print = |address: &str| {
                let address: SocketAddr = address.parse().unwrap();
                let octets = match address.ip() {
                    IpAddr::V4(ip) => ip.octets().to_vec(),
                    IpAddr::V6(ip) => ip.octets().to_vec(),
                };
                let words = octets.chunks(4).map(|word| {
                    let word = u32::from_ne_bytes(word.try_into().unwrap());
                    format!("{word:08X}")
                });
                format!("{}:{:04X}", words.collect::<String>(), address.port())
            };
            format!(
                "  117: {} {} 07 00000000:00000000 00:00000000 00000000     0        0 1234 2 \
                 0000000000000000 {drops:<13}\n",
                print(local),
                print(peer)
            )
        });
        lines.fold(HEAD.to_owned(), |file, line| file + &line)
    }

    fn summed(file: &str, of: &[(&str, &str)]) -> u64 {
        let ends = |&(local, peer): &(&str, &str)| {
            let parse = |text: &str| canonical(text.parse().unwrap());
            (parse(local), parse(peer))
        };
        sum(file, &of.iter().map(ends).collect())
    }

    #[cfg(target_endian = "little")]
    #[test]
    fn an_address_is_read_as_the_system_prints_it() {
        assert_eq!(address("0100007F:0035"), Some(([127, 0, 0, 1].into(), 53)));
        assert_eq!(
            address("B80D0120000000000000000001000000:FFFF"),
            Some(("2001:db8::1".parse().unwrap(), 65_535))
        );
        assert_eq!(
            address("0000000000000000FFFF00000100007F:0001"),
            Some(([127, 0, 0, 1].into(), 1))
        );
        for odd in [
            "",
            "0100007F",
            "0100007:0035",
            "X100007F:0035",
            "0100007F:10000",
            "äöü",
        ] {
            assert_eq!(address(odd), None, "{odd}");
        }
    }

    #[test]
    fn only_the_drops_of_the_wanted_sockets_are_summed() {
        let file = file(&[
            ("127.0.0.1:7", "127.0.0.1:9", 3),
            ("127.0.0.1:7", "127.0.0.1:10", 5),
            ("[::1]:7", "[::1]:9", 11),
            ("[::ffff:127.0.0.1]:8", "[::ffff:127.0.0.1]:9", 17),
            ("0.0.0.0:7", "0.0.0.0:0", u64::from(u32::MAX)),
        ]);
        let one = ("127.0.0.1:7", "127.0.0.1:9");
        assert_eq!(summed(&file, &[one]), 3);
        assert_eq!(summed(&file, &[one, one, ("[::1]:7", "[::1]:9")]), 14);
        assert_eq!(summed(&file, &[("127.0.0.1:8", "127.0.0.1:9")]), 17);
        assert_eq!(summed(&file, &[("127.0.0.1:9", "127.0.0.1:7")]), 0);
        assert_eq!(summed(&file, &[("0.0.0.0:7", "0.0.0.0:0")]), 4_294_967_295);
        assert_eq!(summed("", &[one]) + summed(HEAD, &[one]), 0);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_receive_buffer_that_is_overrun_has_dropped_exactly_what_did_not_come() {
        use nix::sys::socket::{setsockopt, sockopt};
        use std::net::UdpSocket;
        use std::time::{Duration, Instant};

        let [receiver, sender] =
            ["127.0.0.1:0"; 2].map(|address| UdpSocket::bind(address).unwrap());
        let (to, from) = (receiver.local_addr().unwrap(), sender.local_addr().unwrap());
        receiver.connect(from).unwrap();
        receiver.set_nonblocking(true).unwrap();
        // As small as the system lets it be.
        setsockopt(&receiver, sockopt::RcvBuf, &1).unwrap();
        assert_eq!(drops(&[(to, from)]), Some(0));
        for _ in 0..100 {
            sender.send_to(&[b'x'; 1000], to).unwrap();
        }
        // A busy system may bring some later.
        let deadline = Instant::now() + Duration::from_secs(60);
        let (mut came, mut dropped) = (0, 0);
        while came + dropped < 100 {
            assert!(Instant::now() < deadline, "{came} came, {dropped} dropped");
            while receiver.recv(&mut [0; 2000]).is_ok() {
                came += 1;
            }
            dropped = drops(&[(to, from)]).unwrap();
        }
        assert_eq!(came + dropped, 100);
        assert!(dropped > 0, "the buffer was never full");
    }
}
