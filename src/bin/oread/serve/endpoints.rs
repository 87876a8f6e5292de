//! What a server binds: which transports, on which addresses.
//!
//! An ADDR is for TCP and UDP. `--tcp ADDR` and `--udp ADDR` add an address for one transport
//! alone. A bare `--tcp` or `--udp` says which transport the ADDRs are for, and brings the default
//! address where there are none. The default address, for both, is there only when none is given at
//! all.

use std::net::{IpAddr, SocketAddr};

use crate::failure::Failure;
use crate::values::address::{DEFAULT_ADDRESS, HostPort, Place};

/// TCP, UDP or both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Transports {
    /// A TCP listener.
    pub(crate) tcp: bool,
    /// A UDP socket.
    pub(crate) udp: bool,
}

impl Transports {
    /// TCP and UDP.
    pub(crate) const BOTH: Transports = Transports {
        tcp: true,
        udp: true,
    };
    /// TCP alone.
    pub(crate) const TCP: Transports = Transports {
        tcp: true,
        udp: false,
    };
    /// UDP alone.
    pub(crate) const UDP: Transports = Transports {
        tcp: false,
        udp: true,
    };
}

/// One address as typed, and what is wanted on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Endpoint {
    /// The address; port 0 for any that is free, and then TCP and UDP should get the same one.
    pub(crate) address: HostPort,
    /// What is to be bound there.
    pub(crate) transports: Transports,
}

/// One address to bind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Binding {
    /// The address.
    pub(crate) address: SocketAddr,
    /// What is to be bound there.
    pub(crate) transports: Transports,
    /// It is one of several addresses of a name. `localhost` has an IPv6 address even where the
    /// machine has no IPv6, so an address of these that is not available may be passed over, as
    /// long as another one of them is.
    pub(crate) one_of_several: bool,
}

/// What the addresses on the command line mean together, in the order in which they came; never
/// empty.
///
/// # Errors
/// None in practice: the default address is an address.
pub(crate) fn endpoints(
    addresses: &[HostPort],
    tcp: &[Place],
    udp: &[Place],
) -> Result<Vec<Endpoint>, Failure> {
    let bare = Transports {
        tcp: tcp.contains(&Place::Bare),
        udp: udp.contains(&Place::Bare),
    };
    let any_bare = bare.tcp || bare.udp;
    let mut all = Vec::new();
    for address in addresses {
        let transports = if any_bare { bare } else { Transports::BOTH };
        all.push(Endpoint {
            address: address.clone(),
            transports,
        });
    }
    for (places, transports) in [(tcp, Transports::TCP), (udp, Transports::UDP)] {
        for place in places {
            if let Place::At(address) = place {
                all.push(Endpoint {
                    address: address.clone(),
                    transports,
                });
            }
        }
    }
    if addresses.is_empty() && (any_bare || all.is_empty()) {
        let address = DEFAULT_ADDRESS.parse().map_err(Failure::usage)?;
        all.push(Endpoint {
            address,
            transports: if any_bare { bare } else { Transports::BOTH },
        });
    }
    Ok(all)
}

/// Refuses UDP on numeric addresses that are not loopback: it needs no resolver, so it is found
/// before one is asked.
///
/// # Errors
/// Exit code 2, with what to use instead.
pub(crate) fn refuse_public_udp(endpoints: &[Endpoint]) -> Result<(), Failure> {
    for Endpoint {
        address,
        transports,
    } in endpoints
    {
        if let Some(numeric) = address.numeric()
            && transports.udp
            && !is_loopback(numeric.ip())
        {
            return Err(public_udp(address, numeric));
        }
    }
    Ok(())
}

/// Resolves all endpoints: every address of a name, each one once, however often it came up (but
/// for port 0, where each time is another socket).
///
/// # Errors
/// Exit code 1: a name does not resolve. Exit code 2: a name for UDP resolves to an address that is
/// not loopback, without `allow_public_udp`.
pub(crate) fn resolve(
    endpoints: &[Endpoint],
    allow_public_udp: bool,
) -> Result<Vec<Binding>, Failure> {
    let mut bindings: Vec<Binding> = Vec::new();
    for Endpoint {
        address: typed,
        transports,
    } in endpoints
    {
        let addresses = typed.resolve()?;
        for &address in &addresses {
            if transports.udp && !allow_public_udp && !is_loopback(address.ip()) {
                return Err(public_udp(typed, address));
            }
            let one_of_several = addresses.len() > 1;
            match bindings
                .iter_mut()
                .find(|known| known.address == address && address.port() != 0)
            {
                Some(known) => {
                    known.transports.tcp |= transports.tcp;
                    known.transports.udp |= transports.udp;
                    known.one_of_several &= one_of_several;
                }
                None => bindings.push(Binding {
                    address,
                    transports: *transports,
                    one_of_several,
                }),
            }
        }
    }
    Ok(bindings)
}

/// Whether only this machine can reach `ip`; an IPv4 address in IPv6 clothes counts as what it is.
pub(crate) fn is_loopback(ip: IpAddr) -> bool {
    ip.to_canonical().is_loopback()
}

/// Refuses UDP sockets that were handed over, each with its name, where other machines reach them.
///
/// # Errors
/// Exit code 2, with what to use instead.
pub(crate) fn refuse_public_udp_handed(udp: &[(&String, SocketAddr)]) -> Result<(), Failure> {
    match udp.iter().find(|(_, address)| !is_loopback(address.ip())) {
        Some((name, address)) => Err(abused(&format!("{name}, which is {address},"))
            .hint("hand TCP alone over, or allow UDP there with `--allow-public-udp`")),
        None => Ok(()),
    }
}

