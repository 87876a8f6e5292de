//! A listener: its budget, and its pauses.
//!
//! An edge-triggered listener doesn't spin when the system is out of descriptors, it *stalls*: the
//! callers wait in the backlog, and no event comes when a descriptor is free again. So a listener
//! that can't accept is paused here, and tried again when a connection closes and when its timer
//! fires, at growing intervals.

use std::io;
use std::time::Duration;

use crate::address::Address;
use crate::clock::Backoff;
use crate::nonblocking;
use crate::stats::Stats;

/// Why a listener is not asked for callers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    /// It's asked whenever `readable` is set.
    #[default]
    Going,
    /// As many connections as allowed are open: until one closes.
    Full,
    /// The system has no descriptor or memory: until a connection closes or the timer fires.
    Starved,
    /// The handler wants no callers, until it says so.
    Paused,
}

/// What [`Acceptor::next`] came to.
#[derive(Debug)]
pub(crate) enum Accepted<T> {
    /// A caller.
    Caller(T, Address),
    /// The budget is spent; come again next turn.
    Yield,
    /// Nobody is there, or it's paused; an event will tell, or [`Acceptor::resume`] end that.
    Wait,
    /// There is no room for another connection, and it pauses: call [`Acceptor::resume`] when one
    /// closes.
    Full,
    /// Accepting failed with this error: call [`Acceptor::resume`] after so long, or when a
    /// connection closes.
    Starved(Duration, io::Error),
}

/// The state of one listener.
#[derive(Debug, Default)]
pub(crate) struct Acceptor {
    state: State,
    /// Whether callers may be waiting. Set by an event, cleared by "not now".
    readable: bool,
    /// How long the next pause for want of descriptors lasts.
    wait: Backoff,
}

impl Acceptor {
    /// Notes an event.
    pub(crate) fn ready(&mut self) {
        self.readable = true;
    }

    /// Ends a pause that was for want of room or descriptors; whether there was one.
    pub(crate) fn resume(&mut self) -> bool {
        let paused = matches!(self.state, State::Full | State::Starved);
        if paused {
            self.state = State::Going;
        }
        paused
    }

    /// Has it take no callers, or take them again: they wait in the backlog meanwhile.
    pub(crate) fn pause(&mut self, on: bool) {
        if on {
            self.state = State::Paused;
        } else if self.state == State::Paused {
            self.state = State::Going;
        }
    }

    /// Ends a pause of any kind, and has it look whether somebody waits.
    pub(crate) fn reopen(&mut self) {
        self.state = State::Going;
        self.readable = true;
    }

    /// Whether nobody waits, as far as was asked.
    pub(crate) fn has_emptied(&self) -> bool {
        self.state == State::Going && !self.readable
    }

    /// Takes the next caller by `accept`, if there's room for one. Errors that concern only the
    /// caller, who was gone before we came, are counted and passed over, each at the cost of the
    /// budget.
    pub(crate) fn next<T>(
        &mut self,
        budget: &mut u32,
        has_room: bool,
        stats: &mut Stats,
        mut accept: impl FnMut() -> io::Result<(T, Address)>,
    ) -> Accepted<T> {
        while self.state == State::Going && self.readable {
            if *budget == 0 {
                return Accepted::Yield;
            }
            if !has_room {
                self.state = State::Full;
                return Accepted::Full;
            }
            *budget -= 1;
            match accept() {
                Ok((stream, peer)) => {
                    self.wait = Backoff::default();
                    return Accepted::Caller(stream, peer);
                }
                Err(error) if nonblocking::is_blocked(&error) => self.readable = false,
                Err(error) if nonblocking::is_interrupted(&error) => {}
                Err(error) if is_callers(&error) => stats.accept_aborted += 1,
                Err(error) => {
                    self.state = State::Starved;
                    return Accepted::Starved(self.wait.next(), error);
                }
            }
        }
        Accepted::Wait
    }
}

