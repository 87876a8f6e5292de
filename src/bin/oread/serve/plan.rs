//! What each reactor of a server is given: limits and options, split over the threads.

use std::net::IpAddr;
use std::num::NonZeroU32;

use oread::{EchoOptions, Framing, Limits};

use crate::failure::Failure;
use crate::serve::check::Serve;
use crate::system::descriptors::Descriptors;
use crate::system::metrics::DESCRIPTORS;
use crate::values::units::Count;

/// How a server is laid out.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    /// Reactors, each in a thread of its own.
    pub(super) threads: NonZeroU32,
    /// Connections at a time, over all threads. At least one for each: a reactor that may have none
    /// would leave its callers waiting for good.
    pub(super) max_connections: NonZeroU32,
    /// What the limit of descriptors allows.
    pub(super) possible: NonZeroU32,
    /// How a stream is cut into frames.
    pub(super) framing: Framing,
}

impl Plan {
    /// The plan for a server with so many sockets a reactor.
    ///
    /// # Errors
    /// As [`Descriptors::connections`]; or there is not one connection for each thread.
    pub(super) fn new(
        serve: &Serve,
        descriptors: Descriptors,
        sockets: usize,
    ) -> Result<Plan, Failure> {
        let others = serve.metrics.as_ref().map_or(0, |_| DESCRIPTORS);
        let possible = descriptors.connections(serve.threads, sockets, others)?;
        let asked = serve.max_connections.unwrap_or(possible);
        if asked > possible {
            log::warn!(
                "--max-connections is {asked}, but the limit of file descriptors ({}) allows \
                 {possible}: those who come after that have to wait",
                descriptors.limit
            );
        }
        if possible < serve.threads {
            return Err(Failure::runtime(format!(
                "the limit of {} file descriptors leaves {possible} for connections, fewer than \
                 --threads {}",
                Count(descriptors.limit),
                serve.threads
            ))
            .hint("raise the limit with `ulimit -n`, or choose fewer threads"));
        }
        Ok(Plan {
            threads: serve.threads,
            max_connections: asked.min(possible),
            possible,
            framing: serve.framing,
        })
    }

    /// The limits of the reactor `index`.
    ///
    /// Connections and pending output are shared out evenly. The system shares callers out by a
    /// hash, not by load: one reactor may be full while another has room.
    pub(super) fn limits(&self, serve: &Serve, index: u32) -> Limits {
        let defaults = Limits::default();
        // A short frame is no reason to read less at a time.
        let needed = self.echo_options(serve).input_needed();
        let max_input = needed.max(defaults.read_buffer);
        let pending = usize::try_from(serve.max_pending.get()).unwrap_or(usize::MAX);
        let max_pending = (pending / self.threads.get() as usize).max(1);
        let high_water = (serve.high_water.get() as usize).min(max_pending);
        // What one callback may add to output that is just below the high-water mark: all the
        // frames of a full input buffer. It must never be taken for a peer that doesn't read.
        let burst = max_input.saturating_add(defaults.read_buffer);
        let mut limits = Limits {
            max_connections: share(self.max_connections.get(), self.threads.get(), index) as usize,
            max_input,
            high_water,
            low_water: high_water / 2,
            max_output: defaults.max_output.max(high_water.saturating_add(burst)),
            max_pending,
            // The other reactors' threads post one each, when they fail; and the first one, that
            // they are to leave, twice at most.
            mailbox: 1 + self.threads.get() as usize,
            ..defaults
        };
        serve.bounds.limit(&mut limits, self.threads);
        limits
    }

    /// How streams are to be echoed, and datagrams where no cap applies.
    pub(super) fn echo_options(&self, serve: &Serve) -> EchoOptions {
        EchoOptions {
            framing: self.framing,
            max_frame: serve.max_frame.get() as usize,
            udp_repeat_rate: None,
            ..EchoOptions::default()
        }
    }

    /// How datagrams on a socket bound to `ip` are to be echoed by one reactor; `None` where no cap
    /// applies. Which reactor a datagram comes to depends on its source's port as well, so the cap
    /// for a source address is shared out too: else it could have each reactor's. A socket that was
    /// handed over is one reactor's alone.
    pub(super) fn datagram_options(&self, serve: &Serve, ip: IpAddr) -> Option<EchoOptions> {
        let rates = serve.udp_rates(ip);
        let threads = if serve.handed { 1 } else { self.threads.get() };
        let share = |rate: NonZeroU32| (rate.get() / threads).max(1);
        let caps = [rates.all, rates.per_source, rates.repeats];
        caps.iter().any(Option::is_some).then(|| EchoOptions {
            udp_rate: rates.all.map(share),
            udp_rate_per_source: rates.per_source.map(share),
            udp_repeat_rate: rates.repeats.map(share),
            ..self.echo_options(serve)
        })
    }
}

/// The part of `all` that the reactor `index` of `threads` has.
fn share(all: u32, threads: u32, index: u32) -> u32 {
    all / threads + u32::from(index < all % threads)
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::commands::{Args, Command};

    #[test]
    fn a_short_maximum_of_frames_makes_no_short_reads() {
        let typed = "oread serve --framing lines --max-frame 16".split_whitespace();
        let Command::Serve(typed) = Args::try_parse_from(typed).unwrap().command else {
            panic!("not serve");
        };
        let serve = Serve::new(*typed, &[]).unwrap();
        let descriptors = Descriptors {
            limit: 1024,
            before: 1024,
        };
        let limits = Plan::new(&serve, descriptors, 2).unwrap().limits(&serve, 0);
        assert!(limits.max_input >= limits.read_buffer);
    }

    #[test]
    fn a_rate_is_shared_out_unless_the_socket_is_one_reactor_s_alone() {
        let typed = "oread serve --threads 4 --udp-rate 100".split_whitespace();
        let Command::Serve(typed) = Args::try_parse_from(typed).unwrap().command else {
            panic!("not serve");
        };
        let mut serve = Serve::new(*typed, &[]).unwrap();
        let descriptors = Descriptors {
            limit: 1024,
            before: 1024,
        };
        let plan = Plan::new(&serve, descriptors, 2).unwrap();
        for (handed, rate) in [(false, 25), (true, 100)] {
            serve.handed = handed;
            let options = plan.datagram_options(&serve, [127, 0, 0, 1].into());
            assert_eq!(options.unwrap().udp_rate, Some(rate));
        }
    }

    #[test]
    fn shares_add_up_and_differ_by_one_at_most() {
        for (all, threads) in [(10, 1), (10, 3), (11, 4), (4, 4)] {
            let shares: Vec<u32> = (0..threads)
                .map(|index| share(all, threads, index))
                .collect();
            assert_eq!(shares.iter().sum::<u32>(), all, "{shares:?}");
            assert!(shares[0] - shares[threads as usize - 1] <= 1, "{shares:?}");
        }
    }
}
