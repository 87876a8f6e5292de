//! One connection's state machine, over any stream: it knows neither mio nor time.
//!
//! A [`Link`] is driven by [`Link::next`]: each call does what input and output is due and says in a [`Step`] what the
//! owner must do before the next call; the reactor does it by calling the handler. So the order of everything
//! that can happen on a connection stands in this one place, and a test can play any script of reads and writes
//! to it without a socket.
//!
//! The states:
//!
//! ```text
//! Connecting --> Open --> Closing --> Lingering --> Closed
//!                 |          '------------------------^
//!                 '-----------------------------------'
//! ```
//!
//! - *Connecting*: the handshake is under way. What is written waits.
//! - *Open*: reads are delivered, writes go out. Each direction ends for itself: `PEER_EOF` for theirs, `FIN_SENT` for
//!   ours; when both have, the link is closed.
//! - *Closing*: we close, and the peer has not finished: pending output is flushed, nothing is read any more.
//! - *Lingering*: our FIN is out. What still arrives is thrown away, within bounds, until the peer's end: closing
//!   a socket with unread input would send a reset, and a reset destroys replies that the peer has not read yet.
//! - *Closed*: nothing moves any more. The owner drops the link.
//!
//! Reading is in `link/read.rs`, writing in `link/write.rs`, the ends of a connection are in `link/close.rs`.

mod close;
mod flag;
mod read;
#[cfg(test)]
mod script;
mod shared;
#[cfg(test)]
mod tests;
mod write;

use crate::buffer::{Buffer, Buffers};
use crate::error::CloseReason;
use crate::nonblocking::Stream;
use crate::readiness::Readiness;

pub(crate) use flag::Tag;
pub(crate) use shared::Shared;
pub use write::Pressure;

/// Where a link is in its life; the module's page has the picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    Connecting,
    Open,
    Closing,
    Lingering,
    Closed,
}

/// Readiness that forbids to take a short read for an empty socket until a read has said "not now" (pitfalls of
/// edge-triggered polls: data and FIN in one event are one edge; urgent data stops a read at the mark).
const STICKY: Readiness = Readiness::READ_CLOSED
    .union(Readiness::ERROR)
    .union(Readiness::PRIORITY);
const READ_SIDE: Readiness = STICKY.union(Readiness::READABLE);

/// One connection. See the module's page.
#[derive(Debug)]
pub(crate) struct Link<S> {
    stream: S,
    phase: Phase,
    /// What the stream may be ready for, as far as events and attempts have told. A bit is set by an event and
    /// cleared by "not now" from the call itself.
    readiness: Readiness,
    flags: u16,
    /// Why it closes. Invariant: `Some` in the phases Closing, Lingering and Closed.
    reason: Option<CloseReason>,
    /// Bytes that lingering may still throw away.
    linger_left: u32,
    /// Unconsumed input and pending output. Invariant: `None` when both are empty, between two steps.
    buffers: Option<Box<Buffers>>,
}

/// What the owner of a link must do before it calls [`Link::next`] again.
#[derive(Debug)]
pub(crate) enum Step {
    /// The first so many bytes of the read buffer are new: show them to the handler, then [`Link::consumed`].
    Fresh(usize),
    /// Input that was kept, with what was added: show it to the handler, then [`Link::give_back`].
    Stored(Buffer),
    /// The peer has finished; what was never consumed. Tell the handler, then [`Link::give_back`] with nothing consumed.
    Eof(Buffer),
    /// Output has fallen to the low-water mark: tell the handler.
    Drained,
    /// A drain is to close it: let the handler have its last words, then [`Link::close`] it for this reason, unless the handler
    /// has had it [stay](Link::stay).
    Closing(CloseReason),
    /// The budget is spent and there is more to do: come again next turn. No event will remind of it.
    Yield,
    /// Nothing to do until an event comes or the handler acts.
    Wait,
    /// It's over; [`Link::reason`] says why.
    Closed,
}

impl<S: Stream> Link<S> {
    /// A link over `stream` that is open, or still connecting. Writing is tried before any event says that it's possible:
    /// a new socket's buffer is empty.
    pub(crate) fn new(stream: S, phase: Phase) -> Link<S> {
        Link {
            stream,
            phase,
            readiness: Readiness::WRITABLE,
            flags: if phase == Phase::Open {
                flag::OPENED
            } else {
                flag::ENGAGED
            },
            reason: None,
            linger_left: 0,
            buffers: None,
        }
    }

