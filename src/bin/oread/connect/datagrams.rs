//! The client over UDP: each line is a datagram, each datagram that comes is printed on a line.

use std::collections::VecDeque;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use oread::{
    Accepted, Connection, Context, Datagram, Handler, SendOutcome, TimerId, UdpId, UdpOptions,
};

use super::dial::{other_family, source_for};
use super::input::{Input, unreadable};
use super::message::{Message, log_message};
use super::outbox::{Left, Outbox};
use super::output::Output;
use crate::failure::Failure;
use crate::values::units::Count;

/// The longest payload of a datagram over IPv4: 65,535 bytes less a header of 20 (RFC 791) and one
/// of 8 (RFC 768).
const LONGEST: usize = 65_507;

/// Lines that are sent at a time, and their bytes. The next ones follow when all of these are
/// answered, or after a while: not every server answers each. Who sends everything at once loses
/// lines in the server's receive buffer and answers in its own: on Linux each has room for 277
/// small ones (`net.core.rmem_default`, 208 KiB).
const BURST: usize = 32;
const BURST_BYTES: usize = 32 << 10;
/// How long that is, to a server from which nothing has come.
const PACE: Duration = Duration::from_millis(10);
/// And to one that answers: it may be kept from it for a moment, with other things to do.
const PACE_ANSWERED: Duration = Duration::from_millis(50);

/// Bytes of answers that may wait for standard output; what comes beyond them is lost, and counted.
const UNPRINTED: usize = 1 << 20;

/// The timer that ends the wait for answers.
const WAITED: u64 = 0;
/// The timer after which the next lines are sent.
const PACED: u64 = 1;

/// The client.
pub(super) struct Talker {
    /// Those of the name that are not tried yet.
    addresses: VecDeque<SocketAddr>,
    sources: Vec<SocketAddr>,
    /// How long to wait for answers after the end of the input.
    wait: Duration,
    /// Whether somebody types the input.
    interactive: bool,
    input: Input,
    output: Output,
    outbox: Outbox,
    /// The timer for the next lines, while they wait for it.
    pacing: Option<TimerId>,
    /// Datagrams sent since it was set, less those that came.
    open: usize,
    /// The timer that ends it all, when all is sent.
    waited: Option<TimerId>,
    /// The socket, and to whom it is connected.
    socket: Option<(UdpId, SocketAddr)>,
    /// Datagrams that went to the address, and that came from it.
    sent: u64,
    received: u64,
    /// Answers that wait for room at standard output.
    unprinted: Vec<u8>,
    /// Errors in place of datagrams that were looked at, of those that the reactor has counted.
    errors: u64,
    /// Lines that could not be sent, and answers for which there was no room.
    unsent: u64,
    unkept: u64,
    /// How it all ended, once it has.
    pub(super) result: Option<Result<(), Failure>>,
}

impl Talker {
    /// A client that has no socket yet.
    pub(super) fn new(
        addresses: Vec<SocketAddr>,
        sources: Vec<SocketAddr>,
        wait: Duration,
        interactive: bool,
        input: Input,
        output: Output,
    ) -> Talker {
        Talker {
            addresses: addresses.into(),
            sources,
            wait,
            interactive,
            input,
            output,
            outbox: Outbox::new(LONGEST, interactive),
            pacing: None,
            open: 0,
            waited: None,
            socket: None,
            sent: 0,
            received: 0,
            unprinted: Vec::new(),
            errors: 0,
            unsent: 0,
            unkept: 0,
            result: None,
        }
    }

    /// Opens the socket and begins to read the input.
    pub(super) fn start(&mut self, context: &mut Context<'_, ()>) {
        let started = self.next_address(context).and_then(|()| self.input.start());
        if let Err(failure) = started {
            self.result = Some(Err(failure));
        } else if let Some((_, peer)) = self.socket
            && self.interactive
        {
            log::info!("lines go to UDP {peer}; a line that is only q or Q ends it");
        }
    }

