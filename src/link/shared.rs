//! What all links of one reactor share: the gather buffer, the pool, the limits, the counters, and
//! the budgets of a turn.

use std::io;

use crate::buffer::{Gather, Kept, Pool};
use crate::limits::{ConnectionLimits, Limits};
use crate::memory::{Memory, SMALL};
use crate::stats::Stats;
use crate::token::Key;

/// What all links of one reactor share.
#[derive(Debug)]
pub(crate) struct Shared {
    /// What the current callback has written to its own connection, and what has not gone out yet.
    /// Invariant: empty whenever no callback runs.
    pub(super) gathered: Gather,
    /// Whether the current callback has sent something before its end. The first time is free.
    pub(super) sent: bool,
    /// While the parts of one write come: whether it was held against the bounds of pending output.
    /// It is once, for nobody could stop between two of them.
    pub(crate) judged: Option<bool>,
    pub(super) pool: Pool,
    /// What all links keep.
    pub(crate) memory: Memory,
    pub(crate) limits: Limits,
    /// The limits of connections, each once: those of the reactor, and of whoever has its own.
    pub(super) classes: Vec<ConnectionLimits>,
    pub(crate) stats: Stats,
    /// Whether somebody looks at what links do: asked once a turn, for nobody looks as a rule.
    pub(crate) traced: bool,
    /// While somebody does: the link that is driven, whose callbacks run; and the one that reads or
    /// writes now, which may be another.
    pub(crate) driven: Key,
    pub(crate) acting: Key,
    /// Which turn it is, modulo 2^16: a link whose number is another one has its budget whole.
    pub(super) turn: u16,
    /// Bytes that large reads and writes may still move before every link is cut short.
    turn_left: usize,
    /// What one read may bring now, in bytes: at least 1.
    pub(super) read_limit: usize,
}

/// The most different limits that there may be: a class is one byte of its connection.
const MOST_CLASSES: usize = 256;

/// Tells whoever looks what happens: one check where nobody does.
macro_rules! trace {
    ($shared:expr, $($what:tt)*) => {
        if $shared.traced {
            log::trace!("  {}", format_args!($($what)*));
        }
    };
}
pub(crate) use trace;

impl Shared {
    pub(crate) fn new(limits: Limits) -> Shared {
        let mut shared = Shared {
            gathered: Gather::new(limits.gather),
            sent: false,
            judged: None,
            pool: Pool::new(limits.pooled),
            memory: Memory::new(limits.max_pending),
            classes: vec![limits.of_connection()],
            limits,
            stats: Stats::default(),
            traced: false,
            driven: Key::default(),
            acting: Key::default(),
            turn: 0,
            turn_left: 0,
            read_limit: 0,
        };
        shared.begin_turn();
        shared
    }

    /// The class of connections with these limits. When there are as many as there may be, it takes
    /// the place of one that is not among those in use.
    ///
    /// # Errors
    /// `QuotaExceeded` when there is none.
    pub(crate) fn class_of(
        &mut self,
        limits: ConnectionLimits,
        in_use: impl Iterator<Item = u8>,
    ) -> io::Result<u8> {
        let limits = limits.sound(self.limits.gather);
        let known = self.classes.iter().position(|class| *class == limits);
        let mut place = known.unwrap_or(self.classes.len());
        if place == MOST_CLASSES {
            let mut used = [false; MOST_CLASSES];
            // Whoever has no limits of its own has the first ones.
            used[0] = true;
            in_use.for_each(|class| used[usize::from(class)] = true);
            let free = used.iter().position(|used| !used);
            let why = "connections and listeners have 256 different limits already";
            place = free.ok_or_else(|| io::Error::new(io::ErrorKind::QuotaExceeded, why))?;
            self.classes[place] = limits;
        } else if known.is_none() {
            self.classes.push(limits);
        }
        Ok(place as u8)
    }

    /// A callback begins.
    #[inline(always)]
    pub(crate) fn begin_callback(&mut self) {
        self.sent = false;
    }

    /// Whether the running callback has written what has not gone out.
    pub(crate) fn has_gathered(&self) -> bool {
        !self.gathered.is_empty()
    }

    /// A turn begins: every link has its budget whole, and so has the turn.
    pub(crate) fn begin_turn(&mut self) {
        // A panic in the middle of a write may have been caught.
        self.judged = None;
        self.traced = log::log_enabled!(log::Level::Trace);
        self.turn = self.turn.wrapping_add(1);
        self.refill();
    }

    /// Makes the turn's bytes whole again, for those who waited longer than this turn.
    pub(crate) fn refill(&mut self) {
        self.turn_left = self.limits.turn_bytes;
        self.set_read_limit();
    }

    /// Whether the turn has moved as many bytes as it may.
    pub(crate) fn is_turn_spent(&self) -> bool {
        self.turn_left == 0
    }

    /// Counts what a large read or write has moved towards the turn's bytes. Those that are
    /// [`SMALL`] are not counted: a turn's events bound them.
    #[cold]
    #[inline(never)]
    pub(super) fn spend(&mut self, count: usize) {
        self.turn_left = self.turn_left.saturating_sub(count);
        if self.turn_left == 0 {
            self.set_read_limit();
        }
    }

    /// Read and write calls that one link has in this turn: a read and its answer, once the turn's
    /// bytes are spent.
    pub(super) fn io_budget(&self) -> u16 {
        let most = u16::try_from(self.limits.io_budget).unwrap_or(u16::MAX);
        if self.is_turn_spent() {
            most.min(2)
        } else {
            most
        }
    }

    fn set_read_limit(&mut self) {
        let limits = &self.limits;
        let mut most = limits.read_buffer.min(limits.max_input);
        if self.is_turn_spent() {
            most = most.min(SMALL);
        }
        self.read_limit = most.min(self.memory.room().max(SMALL));
    }

    /// Counts what a link keeps, which kept `before`.
    pub(super) fn count(&mut self, before: Kept, now: Kept) {
        let stats = &mut self.stats;
        stats.unconsumed = stats.unconsumed - before.input as u64 + now.input as u64;
        stats.pending = stats.pending - before.output as u64 + now.output as u64;
        self.memory.count(before.memory, now.memory);
        self.set_read_limit();
    }

    /// The counters, right also in the middle of a callback: what is gathered is pending.
    pub(crate) fn stats(&self) -> Stats {
        let mut stats = self.stats;
        stats.pending += self.gathered.len() as u64;
        stats.held = self.memory.held() as u64;
        stats
    }
}
