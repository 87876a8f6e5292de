//! Targets as typed against the addresses that they are made of. `tests/common/fuzz.rs` tells how
//! to have more inputs, and how to replay one.

use super::*;
use crate::fuzz::fuzz;
use crate::values::address::fuzz::{any_address, assert_helps, plain_address};

#[test]
fn a_target_is_an_address_behind_its_scheme_if_any_and_never_port_0() {
    let mut text = String::new();
    fuzz(8000, |dice| {
        text.clear();
        if dice.once_in(2) {
            text.push_str(dice.pick(&["tcp://", "udp://"]));
        }
        any_address(dice, &mut text);
        let tcp = text.strip_prefix("tcp://").or(text.strip_prefix("TCP://"));
        let (transport, address) = match (tcp, text.strip_prefix("udp://")) {
            (Some(address), _) => (Transport::Tcp, address),
            (_, Some(address)) => (Transport::Udp, address),
            _ => (Transport::Tcp, &text[..]),
        };
        let plain = plain_address(address.trim_end_matches('/'))
            .filter(|address| address.port() != 0)
            .map(|address| Target {
                transport,
                address: Remote::Inet(address),
            });
        let read = text.parse::<Target>();
        assert_eq!(read.as_ref().ok(), plain.as_ref(), "{text:?}: {read:?}");
        match read {
            Ok(target) => assert_eq!(target.to_string().parse(), Ok(target)),
            Err(said) => assert_helps(&said, |text| {
                // The schemes are proposed too, without an address.
                text.ends_with("://") || text.parse::<Target>().is_ok()
            }),
        }
        plain.is_some()
    });
}