    /// Opens a socket to the next address to which there can be one.
    fn next_address(&mut self, context: &mut Context<'_, ()>) -> Result<(), Failure> {
        if let Some((socket, _)) = self.socket.take() {
            context.close_udp(socket);
        }
        let mut failure = Failure::runtime("there is no address to send to");
        while let Some(peer) = self.addresses.pop_front() {
            let Some(source) = source_for(&self.sources, &peer.into()) else {
                failure = other_family(&peer.into());
                continue;
            };
            let any: SocketAddr = match peer {
                SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
                SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
            };
            let options = UdpOptions {
                connect_to: Some(peer),
                ..UdpOptions::new(source.unwrap_or(any))
            };
            failure = match (context.bind_udp(&options), source) {
                (Ok(socket), _) => {
                    self.socket = Some((socket, peer));
                    return Ok(());
                }
                (Err(error), Some(source))
                    if matches!(
                        error.kind(),
                        io::ErrorKind::AddrInUse | io::ErrorKind::AddrNotAvailable
                    ) =>
                {
                    Failure::connect_from("UDP", source, &error)
                }
                (Err(error), _) => Failure::connect(&peer.into(), &error),
            };
        }
        Err(failure)
    }

    /// To be called after each turn: a refusal comes in place of a datagram, and is counted.
    pub(super) fn look_for_errors(&mut self, context: &mut Context<'_, ()>) {
        let errors = context.stats().datagram_errors;
        if errors > std::mem::replace(&mut self.errors, errors) {
            self.refused(context);
            self.go_on(context);
        }
    }

    /// Nothing listens there: the name's next address is to get the lines, or it is told.
    fn refused(&mut self, context: &mut Context<'_, ()>) {
        let Some((_, peer)) = self.socket else {
            return;
        };
        let failure = Failure::connect(&peer.into(), &io::ErrorKind::ConnectionRefused.into());
        if self.received == 0 && !self.addresses.is_empty() {
            log::info!("{}", failure.message());
            if let Err(failure) = self.next_address(context) {
                self.result = Some(Err(failure));
                return;
            }
            self.sent = 0;
            self.unsent += self.outbox.send_again();
            if let Some(timer) = self.waited.take() {
                context.cancel(timer);
            }
        } else if self.interactive {
            log::error!("{}", failure.message());
        } else {
            self.result = Some(Err(failure));
        }
    }

    /// Sends what has waited for its turn, and sees to the end.
    fn go_on(&mut self, context: &mut Context<'_, ()>) {
        if let Some(timer) = self.pacing.take() {
            context.cancel(timer);
        }
        let something_to_do = match self.outbox.left() {
            Left::Something => true,
            Left::NothingYet => false,
            Left::NothingEver => self.waited.is_none(),
        };
        if self.result.is_none() && something_to_do {
            self.send_burst(context);
        }
    }

    /// Sends the next lines, as many as may be sent at a time.
    fn send_burst(&mut self, context: &mut Context<'_, ()>) {
        self.open = 0;
        let mut bytes = BURST_BYTES;
        for _ in 0..BURST {
            if bytes == 0 || self.result.is_some() {
                break;
            }
            let Some(line) = self.outbox.next(|piece| self.input.give_back(piece)) else {
                break;
            };
            bytes = bytes.saturating_sub(line.len());
            self.send(context, line);
        }
        if self.result.is_none() {
            self.result = self.outbox.ending();
        }
        if self.outbox.left() == Left::NothingEver {
            self.waited = Some(context.timer(self.wait, WAITED));
        } else {
            let pace = match self.received {
                0 => PACE,
                _ => PACE_ANSWERED,
            };
            self.pacing = Some(context.timer(pace, PACED));
        }
    }

    /// Sends a line. The refusal of an earlier datagram may come in place of that: it waits then,
    /// behind those that have to be sent again.
    fn send(&mut self, context: &mut Context<'_, ()>, line: Vec<u8>) {
        let Some((socket, peer)) = self.socket else {
            return;
        };
        match context.send_to(socket, peer, &line) {
            SendOutcome::Sent => {
                log_message("sent to", Some(&peer.into()), &line);
                self.sent += 1;
                self.open += 1;
                if self.received == 0 && !self.addresses.is_empty() {
                    self.outbox.keep(line);
                }
            }
            SendOutcome::Failed(io::ErrorKind::ConnectionRefused) => {
                self.outbox.put_back(line);
                self.refused(context);
            }
            outcome => {
                log::debug!("{} bytes are not sent: {outcome:?}", line.len());
                self.unsent += 1;
            }
        }
    }

