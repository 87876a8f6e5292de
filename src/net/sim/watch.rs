//! What can be polled, and what it is polled for.

/// One end of a connection.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Side {
    pub(super) connection: u32,
    /// 0 dialled, 1 was dialled.
    pub(super) end: u8,
}

impl Side {
    pub(super) fn other(self) -> Side {
        Side {
            end: 1 - self.end,
            ..self
        }
    }
}

/// What can be registered.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Target {
    Stream(Side),
    Listener(u32),
    Udp(u32),
}

/// There is news for reading; for writing; for both.
pub(super) const READ: u8 = 1;
pub(super) const WRITE: u8 = 2;
pub(super) const BOTH: u8 = READ | WRITE;

/// poll(2)'s and epoll's flags.
pub(super) mod flag {
    pub(in super::super) const IN: u8 = 1;
    pub(in super::super) const OUT: u8 = 1 << 1;
    pub(in super::super) const PRI: u8 = 1 << 2;
    pub(in super::super) const ERR: u8 = 1 << 3;
    pub(in super::super) const HUP: u8 = 1 << 4;
    pub(in super::super) const RDHUP: u8 = 1 << 5;
}

/// What a stream is registered for, and what a listener and a UDP socket are.
pub(super) const STREAM: u8 = READER | flag::OUT | flag::PRI;
pub(super) const READER: u8 = flag::IN | flag::RDHUP;

/// Whether and how a socket is registered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Watch {
    None,
    /// mio's poll(2) has dropped it after a hang-up or an error.
    Dropped,
    On(Registration),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Registration {
    pub(super) process: u32,
    pub(super) token: usize,
    /// What it was registered for.
    pub(super) interest: u8,
    /// poll(2): what is still to be told.
    pub(super) armed: u8,
    /// What news there are; not 0: it's on the process' list.
    pub(super) pending: u8,
}
