//! The client over UDP: each line is a datagram, each datagram that comes is printed on a line.

use std::collections::VecDeque;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::ControlFlow;
use std::time::Duration;

use oread::{Accepted, Connection, Context, Datagrams, Handler, SendOutcome, UdpId, UdpOptions};

use super::Message;
use super::dial::{other_family, source_for};
use super::input::{Input, unreadable};
use super::lines::{Line, Lines, quits};
use super::output::Output;
use crate::cli::failure::Failure;

/// The longest payload of a datagram over IPv4: 65,535 bytes less a header of 20 (RFC 791) and one of
/// 8 (RFC 768).
const LONGEST: usize = 65_507;

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
    pub(super) output: Output,
    lines: Lines,
    /// The socket, and to whom it is connected.
    socket: Option<(UdpId, SocketAddr)>,
    /// The last line that was sent, to be sent again when another address is tried.
    last: Option<Vec<u8>>,
    /// Whether anything has come from the address.
    answered: bool,
    /// Errors in place of datagrams that were looked at, of those that the reactor has counted.
    errors: u64,
    /// Datagrams that were lost on this side: not sent, or not printed.
    lost: u64,
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
            lines: Lines::new(LONGEST),
            socket: None,
            last: None,
            answered: false,
            errors: 0,
            lost: 0,
            result: None,
        }
    }

    /// Opens the socket and begins to read the input.
    pub(super) fn start(&mut self, context: &mut Context<()>) {
        let started = self.next_address(context).and_then(|()| self.input.start());
        if let Err(failure) = started {
            self.result = Some(Err(failure));
        } else if let Some((_, peer)) = self.socket
            && self.interactive
        {
            log::info!("lines go to UDP {peer}; a line that is only q ends it");
        }
    }

    /// Opens a socket to the next address to which there can be one.
    fn next_address(&mut self, context: &mut Context<()>) -> Result<(), Failure> {
        if let Some((socket, _)) = self.socket.take() {
            context.close_udp(socket);
        }
        let mut failure = Failure::runtime("there is no address to send to");
        while let Some(peer) = self.addresses.pop_front() {
            let Some(source) = source_for(&self.sources, peer) else {
                failure = other_family(peer);
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
                    Failure::bind("UDP", source, &error)
                }
                (Err(error), _) => Failure::connect(peer, &error),
            };
        }
        Err(failure)
    }

    /// To be called after each turn: a refusal comes in place of a datagram, and is counted.
    pub(super) fn look_for_errors(&mut self, context: &mut Context<()>) {
        let errors = context.stats().datagram_errors;
        if errors > std::mem::replace(&mut self.errors, errors) {
            self.refused(context);
        }
    }

    /// Nothing listens there: the name's next address is tried, or it is told.
    fn refused(&mut self, context: &mut Context<()>) {
        let Some((_, peer)) = self.socket else {
            return;
        };
        let failure = Failure::connect(peer, &io::ErrorKind::ConnectionRefused.into());
        if !self.answered && !self.addresses.is_empty() {
            log::info!("{failure}");
            match self.next_address(context) {
                Ok(()) => {
                    if let Some(last) = self.last.take() {
                        self.send(context, &last);
                    }
                }
                Err(failure) => self.result = Some(Err(failure)),
            }
        } else if self.interactive {
            log::error!("{failure}");
        } else {
            self.result = Some(Err(failure));
        }
    }

    fn send(&mut self, context: &mut Context<()>, text: &[u8]) {
        // The refusal of an earlier datagram may come in place of sending this one.
        for _ in 0..3 {
            let Some((socket, peer)) = self.socket else {
                return;
            };
            match context.send_to(socket, peer, text) {
                SendOutcome::Sent => break,
                SendOutcome::Failed(io::ErrorKind::ConnectionRefused) => self.refused(context),
                outcome => {
                    log::debug!("{} bytes are not sent: {outcome:?}", text.len());
                    self.lost += 1;
                    break;
                }
            }
        }
        self.last = (!self.addresses.is_empty()).then(|| text.to_vec());
    }

    /// Sends lines, up to a `q` that was typed, or one of a file or a pipe that can't be sent.
    fn send_lines(
        &mut self,
        context: &mut Context<()>,
        feed: impl FnOnce(&mut Lines, &mut dyn FnMut(Line<'_>) -> ControlFlow<()>) -> ControlFlow<()>,
    ) {
        // Taken out meanwhile: sending takes all of `self`.
        let mut lines = std::mem::replace(&mut self.lines, Lines::new(0));
        let flow = feed(&mut lines, &mut |line| {
            match line {
                Line::Whole { text, .. } if self.interactive && quits(text) => {
                    self.result = Some(Ok(()));
                }
                Line::Whole { text, .. } => self.send(context, text),
                Line::TooLong { number, max } => {
                    let text =
                        format!("line {number} can't be sent: a datagram has at most {max} bytes");
                    self.result = Some(Err(Failure::usage(text)));
                }
            }
            match self.result {
                None => ControlFlow::Continue(()),
                Some(_) => ControlFlow::Break(()),
            }
        });
        debug_assert_eq!(flow.is_break(), self.result.is_some());
        self.lines = lines;
    }

    /// Says what was lost on this side.
    pub(super) fn tell_lost(&self) {
        if self.lost > 0 {
            log::warn!("{} datagrams were not sent, or not printed", self.lost);
        }
    }
}

impl Handler for Talker {
    type Session = ();
    type Message = Message;

    /// Nobody calls: there is no listener.
    fn on_accept(&mut self, _: &mut Context<()>, _: &Accepted) -> Option<()> {
        None
    }

    fn on_data(&mut self, _: &mut Connection<'_, ()>, data: &[u8]) -> usize {
        data.len()
    }

    fn on_datagram(&mut self, _: &mut Datagrams<'_, ()>, data: &[u8]) {
        self.answered = true;
        let mut text = data.to_vec();
        text.push(b'\n');
        if !self.output.offer(text) {
            self.lost += 1;
        }
    }

    /// The wait after the end of the input is over.
    fn on_timer(&mut self, _: &mut Context<()>, _key: u64) {
        self.result.get_or_insert(Ok(()));
    }

    fn on_message(&mut self, context: &mut Context<()>, message: Message) {
        if self.result.is_some() {
            return;
        }
        match message {
            Message::Input(buffer) => {
                self.send_lines(context, |lines, take| lines.push(&buffer, take));
                self.input.give_back(buffer);
            }
            Message::InputEnd(None) => {
                self.send_lines(context, |lines, take| lines.finish(take));
                context.timer(self.wait, 0);
            }
            Message::InputEnd(Some(error)) => self.result = Some(Err(unreadable(&error))),
            // Nothing waits for it: a datagram that finds no room is lost.
            Message::Room => {}
            // Why is told at the end, with what may fail later still.
            Message::OutputFailed => {
                self.result.get_or_insert(Ok(()));
            }
        }
    }
}