    /// Whether as many datagrams came as were sent, if they were waited for. Which of them answers
    /// which UDP does not tell, so a server that answers one datagram with several may hide that it
    /// did not answer another.
    fn all_answered(&self) -> Result<(), Failure> {
        let Some((_, peer)) = self.socket else {
            return Ok(());
        };
        if self.received >= self.sent || self.wait.is_zero() {
            return Ok(());
        }
        let (received, sent) = (Count(self.received), Count(self.sent));
        let wait = humantime::format_duration(self.wait);
        Err(Failure::runtime(format!(
            "{received} of {sent} datagrams were answered by UDP {peer}, within {wait} of the last one"
        ))
        .hint("wait longer with --wait, or not at all for a server that doesn't answer: --wait 0s"))
    }

    /// Whether nothing was lost on this side.
    fn nothing_lost(&self) -> Result<(), Failure> {
        let lost = [
            (self.unsent, "could not be sent"),
            (
                self.unkept,
                "came while standard output took nothing, and are lost",
            ),
        ];
        let failures = lost.iter().filter(|(count, _)| *count > 0);
        let failures: Vec<Failure> = failures
            .map(|(count, what)| {
                Failure::runtime(format!("datagrams that {what}: {}", Count(*count)))
            })
            .collect();
        Failure::all(&failures).map_or(Ok(()), Err)
    }

    /// Has standard output print what waits for it, if there is room.
    fn print(&mut self) {
        if !self.unprinted.is_empty() {
            let all = std::mem::take(&mut self.unprinted);
            if let Err(all) = self.output.offer(all) {
                self.unprinted = all;
            }
        }
    }

    /// Waits until all is printed.
    ///
    /// # Errors
    /// How it all ended, and what was lost on this side; or as [`Output::finish`].
    pub(super) fn finish(mut self, ended: Result<(), Failure>) -> Result<(), Failure> {
        let failures: Vec<Failure> = [ended, self.nothing_lost()]
            .into_iter()
            .filter_map(Result::err)
            .collect();
        self.output.offer_last(&self.unprinted);
        let printed = self.output.finish();
        Failure::all(&failures).map_or(printed, Err)
    }
}

impl Handler for Talker {
    type Session = ();
    type Message = Message;

    /// Nobody calls: there is no listener.
    fn on_accept(&mut self, _: &mut Context<'_, ()>, _: &Accepted) -> Option<()> {
        None
    }

    fn on_data(&mut self, _: &mut Connection<'_, ()>, data: &[u8]) -> usize {
        data.len()
    }

    fn on_datagram(&mut self, datagram: &mut Datagram<'_, ()>, data: &[u8]) {
        if self.received == 0 {
            self.outbox.forget();
        }
        self.received += 1;
        log_message("received from", Some(&datagram.from().into()), data);
        if self.unprinted.len() + data.len() < UNPRINTED {
            self.unprinted.extend_from_slice(data);
            self.unprinted.push(b'\n');
            self.print();
        } else {
            self.unkept += 1;
        }
        self.open = self.open.saturating_sub(1);
        if self.open == 0 {
            self.go_on(datagram.context());
        }
    }

    fn on_timer(&mut self, context: &mut Context<'_, ()>, key: u64) {
        if key == WAITED {
            let answered = self.all_answered();
            self.result.get_or_insert(answered);
            return;
        }
        self.go_on(context);
    }

    fn on_message(&mut self, context: &mut Context<'_, ()>, message: Message) {
        if self.result.is_some() {
            return;
        }
        match message {
            Message::Input(buffer) => {
                self.outbox.add(buffer);
                if self.pacing.is_none() {
                    self.go_on(context);
                }
            }
            Message::InputEnd(None) => {
                self.outbox.end_input();
                if self.pacing.is_none() {
                    self.go_on(context);
                }
            }
            Message::InputEnd(Some(error)) => self.result = Some(Err(unreadable(&error))),
            Message::Room => self.print(),
            // Why is told at the end, with what may fail later still.
            Message::OutputFailed => {
                self.result.get_or_insert(Ok(()));
            }
        }
    }
}
