//! What is true of a link beside its phase, as bits, and the bits that its owner keeps among them.

/// The handler wants no input for now.
pub(super) const PAUSED: u16 = 1;
/// Pending output has passed the high-water mark and not yet fallen to the low one.
pub(super) const HIGH: u16 = 1 << 1;
/// Reading goes on whatever output is pending: for outbound connections, see [`Link::read_on`](super::Link).
pub(super) const READ_ON: u16 = 1 << 2;
/// The peer has finished.
pub(super) const PEER_EOF: u16 = 1 << 3;
/// The handler knows that the peer has finished.
pub(super) const EOF_TOLD: u16 = 1 << 4;
/// Our side is to be finished as soon as the output is out.
pub(super) const FIN_WANTED: u16 = 1 << 5;
/// Our side is finished.
pub(super) const FIN_SENT: u16 = 1 << 6;
/// The handler is to see its unconsumed input again, though nothing was added.
pub(super) const REDELIVER: u16 = 1 << 7;
/// A write has failed. What the peer sent before may still be there to be read.
pub(super) const WRITE_DEAD: u16 = 1 << 8;
/// To be closed as soon as what has arrived is answered.
pub(super) const DRAINING: u16 = 1 << 9;
/// Pending output came about or moved since [`Link::take_moved`](super::Link::take_moved).
pub(super) const MOVED: u16 = 1 << 10;
/// It was established, once.
pub(super) const OPENED: u16 = 1 << 11;
/// The phase is not Open, or there are buffers: kept beside both, so that one test tells whether a link is quiet.
pub(super) const ENGAGED: u16 = 1 << 12;
/// Three bits of the owner's, see [`Tag`](super::Tag).
pub(super) const QUEUED: u16 = 1 << 13;
pub(super) const DIRTY: u16 = 1 << 14;
pub(super) const ENDED: u16 = 1 << 15;

/// The flags that make a link more than quiet: something is to be done or heeded beside reading.
pub(super) const ATTEND: u16 =
    PAUSED | HIGH | PEER_EOF | FIN_WANTED | REDELIVER | WRITE_DEAD | DRAINING | ENGAGED | QUEUED;

/// Which of its owner's queues a link stands in. The bits are kept among the link's own, so that a slot needs no room for
/// them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tag {
    /// It has more to do in the next turn.
    Queued = QUEUED as isize,
    /// Somebody else wrote to it, or changed it.
    Dirty = DIRTY as isize,
    /// It's closed and waits to be removed.
    Ended = ENDED as isize,
}
