//! Values as people type and read them.
//!
//! | file | what it is |
//! |---|---|
//! | `values/units` | sizes, counts, rates and durations |
//! | `values/address` | `host:port`, Unix sockets, and the default address |
//! | `values/target` | a transport and an address, as a URL has them |
//! | `values/source` | a local address, or a network of them |
//! | `values/escapes` | bytes that can't be typed |
//! | `values/framing` | the help of `--framing`, and the longest frame that goes with a framing |
//! | `values/verbosity` | how much is said |

pub(crate) mod address;
pub(crate) mod escapes;
pub(crate) mod framing;
pub(crate) mod source;
pub(crate) mod target;
pub(crate) mod units;
pub(crate) mod verbosity;
