//! One connection's state machine, over any stream: it knows neither mio nor time.
//!
//! A [`Link`] is driven by [`Link::next`]: each call does what input and output is due and says in
//! a [`Step`] what the owner must do before the next call; the reactor does it by calling the
//! handler. So the order of everything that can happen on a connection stands in this one place,
//! and a test can play any script of reads and writes to it without a socket.
//!
//! The states:
//!
//! ```text
//!                 .------> Delivering --------.
//!                 |                           v
//! Connecting --> Open --> Closing --> Lingering --> Closed
//!                 |          '------------------------^
//!                 '-----------------------------------'
//! ```
//!
//! - *Connecting*: the handshake is under way. What is written waits.
//! - *Open*: reads are delivered, writes go out. Each direction ends for itself: `PEER_EOF` for
//!   theirs, `FIN_SENT` for ours; when both have, the link is closed, or waits for the peer's
//!   acknowledgement first.
//! - *Delivering*: both sides have finished, and the system still holds output that the peer has
//!   not acknowledged. A reset may yet show that it never will.
//! - *Closing*: we close, and the peer has not finished: pending output is flushed, and what comes
//!   is thrown away.
//! - *Lingering*: our FIN is out. What still arrives is thrown away, within bounds, until the
//!   peer's end: closing a socket with unread input would send a reset, and a reset destroys
//!   replies that the peer has not read yet.
//! - *Closed*: nothing moves any more. The owner drops the link.
//!
//! Reading is in `link/read.rs`, writing in `link/write.rs`, the ends of a connection are in
//! `link/close.rs`.

mod close;
mod flags;
mod read;
#[cfg(test)]
mod script;
mod shared;
#[cfg(test)]
mod tests;
mod write;

use crate::buffer::{Buffer, Buffers, UNTOLD};
use crate::error::CloseReason;
use crate::limits::ConnectionLimits;
use crate::nonblocking::Stream;
use crate::readiness::Readiness;
use crate::stats::Traffic;
use crate::token::Key;

pub(crate) use flags::Flags;
pub(crate) use shared::{Shared, trace};
pub use write::Pressure;

/// Where a link is in its life; the module's page has the picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    Connecting,
    Open,
    Delivering,
    Closing,
    Lingering,
    Closed,
}

/// Readiness that forbids to take a short read for an empty socket until a read has said "not now"
/// (pitfalls of edge-triggered polls: data and FIN in one event are one edge; urgent data stops a
/// read at the mark).
const STICKY: Readiness = Readiness::READ_CLOSED
    .union(Readiness::ERROR)
    .union(Readiness::PRIORITY);
const READ_SIDE: Readiness = STICKY.union(Readiness::READABLE);

/// One connection. See the module's page.
#[derive(Debug)]
pub(crate) struct Link<S> {
    pub(crate) stream: S,
    flags: Flags,
    /// Why it closes. Invariant: `Some` in the phases Closing, Lingering and Closed, and once a
    /// write has failed.
    reason: Option<CloseReason>,
    /// While it lingers: bytes that may still be thrown away. Before that: the system's memory
    /// behind unacknowledged output when it was last asked for ([`Link::has_progressed`]), 0 if
    /// that was before output last moved.
    count: u32,
    /// The turn that `spent` is about.
    turn: u16,
    /// Read and write calls in that turn.
    spent: u16,
    phase: Phase,
    /// Which of the limits that [`Shared`] keeps are its own.
    class: u8,
    /// What the stream may be ready for, as far as events and attempts have told. A bit is set by
    /// an event and cleared by "not now" from the call itself.
    readiness: Readiness,
    /// Unconsumed input and pending output. Invariant: `None` when both are empty, between two
    /// steps.
    buffers: Option<Box<Buffers>>,
}

