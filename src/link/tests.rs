//! The link, played through scripts: no sockets, no time.

mod driver;
mod ending;
mod pressure;
mod properties;
mod reading;
mod turns;
mod writing;

use super::script::{Read, Script, Write};
use super::{Phase, Pressure};
use crate::limits::Limits;
use driver::{Driver, Hands, Seen, answer};

/// Tests that must hold on both kinds of streams: where a short read or write shows that there is
/// no more for now, and where it shows nothing.
macro_rules! on_both {
    ($(fn $name:ident<$short:ident>() $body:block)*) => {$(
        #[test]
        fn $name() {
            fn case<const $short: bool>() $body
            case::<true>();
            case::<false>();
        }
    )*};
}
use on_both;

/// Bytes that arrive.
fn bytes(bytes: &[u8]) -> Read {
    Read::Bytes(bytes.to_vec())
}

/// A socket that takes nothing before there is room, then what `later` says, then everything.
fn full(later: impl IntoIterator<Item = Write>) -> Vec<Write> {
    std::iter::once(Write::Blocked).chain(later).collect()
}

/// The raw echo.
fn echo(hands: &mut Hands<'_>, data: &[u8]) -> usize {
    hands.write(data);
    data.len()
}