    /// Changes the phase; nothing else does.
    fn enter(&mut self, phase: Phase) {
        self.phase = phase;
        self.note_engaged();
    }

    /// Whoever changes the phase, or whether there are buffers, has the flag follow.
    fn note_engaged(&mut self) {
        if self.phase == Phase::Open && self.buffers.is_none() {
            self.flags &= !flag::ENGAGED;
        } else {
            self.flags |= flag::ENGAGED;
        }
    }

    /// Notes what an event says.
    #[inline]
    pub(crate) fn ready(&mut self, readiness: Readiness) {
        self.readiness |= readiness;
        if readiness.intersects(STICKY.union(Readiness::WRITE_CLOSED)) {
            // An end or an error is found by trying, and may come without "readable" or "writable".
            self.readiness |= Readiness::READABLE | Readiness::WRITABLE;
        }
    }

    /// Does what is due and says what is next. `scratch` is the buffer that reads land in, not empty; `budget` is how
    /// many reads and writes of old output may still be made in this turn.
    #[inline]
    pub(crate) fn next(
        &mut self,
        shared: &mut Shared,
        scratch: &mut [u8],
        budget: &mut u32,
    ) -> Step {
        // What the callback before has sent, but for one time: an answer is free.
        *budget = budget.saturating_sub(shared.sends.saturating_sub(1));
        shared.begin_callback();
        if !shared.gathered.is_empty() {
            self.send(shared, &[]);
        }
        loop {
            if !self.is_quiet()
                && let Some(step) = self.attend(shared, scratch, budget)
            {
                return step;
            }
            if !self.is_readable() {
                return Step::Wait;
            }
            if *budget == 0 {
                return Step::Yield;
            }
            *budget -= 1;
            if let Some(count) = self.take_in(shared, scratch) {
                return self.arrived(shared, &scratch[..count]);
            }
        }
    }

    /// Whether the link is open, keeps nothing, and nothing but reading is to be done: as most are most of the time.
    #[inline]
    pub(crate) fn is_quiet(&self) -> bool {
        debug_assert_eq!(
            self.flags & flag::ENGAGED != 0,
            self.phase != Phase::Open || self.buffers.is_some(),
            "the flag that stands for both has not followed"
        );
        self.flags & flag::ATTEND == 0
    }

    /// Whether a read may give something.
    #[inline]
    pub(crate) fn is_readable(&self) -> bool {
        self.readiness.contains(Readiness::READABLE)
    }

    /// The part of [`Link::next`] that most connections need most of the time not: everything but a plain read.
    /// `None`: go on and read.
    fn attend(
        &mut self,
        shared: &mut Shared,
        scratch: &mut [u8],
        budget: &mut u32,
    ) -> Option<Step> {
        if self.phase == Phase::Connecting {
            return Some(Step::Wait);
        }
        if self.has_output() && !self.flush(shared, budget) {
            return Some(Step::Yield);
        }
        if self.flags & flag::HIGH != 0 && self.pending() <= shared.limits.low_water {
            self.flags &= !flag::HIGH;
            self.redeliver();
            if self.phase == Phase::Open {
                return Some(Step::Drained);
            }
        }
        if !self.has_output() {
            if self.has_drained() {
                return Some(Step::Closing(CloseReason::Drained));
            }
            self.end_if_due(shared);
        }
        self.look_for_reset(shared);
        match self.phase {
            Phase::Closed => Some(Step::Closed),
            Phase::Lingering => Some(self.discard(shared, scratch, budget)),
            Phase::Open => self.offer(shared),
            Phase::Connecting | Phase::Closing => Some(Step::Wait),
        }
    }