/// What the owner of a link must do before it calls [`Link::next`] again.
#[derive(Debug)]
pub(crate) enum Step {
    /// The first so many bytes of the read buffer are new: show them to the handler, then
    /// [`Link::consumed`].
    Fresh(usize),
    /// Input that was kept, with what was added: show it to the handler, then [`Link::give_back`].
    Stored(Buffer),
    /// The peer has finished; what was never consumed. Tell the handler, then [`Link::give_back`]
    /// with nothing consumed.
    Eof(Buffer),
    /// Output has fallen to the low-water mark: tell the handler.
    Drained,
    /// A drain is to close it: let the handler have its last words, then [`Link::close_drained`].
    Closing,
    /// The budget is spent and there is more to do: come again next turn. No event will remind of
    /// it.
    Yield,
    /// All links together keep too much, and this one as much as there is room: come again when
    /// there is more. No event will remind of it.
    Starved,
    /// Nothing to do until an event comes or the handler acts.
    Wait,
    /// It's over; [`Link::reason`] says why.
    Closed,
}

impl Step {
    /// Tells what the connection comes to that is `driven`.
    #[cold]
    pub(crate) fn trace(&self, driven: Key) {
        let what = match self {
            Step::Fresh(count) => return log::trace!("  {driven:?} is shown {count} bytes"),
            Step::Stored(input) => {
                let count = input.len();
                return log::trace!("  {driven:?} is shown {count} bytes, some of them again");
            }
            // Its owner tells, of those too that nobody drives any more.
            Step::Closed => return,
            Step::Eof(_) => "is told the peer's end",
            Step::Drained => "is told that its output has drained",
            Step::Closing => "has its last words",
            Step::Yield => "has spent its budget: next turn",
            Step::Starved => "waits for memory",
            Step::Wait => "waits for an event",
        };
        log::trace!("  {driven:?} {what}");
    }
}

impl<S: Stream> Link<S> {
    /// A link over `stream` that is open, or still connecting. Writing is tried before any event
    /// says that it's possible: a new socket's buffer is empty.
    pub(crate) fn new(stream: S, phase: Phase) -> Link<S> {
        let mut link = Link {
            stream,
            flags: Flags::ENGAGED,
            reason: None,
            count: 0,
            turn: 0,
            spent: 0,
            phase: Phase::Connecting,
            class: 0,
            readiness: Readiness::WRITABLE,
            buffers: None,
        };
        if phase == Phase::Open {
            link.connected();
        }
        link
    }

