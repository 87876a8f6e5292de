//! The sockets that a reactor has in place of the real ones, with the same methods.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use nix::errno::Errno;

use super::faults::Fault;
use super::poller::Poller;
use super::system::Quiet;
use super::trace::quoted;
use super::watch::{Side, Target};
use super::{Net, Owner};
use crate::address::Address;
use crate::net::canonical;
use crate::net::udp::Received;
use crate::nonblocking::{Stream, is_blocked};
use crate::options::{Keepalive, Multicast, UserTimeout};

/// A connection's end.
#[derive(Debug)]
pub(crate) struct TcpStream {
    pub(super) net: Net,
    pub(super) side: Side,
    process: u32,
    model: Poller,
    quiet: Arc<Quiet>,
}

impl TcpStream {
    pub(super) fn new(net: Net, side: Side, process: u32, quiet: Arc<Quiet>) -> TcpStream {
        let model = net.state().processes[process as usize].poller.model;
        TcpStream {
            net,
            side,
            process,
            model,
            quiet,
        }
    }

    /// Whether the connection is established; asked when an event has come for a stream that was
    /// dialled. One that met itself is refused.
    ///
    /// # Errors
    /// Why it failed.
    pub(crate) fn established(&self) -> io::Result<bool> {
        let mut state = self.net.state();
        state.begin_call();
        state.established(self.side)
    }

    /// The peer's address, of a stream that must be established.
    ///
    /// # Errors
    /// What it has stored; `NotConnected` when it isn't.
    pub(crate) fn check_connected(&self) -> io::Result<Address> {
        let mut state = self.net.state();
        state.begin_call();
        match state.take_error_call(self.side)? {
            Some(error) => Err(error),
            None => state.peer_addr(self.side).map(canonical).map(Address::from),
        }
    }

    /// The peer's address.
    ///
    /// # Errors
    /// `NotConnected` when there is none, or no longer.
    pub(crate) fn peer_addr(&self) -> io::Result<Address> {
        let mut state = self.net.state();
        state.begin_call();
        state.peer_addr(self.side).map(canonical).map(Address::from)
    }

    /// Our own address.
    ///
    /// # Errors
    /// None here.
    pub(crate) fn local_addr(&self) -> io::Result<Address> {
        let local = self.net.state().local_addr(self.side);
        local.map(canonical).map(Address::from)
    }

    /// Does nothing: segments are cut by chance.
    ///
    /// # Errors
    /// As faults.
    pub(crate) fn set_nodelay(&self, on: bool) -> io::Result<()> {
        self.set_option(|| format!("nodelay {on}"))
    }

    /// Probes the peer when it falls silent.
    ///
    /// # Errors
    /// As faults.
    pub(crate) fn set_keepalive(&self, keepalive: Keepalive) -> io::Result<()> {
        self.set_option(|| "keepalive".to_owned())?;
        let mut state = self.net.state();
        if let Some(end) = state.end(self.side) {
            end.keepalive = Some(keepalive);
        }
        state.expect_expiry_if_cut_off(self.side);
        Ok(())
    }

    /// Bounds how long output may stay unacknowledged, but for kqueue's systems.
    ///
    /// # Errors
    /// As faults.
    pub(crate) fn set_user_timeout(&self, timeout: UserTimeout) -> io::Result<()> {
        let mut state = self.net.state();
        let end = state.end(self.side).ok_or(Errno::EBADF)?;
        let change = timeout.change(end.user_timeout, end.keepalive.is_some());
        let Some(timeout) = change.filter(|_| self.model != Poller::Kqueue) else {
            return Ok(());
        };
        state.set_option(Target::Stream(self.side), || {
            format!("user timeout {timeout:?}")
        })?;
        if let Some(end) = state.end(self.side) {
            end.user_timeout = timeout;
        }
        state.expect_expiry_if_cut_off(self.side);
        Ok(())
    }

    fn set_option(&self, option: impl FnOnce() -> String) -> io::Result<()> {
        let mut state = self.net.state();
        state.set_option(Target::Stream(self.side), option)
    }
}

impl Stream for TcpStream {
    fn short_is_blocked(&self) -> bool {
        self.model != Poller::Poll2
    }