    /// Whether an open link may read, and what it has for the handler without reading. `None`: it may read.
    fn offer(&mut self, shared: &mut Shared) -> Option<Step> {
        if self.flags & flag::PAUSED != 0 || self.is_held_back(shared) {
            return Some(Step::Wait);
        }
        if self.flags & flag::REDELIVER != 0 {
            self.flags &= !flag::REDELIVER;
            if let Some(input) = self.lend_input() {
                return Some(Step::Stored(input));
            }
        }
        if self.flags & flag::PEER_EOF != 0 {
            // What the handler left because of its own pending output is offered again before the end.
            let stopped_early = self.flags & flag::HIGH != 0 && self.has_input();
            if self.flags & flag::EOF_TOLD != 0 || stopped_early {
                return Some(Step::Wait);
            }
            self.flags |= flag::EOF_TOLD;
            return Some(Step::Eof(self.lend_input().unwrap_or_default()));
        }
        if self.input_len() >= shared.limits.max_input {
            return Some(Step::Wait);
        }
        None
    }

    /// Stops reading, until [`Link::resume`].
    pub(crate) fn pause(&mut self) {
        self.flags |= flag::PAUSED;
    }

    /// Reads again. What was kept meanwhile is shown again; the owner must call [`Link::next`].
    pub(crate) fn resume(&mut self) {
        if self.flags & flag::PAUSED != 0 {
            self.flags &= !flag::PAUSED;
            self.redeliver();
        }
    }

    /// Sets whether reading goes on while output is pending beyond the high-water mark.
    ///
    /// An accepted connection stops reading then: its input is what makes its output. On an outbound one it need not be, and
    /// two ends that both stop reading while they write would wait for each other for good.
    pub(crate) fn read_on(&mut self, on: bool) {
        if on {
            self.flags |= flag::READ_ON;
        } else {
            self.flags &= !flag::READ_ON;
        }
    }

    /// The handshake is done.
    pub(crate) fn connected(&mut self) {
        debug_assert_eq!(self.phase, Phase::Connecting);
        self.enter(Phase::Open);
        self.flags |= flag::OPENED;
    }

    /// Whether the link was ever established.
    pub(crate) fn was_opened(&self) -> bool {
        self.flags & flag::OPENED != 0
    }

    /// Sets the owner's tag; false when it was set already.
    pub(crate) fn tag(&mut self, tag: Tag) -> bool {
        let new = !self.is_tagged(tag);
        self.flags |= tag as u16;
        new
    }

    pub(crate) fn untag(&mut self, tag: Tag) {
        self.flags &= !(tag as u16);
    }

    pub(crate) fn is_tagged(&self, tag: Tag) -> bool {
        self.flags & tag as u16 != 0
    }

    pub(crate) fn phase(&self) -> Phase {
        self.phase
    }

    /// Why the link closes or closed; `None` while it's open.
    pub(crate) fn reason(&self) -> Option<CloseReason> {
        self.reason
    }

    pub(crate) fn is_paused(&self) -> bool {
        self.flags & flag::PAUSED != 0
    }

    pub(crate) fn stream(&self) -> &S {
        &self.stream
    }

    pub(crate) fn stream_mut(&mut self) -> &mut S {
        &mut self.stream
    }

    /// Whether nothing is kept, no old output has just gone out, and nothing but reading is going on: then no
    /// deadline but the idle one applies, and that one knows all there is to know.
    #[inline]
    pub(crate) fn is_plain(&self) -> bool {
        self.flags & (flag::ENGAGED | flag::MOVED) == 0
    }

    /// Whether pending output came about or moved since the last call.
    pub(crate) fn take_moved(&mut self) -> bool {
        let moved = self.flags & flag::MOVED != 0;
        self.flags &= !flag::MOVED;
        moved
    }

    /// The owner's number beside pending output ([`Buffers::mark`]); `None` when no output is pending.
    pub(crate) fn mark(&mut self) -> Option<&mut u32> {
        match &mut self.buffers {
            Some(buffers) if !buffers.output.is_empty() => Some(&mut buffers.mark),
            _ => None,
        }
    }

    /// The link's buffers, from the pool if it has none yet.
    fn buffers(&mut self, shared: &mut Shared) -> &mut Buffers {
        self.flags |= flag::ENGAGED;
        self.buffers.get_or_insert_with(|| shared.pool.take())
    }

    /// Gives buffers back that hold nothing any more.
    fn release_buffers(&mut self, shared: &mut Shared) {
        if self
            .buffers
            .as_ref()
            .is_some_and(|buffers| buffers.is_empty())
            && let Some(buffers) = self.buffers.take()
        {
            shared.pool.give_back(buffers);
            self.note_engaged();
        }
    }
}