    /// The limits of its own, or the reactor's.
    pub(crate) fn limits<'s>(&self, shared: &'s Shared) -> &'s ConnectionLimits {
        &shared.classes[usize::from(self.class)]
    }

    /// Which of the limits that [`Shared`] keeps are its own.
    pub(crate) fn class(&self) -> u8 {
        self.class
    }

    /// Gives it the limits of a class: see [`Shared::class_of`]. What it keeps counts by them at
    /// once: a handler that is to stop writing is told so, and one that may keep no more ends.
    pub(crate) fn set_class(&mut self, shared: &mut Shared, class: u8) {
        self.class = class;
        self.weigh(shared, false);
        self.end_overflow(shared);
    }

    /// Changes the phase; nothing else does.
    fn enter(&mut self, phase: Phase) {
        self.phase = phase;
        self.note_engaged();
    }

    /// Whoever changes the phase, or whether there are buffers, has the flag follow.
    fn note_engaged(&mut self) {
        let engaged = self.phase != Phase::Open || self.buffers.is_some();
        self.flags.set(Flags::ENGAGED, engaged);
    }

    /// Notes what an event says.
    #[inline]
    pub(crate) fn ready(&mut self, readiness: Readiness) {
        self.readiness |= readiness;
        // An end or an error is found by trying, and may come without "readable" or "writable".
        // Where only the peer has finished a write is not tried: with poll(2) below, one that
        // blocks would bring the same event again at once.
        if readiness.intersects(STICKY.union(Readiness::WRITE_CLOSED)) {
            self.readiness |= Readiness::READABLE;
        }
        // An error ends the writing whether or not the event says so too: it may be told before its
        // hang-up, and with poll(2) below nothing is told after it.
        if readiness.intersects(Readiness::ERROR.union(Readiness::WRITE_CLOSED)) {
            self.readiness |= Readiness::WRITABLE.union(Readiness::WRITE_CLOSED);
        }
    }

    /// Does what is due and says what is next. `scratch` is the buffer that reads land in, not
    /// empty.
    #[inline]
    pub(crate) fn next(&mut self, shared: &mut Shared, scratch: &mut [u8]) -> Step {
        shared.begin_callback();
        if shared.traced {
            shared.acting = shared.driven;
            // By the way that tells of it.
            self.settle_busy(shared);
        }
        self.settle(shared);
        loop {
            if !self.is_quiet()
                && let Some(step) = self.attend(shared, scratch)
            {
                return step;
            }
            if !self.is_readable() {
                return Step::Wait;
            }
            if !self.charge(shared) {
                return Step::Yield;
            }
            self.flags.remove(Flags::BULK);
            if let Some(count) = self.take_in(shared, scratch) {
                return self.arrived(shared, &scratch[..count]);
            }
        }
    }

    /// Whether the link is open, keeps nothing, and nothing but reading is to be done: as most are
    /// most of the time.
    #[inline]
    pub(crate) fn is_quiet(&self) -> bool {
        let engaged = self.phase != Phase::Open || self.buffers.is_some();
        debug_assert_eq!(
            self.has(Flags::ENGAGED),
            engaged,
            "the flag has not followed"
        );
        !self.flags.intersects(Flags::ATTEND)
    }

    /// Whether a read may give something.
    #[inline]
    pub(crate) fn is_readable(&self) -> bool {
        self.readiness.contains(Readiness::READABLE)
    }

    /// Everything but a plain read, in the order in which it's due. Most connections never need it.
    /// `None`: go on and read.
    fn attend(&mut self, shared: &mut Shared, scratch: &mut [u8]) -> Option<Step> {
        if self.has_output() && !self.flush(shared) {
            return Some(Step::Yield);
        }
        let due = self.end_pressure(shared);
        let due = due.or_else(|| self.end_if_due(shared));
        if due.is_some() {
            return due;
        }
        if self.has(Flags::EOF_TOLD) {
            self.look_for_reset(shared);
        }
        match self.phase {
            Phase::Closed => Some(Step::Closed),
            // A peer that reads nothing while it writes would wait for this link as this one for
            // it.
            Phase::Closing | Phase::Lingering => Some(self.discard(shared, scratch)),
            Phase::Open => self.offer(shared),
            Phase::Connecting | Phase::Delivering => Some(Step::Wait),
        }
    }

    /// With output down at the low-water mark: ends the pressure that the handler was told of. With
    /// none left: tells so, where that was asked for.
    fn end_pressure(&mut self, shared: &mut Shared) -> Option<Step> {
        let high = self.has(Flags::HIGH) && !self.is_pressed(shared, self.limits(shared).low_water);
        let empty = self.has(Flags::TELL) && !self.has_output();
        if self.phase != Phase::Open || !(high || empty) {
            return None;
        }
        // Then the output has not drained, and nobody is told so.
        let dead = self.has(Flags::WRITE_DEAD);
        // A handler may ask again each time that it's told: nothing else bounds that.
        let may = match empty {
            true => self.charge(shared),
            false => self.has_budget(shared),
        };
        if !dead && !may {
            return Some(Step::Yield);
        }
        if high {
            self.renew_frame();
        }
        self.flags
            .set(Flags::REDELIVER, high || self.has(Flags::REDELIVER));
        self.flags.remove(Flags::HIGH);
        self.flags.set(Flags::TELL, !empty && self.has(Flags::TELL));
        if dead && self.has(Flags::PAUSED) {
            // A handler that paused for the pressure would resume when it ends: it's told the end
            // at once.
            self.sever(shared, CloseReason::Reset);
        }
        (!dead).then_some(Step::Drained)
    }

    /// Whether an open link may read, and what it has for the handler without reading. `None`: it
    /// may read.
    fn offer(&mut self, shared: &mut Shared) -> Option<Step> {
        if !self.may_read() || self.has(Flags::AGAIN | Flags::QUEUED) {
            return Some(Step::Wait);
        }
        if self.flags.intersects(Flags::SHOW) {
            if self.has_input() && !self.charge(shared) {
                return Some(Step::Yield);
            }
            self.flags.remove(Flags::SHOW);
            if let Some(input) = self.lend_input(shared) {
                return Some(Step::Stored(input));
            }
        }
        if self.has(Flags::PEER_EOF) {
            // What the handler left because of its own pending output is offered again before the
            // end.
            if self.has(Flags::HIGH) && self.has_input() {
                return Some(Step::Wait);
            }
            self.flags.insert(Flags::EOF_TOLD);
            return Some(Step::Eof(self.lend_input(shared).unwrap_or_default()));
        }
        if self.input_len() >= self.limits(shared).max_input {
            return Some(Step::Wait);
        }
        if self.is_readable() && self.is_starved(shared) {
            // Nothing is read that would tell of a reset, and its memory may be what the others
            // wait for.
            self.look_for_reset(shared);
            if self.phase == Phase::Closed {
                return Some(Step::Closed);
            }
            shared.stats.pending_pauses += u64::from(!self.has(Flags::STARVED));
            return Some(Step::Starved);
        }
        None
    }

    /// Whether the link has calls left in this turn.
    fn has_budget(&mut self, shared: &Shared) -> bool {
        if self.turn != shared.turn {
            (self.turn, self.spent) = (shared.turn, 0);
        }
        self.spent < shared.io_budget()
    }

    /// Takes one call from the link's budget of this turn; false when none is left.
    pub(crate) fn charge(&mut self, shared: &Shared) -> bool {
        let left = self.has_budget(shared);
        self.spent = self.spent.saturating_add(1);
        left
    }

    /// Stops reading, until [`Link::resume`].
    pub(crate) fn pause(&mut self) {
        self.flags.insert(Flags::PAUSED);
    }

    /// Reads again. What was kept meanwhile is shown again; so is what the running callback leaves,
    /// if it consumes some of its input. The owner must call [`Link::next`].
    pub(crate) fn resume(&mut self) {
        if self.untag(Flags::PAUSED) {
            self.flags.insert(Flags::REDELIVER);
            self.renew_frame();
        }
    }

    /// Has the frame that is under way begin anew: its rest could not be read.
    pub(crate) fn renew_frame(&mut self) {
        if let Some(buffers) = &mut self.buffers {
            buffers.begun = UNTOLD;
        }
    }

    /// Sets whether reading goes on while output is pending beyond the high-water mark.
    ///
    /// An accepted connection stops reading then: its input is what makes its output. On an
    /// outbound one it need not be, and two ends that both stop reading while they write would wait
    /// for each other for good.
    pub(crate) fn read_on(&mut self, on: bool) {
        self.flags.set(Flags::READ_ON, on);
    }

    /// The handshake is done.
    pub(crate) fn connected(&mut self) {
        debug_assert_eq!(self.phase, Phase::Connecting);
        self.enter(Phase::Open);
        self.flags.insert(Flags::OPENED | Flags::UNGREETED);
    }

    /// Sets a flag; false when it was set already.
    pub(crate) fn tag(&mut self, tag: Flags) -> bool {
        let new = !self.has(tag);
        self.flags.insert(tag);
        new
    }

    /// Clears a flag; false when it was clear already.
    pub(crate) fn untag(&mut self, tag: Flags) -> bool {
        let was = self.has(tag);
        self.flags.remove(tag);
        was
    }

    /// Whether all of these flags are set.
    #[inline]
    pub(crate) fn has(&self, flags: Flags) -> bool {
        self.flags.contains(flags)
    }

    pub(crate) fn phase(&self) -> Phase {
        self.phase
    }

    /// Why the link closes or closed; `None` while it's open and no write has failed.
    pub(crate) fn reason(&self) -> Option<CloseReason> {
        self.reason
    }

    /// Whether nothing is kept, no old output has just gone out, and nothing but reading is going
    /// on: then no deadline but the idle one applies, and that one knows all there is to know.
    #[inline]
    pub(crate) fn is_plain(&self) -> bool {
        !self.flags.intersects(Flags::ENGAGED.union(Flags::MOVED))
    }

    /// Whether pending output came about or moved since the last call.
    pub(crate) fn take_moved(&mut self) -> bool {
        let moved = self.untag(Flags::MOVED);
        if moved && self.phase != Phase::Lingering {
            // What the system said before is about other output.
            self.count = 0;
        }
        moved
    }

    /// Asks the system whether the peer has acknowledged output since this was last asked. The
    /// first time after output has moved counts as progress: nothing is known of the time before.
    /// False where the system doesn't say.
    pub(crate) fn has_progressed(&mut self) -> bool {
        self.stream.unread().is_some_and(|now| {
            let before = std::mem::replace(&mut self.count, now.max(1));
            before == 0 || now < before
        })
    }

    /// The owner's numbers beside pending output ([`Buffers::mark`]) and beside unconsumed input
    /// ([`Buffers::begun`]), lent or not; `None` where there is none.
    pub(crate) fn marks(&mut self) -> [Option<&mut u32>; 2] {
        let Some(buffers) = self.buffers.as_deref_mut() else {
            return [None, None];
        };
        let keeps = !buffers.input.is_empty() || buffers.lent > 0;
        let mark = (!buffers.output.is_empty()).then_some(&mut buffers.mark);
        [mark, keeps.then_some(&mut buffers.begun)]
    }

    /// The first of [`Link::marks`].
    pub(crate) fn mark(&mut self) -> Option<&mut u32> {
        self.marks().into_iter().next().flatten()
    }

    /// The second of [`Link::marks`].
    pub(crate) fn begun(&mut self) -> Option<&mut u32> {
        self.marks().into_iter().nth(1).flatten()
    }

    /// The link's own counters, if it's counted.
    pub(crate) fn traffic(&self) -> Option<&Traffic> {
        self.buffers.as_ref()?.traffic.as_ref()
    }

    /// As [`Link::traffic`], to count on.
    fn traffic_mut(&mut self) -> Option<&mut Traffic> {
        self.buffers.as_mut()?.traffic.as_mut()
    }

    /// Has the link counted from now on, in `traffic`.
    pub(crate) fn count(&mut self, shared: &mut Shared, traffic: Traffic) {
        self.keep(shared, |buffers| buffers.traffic = Some(traffic));
    }

    /// Takes the counters out, of a link that is about to be dropped.
    pub(crate) fn take_traffic(&mut self, shared: &mut Shared) -> Option<Traffic> {
        self.traffic()?;
        self.keep(shared, |buffers| buffers.traffic.take())
    }

    /// Changes the link's buffers, and counts what is in them and behind them. They come from the
    /// pool where it has none yet, and go back to it when they are empty.
    fn keep<T>(&mut self, shared: &mut Shared, change: impl FnOnce(&mut Buffers) -> T) -> T {
        let mut buffers = self.buffers.take().unwrap_or_else(|| shared.pool.take());
        let before = buffers.kept();
        let result = change(&mut buffers);
        buffers.free_unused();
        shared.count(before, buffers.kept());
        if buffers.is_empty() {
            shared.pool.give_back(buffers);
        } else {
            self.buffers = Some(buffers);
        }
        self.note_engaged();
        result
    }
}