    fn tells_delivery(&self) -> bool {
        self.model != Poller::Poll2
    }

    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut state = self.net.state();
        state.begin_call();
        let answer = state.read_call(self.side, buffer);
        state.pump_peers();
        state.note_answer(self.side, "read", Some(buffer.len()), &answer, |count| {
            counted(&buffer[..*count])
        });
        answer
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_two(bytes, &[])
    }

    fn write_two(&mut self, first: &[u8], second: &[u8]) -> io::Result<usize> {
        let mut state = self.net.state();
        state.begin_call();
        let answer = state.write_call(self.side, first, second);
        state.pump_peers();
        let (asked, write) = (Some(first.len() + second.len()), (first, second));
        state.note_answer(self.side, "write", asked, &answer, |&count| {
            let (first, second) = (count.min(first.len()), count.saturating_sub(first.len()));
            counted(&[&write.0[..first], &write.1[..second]].concat())
        });
        answer
    }

    fn shutdown_write(&mut self) -> io::Result<()> {
        let mut state = self.net.state();
        state.begin_call();
        let answer = state.shutdown_call(self.side);
        state.pump_peers();
        state.note_answer(self.side, "shutdown", None, &answer, |()| "done".to_owned());
        answer
    }

    fn take_error(&mut self) -> io::Result<Option<io::Error>> {
        let mut state = self.net.state();
        state.begin_call();
        let answer = state.take_error_call(self.side);
        let words = |error: &Option<io::Error>| match error {
            Some(error) => error.to_string(),
            None => "none".to_owned(),
        };
        state.note_answer(self.side, "take_error", None, &answer, words);
        answer
    }

    fn reset_on_close(&mut self) -> io::Result<()> {
        self.set_option(|| "linger 0".to_owned())?;
        let mut state = self.net.state();
        if let Some(end) = state.end(self.side) {
            end.reset_on_close = true;
        }
        Ok(())
    }

    fn in_flight(&mut self) -> Option<u32> {
        let mut state = self.net.state();
        state.begin_call();
        state.in_flight(self.side)
    }

    fn may_allocate(&mut self) -> bool {
        !self.net.state().faults.hit(Fault::NoMemory)
    }
}

/// As close(2).
impl Drop for TcpStream {
    fn drop(&mut self) {
        let mut state = self.net.state();
        state.trace(|| format!("close {}", Target::Stream(self.side)));
        state.close(self.side);
        state.give_descriptor(self.process);
        state.pump_peers();
    }
}

/// A listener.
#[derive(Debug)]
pub(crate) struct TcpListener {
    pub(super) net: Net,
    pub(super) id: u32,
    pub(super) backlog: u32,
    pub(super) quiet: Arc<Quiet>,
}

impl TcpListener {
    /// Accepts one connection that waits, and tells where it is from.
    ///
    /// # Errors
    /// As accept(2) gives them.
    pub(crate) fn accept(&self) -> io::Result<(TcpStream, Address)> {
        let mut state = self.net.state();
        state.begin_call();
        let answer = state.accept_call(self.id);
        state.pump_peers();
        let process = state.listener(self.id).map(|listener| listener.owner);
        state.trace(|| match &answer {
            Ok((side, _)) => format!("accept l{} -> {}", self.id, Target::Stream(*side)),
            Err(error) => format!("accept l{} -> {}", self.id, in_words(error)),
        });
        drop(state);
        let (side, from) = answer?;
        let Some(Owner::Process(process)) = process else {
            return Err(Errno::EBADF.into());
        };
        let quiet = self.quiet.clone();
        let stream = TcpStream::new(self.net.clone(), side, process, quiet);
        Ok((stream, from.into()))
    }

    /// The address that it listens at.
    ///
    /// # Errors
    /// None here.
    pub(crate) fn local_addr(&self) -> io::Result<Address> {
        let mut state = self.net.state();
        let listener = state.listener(self.id).ok_or(Errno::EBADF)?;
        Ok(listener.local.into())
    }

    /// How many established connections may wait.
    pub(crate) fn backlog(&self) -> u32 {
        self.backlog
    }

    /// Bounds how long the output of accepted streams may stay unacknowledged, but for kqueue's
    /// systems.
    ///
    /// # Errors
    /// As faults.
    pub(crate) fn set_user_timeout(&self, timeout: UserTimeout) -> io::Result<()> {
        let mut state = self.net.state();
        let listener = state.listener(self.id).ok_or(Errno::EBADF)?;
        let change = timeout.change(listener.user_timeout, listener.keepalive.is_some());
        let owner = listener.owner;
        let Some(timeout) = change.filter(|_| !state.is_bsd(owner)) else {
            return Ok(());
        };
        state.set_option(Target::Listener(self.id), || {
            format!("user timeout {timeout:?}")
        })?;
        if let Some(listener) = state.listener(self.id) {
            listener.user_timeout = timeout;
        }
        Ok(())
    }
}

