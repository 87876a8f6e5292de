//! The programs of `docs/EMBEDDING.md`, each with its test; the page quotes them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "embedding/activated.rs"]
mod activated;
#[path = "embedding/both.rs"]
mod both;
#[path = "embedding/client.rs"]
mod client;
#[path = "embedding/count.rs"]
mod count;
#[path = "embedding/forwarder.rs"]
mod forwarder;
#[cfg(not(mio_unsupported_force_poll_poll))]
#[path = "embedding/inside.rs"]
mod inside;
#[path = "embedding/jobs.rs"]
mod jobs;
#[path = "embedding/later.rs"]
mod later;
#[path = "embedding/later_datagrams.rs"]
mod later_datagrams;
#[path = "embedding/lengths.rs"]
mod lengths;
#[path = "embedding/meter.rs"]
mod meter;
#[path = "embedding/peers.rs"]
mod peers;
#[path = "embedding/polite.rs"]
mod polite;
#[path = "embedding/private.rs"]
mod private;
#[path = "embedding/proxy.rs"]
mod proxy;
#[path = "embedding/room.rs"]
mod room;
#[cfg(feature = "sim")]
#[path = "embedding/sim_client.rs"]
mod sim_client;
#[path = "embedding/tickets.rs"]
mod tickets;
