//! What an event says of a source.

use std::fmt;
use std::ops::{BitOr, BitOrAssign};

/// What an event says a source is ready for: a set of flags.
///
/// Events lie: a flag is a hint that an operation may get somewhere, and the operation itself says
/// whether it does.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Readiness(u8);

impl Readiness {
    /// Nothing.
    pub const EMPTY: Readiness = Readiness(0);
    /// A read may give bytes.
    pub const READABLE: Readiness = Readiness(1);
    /// A write may take bytes.
    pub const WRITABLE: Readiness = Readiness(1 << 1);
    /// The peer has finished sending: a half-close, not a close. There may still be bytes to read
    /// before it.
    pub const READ_CLOSED: Readiness = Readiness(1 << 2);
    /// Nothing written will arrive any more.
    pub const WRITE_CLOSED: Readiness = Readiness(1 << 3);
    /// The source has an error stored.
    pub const ERROR: Readiness = Readiness(1 << 4);
    /// TCP urgent data is there, or may be where no event tells of it (kqueue): a short read then
    /// shows nothing.
    pub const PRIORITY: Readiness = Readiness(1 << 5);
    /// A short read never shows anything on this stream, a Unix socket: it stops behind descriptors
    /// that came along (`SCM_RIGHTS`), whether or not they are wanted, and no edge comes for what
    /// follows. No event says it, and it stays.
    pub(crate) const PIECES: Readiness = Readiness(1 << 6);

    /// Whether every flag of `other` is set.
    #[must_use]
    #[inline]
    pub const fn contains(self, other: Readiness) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether any flag of `other` is set.
    #[must_use]
    #[inline]
    pub const fn intersects(self, other: Readiness) -> bool {
        self.0 & other.0 != 0
    }

    /// These flags and those of `other`.
    #[must_use]
    #[inline]
    pub const fn union(self, other: Readiness) -> Readiness {
        Readiness(self.0 | other.0)
    }

    /// These flags without those of `other`.
    #[must_use]
    #[inline]
    pub const fn without(self, other: Readiness) -> Readiness {
        Readiness(self.0 & !other.0)
    }
}

impl BitOr for Readiness {
    type Output = Readiness;

    #[inline]
    fn bitor(self, other: Readiness) -> Readiness {
        self.union(other)
    }
}

impl BitOrAssign for Readiness {
    #[inline]
    fn bitor_assign(&mut self, other: Readiness) {
        *self = self.union(other);
    }
}

impl fmt::Debug for Readiness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = [
            (Readiness::READABLE, "READABLE"),
            (Readiness::WRITABLE, "WRITABLE"),
            (Readiness::READ_CLOSED, "READ_CLOSED"),
            (Readiness::WRITE_CLOSED, "WRITE_CLOSED"),
            (Readiness::ERROR, "ERROR"),
            (Readiness::PRIORITY, "PRIORITY"),
        ];
        let mut set = f.debug_set();
        for (flag, name) in names {
            if self.contains(flag) {
                set.entry(&format_args!("{name}"));
            }
        }
        set.finish()
    }
}
