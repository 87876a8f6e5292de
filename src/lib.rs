//! One thread that answers a million callers.
#![forbid(unsafe_code)]

mod escape;
mod framing;
mod net;
mod nonblocking;
mod options;
mod rate;
mod readiness;
mod timer;
