//! What all links of one reactor share: the gather buffer, the pool, the limits, the counters, and
//! the budgets of a turn.

use crate::buffer::{Buffers, Gather, Pool};
use crate::limits::Limits;
use crate::stats::Stats;

/// What counts as small, in bytes: what one read brings at most once the turn's bytes are spent, and what every link may
/// keep however short memory is. Most requests fit into it, and a thousand peers that send all they can hold nobody
/// up for long.
pub(crate) const SMALL: usize = 4 << 10;

/// What all links of one reactor share.
#[derive(Debug)]
pub(crate) struct Shared {
    /// What the current callback has written to its own connection, and what has not gone out yet. Invariant: empty
    /// whenever no callback runs.
    pub(super) gathered: Gather,
    /// Whether the current callback has sent something before its end. The first time is free.
    pub(super) sent: bool,
    pub(super) pool: Pool,
    pub(crate) limits: Limits,
    pub(crate) stats: Stats,
    /// Which turn it is, modulo 2^16: a link whose number is another one has its budget whole.
    turn: u16,
    /// Bytes that large reads and writes may still move before every link is cut short.
    turn_left: usize,
    /// What one read may bring now.
    read_limit: usize,
}

impl Shared {
    pub(crate) fn new(limits: Limits) -> Shared {
        let mut shared = Shared {
            gathered: Gather::new(limits.gather),
            sent: false,
            pool: Pool::new(limits.pooled),
            limits,
            stats: Stats::default(),
            turn: 0,
            turn_left: 0,
            read_limit: 0,
        };
        shared.begin_turn();
        shared
    }

    /// A callback begins.
    #[inline(always)]
    pub(crate) fn begin_callback(&mut self) {
        self.sent = false;
    }

    /// A turn begins: every link has its budget whole, and so has the turn.
    pub(crate) fn begin_turn(&mut self) {
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

    /// Counts what a large read or write has moved towards the turn's bytes. Those that are [`SMALL`] are not counted: a
    /// turn's events bound them.
    #[cold]
    #[inline(never)]
    pub(super) fn spend(&mut self, count: usize) {
        self.turn_left = self.turn_left.saturating_sub(count);
        if self.turn_left == 0 {
            self.set_read_limit();
        }
    }

    pub(super) fn turn(&self) -> u16 {
        self.turn
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

    /// What one read may bring now, in bytes: at least 1.
    #[inline]
    pub(super) fn read_limit(&self) -> usize {
        self.read_limit
    }

    fn set_read_limit(&mut self) {
        let limits = &self.limits;
        let mut most = limits.read_buffer.min(limits.max_input);
        if self.is_turn_spent() {
            most = most.min(SMALL);
        }
        self.read_limit = most.min(self.room().max(SMALL));
    }

    /// Bytes of memory that all links together may still take: a link that keeps as much as this, and more than is
    /// [`SMALL`], is not read, and may keep no more output.
    ///
    /// So whoever keeps much is stopped first, by as much as all keep alike, and there is always
    /// some room for who keeps little: with n links that want more than there is, each gets an
    /// (n + 1)th. It is how switches share a memory among their ports (Choudhury and Hahne, "Dynamic
    /// queue length thresholds", 1998, with alpha = 1).
    pub(crate) fn room(&self) -> usize {
        let held = usize::try_from(self.stats.held).unwrap_or(usize::MAX);
        self.limits.max_pending.saturating_sub(held)
    }

    /// Buffers for a link that has something to keep.
    pub(super) fn take_buffers(&mut self) -> Box<Buffers> {
        let mut buffers = self.pool.take();
        self.count(&mut buffers);
        buffers
    }

    /// Takes back the buffers of a link that keeps nothing more.
    pub(super) fn give_back(&mut self, mut buffers: Box<Buffers>) {
        self.stats.held -= buffers.counted as u64;
        buffers.counted = 0;
        self.pool.give_back(buffers);
        self.set_read_limit();
    }

    /// Counts the memory that a link's buffers have taken or given since the last time.
    pub(super) fn count(&mut self, buffers: &mut Buffers) {
        let memory = buffers.memory();
        self.stats.held -= buffers.counted as u64;
        self.stats.held += memory as u64;
        buffers.counted = memory;
        self.set_read_limit();
    }

    /// The counters, right also in the middle of a callback: what is gathered is pending.
    pub(crate) fn stats(&self) -> Stats {
        let mut stats = self.stats;
        stats.pending += self.gathered.len() as u64;
        stats
    }
}
