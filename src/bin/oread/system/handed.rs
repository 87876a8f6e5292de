//! What a service manager such as systemd has to do with the program: the sockets that it opened
//! and hands over (sd_listen_fds(3)), and what it is told (sd_notify(3)).
//!
//! The variables of both stay in the environment, where they are for this process alone: to remove
//! one is `unsafe` while there may be threads, and the program starts no others that would see it.

use std::env;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{UnixDatagram, UnixStream};

use nix::errno::Errno;
use nix::sys::socket::{
    ControlMessage, MsgFlags, SockType, SockaddrStorage, getsockname, getsockopt, sendmsg, sockopt,
};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};

use crate::failure::{Failure, Reason};

/// The first descriptor that is handed over (`SD_LISTEN_FDS_START`); the others follow.
const FIRST: RawFd = 3;

/// A socket that was handed over.
#[derive(Debug)]
pub(crate) struct Handed {
    /// What it's called in messages: its number, and its name where it has one.
    pub(crate) name: String,
    /// What it speaks.
    pub(crate) kind: Kind,
    /// The socket.
    pub(crate) fd: OwnedFd,
}

/// What a socket that was handed over speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Streams: it should be a listener, of TCP or at a Unix socket.
    Listener,
    /// UDP, bound to this address.
    Udp(SocketAddr),
}

/// Takes the sockets that were handed over to this process, if there are any. To be called once,
/// and first: what a manager says is open then is nothing of ours.
///
/// # Errors
/// Exit code 2: there are not as many as is said, or one is of a kind that isn't served. Exit code
/// 1: there are no descriptors left.
pub(crate) fn take() -> Result<Vec<Handed>, Failure> {
    let variable = |name| env::var(name).unwrap_or_default();
    let count = count(&variable("LISTEN_PID"), &variable("LISTEN_FDS"))?;
    let names = variable("LISTEN_FDNAMES");
    let mut names = names.split(':');
    let mut all = Vec::new();
    for number in (FIRST..).take(count.into()) {
        let name = match names.next() {
            None | Some("") => format!("descriptor {number}"),
            Some(name) => format!("descriptor {number} ({name})"),
        };
        // All of them before the first one is taken: a number that is free becomes one of ours.
        if getsockname::<SockaddrStorage>(number) == Err(Errno::EBADF) {
            return Err(Failure::usage(format!(
                "{name} is not open, though LISTEN_FDS says that it was handed over"
            )));
        }
        all.push((number, name));
    }
    let all = all.into_iter();
    all.map(|(number, name)| Handed::take(number, name))
        .collect()
}

/// How many descriptors are there for this process. What is said to another one, which has started
/// this one, is not meant.
fn count(pid: &str, fds: &str) -> Result<u16, Failure> {
    if pid.parse() != Ok(std::process::id()) || fds.is_empty() {
        return Ok(0);
    }
    fds.parse().map_err(|_| {
        Failure::usage(format!(
            "LISTEN_FDS is \"{fds}\", which is no number of descriptors"
        ))
    })
}

impl Handed {
    /// Takes over the descriptor of this number, which is closed: what is left is a duplicate.
    fn take(number: RawFd, name: String) -> Result<Handed, Failure> {
        let failed = |error: io::Error| {
            let why = Reason(&error).to_string();
            Failure::runtime(format!("can't take over {name}: {why}"))
        };
        let fd = duplicate(number).map_err(failed)?;
        let kind = kind(&fd).ok_or_else(|| Failure::not_served(&name))?;
        // Nobody else knows this number, and a listener that is closed must not be open by it.
        nix::unistd::close(number).map_err(|errno| failed(errno.into()))?;
        Ok(Handed { name, kind, fd })
    }
}

/// What a socket speaks, if it is one that can be served.
fn kind(fd: &OwnedFd) -> Option<Kind> {
    match getsockopt(fd, sockopt::SockType).ok()? {
        SockType::Stream => Some(Kind::Listener),
        SockType::Datagram => {
            let socket = UdpSocket::from(fd.try_clone().ok()?);
            socket.local_addr().ok().map(Kind::Udp)
        }
        _ => None,
    }
}

/// A duplicate of the descriptor of this number. To claim the number itself is `unsafe` in Rust, as
/// something else may own it. So the descriptor is sent to ourselves, which duplicates it (unix(7),
/// `SCM_RIGHTS`); on Linux `pidfd_getfd` would do, too, but services are often forbidden to.
fn duplicate(number: RawFd) -> io::Result<OwnedFd> {
    let (from, to) = UnixStream::pair()?;
    let (byte, rights) = ([IoSlice::new(b"!")], [number]);
    let rights = [ControlMessage::ScmRights(&rights)];
    sendmsg::<()>(from.as_raw_fd(), &byte, &rights, MsgFlags::empty(), None)?;
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    let mut byte = [IoSliceMut::new(&mut byte)];
    recvmsg(&to, &mut byte, &mut control, RecvFlags::empty())?;
    let mut received = control.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
        _ => None,
    });
    // Without room for it the system leaves it out.
    received.next().ok_or_else(|| Errno::EMFILE.into())
}

/// Tells the manager, if there is one that wants to know, how the service does: `READY=1`,
/// `STOPPING=1`. One that can't be told is no reason to end.
pub(crate) fn notify(state: &str) {
    let Some(to) = env::var_os("NOTIFY_SOCKET") else {
        return;
    };
    let tell = || {
        let socket = UnixDatagram::unbound()?;
        socket.set_nonblocking(true)?;
        match to.as_bytes() {
            #[cfg(target_os = "linux")]
            [b'@', name @ ..] => {
                use std::os::linux::net::SocketAddrExt as _;
                let address = std::os::unix::net::SocketAddr::from_abstract_name(name)?;
                socket.send_to_addr(state.as_bytes(), &address)
            }
            _ => socket.send_to(state.as_bytes(), &to),
        }
    };
    if let Err(error) = tell() {
        log::warn!("NOTIFY_SOCKET can't be told {state}: {}", Reason(&error));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    #[test]
    fn descriptors_are_for_the_process_that_is_named() {
        let own = std::process::id().to_string();
        assert_eq!(count(&own, "2"), Ok(2));
        for (pid, fds) in [("", "2"), ("1", "2"), ("1", "x"), (&*own, ""), (&*own, "0")] {
            assert_eq!(count(pid, fds), Ok(0), "{pid} {fds}");
        }
        for fds in ["x", "-1", "70000"] {
            assert_eq!(count(&own, fds).unwrap_err().code(), 2, "{fds}");
        }
    }

    #[test]
    fn a_descriptor_is_taken_by_its_number_and_known_by_what_it_is() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let copy = duplicate(listener.as_raw_fd()).unwrap();
        assert_eq!(kind(&copy), Some(Kind::Listener));
        let copy = TcpListener::from(copy);
        assert_eq!(copy.local_addr().unwrap(), listener.local_addr().unwrap());
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = udp.local_addr().unwrap();
        assert_eq!(kind(&udp.into()), Some(Kind::Udp(address)));
        assert_eq!(kind(&UnixDatagram::unbound().unwrap().into()), None);
        let missing = duplicate(RawFd::MAX).unwrap_err();
        assert_eq!(missing.raw_os_error(), Some(Errno::EBADF as i32));
    }
}