/// The refusal to echo datagrams to the world.
fn public_udp(typed: &HostPort, address: SocketAddr) -> Failure {
    let meaning = if typed.numeric().is_some() {
        String::new()
    } else {
        format!(", which is {address},")
    };
    abused(&format!("{typed}{meaning}")).hint(format!(
        "serve TCP alone with `--tcp {typed}`, or allow UDP there with `--allow-public-udp`"
    ))
}

fn abused(place: &str) -> Failure {
    Failure::usage(format!(
        "UDP on {place} is open to other machines, and echo over UDP can be abused: a datagram \
         with a forged sender makes it send to a victim (reflection), or answer another such \
         server without end (a loop)"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::values::address::BARE;

    /// `oread serve addresses...` with options as in `--tcp ADDR`, in words: "127.0.0.1:1 tcp+udp".
    fn meaning(addresses: &[&str], tcp: &[&str], udp: &[&str]) -> Vec<String> {
        let addresses: Vec<HostPort> = addresses.iter().map(|text| text.parse().unwrap()).collect();
        let places = |texts: &[&str]| {
            texts
                .iter()
                .map(|text| text.parse().unwrap())
                .collect::<Vec<Place>>()
        };
        let in_words = |Endpoint {
                            address,
                            transports,
                        }| match transports {
            Transports::BOTH => format!("{address} tcp+udp"),
            Transports::TCP => format!("{address} tcp"),
            _ => format!("{address} udp"),
        };
        endpoints(&addresses, &places(tcp), &places(udp))
            .unwrap()
            .into_iter()
            .map(in_words)
            .collect()
    }

    const A: &str = "127.0.0.1:1";
    const B: &str = "127.0.0.1:2";

    #[test]
    fn the_default_address_is_there_only_when_none_is_given() {
        assert_eq!(meaning(&[], &[], &[]), ["127.0.0.1:9999 tcp+udp"]);
        assert_eq!(meaning(&[A], &[], &[]), ["127.0.0.1:1 tcp+udp"]);
        assert_eq!(meaning(&[], &[A], &[]), ["127.0.0.1:1 tcp"]);
        assert_eq!(
            meaning(&[], &[], &[A, B]),
            ["127.0.0.1:1 udp", "127.0.0.1:2 udp"]
        );
    }

    #[test]
    fn an_option_with_an_address_adds_to_the_others() {
        assert_eq!(
            meaning(&[A], &[B], &[]),
            ["127.0.0.1:1 tcp+udp", "127.0.0.1:2 tcp"]
        );
    }

    #[test]
    fn a_bare_option_says_which_transport_the_addresses_are_for() {
        assert_eq!(meaning(&[], &[BARE], &[]), ["127.0.0.1:9999 tcp"]);
        assert_eq!(meaning(&[], &[BARE], &[BARE]), ["127.0.0.1:9999 tcp+udp"]);
        assert_eq!(meaning(&[A], &[BARE], &[]), ["127.0.0.1:1 tcp"]);
        assert_eq!(
            meaning(&[A], &[], &[BARE, B]),
            ["127.0.0.1:1 udp", "127.0.0.1:2 udp"]
        );
        assert_eq!(
            meaning(&[], &[A], &[BARE]),
            ["127.0.0.1:1 tcp", "127.0.0.1:9999 udp"]
        );
    }

    #[test]
    fn an_address_that_comes_twice_is_bound_once_but_port_0_each_time() {
        let endpoint = |text: &str, transports| Endpoint {
            address: text.parse().unwrap(),
            transports,
        };
        let bindings = resolve(
            &[
                endpoint(A, Transports::TCP),
                endpoint(A, Transports::UDP),
                endpoint("127.0.0.1:0", Transports::TCP),
                endpoint("127.0.0.1:0", Transports::TCP),
            ],
            false,
        )
        .unwrap();
        assert_eq!(bindings.len(), 3, "{bindings:?}");
        assert_eq!(bindings[0].transports, Transports::BOTH);
    }

    #[test]
    fn udp_for_other_machines_is_refused_without_the_flag_and_tcp_is_not() {
        for text in ["0.0.0.0:0", "[::]:0", "192.0.2.1:7", "[::ffff:192.0.2.1]:7"] {
            let of = |transports| {
                [Endpoint {
                    address: text.parse().unwrap(),
                    transports,
                }]
            };
            for transports in [Transports::UDP, Transports::BOTH] {
                let failure = refuse_public_udp(&of(transports)).unwrap_err();
                assert_eq!(failure.code(), 2);
                assert!(
                    failure.to_string().contains(&format!("--tcp {text}")),
                    "{failure}"
                );
                assert_eq!(resolve(&of(transports), false), Err(failure));
                assert!(resolve(&of(transports), true).is_ok());
            }
            assert_eq!(refuse_public_udp(&of(Transports::TCP)), Ok(()));
        }
        for text in ["127.0.0.2:0", "[::1]:0", "[::ffff:127.0.0.1]:7"] {
            let endpoint = Endpoint {
                address: text.parse().unwrap(),
                transports: Transports::BOTH,
            };
            assert_eq!(refuse_public_udp(&[endpoint]), Ok(()), "{text}");
        }
    }
}
