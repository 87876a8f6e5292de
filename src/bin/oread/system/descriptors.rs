//! The limit of file descriptors: each connection takes one, so it is the limit of connections too.

use std::num::NonZeroU32;

use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit, rlim_t, setrlimit};

use crate::failure::{Failure, Reason};
use crate::values::units::Count;

/// macOS refuses a soft limit over `OPEN_MAX` even where the hard one says "unlimited"
/// (setrlimit(2) there, "COMPATIBILITY").
const OPEN_MAX: u64 = 10_240;

/// The limit that is none.
#[allow(clippy::unnecessary_cast)] // As in `limits`.
pub(crate) const UNLIMITED: u64 = RLIM_INFINITY as u64;

/// Standard input, output and error; the two ends of the signals' pipe; and eleven to spare, for
/// what the system's resolver and libraries open and for what was inherited.
const RESERVE_PROGRAM: u64 = 16;
/// A reactor's poll, its waker, and two to spare.
const RESERVE_THREAD: u64 = 4;

/// The soft and the hard limit of file descriptors of this process.
///
/// # Errors
/// As the system gives them.
#[allow(clippy::unnecessary_cast)] // A limit is signed on FreeBSD, though none is negative.
pub(crate) fn limits() -> nix::Result<(u64, u64)> {
    getrlimit(Resource::RLIMIT_NOFILE).map(|(soft, hard)| (soft as u64, hard as u64))
}

/// Raises the soft limit; whether the system let it.
fn set_soft_limit(soft: u64, hard: u64) -> bool {
    setrlimit(Resource::RLIMIT_NOFILE, soft as rlim_t, hard as rlim_t).is_ok()
}

/// The limit of file descriptors of this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Descriptors {
    /// How many there may be, now.
    pub(crate) limit: u64,
    /// How many there might have been before it was raised.
    pub(crate) before: u64,
}

impl Descriptors {
    /// Raises the soft limit to the hard one, as far as the system lets it; it asks for no
    /// privilege.
    ///
    /// # Errors
    /// Exit code 1: the limit can't be read.
    pub(crate) fn raise() -> Result<Descriptors, Failure> {
        let read = || {
            limits().map_err(|errno| {
                let reason = Reason(&errno.into()).to_string();
                Failure::runtime(format!(
                    "can't read the limit of file descriptors: {reason}"
                ))
            })
        };
        let (before, hard) = read()?;
        // A limit that can't be raised is no failure: fewer connections are served, and how many is
        // said.
        for wanted in [hard, OPEN_MAX.min(hard)] {
            if wanted > before && set_soft_limit(wanted, hard) {
                break;
            }
        }
        Ok(Descriptors {
            limit: read()?.0,
            before,
        })
    }

    /// How many connections the limit allows, over all threads: what is left when `threads`
    /// reactors with `sockets` listeners and UDP sockets each, `others`, and a reserve for the
    /// program, have theirs.
    ///
    /// # Errors
    /// Exit code 1: not even one.
    pub(crate) fn connections(
        self,
        threads: NonZeroU32,
        sockets: usize,
        others: usize,
    ) -> Result<NonZeroU32, Failure> {
        let reserve = reserve(threads, sockets, others);
        let free = if self.limit == UNLIMITED {
            u64::MAX
        } else {
            self.limit.saturating_sub(reserve)
        };
        NonZeroU32::new(u32::try_from(free).unwrap_or(u32::MAX)).ok_or_else(|| {
            Failure::runtime(format!(
                "the limit of {} file descriptors leaves none for connections: the program itself \
                 needs {}",
                Count(self.limit),
                Count(reserve)
            ))
            .hint(format!(
                "raise the limit, as in `ulimit -n {}`",
                reserve + 1000
            ))
        })
    }
}

/// How many descriptors are not for connections.
pub(crate) fn reserve(threads: NonZeroU32, sockets: usize, others: usize) -> u64 {
    RESERVE_PROGRAM + others as u64 + u64::from(threads.get()) * (RESERVE_THREAD + sockets as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: NonZeroU32 = NonZeroU32::MIN;

    #[test]
    fn the_soft_limit_is_raised_to_the_hard_one() {
        let hard = limits().unwrap().1;
        let raised = Descriptors::raise().unwrap();
        assert_eq!(limits().unwrap(), (raised.limit, hard));
        if cfg!(target_os = "linux") {
            assert_eq!(raised.limit, hard);
        }
        assert!(raised.before <= raised.limit);
    }

    #[test]
    fn connections_are_what_is_left_of_the_limit() {
        let of = |limit| Descriptors {
            limit,
            before: limit,
        };
        assert_eq!(
            of(1024)
                .connections(ONE, 2, 0)
                .map(NonZeroU32::get)
                .unwrap(),
            1024 - 16 - 4 - 2
        );
        let four = NonZeroU32::new(4).unwrap();
        assert_eq!(
            of(1024)
                .connections(four, 2, 9)
                .map(NonZeroU32::get)
                .unwrap(),
            1024 - 16 - 4 * 6 - 9
        );
        assert_eq!(
            of(UNLIMITED)
                .connections(ONE, 1, 0)
                .map(NonZeroU32::get)
                .unwrap(),
            u32::MAX
        );
    }

    #[test]
    fn a_limit_that_leaves_no_connection_is_a_failure_with_a_number_to_raise_it_to() {
        let failure = Descriptors {
            limit: 22,
            before: 22,
        }
        .connections(ONE, 2, 0)
        .unwrap_err();
        assert_eq!(failure.code(), 1);
        assert!(failure.to_string().contains("ulimit -n 1022"), "{failure}");
        assert!(
            Descriptors {
                limit: 23,
                before: 23
            }
            .connections(ONE, 2, 0)
            .is_ok()
        );
    }
}
