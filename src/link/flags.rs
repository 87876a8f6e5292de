//! What is true of a link beside its phase, as named bits, and the bits that its owner keeps among
//! them.

use bitflags::bitflags;

bitflags! {
    /// The state of a link beside its [`Phase`](super::Phase).
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(crate) struct Flags: u32 {
        /// The handler wants no input for now.
        const PAUSED = 1;
        /// Pending output has come to the high-water mark, or the turn's budget of writes was
        /// spent, and the handler was told to stop. It ends at the low-water mark.
        const HIGH = 1 << 1;
        /// Reading goes on whatever output is pending: for outbound connections.
        const READ_ON = 1 << 2;
        /// The peer has finished.
        const PEER_EOF = 1 << 3;
        /// The handler knows that the peer has finished.
        const EOF_TOLD = 1 << 4;
        /// Our side is to be finished as soon as the output is out.
        const FIN_WANTED = 1 << 5;
        /// Our side is finished.
        const FIN_SENT = 1 << 6;
        /// The handler is to see its unconsumed input again, though nothing was added.
        const REDELIVER = 1 << 7;
        /// A write has failed. What the peer sent before may still be there to be read.
        const WRITE_DEAD = 1 << 8;
        /// The failed write was told the socket's error, and no read will be told it again: a read
        /// of nothing is that error, and not the peer's end.
        const ERROR_TAKEN = 1 << 9;
        /// To be closed as soon as what has arrived is answered.
        const DRAINING = 1 << 10;
        /// Pending output came about or moved since [`Link::take_moved`](super::Link::take_moved).
        const MOVED = 1 << 11;
        /// It was established, once: `on_close` is to come.
        const OPENED = 1 << 12;
        /// It was established, and `on_open` is still to come.
        const UNGREETED = 1 << 13;
        /// The phase is not Open, or there are buffers: kept beside both, so that one test tells
        /// whether a link is quiet.
        const ENGAGED = 1 << 14;

        /// Its last read was a large one: it waits for its turn where others do.
        const BULK = 1 << 15;
        /// Its handler has had its last words, or says them now: they are never too much.
        const PARTING = 1 << 21;
        /// As `REDELIVER`, even if the handler consumes nothing; but while the link is queued it
        /// waits for its turn, and reads nothing.
        const AGAIN = 1 << 23;

        /// The handler is to see its unconsumed input again.
        const SHOW = Self::REDELIVER.bits() | Self::AGAIN.bits();

        /// The handler is to be told when all output is out.
        const TELL = 1 << 22;

        // The owner's: which of its queues the link stands in. They are kept here so that a slot
        // needs no room for them.

        /// It has more to do in the next turn.
        const QUEUED = 1 << 16;
        /// Another callback than its own wrote to it, or changed it.
        const DIRTY = 1 << 17;
        /// It waits for memory: all connections together keep too much.
        const STARVED = 1 << 18;
        /// It may read on although there is no memory for it, until some of its input is consumed.
        const FED = 1 << 19;
        /// It's closed and waits to be removed.
        const ENDED = 1 << 20;

        /// What makes a link more than quiet: something is to be done or heeded beside reading.
        const ATTEND = Self::PAUSED.bits() | Self::HIGH.bits() | Self::PEER_EOF.bits()
            | Self::FIN_WANTED.bits() | Self::SHOW.bits() | Self::WRITE_DEAD.bits()
            | Self::DRAINING.bits() | Self::UNGREETED.bits() | Self::ENGAGED.bits()
            | Self::BULK.bits() | Self::QUEUED.bits() | Self::TELL.bits();
    }
}