/// As close(2).
impl Drop for TcpListener {
    fn drop(&mut self) {
        let mut state = self.net.state();
        state.trace(|| format!("close l{}", self.id));
        state.close_listener(self.id);
        state.pump_peers();
    }
}

/// A UDP socket.
#[derive(Debug)]
pub(crate) struct UdpSocket {
    pub(super) net: Net,
    pub(super) id: u32,
    pub(super) quiet: Arc<Quiet>,
}

impl UdpSocket {
    /// Receives one datagram into `buffer`, whose end it is cut at.
    ///
    /// # Errors
    /// As recvmsg(2) gives them.
    pub(crate) fn recv(&mut self, buffer: &mut [u8]) -> io::Result<Received> {
        let mut state = self.net.state();
        state.begin_call();
        let answer = state.recv_call(self.id, buffer);
        state.trace(|| match &answer {
            Ok(Received { len, from, .. }) => {
                let bytes = counted(&buffer[..*len]);
                format!("recv u{} -> {bytes} from {from}", self.id)
            }
            Err(error) => format!("recv u{} -> {}", self.id, in_words(error)),
        });
        answer
    }

    /// Sends `bytes` as one datagram to `to`, from the address `local`.
    ///
    /// # Errors
    /// As sendmsg(2) gives them.
    pub(crate) fn send(
        &mut self,
        bytes: &[u8],
        to: SocketAddr,
        local: Option<IpAddr>,
        interface: u32,
    ) -> io::Result<usize> {
        let mut state = self.net.state();
        state.begin_call();
        let answer = state.send_call(self.id, bytes, to, local, interface);
        state.trace(|| {
            let answer = answer.as_ref().map_or_else(in_words, usize::to_string);
            format!("send u{} {} to {to} -> {answer}", self.id, counted(bytes))
        });
        answer
    }

    /// A datagram to a group reaches whoever is bound to its port here: there is nothing to join.
    ///
    /// # Errors
    /// Always.
    pub(crate) fn set_membership(&self, _: Multicast, _: bool) -> io::Result<()> {
        let reason = "a simulated network has no multicast groups to join";
        Err(io::Error::new(io::ErrorKind::Unsupported, reason))
    }

    /// Its own address.
    ///
    /// # Errors
    /// None here.
    pub(crate) fn local_addr(&self) -> io::Result<SocketAddr> {
        self.net.state().udp_local(self.id)
    }
}

/// As close(2).
impl Drop for UdpSocket {
    fn drop(&mut self) {
        let mut state = self.net.state();
        state.trace(|| format!("close u{}", self.id));
        state.close_udp(self.id);
    }
}

/// A descriptor to lend: one that is no socket, which is what options say of it (`ENOTSOCK`).
macro_rules! lends {
    ($($name:ident),*) => {$(
        impl AsFd for $name {
            fn as_fd(&self) -> BorrowedFd<'_> {
                self.quiet.as_fd()
            }
        }
    )*};
}

lends!(TcpStream, TcpListener, UdpSocket);

impl super::State {
    /// Whether an option can be set, in the trace too.
    fn set_option(&mut self, of: Target, option: impl FnOnce() -> String) -> io::Result<()> {
        self.begin_call();
        let answer = match self.faults.hit(Fault::OptionFails) {
            true => Err(Errno::ENOBUFS.into()),
            false => Ok(()),
        };
        self.trace(|| {
            let answer = answer
                .as_ref()
                .map_or_else(in_words, |()| "done".to_owned());
            format!("set {of} {} -> {answer}", option())
        });
        answer
    }

    /// How a call ended, in the trace: `call` and what it asked for, and in words what it came to.
    fn note_answer<T>(
        &mut self,
        side: Side,
        call: &str,
        asked: Option<usize>,
        answer: &io::Result<T>,
        words: impl FnOnce(&T) -> String,
    ) {
        self.trace(|| {
            let (of, asked) = (Target::Stream(side), asked.map(|count| format!(" {count}")));
            let answer = answer.as_ref().map_or_else(in_words, words);
            format!("{call} {of}{} -> {answer}", asked.unwrap_or_default())
        });
    }
}

/// Bytes that have passed, as the trace has them: how many, and the first of them.
fn counted(bytes: &[u8]) -> String {
    match bytes {
        [] => "0".to_owned(),
        _ => format!("{} {}", bytes.len(), quoted(bytes)),
    }
}

/// An error as the trace has it.
fn in_words(error: &io::Error) -> String {
    match is_blocked(error) {
        true => "not now".to_owned(),
        false => error.to_string(),
    }
}