/// Whether an error of `accept` concerns only the connection that was to be accepted. Linux passes
/// on here whatever network error is already pending on the new socket; accept(2) lists them and
/// says to go on. Anything else (no descriptors, no memory, or something unheard of) would only
/// come again at once, so it pauses the listener.
fn is_callers(error: &io::Error) -> bool {
    use nix::errno::Errno;
    match error.raw_os_error().map(Errno::from_raw) {
        #[cfg(any(target_os = "linux", target_os = "android"))]
        Some(Errno::ENONET) => true,
        Some(
            Errno::ECONNABORTED
            | Errno::ECONNRESET
            | Errno::EPROTO
            | Errno::EPERM
            | Errno::ENETDOWN
            | Errno::ENETUNREACH
            | Errno::ENOPROTOOPT
            | Errno::EHOSTDOWN
            | Errno::EHOSTUNREACH
            | Errno::EOPNOTSUPP
            | Errno::ETIMEDOUT,
        ) => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::net::Ipv4Addr;

    use nix::errno::Errno;

    use super::*;

    /// An acceptor whose listener answers from a list, and then with "not now".
    struct Scripted {
        acceptor: Acceptor,
        script: VecDeque<Option<Errno>>,
    }

    impl Scripted {
        fn next(&mut self, budget: &mut u32, has_room: bool, stats: &mut Stats) -> Accepted<()> {
            let accept = || match self.script.pop_front() {
                Some(None) => Ok(((), (Ipv4Addr::LOCALHOST, 1).into())),
                Some(Some(errno)) => Err(errno.into()),
                None => Err(Errno::EAGAIN.into()),
            };
            self.acceptor.next(budget, has_room, stats, accept)
        }
    }

    fn scripted(script: impl IntoIterator<Item = Option<Errno>>) -> Scripted {
        let (mut acceptor, script) = (Acceptor::default(), script.into_iter().collect());
        acceptor.ready();
        Scripted { acceptor, script }
    }

    #[test]
    fn a_caller_who_is_gone_already_is_passed_over() {
        let gone = [
            Errno::ECONNABORTED,
            Errno::EPROTO,
            Errno::EINTR,
            Errno::ENETDOWN,
        ];
        let mut listener = scripted(gone.into_iter().map(Some).chain([None]));
        let (mut budget, mut stats) = (10, Stats::default());
        let next = listener.next(&mut budget, true, &mut stats);
        assert!(matches!(next, Accepted::Caller(..)), "{next:?}");
        assert_eq!((budget, stats.accept_aborted), (5, 3));
        assert!(matches!(
            listener.next(&mut budget, true, &mut stats),
            Accepted::Wait
        ));
    }

    #[test]
    fn a_flood_of_aborted_callers_costs_the_budget_and_no_more() {
        let mut listener = scripted(std::iter::repeat_n(Some(Errno::ECONNABORTED), 1000));
        let (mut budget, mut stats) = (64, Stats::default());
        assert!(matches!(
            listener.next(&mut budget, true, &mut stats),
            Accepted::Yield
        ));
        assert_eq!(stats.accept_aborted, 64);
    }

    #[test]
    fn without_descriptors_it_pauses_twice_as_long_each_time_up_to_a_second() {
        for errno in [Errno::EMFILE, Errno::ENFILE, Errno::ENOBUFS, Errno::ENOMEM] {
            let mut listener = scripted(std::iter::repeat_n(Some(errno), 9));
            let (mut budget, mut stats) = (100, Stats::default());
            let mut waits = Vec::new();
            for _ in 0..9 {
                match listener.next(&mut budget, true, &mut stats) {
                    Accepted::Starved(wait, _) => waits.push(wait.as_millis()),
                    other => panic!("{other:?}"),
                }
                // Paused: neither an event nor another try asks the system.
                listener.acceptor.ready();
                assert!(matches!(
                    listener.next(&mut budget, true, &mut stats),
                    Accepted::Wait
                ));
                assert!(listener.acceptor.resume());
            }
            assert_eq!(waits, [10, 20, 40, 80, 160, 320, 640, 1000, 1000]);
        }
    }

    #[test]
    fn after_a_pause_the_waiting_callers_are_taken_without_a_new_event() {
        let mut listener = scripted([Some(Errno::EMFILE), None, None, Some(Errno::EMFILE)]);
        let (mut budget, mut stats) = (100, Stats::default());
        assert!(matches!(
            listener.next(&mut budget, true, &mut stats),
            Accepted::Starved(..)
        ));
        listener.acceptor.resume();
        for _ in 0..2 {
            let next = listener.next(&mut budget, true, &mut stats);
            assert!(matches!(next, Accepted::Caller(..)), "{next:?}");
        }
        // It went well in between: the next pause is a short one again.
        match listener.next(&mut budget, true, &mut stats) {
            Accepted::Starved(wait, _) => assert_eq!(wait.as_millis(), 10),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn at_the_limit_callers_stay_in_the_backlog() {
        let mut listener = scripted([None]);
        let (mut budget, mut stats) = (100, Stats::default());
        assert!(matches!(
            listener.next(&mut budget, false, &mut stats),
            Accepted::Full
        ));
        assert!(matches!(
            listener.next(&mut budget, true, &mut stats),
            Accepted::Wait
        ));
        assert_eq!(budget, 100);
        listener.acceptor.resume();
        assert!(matches!(
            listener.next(&mut budget, true, &mut stats),
            Accepted::Caller(..)
        ));
    }
}
