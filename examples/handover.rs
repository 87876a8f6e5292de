//! An echo that is replaced by its successor while clients call, and none of them notices: over
//! TCP, over UDP, and at a Unix socket.
//!
//! Run it with `cargo run --example handover FOLDER`, and talk to it by `nc 127.0.0.1 7777`,
//! `nc -u 127.0.0.1 7777` or `nc -U FOLDER/echo.sock`. Then start it again in another terminal. The
//! new one asks the old one for its sockets, at `FOLDER/control.sock`, serves, and says so. From
//! then on the old one lets nobody in, serves those whom it has, and ends when they are gone. (Port
//! 0, as in `handover FOLDER 127.0.0.1:0`: any that is free.)
//!
//! Nothing is lost, because the sockets are the same ones: the system keeps who waits in their
//! queues, for whoever has them. It takes three things, in this order:
//!
//! - The successor says that it serves (`main`). If it dies before that, nothing has happened.
//! - The old one *releases* its listeners (`leave`). Who waits in their backlogs is the
//!   successor's.
//! - It drains when it has nobody left, and not before: a drain ends those who have yet to speak.

use std::io::{self, IoSlice, IoSliceMut, Write};
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use nix::unistd::geteuid;
use oread::{
    Accepted, Address, CloseReason, ConnectionId, Credentials, Datagram, Handler, ListenOptions,
    ListenerId, Reactor, UdpId, UdpOptions,
};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};

/// How long the old one serves those whom it has, and how long it then waits for their ends.
const GRACE: Duration = Duration::from_secs(30);
const DRAIN: Duration = Duration::from_secs(5);

type Context<'a> = oread::Context<'a, Caller>;
type Connection<'a> = oread::Connection<'a, Caller>;

/// Who is at the other end of a connection.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Caller {
    Client,
    Successor,
}

struct Echo {
    tcp: ListenerId,
    unix: ListenerId,
    control: ListenerId,
    udp: UdpId,
    leaving: bool,
}

impl Echo {
    /// Opens the sockets.
    fn open(context: &mut Context<'_>, address: SocketAddr, folder: &Path) -> io::Result<Echo> {
        let at = |name| ListenOptions::new(Address::unix(folder.join(name)));
        Ok(Echo {
            tcp: context.listen(&ListenOptions::new(address))?,
            unix: context.listen(&at("echo.sock"))?,
            control: context.listen(&at("control.sock"))?,
            udp: context.bind_udp(&UdpOptions::new(address))?,
            leaving: false,
        })
    }

    /// Takes over those of the predecessor, in the order of [`Echo::hand_over`].
    fn adopt(context: &mut Context<'_>, predecessor: &UnixStream) -> io::Result<Echo> {
        let [tcp, unix, control, udp] = receive(predecessor)?;
        let options = ListenOptions::default();
        Ok(Echo {
            tcp: context.adopt_listener(tcp, &options)?,
            unix: context.adopt_listener(unix, &options)?,
            control: context.adopt_listener(control, &options)?,
            udp: context.adopt_udp(udp, &UdpOptions::default())?,
            leaving: false,
        })
    }

    /// Sends all sockets to the successor, in one message: it receives duplicates.
    fn hand_over(&self, successor: &mut Connection<'_>) -> io::Result<()> {
        let context = successor.context();
        let listeners = [self.tcp, self.unix, self.control].map(|id| context.listener_fd(id));
        let sockets = listeners.into_iter().chain([context.udp_fd(self.udp)]);
        let numbers: Vec<_> = sockets.flatten().map(|fd| fd.as_raw_fd()).collect();
        let rights = [ControlMessage::ScmRights(&numbers)];
        let (to, byte) = (successor.as_fd().as_raw_fd(), [IoSlice::new(b"!")]);
        sendmsg::<()>(to, &byte, &rights, MsgFlags::empty(), None)?;
        Ok(())
    }

    /// Leaves the sockets to the successor.
    fn leave(&mut self, context: &mut Context<'_>) {
        for id in [self.tcp, self.unix, self.control] {
            context.release_listener(id);
        }
        context.close_udp(self.udp);
        context.timer(GRACE, 0);
        self.leaving = true;
    }
}

impl Handler for Echo {
    type Session = Caller;
    type Message = ();

    fn on_accept(&mut self, _: &mut Context<'_>, caller: &Accepted) -> Option<Caller> {
        if caller.listener != self.control {
            return Some(Caller::Client);
        }
        // Whoever has the sockets hears all clients.
        let user = Credentials::of(caller.fd().ok()?).ok()?.uid;
        (user == geteuid().as_raw()).then_some(Caller::Successor)
    }

    fn on_open(&mut self, connection: &mut Connection<'_>) {
        if *connection.session() == Caller::Successor
            && let Err(error) = self.hand_over(connection)
        {
            eprintln!("the sockets can't be handed over: {error}");
            connection.abort(CloseReason::Aborted);
        }
    }

    fn on_data(&mut self, connection: &mut Connection<'_>, data: &[u8]) -> usize {
        match connection.session() {
            Caller::Client => drop(connection.write(data)),
            // It serves.
            Caller::Successor => self.leave(connection.context()),
        }
        data.len()
    }

    fn on_datagram(&mut self, datagram: &mut Datagram<'_, Caller>, data: &[u8]) {
        // One that can't be sent is lost, as any datagram may be.
        let _ = datagram.reply(data);
    }

    fn on_close(&mut self, context: &mut Context<'_>, _: ConnectionId, _: Caller, _: CloseReason) {
        if self.leaving && context.stats().open == 0 {
            context.drain(DRAIN);
        }
    }

    fn on_timer(&mut self, context: &mut Context<'_>, _: u64) {
        context.drain(DRAIN);
    }
}

/// The four sockets that the predecessor sends. std and nix know them by their numbers alone, which
/// to own is `unsafe`; rustix receives descriptors that are owned.
fn receive(predecessor: &UnixStream) -> io::Result<[OwnedFd; 4]> {
    predecessor.set_read_timeout(Some(DRAIN))?;
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    let mut byte = [IoSliceMut::new(&mut byte)];
    recvmsg(predecessor, &mut byte, &mut control, RecvFlags::empty())?;
    let mut sockets = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(received) = message {
            sockets.extend(received);
        }
    }
    let wrong = |_| io::Error::other("the predecessor hands over something else");
    sockets.try_into().map_err(wrong)
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let folder = arguments.next().ok_or("usage: handover FOLDER [ADDRESS]")?;
    let folder = Path::new(&folder);
    let address = arguments.next().unwrap_or("127.0.0.1:7777".to_owned());
    let mut reactor = Reactor::new()?;
    let mut context = reactor.context();
    let predecessor = UnixStream::connect(folder.join("control.sock"));
    let mut echo = match &predecessor {
        Ok(predecessor) => Echo::adopt(&mut context, predecessor)?,
        Err(_) => Echo::open(&mut context, address.parse()?, folder)?,
    };
    let (udp, tcp) = (context.udp_addr(echo.udp), context.listener_addr(echo.tcp));
    if let (Some(udp), Some(tcp)) = (udp, tcp) {
        println!("TCP at {tcp}\nUDP at {udp}");
    }
    if let Ok(mut predecessor) = predecessor {
        predecessor.write_all(b"!")?;
    }
    reactor.run(&mut echo)?;
    println!("handed over, and all clients are gone");
    Ok(())
}
